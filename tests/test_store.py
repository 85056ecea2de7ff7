"""The store's contract, the same on both databases."""

import threading
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint, select, text, update

from lifecycle import (
    AccountExists,
    AccountNotFound,
    Actor,
    Conflict,
    DatabaseUnavailable,
    Effect,
    Engine,
    InvalidInput,
    ManualClock,
    Policy,
    PolicyError,
    Refused,
    SchemaOutdated,
    State,
)
from lifecycle.actor import SYSTEM, Request
from lifecycle.columns import metadata
from lifecycle.database import Database
from lifecycle.machine import decide
from lifecycle.operation_tables import schema_info
from lifecycle.store import Entry
from lifecycle.tables import SCHEMA_VERSION, accounts, history, outbox
from tests.conftest import START

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")


def opened(engine: Engine, **changes: Any) -> str:
    details = {"company": "Acme Ltd", "owners": [ANN, "bob@acme.test"]} | changes
    engine.open_account("acme", **details)
    return "acme"


# --- One change, one transaction -----------------------------------------------------------------


def test_a_change_writes_state_history_and_outbox_together(engine: Engine) -> None:
    entry = engine.fire(opened(engine), "cancel", actor=Actor.owner(ANN), reason="too expensive")
    account = engine.get("acme")
    assert (account.state, account.version, entry.number) == (State.CANCEL_PENDING, 2, 2)
    assert [e.event for e in engine.history("acme")] == ["open_account", "cancel"]
    with engine.database.read() as connection:
        owed = connection.execute(select(outbox.c.effect, outbox.c.number, outbox.c.access_ends_at)).all()
    assert {(row.effect, row.number) for row in owed} == {("stop_billing", 2), ("confirm_cancellation", 2)}
    assert {row.access_ends_at for row in owed} == {account.access_ends_at}


def test_a_change_that_fails_half_way_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(engine)

    def broken(*_: Any) -> None:
        raise RuntimeError("the power failed")

    monkeypatch.setattr("lifecycle.store._outbox_rows", broken)
    with pytest.raises(RuntimeError):
        engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    assert engine.get("acme").version == 1
    assert len(engine.history("acme")) == 1
    with engine.database.read() as connection:
        assert connection.execute(select(outbox)).all() == []


def test_a_decision_on_an_account_that_changed_since_is_a_conflict(engine: Engine) -> None:
    opened(engine)
    stale = engine.get("acme")
    asked = Request(Actor.owner(ANN))
    decision = decide(stale, "cancel", asked, START, engine.policy)
    engine.fire("acme", "contact_owners", actor=ADMIN, reason="who owns this?")
    entry = Entry.of_request(stale, asked, START, engine.policy.version, None)
    with pytest.raises(Conflict, match="changed by another process"), engine.database.write() as connection:
        engine.store.write(connection, stale, decision, entry)
    assert engine.get("acme").state is State.TRIAL


def test_one_stale_decision_among_many_is_a_conflict_and_nothing_is_written(engine: Engine) -> None:
    for account_id in ("acme", "beta"):
        engine.open_account(account_id, company=account_id, owners=[ANN])
    asked = Request(Actor.owner(ANN))
    changes = []
    for account_id in ("acme", "beta"):
        seen = engine.get(account_id)
        entry = Entry.of_request(seen, asked, START, engine.policy.version, None)
        changes.append((seen, decide(seen, "cancel", asked, START, engine.policy), entry))
    engine.fire("beta", "contact_owners", actor=ADMIN, reason="who owns this?")
    with pytest.raises(Conflict, match="changed by another process"), engine.database.write() as connection:
        engine.store.write_many(connection, changes)
    assert [engine.get(account_id).state for account_id in ("acme", "beta")] == [State.TRIAL, State.TRIAL]


def test_a_conflict_is_retried_and_then_reported(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(engine)
    write, attempts = engine.store.write, []

    def contested(*args: Any) -> Any:
        attempts.append(1)
        if len(attempts) < 3:
            raise Conflict("somebody was faster")
        return write(*args)

    monkeypatch.setattr(engine.store, "write", contested)
    assert engine.fire("acme", "cancel", actor=Actor.owner(ANN)).number == 2
    assert len(attempts) == 3

    def always(*_: Any) -> Any:
        raise Conflict("somebody was faster")

    monkeypatch.setattr(engine.store, "write", always)
    with pytest.raises(Conflict):
        engine.fire("acme", "reactivate", actor=Actor.owner(ANN))


def test_of_two_who_cancel_at_the_same_moment_one_wins(engine: Engine) -> None:
    opened(engine)
    start, outcomes = threading.Barrier(4), []

    def cancel() -> None:
        start.wait()
        try:
            engine.fire("acme", "cancel", actor=Actor.owner(ANN))
            outcomes.append("done")
        except (Refused, Conflict) as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=cancel) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["NoSuchTransition"] * 3 + ["done"]
    assert [entry.number for entry in engine.history("acme")] == [1, 2]


# --- Requests ------------------------------------------------------------------------------------


def test_a_repeated_request_returns_the_first_result_and_changes_nothing(engine: Engine) -> None:
    opened(engine)
    first = engine.fire("acme", "cancel", actor=Actor.owner(ANN), request_id="ticket-42")
    again = engine.fire("acme", "cancel", actor=Actor.owner(ANN), request_id="ticket-42")
    assert again == first
    assert engine.get("acme").version == 2


def test_a_request_id_of_another_event_is_refused(engine: Engine) -> None:
    opened(engine)
    engine.fire("acme", "cancel", actor=Actor.owner(ANN), request_id="ticket-42")
    with pytest.raises(InvalidInput, match="was used for cancel already"):
        engine.fire("acme", "reactivate", actor=Actor.owner(ANN), request_id="ticket-42")


def test_the_same_request_id_on_another_account_is_another_request(engine: Engine) -> None:
    opened(engine)
    engine.open_account("other", company="Other", owners=[ANN])
    engine.fire("acme", "cancel", actor=Actor.owner(ANN), request_id="ticket-42")
    assert engine.fire("other", "cancel", actor=Actor.owner(ANN), request_id="ticket-42").account_id == "other"


def test_history_names_owners_by_number_and_keeps_their_addresses_out(engine: Engine) -> None:
    opened(engine)
    entry = engine.fire("acme", "cancel", actor=Actor.owner(" BOB@acme.test "))
    assert (entry.actor, entry.owner) == ("owner:2", 2)
    engine.fire("acme", "reactivate", actor=Actor.support("sue"), company="acme  LTD", email=ANN)
    last = engine.history("acme")[-1]
    assert (last.actor, last.owner) == ("support:sue", 1)


# --- Accounts ------------------------------------------------------------------------------------


def test_opening_an_account_twice_is_refused(engine: Engine) -> None:
    opened(engine)
    with pytest.raises(AccountExists):
        opened(engine)


def test_an_unknown_account_is_named(engine: Engine) -> None:
    for ask in (engine.get, engine.history, engine.explain, engine.record_activity):
        with pytest.raises(AccountNotFound, match="no account 'nobody'"):
            ask("nobody")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"owners": []}, "at least one owner"),
        ({"owners": "ann@acme.test"}, "at least one owner"),
        ({"owners": ["ann@acme.test", "ANN@acme.test"]}, "same owner is given twice"),
        ({"owners": ["ann at acme"]}, "e-mail address 'ann at acme' is malformed"),
        ({"company": "  "}, "company must not be blank"),
        ({"company": "Acme\x1b[31m"}, r"control character U\+001B"),
        ({"company": "x" * 1001}, "longer than 1000"),
        ({"company": 7}, "must be text"),
        ({"plan": "gold"}, "Unknown plan 'gold'"),
        ({"plan": "paid"}, "needs it"),
        ({"period_ends_at": START + timedelta(days=1)}, "belongs to the plan paid"),
        ({"plan": "paid", "period_ends_at": START}, "must lie in the future"),
        ({"plan": "paid", "period_ends_at": datetime(2027, 1, 1)}, "time zone"),  # noqa: DTZ001
    ],
)
def test_a_malformed_account_is_refused_with_the_reason(engine: Engine, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        opened(engine, **changes)
    assert engine.summary()[State.TRIAL] == 0


@pytest.mark.parametrize("account_id", ["", "-x", "a b", "é", "x" * 65, "../x", None])
def test_a_malformed_account_id_is_refused(engine: Engine, account_id: Any) -> None:
    with pytest.raises(InvalidInput, match="malformed"):
        engine.open_account(account_id, company="Acme", owners=[ANN])


def test_instants_keep_every_microsecond(engine: Engine, clock: ManualClock) -> None:
    odd = START + timedelta(microseconds=123_457)
    clock.set(odd)
    opened(engine, plan="paid", period_ends_at=odd + timedelta(days=40, microseconds=1))
    account = engine.get("acme")
    assert account.opened_at == odd
    assert account.period_ends_at == odd + timedelta(days=40, microseconds=1)
    assert str(account.opened_at.tzinfo) == "UTC"


def test_accounts_are_streamed_in_pages_by_id_and_by_state(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.reads._PAGE", 2)
    for number in range(5):
        engine.open_account(f"a{number}", company="Acme", owners=[ANN], plan="free" if number % 2 else "trial")
    assert [account.id for account in engine.accounts()] == ["a0", "a1", "a2", "a3", "a4"]
    assert [account.id for account in engine.accounts(state="active")] == ["a1", "a3"]
    due = [entry.account_id for entry in engine.due(within=timedelta(days=400))]
    assert due == ["a0", "a2", "a4", "a1", "a3"]


def test_an_account_is_found_by_company_and_owner_without_case_and_spaces(engine: Engine) -> None:
    opened(engine)
    assert engine.find("  ACME   ltd ", "Ann@Acme.TEST") == ["acme"]
    assert engine.find("Acme", ANN) == []
    assert engine.find("Acme Ltd", "eve@acme.test") == []


# --- The schema ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"state": "sleeping"},
        {"state": "cancel_pending"},
        {"plan": "gold"},
        {"plan": "paid"},
        {"trial_ends_at": None},
        {"due_at": None},
        {"version": 0},
        {"legal_holds": -1},
        {"suspended_from": "trial"},
        {"not_before": START},
        {"erasure_requested_at": START},
        {"cancelled_at": START},
    ],
    ids=lambda values: " ".join(f"{k}={v}" for k, v in values.items()),
)
def test_the_database_itself_refuses_what_no_state_allows(engine: Engine, values: dict[str, Any]) -> None:
    opened(engine)
    columns = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
    if not engine.database.is_postgresql:
        columns = {name: 1 if isinstance(values[name], datetime) else value for name, value in columns.items()}
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    with pytest.raises(InvalidInput, match="refuses the change"), engine.database.write() as connection:
        connection.execute(text(f"UPDATE account SET {assignments}"), columns)


def test_errors_of_the_database_never_show_a_customers_row(engine: Engine) -> None:
    opened(engine, owners=["canary@acme.test"])
    with pytest.raises(InvalidInput, match="account_counts") as caught, engine.database.write() as connection:
        connection.execute(update(accounts).values(version=0))
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_an_account_that_breaks_a_rule_is_not_taken_for_one_that_exists(engine: Engine) -> None:
    row = {
        **{c.name: None for c in accounts.c},
        "id": "bad",
        "state": State.TRIAL,
        "plan": "trial",
    }
    row |= {"version": 1, "legal_holds": 0, "opened_at": START}
    with pytest.raises(InvalidInput, match="refuses the change") as caught, engine.database.write() as connection:
        engine.store.insert(connection, [row], ["Canary GmbH"], [[ANN]], "open_account", Entry(START, "x"))
    assert "Canary" not in "".join(traceback.format_exception(caught.value))


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    opened(engine)
    before = engine.get("acme").as_dict()
    engine.migrate()
    assert engine.get("acme").as_dict() == before


@pytest.mark.empty
def test_a_database_without_schema_says_what_to_run(url: str) -> None:
    engine = Engine(url)
    with pytest.raises(SchemaOutdated, match="lifecycle init"):
        engine.summary()
    engine.close()


def test_a_schema_without_policy_says_what_to_run(url: str) -> None:
    engine = Engine(url, policy=Policy())
    engine.store.migrate()
    with pytest.raises(SchemaOutdated, match="keeps no policy yet"):
        opened(engine)
    engine.close()


@pytest.mark.parametrize(
    ("version", "advice"), [(SCHEMA_VERSION + 1, "upgrade the account-lifecycle"), (0, "run `lifecycle init`")]
)
def test_a_schema_of_another_version_is_refused(engine: Engine, version: int, advice: str) -> None:
    with engine.database.write() as connection:
        connection.execute(update(schema_info).values(version=version))
    with pytest.raises(SchemaOutdated, match=advice):
        engine.migrate()


def test_a_missing_column_is_reported_as_an_outdated_schema(engine: Engine) -> None:
    with engine.database.write() as connection:
        connection.execute(text("ALTER TABLE heartbeat RENAME COLUMN trouble TO worry"))
    with pytest.raises(SchemaOutdated, match="lifecycle init"):
        engine.heartbeats()


def test_every_table_begins_with_the_account(engine: Engine) -> None:
    """Sharding by account later needs nothing new: the keys begin with the account's id."""
    for table in ("history", "owner", "legal_hold", "personal_data", "stated_reason"):
        unique = [
            c for c in metadata.tables[table].constraints if isinstance(c, PrimaryKeyConstraint | UniqueConstraint)
        ]
        assert any(constraint.columns.keys()[0] == "account_id" for constraint in unique)


def test_sqlite_has_a_view_that_people_can_read(sqlite_url: str) -> None:
    engine = Engine(sqlite_url, clock=ManualClock(START + timedelta(microseconds=7)))
    engine.migrate()
    opened(engine)
    with engine.database.read() as connection:
        shown = connection.execute(text("SELECT opened_at, state FROM account_readable")).one()
    assert tuple(shown) == ("2026-01-01T00:00:00.000007Z", "trial")
    engine.close()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("accounts.db", "can't be understood"),
        ("mysql://host/db", "'mysql' is not supported"),
        ("", "can't be understood"),
    ],
)
def test_a_database_url_that_makes_no_sense_is_refused(bad: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Database(bad)


@pytest.mark.parametrize("gone", ["sqlite:////nowhere/at/all.db", "postgresql://u:secret@127.0.0.1:1/x"])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(gone: str) -> None:
    engine = Engine(gone)
    with pytest.raises(DatabaseUnavailable) as caught:
        engine.migrate()
    assert "secret" not in str(caught.value) + str(engine.database)
    engine.close()


def test_a_database_in_memory_serves_one_process() -> None:
    engine = Engine("sqlite://", clock=ManualClock(START))
    engine.migrate()
    opened(engine)
    assert engine.get("acme").state is State.TRIAL
    engine.close()


# --- Policies ------------------------------------------------------------------------------------


def test_without_a_policy_the_one_of_the_database_is_kept(url: str) -> None:
    longer = Policy.from_mapping({"deletion_after": "45 days"})
    for policy in (longer, None):
        engine = Engine(url, policy=policy)
        engine.migrate()
        assert engine.policy == longer
        engine.close()
    reader = Engine(url)
    assert reader.policy == longer
    reader.close()


def test_nobody_acts_under_another_policy_than_the_one_in_force(engine: Engine, url: str) -> None:
    opened(engine)
    other = Engine(url, policy=Policy.from_mapping({"deletion_after": "20 days"}), clock=engine.clock)
    with pytest.raises(PolicyError, match="keeps policy"):
        other.fire("acme", "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + timedelta(days=22))
    other.clock.set(START + timedelta(days=24))  # type: ignore[attr-defined]
    for act in (other.sweep, other.deliver):
        with pytest.raises(PolicyError, match="put the new one in force"):
            act()
    other.close()


def test_a_policy_is_adopted_only_between_the_changes_of_others(engine: Engine, url: str, clock: ManualClock) -> None:
    """A change that was checked under the old policy must not be written after the adoption has moved all dates."""
    other = Engine(url, policy=Policy.from_mapping({"deletion_after": "45 days"}), clock=clock)
    adoption = threading.Thread(target=other.migrate)
    with engine.database.write() as connection:
        engine.store.require_policy(connection, engine.policy)
        adoption.start()
        adoption.join(0.5)
        assert adoption.is_alive()
    adoption.join(20)
    assert engine.kept_policy() == other.policy
    other.close()


def test_adopting_a_policy_moves_running_dates_and_leaves_stamped_ones(
    engine: Engine, url: str, clock: ManualClock
) -> None:
    opened(engine)
    engine.open_account("gone", company="Gone", owners=[ANN], plan="free")
    engine.fire("gone", "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + timedelta(days=40))
    stamped = engine.get("gone").delete_content_at
    held = engine.get("acme").held_at
    shorter = Engine(
        url,
        policy=Policy.from_mapping({"expired_trial_cancellation_after": "25 days", "deletion_after": "20 days"}),
        clock=clock,
    )
    shorter.migrate()
    assert shorter.get("acme").due_at == held + timedelta(days=25 - 14)
    assert shorter.get("gone").delete_content_at == stamped
    shorter.close()


def test_turning_cancellations_automatic_starts_every_notice_anew(url: str, clock: ManualClock) -> None:
    waiting = Engine(url, policy=Policy.from_mapping({"company_cancellation": "approval"}), clock=clock)
    waiting.migrate()
    waiting.open_account("acme", company="Acme", owners=[ANN])
    waiting.run_until(START + timedelta(days=100))
    assert [account.id for account in waiting.awaiting_approval()] == ["acme"]
    assert waiting.get("acme").due_at is None
    automatic = Engine(url, policy=Policy(), clock=clock)
    automatic.migrate()
    assert (automatic.history("acme")[-1].event, automatic.history("acme")[-1].step) == ("cancel_expired_trial", "void")
    assert automatic.sweep().moves == {("cancel_expired_trial", "remind"): 1}
    automatic.run_until(START + timedelta(days=100 + 13))
    assert automatic.get("acme").state is State.ON_HOLD
    automatic.run_until(START + timedelta(days=100 + 14))
    assert automatic.get("acme").state is State.ACCESS_REVOKED
    for engine in (waiting, automatic):
        engine.close()


def test_an_admin_fires_what_waits_for_approval_once_it_is_due(url: str, clock: ManualClock) -> None:
    engine = Engine(url, policy=Policy.from_mapping({"company_cancellation": "approval"}), clock=clock)
    engine.migrate()
    engine.open_account("acme", company="Acme", owners=[ANN])
    engine.run_until(START + timedelta(days=59))
    with pytest.raises(Refused, match="not reached yet"):
        engine.fire("acme", "cancel_expired_trial", actor=ADMIN)
    engine.run_until(START + timedelta(days=60))
    assert engine.get("acme").state is State.ON_HOLD
    assert engine.fire("acme", "cancel_expired_trial", actor=ADMIN).actor == "admin:root"
    assert list(engine.awaiting_approval()) == []
    engine.close()


# --- Personal data ---------------------------------------------------------------------------------


def canary(engine: Engine) -> None:
    """Purges an account whose company, owner, reason and refused attempts all name a canary."""
    engine.open_account("acme", company="Canary GmbH", owners=["canary@acme.test"])
    with pytest.raises(Refused):
        engine.fire("acme", "freeze", actor=Actor.owner("canary@acme.test"))
    engine.fire("acme", "cancel", actor=Actor.owner("canary@acme.test"), reason="canary left")


def purge_by_itself(engine: Engine) -> None:
    canary(engine)
    engine.run_until(START + timedelta(days=100))


def purge_by_decision(engine: Engine, many: bool) -> None:
    canary(engine)
    del engine.courier.handlers[Effect.PURGE_BACKUPS]
    at = START + timedelta(days=100)
    engine.run_until(at)
    seen, asked = engine.get("acme"), Request(SYSTEM, receipt="gone")
    decision = decide(seen, "purge_backups", asked, at, engine.policy)
    entry = Entry.of_request(seen, asked, at, engine.policy.version, None)
    with engine.database.write() as connection:
        if many:
            engine.store.write_many(connection, [(seen, decision, entry)])
        else:
            engine.store.write(connection, seen, decision, entry)


@pytest.mark.parametrize(
    "purge",
    [purge_by_itself, partial(purge_by_decision, many=False), partial(purge_by_decision, many=True)],
    ids=["by itself", "one decision", "many decisions"],
)
def test_a_purge_scrubs_personal_data_from_every_table(engine: Engine, purge: Callable[[Engine], None]) -> None:
    purge(engine)
    assert engine.get("acme").state is State.PURGED
    with engine.database.read() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(select(table)):
                assert "canary" not in repr(tuple(row)).casefold(), table.name
    assert len(engine.history("acme")) == engine.get("acme").version
    with engine.database.read() as connection:
        assert connection.execute(select(history.c.reason).where(history.c.reason.is_not(None))).all() == []
