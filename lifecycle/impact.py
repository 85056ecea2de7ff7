"""What another policy would do to the accounts that there are: read only, and by one statement for all of them.

:mod:`lifecycle.forecast` says when each timer ahead of an account reminds and fires. Here both policies, the one in
force and the candidate, are worked out beside each other for every account, and only numbers leave the database.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from time import monotonic
from typing import Any, Protocol

from sqlalchemy import (
    Select,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.sql.elements import Null

from lifecycle.clock import Clock
from lifecycle.forecast import HOLD_ENDS, LOSSES, REQUEST_DUE, VOIDED_NOTICE, Sets, Stage, chains, fields_of
from lifecycle.instants import Instant
from lifecycle.moves import NOW
from lifecycle.outcomes import REMINDS, reminded
from lifecycle.policy import Policy
from lifecycle.rows import timer_of
from lifecycle.states import Event, State, Step
from lifecycle.store import Store
from lifecycle.sweep import VOIDED, voids_notices
from lifecycle.tables import COLUMNS, Status, accounts, legal_holds, outbox
from lifecycle.terms import Term, compile_term, evaluate

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
        self._chains = [_Chain(stages, in_force, candidate) for stages in chains()]

    def impact(self, now: datetime) -> Impact:
        """Numbers for all of it."""
        begun = monotonic()
        steps = list(dict.fromkeys((chain.source, *step) for chain in self._chains for step in chain.steps))
        with self.store.database.read() as connection:
            total = int(connection.scalar(select(func.count()).select_from(accounts)) or 0)
            everything = list(dict.fromkeys(step for chain in self._chains for step in chain.steps))
            parts = [chain.counted(everything) for chain in self._chains]
            rows = [dict(row) for row in connection.execute(union_all(*parts), _parameters(now)).mappings()]
        by_state = {State(row["state"]): row for row in rows}
        timers = tuple(
            TimerImpact(state, event, step, *(by_state[state][f"{_named(event, step)}_{change}"] for change in Change))
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
                listed = chain.listed(choice)
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

#: In a lane: the instant at which the account came to where it is.
_AT = "at"
#: … and at which nothing blocks it any more, while that is worked out.
_BEGUN = "begun"


class _Lane:
    """One policy's view of the accounts: what each column is by now, and the instants found so far, by name."""

    def __init__(self, name: str, policy: Policy, columns: Mapping[str, Any]) -> None:
        self.name = name
        self.policy = policy
        self.columns: dict[str, Any] = {**columns, _AT: NOW}

    def sql(self, term: Term, at: str = _AT) -> Any:
        """A term as SQL, at the instant of that name."""
        compiled = compile_term(term, self.columns, self.policy, self.columns[at])
        return cast(null(), Instant) if isinstance(compiled, Null) else compiled

    def put(self, name: str, term: Term, at: str, if_any: bool) -> None:
        """Have a column take a new value; ``if_any``: where there is such an instant."""
        value = self.sql(term, at)
        if if_any:
            value = case((self.columns[at].is_not(None), value), else_=self.columns[name])
        # NULL, where nothing ever happens, is of no type.
        self.columns[name] = type_coerce(value, COLUMNS[name].type) if name in COLUMNS else cast(value, Instant)


class _Chain:
    """The timers ahead of the accounts of one state, worked out layer by layer under both policies.

    Each layer is a query over the one before: an instant that is read ten times is worked out once.
    """

    def __init__(self, stages: Sequence[Stage], in_force: Policy, candidate: Policy) -> None:
        self.stages = stages
        self.source = stages[0].source
        bracket = stages[0].row.bracket
        here = accounts.c.state == self.source
        if bracket is not None:
            here = and_(here, compile_term(bracket.term, COLUMNS, in_force, NOW))
        self._read = read = frozenset().union(*(stage.reads for stage in stages))
        columns = {name: column for name, column in {**COLUMNS, **_facts(stages[0])}.items() if name in read}
        self.lanes = _Lane("before", in_force, columns), _Lane("after", candidate, columns)
        for lane in self.lanes:
            lane.columns["not_before"] = _not_before(lane, self.source)
        self._from: Any = accounts
        self._layers = 0
        #: Columns that are expressions yet.
        self._fresh: set[str] = set()
        self._layer(here)
        if voids_notices(in_force, candidate) and self.source in VOIDED:
            self._assign(VOIDED_NOTICE, _AT, lanes=self.lanes[1:])
        for number, stage in enumerate(stages):
            self._work_out(stage)
            self._forget(frozenset().union(*(later.reads for later in stages[number + 1 :])))

    @property
    def steps(self) -> Iterator[tuple[Event, Step]]:
        """The steps that are foretold, in the order of a life."""
        for stage in self.stages:
            if stage.reminds is not None:
                yield stage.row.event, Step.REMIND
            yield stage.row.event, Step.FIRE

    def _work_out(self, stage: Stage) -> None:
        event = stage.row.event
        reminded_at, fired_at = _named(event, Step.REMIND), _named(event, Step.FIRE)
        if stage.released:
            self._put(_BEGUN, stage.begins)
            self._assign(stage.released, _AT)
            self._go_to(_BEGUN)
        self._assign(stage.dates, _AT)
        if stage.reminds is not None:
            self._put(reminded_at, stage.reminds)
        self._put(fired_at, stage.fires)
        self._assign(stage.notified, reminded_at, if_any=True)
        self._assign(stage.sets, fired_at)
        self._go_to(fired_at)

    def _go_to(self, instant: str) -> None:
        """From here on it is the instant of that name."""
        for lane in self.lanes:
            lane.columns[_AT] = lane.columns[instant]
        self._fresh |= {_AT} if instant in self._fresh else set()

    def _assign(self, sets: Sets, at: str, *, if_any: bool = False, lanes: "Sequence[_Lane]" = ()) -> None:
        """Have the columns that anybody reads take new values at the instant of that name."""
        for name, term in sets:
            if name in self._read:
                self._put(name, term, at, if_any=if_any, lanes=lanes)

    def _put(
        self, name: str, term: Term, at: str = _AT, *, if_any: bool = False, lanes: "Sequence[_Lane]" = ()
    ) -> None:
        """Have one column take a new value. What it reads of this layer's own making becomes a column first."""
        read = fields_of(term) | {at} | ({name} if if_any else set())
        if read & self._fresh:
            self._layer()
        for lane in lanes or self.lanes:
            lane.put(name, term, at, if_any)
        if if_any or term.op not in ("field", "literal"):
            self._fresh.add(name)

    def _forget(self, read: frozenset[str]) -> None:
        """Carry on the instants, and of the account only what is still read."""
        self._read = read
        instants = {_named(*step) for step in self.steps} | {_AT}
        for lane in self.lanes:
            lane.columns = {name: value for name, value in lane.columns.items() if name in read | instants}
        self._layer()

    def _layer(self, where: Any = None) -> None:
        """Make a subquery of the columns so far; what both lanes have in common is carried once."""
        selected: dict[str, Any] = {"id": self._from.c.id}
        labels: list[dict[str, str]] = []
        for lane in self.lanes:
            labels.append({})
            for name, value in lane.columns.items():
                same = next((label for label, column in selected.items() if column is value), None)
                labels[-1][name] = same or f"{lane.name}_{name}"
                selected.setdefault(labels[-1][name], value)
        query = select(*(column.label(label) for label, column in selected.items())).select_from(self._from)
        if where is not None:
            query = query.where(where)
        self._layers += 1
        self._fresh.clear()
        # OFFSET keeps a database from melting it into the next one; nested subqueries would be too deep for SQLite.
        self._from = query.offset(literal_column("0")).cte(f"{self.source}_{self._layers}")
        for lane, names in zip(self.lanes, labels, strict=True):
            lane.columns = {name: self._from.c[label] for name, label in names.items()}

    # --- What is asked of it ------------------------------------------------------------------

    def both(self, event: Event, step: Step) -> tuple[Any, Any]:
        """The instant of a step under both policies."""
        before, after = (lane.columns[_named(event, step)] for lane in self.lanes)
        return before, after

    def counted(self, all_steps: Sequence[tuple[Event, Step]]) -> Select[Any]:
        """One row: how many accounts there are per step and change, and how many lose what in each span."""
        mine = set(self.steps)
        columns: list[Any] = [literal(str(self.source)).label("state")]
        for event, step in all_steps:
            changes = _changes(*self.both(event, step)) if (event, step) in mine else {}
            columns += [_count(changes.get(change), f"{_named(event, step)}_{change}") for change in Change]
        for what in LOSSES:
            losing = next((stage for stage in self.stages if what in stage.loses), None)
            for days in WITHIN:
                tests: Sequence[Any] = [None] * len(_LOSS_COLUMNS)
                if losing is not None:
                    tests = _losses(*self.both(losing.row.event, Step.FIRE), bindparam(f"in_{days}", type_=Instant))
                columns += [_count(test, f"{what}_{days}_{n}") for test, n in zip(tests, _LOSS_COLUMNS, strict=True)]
        return select(*columns).select_from(self._from)

    def listed(self, choice: Choice) -> tuple[list[tuple[Event, Step]], Select[Any]] | None:
        """The steps that are chosen, and what selects their accounts: the id, then both instants of each step."""
        if choice.state not in (None, self.source):
            return None
        steps = [
            (stage.row.event, step)
            for stage in self.stages
            for step in (Step.REMIND, Step.FIRE)
            if (stage.row.event, step) in set(self.steps) and choice.takes(stage, step)
        ]
        if not steps:
            return None
        both = [self.both(*step) for step in steps]
        wanted = or_(*(_changes(before, after)[change] for before, after in both for change in choice.changes))
        query = select(self._from.c.id, *(instant for pair in both for instant in pair)).where(wanted)
        if choice.within is not None:
            query = query.where(or_(*(instant <= _HORIZON for pair in both for instant in pair)))
        return steps, query.order_by(self._from.c.id)


_HORIZON = bindparam("horizon", type_=Instant)
_LOSS_COLUMNS = ("before", "after", "only_before", "only_after")


def _named(event: Event, step: Step) -> str:
    return f"{event}_{step}"


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


# --- What stands in other tables ------------------------------------------------------------------


def _facts(first: Stage) -> dict[str, Any]:
    """What a forecast reads beside the account, for accounts in the source of their first stage."""
    in_force = (legal_holds.c.account_id == accounts.c.id) & legal_holds.c.released_at.is_(None)
    all_end = func.count() == func.count(legal_holds.c.ends_at)
    ends_at = select(case((all_end, func.max(legal_holds.c.ends_at)))).where(in_force)
    facts = {
        HOLD_ENDS.args[1]: case((accounts.c.legal_holds > 0, _not_past(ends_at))),
        REQUEST_DUE.args[1]: cast(null(), Instant),
    }
    confirmation = timer_of(first.row).confirmation
    if confirmation is not None:
        waits = (outbox.c.account_id == accounts.c.id) & (outbox.c.status == Status.PENDING)
        due_at = select(func.max(outbox.c.due_at)).where(waits, outbox.c.effect == confirmation.effect)
        facts[REQUEST_DUE.args[1]] = case((accounts.c[confirmation.mark].is_not(None), _not_past(due_at)))
    return {name: type_coerce(fact, Instant) for name, fact in facts.items()}


def _not_past(query: Any) -> Any:
    """The instant that is selected, or now where that is past."""
    found = type_coerce(query.scalar_subquery(), Instant)
    return case((found < NOW, NOW), else_=found)


def _not_before(lane: _Lane, state: State) -> Any:
    """The date that the account's notice promises, also where it waits in the outbox to be delivered."""
    due_at = case((outbox.c.due_at < NOW, NOW), else_=outbox.c.due_at)
    leads = {effect: timer_of(reminded(effect, state)).notice for effect in REMINDS}
    promised = case(
        *(
            (outbox.c.effect == effect, type_coerce(due_at, Instant) + evaluate(notice.lead, {"policy": lane.policy}))
            for effect, notice in leads.items()
            if notice is not None
        )
    )
    waits = (outbox.c.account_id == accounts.c.id) & (outbox.c.number == accounts.c.reminder)
    waiting = select(promised).where(waits, outbox.c.status == Status.PENDING, outbox.c.effect.in_(list(REMINDS)))
    under_way = and_(accounts.c.reminder.is_not(None), accounts.c.not_before.is_(None))
    return type_coerce(case((under_way, waiting.scalar_subquery()), else_=accounts.c.not_before), Instant)
