"""What every event writes down and owes, why it is refused, and what a bad definition is told."""

import logging
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle import machine
from lifecycle.actor import SYSTEM, Actor, Request, Role
from lifecycle.checks import check
from lifecycle.definition import Definition
from lifecycle.errors import DefinitionError, GuardRefused, InvalidInput, NoSuchTransition, NotAuthorised
from lifecycle.guards import Guard
from lifecycle.machine import TRANSITIONS, decide
from lifecycle.policy import Clause, CompanyCancellation, DeletionClock, Policy
from lifecycle.rows import Owed, Transition
from lifecycle.states import Effect, Event, Party, Plan, State, account, entitlements
from lifecycle.terms import latest, literal, missing, now, policy, when
from tests.builders import (
    ADMIN,
    ANN,
    BILLING,
    COMPANY,
    MICROSECOND,
    NOW,
    OWNER,
    SUPPORT,
    after,
    ago,
    ahead,
    an_account,
    cancelled,
    changed,
    days,
    fire,
    free,
    on_hold,
    paid,
    suspended,
    trial,
    unpaid,
)

STAMPS = ("cancelled_at", "cancelled_by", "cancelled_from", "access_ends_at", "delete_content_at", "purge_backups_by")
REVOKED = State.ACCESS_REVOKED


def at(year: int, month: int, day: int, hour: int = 12) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


# --- The rows of an event -------------------------------------------------------------------------


def test_the_rows_that_would_take_a_request_are_named_in_the_order_in_which_they_are_tried() -> None:
    admitting = machine.DEFINITION.admitting
    lifting = Request(ADMIN, reason="cleared")
    rows = admitting(suspended(trial()), Event.LIFT_SUSPENSION, lifting, NOW, Policy())
    assert [row.dest for row in rows] == [State.TRIAL, State.ON_HOLD, State.ACTIVE]
    assert rows == tuple(row for row in TRANSITIONS if row in rows)
    assert admitting(suspended(trial()), Event.LIFT_SUSPENSION, Request(ADMIN), NOW, Policy()) == ()


# --- Trial, plans and billing --------------------------------------------------------------------


def test_a_trial_that_ran_out_is_on_hold_from_now_however_late_the_sweep_is() -> None:
    held = after(trial(ago(40)), "expire_trial", SYSTEM)
    assert (held.state, held.held_at) == (State.ON_HOLD, NOW)


def test_a_hold_that_stands_from_earlier_is_not_started_anew() -> None:
    assert after(trial(ago(1), held_at=ago(12)), "expire_trial", SYSTEM).held_at == ago(12)


@pytest.mark.parametrize("before", [trial(), on_hold(), free(held_at=ago(99))], ids=lambda s: s.state)
def test_an_upgrade_brings_a_paid_plan_with_its_period_and_ends_every_clock(before: SimpleNamespace) -> None:
    active = after(before, "upgrade", BILLING, period_ends_at=ahead(30))
    assert (active.state, active.plan, active.period_ends_at) == (State.ACTIVE, Plan.PAID, ahead(30))
    assert active.held_at is None and active.frozen_at is None


def test_a_downgrade_starts_the_free_plan_now_and_keeps_the_paid_period_on_record() -> None:
    active = after(paid(ahead(20)), "downgrade", OWNER)
    assert (active.plan, active.free_since, active.period_ends_at) == (Plan.FREE, NOW, ahead(20))
    pending = after(active, "cancel", OWNER)
    assert pending.access_ends_at == ahead(20)


def test_a_renewal_moves_the_period_forward_and_changes_nothing_else_that_counts() -> None:
    active = after(paid(ahead(2)), "renew", BILLING, period_ends_at=ahead(32))
    assert (active.state, active.plan, active.period_ends_at) == (State.ACTIVE, Plan.PAID, ahead(32))


def test_a_renewal_with_the_same_end_is_no_step_forward() -> None:
    with pytest.raises(GuardRefused, match="period_ends_at"):
        fire(paid(ahead(2)), "renew", BILLING, period_ends_at=ahead(2))


@pytest.mark.parametrize(("until", "freezes"), [(NOW - MICROSECOND, True), (NOW, True), (NOW + MICROSECOND, False)])
def test_only_an_account_whose_paid_period_is_over_freezes(until: datetime, freezes: bool) -> None:
    if freezes:
        frozen = after(paid(until), "freeze", BILLING)
        assert (frozen.state, frozen.frozen_at, frozen.suspended_from) == (State.FROZEN, NOW, None)
    else:
        with pytest.raises(GuardRefused):
            fire(paid(until), "freeze", BILLING)


def test_a_thaw_with_a_period_brought_along_ends_the_freeze_for_good() -> None:
    active = after(unpaid(ago(100)), "thaw", BILLING, period_ends_at=ahead(30))
    assert (active.state, active.plan, active.period_ends_at) == (State.ACTIVE, Plan.PAID, ahead(30))
    assert active.frozen_at is None


def test_a_thaw_needs_nothing_brought_along_while_a_paid_period_runs() -> None:
    assert after(unpaid(ago(3), period_ends_at=ahead(20)), "thaw", BILLING).period_ends_at == ahead(20)


# --- Suspension: no detour restarts a clock -------------------------------------------------------


@pytest.mark.parametrize("before", [trial(), on_hold(), free(), paid(), unpaid()], ids=lambda s: s.state)
def test_a_suspension_remembers_where_from_and_leaves_every_clock_alone(before: SimpleNamespace) -> None:
    frozen = after(before, "suspend")
    assert (frozen.state, frozen.suspended_from) == (State.FROZEN, before.state)
    assert (frozen.held_at, frozen.frozen_at) == (before.held_at, before.frozen_at)
    granted = entitlements(frozen, NOW)
    assert not (granted.sign_in or granted.use or granted.export or granted.billed)


@pytest.mark.parametrize(
    ("before", "dest", "held_at", "frozen_at"),
    [
        (trial(ahead(1)), State.TRIAL, None, None),
        (trial(ago(1)), State.ON_HOLD, NOW, None),
        (trial(NOW), State.ON_HOLD, NOW, None),
        (on_hold(ago(10)), State.ON_HOLD, ago(10), None),
        (unpaid(ago(10)), State.FROZEN, None, ago(10)),
        (paid(ago(1)), State.FROZEN, None, NOW),
        (paid(NOW), State.FROZEN, None, NOW),
        (paid(ahead(1)), State.ACTIVE, None, None),
        (free(), State.ACTIVE, None, None),
    ],
)
def test_a_lifted_suspension_leads_back_to_where_it_came_from(
    before: SimpleNamespace, dest: State, held_at: datetime | None, frozen_at: datetime | None
) -> None:
    lifted = after(suspended(before), "lift_suspension")
    assert (lifted.state, lifted.suspended_from, lifted.plan) == (dest, None, before.plan)
    assert (lifted.held_at, lifted.frozen_at) == (held_at, frozen_at)


def test_to_lift_a_suspension_an_admin_must_give_a_reason() -> None:
    with pytest.raises(GuardRefused, match="reason"):
        fire(suspended(free()), "lift_suspension", reason=None)


def test_a_payment_during_a_suspension_counts_when_it_ends() -> None:
    frozen = after(suspended(paid(ago(1))), "record_payment", BILLING, period_ends_at=ahead(30))
    assert (frozen.state, frozen.suspended_from) == (State.FROZEN, State.ACTIVE)
    assert after(frozen, "lift_suspension").state is State.ACTIVE


@pytest.mark.parametrize("state", [State.CANCEL_PENDING, REVOKED])
def test_a_suspension_after_a_cancellation_ends_access_now_and_leaves_the_other_dates(state: State) -> None:
    before = cancelled(paid(ahead(20)), state, access_ends_at=ahead(20))
    revoked = after(before, "suspend")
    assert (revoked.state, revoked.access_ends_at) == (REVOKED, NOW)
    for stamp in ("cancelled_at", "cancelled_by", "cancelled_from", "delete_content_at", "purge_backups_by"):
        assert getattr(revoked, stamp) == getattr(before, stamp)
    back = after(revoked, "reactivate", OWNER)
    assert back.state is State.FROZEN, "it counts as suspended for reactivate"
    assert after(back, "lift_suspension").state is State.ACTIVE


def test_access_that_ended_earlier_is_not_said_to_end_again() -> None:
    before = cancelled(free(), REVOKED, at=ago(5))
    assert after(before, "suspend").access_ends_at == ago(5)
    assert after(before, "terminate").access_ends_at == ago(5)


def test_cancelling_and_coming_back_does_not_end_a_suspension() -> None:
    pending = after(suspended(paid(ahead(20))), "cancel", OWNER)
    assert pending.access_ends_at == NOW
    back = after(pending, "reactivate", OWNER, at=ahead(1))
    assert (back.state, back.suspended_from) == (State.FROZEN, State.ACTIVE)


def test_a_second_suspension_does_not_make_the_account_forget_where_the_first_began() -> None:
    pending = after(suspended(trial(ahead(10))), "cancel", OWNER)
    assert after(pending, "suspend").suspended_from is State.TRIAL


def test_a_payment_does_not_give_access_to_one_who_was_suspended_and_then_cancelled() -> None:
    pending = after(suspended(paid(ago(1))), "cancel", OWNER)
    paid_again = after(pending, "record_payment", BILLING, period_ends_at=ahead(30))
    assert paid_again.period_ends_at == ahead(30)
    assert paid_again.access_ends_at == NOW
    assert not entitlements(paid_again, NOW).sign_in


@pytest.mark.parametrize(
    ("before", "clock"), [(on_hold(ago(29)), "held_at"), (unpaid(ago(179)), "frozen_at")], ids=["hold", "freeze"]
)
def test_cancelling_and_coming_back_does_not_restart_a_clock(before: SimpleNamespace, clock: str) -> None:
    back = after(after(before, "cancel", OWNER), "reactivate", OWNER, at=NOW + days(0.5))
    assert (back.state, getattr(back, clock)) == (before.state, getattr(before, clock))


# --- Cancellation: stamps, dates, effects ---------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "access"),
    [
        (trial(ahead(10)), ahead(10)),
        (trial(ago(1)), NOW),
        (trial(ahead(10), period_ends_at=ahead(40)), ahead(40)),
        (on_hold(), NOW),
        (free(), NOW),
        (paid(ahead(20)), ahead(20)),
        (paid(ago(1)), NOW),
        (unpaid(), NOW),
        (suspended(paid(ahead(20))), NOW),
        (suspended(trial(ahead(10))), NOW),
    ],
)
def test_a_cancellation_stamps_its_promises(before: SimpleNamespace, access: datetime) -> None:
    decision = fire(before, "cancel", OWNER)
    pending = changed(before, decision)
    assert (pending.state, pending.cancelled_at, pending.cancelled_by) == (State.CANCEL_PENDING, NOW, Party.OWNER)
    assert (pending.cancelled_from, pending.suspended_from) == (before.state, before.suspended_from)
    assert pending.access_ends_at == access
    assert pending.delete_content_at == max(ahead(30), access)
    assert pending.purge_backups_by == max(ahead(60), access + days(29))
    assert {Effect.STOP_BILLING, Effect.CONFIRM_CANCELLATION} <= set(decision.owes)
    assert not entitlements(pending, NOW).billed


NOTICED = {"reminder": 5, "reminded_at": ago(15), "not_before": ago(1)}
OVERDUE = [
    ("cancel_expired_trial", on_hold(ago(31), **NOTICED)),
    ("cancel_unpaid", unpaid(ago(181), **NOTICED)),
    ("cancel_inactive", free(ago(366), **NOTICED)),
]


@pytest.mark.parametrize(("event", "before"), OVERDUE, ids=[event for event, _ in OVERDUE])
def test_a_cancellation_by_the_company_stamps_the_same_from_now(event: str, before: SimpleNamespace) -> None:
    decision = fire(before, event, SYSTEM)
    pending = changed(before, decision)
    assert (pending.cancelled_at, pending.cancelled_by, pending.cancelled_from) == (NOW, Party.COMPANY, before.state)
    assert pending.access_ends_at == NOW
    assert (pending.delete_content_at, pending.purge_backups_by) == (ahead(30), ahead(60))
    assert {Effect.STOP_BILLING, Effect.CONFIRM_CANCELLATION} <= set(decision.owes)
    assert (pending.reminded_at, pending.not_before) == (None, None), "the notice was for another clock"


@pytest.mark.parametrize("before", [trial(), on_hold(), free(), paid(), unpaid(), suspended(paid())])
def test_a_termination_of_a_live_account_stamps_and_ends_access_now(before: SimpleNamespace) -> None:
    decision = fire(before, "terminate")
    revoked = changed(before, decision)
    assert (revoked.state, revoked.terminated_at, revoked.cancelled_by) == (REVOKED, NOW, Party.COMPANY)
    assert (revoked.cancelled_at, revoked.cancelled_from) == (NOW, before.state)
    assert (revoked.access_ends_at, revoked.delete_content_at, revoked.purge_backups_by) == (NOW, ahead(30), ahead(60))
    assert {Effect.STOP_BILLING, Effect.CONFIRM_CANCELLATION} <= set(decision.owes)


def test_a_termination_after_a_cancellation_keeps_the_dates_that_were_stamped() -> None:
    before = cancelled(paid(ahead(200)), at=ago(5), access_ends_at=ahead(200))
    revoked = after(before, "terminate")
    assert (revoked.state, revoked.access_ends_at, revoked.terminated_at) == (REVOKED, NOW, NOW)
    for stamp in ("cancelled_at", "cancelled_by", "cancelled_from", "delete_content_at", "purge_backups_by"):
        assert getattr(revoked, stamp) == getattr(before, stamp)


#: Cancelled at noon of the first date with a period to the second: access, deletion and purge, worked out by hand.
CALENDAR = {
    "monthly": (at(2027, 4, 10), at(2027, 4, 25), at(2027, 4, 25), at(2027, 5, 10), at(2027, 6, 9)),
    "day 1 of a 31-day month": (
        at(2027, 5, 1, 0),
        at(2027, 6, 1, 0),
        at(2027, 6, 1, 0),
        at(2027, 6, 1, 0),
        at(2027, 6, 30, 0),
    ),
    "annual": (at(2027, 1, 10), at(2028, 1, 1), at(2028, 1, 1), at(2028, 1, 1), at(2028, 1, 30)),
    "over a leap day": (at(2028, 2, 1), at(2028, 2, 20), at(2028, 2, 20), at(2028, 3, 2), at(2028, 4, 1)),
    "over a February without one": (at(2027, 2, 1), at(2027, 2, 20), at(2027, 2, 20), at(2027, 3, 3), at(2027, 4, 2)),
    "on the leap day": (at(2028, 2, 29), at(2028, 3, 1), at(2028, 3, 1), at(2028, 3, 30), at(2028, 4, 29)),
    "over the year's end": (at(2027, 12, 15), at(2027, 12, 31), at(2027, 12, 31), at(2028, 1, 14), at(2028, 2, 13)),
    "period over": (at(2027, 4, 10), at(2027, 4, 1), at(2027, 4, 10), at(2027, 5, 10), at(2027, 6, 9)),
}


@pytest.mark.parametrize(("cancelled_at", "period", "access", "deletion", "purge"), CALENDAR.values(), ids=CALENDAR)
def test_the_promised_dates_by_the_calendar(
    cancelled_at: datetime, period: datetime, access: datetime, deletion: datetime, purge: datetime
) -> None:
    pending = after(paid(period), "cancel", OWNER, at=cancelled_at)
    assert (pending.access_ends_at, pending.delete_content_at, pending.purge_backups_by) == (access, deletion, purge)


def test_every_monthly_plan_keeps_the_published_sixty_days() -> None:
    for left in range(32):
        assert after(paid(ahead(left)), "cancel", OWNER).purge_backups_by == ahead(60)


def test_the_days_until_deletion_may_be_counted_from_the_end_of_access() -> None:
    later = Policy(deletion_clock=DeletionClock.END_OF_ACCESS)
    pending = after(paid(ahead(20)), "cancel", OWNER, policy=later)
    assert (pending.access_ends_at, pending.delete_content_at) == (ahead(20), ahead(50))
    assert pending.purge_backups_by == ahead(79)
    ended = after(free(), "cancel", OWNER, policy=later)
    assert (ended.delete_content_at, ended.purge_backups_by) == (ahead(30), ahead(60))


REFUND = {
    "unused for months while a period is paid": (paid(ahead(100), last_active_at=ago(60)), True),
    "used since": (paid(ahead(100), last_active_at=ago(60) + MICROSECOND, period_began_at=ago(4)), False),
    "never used since it was opened": (paid(ahead(100), opened_at=ago(70), period_began_at=ago(4)), True),
    "unused, but the period is over": (paid(ago(1), last_active_at=ago(90)), False),
    "the period has just begun": (paid(ahead(30), period_began_at=ago(2), last_active_at=ago(1)), True),
    "the period began a while ago": (paid(ahead(30), period_began_at=ago(3), last_active_at=ago(1)), False),
    "nothing was ever paid": (free(last_active_at=ago(200)), False),
}


@pytest.mark.parametrize(("before", "review"), REFUND.values(), ids=REFUND)
def test_people_look_at_a_refund_where_it_would_be_fair(before: SimpleNamespace, review: bool) -> None:
    assert (Effect.REVIEW_REFUND in fire(before, "cancel", OWNER).owes) is review


# --- Money after a cancellation ------------------------------------------------------------------


def test_a_payment_after_a_cancellation_lengthens_every_date_and_is_looked_at() -> None:
    before = cancelled(paid(ahead(20)), at=ago(5), access_ends_at=ahead(20))
    decision = fire(before, "record_payment", BILLING, period_ends_at=ahead(50))
    pending = changed(before, decision)
    assert (pending.state, pending.period_ends_at, pending.access_ends_at) == (before.state, ahead(50), ahead(50))
    assert (pending.delete_content_at, pending.purge_backups_by) == (ahead(50), ahead(79))
    assert decision.owes == (Effect.REVIEW_REFUND,)
    assert not entitlements(pending, NOW).billed


def test_a_payment_never_shortens_a_date_under_whatever_policy() -> None:
    strict = Policy(deletion_after="8 days", purge_after="10 days", purge_after_deletion="2 days")
    before = cancelled(paid(ahead(20)), at=ago(5), access_ends_at=ahead(20))
    pending = after(before, "record_payment", BILLING, policy=strict, period_ends_at=ahead(21))
    assert pending.access_ends_at == ahead(21)
    assert pending.delete_content_at == before.delete_content_at
    assert pending.purge_backups_by == before.purge_backups_by


def test_a_payment_after_access_was_revoked_changes_no_date() -> None:
    before = cancelled(paid(ago(5)), REVOKED)
    decision = fire(before, "record_payment", BILLING, period_ends_at=ahead(50))
    revoked = changed(before, decision)
    assert revoked.period_ends_at == ahead(50)
    assert [getattr(revoked, stamp) for stamp in STAMPS] == [getattr(before, stamp) for stamp in STAMPS]
    assert decision.owes == (Effect.REVIEW_REFUND,)


def test_a_trial_that_was_paid_for_after_its_cancellation_comes_back_on_a_paid_plan() -> None:
    settled = after(cancelled(trial(ahead(10))), "record_payment", BILLING, period_ends_at=ahead(30))
    back = after(settled, "reactivate", OWNER)
    assert (back.state, back.plan) == (State.ACTIVE, Plan.PAID)


@pytest.mark.parametrize("state", [State.CANCEL_PENDING, REVOKED])
def test_a_refund_ends_the_paid_period_but_neither_access_nor_dates(state: State) -> None:
    before = cancelled(paid(ahead(20)), state, access_ends_at=ahead(20))
    refunded = after(before, "record_refund", BILLING)
    assert refunded.period_ends_at == NOW
    assert [getattr(refunded, stamp) for stamp in STAMPS] == [getattr(before, stamp) for stamp in STAMPS]
    assert after(refunded, "reactivate", OWNER).state is State.FROZEN, "no paid period runs any more"


# --- The way back --------------------------------------------------------------------------------

#: In the design's order; each account fits the later destinations too where it can.
ROUTES = {
    "suspended, though a period runs": (suspended(paid(ahead(20))), State.FROZEN, Plan.PAID),
    "a paid period runs": (paid(ahead(20)), State.ACTIVE, Plan.PAID),
    "a period runs on the free plan": (free(ago(100), period_ends_at=ahead(20)), State.ACTIVE, Plan.FREE),
    "unpaid, a period runs": (unpaid(ago(300), period_ends_at=ahead(20)), State.ACTIVE, Plan.PAID),
    "paid plan, never frozen": (paid(ago(1)), State.FROZEN, Plan.PAID),
    "frozen in time": (unpaid(ago(180) + MICROSECOND), State.FROZEN, Plan.PAID),
    "free": (free(ago(100)), State.ACTIVE, Plan.FREE),
    "the trial runs": (trial(ahead(10)), State.TRIAL, Plan.TRIAL),
    "the trial is over": (trial(ago(1)), State.ON_HOLD, Plan.TRIAL),
    "held in time": (on_hold(ago(30) + MICROSECOND), State.ON_HOLD, Plan.TRIAL),
}


@pytest.mark.parametrize(("before", "dest", "plan"), ROUTES.values(), ids=ROUTES)
def test_reactivation_leads_where_the_account_belongs(before: SimpleNamespace, dest: State, plan: Plan) -> None:
    for state in (State.CANCEL_PENDING, REVOKED):
        back = after(cancelled(before, state, **NOTICED), "reactivate", OWNER)
        assert (back.state, back.plan) == (dest, plan)
        assert [getattr(back, stamp) for stamp in STAMPS] == [None] * len(STAMPS)
        assert (back.terminated_at, back.reminded_at, back.not_before) == (None, None, None)


def test_an_admin_alone_brings_back_what_was_terminated_and_nothing_of_it_stays() -> None:
    gone = after(cancelled(free(ago(100))), "terminate")
    for actor in (OWNER, BILLING):
        with pytest.raises(GuardRefused, match="terminated"):
            fire(gone, "reactivate", actor, period_ends_at=ahead(30) if actor == BILLING else None)
    back = after(gone, "reactivate")
    assert (back.state, back.terminated_at, back.cancelled_by) == (State.ACTIVE, None, None)


@pytest.mark.parametrize("before", [on_hold(ago(30)), unpaid(ago(180))], ids=["held", "unpaid"])
def test_after_the_companys_own_deadline_only_a_payment_brings_an_account_back(before: SimpleNamespace) -> None:
    gone = cancelled(before, REVOKED)
    with pytest.raises(GuardRefused, match="only a payment"):
        fire(gone, "reactivate", OWNER)
    decision = fire(gone, "reactivate", BILLING, period_ends_at=ahead(30))
    back = changed(gone, decision)
    assert (back.state, back.plan, back.period_ends_at) == (State.ACTIVE, Plan.PAID, ahead(30))
    assert (back.held_at, back.frozen_at) == (None, None)
    assert Effect.RESUME_BILLING in decision.owes


@pytest.mark.parametrize(
    ("before", "clock", "since"),
    [
        (paid(ago(1)), "frozen_at", NOW),
        (unpaid(ago(10)), "frozen_at", ago(10)),
        (trial(ago(1)), "held_at", NOW),
        (on_hold(ago(10)), "held_at", ago(10)),
        (free(ago(100)), "free_since", NOW),
    ],
)
def test_a_clock_starts_on_the_way_back_only_where_none_had_started(
    before: SimpleNamespace, clock: str, since: datetime
) -> None:
    assert getattr(after(cancelled(before), "reactivate", OWNER), clock) == since


@pytest.mark.parametrize(
    ("before", "resumes"),
    [(paid(ahead(20)), True), (free(), False), (trial(), False), (on_hold(), False)],
    ids=lambda value: getattr(value, "plan", value),
)
def test_billing_resumes_only_where_a_paid_plan_goes_on(before: SimpleNamespace, resumes: bool) -> None:
    decision = fire(cancelled(before), "reactivate", OWNER)
    assert (Effect.RESUME_BILLING in decision.owes) is resumes


def test_nothing_comes_back_once_erasure_was_requested() -> None:
    gone = cancelled(paid(ahead(20)), REVOKED, at=ago(40), erasure_requested_at=ago(1))
    for actor in (OWNER, ADMIN, BILLING):
        with pytest.raises(GuardRefused, match="erasure"):
            fire(gone, "reactivate", actor, period_ends_at=ahead(30))


def test_what_is_past_its_deletion_date_but_still_there_may_be_kept() -> None:
    held = cancelled(free(), REVOKED, at=ago(90), legal_holds=1, cases=("1",))
    assert after(held, "reactivate", OWNER).state is State.ACTIVE


# --- Owners, reasons and approval ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("company", "email"),
    [(COMPANY, ANN), ("  acme   LTD ", " Ann@ACME.test\t"), ("ACME\nLtd", "BOB@acme.test")],
)
def test_company_and_email_match_whatever_their_case_and_spaces(company: str, email: str) -> None:
    assert after(free(), "cancel", SUPPORT, company=company, email=email).state is State.CANCEL_PENDING


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"company": COMPANY},
        {"email": ANN},
        {"company": "", "email": ANN},
        {"company": COMPANY, "email": ""},
        {"company": "Acme", "email": ANN},
        {"company": COMPANY, "email": "ann@acme.tes"},
    ],
)
def test_a_request_that_names_no_owner_on_file_is_refused_and_told_what_to_do(facts: dict[str, str]) -> None:
    for actor in (SUPPORT, ADMIN):
        with pytest.raises(GuardRefused, match="contact_owners"):
            fire(free(), "cancel", actor, **facts)


def test_an_owner_is_known_by_the_address_they_signed_in_with() -> None:
    assert after(free(), "cancel", Actor.owner(" ANN@acme.TEST")).state is State.CANCEL_PENDING
    for other in (Actor.owner(""), Actor.owner("eve@acme.test")):
        with pytest.raises(GuardRefused):
            fire(free(), "cancel", other, company=COMPANY)


def test_one_who_signed_in_as_a_stranger_can_not_cancel_by_naming_an_owner() -> None:
    with pytest.raises(GuardRefused):
        fire(free(), "cancel", Actor.owner("eve@acme.test"), company=COMPANY, email=ANN)


@pytest.mark.parametrize("reason", [None, "", "   "])
@pytest.mark.parametrize("event", ["suspend", "terminate", "place_hold", "contact_owners"])
def test_a_reason_that_says_nothing_is_no_reason(event: str, reason: str | None) -> None:
    with pytest.raises(GuardRefused, match="reason"):
        fire(free(), event, reason=reason)


def test_the_owners_are_contacted_when_nobody_knows_the_owner() -> None:
    decision = fire(on_hold(), "contact_owners", SUPPORT, reason="caller could not name an owner")
    assert (decision.owes, decision.dest) == ((Effect.CONTACT_OWNERS,), State.ON_HOLD)


APPROVAL = Policy(company_cancellation=CompanyCancellation.APPROVAL)


@pytest.mark.parametrize(("event", "before"), OVERDUE, ids=[event for event, _ in OVERDUE])
def test_in_approval_mode_an_admin_fires_what_the_company_may_cancel(event: str, before: SimpleNamespace) -> None:
    assert after(before, event, policy=APPROVAL).cancelled_by is Party.COMPANY
    with pytest.raises(GuardRefused):
        fire(before, event, SYSTEM, policy=APPROVAL)
    with pytest.raises(GuardRefused):
        fire(before, event)


def test_an_admin_who_approves_too_early_is_told_that_the_deadline_is_not_reached() -> None:
    with pytest.raises(GuardRefused, match="deadline"):
        fire(on_hold(ago(10)), "cancel_expired_trial", policy=APPROVAL)


# --- Legal holds ---------------------------------------------------------------------------------

REQUESTED = {"erasure_requested_at": ago(1)}


def test_a_hold_withdraws_what_no_handler_has_claimed() -> None:
    before = cancelled(free(), REVOKED, at=ago(40), **REQUESTED)
    held = after(before, "place_hold", unclaimed=True)
    assert (held.legal_holds, held.erasure_requested_at) == (1, None)


def test_a_hold_can_not_withdraw_what_a_handler_has_claimed_and_the_state_follows_the_truth() -> None:
    held = after(cancelled(free(), REVOKED, at=ago(40), **REQUESTED), "place_hold")
    assert held.erasure_requested_at == ago(1)
    gone = after(held, "delete_content", SYSTEM, receipt="42 files")
    assert (gone.state, gone.content_deleted_at, gone.legal_holds) == (State.CONTENT_DELETED, NOW, 1)


def test_a_hold_withdraws_an_unclaimed_purge_but_not_the_deletion_that_happened() -> None:
    deleted = cancelled(
        free(),
        State.CONTENT_DELETED,
        at=ago(60),
        erasure_requested_at=ago(30),
        content_deleted_at=ago(29),
        purge_requested_at=ago(1),
    )
    held = after(deleted, "place_hold", unclaimed=True)
    assert (held.state, held.purge_requested_at, held.content_deleted_at) == (deleted.state, None, ago(29))


def test_the_wait_after_a_hold_begins_when_the_last_one_is_released() -> None:
    held = cancelled(free(), REVOKED, legal_holds=2, cases=("1", "2"))
    one_left = after(held, "release_hold", case="1")
    assert (one_left.legal_holds, one_left.hold_released_at) == (1, None)
    none_left = after(held, "release_hold")
    assert (none_left.legal_holds, none_left.hold_released_at) == (0, NOW)
    with pytest.raises(GuardRefused):
        fire(held, "release_hold", case="3")


# --- Destruction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("receipt", [None, "42 files"])
def test_content_is_not_said_to_be_gone_without_a_request(receipt: str | None) -> None:
    with pytest.raises(GuardRefused, match="receipt"):
        fire(cancelled(free(), REVOKED, at=ago(40)), "delete_content", SYSTEM, receipt=receipt)


def test_content_is_not_said_to_be_gone_without_a_receipt() -> None:
    with pytest.raises(GuardRefused, match="receipt"):
        fire(cancelled(free(), REVOKED, at=ago(40), **REQUESTED), "delete_content", SYSTEM)


def test_a_purge_with_a_receipt_is_final_and_scrubs_personal_data() -> None:
    deleted = cancelled(
        free(), State.CONTENT_DELETED, at=ago(60), content_deleted_at=ago(29), purge_requested_at=ago(1)
    )
    decision = fire(deleted, "purge_backups", SYSTEM, receipt="done")
    purged = changed(deleted, decision)
    assert (purged.state, purged.purged_at, purged.due_at, decision.scrubs) == (State.PURGED, NOW, None, True)
    for event in Event:
        with pytest.raises(NoSuchTransition):
            fire(purged, event)


# --- Refusals ------------------------------------------------------------------------------------


def test_a_refusal_lists_the_reasons_of_every_row_whose_bracket_holds_and_of_no_other() -> None:
    late = cancelled(suspended(unpaid(ago(300))), REVOKED)
    with pytest.raises(GuardRefused) as refused:
        fire(late, "reactivate", Actor.owner("eve@acme.test"))
    text = " ".join(refused.value.reasons)
    assert "owner" in text and "frozen for billing too long ago" in text
    assert "trial" not in text, "the rows of the trial have brackets that do not hold"


def test_a_refusal_lists_all_failing_guards_of_a_row_once_each() -> None:
    with pytest.raises(GuardRefused) as refused:
        fire(trial(), "upgrade", reason=None, period_ends_at=ago(3))
    assert len(refused.value.reasons) == len(set(refused.value.reasons)) >= 2
    assert "reason" in str(refused.value) and "future" in str(refused.value)


def test_a_refusal_of_the_wrong_kind_of_actor_says_who_may() -> None:
    with pytest.raises(NotAuthorised, match="admin"):
        fire(free(), "suspend", OWNER, reason="please")


def test_an_event_that_does_not_leave_the_state_names_those_that_do() -> None:
    with pytest.raises(NoSuchTransition, match=r"possible here: .*suspend"):
        fire(free(), "thaw", BILLING)


def test_an_event_that_no_row_has_is_refused_everywhere() -> None:
    without = Definition(tuple(row for row in TRANSITIONS if row.event is not Event.FREEZE))
    with pytest.raises(NoSuchTransition, match="possible here"):
        without.decide(free(), Event.FREEZE, Request(BILLING), NOW, Policy())


@pytest.mark.parametrize(
    ("typed", "meant"), [("cancle", "cancel"), ("reactvate", "reactivate"), ("Upgrade", "upgrade")]
)
def test_an_unknown_event_proposes_the_nearest_name(typed: str, meant: str) -> None:
    with pytest.raises(InvalidInput, match=f"did you mean {meant}"):
        fire(free(), typed)


def test_an_event_like_no_other_is_answered_with_all_there_are() -> None:
    with pytest.raises(InvalidInput, match=r"expire_trial.*contact_owners"):
        fire(free(), "zzzzzz")


def test_timers_act_as_somebody_whom_no_caller_can_claim_to_be() -> None:
    assert not hasattr(Actor, "system")


# --- The library -----------------------------------------------------------------------------------


def test_the_library_adds_no_events_and_decorates_nothing() -> None:
    subject = free()
    before = dict(vars(subject))
    fire(subject, "contact_owners")
    assert vars(subject) == before
    for state in State:
        for invented in (f"to_{state}", f"is_{state}", f"may_to_{state}"):
            assert not hasattr(subject, invented)
            with pytest.raises(InvalidInput):
                fire(subject, invented)
    row_fields = {field.name for field in fields(Transition)}
    assert all(set(vars(row)) == row_fields for row in TRANSITIONS)


def test_a_decision_is_the_same_when_it_is_asked_twice() -> None:
    subject = paid()
    assert fire(subject, "cancel", OWNER) == fire(subject, "cancel", OWNER)


def test_the_library_is_not_heard_at_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fire(free(), "contact_owners")
    assert not caplog.records


@pytest.mark.parametrize("answer", [1, 0, None, "yes", []])
def test_a_guard_that_answers_anything_but_a_bool_is_an_error(answer: Any) -> None:
    with pytest.raises(DefinitionError, match=r"odd.*must return a bool"):
        Guard("odd", lambda sources: answer, "It is odd.")({})


# --- The definition's own checks -------------------------------------------------------------------


def test_the_table_passes_its_own_checks() -> None:
    check(TRANSITIONS)


def test_every_clause_is_kept_and_every_transition_keeps_one() -> None:
    assert {clause for row in TRANSITIONS for clause in row.clauses} == set(Clause)
    assert all(row.clauses for row in TRANSITIONS)


def rows_of(event: Event) -> list[Transition]:
    return [row for row in TRANSITIONS if row.event is event]


def altered(event: Event, /, **changes: Any) -> tuple[Transition, ...]:
    """The table with every row of one event changed."""
    return tuple(replace(row, **changes) if row.event is event else row for row in TRANSITIONS)


def without(*events: Event) -> tuple[Transition, ...]:
    return tuple(row for row in TRANSITIONS if row.event not in events)


def _sheds_clause() -> tuple[Transition, ...]:
    return tuple(
        replace(
            row, clauses=tuple(clause for clause in row.clauses if clause is not Clause.UNDO_30) or (Clause.DELETE_30,)
        )
        for row in TRANSITIONS
    )


def _odd(answer: Any, sentence: str = "It is odd.") -> tuple[Transition, ...]:
    return altered(Event.RENEW, guards=(Guard("odd", lambda sources: answer, sentence),))


TRIAL_TIMER = rows_of(Event.EXPIRE_TRIAL)[0].timer
FAULTS: dict[str, tuple[Callable[[], tuple[Transition, ...]], str]] = {
    "unknown source": (lambda: altered(Event.RENEW, sources=("actve",)), "renew.*actve"),
    "unknown destination": (lambda: altered(Event.RENEW, dest="nirvana"), "renew.*nirvana"),
    "unknown event": (lambda: altered(Event.RENEW, event="renewed"), "renewed"),
    "unknown column": (lambda: altered(Event.RENEW, sets=(("colour", now),)), "renew.*colour"),
    "effect without a name": (lambda: altered(Event.RENEW, owes=(Owed("sing"),)), "renew.*sing"),
    "unreachable state": (lambda: without(Event.DELETE_CONTENT), "content_deleted.*reached"),
    "trap": (lambda: without(Event.PURGE_BACKUPS), "content_deleted.*trap"),
    "way out of the final state": (lambda: altered(Event.RENEW, sources=(State.PURGED,)), "renew.*final"),
    "hidden row": (lambda: (*TRANSITIONS, rows_of(Event.RENEW)[0]), "renew.*hidden"),
    "hidden by an unconditional row": (
        lambda: (*altered(Event.RENEW, bracket=None), rows_of(Event.RENEW)[0]),
        "renew.*hidden",
    ),
    "timer without a deadline": (
        lambda: altered(Event.EXPIRE_TRIAL, timer=replace(TRIAL_TIMER, deadline=None)),
        "expire_trial.*deadline",
    ),
    "timer of several states": (
        lambda: altered(Event.EXPIRE_TRIAL, sources=(State.TRIAL, State.ON_HOLD)),
        "expire_trial.*one source",
    ),
    "timer without a destination": (lambda: altered(Event.EXPIRE_TRIAL, dest=None), "expire_trial.*destination"),
    "bracket of a timer that is no term": (
        lambda: altered(Event.CANCEL_UNPAID, bracket=Guard("odd", lambda sources: True, "It is odd.")),
        "cancel_unpaid.*bracket",
    ),
    "guard that a timer would pass by": (
        lambda: altered(Event.EXPIRE_TRIAL, guards=rows_of(Event.SUSPEND)[0].guards),
        "expire_trial.*guards",
    ),
    "two timers that nothing tells apart": (
        lambda: altered(Event.CANCEL_INACTIVE, sources=(State.ON_HOLD,), bracket=None),
        "on_hold.*several timers",
    ),
    "guard that gives no bool": (lambda: _odd(1), "odd.*bool"),
    "guard that gives nothing": (lambda: _odd(None), "odd.*bool"),
    "guard without a sentence": (lambda: _odd(True, ""), "odd.*sentence"),
    "guard of a term without a sentence": (
        lambda: altered(Event.RENEW, guards=(Guard("mute", missing(account.held_at), ""),)),
        "mute.*sentence",
    ),
    "row without a clause": (lambda: altered(Event.RENEW, clauses=()), "renew.*clause"),
    "clause without a row": (_sheds_clause, "undo-30"),
    "destruction without confirmation": (
        lambda: altered(Event.TERMINATE, owes=(Owed(Effect.DELETE_CONTENT),)),
        "terminate.*destructive",
    ),
    "assignment of a timer that reads a request": (
        lambda: altered(Event.EXPIRE_TRIAL, sets=(("held_at", lambda sources: NOW),)),
        "expire_trial.*terms",
    ),
}


@pytest.mark.parametrize(("table", "culprit"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_its_culprit_is_named(
    table: Callable[[], tuple[Transition, ...]], culprit: str
) -> None:
    with pytest.raises(DefinitionError, match=culprit):
        check(table())


def test_all_faults_are_told_at_once() -> None:
    rows = tuple(replace(row, clauses=()) if row.event is Event.RENEW else row for row in _odd(1))
    with pytest.raises(DefinitionError, match=r"(?s)renew.*clause.*odd|odd.*renew.*clause"):
        check(rows)


# --- Terms at import ---------------------------------------------------------------------------------

HELD, FREE = account.held_at, account.plan == Plan.FREE
UNSAYABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "and": (lambda: FREE and missing(HELD), r"&"),
    "or": (lambda: FREE or missing(HELD), r"\|"),
    "not": (lambda: not FREE, r"~"),
    "if": (lambda: HELD if FREE else now, r"when\("),
    "chained comparison": (lambda: HELD < now < account.trial_ends_at, r"&"),
    "in a term": (lambda: now in HELD, r"=="),
    "in a tuple": (lambda: HELD in (now, account.frozen_at), r"\|"),
    "iteration": (lambda: list(HELD), r"iterated"),
    "comparison with None": (lambda: HELD == None, r"missing"),  # noqa: E711
    "unknown column": (lambda: account.held_ta, r"held_at"),
    "unknown setting": (lambda: policy.deletion_aftr, r"deletion_after"),
}


@pytest.mark.parametrize(("expression", "instead"), UNSAYABLE.values(), ids=UNSAYABLE)
def test_what_python_can_not_say_about_a_term_raises_and_names_what_can(
    expression: Callable[[], Any], instead: str
) -> None:
    with pytest.raises(DefinitionError, match=instead):
        expression()


def test_latest_takes_two_or_more_and_a_term_can_be_said_with_the_operators_that_are_proposed() -> None:
    assert (FREE & ~missing(HELD) | FREE).op == "|"
    assert when(FREE, HELD, now).op == "when"
    assert latest(HELD, now, literal(NOW)).op == "latest"
    with pytest.raises(TypeError):
        latest(HELD)  # type: ignore[call-arg]


# --- What each state grants --------------------------------------------------------------------------

YES, NO = True, False
GRANTS = {
    "trial": (trial(), (YES, YES, YES, NO, YES, YES)),
    "on_hold": (on_hold(), (YES, NO, YES, NO, YES, YES)),
    "active, free": (free(), (YES, YES, YES, NO, YES, YES)),
    "active, paid": (paid(), (YES, YES, YES, YES, YES, YES)),
    "frozen for billing": (unpaid(), (YES, NO, YES, NO, YES, YES)),
    "frozen by suspension": (suspended(paid()), (NO, NO, NO, NO, YES, YES)),
    "cancel_pending": (cancelled(paid(), access_ends_at=NOW + MICROSECOND), (YES, YES, YES, NO, YES, YES)),
    "cancel_pending, access over": (cancelled(paid(), access_ends_at=NOW), (NO, NO, NO, NO, YES, YES)),
    "access_revoked": (cancelled(paid(), REVOKED), (NO, NO, NO, NO, YES, YES)),
    "content_deleted": (cancelled(paid(), State.CONTENT_DELETED), (NO, NO, NO, NO, NO, YES)),
    "purged": (cancelled(paid(), State.PURGED), (NO, NO, NO, NO, NO, NO)),
}


@pytest.mark.parametrize(("subject", "granted"), GRANTS.values(), ids=GRANTS)
def test_what_a_state_grants(subject: SimpleNamespace, granted: tuple[bool, ...]) -> None:
    got = entitlements(subject, NOW)
    assert (got.sign_in, got.use, got.export, got.billed, got.content, got.backups) == granted


# --- Facts and decisions ------------------------------------------------------------------------------


def test_a_decision_bumps_the_version_and_says_what_comes_next() -> None:
    decision = fire(on_hold(ago(1)), "cancel", OWNER)
    assert decision.changes["version"] == 8
    assert decision.changes["due_at"] is not None


def test_only_events_that_read_a_fact_take_it() -> None:
    assert "period_ends_at" in machine.FACTS[Event.UPGRADE]
    assert "period_ends_at" not in machine.FACTS[Event.CANCEL]
    assert {"company", "email"} <= machine.FACTS[Event.CANCEL]
    assert {"case", "reason"} <= machine.FACTS[Event.PLACE_HOLD]
    assert not any({"role", "receipt", "unclaimed"} & facts for facts in machine.FACTS.values())


def test_an_account_needs_no_more_than_the_columns_of_the_definition() -> None:
    bare = an_account(State.ACTIVE, Plan.FREE, free_since=ago(1))
    assert decide(bare, "cancel", Request(OWNER), NOW, Policy()).dest is State.CANCEL_PENDING


def test_a_day_is_twenty_four_hours() -> None:
    assert after(free(), "cancel", OWNER).delete_content_at - NOW == timedelta(hours=30 * 24)


def test_the_roles_that_may_fire_an_event_are_those_of_its_rows_without_the_timers_own() -> None:
    assert machine.may_fire(Event.SUSPEND) == {Role.ADMIN}
    assert machine.may_fire(Event.CANCEL) == {Role.OWNER, Role.SUPPORT, Role.ADMIN}
    assert machine.may_fire(Event.REVOKE_ACCESS) == frozenset()
