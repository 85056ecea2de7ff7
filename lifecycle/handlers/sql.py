"""Delivers an erasure by deleting an account's rows from tables of the customer's own database.

Messages name tables and constraints. They never quote the driver's own sentences about rows, since
those may hold what the rows hold.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from time import sleep
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, inspect, make_url, select
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from lifecycle.errors import InvalidInput
from lifecycle.handlers.sql_tables import Part, Refusal, SqlFailed, checked, find, referring
from lifecycle.task import Found, Receipt, Task, Undeliverable

__all__ = ["Sql", "SqlFailed"]

#: How often it looks, and erases what it sees, before it gives up on tables that are written to all the time.
ROUNDS = 5
#: The most accounts per statement, and the most values that one statement is given.
LARGEST_GROUP, MOST_VALUES = 200, 10_000
LARGEST_CHUNK = 100_000
LOCK_TIMEOUT_SECONDS = 30

#: By driver: how connections are made.
_CONNECT: Mapping[str, Mapping[str, Any]] = {
    "psycopg": {
        "connect_timeout": 10,
        "application_name": "lifecycle",
        "client_encoding": "utf8",
        "target_session_attrs": "read-write",  # on a replica that lags behind, nothing is found too early
        "prepare_threshold": None,  # a proxy may put another session in this one's place
    },
    "pysqlite": {"timeout": LOCK_TIMEOUT_SECONDS},
}
#: Rows that row-level security would hide are an error instead: unseen is not gone.
_POSTGRESQL_SETTINGS = select(
    func.set_config("lock_timeout", f"{LOCK_TIMEOUT_SECONDS}s", True), func.set_config("row_security", "off", True)
)


class Sql:
    """Erases rows by account from ``tables``: pairs of a ``"schema.table"`` and its column with the account's id.

    They come in the order of deletion, children before parents. Rows go in transactions of ``chunk`` rows
    with a ``pause`` after each, so that nobody waits long for a lock. Then all tables are looked at as of
    one instant, and only when nothing is left there is a receipt; in it the store is called ``name`` (as the
    database is, by default). What may succeed later raises :class:`SqlFailed`, and a table that can't be
    erased from by account raises :class:`Undeliverable`. The columns should be indexed.
    """

    def __init__(
        self,
        url: str,
        tables: Mapping[str, str] | Sequence[tuple[str, str]],
        *,
        name: str | None = None,
        chunk: int = 1000,
        pause: timedelta = timedelta(0),
    ) -> None:
        self.tables = checked(tables)
        if not (isinstance(chunk, int) and 1 <= chunk <= LARGEST_CHUNK):
            raise InvalidInput(f"chunk must be a number of rows, 1 to {LARGEST_CHUNK:,}.")
        if not (isinstance(pause, timedelta) and pause >= timedelta(0)):
            raise InvalidInput("pause must be a duration that is not negative.")
        self.chunk, self.pause = chunk, pause
        self._engine = _engine(url)
        self.name = name or Path(self._engine.url.database or "").name or self._engine.dialect.name
        self._group = max(1, min(LARGEST_GROUP, MOST_VALUES // (2 * len(self.tables))))

    def __call__(self, task: Task) -> str | None:
        """Erase one account; returns a :class:`Receipt` whose count is what this call erased."""
        (answer,) = self.many([task])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def many(self, tasks: Sequence[Task]) -> list[str | Exception | None]:
        """Erase several accounts at once; one answer per task, in their order.

        An exception instead of a receipt means what it would mean if it were raised.
        """
        try:
            parts = self._parts
        except (SqlFailed, Undeliverable) as error:
            return [error] * len(tasks)
        answers: dict[str, str | Exception] = {}
        ids = []
        for account_id in dict.fromkeys(task.account_id for task in tasks):
            if all(part.can_hold(account_id) for part in parts):
                ids.append(account_id)
            else:
                answers[account_id] = Undeliverable(
                    "The tables' columns can't hold this account's id as it is written."
                )
        erased: Counter[str] = Counter()
        for start in range(0, len(ids), self._group):
            answers |= self._answers(ids[start : start + self._group], erased)
        return [answers[task.account_id] for task in tasks]

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __str__(self) -> str:
        return self._engine.url.set(query={}).render_as_string(hide_password=True)

    def _answers(self, ids: Sequence[str], erased: Counter[str]) -> dict[str, str | Exception]:
        try:
            self._erase(ids, erased)
        except Refusal as error:
            if len(ids) == 1:
                return {ids[0]: error}
            # Nobody says whose rows they are that can't go. The other accounts must not wait for them.
            middle = len(ids) // 2
            return self._answers(ids[:middle], erased) | self._answers(ids[middle:], erased)
        except SqlFailed as error:
            return dict.fromkeys(ids, error)
        return {one: self._receipt(erased[one]) for one in ids}

    def _receipt(self, rows: int) -> str:
        return str(Receipt(self.name, Found.ERASED if rows else Found.ABSENT, rows, "rows"))

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        with self._transaction("looking for the tables") as connection:
            inspector = inspect(connection)
            return tuple(find(inspector, name, account) for name, account in self.tables)

    # --- Erasing -------------------------------------------------------------------------------

    def _erase(self, ids: Sequence[str], erased: Counter[str]) -> None:
        """Erase what there is until a look finds nothing; ``erased`` counts what is committed.

        What a look finds bounds the work up to the next one, so that whoever goes on writing can't
        keep this going for ever.
        """
        for _ in range(ROUNDS):
            left = self._left(ids)
            if not any(left):
                return
            for part, rows in zip(self._parts, left, strict=True):
                self._erase_from(part, ids, rows, erased)
        raise SqlFailed(f"Somebody keeps writing rows of the account to {self._all}; stop that first.")

    def _erase_from(self, part: Part, ids: Sequence[str], rows: int, erased: Counter[str]) -> None:
        for _ in range(-(-rows // self.chunk)):
            try:
                erased.update(self._take(part, ids, self.chunk))
            except Refusal:
                if rows <= self.chunk:
                    raise
                # One row may be the parent of another in the same table: together they can go.
                erased.update(self._take(part, ids, rows))
                return
            sleep(self.pause.total_seconds())

    def _left(self, ids: Sequence[str]) -> Sequence[int]:
        """How many rows each table has, in one statement: as of one instant."""
        counts = (
            select(func.count()).select_from(part.table).where(part.of(ids)).scalar_subquery() for part in self._parts
        )
        with self._transaction(f"counting rows of {self._all}") as connection:
            return tuple(connection.execute(select(*counts)).one())

    def _take(self, part: Part, ids: Sequence[str], limit: int) -> Sequence[str]:
        with self._transaction(f"erasing from {part}", part) as connection:
            return part.take(connection, ids, limit)

    # --- Transactions, and what goes wrong in them ---------------------------------------------

    @contextmanager
    def _transaction(self, doing: str, part: Part | None = None) -> Iterator[Connection]:
        """All or nothing; ``part`` is the table that is erased from."""
        try:
            with self._engine.begin() as connection:
                if self._engine.dialect.name == "postgresql":
                    connection.execute(_POSTGRESQL_SETTINGS)
                yield connection
        except SQLAlchemyError as error:
            # Not chained: the driver's own message may quote a row.
            raise self._translated(error, doing, part) from None

    def _translated(self, error: SQLAlchemyError, doing: str, part: Part | None) -> SqlFailed:
        if not isinstance(error, DBAPIError):
            return SqlFailed(f"{self} failed while {doing}: {type(error).__name__}.")
        kind = _kind(error)
        if isinstance(error, IntegrityError) and part is not None:
            obstacle = _constraint(error) or self._referring(part)
            return Refusal(f"{self} refused while {doing} ({kind}): {obstacle}. Children go before their parents.")
        if isinstance(error, OperationalError) and error.statement is None:
            said = str(error.orig).split("\n", 1)[0].replace(self._engine.url.password or "\0", "***")
            return SqlFailed(f"{self} can't be reached: {said}")
        # Locks, and a server that goes away, concern all accounts alike; the rest may be some rows' fault.
        for_all = part is None or isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
        return (SqlFailed if for_all else Refusal)(f"{self} failed while {doing}: {kind}.")

    def _referring(self, part: Part) -> str:
        names = ""
        with suppress(SQLAlchemyError), self._engine.connect() as connection:
            names = referring(inspect(connection), part)
        return names or "a constraint or a trigger"

    @property
    def _all(self) -> str:
        return ", ".join(name for name, _ in self.tables)


def _kind(error: DBAPIError) -> str:
    """What the driver calls an error, without its sentence."""
    codes = (getattr(error.orig, name, None) for name in ("sqlstate", "pgcode", "sqlite_errorname"))
    return " ".join([type(error.orig).__name__, *(code for code in codes if code)])


def _constraint(error: DBAPIError) -> str:
    """The constraint that an error is about, where the driver says it."""
    said: Any = getattr(error.orig, "diag", None)
    if said is None or not said.constraint_name:
        return ""
    return f"constraint {said.constraint_name} of {said.schema_name}.{said.table_name}"


def _engine(url: str) -> Engine:
    """Connections whose errors show no values. The database is reached on first use."""
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        settings = _CONNECT.get(parsed.get_driver_name(), {})
        options = {name: value for name, value in settings.items() if name not in parsed.query}
        engine = create_engine(parsed, connect_args=options, hide_parameters=True, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError):
        raise InvalidInput("The database URL can't be understood; give one as SQLAlchemy takes it.") from None
    except ImportError as error:
        raise InvalidInput(f"The database needs a driver that is not installed: {error.name}.") from error
    if engine.dialect.is_async:
        raise InvalidInput(f"The driver {engine.driver} is asynchronous; name another one in the URL.")
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, parsed)
    return engine


def _prepare_sqlite(engine: Engine, url: URL) -> None:
    file = url.database or ":memory:"
    if file == ":memory:":
        raise InvalidInput("A database in memory has no tables to erase from; name a file.")

    @event.listens_for(engine, "do_connect")
    def require_file(_dialect: Any, _record: Any, _arguments: Any, _options: Any) -> None:
        """SQLite would make an empty file, in which nobody has any rows."""
        if not file.startswith("file:") and not Path(file).is_file():
            raise SqlFailed(f"The file {file} is not there; is its disk mounted?")

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # what is erased is overwritten
