"""Another policy comes into force: by whom, why, and what it leaves alone."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from lifecycle import (
    Actor,
    ApprovalNeeded,
    Conflict,
    Engine,
    ManualClock,
    NotAuthorised,
    Policy,
    PolicyError,
    Refused,
    Role,
)
from lifecycle.errors import InvalidInput
from lifecycle.tables import SCHEMA_VERSION
from tests.conftest import START
from tests.people import authority

ADA, OWNER = Actor.admin("ada"), "ann@acme.test"
LONGER = Policy.from_mapping({"deletion_after": "45 days", "purge_after": "80 days"})
SHORTER = Policy.from_mapping({"deletion_after": "20 days"})


def test_activation_is_on_record_with_who_and_why(engine: Engine) -> None:
    done = engine.activate(LONGER, actor=ADA, reason="ticket 4711")
    latest, first = engine.policy_history()
    assert done == latest
    assert (latest.number, latest.version, latest.policy) == (2, LONGER.version, LONGER)
    assert (latest.actor, latest.approved_by, latest.reason) == ("admin:ada", None, "ticket 4711")
    assert latest.adopted_at == START
    assert (first.actor, first.reason) == ("system:engine", None)


def test_activation_answers_with_its_own_record_though_another_follows_at_once(
    engine: Engine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Engine(url, clock=engine.clock)
    monkeypatch.setattr(engine, "changed_policy", lambda _: other.activate(SHORTER, actor=ADA, reason="another"))
    assert engine.activate(LONGER, actor=ADA, reason="mine").version == LONGER.version
    assert engine.kept_policy() == SHORTER
    other.close()


def test_nothing_comes_in_force_that_was_compared_with_another_policy(engine: Engine) -> None:
    engine.activate(LONGER, actor=ADA, reason="first")
    with pytest.raises(Conflict, match=f"Meanwhile policy {LONGER.version}"):
        engine.activate(SHORTER, actor=ADA, reason="as seen", instead_of=Policy())
    assert engine.kept_policy() == LONGER
    engine.activate(Policy(), actor=ADA, reason="back", instead_of=LONGER)


def test_the_engine_goes_on_under_the_policy_that_it_activated(engine: Engine) -> None:
    engine.sweep()
    engine.activate(LONGER, actor=ADA, reason="longer")
    engine.open_account("acme", company="Acme", owners=[OWNER])
    entry = engine.fire("acme", "cancel", actor=Actor.owner(OWNER))
    assert entry.policy_version == LONGER.version
    account = engine.get("acme")
    assert account.delete_content_at == account.cancelled_at + timedelta(days=45)
    engine.sweep()


def test_dates_that_were_promised_stay(engine: Engine) -> None:
    engine.open_account("acme", company="Acme", owners=[OWNER])
    engine.fire("acme", "cancel", actor=Actor.owner(OWNER))
    before = engine.get("acme")
    engine.activate(SHORTER, actor=ADA, reason="shorter")
    after = engine.get("acme")
    dates = ("access_ends_at", "delete_content_at", "purge_backups_by")
    assert [getattr(after, name) for name in dates] == [getattr(before, name) for name in dates]


def test_an_engine_under_another_policy_is_refused_from_then_on(engine: Engine, url: str) -> None:
    other = Engine(url, policy=Policy(), clock=engine.clock)
    engine.activate(LONGER, actor=ADA, reason="longer")
    with pytest.raises(PolicyError, match="policy activate"):
        other.open_account("acme", company="Acme", owners=[OWNER])
    with pytest.raises(PolicyError, match="policy activate"):
        other.deliver()
    other.close()


def test_what_is_in_force_already_is_refused(engine: Engine) -> None:
    with pytest.raises(Refused, match="in force already"):
        engine.activate(Policy(), actor=ADA, reason="again")
    assert len(engine.policy_history()) == 1


def test_only_an_admin_with_a_reason_activates(engine: Engine) -> None:
    with pytest.raises(NotAuthorised):
        engine.activate(LONGER, actor=Actor.support("sue"), reason="because")
    with pytest.raises(InvalidInput, match="reason"):
        engine.activate(LONGER, actor=ADA, reason=" ")
    assert engine.kept_policy() == Policy()


def test_a_shorter_policy_takes_two_people_and_names_the_second(url: str, clock: ManualClock) -> None:
    def of(name: str) -> Engine:
        return Engine(url, clock=clock, authority=authority(name, Role.ADMIN))

    ada, bob = of("ada"), of("bob")
    ada.migrate()
    ada.open_account("acme", company="Acme", owners=[OWNER])
    with pytest.raises(ApprovalNeeded) as needed:
        ada.activate(SHORTER, actor=ADA, reason="less to keep")
    assert bob.approvals()[0].reason == "less to keep"
    assert ada.kept_policy() == Policy()
    bob.approve(needed.value.number)
    done = ada.activate(SHORTER, actor=ADA, reason="less to keep")
    assert (done.actor, done.approved_by) == ("admin:ada", "user:bob")
    for one in (ada, bob):
        one.close()


def test_a_policy_is_found_by_the_beginning_of_its_version(engine: Engine) -> None:
    engine.activate(LONGER, actor=ADA, reason="longer")
    assert engine.recorded_policy(Policy().version[:6]) == Policy()
    for unknown in ("ffff", ""):
        with pytest.raises(InvalidInput, match="policy history"):
            engine.recorded_policy(unknown)


def test_to_migrate_can_leave_the_policy_alone(engine: Engine, url: str) -> None:
    other = Engine(url, policy=LONGER, clock=engine.clock)
    with pytest.raises(PolicyError, match="policy activate"):
        other.migrate(change_policy=False)
    assert engine.kept_policy() == Policy()
    other.close()


def test_a_database_of_version_3_learns_who_and_why_and_keeps_what_it_has(engine: Engine, url: str) -> None:
    """Version 3 knew when a policy was adopted, and no more."""
    engine.open_account("acme", company="Acme", owners=[OWNER])
    with engine.database.write() as connection:
        for name in ("actor", "approved_by", "reason"):
            connection.execute(text(f"ALTER TABLE adopted_policy DROP COLUMN {name}"))
        connection.execute(text("UPDATE schema_info SET version = 3"))
    upgraded = Engine(url, clock=engine.clock)
    upgraded.migrate()
    (adoption,) = upgraded.policy_history()
    assert (adoption.version, adoption.actor, adoption.reason) == (Policy().version, None, None)
    assert upgraded.get("acme").company == "Acme"
    upgraded.activate(LONGER, actor=ADA, reason="now it says why")
    assert upgraded.policy_history()[0].reason == "now it says why"
    with upgraded.database.read() as connection:
        assert connection.scalar(text("SELECT version FROM schema_info")) == SCHEMA_VERSION
    upgraded.close()
