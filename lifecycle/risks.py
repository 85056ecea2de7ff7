"""What endangers a promise, as conditions on accounts: counted by doctor and by the daemon at every look."""

from dataclasses import dataclass
from datetime import timedelta

from lifecycle.invariants import among, given
from lifecycle.machine import TIMERS
from lifecycle.rows import timer_of
from lifecycle.states import UNDER_LEGAL_HOLD, Plan, State, account
from lifecycle.terms import Term, literal, now, policy

#: How long an answer from outside may take before it is reported.
PATIENCE = literal(timedelta(days=1))
#: How long a due timer may wait for a sweep before it is reported.
OVERDUE = literal(timedelta(minutes=5))


@dataclass(frozen=True, eq=False)
class Risk:
    """Accounts that satisfy ``test`` endanger a promise, or (``broken``) show that one was not kept."""

    name: str
    test: Term
    message: str
    advice: str
    broken: bool = False


def _binding_states() -> tuple[State, ...]:
    """States whose timer waits for its notice to be delivered."""
    return tuple(s for row in TIMERS if (n := timer_of(row).notice) and n.binding for s in row.sources)


RISKS: tuple[Risk, ...] = (
    Risk(
        "timer_overdue",
        account.due_at + OVERDUE <= now,
        "Accounts that have been due for more than 5 minutes",
        "Start the daemon, or run `lifecycle sweep`.",
    ),
    Risk(
        "billing_silent",
        among(State.ACTIVE) & (account.plan == Plan.PAID) & (account.period_ends_at + policy.billing_silence <= now),
        "Paid accounts whose period is over, and that billing has neither renewed nor frozen",
        "Look at the link from billing: it must fire renew or freeze.",
    ),
    Risk(
        "notice_undelivered",
        among(*_binding_states())
        & given("reminded_at")
        & ~given("not_before")
        & (account.reminded_at + PATIENCE <= now),
        "Accounts whose notice was not delivered within a day",
        "Look at `lifecycle outbox list`; nobody is cancelled or deleted without notice.",
    ),
    Risk(
        "erasure_unconfirmed",
        among(State.ACCESS_REVOKED) & ~UNDER_LEGAL_HOLD & (account.erasure_requested_at + PATIENCE <= now),
        "Accounts whose erasure no handler has confirmed within a day",
        "Look at `lifecycle outbox list`; is there a handler for delete_content?",
    ),
    Risk(
        "purge_endangered",
        among(State.ACCESS_REVOKED, State.CONTENT_DELETED)
        & ~UNDER_LEGAL_HOLD
        & (account.purge_backups_by > now)
        & (account.purge_backups_by - policy.purge_lead + OVERDUE <= now),
        "Accounts that must be purged from backups within the lead time, and are not yet",
        "Look at `lifecycle outbox list`; is there a handler for purge_backups?",
    ),
    Risk(
        "purge_broken",
        among(State.ACCESS_REVOKED, State.CONTENT_DELETED) & ~UNDER_LEGAL_HOLD & (account.purge_backups_by <= now),
        "Accounts past the instant by which their backups were promised to be purged",
        "Look at `lifecycle show ID` and `lifecycle outbox list` for what hinders it; a notice that runs comes first.",
        broken=True,
    ),
)
