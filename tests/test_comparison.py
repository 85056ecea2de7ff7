"""Two policies compared: values, ways, words and days, all found by asking the machine."""

from datetime import timedelta

import pytest

from lifecycle import Policy
from lifecycle.actor import Role
from lifecycle.comparison import KINDS, OPENING, Kind, Shift, compare, day, live
from lifecycle.states import Event, Plan, Step

DAY = timedelta(days=1)
LONGER = Policy.from_mapping({"deletion_after": "45 days", "purge_after": "80 days"})
APPROVAL = Policy.from_mapping({"company_cancellation": "approval"})


def test_the_same_policy_differs_in_nothing() -> None:
    found = compare(Policy(), Policy())
    assert (found.values, found.edges, found.timers, found.changed) == ((), (), (), ())
    assert {one.kind for one in found.deadlines} <= {kind.name for kind in KINDS}


def test_settings_say_what_they_mean_for_customers() -> None:
    assert [(v.setting, v.old, v.new, v.shift) for v in compare(Policy(), LONGER).values] == [
        ("deletion_after", "30 days", "45 days", Shift.LATER),
        ("purge_after", "60 days", "80 days", Shift.LATER),
    ]
    assert {v.shift for v in compare(LONGER, Policy()).values} == {Shift.SOONER}


def test_upon_approval_the_companys_cancellations_pass_from_the_timer_to_admins() -> None:
    found = compare(Policy(), APPROVAL).edges
    company = {Event.CANCEL_EXPIRED_TRIAL, Event.CANCEL_UNPAID, Event.CANCEL_INACTIVE}
    assert {(one.event, one.role, one.shift) for one in found} == {
        *((event, Role.ADMIN, Shift.NEWLY) for event in company),
        *((event, Role.SYSTEM, Shift.NO_MORE) for event in company),
    }


def test_where_owners_must_confirm_support_no_longer_cancels() -> None:
    (edge,) = compare(Policy(), Policy.from_mapping({"cancellation_requires_confirmation": True})).edges
    assert (edge.event, edge.role, edge.shift) == (Event.CANCEL, Role.SUPPORT, Shift.NO_MORE)


def test_timers_say_only_what_differs() -> None:
    words = {one.event: (one.old, one.new) for one in compare(Policy(), APPROVAL).timers}
    assert words[Event.CANCEL_UNPAID] == ("", "waits for an admin, once due")
    assert Event.DELETE_CONTENT not in words


@pytest.mark.parametrize(
    ("kind", "event", "old", "new"),
    [
        ("trial, not upgraded", Event.DELETE_CONTENT, 90, 105),
        ("monthly, cancelled on day 1", Event.REVOKE_ACCESS, 31, 31),
        ("monthly, cancelled on day 1", Event.DELETE_CONTENT, 31, 46),
        ("annual, cancelled on day 60", Event.DELETE_CONTENT, 365, 365),
        ("monthly, suspended on day 5, cancelled on day 10", Event.PURGE_BACKUPS, 69, 89),
    ],
)
def test_each_kind_of_account_has_its_days(kind: str, event: Event, old: int, new: int) -> None:
    (found,) = (one for one in compare(Policy(), LONGER).deadlines if (one.kind, one.event) == (kind, event))
    assert (found.old, found.new) == (old * DAY, new * DAY)


def test_what_no_longer_happens_has_no_day() -> None:
    (found,) = (d for d in compare(Policy(), APPROVAL).deadlines if d.event is Event.CANCEL_INACTIVE)
    assert (found.old, found.new, found.shift) == (365 * DAY, None, Shift.NO_MORE)
    assert (day(found.old), day(found.new), day(DAY / 2)) == ("day 365", "-", "day 0 + 12 hours")


def test_a_life_is_lived_by_the_machine_with_every_notice_before_its_event() -> None:
    entries = live(Kind("trial", Plan.TRIAL), Policy())
    reminded = {entry.event: entry.at for entry in entries if entry.step is Step.REMIND}
    fired = {entry.event: entry.at for entry in entries if entry.step is Step.FIRE}
    assert fired[Event.CANCEL_EXPIRED_TRIAL] - reminded[Event.CANCEL_EXPIRED_TRIAL] == 14 * DAY
    assert fired[Event.DELETE_CONTENT] - reminded[Event.DELETE_CONTENT] == 7 * DAY
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    assert entries[0].at == OPENING + 23 * DAY


def test_a_story_that_the_policy_refuses_goes_on_without_it() -> None:
    soon = Policy.from_mapping({"expired_trial_cancellation_after": "9 days", "company_notice": "8 days"})
    kind = Kind("cancelled twice", Plan.TRIAL, story=((45, Event.CANCEL, Role.OWNER),))
    cancelled = [entry.event for entry in live(kind, soon) if entry.event in (Event.CANCEL, Event.CANCEL_EXPIRED_TRIAL)]
    assert set(cancelled) == {Event.CANCEL_EXPIRED_TRIAL}
