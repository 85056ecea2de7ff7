"""What somebody can do to the record who may take its triggers away."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from lifecycle.append_only import protect
from lifecycle.tables import RECORD

_TRIGGERS = {
    "sqlite": "SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table",
    "postgresql": (
        "SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
        "WHERE relname = :table AND NOT tgisinternal"
    ),
}


@contextmanager
def unguarded(connection: Connection) -> Iterator[None]:
    """Inside, nothing refuses to change the record; afterwards, it looks as if nothing had happened."""
    unguard(connection)
    yield
    protect(connection)


def unguard(connection: Connection) -> None:
    """From now on nothing refuses to change the record."""
    dialect = connection.dialect.name
    for record in RECORD:
        for table, name in connection.execute(text(_TRIGGERS[dialect]), {"table": record.name}).all():
            where = f" ON {table}" if dialect == "postgresql" else ""
            connection.execute(text(f"DROP TRIGGER {name}{where}"))
