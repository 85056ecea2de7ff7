"""PostgreSQL's LISTEN: says at once that another process has written. A hint; polling is the truth."""

from collections.abc import Callable, Iterator
from typing import Any

from lifecycle.database import CHANNEL, Database
from lifecycle.errors import DatabaseUnavailable

#: Seconds between two looks at ``stop``.
_LOOK = 0.5


def announcements(database: Database, stop: Callable[[], bool]) -> Iterator[None]:
    """Yield once when listening has begun, and then for every burst of announcements, until ``stop`` says so.

    Uses a connection of its own. Raises :class:`DatabaseUnavailable` when it can't be made or breaks.
    Yields nothing and ends at once where a proxy pools connections: nobody can listen there.
    """
    import psycopg

    arguments, options = database.url.get_dialect()().create_connect_args(database.url)
    options = {"connect_timeout": 10, "application_name": "lifecycle listener", **options}
    try:
        with psycopg.connect(*arguments, **options, autocommit=True) as connection:
            if _is_pooled(connection):
                return
            connection.execute(f"LISTEN {CHANNEL}")
            yield
            while not stop():
                for _ in connection.notifies(timeout=_LOOK, stop_after=1):
                    yield
    except psycopg.Error as error:
        reason = str(error).split("\n", 1)[0]
        raise DatabaseUnavailable(f"Announcements can't be heard ({reason}); changes are seen by polling.") from error


def _is_pooled(connection: Any) -> bool:
    """Whether a proxy lends this connection its sessions: it made up the process id that it gave at the beginning.

    LISTEN would stay with a session that others are lent next: they would be told of every change, and this
    connection of none. A proxy that lends a session for good is not told apart; a listener would use one up there.
    """
    return bool(connection.execute("SELECT pg_backend_pid()").fetchone() != (connection.info.backend_pid,))
