"""Clocks. Everything below the engine takes ``now`` as an argument; only a clock knows the time."""

from datetime import UTC, datetime
from typing import Protocol

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput

FIRST_YEAR, LAST_YEAR = 1970, 2199


class Clock(Protocol):
    """Whatever can tell the present instant, aware and in UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    """The clock of the host."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is set: for demos, simulations and tests.

    It never runs backwards: ``set`` to an earlier instant raises :class:`InvalidInput`.
    """

    def __init__(self, start: datetime) -> None:
        self._now = in_utc(start, "start")

    def now(self) -> datetime:
        return self._now

    def set(self, instant: datetime) -> None:
        instant = in_utc(instant, "instant")
        if instant < self._now:
            raise InvalidInput(f"A manual clock can't go back from {self._now} to {instant}; open a new one.")
        self._now = instant


def in_utc(value: datetime, name: str) -> datetime:
    """The same instant in UTC.

    A naive datetime, or a year outside 1970 to 2199 (where sums of dates may leave the calendar), raises
    :class:`InvalidInput` that names ``name``.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInput(
            f"{name} must be a datetime with a time zone, not {shown(value)}; add one, for example tzinfo=UTC."
        )
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise InvalidInput(f"{name} must lie between {FIRST_YEAR} and {LAST_YEAR}, not {value}; check the year.")
    return value.astimezone(UTC)
