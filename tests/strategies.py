"""Random accounts in every state of their life, with dates that crowd around the deadlines."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from lifecycle.invariants import INVARIANTS
from lifecycle.machine import due
from lifecycle.policy import Policy
from lifecycle.reads import Snapshot
from lifecycle.states import LIVE, Party, Plan, State
from lifecycle.sweep import TIMED_STATES
from lifecycle.tables import accounts
from lifecycle.terms import evaluate

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
POLICIES = (
    Policy(),
    Policy.from_mapping({"company_cancellation": "approval"}),
    Policy.from_mapping({"deletion_clock": "end_of_access", "activity_resolution": "1 day"}),
    Policy.from_mapping({"deletion_after": "45 days", "purge_after": "70 days", "company_notice": "6 days"}),
)
_DAYS = (0, 1, 6, 7, 8, 14, 16, 23, 29, 30, 31, 59, 60, 166, 180, 351, 365, 400)
_EDGES = (timedelta(microseconds=-1), timedelta(0), timedelta(microseconds=1), timedelta(hours=5))

#: Instants before and after NOW that lie on, just before and just after what the policies count.
instants = st.builds(
    lambda days, sign, edge: NOW + sign * timedelta(days=days) + edge,
    st.sampled_from(_DAYS),
    st.sampled_from((-1, -1, -1, 1)),
    st.sampled_from(_EDGES),
)
maybe_instants = st.none() | instants


@st.composite
def account_rows(draw: st.DrawFn, policy: Policy) -> dict[str, Any]:
    """A row of the account table that satisfies every invariant, its ``due_at`` right or too early."""
    state = draw(st.sampled_from(State))
    row: dict[str, Any] = {column.name: None for column in accounts.c}
    row |= {"state": state, "version": draw(st.integers(1, 9))}
    row |= {"opened_at": NOW - timedelta(days=900), "legal_holds": draw(st.sampled_from((0, 0, 1)))}
    row["plan"] = draw(_plans(state))
    for name in ("period_ends_at", "last_active_at", "hold_released_at", "period_began_at", "free_since"):
        row[name] = draw(maybe_instants)
    for name in ("trial_ends_at", "held_at", "frozen_at"):
        row[name] = draw(instants)
    row["suspended_from"] = (
        None if state in LIVE and state is not State.FROZEN else draw(st.none() | st.sampled_from(LIVE))
    )
    if state not in LIVE:
        row |= draw(_cancellation(state))
    if draw(st.booleans()):
        row |= {"reminder": row["version"], "reminded_at": draw(instants), "not_before": draw(maybe_instants)}
    right = due(Snapshot(row), NOW, policy)
    # The sweep must cope with a date that is too early (the lazy inactivity timer has one), never with one too late.
    early = state in TIMED_STATES and (right is None or right > NOW)
    row["due_at"] = NOW if early and draw(st.booleans()) else right
    return row


def _plans(state: State) -> st.SearchStrategy[Plan]:
    if state in (State.TRIAL, State.ON_HOLD):
        return st.just(Plan.TRIAL)
    return st.sampled_from((Plan.FREE, Plan.PAID) if state is State.ACTIVE else Plan)


@st.composite
def _cancellation(draw: st.DrawFn, state: State) -> dict[str, Any]:
    cancelled, *later = sorted(draw(st.lists(instants, min_size=6, max_size=6)))
    access, delete, purge, asked, done = later
    row = {
        "cancelled_at": cancelled,
        "cancelled_by": draw(st.sampled_from(Party)),
        "cancelled_from": draw(st.sampled_from(LIVE)),
        "terminated_at": draw(st.none() | st.just(cancelled)),
        "access_ends_at": access,
        "delete_content_at": delete,
        "purge_backups_by": purge,
    }
    if state is State.ACCESS_REVOKED:
        row["erasure_requested_at"] = draw(st.none() | st.just(asked))
    if state in (State.CONTENT_DELETED, State.PURGED):
        row |= {"erasure_requested_at": asked, "content_deleted_at": done}
        row["purge_requested_at"] = draw(st.none() | st.just(done))
    if state is State.PURGED:
        row |= {"purge_requested_at": done, "purged_at": done}
    return row


def populations(policy: Policy, size: int = 40, least: int = 1) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Accounts named a0, a1, …, each of them valid."""
    valid = account_rows(policy).filter(is_valid)
    return st.lists(valid, min_size=least, max_size=size).map(
        lambda rows: [{**row, "id": f"a{number}"} for number, row in enumerate(rows)]
    )


def is_valid(row: dict[str, Any]) -> bool:
    return all(evaluate(i.test, {"account": row, "now": NOW, "policy": Policy()}) is not False for i in INVARIANTS)
