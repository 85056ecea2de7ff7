"""The public interface, name by name, on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from freezegun import freeze_time

import lifecycle
from lifecycle import (
    Actor,
    Engine,
    InvalidInput,
    ManualClock,
    NoSuchTransition,
    NotAuthorised,
    Policy,
    Refused,
    Role,
    State,
    SystemClock,
)
from tests.conftest import START

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")
DAY = timedelta(days=1)


@pytest.fixture
def acme(engine: Engine) -> Engine:
    engine.open_account("acme", company="Acme Ltd", owners=[ANN])
    return engine


def test_every_public_name_is_importable_and_listed() -> None:
    assert {"Engine", "Actor", "Policy", "ManualClock", "State", "Effect", "Refused"} <= set(dir(lifecycle))
    for name in lifecycle.__all__:
        assert getattr(lifecycle, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'engine_of_doom'"):
        lifecycle.engine_of_doom  # noqa: B018


def test_may_answers_as_fire_would_and_changes_nothing(acme: Engine) -> None:
    assert acme.may("acme", "cancel", actor=Actor.owner(ANN)).allowed
    verdict = acme.may("acme", "cancel", actor=Actor.owner("eve@evil.test"))
    assert not verdict.allowed
    assert verdict.reasons == (
        "The company and e-mail of the request match no owner on file; contact the owners on file instead "
        "(contact_owners).",
    )
    assert acme.get("acme").version == 1


def test_nobody_can_act_as_the_system(acme: Engine) -> None:
    with pytest.raises(NotAuthorised, match="Nobody can act as the system"):
        acme.fire("acme", "expire_trial", actor=Actor(Role.SYSTEM, "timer"))
    assert not acme.may("acme", "expire_trial", actor=Actor(Role.SYSTEM, "timer")).allowed


@pytest.mark.parametrize(
    ("event", "facts", "message"),
    [
        ("cancle", {}, "did you mean cancel"),
        ("zzz", {}, "the events are"),
        ("cancel", {"compny": "Acme"}, "did you mean company"),
        ("cancel", {"zzz": 1}, "it takes company, email, reason"),
        ("renew", {"period_ends_at": datetime(2027, 1, 1)}, "time zone"),  # noqa: DTZ001
        ("renew", {"period_ends_at": "tomorrow"}, "time zone"),
        ("cancel", {"company": 7}, "company must be text"),
        ("cancel", {"reason": "x\x00"}, "control character"),
    ],
)
def test_a_malformed_request_changes_nothing(acme: Engine, event: str, facts: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        acme.fire("acme", event, actor=Actor.billing("psp"), **facts)
    assert acme.get("acme").version == 1


def test_only_billing_or_an_admin_with_a_reason_states_what_is_paid(acme: Engine) -> None:
    acme.fire("acme", "cancel", actor=Actor.owner(ANN))
    period = START + 90 * DAY
    with pytest.raises(Refused, match="Only billing, or an admin with a reason"):
        acme.fire("acme", "reactivate", actor=Actor.owner(ANN), period_ends_at=period)
    entry = acme.fire("acme", "reactivate", actor=Actor.billing("psp"), period_ends_at=period)
    assert (entry.dest, acme.get("acme").plan) == (State.ACTIVE, "paid")


def test_entitlements_end_with_access_whether_or_not_a_sweep_came_by(engine: Engine, clock: ManualClock) -> None:
    engine.open_account("acme", company="Acme", owners=[ANN], plan="paid", period_ends_at=START + 10 * DAY)
    assert engine.entitlements("acme").billed
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    clock.set(START + 10 * DAY - timedelta(microseconds=1))
    assert engine.entitlements("acme").use and not engine.entitlements("acme").billed
    clock.set(START + 10 * DAY)
    assert not engine.entitlements("acme").sign_in
    assert engine.get("acme").state is State.CANCEL_PENDING


def test_an_explanation_says_why_what_comes_and_what_is_possible(acme: Engine) -> None:
    told = acme.explain("acme")
    assert told.because == "open_account by system:engine at 2026-01-01 00:00 UTC"
    assert [(date.at, date.what) for date in told.coming] == [
        (START + 23 * DAY, "reminder of expire_trial is sent"),
        (START + 30 * DAY, "the end of the trial"),
        (START + 30 * DAY, "expire_trial, at the earliest"),
    ]
    possible = {p.event: p for p in told.possible}
    assert set(possible) == {
        "upgrade", "downgrade", "suspend", "cancel", "terminate", "place_hold", "contact_owners", "add_owner"
    }  # fmt: skip
    assert possible["upgrade"].needs == ("period_ends_at",)
    assert possible["suspend"].by == (Role.ADMIN,)
    refused = {r.event: r.reasons for r in told.refused}
    assert refused["expire_trial"] == ("It fires by itself, at its deadline.",)
    assert refused["release_hold"] == ("No legal hold of this case is in force.",)


def test_the_explanation_of_a_purged_account_promises_nothing(acme: Engine) -> None:
    acme.fire("acme", "cancel", actor=Actor.owner(ANN))
    acme.run_until(START + 100 * DAY)
    told = acme.explain("acme")
    assert (told.state, told.coming, told.possible, told.refused) == (State.PURGED, (), (), ())


def test_what_waits_for_an_admin_shows_since_when_it_may_be_fired(url: str, clock: ManualClock) -> None:
    engine = Engine(url, clock=clock, policy=Policy.from_mapping({"company_cancellation": "approval"}))
    engine.migrate()
    engine.open_account("acme", company="Acme", owners=[ANN])
    engine.run_until(START + 50 * DAY)
    (date,) = engine.explain("acme").coming
    assert (date.at, date.what) == (START + 60 * DAY, "cancel_expired_trial may be fired by an admin")
    engine.close()


def test_every_possible_event_of_an_explanation_can_be_fired(engine: Engine, clock: ManualClock) -> None:
    """The explanation keeps its word in every state that an account passes through."""
    engine.open_account("acme", company="Acme", owners=[ANN])
    for day in (0, 31, 61, 70, 92):
        engine.run_until(START + day * DAY)
        told = engine.explain("acme")
        assert told.state is engine.get("acme").state
        for choice in told.possible:
            facts: dict[str, Any] = {"reason": "r"}
            offered = {"company": "Acme", "email": ANN, "period_ends_at": clock.now() + DAY, "owner": "bob@acme.test"}
            role = choice.by[-1]
            facts |= {name: offered[name] for name in choice.needs if name in offered}
            if role is Role.SUPPORT and choice.event in ("cancel", "downgrade", "reactivate", "add_owner"):
                facts |= {"company": "Acme", "email": ANN}
            actor = Actor(role, ANN if role is Role.OWNER else "somebody")
            assert engine.may("acme", choice.event, actor=actor, **facts).allowed, choice


def test_a_refund_is_for_people_to_look_at_when_it_may_be_fair(engine: Engine, clock: ManualClock) -> None:
    engine.open_account("acme", company="Acme", owners=[ANN], plan="paid", period_ends_at=START + 365 * DAY)
    assert engine.refund_assessment("acme").reasons == ("The paid period began less than 3 days ago.",)
    clock.set(START + 3 * DAY)
    assert not engine.refund_assessment("acme").review
    clock.set(START + 60 * DAY)
    assert "unused for 60 days or more" in engine.refund_assessment("acme").reasons[0]
    engine.record_activity("acme")
    assert not engine.refund_assessment("acme").review


def test_owners_are_contacted_at_the_addresses_on_file(acme: Engine) -> None:
    entry = acme.contact_owners("acme", actor=Actor.support("sue"), reason="somebody asked without knowing the owner")
    assert (entry.event, entry.source, entry.dest) == ("contact_owners", State.TRIAL, State.TRIAL)
    assert acme.outbox_counts() == {"pending": 1}
    with pytest.raises(NotAuthorised):
        acme.contact_owners("acme", actor=Actor.billing("psp"), reason="x")


def test_due_names_what_a_sweep_will_do_and_when(acme: Engine, clock: ManualClock) -> None:
    assert list(acme.due(within=22 * DAY)) == []
    (entry,) = acme.due(within=23 * DAY)
    assert (entry.event, entry.step, entry.at) == ("expire_trial", "remind", START + 23 * DAY)
    clock.set(START + 24 * DAY)
    assert [d.account_id for d in acme.due()] == ["acme"]


def test_the_summary_names_every_state(acme: Engine) -> None:
    assert acme.summary() == {state: int(state is State.TRIAL) for state in State}


def test_activity_moves_forward_only_and_never_into_the_future(acme: Engine, clock: ManualClock) -> None:
    clock.set(START + 5 * DAY)
    assert acme.record_activity("acme", START + 3 * DAY) is True
    assert acme.record_activity("acme", START + 2 * DAY) is False
    assert acme.get("acme").last_active_at == START + 3 * DAY
    with pytest.raises(InvalidInput, match="future"):
        acme.record_activity("acme", START + 6 * DAY)


def test_run_until_needs_a_clock_that_can_be_set(sqlite_url: str) -> None:
    engine = Engine(sqlite_url)
    engine.migrate()
    with pytest.raises(InvalidInput, match="ManualClock"):
        engine.run_until(START)
    engine.close()


def test_a_manual_clock_never_runs_backwards(clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="can't go back"):
        clock.set(START - DAY)
    with pytest.raises(InvalidInput, match="time zone"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_system_clock_decides_where_none_is_injected(sqlite_url: str) -> None:
    engine = Engine(sqlite_url, clock=SystemClock())
    with freeze_time("2026-01-01 00:00:00"):
        engine.migrate()
        engine.open_account("acme", company="Acme", owners=[ANN])
    with freeze_time("2026-01-30 23:59:59.999999"):
        engine.sweep()
        assert engine.get("acme").state is State.TRIAL
    with freeze_time("2026-01-31 00:00:00"):
        engine.sweep()
        assert engine.get("acme").state is State.ON_HOLD
    engine.close()


@pytest.mark.parametrize("year", [1969, 2200, 9999])
def test_an_instant_that_no_calendar_of_ours_reaches_is_refused(acme: Engine, year: int) -> None:
    with pytest.raises(InvalidInput, match="between 1970 and 2199"):
        acme.fire("acme", "upgrade", actor=Actor.billing("psp"), period_ends_at=datetime(year, 12, 31, tzinfo=UTC))


def test_a_suspended_account_is_told_apart_from_an_unpaid_one(engine: Engine, clock: ManualClock) -> None:
    engine.open_account("acme", company="Acme", owners=[ANN], plan="paid", period_ends_at=START + DAY)
    assert engine.get("acme").freeze_reason is None
    clock.set(START + DAY)
    engine.fire("acme", "freeze", actor=Actor.billing("psp"))
    assert engine.get("acme").freeze_reason == "billing"
    assert engine.entitlements("acme").export
    engine.fire("acme", "suspend", actor=ADMIN, reason="abuse")
    assert engine.get("acme").freeze_reason == "suspension"
    assert not engine.entitlements("acme").export


def test_a_snapshot_shows_its_account_and_refuses_unknown_columns(acme: Engine) -> None:
    account = acme.get("acme")
    assert repr(account) == "<account acme in trial, version 1>"
    assert account.as_dict()["owners"] == [ANN]
    with pytest.raises(AttributeError):
        account.colour  # noqa: B018


def test_an_event_that_does_not_leave_the_state_says_what_does(acme: Engine) -> None:
    with pytest.raises(NoSuchTransition, match="possible here: add_owner, cancel, contact_owners, downgrade"):
        acme.fire("acme", "thaw", actor=Actor.billing("psp"))
