"""The brake: how much is asked to be destroyed at a time, by all daemons together, and what a release lets through."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from lifecycle import Actor, Engine, InvalidInput, ManualClock, NotAuthorised, Policy, PolicyError, Safety, State
from lifecycle.doctor import examine
from lifecycle.importer import import_accounts
from lifecycle.states import DESTRUCTIVE, Effect
from lifecycle.sweep import BRAKED
from tests.conftest import START

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TIGHT = Safety(accounts_per_hour=3, share_per_hour=0, accounts_per_day=5, share_per_day=0)
COUNT = 12


def engine_with(url: str, clock: ManualClock, safety: Safety, count: int = COUNT) -> Engine:
    """Accounts whose deletion is due now, every one of them."""
    engine = Engine(url, clock=clock, safety=safety, handlers=dict.fromkeys(DESTRUCTIVE, lambda task: "erased"))
    engine.migrate()
    for number in range(count):
        engine.open_account(f"a{number:03}", company="Acme", owners=[ANN], plan="free")
        engine.fire(f"a{number:03}", "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + 29 * DAY)
    clock.set(START + 30 * DAY)
    return engine


@pytest.fixture
def engine(url: str, clock: ManualClock) -> Iterator[Engine]:
    engine = engine_with(url, clock, TIGHT)
    yield engine
    engine.close()


def requested(engine: Engine) -> int:
    return sum(account.erasure_requested_at is not None for account in engine.accounts())


def test_no_more_is_requested_than_an_hour_allows(engine: Engine) -> None:
    report = engine.sweep()
    assert (requested(engine), report.withheld) == (3, BRAKED)
    assert engine.sweep().moved == 0, "the same hour allows no more"
    assert report.next_due == START + 30 * DAY + HOUR


def test_a_day_allows_less_than_its_hours_together(engine: Engine) -> None:
    counts = []
    for hour in range(26):
        engine.clock.set(START + 30 * DAY + hour * HOUR)  # type: ignore[attr-defined]
        engine.sweep()
        counts.append(requested(engine))
    assert counts[0] == 3 and counts[1] == counts[23] == 5 and counts[24] == 8 and counts[25] == 10


def test_what_the_brake_holds_back_can_still_come_back(engine: Engine) -> None:
    engine.sweep()
    waiting = next(account.id for account in engine.accounts() if account.erasure_requested_at is None)
    engine.fire(waiting, "reactivate", actor=Actor.owner(ANN))
    assert engine.get(waiting).state is State.ACTIVE


def test_everything_reversible_goes_on_behind_the_brake(engine: Engine) -> None:
    engine.sweep()
    engine.open_account("late", company="Late", owners=[ANN], plan="free")
    engine.fire("late", "cancel", actor=Actor.owner(ANN))
    engine.open_account("trial", company="Trial", owners=[ANN])
    engine.clock.set(START + 60 * DAY + HOUR)  # type: ignore[attr-defined]
    engine.sweep()
    assert engine.get("trial").state is State.ON_HOLD
    assert engine.get("late").state is State.ACCESS_REVOKED
    assert any(entry.step == "remind" for entry in engine.history("late")), "its notice is not held back"


def test_a_leap_of_years_destroys_no_more_than_the_limit(engine: Engine) -> None:
    engine.clock.set(START + 12 * 365 * DAY)  # type: ignore[attr-defined]
    for _ in range(5):
        engine.sweep()
        engine.deliver()
    assert engine.summary()[State.CONTENT_DELETED] == 3


def test_the_share_counts_where_it_is_more(url: str, clock: ManualClock) -> None:
    half = Safety(accounts_per_hour=1, share_per_hour=0.5, accounts_per_day=1, share_per_day=0.75)
    engine = engine_with(url, clock, half)
    engine.sweep()
    assert requested(engine) == 6
    engine.clock.set(START + 30 * DAY + 2 * HOUR)  # type: ignore[attr-defined]
    engine.sweep()
    assert requested(engine) == 9
    engine.close()


def test_by_default_fifty_accounts_go_through_and_no_more(url: str, clock: ManualClock) -> None:
    engine = engine_with(url, clock, Safety(), count=60)
    engine.sweep()
    assert requested(engine) == 50
    engine.close()


def test_another_daemon_or_a_restart_does_not_loosen_the_brake(engine: Engine, url: str) -> None:
    engine.sweep()
    other = Engine(url, clock=engine.clock, safety=TIGHT)
    assert other.sweep().withheld == BRAKED
    assert requested(engine) == 3
    other.close()


def test_two_daemons_at_once_share_one_limit(engine: Engine, url: str) -> None:
    others = [Engine(url, clock=engine.clock, safety=TIGHT, batch=1) for _ in range(4)]
    threads = [threading.Thread(target=other.sweep) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.sweep()
    assert requested(engine) == 3
    for other in others:
        other.close()


def test_a_release_lets_that_many_more_through_and_is_recorded(engine: Engine) -> None:
    engine.sweep()
    engine.release_brake(4, actor=ADMIN, reason="spam accounts, ticket 4711")
    engine.sweep()
    assert requested(engine) == 7
    with engine.database.read() as connection:
        from sqlalchemy import select

        from lifecycle.operation_tables import brake_releases

        (row,) = connection.execute(select(brake_releases)).mappings()
    assert (row["accounts"], row["actor"], row["reason"]) == (4, "admin:root", "spam accounts, ticket 4711")


@pytest.mark.parametrize("count", [0, -1])
def test_a_release_of_nothing_is_refused(engine: Engine, count: int) -> None:
    with pytest.raises(InvalidInput, match="from 1 on"):
        engine.release_brake(count, actor=ADMIN, reason="why not")


def test_a_release_needs_an_admin_and_a_reason(engine: Engine) -> None:
    with pytest.raises(NotAuthorised, match="Only an admin"):
        engine.release_brake(1, actor=Actor.support("sue"), reason="please")
    with pytest.raises(InvalidInput, match="reason"):
        engine.release_brake(1, actor=ADMIN, reason="  ")


def test_purges_are_braked_as_deletions_are(engine: Engine) -> None:
    engine.release_brake(COUNT, actor=ADMIN, reason="all of it")
    engine.run_until(START + 58 * DAY)
    assert engine.summary()[State.CONTENT_DELETED] == COUNT
    engine.clock.set(START + 59 * DAY)  # type: ignore[attr-defined]
    assert engine.sweep().withheld == BRAKED
    assert sum(account.purge_requested_at is not None for account in engine.accounts()) == 3


def test_time_that_runs_by_itself_waits_for_the_brake_and_ends_in_purged(engine: Engine) -> None:
    engine.run_until(START + 70 * DAY)
    assert engine.summary()[State.PURGED] == COUNT


def test_the_state_of_the_brake_says_what_waits_and_when_it_opens(engine: Engine) -> None:
    engine.sweep()
    brake = engine.brake()
    assert [(window.limit, window.used, window.free) for window in brake.windows] == [(3, 3, 0), (5, 3, 2)]
    assert brake.waiting == {Effect.DELETE_CONTENT: COUNT - 3, Effect.PURGE_BACKUPS: 0}
    assert (brake.free, brake.tripped, brake.opens_at) == (0, True, START + 30 * DAY + HOUR)


def test_doctor_says_that_the_brake_holds(engine: Engine) -> None:
    engine.sweep()
    (finding,) = [finding for finding in examine(engine) if finding.check == "brake"]
    assert finding.level == "problem"
    assert finding.message.startswith("9 accounts are due to be destroyed, and the brake lets 0 through now")


@pytest.mark.parametrize(
    "wrong",
    [{"accounts_per_day": -1}, {"share_per_day": 1.5}, {"share_per_hour": float("nan")}, {"outage": timedelta(0)}],
)
def test_limits_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Safety(**wrong)


def test_thousands_that_an_import_makes_falsely_due_meet_the_brake(url: str, clock: ManualClock) -> None:
    erased: list[str] = []
    handlers: dict[Effect, Any] = dict.fromkeys(Effect, lambda task: None)
    handlers[Effect.DELETE_CONTENT] = lambda task: erased.append(task.account_id) or "erased"
    engine = Engine(url, clock=clock, handlers=handlers)
    engine.migrate()
    cancelled = (START - 400 * DAY).date()
    header = "id,company,owners,opened_at,state,plan,cancelled_at,cancelled_by,cancelled_from,free_since\n"
    wrong = (
        f"a{number:04},Acme,ann@acme.test,2020-01-01,access_revoked,free,{cancelled},owner,active,2020-01-01\n"
        for number in range(1500)
    )
    report = import_accounts(engine, [header, *wrong])
    assert report.imported == 1500, report.bad[:3]
    engine.run_until(START + 8 * DAY - timedelta(seconds=1))
    assert len(erased) == 50, "after their notice, on the first day"
    engine.close()


def test_a_policy_that_is_edited_down_to_days_is_refused_and_shortens_nothing_that_was_promised(
    engine: Engine, url: str
) -> None:
    with pytest.raises(PolicyError, match="deletion_after must lie between 7 days"):
        Policy(deletion_after=timedelta(days=3))
    engine.open_account("late", company="Late", owners=[ANN], plan="free")
    engine.fire("late", "cancel", actor=Actor.owner(ANN))
    promised = engine.get("late").delete_content_at
    shorter = Policy(deletion_after=timedelta(days=8), deletion_notice=DAY, access_reminder=DAY)
    other = Engine(url, clock=engine.clock, policy=shorter, safety=TIGHT)
    with pytest.raises(PolicyError):
        other.sweep()
    other.migrate()
    assert other.get("late").delete_content_at == promised
    other.close()
