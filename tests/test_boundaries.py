"""Every deadline, and its reminder's, at -1 µs, 0 and +1 µs; notices, outages, legal holds and the host's zone."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.actor import SYSTEM, Request
from lifecycle.errors import GuardRefused
from lifecycle.machine import TIMERS, decide, due, tick
from lifecycle.policy import CompanyCancellation, DeletionClock, Policy
from lifecycle.states import Effect, Event, Party, State, Step
from tests.builders import (
    ADMIN,
    BILLING,
    MICROSECOND,
    NOW,
    OWNER,
    after,
    ago,
    ahead,
    armed,
    cancelled,
    changed,
    confirmed,
    days,
    delivered,
    fire,
    free,
    on_hold,
    paid,
    suspended,
    swept,
    trial,
    unpaid,
)

DEFAULT = Policy()
APPROVAL = Policy(company_cancellation=CompanyCancellation.APPROVAL)
REVOKED, DELETED = State.ACCESS_REVOKED, State.CONTENT_DELETED
LONG_AGO = ago(3000)


def awake(subject: SimpleNamespace) -> SimpleNamespace:
    """The account as one that every sweep looks at, so that only the definition says what happens."""
    return SimpleNamespace(**{**vars(subject), "due_at": LONG_AGO})


def step_at(subject: SimpleNamespace, instant: datetime, policy: Policy = DEFAULT) -> tuple[Step | None, Event | None]:
    decision = tick(awake(subject), instant, policy)
    assert decision is not None
    return decision.step, decision.event


@dataclass(frozen=True)
class Deadline:
    """``start`` begins at NOW; in days from then: when the reminder opens, and when the event is due."""

    start: SimpleNamespace
    event: Event
    due: float
    reminder: tuple[Effect, float] | None = None
    binding: bool = False
    step: Step = Step.FIRE


COMPANY = Effect.REMIND_COMPANY_CANCELLATION
DEADLINES = {
    "the trial ends": Deadline(trial(ahead(30)), Event.EXPIRE_TRIAL, 30, (Effect.REMIND_TRIAL_END, 23)),
    "the hold ends": Deadline(on_hold(NOW), Event.CANCEL_EXPIRED_TRIAL, 30, (COMPANY, 16), binding=True),
    "the freeze ends": Deadline(unpaid(NOW), Event.CANCEL_UNPAID, 180, (COMPANY, 166), binding=True),
    "the free plan lies idle": Deadline(free(NOW), Event.CANCEL_INACTIVE, 365, (COMPANY, 351), binding=True),
    "the free plan lies idle after activity": Deadline(
        free(ago(90), last_active_at=NOW), Event.CANCEL_INACTIVE, 365, (COMPANY, 351), binding=True
    ),
    "the free plan lies idle since it began": Deadline(
        free(NOW, last_active_at=ago(90)), Event.CANCEL_INACTIVE, 365, (COMPANY, 351), binding=True
    ),
    "access ends": Deadline(
        cancelled(paid(ahead(20)), at=NOW, access_ends_at=ahead(20)),
        Event.REVOKE_ACCESS,
        20,
        (Effect.REMIND_ACCESS_END, 13),
    ),
    "content is deleted": Deadline(
        cancelled(free(), REVOKED, at=NOW),
        Event.DELETE_CONTENT,
        30,
        (Effect.REMIND_DELETION, 23),
        binding=True,
        step=Step.REQUEST,
    ),
    "backups are purged": Deadline(
        cancelled(free(), DELETED, at=NOW, erasure_requested_at=ahead(30), content_deleted_at=ahead(30)),
        Event.PURGE_BACKUPS,
        59,
        step=Step.REQUEST,
    ),
}
EVERY = pytest.mark.parametrize("case", DEADLINES.values(), ids=DEADLINES)
REMINDED = {name: case for name, case in DEADLINES.items() if case.reminder}
BINDING = {name: case for name, case in DEADLINES.items() if case.binding}


def reminded(case: Deadline, at: datetime, policy: Policy = DEFAULT) -> SimpleNamespace:
    """The account after its reminder was requested at ``at``, not yet delivered."""
    decision = tick(awake(case.start), at, policy)
    assert decision is not None and decision.step is Step.REMIND
    return changed(case.start, decision)


def in_time(case: Deadline) -> SimpleNamespace:
    """The account with its reminder requested and delivered as early as it can be."""
    if case.reminder is None:
        return armed(case.start)
    opens = ahead(case.reminder[1])
    return delivered(reminded(case, opens), case.event, opens)


def test_every_timer_of_the_definition_is_held_to_its_boundaries() -> None:
    assert {case.event for case in DEADLINES.values()} == {row.event for row in TIMERS}


# --- Deadlines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REMINDED.values(), ids=REMINDED)
def test_a_reminder_is_requested_from_its_instant_on_and_not_a_microsecond_before(case: Deadline) -> None:
    effect, opens = case.reminder or pytest.fail("has a reminder")
    subject = armed(case.start)
    assert subject.due_at == ahead(opens)
    assert tick(subject, ahead(opens) - MICROSECOND, DEFAULT) is None
    assert step_at(subject, ahead(opens) - MICROSECOND) == (None, None)
    for late in (0, 1):
        decision = tick(subject, ahead(opens) + late * MICROSECOND, DEFAULT)
        assert decision is not None
        assert (decision.step, decision.event, decision.owes) == (Step.REMIND, case.event, (effect,))
        assert decision.dest is case.start.state
        assert decision.changes["reminder"] == decision.changes["version"] == case.start.version + 1


@EVERY
def test_a_timer_fires_at_its_deadline_and_not_a_microsecond_before(case: Deadline) -> None:
    subject, deadline = in_time(case), ahead(case.due)
    assert subject.due_at == deadline
    assert tick(subject, deadline - MICROSECOND, DEFAULT) is None
    assert step_at(subject, deadline - MICROSECOND) == (None, None)
    for late in (0, 1):
        assert step_at(subject, deadline + late * MICROSECOND) == (case.step, case.event)


@EVERY
def test_no_request_by_hand_is_earlier_than_the_timer(case: Deadline) -> None:
    subject, deadline = in_time(case), ahead(case.due)
    asked = Request(SYSTEM)
    with pytest.raises(GuardRefused):
        decide(subject, case.event, asked, deadline - MICROSECOND, DEFAULT)
    if case.step is Step.FIRE:
        for late in (0, 1):
            assert decide(subject, case.event, asked, deadline + late * MICROSECOND, DEFAULT).step is Step.FIRE


@EVERY
def test_a_reminder_names_the_date_on_which_it_then_happens(case: Deadline) -> None:
    if case.reminder is None:
        assert (case.event, case.start.state) == (Event.PURGE_BACKUPS, DELETED), "only the purge goes unannounced"
        return
    decision = tick(awake(case.start), ahead(case.reminder[1]), DEFAULT)
    assert decision is not None and decision.promised == ahead(case.due)


@EVERY
def test_what_comes_next_is_never_in_the_past_once_a_sweep_has_come_by(case: Deadline) -> None:
    for day in (case.due - 1, case.due, case.due + 400):
        subject, _ = swept(awake(case.start), ahead(day))
        assert subject.due_at is None or subject.due_at > ahead(day)


# --- Notices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BINDING.values(), ids=BINDING)
def test_nothing_happens_without_a_delivered_notice_however_late_it_is(case: Deadline) -> None:
    waiting = reminded(case, ahead(case.reminder[1]))
    assert waiting.due_at is None and waiting.not_before is None
    assert step_at(waiting, ahead(case.due + 500)) == (None, None)


@pytest.mark.parametrize("case", BINDING.values(), ids=BINDING)
@pytest.mark.parametrize("delay", [timedelta(0), MICROSECOND, days(3), days(100)])
def test_a_notice_counts_from_its_delivery(case: Deadline, delay: timedelta) -> None:
    opens, deadline = ahead(case.reminder[1]), ahead(case.due)
    subject = delivered(reminded(case, opens), case.event, opens + delay)
    fires = deadline + delay
    assert (subject.not_before, subject.due_at) == (fires, fires)
    assert step_at(subject, fires - MICROSECOND) == (None, None)
    assert step_at(subject, fires) == (case.step, case.event)


@pytest.mark.parametrize("case", BINDING.values(), ids=BINDING)
def test_a_notice_for_an_older_clock_does_not_count(case: Deadline) -> None:
    too_early = ahead(case.reminder[1]) - MICROSECOND
    stale = SimpleNamespace(
        **{**vars(case.start), "reminder": 3, "reminded_at": too_early, "not_before": ahead(case.due)}
    )
    assert step_at(stale, ahead(case.due)) == (Step.REMIND, case.event)


@pytest.mark.parametrize("case", BINDING.values(), ids=BINDING)
def test_a_second_notice_takes_back_what_the_first_one_promised_until_it_is_delivered(case: Deadline) -> None:
    stale = SimpleNamespace(**{**vars(case.start), "reminder": 3, "reminded_at": ago(50), "not_before": ago(36)})
    late = ahead(case.due + 1)
    decision = tick(awake(stale), late, DEFAULT)
    assert decision is not None and decision.step is Step.REMIND
    waiting = changed(stale, decision)
    assert (waiting.reminded_at, waiting.not_before, waiting.due_at) == (late, None, None)
    assert step_at(waiting, late + days(100)) == (None, None)


def test_activity_voids_the_notice_and_a_lazy_timer_re_arms_itself() -> None:
    noticed = in_time(DEADLINES["the free plan lies idle"])
    active = SimpleNamespace(**{**vars(noticed), "last_active_at": ahead(364)})
    decision = tick(active, ahead(365), DEFAULT)
    assert decision is not None
    assert (decision.step, decision.changes) == (None, {"due_at": ahead(364 + 351)})
    assert step_at(active, ahead(364 + 351)) == (Step.REMIND, Event.CANCEL_INACTIVE)


def test_the_resolution_of_activity_is_added_so_that_nobody_is_early() -> None:
    coarse = Policy(activity_resolution="1 day")
    subject = armed(free(NOW), policy=coarse)
    assert subject.due_at == ahead(352)
    subject = delivered(changed(subject, tick(subject, ahead(352), coarse)), Event.CANCEL_INACTIVE, ahead(352), coarse)
    assert subject.due_at == ahead(366)
    assert step_at(subject, ahead(366) - MICROSECOND, coarse) == (None, None)
    assert step_at(subject, ahead(366), coarse) == (Step.FIRE, Event.CANCEL_INACTIVE)


@pytest.mark.parametrize(
    ("case", "event", "facts"),
    [
        ("the hold ends", "cancel", {"actor": OWNER}),
        ("the freeze ends", "suspend", {}),
        ("the free plan lies idle", "suspend", {}),
        ("content is deleted", "reactivate", {"actor": OWNER}),
    ],
)
def test_leaving_the_state_voids_the_notice(case: str, event: str, facts: dict[str, Any]) -> None:
    noticed = in_time(DEADLINES[case])
    moved = after(noticed, event, at=ahead(DEADLINES[case].due) - days(1), **facts)
    assert (moved.reminder, moved.reminded_at, moved.not_before) == (None, None, None)


def test_a_suspension_voids_the_notice_and_its_end_does_not_bring_it_back() -> None:
    noticed = in_time(DEADLINES["the hold ends"])
    lifted = after(after(noticed, "suspend", at=ahead(20)), "lift_suspension", at=ahead(40))
    assert lifted.held_at == NOW, "the clock has gone on"
    back, steps = swept(lifted, ahead(40))
    assert steps == [(Step.REMIND, Event.CANCEL_EXPIRED_TRIAL)]
    assert back.due_at == ahead(54)


@pytest.mark.parametrize("case", ["the hold ends", "the freeze ends", "the free plan lies idle"])
def test_in_approval_mode_owners_are_reminded_and_then_it_waits_for_an_admin(case: str) -> None:
    deadline = DEADLINES[case]
    opens, fires = ahead(deadline.reminder[1]), ahead(deadline.due)
    subject = delivered(reminded(deadline, opens, APPROVAL), deadline.event, opens, APPROVAL)
    assert subject.due_at is None
    assert step_at(subject, fires + days(99), APPROVAL) == (None, None)
    with pytest.raises(GuardRefused):
        fire(subject, deadline.event, at=fires - MICROSECOND, policy=APPROVAL)
    assert fire(subject, deadline.event, at=fires, policy=APPROVAL).changes["cancelled_by"] is Party.COMPANY


# --- The reminder before access ends, as the notice of the deletion ------------------------------


def pending(access: datetime, deletion: datetime) -> SimpleNamespace:
    before = cancelled(paid(access), at=deletion - days(30), access_ends_at=access)
    return armed(SimpleNamespace(**{**vars(before), "delete_content_at": deletion}), deletion - days(30))


def test_where_deletion_follows_the_end_of_access_at_once_one_reminder_serves_both_on_the_date() -> None:
    annual = armed(after(paid(ahead(300)), "cancel", OWNER))
    subject, steps = swept(annual, ahead(293))
    assert steps == [(Step.REMIND, Event.REVOKE_ACCESS)]
    assert swept(subject, ahead(300) - MICROSECOND)[1] == []
    gone, steps = swept(subject, ahead(300))
    assert steps == [(Step.FIRE, Event.REVOKE_ACCESS), (Step.REQUEST, Event.DELETE_CONTENT)]
    assert gone.erasure_requested_at == ahead(300)


@pytest.mark.parametrize(
    ("gap", "counts"), [(days(3), True), (days(7) - MICROSECOND, True), (days(7), False), (days(10), False)]
)
def test_the_reminder_of_access_counts_where_deletion_follows_less_than_seven_days_later(
    gap: timedelta, counts: bool
) -> None:
    access = ahead(50)
    reminded_once, _ = swept(pending(access, access + gap), access - days(7))
    revoked, steps = swept(reminded_once, access)
    own_notice = (Step.REMIND, Event.DELETE_CONTENT)
    if counts:
        assert own_notice not in steps
    else:
        revoked, later = swept(revoked, access + gap - days(7))
        assert own_notice in steps + later
    gone, steps = swept(revoked, access + gap)
    assert steps == [(Step.REQUEST, Event.DELETE_CONTENT)] and gone.erasure_requested_at == access + gap


def test_a_reminder_of_access_that_came_late_holds_the_deletion_back() -> None:
    subject, _ = swept(armed(after(paid(ahead(300)), "cancel", OWNER)), ahead(293), deliver=False)
    subject = delivered(subject, Event.REVOKE_ACCESS, ahead(298))
    revoked, steps = swept(subject, ahead(300))
    assert steps == [(Step.FIRE, Event.REVOKE_ACCESS)], "access still ends on its date"
    assert revoked.due_at == ahead(305)
    assert step_at(revoked, ahead(305) - MICROSECOND) == (None, None)
    assert step_at(revoked, ahead(305)) == (Step.REQUEST, Event.DELETE_CONTENT)


def test_a_payment_that_moves_the_dates_voids_the_reminder_that_named_the_old_ones() -> None:
    subject, _ = swept(armed(after(paid(ahead(300)), "cancel", OWNER)), ahead(295))
    longer = after(subject, "record_payment", BILLING, at=ahead(296), period_ends_at=ahead(330))
    assert longer.due_at == ahead(323)
    assert swept(longer, ahead(300))[1] == []
    assert swept(longer, ahead(323))[1] == [(Step.REMIND, Event.REVOKE_ACCESS)]


# --- A late machine harms nobody -----------------------------------------------------------------


def test_access_that_ended_while_the_machine_was_down_is_revoked_without_a_reminder() -> None:
    late = armed(cancelled(paid(ago(1)), at=ago(20), access_ends_at=ago(1)), ago(20))
    subject, steps = swept(late, NOW)
    assert steps == [(Step.FIRE, Event.REVOKE_ACCESS)]
    assert subject.due_at == ahead(3), "the deletion has a reminder of its own"


def test_a_trial_that_ran_out_long_ago_is_put_on_hold_from_today_and_goes_no_further() -> None:
    subject, steps = swept(armed(trial(ago(100)), ago(130)), NOW)
    assert steps == [(Step.FIRE, Event.EXPIRE_TRIAL)]
    assert (subject.state, subject.held_at, subject.due_at) == (State.ON_HOLD, NOW, ahead(16))


@pytest.mark.parametrize(
    "subject", [on_hold(ago(300)), unpaid(ago(300)), free(ago(900))], ids=["held", "unpaid", "idle"]
)
def test_after_an_outage_each_stage_waits_for_its_own_notice(subject: SimpleNamespace) -> None:
    subject, steps = swept(awake(subject), NOW)
    assert [step for step, _ in steps] == [Step.REMIND]
    subject, steps = swept(subject, ahead(14) - MICROSECOND)
    assert steps == []
    subject, steps = swept(subject, ahead(30))
    assert [step for step, _ in steps] == [Step.FIRE, Step.FIRE], "cancelled, with access over at once; no further"
    assert (subject.state, subject.cancelled_at, subject.delete_content_at) == (REVOKED, ahead(30), ahead(60))
    subject, steps = swept(subject, ahead(200))
    assert steps == [(Step.REMIND, Event.DELETE_CONTENT)] and subject.state is REVOKED
    subject, steps = swept(subject, ahead(207) - MICROSECOND)
    assert steps == []
    subject, steps = swept(subject, ahead(207))
    assert steps == [(Step.REQUEST, Event.DELETE_CONTENT)]


def test_a_deletion_that_happened_late_does_not_delay_the_purge_that_was_promised() -> None:
    late = armed(cancelled(free(), DELETED, at=ago(100), erasure_requested_at=ago(1), content_deleted_at=NOW))
    _, steps = swept(late, NOW)
    assert steps == [(Step.REQUEST, Event.PURGE_BACKUPS)]


def test_no_timer_alone_ever_carries_a_live_account_to_deletion_at_one_instant() -> None:
    for subject in (trial(ago(2000)), on_hold(ago(2000)), unpaid(ago(2000)), free(ago(2000))):
        moved, _ = swept(awake(subject), NOW)
        assert moved.state not in (REVOKED, DELETED) and moved.erasure_requested_at is None


# --- Legal holds ---------------------------------------------------------------------------------


def held(subject: SimpleNamespace, at: datetime) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(after(subject, "place_hold", at=at, case="1")), "cases": ("1",)})


@pytest.mark.parametrize("case", ["content is deleted", "backups are purged"])
def test_a_legal_hold_lets_nothing_be_destroyed_and_its_release_waits_seven_days(case: str) -> None:
    deadline = DEADLINES[case]
    blocked = held(in_time(deadline), ahead(deadline.due - 1))
    assert blocked.due_at is None
    assert step_at(blocked, ahead(deadline.due + 300)) == (None, None)
    released_at = ahead(deadline.due + 300)
    released = after(blocked, "release_hold", at=released_at, case="1")
    assert released.due_at is not None
    waiting, steps = swept(released, released_at)
    assert Step.REQUEST not in [step for step, _ in steps]
    assert step_at(waiting, released_at + days(7) - MICROSECOND) == (None, None)
    assert step_at(waiting, released_at + days(7)) == (Step.REQUEST, deadline.event)


def test_a_hold_that_was_released_long_before_the_deadline_changes_no_date() -> None:
    subject = held(armed(cancelled(free(), REVOKED, at=NOW)), ahead(1))
    released = after(subject, "release_hold", at=ahead(5), case="1")
    assert released.due_at == ahead(23)
    reminded_once, _ = swept(released, ahead(23))
    assert reminded_once.due_at == ahead(30)


def test_a_legal_hold_blocks_destruction_and_nothing_else() -> None:
    for name, case in DEADLINES.items():
        if case.step is Step.FIRE:
            under_hold = SimpleNamespace(**{**vars(in_time(case)), "legal_holds": 1, "cases": ("1",)})
            assert step_at(under_hold, ahead(case.due)) == (case.step, case.event), name


@pytest.mark.parametrize(
    ("state", "mark"), [(REVOKED, "erasure_requested_at"), (DELETED, "purge_requested_at")], ids=["erase", "purge"]
)
def test_what_was_requested_is_not_requested_again_unless_it_was_withdrawn(state: State, mark: str) -> None:
    gone = {"content_deleted_at": ago(60), "erasure_requested_at": ago(60)} if state is DELETED else {}
    notice = {"reminder": 5, "reminded_at": ago(60), "not_before": ago(53)}
    subject = cancelled(free(), state, at=ago(90), **{**gone, **notice, mark: ago(1)})
    assert due(subject, NOW, DEFAULT) is None
    assert step_at(subject, NOW) == (None, None)
    withdrawn = SimpleNamespace(**{**vars(subject), mark: None})
    assert step_at(withdrawn, NOW)[0] is Step.REQUEST


# --- The whole way out, and zones ----------------------------------------------------------------


def way_out(start: SimpleNamespace, at: datetime, policy: Policy = DEFAULT) -> list[tuple[datetime, str]]:
    """Every step from ``start`` to purged, handlers confirming at once: when, and what."""
    story: list[tuple[datetime, str]] = []
    subject = armed(start, at, policy)
    while subject.due_at is not None:
        instant = subject.due_at
        subject, steps = swept(subject, instant, policy)
        story += [(instant, f"{step} {event}") for step, event in steps]
        if steps and steps[-1][0] is Step.REQUEST:
            subject = confirmed(subject, steps[-1][1], instant)
        assert len(story) < 40, story
    assert subject.state is State.PURGED
    return story


def test_a_monthly_customer_leaves_exactly_on_the_published_days() -> None:
    story = way_out(after(paid(ahead(20)), "cancel", OWNER), NOW)
    assert [((instant - NOW) / days(1), what) for instant, what in story] == [
        (13, "remind revoke_access"),
        (20, "fire revoke_access"),
        (23, "remind delete_content"),
        (30, "request delete_content"),
        (59, "request purge_backups"),
    ]


def test_a_trial_that_nobody_cares_for_ends_by_the_published_days_alone() -> None:
    story = way_out(trial(ahead(30)), NOW)
    assert [((instant - NOW) / days(1), what) for instant, what in story] == [
        (23, "remind expire_trial"),
        (30, "fire expire_trial"),
        (46, "remind cancel_expired_trial"),
        (60, "fire cancel_expired_trial"),
        (60, "fire revoke_access"),
        (83, "remind delete_content"),
        (90, "request delete_content"),
        (119, "request purge_backups"),
    ]


def test_counted_from_the_end_of_access_an_annual_customer_keeps_thirty_days_more() -> None:
    later = Policy(deletion_clock=DeletionClock.END_OF_ACCESS)
    story = way_out(after(paid(ahead(300)), "cancel", OWNER, policy=later), NOW, later)
    assert [((instant - NOW) / days(1), what) for instant, what in story][-2:] == [
        (330, "request delete_content"),
        (358, "request purge_backups"),
    ]


@pytest.fixture(params=["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def host_zone(request: pytest.FixtureRequest) -> Iterator[str]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


#: Days before each change of the clocks in 2027, in the zones above.
CHANGES = [(2027, 3, 10), (2027, 3, 25), (2027, 4, 1), (2027, 10, 1), (2027, 10, 28), (2027, 11, 5)]


@pytest.mark.parametrize("date", CHANGES)
def test_the_daylight_saving_of_the_hosts_zone_changes_nothing(host_zone: str, date: tuple[int, int, int]) -> None:
    start = datetime(*date, 1, 30, tzinfo=UTC)
    story = way_out(after(paid(start + days(20)), "cancel", OWNER, at=start), start)
    hours = [(instant - start) / timedelta(hours=1) for instant, _ in story]
    assert hours == [13 * 24, 20 * 24, 23 * 24, 30 * 24, 59 * 24]
    assert {instant.utcoffset() for instant, _ in story} == {timedelta(0)}


#: No two durations are alike, so that each deadline shows which of them it read.
ODD = Policy(
    trial_length=days(31),
    trial_reminder=days(3),
    expired_trial_cancellation_after=days(40),
    unpaid_cancellation_after=days(200),
    inactive_cancellation_after=days(400),
    company_notice=days(12),
    access_reminder=days(9),
    deletion_after=days(35),
    deletion_notice=days(8),
    purge_after=days(70),
    purge_after_deletion=days(22),
    purge_lead=days(2),
    hold_release_notice=days(11),
)


@pytest.mark.parametrize(
    ("subject", "reminder", "deadline"),
    [
        (trial(ahead(30)), 27, 30),
        (on_hold(NOW), 28, 40),
        (unpaid(NOW), 188, 200),
        (free(NOW), 388, 400),
        (after(paid(ahead(20)), "cancel", OWNER, policy=ODD), 11, 20),
        (after(free(), "terminate", policy=ODD), 27, 35),
        (cancelled(free(), REVOKED, at=ago(90), hold_released_at=NOW), 3, 11),
    ],
)
def test_every_deadline_reads_its_own_setting(subject: SimpleNamespace, reminder: float, deadline: float) -> None:
    armed_subject = armed(subject, policy=ODD)
    assert armed_subject.due_at == ahead(reminder)
    noticed, steps = swept(armed_subject, ahead(reminder), ODD)
    assert [step for step, _ in steps] == [Step.REMIND]
    assert noticed.due_at == ahead(deadline)


def test_the_promised_dates_and_the_purge_read_their_own_settings() -> None:
    soon, late = (after(paid(ahead(left)), "cancel", OWNER, policy=ODD) for left in (5, 100))
    assert (soon.delete_content_at, soon.purge_backups_by) == (ahead(35), ahead(70))
    assert (late.delete_content_at, late.purge_backups_by) == (ahead(100), ahead(122))
    deleted = SimpleNamespace(**{**vars(soon), "state": DELETED})
    assert due(deleted, NOW, ODD) == ahead(68)


def test_a_suspended_account_is_cancelled_by_no_timer() -> None:
    for before in (trial(ago(1)), on_hold(ago(300)), unpaid(ago(300)), free(ago(900)), paid(ago(300))):
        subject = suspended(before)
        assert due(subject, NOW, DEFAULT) is None
        assert step_at(subject, ahead(5000)) == (None, None)


def test_a_paid_account_has_no_timer_however_long_billing_is_silent() -> None:
    subject = paid(ago(1000))
    assert due(subject, NOW, DEFAULT) is None
    assert step_at(subject, NOW) == (None, None)


def test_an_admin_who_lifts_the_last_hold_of_several_starts_the_wait_once() -> None:
    subject = cancelled(free(), REVOKED, at=ago(90), legal_holds=2, cases=("1", "2"))
    one_left = SimpleNamespace(**{**vars(after(subject, "release_hold", ADMIN, at=ago(5), case="1")), "cases": ("2",)})
    assert one_left.due_at is None
    released = after(one_left, "release_hold", ADMIN, at=NOW, case="2")
    assert released.hold_released_at == NOW and released.due_at == NOW, "the notice is requested at once"
