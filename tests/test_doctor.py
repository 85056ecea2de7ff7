"""Doctor finds what endangers a promise, and says what to do."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from lifecycle import Actor, Effect, Engine, ManualClock, Policy
from lifecycle.doctor import Level, examine
from lifecycle.tables import Status, outbox
from tests.conftest import START

ANN = "ann@acme.test"
DAY = timedelta(days=1)


def found(engine: Engine, check: str) -> list[str]:
    return [f"{f.level}: {f.message}" for f in examine(engine) if f.check == check and f.level is not Level.OK]


@pytest.fixture
def bare(url: str, clock: ManualClock) -> Engine:
    """An engine as a first-time operator starts it: no handlers."""
    engine = Engine(url, clock=clock)
    engine.migrate()
    return engine


def test_destruction_without_a_handler_is_a_problem(bare: Engine) -> None:
    messages = found(bare, "handlers")
    assert len(messages) == 2
    assert "delete_content has no handler: it is requested, but never carried out" in messages[0]


def test_handlers_that_exist_are_well(engine: Engine) -> None:
    assert found(engine, "handlers") == []


def test_notices_that_are_only_logged_are_a_problem(engine: Engine) -> None:
    (message,) = found(engine, "notices")
    assert "remind_deletion" in message and message.startswith("problem")


def test_a_missing_daemon_is_a_warning_and_a_troubled_one_a_problem(engine: Engine, clock: ManualClock) -> None:
    assert "none was ever seen" in found(engine, "daemon")[0]
    version = engine.policy.version
    engine.store.beat("one", START, START, version, None)
    assert found(engine, "daemon") == []
    engine.store.beat("one", START, START, version, "the outbox fails")
    assert found(engine, "daemon") == ["problem: Daemon one reports: the outbox fails."]
    clock.set(START + timedelta(minutes=3))
    assert "the last was seen 2026-01-01 00:00:00 UTC" in found(engine, "daemon")[0]


def test_an_overdue_timer_is_reported_after_five_minutes(engine: Engine, clock: ManualClock) -> None:
    engine.open_account("acme", company="Acme", owners=[ANN])
    clock.set(START + 23 * DAY + timedelta(minutes=4))
    assert found(engine, "at risk: timer_overdue") == []
    clock.set(START + 23 * DAY + timedelta(minutes=5))
    assert found(engine, "at risk: timer_overdue") == [
        "warning: Accounts that have been due for more than 5 minutes: 1."
    ]


def test_silence_of_billing_after_a_period_is_reported(engine: Engine, clock: ManualClock) -> None:
    engine.open_account("acme", company="Acme", owners=[ANN], plan="paid", period_ends_at=START + DAY)
    clock.set(START + 4 * DAY - timedelta(microseconds=1))
    assert found(engine, "at risk: billing_silent") == []
    clock.set(START + 4 * DAY)
    assert len(found(engine, "at risk: billing_silent")) == 1


def test_an_erasure_that_is_not_confirmed_endangers_and_then_breaks_the_purge(bare: Engine) -> None:
    bare.open_account("acme", company="Acme", owners=[ANN], plan="free")
    bare.fire("acme", "cancel", actor=Actor.owner(ANN))
    bare.run_until(START + 31 * DAY)
    assert len(found(bare, "at risk: erasure_unconfirmed")) == 1
    assert found(bare, "at risk: purge_endangered") == []
    bare.run_until(START + 59 * DAY + timedelta(minutes=5))
    assert len(found(bare, "at risk: purge_endangered")) == 1
    bare.run_until(START + 60 * DAY)
    assert found(bare, "at risk: purge_broken")[0].startswith("problem")


def test_a_notice_that_stays_undelivered_is_reported(url: str, clock: ManualClock) -> None:
    def down(_: object) -> None:
        raise OSError("no mail server")

    engine = Engine(url, clock=clock, handlers={Effect.REMIND_DELETION: down})
    engine.migrate()
    engine.open_account("acme", company="Acme", owners=[ANN], plan="free")
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + 23 * DAY)
    assert found(engine, "at risk: notice_undelivered") == []
    clock.set(START + 24 * DAY)
    assert len(found(engine, "at risk: notice_undelivered")) == 1
    engine.close()


def test_parked_effects_are_a_problem(engine: Engine) -> None:
    engine.open_account("acme", company="Acme", owners=[ANN], plan="free")
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    with engine.database.write() as connection:
        connection.execute(update(outbox).values(status=Status.PARKED))
    assert found(engine, "outbox")[0].startswith("problem: 2 effects are parked")


def test_what_waits_for_an_admin_is_reported(url: str, clock: ManualClock) -> None:
    engine = Engine(url, clock=clock, policy=Policy.from_mapping({"company_cancellation": "approval"}))
    engine.migrate()
    engine.open_account("acme", company="Acme", owners=[ANN])
    engine.run_until(START + 60 * DAY)
    assert found(engine, "approval") == ["warning: 1 cancellations by the company wait for an admin."]
    engine.close()


def test_the_worst_findings_come_first(bare: Engine) -> None:
    levels = [finding.level for finding in examine(bare)]
    assert levels == sorted(levels, key=list(Level).index)
    assert levels[0] is Level.PROBLEM and levels[-1] is Level.OK


def test_another_policy_than_the_one_in_force_is_a_problem(engine: Engine, url: str) -> None:
    other = Engine(url, policy=Policy.from_mapping({"deletion_after": "40 days"}))
    (message,) = found(other, "policy")
    assert "every change is refused" in message and other.policy.version in message
    assert found(engine, "policy") == []
    other.close()
