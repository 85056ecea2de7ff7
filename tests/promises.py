"""The promises that hold always, checked on a database and on what its handlers were asked to do.

The numbers are those of section "Promises that hold always" in docs/policy.md.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from lifecycle import Effect, Engine, State, Task
from lifecycle.machine import due
from lifecycle.reads import HistoryEntry, Snapshot
from lifecycle.states import CANCELLED, DESTRUCTIVE, entitlements
from lifecycle.tables import Status, outbox, receipts

COMPANY_EVENTS = ("cancel_expired_trial", "cancel_unpaid", "cancel_inactive")
THIRTY_DAYS = timedelta(days=30)


@dataclass(frozen=True)
class Destruction:
    """A destructive task as its handler saw it, with the account at that moment."""

    task: Task
    account: Snapshot
    at: datetime


def check(engine: Engine, destructions: list[Destruction]) -> None:
    """Fail on the first promise that is broken."""
    now = engine.clock.now()
    for account in engine.accounts():
        entries = engine.history(account.id)
        history_is_contiguous_and_folds_to_the_state(account, entries)
        stamped_dates_keep_the_policy(account, engine)
        due_at_is_never_too_late(account, now, engine)
        nobody_is_billed_after_cancellation(account, now)
        only_owners_and_the_three_clauses_cancel(entries)
        company_and_deletion_give_notice(entries, engine)
        suspensions_end_by_an_admin_alone(entries)
        what_was_reactivated_is_not_erased(account, entries, destructions)
    for destruction in destructions:
        destruction_was_due_requested_and_free(destruction)
    claims_of_destruction_have_receipts(engine)


def history_is_contiguous_and_folds_to_the_state(account: Snapshot, entries: list[HistoryEntry]) -> None:  # 1
    assert [entry.number for entry in entries] == list(range(1, account.version + 1))
    state = None
    for entry in entries:
        assert entry.source == state, f"{entry} does not begin where the one before it ended ({state})"
        state = entry.dest
    assert state == account.state


def stamped_dates_keep_the_policy(account: Snapshot, engine: Engine) -> None:  # 2, 3, 7
    if account.state not in CANCELLED:
        assert account.erasure_requested_at is None
        return
    assert account.delete_content_at >= account.cancelled_at + THIRTY_DAYS
    assert account.delete_content_at >= account.access_ends_at >= account.cancelled_at
    assert account.purge_backups_by >= account.cancelled_at + engine.policy.purge_after
    if account.erasure_requested_at is not None:
        assert account.erasure_requested_at >= account.delete_content_at
    forced = account.terminated_at or account.suspended_from
    if account.state is State.CANCEL_PENDING and account.period_ends_at and not forced:
        paid_through = min(account.period_ends_at, account.access_ends_at)
        assert account.access_ends_at >= paid_through


def due_at_is_never_too_late(account: Snapshot, now: datetime, engine: Engine) -> None:  # 9
    right = due(account, now, engine.policy)
    if account.due_at is None:
        assert right is None, f"{account!r} is forgotten: {right} was expected"
    else:
        assert right is not None
        assert account.due_at <= right


def nobody_is_billed_after_cancellation(account: Snapshot, now: datetime) -> None:  # 7
    if account.state in CANCELLED:
        assert not entitlements(account, now).billed


def only_owners_and_the_three_clauses_cancel(entries: list[HistoryEntry]) -> None:  # 8
    for entry in entries:
        if entry.step == "fire" and entry.event == "cancel":
            assert entry.owner is not None
        if entry.step == "fire" and entry.event in COMPANY_EVENTS:
            assert entry.actor.startswith("system:")
        if entry.step == "fire" and entry.event == "terminate":
            assert entry.actor.startswith("admin:")


def company_and_deletion_give_notice(entries: list[HistoryEntry], engine: Engine) -> None:  # 11
    promised: HistoryEntry | None = None
    for entry in entries:
        if entry.step == "notice":
            promised = entry
        elif entry.step == "fire" and entry.event in COMPANY_EVENTS:
            assert promised is not None and promised.event == entry.event
            assert entry.at >= promised.at + engine.policy.company_notice
        elif entry.step == "request" and entry.event == "delete_content":
            assert promised is not None and promised.event in ("delete_content", "revoke_access")
            assert entry.at >= promised.at + engine.policy.deletion_notice
        if entry.source is not entry.dest and entry.event not in ("revoke_access", "suspend", "terminate"):
            promised = None  # a notice counts only for the clock that it was given for


def suspensions_end_by_an_admin_alone(entries: list[HistoryEntry]) -> None:  # 11
    suspended = False
    for entry in entries:
        if entry.event == "suspend":
            suspended = True
        elif entry.event == "lift_suspension":
            assert entry.actor.startswith("admin:")
            suspended = False
        if suspended:
            assert entry.dest is State.FROZEN or entry.dest in CANCELLED


def what_was_reactivated_is_not_erased(  # 4
    account: Snapshot, entries: list[HistoryEntry], destructions: list[Destruction]
) -> None:
    back = [entry.number for entry in entries if entry.event == "reactivate"]
    asked = [entry.number for entry in entries if entry.step == "request"]
    assert not back or not asked or max(back) < min(asked)
    if account.state not in CANCELLED:
        assert not [d for d in destructions if d.task.account_id == account.id]


def destruction_was_due_requested_and_free(destruction: Destruction) -> None:  # 2, 5, 6
    account = destruction.account
    assert account.legal_holds == 0
    assert destruction.at >= account.cancelled_at + THIRTY_DAYS
    assert destruction.at >= account.access_ends_at
    if destruction.task.effect == Effect.DELETE_CONTENT:
        assert account.state is State.ACCESS_REVOKED
        assert account.erasure_requested_at is not None
    else:
        assert account.state is State.CONTENT_DELETED
        assert account.purge_requested_at is not None


def claims_of_destruction_have_receipts(engine: Engine) -> None:  # 5
    with engine.database.read() as connection:
        live = connection.execute(
            select(outbox.c.account_id, outbox.c.effect, func.count())
            .where(outbox.c.effect.in_(DESTRUCTIVE), outbox.c.status.in_((Status.PENDING, Status.PARKED)))
            .group_by(outbox.c.account_id, outbox.c.effect)
        ).all()
        given: dict[tuple[str, Any], str] = {
            (row.account_id, row.effect): row.text for row in connection.execute(select(receipts))
        }
    assert all(count == 1 for _, _, count in live)
    for account in engine.accounts():
        for state, effect in ((State.CONTENT_DELETED, Effect.DELETE_CONTENT), (State.PURGED, Effect.PURGE_BACKUPS)):
            if account.state is state and any(e.event == effect for e in engine.history(account.id)):
                assert given.get((account.id, effect)), f"{account!r} has no receipt for {effect}"
