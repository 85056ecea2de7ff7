"""What a simulation has found under one policy, and all of it as tidy CSV: one observation a row."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lifecycle.histories import Life, Promise
from lifecycle.machine import TIMERS
from lifecycle.policy import Policy
from lifecycle.rows import timer_of
from lifecycle.simulate.customers import Kind
from lifecycle.simulate.world import Day
from lifecycle.states import DESTRUCTIVE, Effect, Event, State

_DAY = timedelta(days=1)
#: The events that destroy, by their effect.
DESTROYING: Mapping[Effect, Event] = {
    timer.confirmation.effect: row.event for row in TIMERS if (timer := timer_of(row)).confirmation
}


@dataclass(frozen=True, slots=True)
class Stays:
    """How long accounts were in a state: of the stays that have ended, by whole days; ``lasting`` are still there."""

    ended: Mapping[int, int]
    lasting: Mapping[int, int]

    def quantile(self, part: float) -> int | None:
        """The days within which this part of the ended stays was over; None without any."""
        total, seen = sum(self.ended.values()), 0
        for days in sorted(self.ended):
            seen += self.ended[days]
            if seen >= part * total:
                return days
        return None


@dataclass(frozen=True)
class Outcome:
    """A population under one policy. ``name`` is the policy's, for people; ``days`` are in their order.

    ``granted`` and ``refused`` count what customers, billing and support asked for. ``delivered`` counts effects.
    """

    name: str
    policy: Policy
    opened: int
    days: Sequence[Day]
    stays: Mapping[State, Stays]
    granted: Mapping[Kind, int]
    refused: Mapping[Kind, int]
    delivered: Mapping[Effect, int]
    promises: Sequence[Promise]

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not any(promise.broken for promise in self.promises)

    @property
    def busiest(self) -> Day:
        """The day on which most accounts were asked to be destroyed."""
        return max(self.days, key=lambda day: sum(day.requested.values()))

    @property
    def braked_days(self) -> int:
        """On how many days the brake held something back."""
        return sum(day.waiting > 0 for day in self.days)

    def as_json(self) -> dict[str, Any]:
        """The summary in JSON's own types, but for instants."""
        return {
            "policy": self.name,
            "version": self.policy.version,
            "accounts": self.opened,
            "states": dict(self.days[-1].states),
            "requested": {
                event: sum(day.requested.get(event, 0) for day in self.days) for event in DESTROYING.values()
            },
            "busiest_day": {
                "at": self.busiest.at,
                "requested": sum(self.busiest.requested.values()),
                "limit": self.busiest.limit,
            },
            "braked_days": self.braked_days,
            "median_days": {state: self.stays[state].quantile(0.5) for state in self.stays},
            "asked": {
                kind: {"granted": self.granted.get(kind, 0), "refused": self.refused.get(kind, 0)} for kind in Kind
            },
            "promises": [asdict(promise) for promise in self.promises],
            "kept": self.kept,
        }


def count_stays(lives: Iterable[Life], until: datetime, into: dict[State, Stays]) -> Iterator[Life]:
    """Hand every life on, and count on its way how long it was where."""
    for life in lives:
        for state, length, over in life.stays(until):
            counts = into[state].ended if over else into[state].lasting
            days = length // _DAY
            counts[days] = counts.get(days, 0) + 1  # type: ignore[index]
        yield life


# --- CSV -----------------------------------------------------------------------------------------


def write_csv(folder: Path, outcomes: Sequence[Outcome]) -> list[Path]:
    """Write every table into the folder, which must exist; the files that were written."""
    written = []
    for name, (columns, rows) in _TABLES.items():
        path = folder / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("policy", *columns))
            table.writerows((one.name, *row) for one in outcomes for row in rows(one))
        written.append(path)
    return written


def _accounts(outcome: Outcome) -> Iterator[tuple[Any, ...]]:
    return ((day.at.date(), state, day.states[state]) for day in outcome.days for state in State)


def _load(outcome: Outcome) -> Iterator[tuple[Any, ...]]:
    for day in outcome.days:
        yield (day.at.date(), *(day.requested.get(DESTROYING[one], 0) for one in DESTRUCTIVE), day.limit, day.waiting)


def _stays(outcome: Outcome) -> Iterator[tuple[Any, ...]]:
    for state, stays in outcome.stays.items():
        for over, counts in (("yes", stays.ended), ("no", stays.lasting)):
            yield from ((state, days, over, counts[days]) for days in sorted(counts))


def _requests(outcome: Outcome) -> Iterator[tuple[Any, ...]]:
    return ((kind, outcome.granted.get(kind, 0), outcome.refused.get(kind, 0)) for kind in Kind)


_TABLES: Mapping[str, tuple[tuple[str, ...], Any]] = {
    "accounts": (("date", "state", "accounts"), _accounts),
    "load": (("date", *DESTRUCTIVE, "limit", "waiting"), _load),
    "stays": (("state", "days", "over", "stays"), _stays),
    "requests": (("request", "granted", "refused"), _requests),
}
