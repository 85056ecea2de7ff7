"""Statements for one account at a time: compiled once, and handed to the driver without a detour.

SQLAlchemy's execution of a small statement takes longer than the database's. A request runs five of them;
sets of accounts are moved by few and large ones, and go SQLAlchemy's way.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

Parameters = Mapping[str, Any]


class Statement:
    """A statement whose parameters are all bound by name; parts that depend on their number (``IN``) can't be in it."""

    def __init__(self, clause: Any) -> None:
        self.clause = clause
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, parameters: Parameters) -> list[dict[str, Any]]:
        """Run a query; its rows, by the names of its columns."""
        compiled = self._for(connection)
        cursor = to_driver(connection, compiled.text, compiled.bound(parameters))
        return [
            {
                name: value if convert is None else convert(value)
                for (name, convert), value in zip(compiled.columns, row, strict=True)
            }
            for row in cursor.fetchall()
        ]

    def tuples(self, connection: Connection, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Run a query; its rows just as the driver gives them."""
        compiled = self._for(connection)
        cursor = to_driver(connection, compiled.text, compiled.bound(parameters))
        return list(cursor.fetchall())

    def run(self, connection: Connection, parameters: Parameters) -> int:
        """Run a change; how many rows it changed."""
        compiled = self._for(connection)
        return int(to_driver(connection, compiled.text, compiled.bound(parameters)).rowcount)

    def run_many(self, connection: Connection, parameters: Sequence[Parameters]) -> None:
        """Run a change once for each of the parameters."""
        compiled = self._for(connection)
        to_driver(connection, compiled.text, [compiled.bound(one) for one in parameters], "executemany")

    def _for(self, connection: Connection) -> "_Compiled":
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = _Compiled(self.clause, dialect)
        return self._compiled[dialect.name]


class _Compiled:
    def __init__(self, clause: Any, dialect: Any) -> None:
        self.dialect = dialect
        self._compiled = clause.compile(dialect=dialect)
        self.text = str(self._compiled)
        self._positional = self._compiled.positiontup is not None

    @cached_property
    def columns(self) -> list[tuple[str, Any]]:
        """What a query gives: names, and what makes a Python value of the driver's, where that is not the same."""
        selected = self._compiled.statement.selected_columns
        return [(column.key, self._of_driver(column.type).result_processor(self.dialect, None)) for column in selected]

    @cached_property
    def _binds(self) -> list[tuple[str, str, Any, Any]]:
        """The parameters in the driver's order: its name and ours, the constant, and the conversion."""
        binds = {name: bind for bind, name in self._compiled.bind_names.items()}
        return [
            (name, bind.key, bind.effective_value, self._of_driver(bind.type).bind_processor(self.dialect))
            for name, bind in ((name, binds[name]) for name in self._compiled.positiontup or binds)
        ]

    @cached_property
    def _names(self) -> list[str]:
        return [name for name, *_ in self._binds]

    def _of_driver(self, type_: Any) -> Any:
        return type_.dialect_impl(self.dialect)

    def bound(self, parameters: Parameters) -> Any:
        """The parameters as the driver takes them, by name or in their order."""
        given = parameters.get
        values = [
            given(key, constant) if convert is None else convert(given(key, constant))
            for _, key, constant, convert in self._binds
        ]
        return values if self._positional else dict(zip(self._names, values, strict=True))


def to_driver(connection: Connection, text: str, values: Any = None, method: str = "execute") -> Any:
    """Run a statement on a cursor of the driver's own, and return that."""
    driver: Any = connection.connection.dbapi_connection
    try:
        cursor = driver.cursor()
        getattr(cursor, method)(text, *(() if values is None else (values,)))
        return cursor
    except connection.dialect.loaded_dbapi.Error as error:
        raise _as_raised(connection, text, error) from error


@contextmanager
def driver_cursor(connection: Connection, text: str) -> Iterator[Any]:
    """A cursor of the driver's own, for what must be done with it while it is open."""
    driver: Any = connection.connection.dbapi_connection
    try:
        yield driver.cursor()
    except connection.dialect.loaded_dbapi.Error as error:
        raise _as_raised(connection, text, error) from error


def _as_raised(connection: Connection, text: str, error: Exception) -> Exception:
    """What SQLAlchemy would have raised for the driver's error over a statement."""
    dialect: Any = connection.dialect
    return DBAPIError.instance(text, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect)
