"""What the row of an import may leave out, and what it must satisfy beyond its grammar.

The definition's own terms derive what a row omits and check what it states, so that an imported
account could have come to be where it is by the events of the machine.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from lifecycle import deadlines as d
from lifecycle.invariants import INVARIANTS, among, given
from lifecycle.states import CANCELLED, DESTROYED, LIVE, SUSPENDED, Plan, State, account
from lifecycle.terms import OPERATIONS, Term, default, earliest, latest, literal, missing, now, when

#: Dates of what has happened; none of them can lie in the future.
PAST = (
    "opened_at", "period_began_at", "held_at", "frozen_at", "free_since", "last_active_at", "cancelled_at",
    "terminated_at", "erasure_requested_at", "content_deleted_at", "purge_requested_at", "purged_at",
    "hold_released_at",
)  # fmt: skip
INSTANTS = (*PAST, "trial_ends_at", "period_ends_at", "access_ends_at", "delete_content_at", "purge_backups_by")

# --- What a row may omit -------------------------------------------------------------------------


def _substituted(term: Term, places: Mapping[tuple[str, str], Term]) -> Term:
    """``term`` with some of its fields read elsewhere."""
    if term.op == "field":
        return places.get(term.args, term)
    return term if term.op == "literal" else Term(term.op, *(_substituted(arg, places) for arg in term.args))


def _field(column: str) -> Term:
    return Term("field", "account", column)


def _one_of(column: str, states: Iterable[State]) -> Term:
    condition = literal(False)
    for state in states:
        condition = condition | (_field(column) == state)
    return condition


def _was(*states: State) -> Term:
    """Whether the account was in one of ``states`` before its suspension or cancellation."""
    return _one_of("cancelled_from", states) | _one_of("suspended_from", states)


_ON_TRIAL = _was(State.TRIAL, State.ON_HOLD)
#: The end of access as the cancellation stamped it, whatever happened since. Who was suspended before the
#: cancellation was cancelled from frozen; any other suspension came later.
_ACCESS_STAMPED = when(
    account.terminated_at <= account.cancelled_at,
    account.cancelled_at,
    _substituted(
        d.ACCESS_END,
        {
            ("now", "now"): account.cancelled_at,
            ("account", "state"): account.cancelled_from,
            ("account", "suspended_from"): when(account.cancelled_from == State.FROZEN, account.suspended_from, None),
        },
    ),
)
#: In doubt later: a termination or suspension after the cancellation ended access, but kept this date.
_DELETION_STAMPED = _substituted(
    d.DELETION_DATE, {("account", "access_ends_at"): latest(account.access_ends_at, _ACCESS_STAMPED)}
)
#: (column, where it may be derived, from what), in this order. Where a date is in doubt there is no
#: derivation, since an early clock would hurt the customer: the row must state it.
DERIVED: tuple[tuple[str, Term, Term], ...] = (
    ("plan", among(State.TRIAL, State.ON_HOLD) | _ON_TRIAL, literal(Plan.TRIAL)),
    ("held_at", among(State.ON_HOLD), account.trial_ends_at),
    ("trial_ends_at", among(State.TRIAL) | _was(State.TRIAL), d.TRIAL_TIMER.counted),
    ("access_ends_at", among(*CANCELLED),
     earliest(_ACCESS_STAMPED, default(account.terminated_at, _ACCESS_STAMPED))),
    ("delete_content_at", among(*CANCELLED), _DELETION_STAMPED),
    ("purge_backups_by", among(*CANCELLED), d.PURGE_DEADLINE),
    ("erasure_requested_at", among(*DESTROYED), account.content_deleted_at),
    ("purge_requested_at", among(State.PURGED), account.purged_at),
)  # fmt: skip

# --- What is refused -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rule:
    """A condition on an imported account that must not be false; ``column`` is where it is reported."""

    column: str
    test: Term
    sentence: str

    @property
    def reads(self) -> frozenset[str]:
        """The columns that the rule looks at."""
        return reads(self.test)


def reads(term: Term) -> frozenset[str]:
    """The account's columns that the term looks at."""
    return frozenset(t.args[1] for t in term.walk() if t.op == "field" and t.args[0] == "account")


Reading = Callable[[Mapping[str, Any]], Any]


def reading(term: Term) -> Reading:
    """A function that evaluates the term on an account's columns: for a term that many rows are checked with.

    The term reads nothing but the account; ``now`` and the policy are written into it before.
    """
    if term.op == "literal":
        (value,) = term.args
        return lambda columns: value
    if term.op == "field":
        return itemgetter(term.args[1])
    operation = OPERATIONS[term.op]
    evaluate, strict = operation.evaluate, operation.strict
    operands = [reading(arg) for arg in term.args]
    if strict and len(operands) == 2:
        first, second = operands

        def both(columns: Mapping[str, Any]) -> Any:
            a, b = first(columns), second(columns)
            return None if a is None or b is None else evaluate(a, b)

        return both

    def all_of_them(columns: Mapping[str, Any]) -> Any:
        values = [operand(columns) for operand in operands]
        return None if strict and any(value is None for value in values) else evaluate(*values)

    return all_of_them


def _only(column: str, *states: State) -> Rule:
    return Rule(column, ~given(column) | among(*states), f"is set only in the states {', '.join(states)}.")


def _order(later: str, earlier: str) -> Rule:
    return Rule(later, _field(later) >= _field(earlier), f"lies before {earlier}.")


def _reported_at(test: Term) -> str:
    """The column under which a broken invariant is reported: the first one that is not state or plan."""
    names = [t.args[1] for t in test.walk() if t.op == "field" and t.args[0] == "account"]
    return next((name for name in names if name not in ("state", "plan")), "plan")


_BILLING_FROZEN = among(State.FROZEN) & ~SUSPENDED
RULES: tuple[Rule, ...] = (
    *(Rule(_reported_at(i.test), i.test, i.sentence) for i in INVARIANTS),
    *(Rule(name, _field(name) <= now, "lies in the future.") for name in PAST),
    *(_order(name, "opened_at") for name in INSTANTS if name != "opened_at"),
    *(_order(*pair) for pair in (
        ("period_ends_at", "period_began_at"), ("held_at", "trial_ends_at"), ("terminated_at", "cancelled_at"),
        ("content_deleted_at", "erasure_requested_at"), ("purge_requested_at", "content_deleted_at"),
        ("purged_at", "purge_requested_at"),
    )),
    # Stale clocks would be taken up again by the next hold or freeze.
    _only("held_at", State.ON_HOLD, State.FROZEN, *CANCELLED),
    _only("frozen_at", State.FROZEN, *CANCELLED),
    _only("terminated_at", State.ACCESS_REVOKED, *DESTROYED),
    # A request without its row in the outbox would never be answered.
    _only("erasure_requested_at", *DESTROYED),
    _only("purge_requested_at", State.PURGED),
    *(Rule(name, missing(_field(name)) | _one_of(name, LIVE), f"is one of {', '.join(LIVE)}.")
      for name in ("cancelled_from", "suspended_from")),
    Rule("plan", ~_ON_TRIAL | (account.plan == Plan.TRIAL), "is trial: it was in trial or on_hold before."),
    Rule("plan", ~_was(State.ACTIVE) | (account.plan != Plan.TRIAL), "is free or paid: it was active before."),
    Rule("plan", ~(_BILLING_FROZEN | (account.suspended_from == State.FROZEN)) | (account.plan == Plan.PAID),
         "is paid: only a paid plan is frozen for billing."),
    Rule("free_since", ~given("free_since") | (account.plan == Plan.FREE), "belongs to the plan free."),
    Rule("trial_ends_at", ~among(State.ON_HOLD) | (account.trial_ends_at <= now),
         "lies in the future: the trial still runs, so the state is trial."),
    Rule("period_ends_at", ~_BILLING_FROZEN | (account.period_ends_at <= now),
         "lies in the future: who has paid is active, not frozen."),
    Rule("access_ends_at", ~among(State.ACCESS_REVOKED, *DESTROYED) | (account.access_ends_at <= now),
         "lies in the future: until then the state is cancel_pending."),
    Rule("access_ends_at",
         ~among(State.CANCEL_PENDING) | SUSPENDED | (account.access_ends_at >= account.period_ends_at),
         "lies before period_ends_at: access lasts as long as was paid for."),
    Rule("access_ends_at", account.access_ends_at <= account.terminated_at, "lies after terminated_at."),
    Rule("delete_content_at", account.delete_content_at >= d.DELETION_DATE,
         "lies before the date that the policy promises."),
    Rule("legal_holds", ~among(State.PURGED) | (account.legal_holds == 0), "can't bind a purged account."),
)  # fmt: skip
