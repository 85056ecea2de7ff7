"""What every account satisfies in every state: CHECK constraints of the schema, and checks of an import.

Written as terms, so that the database, the importer and the tests read the same sentence.
"""

from dataclasses import dataclass

from lifecycle.deadlines import STAMPED
from lifecycle.machine import TIMERS
from lifecycle.states import CANCELLED, DESTROYED, SUSPENDED, Plan, State, account
from lifecycle.terms import Term, literal, missing


@dataclass(frozen=True, eq=False)
class Invariant:
    """A condition that holds on every account at every moment; false, not NULL, is a violation."""

    name: str
    test: Term
    sentence: str


def among(*states: State) -> Term:
    """Whether the account is in one of ``states``."""
    condition = account.state == states[0]
    for state in states[1:]:
        condition = condition | (account.state == state)
    return condition


def given(column: str) -> Term:
    """Whether a column of the account is set."""
    return ~missing(Term("field", "account", column))


def _implies(condition: Term, consequence: Term) -> Term:
    return ~condition | consequence


def _always_timed() -> Term:
    """States whose timer never rests or waits for a notice: they always have a next instant."""
    condition = literal(False)
    for row in TIMERS:
        timer = row.timer
        rests = timer is None or timer.confirmation is not None or row.bracket is not None
        if timer and not rests and not (timer.notice and timer.notice.binding):
            condition = condition | among(*row.sources)
    return condition


INVARIANTS: tuple[Invariant, ...] = (
    *(
        Invariant(
            f"stamped_{column}",
            _implies(among(*CANCELLED), given(column)) & _implies(given(column), among(*CANCELLED)),
            f"{column} is set in the states {', '.join(CANCELLED)} and in no other.",
        )
        for column in STAMPED
    ),
    Invariant(
        "plan_of_trial",
        _implies(among(State.TRIAL, State.ON_HOLD), account.plan == Plan.TRIAL),
        "An account in trial or on_hold has the plan trial.",
    ),
    Invariant(
        "plan_of_active",
        _implies(among(State.ACTIVE), account.plan != Plan.TRIAL),
        "An active account has the plan free or paid.",
    ),
    Invariant(
        "trial_end", _implies(among(State.TRIAL), given("trial_ends_at")), "An account in trial has trial_ends_at."
    ),
    Invariant("hold_start", _implies(among(State.ON_HOLD), given("held_at")), "An account on_hold has held_at."),
    Invariant(
        "frozen_why",
        _implies(among(State.FROZEN), given("frozen_at") | SUSPENDED),
        "A frozen account has frozen_at (billing) or suspended_from (suspension).",
    ),
    Invariant(
        "suspended_where",
        _implies(among(State.TRIAL, State.ON_HOLD, State.ACTIVE), ~SUSPENDED),
        "suspended_from is set only in frozen and cancelled accounts.",
    ),
    Invariant(
        "free_start",
        _implies(among(State.ACTIVE) & (account.plan == Plan.FREE), given("free_since")),
        "An active account on the free plan has free_since.",
    ),
    Invariant(
        "paid_period",
        _implies(among(State.ACTIVE) & (account.plan == Plan.PAID), given("period_ends_at")),
        "An active account on a paid plan has period_ends_at.",
    ),
    Invariant(
        "access_after_cancellation",
        account.access_ends_at >= account.cancelled_at,
        "Access does not end before the cancellation.",
    ),
    Invariant(
        "deletion_after_access",
        account.delete_content_at >= account.access_ends_at,
        "The deletion date does not lie before the end of access.",
    ),
    Invariant(
        "purge_after_deletion",
        account.purge_backups_by >= account.delete_content_at,
        "The purge deadline does not lie before the deletion date.",
    ),
    Invariant(
        "erasure_after_date",
        account.erasure_requested_at >= account.delete_content_at,
        "Erasure is never requested before the deletion date.",
    ),
    Invariant(
        "erasure_where",
        _implies(given("erasure_requested_at"), among(State.ACCESS_REVOKED, *DESTROYED)),
        "Erasure is requested only once access is revoked.",
    ),
    Invariant(
        "deleted_after_request",
        _implies(among(*DESTROYED), given("erasure_requested_at") & given("content_deleted_at"))
        & _implies(given("content_deleted_at"), among(*DESTROYED)),
        "Accounts without content, and no others, have content_deleted_at and what asked for it.",
    ),
    Invariant(
        "purged_after_request",
        _implies(among(State.PURGED), given("purge_requested_at") & given("purged_at"))
        & _implies(given("purge_requested_at"), among(*DESTROYED)),
        "A purged account has purge_requested_at and purged_at.",
    ),
    Invariant(
        "notice_whole",
        _implies(given("reminded_at"), given("reminder")) & _implies(given("not_before"), given("reminded_at")),
        "A delivered notice was requested, and the request is in the history.",
    ),
    Invariant("always_timed", _implies(_always_timed(), given("due_at")), "A state with a timer has due_at."),
    Invariant(
        "timed_where",
        _implies(given("due_at"), among(*(state for row in TIMERS for state in row.sources))),
        "Only states with a timer have due_at.",
    ),
    Invariant(
        "counts", (account.version >= literal(1)) & (account.legal_holds >= literal(0)), "Counts are not negative."
    ),
)
