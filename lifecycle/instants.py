"""Instants in the database: one column type, exact to the microsecond on both databases.

``timestamptz`` on PostgreSQL, integer microseconds since 1970 on SQLite; in Python always aware and in UTC.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import TIMESTAMP, BigInteger, Dialect
from sqlalchemy import literal as sql_literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An instant in UTC, exact to the microsecond on both databases. Naive datetimes are refused."""

    impl = BigInteger
    cache_ok = True

    class Comparator(TypeDecorator.Comparator[datetime]):
        """Adds and subtracts durations: ``column + timedelta(days=30)``."""

        def __add__(self, other: Any) -> Any:
            return _shifted(self.expr, other) if isinstance(other, timedelta) else super().__add__(other)

        def __sub__(self, other: Any) -> Any:
            return _shifted(self.expr, -other) if isinstance(other, timedelta) else super().__sub__(other)

    comparator_factory = Comparator

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """The type on the wire: see the module's text."""
        wire: Any = TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger()
        return dialect.type_descriptor(wire)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Python to database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"An instant needs a time zone: {value!r}.")
        return value if dialect.name == "postgresql" else (value - EPOCH) // MICROSECOND

    def process_literal_param(self, value: datetime | None, dialect: Dialect) -> str:
        """Instants are always bound, never written into a statement."""
        raise NotImplementedError("Instants are bound parameters.")

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Database to Python: one function for a column, since a claim reads tens of thousands of instants."""
        return _in_utc if dialect.name == "postgresql" else _since_epoch

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """What is compared with an instant is an instant."""
        return self


def _in_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _since_epoch(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + value * MICROSECOND


class _Shift(FunctionElement[datetime]):
    """An instant moved by a duration, in microseconds.

    An ``interval`` of days would be an hour off across a daylight-saving change, microseconds never are.
    """

    type = Instant()
    inherit_cache = True
    name = "shift"


def _shifted(expression: Any, by: timedelta) -> _Shift:
    return _Shift(expression, sql_literal(by // MICROSECOND, BigInteger))


@compiles(_Shift)
def _shift_integer(element: _Shift, compiler: Any, **kw: Any) -> str:
    instant, micros = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({instant} + {micros})"


@compiles(_Shift, "postgresql")
def _shift_timestamp(element: _Shift, compiler: Any, **kw: Any) -> str:
    instant, micros = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({instant} + {micros} * interval '1 microsecond')"


class _Micros(FunctionElement[int]):
    """An instant as whole microseconds since 1970, as SQLite keeps it."""

    type = BigInteger()
    inherit_cache = True
    name = "micros"


def micros(instant: Any) -> _Micros:
    """An instant in SQL as whole microseconds since 1970, on both databases."""
    return _Micros(instant)


@compiles(_Micros)
def _micros_integer(element: _Micros, compiler: Any, **kw: Any) -> str:
    (instant,) = (compiler.process(clause, **kw) for clause in element.clauses)
    return str(instant)


@compiles(_Micros, "postgresql")
def _micros_timestamp(element: _Micros, compiler: Any, **kw: Any) -> str:
    (instant,) = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(extract(epoch FROM {instant}) * 1000000)::bigint"
