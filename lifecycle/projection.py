"""Every account's timers ahead, worked out by the database under two policies beside each other.

:mod:`lifecycle.forecast` says when each timer reminds and fires, as terms; here these become one query per state.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, case, cast, func, literal_column, null, select, type_coerce
from sqlalchemy.sql.elements import Null

from lifecycle.forecast import HOLD_ENDS, REQUEST_DUE, VOIDED_NOTICE, Sets, Stage, fields_of
from lifecycle.instants import Instant
from lifecycle.moves import NOW
from lifecycle.outcomes import REMINDS, reminded
from lifecycle.policy import Policy
from lifecycle.rows import timer_of
from lifecycle.states import Event, State, Step
from lifecycle.sweep import VOIDED, voids_notices
from lifecycle.tables import COLUMNS, Status, accounts, legal_holds, outbox
from lifecycle.terms import Term, compile_term, evaluate

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


class Chain:
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
        #: The accounts, with the instants found so far.
        self.accounts: Any = accounts
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
        reminded_at, fired_at = named(event, Step.REMIND), named(event, Step.FIRE)
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
        instants = {named(*step) for step in self.steps} | {_AT}
        for lane in self.lanes:
            lane.columns = {name: value for name, value in lane.columns.items() if name in read | instants}
        self._layer()

    def _layer(self, where: Any = None) -> None:
        """Make a subquery of the columns so far; what both lanes have in common is carried once."""
        selected: dict[str, Any] = {"id": self.accounts.c.id}
        labels: list[dict[str, str]] = []
        for lane in self.lanes:
            labels.append({})
            for name, value in lane.columns.items():
                same = next((label for label, column in selected.items() if column is value), None)
                labels[-1][name] = same or f"{lane.name}_{name}"
                selected.setdefault(labels[-1][name], value)
        query = select(*(column.label(label) for label, column in selected.items())).select_from(self.accounts)
        if where is not None:
            query = query.where(where)
        self._layers += 1
        self._fresh.clear()
        # OFFSET keeps a database from melting it into the next one; nested subqueries would be too deep for SQLite.
        self.accounts = query.offset(literal_column("0")).cte(f"{self.source}_{self._layers}")
        for lane, names in zip(self.lanes, labels, strict=True):
            lane.columns = {name: self.accounts.c[label] for name, label in names.items()}

    def both(self, event: Event, step: Step) -> tuple[Any, Any]:
        """The instant of a step under both policies."""
        before, after = (lane.columns[named(event, step)] for lane in self.lanes)
        return before, after


def named(event: Event, step: Step) -> str:
    """The column of a step's instant."""
    return f"{event}_{step}"


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
