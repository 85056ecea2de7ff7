"""Connections and transactions on SQLite and PostgreSQL: the one place where the two differ in manner.

SQLite serialises writers (``BEGIN IMMEDIATE``, WAL, ``synchronous=FULL``); PostgreSQL locks rows. What
the driver raises leaves this module as one of the package's own errors.
"""

import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from random import uniform
from threading import Lock
from time import monotonic, sleep
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Text,
    any_,
    bindparam,
    cast,
    column,
    create_engine,
    event,
    func,
    literal,
    make_url,
    select,
    type_coerce,
)
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.pool import StaticPool

from lifecycle.characters import shown
from lifecycle.errors import Conflict, DatabaseUnavailable, InvalidInput, PrivilegeMissing, SchemaOutdated
from lifecycle.statements import to_driver

#: How long a writer waits for another before it gives up.
LOCK_TIMEOUT_SECONDS = 30
#: PostgreSQL's channel on which every committed change of an account is announced.
CHANNEL = "lifecycle"

#: An SQLite file up to this many bytes is written anew within a second.
SMALL = 128 * 1024 * 1024
_PATIENCE = f"PRAGMA busy_timeout={LOCK_TIMEOUT_SECONDS * 1000}"
#: How every connection to SQLite is set up.
PRAGMAS = (
    _PATIENCE,
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",
    "PRAGMA recursive_triggers=ON",  # so that triggers see what INSERT OR REPLACE takes away
)
#: Each in one journey to the server.
_BEGIN_WRITING = f"BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
#: How long a connection may lie idle before it is tried out.
_TRUSTED_SECONDS = 1.0
#: SQLSTATEs that mean: somebody else was faster, the same request may succeed now.
_RETRYABLE = {"40001", "40P01", "55P03"}


class Database:
    """A database by URL (``sqlite:///accounts.db`` or ``postgresql://…``); connects on first use.

    Raises :class:`InvalidInput` for a URL that can't be understood.
    """

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.is_postgresql = self.url.get_backend_name() == "postgresql"
        with translated():
            self._engine = self._create_engine()
        self._turns: Callable[[], AbstractContextManager[None]] = nullcontext if self.is_postgresql else Turns().taken
        self._reader = self._engine.execution_options(lifecycle_reads=True)
        self._rights: dict[tuple[str, str], bool] = {}

    def _create_engine(self) -> Engine:
        # hide_parameters: a traceback must never show a customer's row.
        if self.is_postgresql:
            engine = create_engine(
                self.url,
                hide_parameters=True,
                connect_args={"connect_timeout": 10, "application_name": "lifecycle", "client_encoding": "utf8"},
            )
            event.listen(engine, "connect", _prepare_postgresql)
            event.listen(engine, "checkin", _note_idle)
            event.listen(engine, "checkout", _ping_idle)
            event.listen(engine, "begin", _begin_postgresql)
            return engine
        if self.url.database in (None, "", ":memory:"):
            # One connection, so that every part of one process sees the same memory.
            engine = create_engine(
                self.url,
                hide_parameters=True,
                poolclass=StaticPool,
                connect_args={"check_same_thread": False},
            )
        else:
            engine = create_engine(self.url, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes: all of it is committed, or nothing."""
        with translated(), self._turns(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads: every statement sees what the first one saw, and nobody is blocked."""
        with translated(), self._reader.begin() as connection:
            yield connection

    def may(self, connection: Connection, privilege: str, table: str) -> bool:
        """Whether this database's user has a privilege (``"SELECT"``) on a table; asked of the database once.

        SQLite has no users: whoever may open the file may do everything.
        """
        if not self.is_postgresql:
            return True
        right = (table, privilege)
        if right not in self._rights:
            self._rights[right] = bool(connection.scalar(select(func.has_table_privilege(*right))))
        return self._rights[right]

    def among(self, column: Any) -> Any:
        """``column`` is one of the bound ``ids`` (see :meth:`ids`), however many there are."""
        if self.is_postgresql:
            return column == any_(cast(bindparam("ids", type_=Text), ARRAY(column.type)))
        listed = func.json_each(bindparam("ids", type_=Text)).table_valued("value")
        return column.in_(select(listed.c.value))

    def ids(self, values: Iterable[Any]) -> Any:
        """The parameter that :meth:`among` expects."""
        return _array(values) if self.is_postgresql else json.dumps(list(values))

    def given(self, values: Mapping[Any, Any], key: Any, value: Any) -> Any:
        """``values`` as a table of a statement with the columns ``key`` and ``value`` of these types.

        It is one parameter or two, however many they are.
        """
        if self.is_postgresql:
            given = ((key, values), (value, values.values()))
            arrays = (cast(literal(_array(column), Text), ARRAY(kind)) for kind, column in given)
            return (
                func.unnest(*arrays)
                .table_valued(column("key", key), column("value", value), name="given")
                .render_derived()
            )
        process = value.dialect_impl(self._engine.dialect).bind_processor(self._engine.dialect) or (lambda one: one)
        rows = json.dumps([[one, process(other)] for one, other in values.items()])
        listed = func.json_each(rows).table_valued("value", name="listed")
        pair = listed.c.value
        return select(
            type_coerce(func.json_extract(pair, "$[0]"), key).label("key"),
            type_coerce(func.json_extract(pair, "$[1]"), value).label("value"),
        ).subquery("given")

    def forget(self) -> None:
        """SQLite: what was erased leaves the file's pages and the write-ahead log, unless somebody reads just then.

        Erased cells are overwritten (``secure_delete``), but a page that was split keeps copies of some in its gap,
        until the file is written anew. That is done up to :data:`SMALL` bytes; a larger one is its operator's affair.
        PostgreSQL forgets when it vacuums, and when its log is recycled: likewise.
        """
        if self.is_postgresql or self.url.database in (None, "", ":memory:"):
            return
        with translated(), self._turns(), self._engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            pages, size = (driver.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            with suppress(sqlite3.OperationalError):  # another process writes: the next time will do
                if pages * size <= SMALL:
                    driver.execute("VACUUM")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __str__(self) -> str:
        hidden = {name: "hidden" for name in self.url.query if "password" in name.lower()}
        return self.url.update_query_dict(hidden).render_as_string(hide_password=True)


class Turns:
    """First come, first served among the writing threads of one process.

    SQLite's own waiting is by sleeping and trying again: a large sweep would starve all others.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._taken = False
        self._waiting: deque[Lock] = deque()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn; raises :class:`Conflict` when it does not come within the lock timeout."""
        mine = Lock()
        mine.acquire()
        with self._guard:
            if self._taken:
                self._waiting.append(mine)
            else:
                self._taken = True
                mine.release()
        if not mine.acquire(timeout=LOCK_TIMEOUT_SECONDS):
            with self._guard:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise Conflict("Other threads of this process keep the database busy; try again.")
        try:
            yield
        finally:
            with self._guard:
                if self._waiting:
                    self._waiting.popleft().release()
                else:
                    self._taken = False


def _array(values: Iterable[Any]) -> str:
    """An array as PostgreSQL writes it: the driver takes three times as long for one of thousands."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    text = str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parsed(url: str) -> URL:
    help_text = "give one such as sqlite:///accounts.db or postgresql://user@host/name."
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, AttributeError) as error:
        raise InvalidInput(f"The database URL can't be understood; {help_text}") from error
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InvalidInput(f"The database {shown(backend)} is not supported; {help_text}")
    return parsed


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late; ours is explicit
    for pragma in PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("lifecycle_reads", False):
        to_driver(connection, "BEGIN")
        return
    to_driver(connection, "PRAGMA busy_timeout=0")
    try:
        _begin_writing(connection)
    finally:
        to_driver(connection, _PATIENCE)


def _begin_writing(connection: Connection) -> None:
    """Take SQLite's one write lock, in competition with other processes.

    SQLite itself would sleep ever longer, up to 100 ms, between two tries: beside a process that writes one
    small transaction after another a daemon came to its turn seconds late. Short sleeps keep the race even.
    """
    waited = 0.0
    while True:
        try:
            to_driver(connection, "BEGIN IMMEDIATE")
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY or waited > LOCK_TIMEOUT_SECONDS:
                raise
        pause = uniform(0.5, 1.5) / 1000
        sleep(pause)
        waited += pause


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    """Leave nothing in the session: between two transactions a pooling proxy may put another in its place."""
    connection.autocommit = True  # the driver's own BEGIN would take a journey of its own; ours brings more along
    connection.prepare_threshold = None


def _begin_postgresql(connection: Connection) -> None:
    reads = connection.get_execution_options().get("lifecycle_reads", False)
    to_driver(connection, _BEGIN_READING if reads else _BEGIN_WRITING)


def _note_idle(_connection: Any, record: Any) -> None:
    record.info["idle_since"] = monotonic()


def _ping_idle(connection: Any, record: Any, _proxy: Any) -> None:
    """A connection that lay idle may be dead: the pool then makes a new one."""
    if monotonic() - record.info.get("idle_since", monotonic()) > _TRUSTED_SECONDS:
        try:
            connection.execute("SELECT 1")
        except Exception as error:
            raise DisconnectionError(str(error)) from error


@contextmanager
def translated() -> Iterator[None]:
    """What the driver raises, as one of the package's errors."""
    try:
        yield
    except DBAPIError as error:
        original = error.orig
        state = getattr(original, "sqlstate", None)
        text = _primary(original)
        if state in _RETRYABLE or "database is locked" in text:
            raise Conflict(f"Another process holds the rows that this one needs ({text}); try again.") from error
        if state == "42P01" or "no such table" in text:
            raise SchemaOutdated("The database has no schema yet; run `lifecycle init`.") from error
        if state in ("42703",) or "no such column" in text:
            raise SchemaOutdated(
                f"The database's schema is another version's ({text}); run `lifecycle init`."
            ) from error
        if state == "42501":
            raise PrivilegeMissing(
                f"The database user lacks a right ({text}), so nothing was done; connect as a user whose role has it "
                "(`lifecycle init --roles`)."
            ) from error
        if isinstance(error, IntegrityError):
            # Not chained: the driver's own message quotes the whole row.
            raise InvalidInput(
                f"The database refuses the change ({_primary(original)}); nothing was changed."
            ) from None
        if isinstance(error, OperationalError) or "not a database" in text:
            raise DatabaseUnavailable(
                f"The database can't be reached ({text}); check the URL, and that the server runs."
            ) from error
        raise
    except ModuleNotFoundError as error:
        raise InvalidInput("PostgreSQL needs its driver: pip install 'account-lifecycle[postgres]'.") from error


def _primary(error: Any) -> str:
    """The driver's message without the details, which may quote a customer's row."""
    return str(error).split("\n", 1)[0]
