"""Databases of earlier versions: what they hold is there afterwards, sealed where it was in clear, as in a new one."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Text, column, create_engine, insert, inspect, make_url, select, table, text, update

from lifecycle import Actor, Effect, Engine, ManualClock, Policy, Refused, SchemaOutdated, State
from lifecycle.columns import metadata
from lifecycle.import_rows import RowReader
from lifecycle.importer import import_accounts
from lifecycle.tables import SCHEMA_VERSION, adopted_policies
from tests.conftest import START

pytestmark = [pytest.mark.empty, pytest.mark.xdist_group("upgrade")]  # one worker, so that the twin lives once

DAY = timedelta(days=1)
ADMIN, ANN = Actor.admin("root"), Actor.owner("ann@sparrow.test")
#: Version 2, but for most CHECKs. {instant} and {number} are the types that the databases have for them.
SCHEMA_2 = """
CREATE TABLE account (
    id TEXT NOT NULL, company TEXT NOT NULL, state VARCHAR(40) NOT NULL, plan VARCHAR(40) NOT NULL,
    version INTEGER NOT NULL, due_at {instant}, opened_at {instant} NOT NULL, trial_ends_at {instant},
    period_began_at {instant}, period_ends_at {instant}, held_at {instant}, frozen_at {instant},
    suspended_from VARCHAR(40), free_since {instant}, last_active_at {instant}, cancelled_at {instant},
    cancelled_by VARCHAR(40), cancelled_from VARCHAR(40), terminated_at {instant}, access_ends_at {instant},
    delete_content_at {instant}, purge_backups_by {instant}, reminder INTEGER, reminded_at {instant},
    not_before {instant}, erasure_requested_at {instant}, content_deleted_at {instant}, purge_requested_at {instant},
    purged_at {instant}, legal_holds INTEGER NOT NULL, hold_released_at {instant},
    CONSTRAINT account_pk PRIMARY KEY (id),
    CONSTRAINT account_trial_end CHECK (state <> 'trial' OR trial_ends_at IS NOT NULL));
CREATE INDEX account_due ON account (state, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE adopted_policy (
    number INTEGER NOT NULL, version TEXT NOT NULL, settings TEXT NOT NULL, adopted_at {instant} NOT NULL,
    CONSTRAINT adopted_policy_pk PRIMARY KEY (number));
CREATE TABLE brake_count (
    id {number} NOT NULL, at {instant} NOT NULL, effect VARCHAR(40) NOT NULL, accounts INTEGER NOT NULL,
    CONSTRAINT brake_count_pk PRIMARY KEY (id));
CREATE INDEX brake_count_at ON brake_count (at);
CREATE TABLE brake_release (
    id {number} NOT NULL, at {instant} NOT NULL, accounts INTEGER NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
    CONSTRAINT brake_release_pk PRIMARY KEY (id));
CREATE INDEX brake_release_at ON brake_release (at);
CREATE TABLE clock_acceptance (
    id {number} NOT NULL, at {instant} NOT NULL, seen_at {instant}, actor TEXT NOT NULL,
    CONSTRAINT clock_acceptance_pk PRIMARY KEY (id));
CREATE TABLE clock_reading (id INTEGER NOT NULL, seen_at {instant}, CONSTRAINT clock_reading_pk PRIMARY KEY (id));
CREATE TABLE heartbeat (
    daemon TEXT NOT NULL, started_at {instant} NOT NULL, seen_at {instant} NOT NULL, policy_version TEXT NOT NULL,
    trouble TEXT, CONSTRAINT heartbeat_pk PRIMARY KEY (daemon));
CREATE TABLE ledger_position (
    ledger TEXT NOT NULL, lines INTEGER NOT NULL, checked_at {instant} NOT NULL,
    CONSTRAINT ledger_position_pk PRIMARY KEY (ledger));
CREATE TABLE schema_info (id INTEGER NOT NULL, version INTEGER NOT NULL, CONSTRAINT schema_info_pk PRIMARY KEY (id));
CREATE TABLE history (
    account_id TEXT NOT NULL, number INTEGER NOT NULL, event VARCHAR(40) NOT NULL, step VARCHAR(40) NOT NULL,
    source VARCHAR(40), dest VARCHAR(40) NOT NULL, at {instant} NOT NULL, actor TEXT NOT NULL, owner INTEGER,
    reason TEXT, policy_version TEXT NOT NULL, request_id TEXT, CONSTRAINT history_pk PRIMARY KEY (account_id, number),
    CONSTRAINT history_account_id FOREIGN KEY (account_id) REFERENCES account (id),
    CONSTRAINT history_step CHECK (step IN ('open', 'fire', 'remind', 'notice', 'request', 'void')));
CREATE UNIQUE INDEX history_request ON history (account_id, request_id) WHERE request_id IS NOT NULL;
CREATE TABLE legal_hold (
    account_id TEXT NOT NULL, number INTEGER NOT NULL, "case" TEXT, placed_at {instant} NOT NULL, ends_at {instant},
    released_at {instant}, CONSTRAINT legal_hold_pk PRIMARY KEY (account_id, number),
    CONSTRAINT legal_hold_account_id FOREIGN KEY (account_id) REFERENCES account (id));
CREATE INDEX legal_hold_ending ON legal_hold (ends_at) WHERE released_at IS NULL AND ends_at IS NOT NULL;
CREATE TABLE outbox (
    id {number} NOT NULL, account_id TEXT NOT NULL, number INTEGER NOT NULL, effect VARCHAR(40) NOT NULL,
    status VARCHAR(40) NOT NULL, attempts INTEGER NOT NULL, created_at {instant} NOT NULL, due_at {instant} NOT NULL,
    claimed_until {instant}, promised {instant}, access_ends_at {instant}, delete_content_at {instant},
    purge_backups_by {instant}, finished_at {instant}, last_error TEXT, receipt TEXT,
    CONSTRAINT outbox_pk PRIMARY KEY (id),
    CONSTRAINT outbox_account_id_number_effect UNIQUE (account_id, number, effect),
    CONSTRAINT outbox_account_id FOREIGN KEY (account_id) REFERENCES account (id));
CREATE UNIQUE INDEX outbox_one_live_request ON outbox (account_id, effect)
    WHERE effect IN ('delete_content', 'purge_backups') AND status IN ('pending', 'parked');
CREATE INDEX outbox_pending ON outbox (due_at, id) WHERE status = 'pending';
CREATE TABLE owner (
    account_id TEXT NOT NULL, number INTEGER NOT NULL, email TEXT NOT NULL, email_key TEXT NOT NULL,
    CONSTRAINT owner_pk PRIMARY KEY (account_id, number),
    CONSTRAINT owner_account_id_email_key UNIQUE (account_id, email_key),
    CONSTRAINT owner_account_id FOREIGN KEY (account_id) REFERENCES account (id));
CREATE INDEX owner_email_key ON owner (email_key);
CREATE TABLE refused_attempt (
    id {number} NOT NULL, account_id TEXT NOT NULL, at {instant} NOT NULL, event TEXT NOT NULL, actor TEXT NOT NULL,
    reasons TEXT NOT NULL, policy_version TEXT NOT NULL, CONSTRAINT refused_attempt_pk PRIMARY KEY (id),
    CONSTRAINT refused_attempt_account_id FOREIGN KEY (account_id) REFERENCES account (id));
CREATE INDEX refused_attempt_account_id ON refused_attempt (account_id);
"""
TYPES = {
    "sqlite": {"instant": "BIGINT", "number": "INTEGER"},
    "postgresql": {"instant": "TIMESTAMP WITH TIME ZONE", "number": "BIGSERIAL"},
}
CSV = [
    "id,company,owners,state,plan,trial_ends_at,opened_at",
    "new,Sparrow New,new@sparrow.test,trial,trial,2026-01-20,2026-01-01",
]


@dataclass
class Earlier:
    """A database of version 2, and an engine of today whose accounts it holds."""

    url: str
    twin: Engine

    def upgraded(self, **options: Any) -> Engine:
        engine = Engine(self.url, clock=self.twin.clock, **options)
        engine.migrate()
        return engine

    def run(self, statement: str) -> None:
        maker = create_engine(make_url(self.url).set(drivername=self._driver))
        with maker.begin() as connection:
            connection.execute(text(statement))
        maker.dispose()

    @property
    def _driver(self) -> str:
        return "postgresql+psycopg" if self.url.startswith("postgresql") else "sqlite"


def live(engine: Engine) -> None:
    """Accounts in many states, with owners, reasons, holds, refusals, and what they owe."""
    for name in ("gone", "held", "paid", "refused", "deleted", "late"):
        if name == "deleted":
            engine.fire("gone", "cancel", actor=ANN, reason="sparrow is dear")
            engine.run_until(START + 10 * DAY)
        engine.open_account(name, company=f"Sparrow {name}", owners=["ann@sparrow.test", f"bob@{name}.sparrow.test"])
    engine.place_hold("held", actor=ADMIN, reason="sparrow of the court", case="2031-1")
    for name in ("deleted", "held", "refused"):
        engine.fire(name, "cancel", actor=ANN, reason="sparrow is dear", request_id=f"ticket-{name}")
    engine.fire("refused", "reactivate", actor=Actor.support("sue"), company="Sparrow refused", email=ANN.id)
    with pytest.raises(Refused):
        engine.fire("refused", "freeze", actor=Actor.support("sue"))
    period = START + 400 * DAY
    engine.fire("paid", "upgrade", actor=Actor.billing("psp"), period_ends_at=period)
    engine.fire("paid", "suspend", actor=ADMIN, reason="sparrow sends spam")
    assert import_accounts(engine, CSV).imported == 1
    engine.run_until(START + 62 * DAY)
    for email in (" Ann@sparrow.test", "eve@sparrow.test"):
        with pytest.raises(Refused):
            engine.fire("deleted", "reactivate", actor=Actor.owner(email))


def rows(engine: Engine, name: str) -> list[dict[str, Any]]:
    with engine.database.read() as connection:
        found = metadata.tables[name]
        order = [found.c.id] if "id" in found.c else list(found.primary_key.columns)
        return [dict(row) for row in connection.execute(select(found).order_by(*order)).mappings()]


def written_down(engine: Engine) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The tables of version 2 with what this engine's would have held in them."""
    accounts = list(engine.accounts())
    yield "account", [{**row, "company": engine.get(row["id"]).company} for row in rows(engine, "account")]
    people = [(account.id, person) for account in accounts for person in account.people]
    yield (
        "owner",
        [{"account_id": id, "number": p.number, "email": p.email, "email_key": p.email.casefold()} for id, p in people],
    )
    digest = RowReader(engine.policy, START).read(next(csv.DictReader(CSV))).digest
    entries = [vars_of(entry) for account in accounts for entry in engine.history(account.id)]
    for entry in entries:
        if str(entry["request_id"]).startswith("import:"):
            entry["request_id"] = f"import:{digest}"
    yield "history", entries[::-1]
    said = {(row["account_id"], row["number"], row["effect"]): row["text"] for row in rows(engine, "receipt")}
    owed = rows(engine, "outbox")
    yield "outbox", [{**row, "receipt": said.get((row["account_id"], row["number"], row["effect"]))} for row in owed]
    asked = {"owner:1": "owner: Ann@sparrow.test", "owner:?": "owner:eve@sparrow.test"}
    same = ("id", "account_id", "at", "reasons", "policy_version")
    yield (
        "refused_attempt",
        [
            {name: row[name] for name in same} | {"event": row["what"], "actor": asked.get(row["who"], row["who"])}
            for row in rows(engine, "refused_attempt")
        ],
    )
    kept = ("legal_hold", "brake_count", "clock_reading", "adopted_policy")
    yield from ((name, [as_it_was(row) for row in rows(engine, name)]) for name in kept)
    yield "schema_info", [{"id": 1, "version": 2}]


def as_it_was(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what came with version 4: who adopted a policy, and why."""
    return {name: value for name, value in row.items() if name not in ("actor", "approved_by", "reason")}


def vars_of(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in type(entry).__dataclass_fields__}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    handlers = {Effect.DELETE_CONTENT: lambda task: "erased", Effect.PURGE_BACKUPS: lambda task: "erased"}
    engine = Engine(f"sqlite:///{tmp_path_factory.mktemp('twin')}/twin.db", clock=ManualClock(START), handlers=handlers)
    engine.migrate()
    live(engine)
    yield engine
    engine.close()


@pytest.fixture
def earlier(url: str, twin: Engine) -> Earlier:
    maker = create_engine(make_url(url).set(drivername="sqlite" if url.startswith("sqlite") else "postgresql+psycopg"))
    types = TYPES[maker.dialect.name]
    with maker.begin() as connection:
        for statement in SCHEMA_2.split(";")[:-1]:
            connection.execute(text(statement.format(**types)))
        for name, content in written_down(twin):
            new = metadata.tables[name]
            for row in content:
                typed = (column(c, new.c[c].type if c in new.c and c != "email_key" else Text()) for c in row)
                connection.execute(insert(table(name, *typed)).values(row))
            if maker.dialect.name == "postgresql" and name in ("outbox", "brake_count"):
                connection.execute(text(f"SELECT setval('{name}_id_seq', max(id)) FROM {name}"))
    maker.dispose()
    return Earlier(url, twin)


def test_the_lives_of_the_twin_are_many(twin: Engine) -> None:
    states = {account.state for account in twin.accounts()}
    assert states >= {State.ON_HOLD, State.FROZEN, State.ACCESS_REVOKED, State.CONTENT_DELETED, State.PURGED}


def test_an_upgrade_keeps_every_account_with_its_people_its_history_and_what_it_owes(
    earlier: Earlier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifecycle.upgrade._PAGE", 2)
    engine, twin = earlier.upgraded(), earlier.twin
    for account in twin.accounts():
        found = engine.get(account.id)
        assert found.as_dict() == account.as_dict()
        assert (found.people, found.personal.next_number) == (account.people, account.personal.next_number)
        entries = [vars_of(entry) for entry in engine.history(account.id)]
        expected = [vars_of(entry) for entry in twin.history(account.id)]
        for entry in (*entries, *expected):
            if str(entry["request_id"]).startswith("import:"):
                entry["request_id"] = "import"
        assert entries == expected
    for name in ("legal_hold", "outbox", "receipt", "brake_count", "clock_reading", "adopted_policy"):
        assert [*map(as_it_was, rows(engine, name))] == [*map(as_it_was, rows(twin, name))], name
    assert [row["who"] for row in rows(engine, "refused_attempt")] == ["support:sue", "owner:1", "owner:?"]
    assert engine.find("sparrow  HELD", "Bob@held.sparrow.test") == ["held"]
    engine.close()


def test_after_an_upgrade_entries_have_the_order_in_which_they_were_written(earlier: Earlier) -> None:
    engine = earlier.upgraded()
    found = rows(engine, "history")
    assert found == sorted(found, key=lambda row: (row["at"], row["account_id"], row["number"]))
    assert [row["id"] for row in found] == list(range(1, len(found) + 1))
    engine.close()


def test_after_an_upgrade_life_goes_on(earlier: Earlier) -> None:
    engine = earlier.upgraded()
    engine.fire("late", "cancel", actor=ANN, reason="once more")
    assert engine.fire("held", "cancel", actor=ANN, request_id="ticket-held").number == 3
    engine.open_account("younger", company="Younger", owners=["y@y.test"])
    assert engine.deliver().handled
    ids = [row["id"] for row in rows(engine, "outbox")]
    assert ids == sorted(set(ids))
    engine.migrate()
    engine.close()


def test_after_an_upgrade_an_import_knows_its_rows_again(earlier: Earlier) -> None:
    engine = earlier.upgraded()
    assert import_accounts(engine, CSV).unchanged == 1
    engine.close()


def test_after_an_upgrade_nothing_personal_is_in_clear(earlier: Earlier) -> None:
    engine = earlier.upgraded()
    for name in metadata.tables:
        assert "sparrow" not in repr(rows(engine, name)).casefold(), name
    engine.close()
    if not earlier.url.startswith("postgresql"):
        path = Path(str(make_url(earlier.url).database))
        for file in path.parent.glob(f"{path.name}*"):
            assert b"sparrow" not in file.read_bytes().lower(), file


def described(engine: Engine) -> dict[str, Any]:
    """Everything that the database says of its tables, and which relations there are."""
    with engine.database.read() as connection:
        if not engine.database.is_postgresql:
            master = text("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
            return {"master": connection.execute(master).all()}
        seen = inspect(connection)
        ask: tuple[Callable[[str], Any], ...] = (
            seen.get_columns,
            seen.get_pk_constraint,
            seen.get_foreign_keys,
            seen.get_unique_constraints,
            seen.get_check_constraints,
            seen.get_indexes,
            seen.get_table_options,
        )
        tables = {name: [sorted_repr(one(name)) for one in ask] for name in sorted(seen.get_table_names())}
        return {"tables": tables, "views": sorted(seen.get_view_names())}


def sorted_repr(found: Any) -> Any:
    return sorted(map(repr, found)) if isinstance(found, list) else repr(found)


def test_an_upgraded_database_has_the_schema_of_a_new_one(earlier: Earlier, tmp_path: Path) -> None:
    engine = earlier.upgraded()
    fresh = f"sqlite:///{tmp_path}/fresh.db"
    if engine.database.is_postgresql:
        earlier.run("CREATE SCHEMA fresh")
        options = {"options": "-csearch_path=fresh"}
        fresh = make_url(earlier.url).update_query_dict(options).render_as_string(hide_password=False)
    new = Engine(fresh)
    new.migrate()
    assert described(engine) == described(new)
    for one in (engine, new):
        one.close()


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(earlier: Earlier, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> bytes:
        raise RuntimeError("the power failed")

    with monkeypatch.context() as patched:
        patched.setattr("lifecycle.upgrade.seal_reason", broken)
        with pytest.raises(RuntimeError):
            earlier.upgraded()
    engine = Engine(earlier.url, clock=earlier.twin.clock)
    with pytest.raises(SchemaOutdated, match="has version 2, this package reads"):
        engine.kept_policy()
    engine.migrate()
    assert len(list(engine.accounts())) == len(list(earlier.twin.accounts()))
    engine.close()


def test_a_database_of_version_1_is_upgraded_and_keeps_its_holds(earlier: Earlier) -> None:
    earlier.run("DROP INDEX legal_hold_ending")
    earlier.run("ALTER TABLE legal_hold DROP COLUMN ends_at")
    for name in ("brake_count", "brake_release", "clock_reading", "clock_acceptance", "ledger_position"):
        earlier.run(f"DROP TABLE {name}")
    earlier.run("UPDATE schema_info SET version = 1")
    engine = earlier.upgraded()
    assert [(hold["account_id"], hold["case"], hold["reason"]) for hold in engine.holds()] == [
        ("held", "2031-1", "sparrow of the court")
    ]
    assert rows(engine, "schema_info")[0]["version"] == SCHEMA_VERSION
    assert engine.brake().free == 50
    engine.close()


# --- The policy that is kept -----------------------------------------------------------------------


def test_a_policy_that_an_earlier_release_recorded_is_recorded_again_under_its_version_of_today(engine: Engine) -> None:
    """A release with more settings counts equal values under another version."""
    with engine.database.write() as connection:
        connection.execute(update(adopted_policies).values(version="earlier", settings='{"deletion_after": "30 days"}'))
    again = Engine(engine.database.url.render_as_string(hide_password=False), clock=engine.clock)
    assert again.kept_policy() == Policy()
    for _ in range(2):
        again.migrate()
    assert [row["version"] for row in rows(again, "adopted_policy")] == ["earlier", Policy().version]
    again.open_account("acme", company="Acme", owners=["ann@acme.test"])
    again.sweep()
    again.close()
