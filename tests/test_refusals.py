"""Attempts that were refused: who, what and why, in ids and our own words, bounded in number and in time."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from lifecycle import AccountNotFound, Actor, Engine, InvalidInput, ManualClock, NotAuthorised, Refused, Safety
from lifecycle import refusals as kept
from lifecycle.actor import Role
from lifecycle.config import load
from lifecycle.operation_tables import refused_attempts
from lifecycle.scheduler import Daemon
from tests.conftest import START
from tests.daemons import until
from tests.people import authority

ANN, BOB, EVE = "ann@acme.test", "bob@acme.test", "eve@evil.test"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def acme(engine: Engine) -> Engine:
    engine.open_account("acme", company="Acme Ltd", owners=[ANN, BOB])
    return engine


def attempt(engine: Engine, account: str, event: str, actor: Actor, **facts: Any) -> kept.RefusedAttempt:
    with pytest.raises((Refused, AccountNotFound)):
        engine.fire(account, event, actor=actor, **facts)
    return engine.refusals(limit=1)[0]


def test_an_attempt_is_kept_with_who_what_why_and_when(acme: Engine, clock: ManualClock) -> None:
    clock.set(START + DAY)
    refused = attempt(acme, "acme", "reactivate", Actor.support("sue"), company="Acme Ltd", email=ANN)
    assert (refused.at, refused.who, refused.what, refused.account_id) == (
        START + DAY, "support:sue", "reactivate", "acme",
    )  # fmt: skip
    assert refused.reasons[0].startswith("No reactivate leaves the account's state trial")
    assert (refused.times, refused.policy_version, refused.principal) == (1, acme.policy.version, None)
    assert len(acme.history("acme")) == 1, "apart from the history"


def test_owners_are_kept_by_their_number_and_nobodys_address_is(acme: Engine) -> None:
    assert attempt(acme, "acme", "suspend", Actor.owner(" Bob@ACME.test")).who == "owner:2"
    assert attempt(acme, "acme", "cancel", Actor.owner(EVE)).who == "owner:?"
    assert attempt(acme, "nowhere", "cancel", Actor.owner(ANN)).who == "owner:?"
    assert attempt(acme, "acme", "suspend", Actor(Role.SYSTEM, EVE)).who == "system:?"
    attempt(acme, "acme", "cancel", Actor.support("sue"), company="Evil Ltd", email=EVE)
    with acme.database.read() as connection:
        rows = str(connection.execute(select(refused_attempts)).all())
    assert "@" not in rows and "Evil" not in rows


def test_an_account_that_does_not_exist_is_kept_by_its_id(acme: Engine) -> None:
    refused = attempt(acme, "nowhere", "suspend", Actor.admin("root"), reason="spam")
    assert (refused.account_id, refused.reasons) == ("nowhere", ("There is no account with this id.",))
    assert acme.refusals("nowhere") == [refused]
    assert attempt(acme, EVE, "suspend", Actor.admin("root"), reason="spam").account_id == "?", "it is no id"


def test_attempts_are_found_by_account_and_by_time_the_latest_first(acme: Engine, clock: ManualClock) -> None:
    acme.open_account("beta", company="Beta", owners=[ANN])
    for day, account in enumerate(("acme", "beta", "acme")):
        clock.set(START + day * DAY)
        attempt(acme, account, "reactivate", Actor.support("sue"))
    assert [one.at for one in acme.refusals("acme")] == [START + 2 * DAY, START]
    assert [one.account_id for one in acme.refusals(since=START + DAY)] == ["acme", "beta"]
    assert [one.at for one in acme.refusals(limit=1)] == [START + 2 * DAY]


def test_a_flood_is_counted_and_does_not_fill_the_disk(acme: Engine, clock: ManualClock, url: str) -> None:
    flood = {"at": START, "what": "cancel", "who": "owner:?", "reasons": "x", "times": 1, "policy_version": "x"}
    with acme.database.write() as connection:
        connection.execute(insert(refused_attempts), [flood] * (kept.PER_HOUR - 2))
    for _ in range(7):
        attempt(acme, "acme", "cancel", Actor.owner(EVE))
    assert len(acme.refusals()) == kept.PER_HOUR
    last = acme.refusals(limit=1)[0]
    assert (last.what, last.account_id, last.times) == (kept.OTHERS, None, 6)
    other = Engine(url, clock=clock, authority=authority("sue", Role.SUPPORT))
    assert attempt(other, "acme", "reactivate", Actor.support("sue")).principal == "user:sue", "others are still heard"
    other.close()
    clock.set(START + HOUR)
    assert attempt(acme, "acme", "cancel", Actor.owner(EVE)).what == "cancel", "and so is the next hour"


def test_attempts_are_forgotten_after_their_time(url: str, clock: ManualClock) -> None:
    engine = Engine(url, clock=clock, safety=Safety(refusals_kept=30 * DAY))
    engine.migrate()
    attempt(engine, "nowhere", "suspend", Actor.admin("root"), reason="x")
    clock.set(START + 30 * DAY)
    attempt(engine, "nowhere", "suspend", Actor.admin("root"), reason="x")
    assert engine.prune() == 0
    clock.set(START + 30 * DAY + HOUR)
    assert engine.prune() == 1
    assert [one.at for one in engine.refusals()] == [START + 30 * DAY]
    engine.close()


def test_requests_that_came_to_nothing_are_forgotten_too(engine: Engine, url: str, clock: ManualClock) -> None:
    ada = Engine(url, clock=clock, authority=authority("ada", Role.ADMIN))
    with pytest.raises(Refused):
        ada.release_brake(5, actor=Actor.admin("ada"), reason="spam")
    clock.set(START + 365 * DAY)
    ada.prune()
    assert len(ada.approvals(everything=True)) == 1
    clock.set(START + 367 * DAY)
    ada.prune()
    assert ada.approvals(everything=True) == []
    ada.close()


def test_what_asks_for_a_second_person_is_a_request_and_no_refused_attempt(engine: Engine, url: str) -> None:
    ada = Engine(url, clock=engine.clock, authority=authority("ada", Role.ADMIN))
    with pytest.raises(Refused):
        ada.release_brake(5, actor=Actor.admin("ada"), reason="spam")
    assert (ada.refusals(), len(ada.approvals())) == ([], 1)
    ada.close()


def test_every_kind_of_attempt_is_kept(engine: Engine, url: str) -> None:
    sue = Engine(url, clock=engine.clock, authority=authority("sue", Role.SUPPORT))
    mine = Actor.support("sue")
    attempts: dict[str, Any] = {
        "release_brake": lambda: sue.release_brake(5, actor=mine, reason="x"),
        "accept_clock": lambda: sue.accept_clock(mine),
        "apply_restore": lambda: sue.apply_restore(actor=mine),
        "fire_many suspend": lambda: sue.fire_many("suspend", ["a"], actor=Actor.admin("sue"), reason="x"),
        "open_account": lambda: sue.open_account("a", company="A", owners=[ANN], actor=Actor.owner(ANN)),
    }
    for what, call in attempts.items():
        with pytest.raises(NotAuthorised):
            call()
        last = sue.refusals(limit=1)[0]
        assert (last.what, last.principal) == (what, "user:sue")
    sue.close()


def test_a_refusal_that_can_not_be_recorded_stays_one(acme: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise InvalidInput("the disk is full")

    monkeypatch.setattr("lifecycle.acting.refusals.record", fail)
    with pytest.raises(NotAuthorised):
        acme.fire("acme", "suspend", actor=Actor.support("sue"), reason="x")


def test_attempts_stay_when_the_account_is_purged(acme: Engine) -> None:
    attempt(acme, "acme", "suspend", Actor.owner(ANN))
    acme.fire("acme", "cancel", actor=Actor.owner(ANN))
    acme.run_until(START + 70 * DAY)
    assert acme.get("acme").state == "purged"
    assert acme.refusals("acme")[0].who == "owner:1"


def test_the_configuration_says_how_long_attempts_are_kept(tmp_path: Any) -> None:
    file = tmp_path / "lifecycle.toml"
    file.write_text('[safety]\nrefusals_kept = "90 days"\n')
    assert load(file, {}).safety.refusals_kept == 90 * DAY


def test_the_daemon_forgets_by_itself(sqlite_url: str) -> None:
    engine = Engine(sqlite_url)
    engine.migrate()
    old = {"at": engine.clock.now() - 366 * DAY, "what": "cancel", "who": "owner:?", "reasons": "x"}
    with engine.database.write() as connection:
        connection.execute(insert(refused_attempts).values(policy_version="x", **old))
    daemon = Daemon(Engine(sqlite_url))
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        until(lambda: not engine.refusals())
    finally:
        daemon.stop()
        thread.join()
    engine.close()
