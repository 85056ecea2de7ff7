"""What the rows of the definition are made of: assignments, stamped dates, refunds and timers.

Every deadline and every date that an account is promised is written here, once, as a term.
"""

from collections.abc import Mapping

from lifecycle import guards as g
from lifecycle.policy import DeletionClock
from lifecycle.rows import Assignment, Confirmation, Notice, Owed, Timer
from lifecycle.states import SUSPENDED, UNDER_LEGAL_HOLD, Effect, Party, Plan, State, account, request
from lifecycle.terms import Term, default, earliest, latest, literal, missing, now, policy, when

# --- What changes --------------------------------------------------------------------------------

NOTHING = literal(None)
VOID_NOTICE: tuple[Assignment, ...] = (("reminder", NOTHING), ("reminded_at", NOTHING), ("not_before", NOTHING))
#: "Cleared only when it is active again": no detour restarts a clock.
ACTIVATE = (*VOID_NOTICE, ("held_at", NOTHING), ("frozen_at", NOTHING), ("suspended_from", NOTHING))
LIFT: tuple[Assignment, ...] = (*VOID_NOTICE, ("suspended_from", NOTHING))
BRING_PERIOD: tuple[Assignment, ...] = (
    ("plan", when(~missing(request.period_ends_at), Plan.PAID, account.plan)),
    ("free_since", when(~missing(request.period_ends_at), None, account.free_since)),
    ("period_began_at", when(missing(request.period_ends_at), account.period_began_at, now)),
    ("period_ends_at", default(request.period_ends_at, account.period_ends_at)),
)
FREE_FROM_NOW: tuple[Assignment, ...] = (("plan", literal(Plan.FREE)), ("free_since", now))
FREE_AS_BEFORE: tuple[Assignment, ...] = (("free_since", default(account.free_since, now)),)
HOLD_FROM_NOW: tuple[Assignment, ...] = (("held_at", default(account.held_at, now)),)
FREEZE_FROM_NOW: tuple[Assignment, ...] = (("frozen_at", default(account.frozen_at, now)),)

#: How an account comes into being, by its plan: its first state, and the clock that starts beside :data:`OPENED`.
BEGINNINGS: Mapping[Plan, tuple[State, tuple[tuple[str, Term], ...]]] = {
    Plan.TRIAL: (State.TRIAL, (("trial_ends_at", now + policy.trial_length),)),
    Plan.FREE: (State.ACTIVE, (("free_since", now),)),
    Plan.PAID: (State.ACTIVE, (("period_began_at", now),)),
}
OPENED: tuple[tuple[str, Term], ...] = (
    ("version", literal(1)),
    ("opened_at", now),
    ("last_active_at", now),
    ("period_ends_at", request.period_ends_at),
    ("legal_holds", literal(0)),
)
#: Decision 8: whether activity ``now`` is written down, which what is on file may have made needless.
ACTIVITY_COUNTS = missing(account.last_active_at) | (
    (account.last_active_at < now) & (account.last_active_at <= now - policy.activity_resolution)
)

#: Decision 1: access until the end of the period that is paid wins over the days until deletion.
DELETION_DATE = when(
    policy.deletion_clock == DeletionClock.CANCELLATION,
    latest(account.cancelled_at + policy.deletion_after, account.access_ends_at),
    account.access_ends_at + policy.deletion_after,
)
PURGE_DEADLINE = latest(
    account.cancelled_at + policy.purge_after, account.delete_content_at + policy.purge_after_deletion
)
ACCESS_END = when(
    SUSPENDED,
    now,
    latest(
        now,
        default(account.period_ends_at, now),
        when(account.state == State.TRIAL, default(account.trial_ends_at, now), now),
    ),
)


def stamps(party: Party, access_end: Term) -> tuple[Assignment, ...]:
    """Decision 3: what every entry into a cancelled state writes down once and for all."""
    return (
        *VOID_NOTICE,
        ("cancelled_at", now),
        ("cancelled_by", literal(party)),
        ("cancelled_from", account.state),
        ("access_ends_at", access_end),
        ("delete_content_at", DELETION_DATE),
        ("purge_backups_by", PURGE_DEADLINE),
    )


_VOIDED = {name for name, _ in VOID_NOTICE}
#: Columns that a cancellation stamps: every cancelled account has them all, no other has any.
STAMPED: tuple[str, ...] = tuple(name for name, _ in stamps(Party.OWNER, ACCESS_END) if name not in _VOIDED)
UNSTAMP: tuple[Assignment, ...] = (*VOID_NOTICE, *((name, NOTHING) for name in (*STAMPED, "terminated_at")))
#: Stamped dates only ever lengthen.
LENGTHEN: tuple[Assignment, ...] = (
    # A suspended customer has no access; a payment must not become a way around the suspension.
    (
        "access_ends_at",
        when(SUSPENDED, account.access_ends_at, latest(account.access_ends_at, account.period_ends_at)),
    ),
    ("delete_content_at", latest(account.delete_content_at, DELETION_DATE)),
    ("purge_backups_by", latest(account.purge_backups_by, PURGE_DEADLINE)),
)
WITHDRAW_REQUESTS: tuple[Assignment, ...] = (
    (
        "erasure_requested_at",
        when(request.unclaimed & (account.state == State.ACCESS_REVOKED), None, account.erasure_requested_at),
    ),
    (
        "purge_requested_at",
        when(request.unclaimed & (account.state == State.CONTENT_DELETED), None, account.purge_requested_at),
    ),
)

# --- What is owed --------------------------------------------------------------------------------

#: Reasons for people to look at a refund (clause fair-refund), each with its sentence.
REFUND_REASONS: tuple[tuple[Term, str], ...] = (
    (
        (account.period_ends_at > now)
        & (default(account.last_active_at, account.opened_at) + policy.refund_unused <= now),
        "The account lay unused for {refund_unused} or more while a period is paid.",
    ),
    (
        (account.period_ends_at > now) & (now < account.period_began_at + policy.refund_new_period),
        "The paid period began less than {refund_new_period} ago.",
    ),
)
CANCELLATION_OWES = (
    Owed(Effect.STOP_BILLING),
    Owed(Effect.CONFIRM_CANCELLATION),
    Owed(Effect.REVIEW_REFUND, REFUND_REASONS[0][0] | REFUND_REASONS[1][0]),
)
RESUME = (Owed(Effect.RESUME_BILLING, account.plan == Plan.PAID),)
REVIEW = (Owed(Effect.REVIEW_REFUND),)

# --- Timers --------------------------------------------------------------------------------------


def company_timer(clock: Term, after: Term) -> Timer:
    """A cancellation by the company: ``after`` the ``clock`` began, with the company's notice."""
    deadline = clock + after
    return Timer(
        deadline,
        deadline,
        notice=Notice(Effect.REMIND_COMPANY_CANCELLATION, deadline - policy.company_notice, policy.company_notice),
        automatic=g.automatic.term,
    )


INACTIVE_SINCE = latest(default(account.last_active_at, account.free_since), account.free_since)
TRIAL_TIMER = Timer(
    account.trial_ends_at,
    account.opened_at + policy.trial_length,
    notice=Notice(
        Effect.REMIND_TRIAL_END,
        account.trial_ends_at - policy.trial_reminder,
        policy.trial_reminder,
        binding=False,
    ),
)
EXPIRED_TRIAL_TIMER = company_timer(account.held_at, policy.expired_trial_cancellation_after)
UNPAID_TIMER = company_timer(account.frozen_at, policy.unpaid_cancellation_after)
INACTIVE_TIMER = company_timer(INACTIVE_SINCE, policy.inactive_cancellation_after + policy.activity_resolution)
#: The reminder before access ends names the deletion date too: delivered, it promises the deletion's notice.
ACCESS_TIMER = Timer(
    account.access_ends_at,
    account.access_ends_at,
    notice=Notice(
        Effect.REMIND_ACCESS_END,
        account.access_ends_at - policy.access_reminder,
        policy.deletion_notice,
        binding=False,
    ),
)


def after_hold(deadline: Term) -> Term:
    """Decision 7: after the release of a legal hold, destruction waits for the release notice."""
    return latest(deadline, default(account.hold_released_at + policy.hold_release_notice, deadline))


_DELETE_AT = after_hold(account.delete_content_at)
DELETION_TIMER = Timer(
    _DELETE_AT,
    DELETION_DATE,
    notice=Notice(
        Effect.REMIND_DELETION,
        # Decision 5: the reminder before access ended counts when deletion follows it closely.
        when(
            account.access_ends_at + policy.deletion_notice > _DELETE_AT,
            earliest(_DELETE_AT - policy.deletion_notice, account.access_ends_at - policy.access_reminder),
            _DELETE_AT - policy.deletion_notice,
        ),
        policy.deletion_notice,
    ),
    confirmation=Confirmation("erasure_requested_at", Effect.DELETE_CONTENT),
    blocked=UNDER_LEGAL_HOLD,
)
PURGE_TIMER = Timer(
    after_hold(account.purge_backups_by - policy.purge_lead),
    PURGE_DEADLINE - policy.purge_lead,
    confirmation=Confirmation("purge_requested_at", Effect.PURGE_BACKUPS),
    blocked=UNDER_LEGAL_HOLD,
)
