"""What happens to the accounts of a simulation: how many there are, and how often what befalls them.

A scenario is a TOML file with the tables below. What a file does not state keeps its default, and :func:`as_toml`
prints all of it with its meaning. Every setting is written once, as a field: its default, and its meaning.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from lifecycle.characters import shown
from lifecycle.clock import FIRST_YEAR, LAST_YEAR
from lifecycle.errors import InvalidInput
from lifecycle.policy import duration_words
from lifecycle.settings import Read, read_count, read_settings, read_table, refuse_unknown

MOST_ACCOUNTS, LONGEST_YEARS = 1_000_000, 20
#: The hour at which everybody acts and the daemon comes by: deadlines in whole days are met on the minute.
NOON = time(12, tzinfo=UTC)


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


def _days(count: int) -> timedelta:
    return timedelta(days=count)


@dataclass(frozen=True, kw_only=True)
class Population:
    """How many accounts there are, and how long they are looked at."""

    accounts: int = _setting(10_000, "all that there ever are: those of the first day, and those that come later")
    years: float = _setting(3.0, "how long they are looked at, in years of 365 days")
    start: date = _setting(date(2026, 1, 1), "the first day")
    seed: int = _setting(2026, "another number gives other accounts with the same habits")


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """When accounts come, and with which plan; those with none of these plans begin with a trial."""

    at_start: float = _setting(0.3, "part of all accounts that is there on the first day, none of it on trial")
    free: float = _setting(0.15, "part of those that come later which begins on the free plan; the rest is on trial")
    monthly: float = _setting(0.1, "part that pays from the first day, every 30 days")
    annual: float = _setting(0.05, "part that pays from the first day, every 365 days")


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What becomes of trials; the others run out, and are on hold."""

    upgrade: float = _setting(0.3, "part that pays in the end, some of them when they are on hold already")
    free: float = _setting(0.1, "part that chooses the free plan")
    within: timedelta = _setting(_days(45), "decided by then, each on a random day")
    annual: float = _setting(0.2, "part of all who ever pay that pays every 365 days, not every 30")


@dataclass(frozen=True, kw_only=True)
class Cancellations:
    """How often owners cancel, and how many of them think better of it."""

    paid: float = _setting(0.025, "part of the paid accounts that is cancelled by its owner in a month")
    free: float = _setting(0.008, "the same of free accounts")
    others: float = _setting(0.02, "the same of trials, and of what is on hold or frozen")
    comeback: float = _setting(0.2, "part of these owners who want their account back")
    within: timedelta = _setting(_days(50), "when they want it back, at the latest; each on a random day")


@dataclass(frozen=True, kw_only=True)
class Company:
    """How customers answer when the company cancels."""

    heed: float = _setting(0.15, "part that acts upon the notice: pays, or uses the free account again")
    comeback: float = _setting(0.1, "part that wants the account back once it was cancelled")
    within: timedelta = _setting(_days(50), "when they want it back, at the latest; each on a random day")


@dataclass(frozen=True, kw_only=True)
class Payments:
    """How often a renewal is not paid."""

    failure: float = _setting(0.03, "part of the renewals that is not paid: the account is frozen")
    recovery: float = _setting(0.7, "part of these that is paid in the end")
    within: timedelta = _setting(_days(40), "how long that takes at most; each on a random day")


@dataclass(frozen=True, kw_only=True)
class Activity:
    """How accounts are used; it counts for free ones alone."""

    every: timedelta = _setting(_days(14), "how often an account is used while it is used at all")
    fade: float = _setting(0.04, "part of the accounts that falls asleep in a month")
    wake: float = _setting(0.3, "part of those that wakes up again")
    within: timedelta = _setting(_days(365), "how long they sleep at most; each wakes on a random day")


@dataclass(frozen=True, kw_only=True)
class Support:
    """What people of the company do."""

    holds: float = _setting(0.0005, "part of all accounts that comes under a legal hold in a month")
    hold_lasts: timedelta = _setting(_days(90), "how long a hold lasts on average")
    suspensions: float = _setting(0.0005, "part of all accounts that is suspended in a month")
    suspension_lasts: timedelta = _setting(_days(14), "how long a suspension lasts on average")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """All tables of a scenario. Out of bounds raises :class:`InvalidInput`."""

    population: Population = Population()
    arrivals: Arrivals = Arrivals()
    trials: Trials = Trials()
    cancellations: Cancellations = Cancellations()
    company: Company = Company()
    payments: Payments = Payments()
    activity: Activity = Activity()
    support: Support = Support()

    def __post_init__(self) -> None:
        for table, names in (("arrivals", ("free", "monthly", "annual")), ("trials", ("upgrade", "free"))):
            parts = [getattr(getattr(self, table), name) for name in names]
            if sum(parts) > 1 + 1e-9:
                raise InvalidInput(
                    f"The parts {', '.join(f'{table}.{name}' for name in names)} add up to {sum(parts):g}, which is "
                    "more than 1; lower one of them."
                )

    @property
    def start(self) -> datetime:
        """The instant at which the simulation begins."""
        return datetime.combine(self.population.start, NOON)

    @property
    def days(self) -> int:
        """How many days it lasts, at least 1."""
        return max(round(self.population.years * 365), 1)


def read_scenario(path: Path | None = None, **population: Any) -> Scenario:
    """The scenario in a file, or the default one; ``population`` takes the place of what it says of that.

    Raises :class:`InvalidInput`, or :class:`PolicyError` for what is no duration, that names the file or the setting.
    """
    content = {} if path is None else _read(path)
    tables: dict[str, Any] = {setting.name: type(setting.default) for setting in fields(Scenario)}
    refuse_unknown(content, tables, "the scenario", "table")
    said = {name: read_table(content.get(name, {}), name) for name in tables}
    said["population"] = {**said["population"], **{key: one for key, one in population.items() if one is not None}}
    others: Mapping[str, Mapping[str, Read]] = {"population": _POPULATION}
    read: dict[str, Any] = {
        name: read_settings(kind, said[name], name, **others.get(name, {})) for name, kind in tables.items()
    }
    return Scenario(**read)


def as_toml(scenario: Scenario) -> str:
    """The scenario as a file that :func:`read_scenario` reads, with the meaning of every setting."""
    lines = ["# A scenario of `lifecycle simulate`. What is left out keeps its default."]
    for table in fields(scenario):
        here = getattr(scenario, table.name)
        lines += ["", f"# {(type(here).__doc__ or '').strip()}", f"[{table.name}]"]
        stated = [(f"{one.name} = {_toml(getattr(here, one.name))}", one.metadata["doc"]) for one in fields(here)]
        width = max(len(text) for text, _ in stated)
        lines += [f"{text:{width}}  # {doc}" for text, doc in stated]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, timedelta):
        return f'"{duration_words(value)}"'
    return value.isoformat() if isinstance(value, date) else str(value)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"The scenario {path} can't be read: {error.strerror}; check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The scenario {path} is not TOML: {error}; correct it there.") from error


def _years(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not 0 < value <= LONGEST_YEARS:
        raise InvalidInput(f"{name} must be a number above 0 and up to {LONGEST_YEARS}, not {shown(value)}.")
    return float(value)


def _date(value: Any, name: str) -> date:
    if type(value) is not date or not FIRST_YEAR <= value.year <= LAST_YEAR - LONGEST_YEARS - 10:
        latest = LAST_YEAR - LONGEST_YEARS - 10
        raise InvalidInput(
            f"{name} must be a date such as 2026-01-01, from {FIRST_YEAR} to {latest}, not {shown(value)}."
        )
    return value


#: How the settings are read that are no part, duration or number like others.
_POPULATION: Mapping[str, Read] = {
    "accounts": partial(read_count, most=MOST_ACCOUNTS),
    "years": _years,
    "start": _date,
    "seed": partial(read_count, least=0, most=2**53),
}
