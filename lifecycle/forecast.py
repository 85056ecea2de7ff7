"""What timers will do to an account if nobody else does anything, as terms: when each reminds, and when it fires.

A sweep finds this out by living through it; these terms solve the same conditions of the machine for the instant, so
that a million accounts can be foretold by one statement. It is taken for granted that sweeps come in time, that notices
and requests are delivered at once, that what waits in the outbox is delivered when it is tried next, and that the brake
is open.

Beside the columns of an account a forecast reads two facts that stand in other tables; each may be NULL.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lifecycle.deadlines import VOID_NOTICE
from lifecycle.errors import DefinitionError
from lifecycle.machine import TIMERS
from lifecycle.rows import Notice, Timer, Transition, timer_of
from lifecycle.states import ENTITLEMENTS, UNDER_LEGAL_HOLD, State, account
from lifecycle.terms import Term, latest, literal, missing, now, replaced, when

#: When the destructive request that waits in the outbox is delivered.
REQUEST_DUE = Term("field", "account", "request_due_at")
#: The dates that a timer counts by, once they are worked out.
_DEADLINE, _OPENS = "deadline", "opens"
DEADLINE, OPENS = Term("field", "account", _DEADLINE), Term("field", "account", _OPENS)
#: When the last legal hold in force ends by itself; never while one has no end.
HOLD_ENDS = Term("field", "account", "hold_ends_at")


Sets = tuple[tuple[str, Term], ...]


@dataclass(frozen=True, eq=False)
class Stage:
    """One timer ahead of an account that is in ``source`` from ``now`` on, in the order in which it is worked out.

    ``begins`` is when a block ends (``now`` without one), and ``released`` what that changes. From then on, as ``now``:
    ``dates`` are those that the timer counts by, and ``reminds`` and ``fires``, which read them, are instants or NULL.
    ``notified`` is what the reminder changes, at its own instant, and ``sets`` what the event changes, at the instant
    at which it fires.
    """

    source: State
    row: Transition
    begins: Term
    released: Sets
    dates: Sets
    reminds: Term | None
    notified: Sets
    fires: Term
    sets: Sets

    @property
    def reads(self) -> frozenset[str]:
        """The columns of the account, and the facts, that it takes to work this out."""
        terms = (
            self.begins,
            now if self.reminds is None else self.reminds,
            self.fires,
            *(term for _, term in self._assigned),
        )
        return frozenset().union(*map(fields_of, terms))

    @property
    def _assigned(self) -> Sets:
        return (*self.released, *self.dates, *self.notified, *self.sets)

    @property
    def dest(self) -> State:
        """Where the event leads."""
        return self.row.enters(self.source)

    @property
    def loses(self) -> tuple[str, ...]:
        """What the customer no longer has afterwards, of :data:`LOSSES`."""
        before, after = ENTITLEMENTS[self.source], ENTITLEMENTS[self.dest]
        return tuple(
            name for name, granted in LOSSES.items() if getattr(before, granted) and not getattr(after, granted)
        )


def fields_of(term: Term) -> frozenset[str]:
    """The fields of the account that a term reads."""
    return frozenset(t.args[1] for t in term.walk() if t.op == "field" and t.args[0] == "account")


#: What an account can lose, by the entitlement that says so.
LOSSES = {"access": "sign_in", "content": "content"}


def chains() -> Iterator[tuple[Stage, ...]]:
    """For every state that a timer leaves: that timer, and those that follow it, to the end of the account's life."""
    for row in TIMERS:
        for source in row.sources:
            yield tuple(_ahead(row, source))


def _ahead(row: Transition, source: State) -> Iterator[Stage]:
    while True:
        yield _stage(row, source)
        source = row.enters(source)
        following = [one for one in TIMERS if source in one.sources]
        if not following:
            return
        if len(following) > 1:
            raise DefinitionError(f"A forecast follows one timer out of {source}, not {following}.")
        row = following[0]


def _stage(row: Transition, source: State) -> Stage:
    timer = timer_of(row)
    blocks = timer.blocked.op != "literal"
    fires = when(timer.automatic, _fires(timer), None)
    sets = (*_marked(timer), *row.sets)
    return Stage(
        source,
        row,
        begins=when(timer.blocked, latest(now, HOLD_ENDS), now) if blocks else now,
        released=_RELEASED if blocks else (),
        dates=_dates(timer),
        reminds=_reminds(timer),
        notified=_notified(timer),
        fires=fires if row.bracket is None else when(row.bracket.term, fires, None),
        sets=tuple((name, _known(term, source)) for name, term in sets if isinstance(term, Term)),
    )


#: What it changes that a notice is voided.
VOIDED_NOTICE: Sets = tuple((name, term) for name, term in VOID_NOTICE if isinstance(term, Term))
#: What it changes that the last legal hold has come to its end.
_RELEASED: Sets = (
    ("hold_released_at", when(UNDER_LEGAL_HOLD, HOLD_ENDS, account.hold_released_at)),
    ("legal_holds", literal(0)),
)


def _known(term: Term, state: State) -> Term:
    """The same term for an account that is known to be in ``state``."""
    fields = {t: literal(state) for t in term.walk() if t.op == "field" and t.args == ("account", "state")}
    return replaced(term, fields)


def _requested(timer: Timer) -> Term:
    return literal(False) if timer.confirmation is None else ~missing(_mark(timer))


def _mark(timer: Timer) -> Term:
    assert timer.confirmation is not None
    return Term("field", "account", timer.confirmation.mark)


def _marked(timer: Timer) -> Sets:
    return () if timer.confirmation is None else ((timer.confirmation.mark, now),)


def _dates(timer: Timer) -> Sets:
    dates = ((_DEADLINE, timer.deadline),)
    if timer.notice is None:
        return dates
    return (*dates, (_OPENS, replaced(timer.notice.opens, {timer.deadline: DEADLINE})))


def _given(notice: Notice) -> Term:
    return replaced(notice.given, {notice.opens: OPENS})


def _reminds(timer: Timer) -> Term | None:
    """When the sweep asks for the reminder; a reminder that holds nothing up is not given once it is too late."""
    notice = timer.notice
    if notice is None:
        return None
    at = latest(now, OPENS)
    if not notice.binding:
        at = when(at < DEADLINE, at, None)
    return when(_requested(timer) | _given(notice), None, at)


def _notified(timer: Timer) -> Sets:
    notice = timer.notice
    return () if notice is None else (("reminded_at", now), ("not_before", now + notice.lead))


def _fires(timer: Timer) -> Term:
    """When the event fires, or is requested and confirmed; NULL for never."""
    at = reached = latest(now, DEADLINE)
    notice = timer.notice
    if notice is not None and notice.binding:
        # What was not given is asked for as soon as it may be, and counts from then.
        at = latest(reached, when(_given(notice), account.not_before, latest(now, OPENS) + notice.lead))
    return at if timer.confirmation is None else when(_requested(timer), latest(reached, REQUEST_DUE), at)
