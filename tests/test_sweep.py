"""The sweep as a whole: batches, stops, chains, outages, and two at the same time."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from lifecycle import Actor, Engine, ManualClock, Policy, State
from lifecycle.errors import DefinitionError
from lifecycle.machine import TIMERS, TRANSITIONS
from lifecycle.rows import timer_of
from lifecycle.tables import accounts, history, outbox
from tests.conftest import START

ANN = "ann@acme.test"
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


def trials(engine: Engine, count: int) -> None:
    for number in range(count):
        engine.open_account(f"a{number}", company="Acme", owners=[ANN])


def small_batches(url: str, clock: ManualClock, batch: int) -> Engine:
    engine = Engine(url, clock=clock, batch=batch)
    engine.migrate()
    return engine


def at(engine: Engine, days: float) -> None:
    engine.clock.set(START + timedelta(days=days))  # type: ignore[attr-defined]


def test_a_pass_goes_on_until_nothing_is_due(url: str, clock: ManualClock) -> None:
    engine = small_batches(url, clock, batch=3)
    trials(engine, 7)
    at(engine, 23)
    batches: list[int] = []
    report = engine.sweep(on_batch=lambda state, moves: batches.append(sum(moves.values())))
    assert report.moves == {("expire_trial", "remind"): 7}
    assert batches == [3, 3, 1]
    assert (report.finished, report.rearmed, report.next_due) == (True, 0, START + 30 * DAY)
    engine.close()


def test_a_sweep_stops_between_batches_and_goes_on_later(url: str, clock: ManualClock) -> None:
    engine = small_batches(url, clock, batch=2)
    trials(engine, 5)
    at(engine, 23)
    done: list[int] = []
    report = engine.sweep(stop=lambda: len(done) == 1, on_batch=lambda *_: done.append(1))
    assert (report.finished, report.moved) == (False, 2)
    assert engine.sweep().moved == 3
    with engine.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(history)) == 5 + 5
    engine.close()


def test_only_the_states_that_were_asked_for_are_swept(engine: Engine) -> None:
    trials(engine, 1)
    at(engine, 30)
    assert engine.sweep(states=[State.ON_HOLD]).moved == 0
    assert engine.sweep(states=[State.TRIAL]).moved == 1


def test_a_company_cancellation_goes_on_to_the_end_of_access_in_the_same_sweep(engine: Engine) -> None:
    trials(engine, 1)
    engine.run_until(START + 59 * DAY)
    at(engine, 60)
    assert engine.sweep().moves == {("cancel_expired_trial", "fire"): 1, ("revoke_access", "fire"): 1}
    assert engine.get("a0").state is State.ACCESS_REVOKED


def test_activity_costs_no_index_and_the_timer_rearms_itself(engine: Engine) -> None:
    engine.open_account("free", company="Acme", owners=[ANN], plan="free")
    due = engine.get("free").due_at
    assert due == START + 351 * DAY
    at(engine, 100)
    assert engine.record_activity("free") is True
    assert engine.get("free").due_at == due
    assert engine.get("free").version == 1
    at(engine, 351)
    report = engine.sweep()
    assert (report.moved, report.rearmed) == (0, 1)
    assert engine.get("free").due_at == START + (100 + 351) * DAY
    assert len(engine.history("free")) == 1


def test_activity_voids_a_notice_that_was_given(engine: Engine) -> None:
    engine.open_account("free", company="Acme", owners=[ANN], plan="free")
    engine.run_until(START + 352 * DAY)
    assert engine.get("free").not_before == START + 365 * DAY
    engine.record_activity("free")
    engine.run_until(START + 500 * DAY)
    assert engine.get("free").state is State.ACTIVE
    engine.run_until(START + (352 + 365) * DAY - MICROSECOND)
    assert engine.get("free").state is State.ACTIVE
    engine.run_until(START + (352 + 365) * DAY)
    assert engine.get("free").state is State.ACCESS_REVOKED


def test_activity_arms_a_timer_that_rests_on_the_notice_of_the_old_clock(url: str, clock: ManualClock) -> None:
    engine = Engine(url, policy=Policy.from_mapping({"company_cancellation": "approval"}), clock=clock)
    engine.migrate()
    engine.open_account("free", company="Acme", owners=[ANN], plan="free")
    engine.run_until(START + 360 * DAY)
    assert engine.get("free").due_at is None
    engine.record_activity("free")
    assert engine.get("free").due_at == START + (360 + 351) * DAY
    engine.close()


def test_activity_closer_than_the_resolution_is_not_written_and_nobody_is_early(url: str, clock: ManualClock) -> None:
    engine = Engine(url, policy=Policy.from_mapping({"activity_resolution": "1 day"}), clock=clock)
    engine.migrate()
    engine.open_account("free", company="Acme", owners=[ANN], plan="free")
    engine.clock.set(START + DAY - MICROSECOND)  # type: ignore[attr-defined]
    assert engine.record_activity("free") is False
    engine.run_until(START + 366 * DAY - MICROSECOND)
    assert engine.get("free").state is State.ACTIVE
    engine.run_until(START + 366 * DAY)
    assert engine.get("free").state is State.ACCESS_REVOKED
    engine.close()


def test_after_a_long_outage_nobody_is_carried_from_hold_to_deletion_in_one_go(engine: Engine) -> None:
    trials(engine, 1)
    at(engine, 400)
    engine.sweep()
    engine.deliver()
    engine.sweep()
    account = engine.get("a0")
    assert (account.state, account.held_at) == (State.ON_HOLD, START + 400 * DAY)
    at(engine, 800)
    for _ in range(5):
        engine.sweep()
        engine.deliver()
    assert engine.get("a0").state is State.ON_HOLD, "the notice was given only now"
    engine.run_until(START + 814 * DAY)
    account = engine.get("a0")
    assert (account.state, account.cancelled_at) == (State.ACCESS_REVOKED, START + 814 * DAY)
    assert account.delete_content_at == START + 844 * DAY


def test_two_sweeps_at_once_move_every_account_once(url: str, clock: ManualClock) -> None:
    engine = small_batches(url, clock, batch=10)
    trials(engine, 120)
    at(engine, 23)
    moved: list[int] = []

    def sweep() -> None:
        other = Engine(url, clock=clock, batch=10)
        moved.append(other.sweep().moved)
        other.close()

    threads = [threading.Thread(target=sweep) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.sweep()
    with engine.database.read() as connection:
        reminded = connection.scalar(select(func.count()).select_from(outbox))
        versions = set(connection.scalars(select(accounts.c.version)))
    assert (reminded, versions) == (120, {2})
    engine.close()


@pytest.mark.postgres
def test_a_sweep_leaves_what_another_one_is_moving(postgresql_url: str, clock: ManualClock) -> None:
    engine = small_batches(postgresql_url, clock, batch=10)
    trials(engine, 2)
    at(engine, 23)
    with engine.database.write() as connection:
        connection.execute(update(accounts).where(accounts.c.id == "a0").values(hold_released_at=START))
        assert engine.sweep().moved == 1
        assert engine.sweep().moved == 0
    assert engine.sweep().moved == 1
    engine.close()


def test_the_next_due_instants_are_known_per_timer(engine: Engine) -> None:
    trials(engine, 2)
    engine.open_account("free", company="Acme", owners=[ANN], plan="free")
    status = {timer.event: timer for timer in engine.timers()}
    assert (status["expire_trial"].next, status["expire_trial"].waiting) == (START + 23 * DAY, 2)
    assert (status["cancel_inactive"].next, status["cancel_inactive"].overdue) == (START + 351 * DAY, 0)
    at(engine, 24)
    assert {t.event: t.overdue for t in engine.timers()}["expire_trial"] == 2
    assert len(status) == len(TIMERS) == 7


def test_a_reminder_names_the_earliest_date_that_it_can_promise(engine: Engine) -> None:
    trials(engine, 1)
    engine.run_until(START + 30 * DAY)
    at(engine, 70)
    engine.sweep()
    with engine.database.read() as connection:
        promised: dict[Any, Any] = dict(connection.execute(select(outbox.c.effect, outbox.c.promised)).all())  # type: ignore[arg-type]
    assert promised["remind_trial_end"] == START + 30 * DAY
    assert promised["remind_company_cancellation"] == START + 84 * DAY


def test_a_cancellation_by_an_owner_owes_a_review_of_the_refund_where_the_policy_says_so(engine: Engine) -> None:
    for name in ("new", "unused", "plain"):
        engine.open_account(name, company="Acme", owners=[ANN], plan="paid", period_ends_at=START + 300 * DAY)
    engine.fire("new", "cancel", actor=Actor.owner(ANN))
    at(engine, 61)
    engine.record_activity("plain")
    for name in ("unused", "plain"):
        engine.fire(name, "cancel", actor=Actor.owner(ANN))
    with engine.database.read() as connection:
        reviewed = set(connection.scalars(select(outbox.c.account_id).where(outbox.c.effect == "review_refund")))
    assert reviewed == {"new", "unused"}


def test_a_row_without_a_timer_has_no_moves_by_itself() -> None:
    with pytest.raises(DefinitionError, match="has no timer"):
        timer_of(next(row for row in TRANSITIONS if row.timer is None))
