"""What takes two people: one asks, another approves exactly that, and it is done once."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lifecycle import (
    Actor,
    ApprovalNeeded,
    Engine,
    Filter,
    InvalidInput,
    ManualClock,
    NotAuthorised,
    Policy,
    Refused,
    State,
    TwoPerson,
)
from lifecycle.actor import Role
from lifecycle.policy import shortened
from tests.conftest import START
from tests.people import authority, run, settings

ANN = "ann@acme.test"
ADA, BOB = Actor.admin("ada"), Actor.admin("bob")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SHORTER = Policy(deletion_after=8 * DAY, deletion_notice=DAY, access_reminder=DAY)
ALL = Filter(everything=True)
SPAM = {"actor": ADA, "reason": "spam"}


@pytest.fixture
def people(url: str, clock: ManualClock) -> Iterator[Callable[..., Engine]]:
    """Opens a database with three accounts on trial for somebody, who is an admin unless told otherwise."""
    made = [Engine(url, clock=clock)]
    made[0].migrate()
    for id in ("a", "b", "c"):
        made[0].open_account(id, company="Acme", owners=[ANN])

    def open_for(name: str, *roles: Role, rules: TwoPerson | None = None, **options: Any) -> Engine:
        who = authority(name, *(roles or (Role.ADMIN,)), rules=rules or TwoPerson(fire_many_from=3))
        made.append(Engine(url, clock=clock, authority=who, **options))
        return made[-1]

    yield open_for
    for engine in made:
        engine.close()


def asked(action: Callable[[], Any]) -> int:
    with pytest.raises(ApprovalNeeded, match="lifecycle approve") as needed:
        action()
    return needed.value.number


def release(engine: Engine, accounts: int = 5, reason: str = "spam of May") -> None:
    engine.release_brake(accounts, actor=Actor.admin(engine.authority.principal.name), reason=reason)  # type: ignore[union-attr]


# --- The brake -----------------------------------------------------------------------------------


def test_a_release_is_asked_for_by_one_approved_by_another_and_names_both(people: Callable[..., Engine]) -> None:
    ada, bob = people("ada"), people("bob")
    number = asked(lambda: release(ada))
    assert ada.brake().releases == ()
    assert asked(lambda: release(ada)) == number, "to ask again is the same request"
    (waiting,) = bob.approvals()
    assert (waiting.requested_by, waiting.reason, waiting.status(START)) == ("user:ada", "spam of May", "waiting")
    assert waiting.summary.startswith("let 5 more accounts be destroyed")
    bob.approve(number, reason="looked at them")
    release(ada)
    (done,) = ada.brake().releases
    assert (done.accounts, done.actor, done.approved_by) == (5, "admin:ada", "user:bob")
    assert ada.approvals() == []
    (kept,) = ada.approvals(everything=True)
    assert (kept.status(START), kept.approval_reason, kept.used_at) == ("used", "looked at them", START)


def test_an_approval_is_used_once(people: Callable[..., Engine]) -> None:
    ada, bob = people("ada"), people("bob")
    first = asked(lambda: release(ada))
    bob.approve(first)
    release(ada)
    second = asked(lambda: release(ada))
    assert second != first and len(ada.brake().releases) == 1


@pytest.mark.parametrize("change", [{"accounts": 6}, {"accounts": 500}, {"reason": "spam of June"}])
def test_nothing_else_is_done_under_an_approval(people: Callable[..., Engine], change: dict[str, Any]) -> None:
    ada, bob = people("ada"), people("bob")
    number = asked(lambda: release(ada))
    bob.approve(number)
    assert asked(lambda: release(ada, **change)) != number
    assert ada.brake().releases == ()


def test_an_approval_is_for_the_one_who_asked(people: Callable[..., Engine]) -> None:
    ada, bob, cyd = people("ada"), people("bob"), people("cyd")
    number = asked(lambda: release(ada))
    bob.approve(number)
    assert asked(lambda: release(cyd)) != number
    assert asked(lambda: release(bob)) != number


def test_nobody_approves_their_own_request_under_whatever_role(people: Callable[..., Engine]) -> None:
    number = asked(lambda: release(people("ada")))
    for engine in (people("ada"), people("ada", Role.ADMIN, Role.SUPPORT), people("ada", Role.BILLING)):
        with pytest.raises(NotAuthorised, match="another person"):
            engine.approve(number)
    assert people("bob").refusals()[0].what == "approve"
    asked(lambda: release(people("ada")))


def test_an_approval_takes_a_role_that_the_request_names(people: Callable[..., Engine]) -> None:
    number = asked(lambda: release(people("ada")))
    with pytest.raises(NotAuthorised, match="takes the role admin"):
        people("sue", Role.SUPPORT).approve(number)


def test_a_request_and_its_approval_expire(people: Callable[..., Engine], clock: ManualClock) -> None:
    ada, bob = people("ada"), people("bob")
    number = asked(lambda: release(ada))
    clock.set(START + 24 * HOUR)
    with pytest.raises(Refused, match="expired already"):
        bob.approve(number)
    again = asked(lambda: release(ada))
    assert again != number
    bob.approve(again)
    clock.set(START + 48 * HOUR)
    assert asked(lambda: release(ada)) not in (number, again)


def test_a_request_is_approved_once_and_an_unknown_one_not_at_all(people: Callable[..., Engine]) -> None:
    ada, bob = people("ada"), people("bob")
    number = asked(lambda: release(ada))
    bob.approve(number)
    for status in ("approved", "used"):
        with pytest.raises(Refused, match=f"It is {status} already"):
            people("cyd").approve(number)
        if status == "approved":
            release(ada)
    with pytest.raises(InvalidInput, match="There is no request 999"):
        bob.approve(999)


def test_an_approval_is_not_used_up_by_what_fails(
    people: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = people("ada"), people("bob")
    bob.approve(asked(lambda: release(ada)))
    with monkeypatch.context() as broken, pytest.raises(RuntimeError):
        broken.setattr(ada.store, "announce", lambda connection: (_ for _ in ()).throw(RuntimeError))
        release(ada)
    assert ada.brake().releases == ()
    release(ada)
    assert len(ada.brake().releases) == 1


def test_of_two_uses_of_one_approval_at_once_one_wins(people: Callable[..., Engine]) -> None:
    ada, bob = people("ada"), people("bob")
    bob.approve(asked(lambda: release(ada)))
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def use(engine: Engine) -> None:
        engine.brake()
        engine.store.announce = lambda connection: time.sleep(0.2)  # type: ignore[method-assign]  # before the commit
        start.wait()
        try:
            release(engine)
            outcomes.append("released")
        except ApprovalNeeded:
            outcomes.append("asked")

    threads = [threading.Thread(target=use, args=(people("ada"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["asked", "asked", "asked", "released"]
    assert len(ada.brake().releases) == 1


def test_what_is_malformed_is_not_asked_for(people: Callable[..., Engine]) -> None:
    ada = people("ada")
    for accounts, reason in ((0, "x"), (-5, "x"), (5, " ")):
        with pytest.raises(InvalidInput):
            release(ada, accounts, reason)
    assert ada.approvals() == []


def test_a_rule_that_is_switched_off_takes_one(people: Callable[..., Engine]) -> None:
    ada = people("ada", rules=TwoPerson(brake_release=False, shorten_policy=False, fire_many_from=0))
    release(ada)
    assert ada.brake().releases[0].approved_by is None
    plan = ada.fire_many("suspend", ALL, **SPAM)
    assert ada.fire_many("suspend", ALL, dry_run=False, digest=plan.digest, **SPAM).applied
    people("ada", rules=TwoPerson(shorten_policy=False), policy=SHORTER).migrate()


def test_an_engine_without_an_authority_knows_nobody_who_could_approve(engine: Engine) -> None:
    engine.release_brake(5, actor=ADA, reason="names are only claims here")
    with pytest.raises(InvalidInput, match="without an authority"):
        engine.approve(1)


# --- Policies ------------------------------------------------------------------------------------


def test_a_shorter_policy_is_adopted_by_two(people: Callable[..., Engine]) -> None:
    ada, bob = people("ada", policy=SHORTER), people("bob")
    number = asked(ada.migrate)
    assert ada.kept_policy() == Policy()
    assert "deletion_after from 30 days to 8 days" in bob.approvals()[0].summary
    bob.approve(number)
    ada.migrate()
    assert ada.kept_policy() == SHORTER


def test_another_policy_than_the_approved_one_is_not_adopted(people: Callable[..., Engine]) -> None:
    people("bob").approve(asked(people("ada", policy=SHORTER).migrate))
    other = Policy(deletion_after=7 * DAY, deletion_notice=DAY, access_reminder=DAY)
    asked(people("ada", policy=other).migrate)
    assert people("bob").kept_policy() == Policy()


def test_a_longer_policy_takes_one_and_an_admin(people: Callable[..., Engine]) -> None:
    longer = Policy(deletion_after=45 * DAY)
    with pytest.raises(NotAuthorised, match="takes the role admin"):
        people("sue", Role.SUPPORT, policy=longer).migrate()
    people("ada", policy=longer).migrate()
    assert people("ada").kept_policy() == longer


def test_where_there_is_no_account_nobody_is_hurt_by_a_shorter_policy(url: str, clock: ManualClock) -> None:
    for policy in (Policy(), SHORTER):
        engine = Engine(url, clock=clock, policy=policy, authority=authority("ada", Role.ADMIN))
        engine.migrate()
        engine.close()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"deletion_after": 29 * DAY}, ["deletion_after"]),
        ({"deletion_after": 31 * DAY}, []),
        ({"deletion_clock": "end_of_access"}, []),
        ({"company_cancellation": "approval"}, []),
    ],
)
def test_what_counts_as_shorter(change: dict[str, Any], found: list[str]) -> None:
    assert shortened(Policy(), Policy(**change)) == found
    back = [name for name in change if name not in found]
    assert shortened(Policy(**change), Policy()) == back


# --- One event on many accounts ------------------------------------------------------------------


def test_a_large_change_is_shown_asked_for_approved_and_applied(people: Callable[..., Engine]) -> None:
    ada, bob = people("ada"), people("bob")
    plan = ada.fire_many("suspend", ALL, **SPAM)
    number = asked(lambda: ada.fire_many("suspend", ALL, dry_run=False, digest=plan.digest, **SPAM))
    assert ada.summary()[State.FROZEN] == 0
    assert bob.approvals()[0].summary == "suspend for 3 accounts: 3 from trial to frozen."
    bob.approve(number)
    with capture_logs() as lines:
        assert ada.fire_many("suspend", ALL, dry_run=False, digest=plan.digest, **SPAM).applied
    (line,) = (line for line in lines if line["event"] == "bulk event")
    assert (line["actor"], line["approved_by"]) == ("admin:ada", "user:bob")


def test_the_approval_is_looked_for_once_more_in_the_change_itself(
    people: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = people("ada")
    monkeypatch.setattr(ada, "foresee_bulk", lambda bulk, digest: None)
    plan = ada.fire_many("suspend", ALL, **SPAM)
    asked(lambda: ada.fire_many("suspend", ALL, dry_run=False, digest=plan.digest, **SPAM))
    assert ada.summary()[State.FROZEN] == 0


def test_an_approved_plan_that_has_changed_is_another(people: Callable[..., Engine]) -> None:
    ada, bob = people("ada"), people("bob")
    plan = ada.fire_many("suspend", ALL, **SPAM)
    bob.approve(asked(lambda: ada.fire_many("suspend", ALL, dry_run=False, digest=plan.digest, **SPAM)))
    ada.open_account("d", company="Late", owners=[ANN])
    fresh = ada.fire_many("suspend", ALL, **SPAM)
    asked(lambda: ada.fire_many("suspend", ALL, dry_run=False, digest=fresh.digest, **SPAM))
    assert ada.summary()[State.FROZEN] == 0


def test_fewer_accounts_than_that_take_one(people: Callable[..., Engine]) -> None:
    ada = people("ada")
    plan = ada.fire_many("suspend", ["a", "b"], **SPAM)
    assert ada.fire_many("suspend", ["a", "b"], dry_run=False, digest=plan.digest, **SPAM).count == 2


def test_a_large_change_is_approved_by_whoever_may_fire_the_event(people: Callable[..., Engine]) -> None:
    ada = people("ada")
    asking = {"actor": ADA, "reason": "who owns these?"}
    plan = ada.fire_many("contact_owners", ALL, **asking)
    number = asked(lambda: ada.fire_many("contact_owners", ALL, dry_run=False, digest=plan.digest, **asking))
    with pytest.raises(NotAuthorised, match="takes the role support or admin"):
        people("pay", Role.BILLING).approve(number)
    people("sue", Role.SUPPORT).approve(number)
    assert ada.fire_many("contact_owners", ALL, dry_run=False, digest=plan.digest, **asking).applied


# --- Commands ------------------------------------------------------------------------------------


def test_the_commands_tell_what_a_second_person_does(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "lifecycle.toml"
    file.write_text(settings('[two_person]\nfire_many_from = 1\nexpires_after = "2 hours"\n'))
    here: dict[str, Any] = {"config": file, "url": sqlite_url}
    run("ada", "init", **here)
    run("ada", "open", "acme", "--company", "Acme", "--owner", ANN, **here)
    spam = ("brake", "release", "7", "--reason", "spam")
    said = run("ada", *spam, code=1, **here)
    assert "request 1: let 7 more accounts" in said.stderr and "`lifecycle approve 1`" in said.stderr
    assert "waiting" in run("amy", "approvals", **here).stdout
    run("ada", "approve", "1", code=1, **here)
    approved = run("bob", "approve", "1", "--reason", "seen", **here).stdout
    assert "Approved request 1 of key:ada: let 7 more accounts" in approved and "Their reason: spam" in approved
    run("ada", *spam, **here)
    assert "by admin:ada and key:bob: 7, spam" in run("amy", "brake", "status", **here).stdout
    assert "Nothing waits" in run("amy", "approvals", **here).stderr
    assert '"status": "used"' in run("amy", "approvals", "--all", "--json", **here).stdout
    assert "approve" in run("amy", "refusals", "--since", "2020-01-01", **here).stdout
