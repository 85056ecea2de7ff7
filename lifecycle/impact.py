"""What another policy would do to the accounts that there are: read only, and by one statement for all of them.

:mod:`lifecycle.projection` works out for every account when each timer ahead of it reminds and fires, under the policy
in force and under the candidate. Here the two are compared, and only numbers leave the database.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from time import monotonic
from typing import Any, Protocol

from sqlalchemy import Select, and_, bindparam, case, func, literal, literal_column, or_, select, union_all

from lifecycle.clock import Clock
from lifecycle.forecast import LOSSES, Stage, chains
from lifecycle.instants import Instant
from lifecycle.policy import Policy
from lifecycle.projection import Chain, named
from lifecycle.states import Event, State, Step
from lifecycle.store import Store
from lifecycle.tables import accounts

#: The spans, in days from now, for which it is counted who loses what.
WITHIN = (7, 30, 90)


class Change(StrEnum):
    """How the instant of a timer's step differs under the candidate."""

    SOONER = "sooner"
    LATER = "later"
    NEWLY = "newly"
    NO_MORE = "no_more"
    SAME = "same"


@dataclass(frozen=True)
class TimerImpact:
    """Accounts that are in ``state`` now, by what becomes of one step of a timer that lies ahead of them.

    ``step`` is ``remind`` (its reminder is asked for) or ``fire`` (it happens).
    """

    state: State
    event: Event
    step: Step
    sooner: int
    later: int
    newly: int
    no_more: int
    same: int

    @property
    def changed(self) -> int:
        """How many do not stay the same."""
        return self.sooner + self.later + self.newly + self.no_more


@dataclass(frozen=True)
class Loss:
    """How many accounts lose access or content within so many days: as it is, under the candidate, and who differs."""

    what: str
    days: int
    before: int
    after: int
    only_before: int
    only_after: int


@dataclass(frozen=True)
class Impact:
    """What the candidate would do to the accounts of one database at one instant."""

    at: datetime
    in_force: str
    candidate: str
    timers: tuple[TimerImpact, ...]
    losses: tuple[Loss, ...]
    accounts: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """All of it, in the types of JSON but for instants."""
        return {
            "at": self.at,
            "in_force": self.in_force,
            "candidate": self.candidate,
            "accounts": self.accounts,
            "seconds": round(self.seconds, 3),
            "timers": [{**vars(one), "changed": one.changed} for one in self.timers],
            "losses": [vars(one) for one in self.losses],
        }


@dataclass(frozen=True)
class Foretold:
    """One step of a timer ahead of one account: when under the policy in force, and when under the candidate."""

    account_id: str
    state: State
    event: Event
    step: Step
    before: datetime | None
    after: datetime | None
    change: Change


#: All but what stays the same.
DIFFERENT = tuple(change for change in Change if change is not Change.SAME)


@dataclass(frozen=True)
class Choice:
    """Which of the foretold steps are listed: of one state, event or change, or those that take something away.

    ``within``: that come within so much time, under one policy or the other.
    """

    state: State | None = None
    event: Event | None = None
    changes: tuple[Change, ...] = DIFFERENT
    loses: str | None = None
    within: timedelta | None = None

    def takes(self, stage: Stage, step: Step) -> bool:
        """Whether this step of a stage is among them."""
        if self.loses is not None and (step is Step.REMIND or self.loses not in stage.loses):
            return False
        return self.event in (None, stage.row.event)


class Opened(Protocol):
    """What is asked of an engine."""

    store: Store
    clock: Clock

    def kept_policy(self) -> Policy:
        """The policy in force."""


def impact(engine: Opened, candidate: Policy) -> Impact:
    """What activating ``candidate`` now would do to the accounts of the engine's database. Read only."""
    return Forecast(engine.store, engine.kept_policy(), candidate).impact(engine.clock.now())


# --- For all accounts at once ---------------------------------------------------------------------


class Forecast:
    """Both policies beside each other, for the accounts of one store at one instant."""

    def __init__(self, store: Store, in_force: Policy, candidate: Policy) -> None:
        self.store = store
        self.policies = (in_force, candidate)
        self._chains = [Chain(stages, in_force, candidate) for stages in chains()]

    def impact(self, now: datetime) -> Impact:
        """Numbers for all of it."""
        begun = monotonic()
        steps = list(dict.fromkeys((chain.source, *step) for chain in self._chains for step in chain.steps))
        with self.store.database.read() as connection:
            total = int(connection.scalar(select(func.count()).select_from(accounts)) or 0)
            everything = list(dict.fromkeys(step for chain in self._chains for step in chain.steps))
            parts = [_counted(chain, everything) for chain in self._chains]
            rows = [dict(row) for row in connection.execute(union_all(*parts), _parameters(now)).mappings()]
        by_state = {State(row["state"]): row for row in rows}
        timers = tuple(
            TimerImpact(state, event, step, *(by_state[state][f"{named(event, step)}_{change}"] for change in Change))
            for state, event, step in steps
        )
        losses = tuple(
            Loss(what, days, *(sum(row[f"{what}_{days}_{name}"] for row in rows) for name in _LOSS_COLUMNS))
            for what in LOSSES
            for days in WITHIN
        )
        in_force, candidate = (policy.version for policy in self.policies)
        return Impact(now, in_force, candidate, timers, losses, total, monotonic() - begun)

    def listed(self, now: datetime, choice: Choice) -> Iterator[Foretold]:
        """Every step that is chosen, state by state and by the accounts' ids; read while it is consumed."""
        horizon = None if choice.within is None else now + choice.within
        with self.store.database.read() as connection:
            for chain in self._chains:
                listed = _listed(chain, choice)
                if listed is None:
                    continue
                steps, query = listed
                rows = connection.execution_options(yield_per=1000).execute(query, {"now": now, "horizon": horizon})
                for id, *instants in rows:
                    for (event, step), before, after in zip(steps, instants[::2], instants[1::2], strict=True):
                        change = change_of(before, after)
                        if change in choice.changes and _until(horizon, before, after):
                            yield Foretold(id, chain.source, event, step, before, after, change)


def change_of(before: datetime | None, after: datetime | None) -> Change | None:
    """How an instant differs; None where there is none under either policy."""
    if before is None or after is None:
        return None if before is after else Change.NEWLY if before is None else Change.NO_MORE
    return Change.SAME if before == after else Change.SOONER if after < before else Change.LATER


def _until(horizon: datetime | None, *instants: datetime | None) -> bool:
    return horizon is None or any(at is not None and at <= horizon for at in instants)


def _parameters(now: datetime) -> dict[str, Any]:
    return {"now": now, **{f"in_{days}": now + timedelta(days=days) for days in WITHIN}}


# --- One state at a time --------------------------------------------------------------------------

_HORIZON = bindparam("horizon", type_=Instant)
_LOSS_COLUMNS = ("before", "after", "only_before", "only_after")


def _counted(chain: Chain, all_steps: Sequence[tuple[Event, Step]]) -> Select[Any]:
    """One row: how many accounts there are per step and change, and how many lose what in each span."""
    mine = set(chain.steps)
    columns: list[Any] = [literal(str(chain.source)).label("state")]
    for event, step in all_steps:
        changes = _changes(*chain.both(event, step)) if (event, step) in mine else {}
        columns += [_count(changes.get(change), f"{named(event, step)}_{change}") for change in Change]
    for what in LOSSES:
        losing = next((stage for stage in chain.stages if what in stage.loses), None)
        for days in WITHIN:
            tests: Sequence[Any] = [None] * len(_LOSS_COLUMNS)
            if losing is not None:
                tests = _losses(*chain.both(losing.row.event, Step.FIRE), bindparam(f"in_{days}", type_=Instant))
            columns += [_count(test, f"{what}_{days}_{n}") for test, n in zip(tests, _LOSS_COLUMNS, strict=True)]
    return select(*columns).select_from(chain.accounts)


def _listed(chain: Chain, choice: Choice) -> tuple[list[tuple[Event, Step]], Select[Any]] | None:
    """The steps that are chosen, and what selects their accounts: the id, then both instants of each step."""
    if choice.state not in (None, chain.source):
        return None
    steps = [
        (stage.row.event, step)
        for stage in chain.stages
        for step in (Step.REMIND, Step.FIRE)
        if (stage.row.event, step) in set(chain.steps) and choice.takes(stage, step)
    ]
    if not steps:
        return None
    both = [chain.both(*step) for step in steps]
    wanted = or_(*(_changes(before, after)[change] for before, after in both for change in choice.changes))
    query = select(chain.accounts.c.id, *(instant for pair in both for instant in pair)).where(wanted)
    if choice.within is not None:
        query = query.where(or_(*(instant <= _HORIZON for pair in both for instant in pair)))
    return steps, query.order_by(chain.accounts.c.id)


def _count(test: Any, label: str) -> Any:
    return (literal_column("0") if test is None else func.count(case((test, 1)))).label(label)


def _changes(before: Any, after: Any) -> dict[Change, Any]:
    """When each holds; an account for which a step is never foretold is in none of them."""
    return {
        Change.SOONER: after < before,
        Change.LATER: after > before,
        Change.NEWLY: and_(before.is_(None), after.is_not(None)),
        Change.NO_MORE: and_(before.is_not(None), after.is_(None)),
        Change.SAME: after == before,
    }


def _losses(before: Any, after: Any, end: Any) -> list[Any]:
    """As :data:`_LOSS_COLUMNS`: who loses it until ``end``."""
    was, will = before <= end, after <= end
    return [
        was,
        will,
        and_(was, or_(after.is_(None), after > end)),
        and_(will, or_(before.is_(None), before > end)),
    ]
