"""Roles on PostgreSQL: each process can do what it is for, and no more, with the database's own users."""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from typer.testing import CliRunner

from lifecycle import Actor, Effect, Engine, InvalidInput, ManualClock, PrivilegeMissing, Safety, State
from lifecycle.cli import app
from lifecycle.columns import metadata
from lifecycle.doctor import examine
from lifecycle.importer import import_accounts
from lifecycle.personal import Person, Personal
from lifecycle.precautions import LEFT_TO_OTHERS
from lifecycle.privileges import GRANTS, DatabaseRole
from tests.conftest import START
from tests.daemons import CONFIRM, DAY, back_then, now, open_trial, starting, until

pytestmark = [pytest.mark.postgres, pytest.mark.empty]
ADMIN = Actor.admin("root")
ANN = "ann@acme.test"
DESTRUCTIVE = {Effect.DELETE_CONTENT: lambda task: "gone", Effect.PURGE_BACKUPS: lambda task: "gone"}
EVERY = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
APP, DESTROYER, AUDITOR, OWNER = DatabaseRole.APP, DatabaseRole.DESTROYER, DatabaseRole.AUDITOR, DatabaseRole.OWNER


@dataclass
class World:
    """A database with roles of its own and a user in each; ``url`` is the superuser's."""

    url: str
    prefix: str = field(default_factory=lambda: f"r{uuid.uuid4().hex[:12]}")
    clock: ManualClock = field(default_factory=lambda: ManualClock(START))
    engines: list[Engine] = field(default_factory=list)
    sessions: dict[DatabaseRole | None, Engine] = field(default_factory=dict)

    def name(self, role: DatabaseRole) -> str:
        return f"{self.prefix}_{role}"

    def url_of(self, role: DatabaseRole) -> str:
        url = make_url(self.url).set(username=f"{self.name(role)}_user", password="secret")
        return url.render_as_string(hide_password=False)

    def engine(self, role: DatabaseRole | None = None, **options: Any) -> Engine:
        url = self.url if role is None else self.url_of(role)
        self.engines.append(Engine(url, **{"clock": self.clock} | options))
        return self.engines[-1]

    def establish(self) -> None:
        self.engine().migrate(role_prefix=self.prefix)
        for role in DatabaseRole:
            self.run(None, f"CREATE USER {self.name(role)}_user PASSWORD 'secret' IN ROLE {self.name(role)}")

    def run(self, role: DatabaseRole | None, *statements: str) -> Any:
        """Run SQL as a user of the role; what the last statement gives."""
        if role not in self.sessions:
            self.sessions[role] = self.engine(role)
        with self.sessions[role].database.write() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement.replace("%", "%%"))
            return result.fetchall() if result.returns_rows else None

    def end(self, users: Sequence[str] | None = None) -> None:
        roles = [self.name(role) for role in DatabaseRole]
        users = [f"{name}_user" for name in roles] if users is None else users
        self.run(None, f"REASSIGN OWNED BY {', '.join(roles)} TO CURRENT_USER")
        self.run(None, f"DROP OWNED BY {', '.join(roles)}", f"DROP ROLE {', '.join([*users, *roles])}")
        for engine in self.engines:
            engine.close()


@pytest.fixture
def world(postgresql_url: str) -> Iterator[World]:
    """A world in which nothing has happened yet."""
    world = World(postgresql_url)
    world.establish()
    yield world
    world.end()


@pytest.fixture(scope="module")
def lived(postgresql_server: str) -> Iterator[World]:
    """A world that tests only attack: ``acme`` was cancelled and waits to be destroyed, ``gone`` is purged."""
    admin = make_url(postgresql_server).set(drivername="postgresql+psycopg")
    maker, name = create_engine(admin, isolation_level="AUTOCOMMIT"), f"test_{uuid.uuid4().hex}"
    with maker.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    world = World(admin.set(database=name).render_as_string(hide_password=False))
    world.establish()
    destroyer = world.engine(DESTROYER, handlers=DESTRUCTIVE)
    cancelled(destroyer, "gone")
    destroyer.run_until(START + 100 * DAY)
    waiting = world.engine(DESTROYER)  # without handlers
    cancelled(waiting)
    waiting.run_until(START + 140 * DAY)
    assert destroyer.get("acme").erasure_requested_at is not None
    yield world
    world.end()
    with maker.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    maker.dispose()


def cancelled(engine: Engine, account_id: str = "acme") -> None:
    engine.open_account(account_id, company="Acme Ltd", owners=[ANN])
    engine.fire(account_id, "cancel", actor=Actor.owner(ANN), reason="too expensive")


# --- The grants ------------------------------------------------------------------------------------


def test_every_table_says_who_may_do_what_with_it() -> None:
    assert set(GRANTS) == set(metadata.tables)


def test_nobody_may_change_or_shorten_the_history() -> None:
    for table in {"history", "receipt", "seal"} & set(GRANTS):
        for role in DatabaseRole:
            assert not {"UPDATE", "DELETE", "TRUNCATE"} & set(
                " ".join(GRANTS[table].of(role)).replace(",", " ").split()
            )


@pytest.mark.parametrize("role", [APP, DESTROYER, AUDITOR])
def test_each_role_has_the_grants_that_are_written_down_and_no_others(lived: World, role: DatabaseRole) -> None:
    for table, grants in GRANTS.items():
        words = {word.strip() for privileges in grants.of(role) for word in privileges.split(", ")}
        words = {word for word in words if "(" not in word and ")" not in word}
        asked = ", ".join(
            f"has_table_privilege('{lived.name(role)}_user', '{table}', '{privilege}')" for privilege in EVERY
        )
        ((*found,),) = lived.run(None, f"SELECT {asked}")
        assert {privilege for privilege, has in zip(EVERY, found, strict=True) if has} == words, table


def test_making_the_roles_again_takes_back_what_was_granted_beside_them(world: World) -> None:
    world.run(None, f"GRANT DELETE ON history TO {world.name(APP)}", "GRANT SELECT ON personal_data TO PUBLIC")
    world.engine(OWNER).migrate(role_prefix=world.prefix)
    with pytest.raises(PrivilegeMissing):
        world.run(APP, "DELETE FROM history")
    with pytest.raises(PrivilegeMissing):
        world.run(AUDITOR, "SELECT * FROM personal_data")


def test_the_owner_upgrades_and_adopts_policies_without_being_a_superuser(world: World) -> None:
    world.run(OWNER, "DROP TABLE heartbeat")
    engine = world.engine(OWNER)
    engine.migrate(role_prefix=world.prefix)
    owners = world.run(None, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert [tuple(row) for row in owners] == [(world.name(OWNER),)]
    world.engine(APP).store.beat("one", START, START, "x", None)


def test_the_databases_owner_makes_roles_without_being_a_superuser(postgresql_url: str) -> None:
    world = World(postgresql_url)
    name, database = f"{world.prefix}_dba", make_url(postgresql_url).database
    world.run(None, f"CREATE USER {name} PASSWORD 'secret' CREATEROLE", f"ALTER DATABASE {database} OWNER TO {name}")
    mine = make_url(postgresql_url).set(username=name, password="secret").render_as_string(hide_password=False)
    for _ in range(2):
        engine = Engine(mine, clock=world.clock)
        engine.migrate(role_prefix=world.prefix)
        engine.close()
    with pytest.raises(PrivilegeMissing):
        world.run(None, f"SET LOCAL ROLE {world.name(APP)}", "DELETE FROM personal_data")
    world.run(None, f"REASSIGN OWNED BY {name} TO CURRENT_USER", f"DROP OWNED BY {name}")
    world.end(users=[name])


def test_who_may_not_make_roles_is_told_who_may(lived: World) -> None:
    with pytest.raises(PrivilegeMissing, match="may not create them; run `lifecycle init --roles` as a superuser"):
        lived.engine(OWNER).migrate(role_prefix=f"{lived.prefix}_other")
    with pytest.raises(PrivilegeMissing, match=f"no member of {lived.name(OWNER)}"):
        lived.engine(APP).migrate(role_prefix=lived.prefix)


def test_sqlite_has_no_roles_and_nothing_is_made(tmp_path: Path) -> None:
    file = tmp_path / "accounts.db"
    result = CliRunner().invoke(app, ["init", "--roles", "--database", f"sqlite:///{file}"])
    assert result.exit_code == 2 and "permissions" in result.output
    assert not file.exists()


@pytest.mark.parametrize("prefix", ["", "Lifecycle", "1st", 'a"; DROP TABLE account; --', "x" * 49])
def test_a_malformed_prefix_is_refused(lived: World, prefix: str) -> None:
    with pytest.raises(InvalidInput, match="malformed"):
        lived.engine().migrate(role_prefix=prefix)


def test_the_command_line_makes_roles_and_says_what_comes_next(lived: World) -> None:
    run = partial(CliRunner().invoke, app)
    shown = run(["init", "--roles", "--role-prefix", lived.prefix, "--database", lived.url])
    assert shown.exit_code == 0, shown.output
    for role in DatabaseRole:
        assert f"IN ROLE {lived.name(role)};" in shown.stdout
    said = run(["init", "--roles", "--role-prefix", lived.prefix, "--database", lived.url, "--json"]).stdout
    assert json.loads(said)["roles"] == {str(role): lived.name(role) for role in DatabaseRole}
    assert run(["init", "--role-prefix", "x", "--database", lived.url]).exit_code == 2


# --- Attacks ---------------------------------------------------------------------------------------

HISTORY = {
    "change": "UPDATE history SET actor = 'admin:eve'",
    "delete": "DELETE FROM history",
    "cut off": "TRUNCATE history",
    "drop": "DROP TABLE history",
    "alter": "ALTER TABLE history DROP COLUMN actor",
    "switch off triggers": "ALTER TABLE history DISABLE TRIGGER ALL",
    "switch off all triggers": "SET session_replication_role = replica",
}
BEYOND = {
    "make a table": "CREATE TABLE evil (id int)",
    "make a function": "CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a role": "CREATE ROLE evil",
    "read password hashes": "SELECT rolpassword FROM pg_authid",
    "run a program": "COPY account TO PROGRAM 'cat'",
    "adopt a policy": "INSERT INTO adopted_policy SELECT 99, version, settings, adopted_at FROM adopted_policy",
    "delete an account": "DELETE FROM account",
}
TASK = "(account_id, number, effect, status, attempts, created_at, due_at)"
DESTRUCTION = {
    "delete a key": "DELETE FROM personal_data",
    "overwrite a key": "UPDATE personal_data SET wrapped = ''",
    "move a key": "UPDATE personal_data SET account_id = 'gone'",
    "cut off keys": "TRUNCATE personal_data",
    "delete reasons": "DELETE FROM stated_reason",
    "delete refusals": "DELETE FROM refused_attempt",
    "release the brake": "INSERT INTO brake_release (at, accounts, actor, reason) "
    "VALUES (now(), 9999, 'admin:eve', 'x')",
    "claim that content is gone": "UPDATE account SET state = 'content_deleted', content_deleted_at = now() "
    "WHERE id = 'acme'",
    "claim that erasure was asked for": "UPDATE account SET erasure_requested_at = now() WHERE id = 'acme'",
    "ask a handler to destroy": f"INSERT INTO outbox {TASK} "
    "VALUES ('acme', 1, 'purge_backups', 'pending', 0, now(), now())",
    "turn a message into a request": "UPDATE outbox SET effect = 'purge_backups' "
    "WHERE account_id = 'acme' AND effect = 'stop_billing'",
    "claim a receipt": "UPDATE outbox SET status = 'delivered', receipt = 'gone', finished_at = now() "
    "WHERE account_id = 'acme' AND effect = 'delete_content'",
    "rewrite a receipt": "UPDATE outbox SET receipt = 'kept' WHERE account_id = 'gone' AND effect = 'purge_backups'",
    "make a request another account's": "UPDATE outbox SET account_id = 'gone', number = 99 "
    "WHERE account_id = 'acme' AND effect = 'delete_content'",
    "ask once more": "UPDATE outbox SET status = 'pending', due_at = now() "
    "WHERE account_id = 'gone' AND effect = 'purge_backups'",
}


@pytest.mark.parametrize("attack", [*HISTORY, *BEYOND])
@pytest.mark.parametrize("role", [APP, DESTROYER, AUDITOR])
def test_no_process_can_rewrite_history_or_reach_beyond_its_tables(
    lived: World, role: DatabaseRole, attack: str
) -> None:
    with pytest.raises(PrivilegeMissing):
        lived.run(role, (HISTORY | BEYOND)[attack])


@pytest.mark.parametrize("attack", DESTRUCTION)
def test_the_app_can_destroy_nothing_and_claim_no_destruction(lived: World, attack: str) -> None:
    with pytest.raises(PrivilegeMissing):
        lived.run(APP, DESTRUCTION[attack])


def test_a_temporary_table_cannot_stand_in_for_the_one_that_says_who_may_destroy(lived: World) -> None:
    with pytest.raises(PrivilegeMissing, match="may not destroy"):
        lived.run(
            APP,
            "CREATE TEMP TABLE personal_data (account_id text)",
            "SET LOCAL search_path = pg_temp, public",
            DESTRUCTION["ask a handler to destroy"],
        )


@pytest.mark.parametrize("other", [OWNER, DESTROYER])
def test_the_app_cannot_become_another(lived: World, other: DatabaseRole) -> None:
    for name in (lived.name(other), f"{lived.name(other)}_user"):
        with pytest.raises(PrivilegeMissing):
            lived.run(APP, f"SET ROLE {name}")
        with pytest.raises(PrivilegeMissing):
            lived.run(APP, f"GRANT {lived.name(other)} TO CURRENT_USER")


def test_the_auditor_writes_nothing_and_reads_nothing_personal(lived: World) -> None:
    for table in ("personal_data", "stated_reason", "owner", "lookup_secret"):
        with pytest.raises(PrivilegeMissing):
            lived.run(AUDITOR, f"SELECT * FROM {table}")
    for statement in (
        "UPDATE account SET due_at = NULL",
        "INSERT INTO schema_info VALUES (2, 3)",
        "DELETE FROM outbox",
    ):
        with pytest.raises(PrivilegeMissing):
            lived.run(AUDITOR, statement)


def test_the_auditor_reads_the_record_without_names_and_reasons(lived: World) -> None:
    engine, other = lived.engine(AUDITOR), lived.engine(APP)
    assert [entry.event for entry in engine.history("acme")] == [entry.event for entry in other.history("acme")]
    assert {entry.reason for entry in engine.history("acme")} == {None}
    assert "too expensive" in {entry.reason for entry in other.history("acme")}
    assert (engine.get("acme").state, engine.get("acme").company, engine.get("acme").owners) == (
        "access_revoked",
        "",
        (),
    )
    assert engine.certificate("gone").purged_at == other.certificate("gone").purged_at
    assert [account.id for account in engine.accounts()] == ["acme", "gone"]
    assert engine.holds() == [] and engine.explain("acme").state is State.ACCESS_REVOKED
    for command in ("show acme", "history acme", "certificate gone", "accounts", "export history", "due", "doctor"):
        result = CliRunner().invoke(app, [*command.split(), "--database", lived.url_of(AUDITOR)])
        assert result.exit_code in ((0, 1) if command == "doctor" else (0,)), result.output
        assert "expensive" not in result.output, command
    with pytest.raises(PrivilegeMissing):
        engine.find("Acme Ltd", ANN)
    with pytest.raises(PrivilegeMissing):
        engine.place_hold("acme", actor=ADMIN, reason="order")


# --- The app ---------------------------------------------------------------------------------------


def test_the_app_does_everything_that_can_be_undone(world: World) -> None:
    engine = world.engine(APP)
    rows = ["id,company,owners,state,plan,trial_ends_at,opened_at"]
    rows += ["new,New Ltd,new@new.test,trial,trial,2026-01-20,2026-01-01"]
    assert import_accounts(engine, rows).imported == 1
    cancelled(engine)
    engine.fire("acme", "reactivate", actor=Actor.owner(ANN))
    engine.place_hold("acme", actor=ADMIN, reason="order", case="1")
    engine.release_hold("acme", actor=ADMIN, reason="settled", case="1")
    engine.record_activities([("acme", START), ("new", START)])
    with engine.database.write() as connection:
        seen = engine.store.load(connection, "acme", lock=True)
        people = (*seen.people, Person(2, "bob@acme.test", START))
        engine.store.write_personal(connection, seen, Personal(seen.company, people, 3))
    assert engine.find("Acme Ltd", "bob@acme.test") == ["acme"]
    plan = engine.fire_many("suspend", ["acme", "new"], actor=ADMIN, reason="spam")
    engine.fire_many("suspend", ["acme", "new"], actor=ADMIN, reason="spam", dry_run=False, digest=plan.digest)
    assert engine.deliver().delivered["stop_billing"] == 1
    assert engine.courier.retry(START) == 0
    assert engine.get("new").state is State.FROZEN


def test_the_app_leaves_destruction_to_the_destroyer(world: World) -> None:
    engine = world.engine(APP, handlers=DESTRUCTIVE)
    cancelled(engine)
    engine.run_until(START + 60 * DAY)
    account = engine.get("acme")
    assert (account.state, account.erasure_requested_at) == (State.ACCESS_REVOKED, None)
    assert engine.barred() == engine.sweep().withheld == engine.deliver().withheld == LEFT_TO_OTHERS
    destroyer = world.engine(DESTROYER, handlers=DESTRUCTIVE)
    destroyer.run_until(START + 62 * DAY)
    assert engine.get("acme").state is not State.ACCESS_REVOKED
    destroyer.run_until(START + 200 * DAY)
    assert (engine.get("acme").state, engine.get("acme").company) == (State.PURGED, "")


def test_a_hold_by_the_app_takes_a_request_back_that_the_destroyer_has_made(world: World) -> None:
    engine, destroyer = world.engine(APP), world.engine(DESTROYER)
    cancelled(engine)
    destroyer.run_until(START + 60 * DAY)
    assert engine.get("acme").erasure_requested_at is not None
    engine.place_hold("acme", actor=ADMIN, reason="court order")
    assert engine.get("acme").erasure_requested_at is None
    with engine.database.read() as connection:
        statuses = {row["effect"]: row["status"] for row in engine.courier.rows(connection, account_id="acme")}
    assert statuses["delete_content"] == "withdrawn"


def test_the_app_puts_back_in_line_what_the_destroyers_handler_gave_up(world: World) -> None:
    def broken(task: Any) -> str:
        raise OSError("the disk is gone")

    engine = world.engine(APP)
    destroyer = world.engine(DESTROYER, handlers=dict.fromkeys(DESTRUCTIVE, broken))
    cancelled(engine)
    destroyer.run_until(START + 70 * DAY)
    assert engine.outbox_counts()["parked"] == 1
    assert engine.courier.retry(world.clock.now()) == 1


def test_only_the_destroyer_brings_accounts_forward_after_a_restore_or_releases_the_brake(
    world: World, tmp_path: Path
) -> None:
    safety = Safety(ledger=tmp_path / "ledger.jsonl")
    world.engine(OWNER, safety=safety).migrate()
    engine, destroyer = world.engine(APP, safety=safety), world.engine(DESTROYER, safety=safety)
    assert engine.check_restore() is not None
    for act in (engine.apply_restore, partial(engine.release_brake, 5, reason="spam")):
        with pytest.raises(PrivilegeMissing):
            act(actor=ADMIN)
    destroyer.apply_restore(actor=ADMIN)
    destroyer.release_brake(5, actor=ADMIN, reason="spam")


# --- What operators are told -----------------------------------------------------------------------


def findings(engine: Engine, check: str) -> list[str]:
    return [f"{f.level}: {f.message}" for f in examine(engine) if f.check == check]


def test_doctor_warns_of_a_superuser_and_of_the_owner(lived: World) -> None:
    assert "is a superuser" in findings(lived.engine(), "database user")[0]
    assert "is the tables' owner" in findings(lived.engine(OWNER), "database user")[0]
    assert findings(lived.engine(APP), "database user") == [f"ok: {lived.name(APP)}_user may not destroy."]
    assert findings(lived.engine(DESTROYER), "database user") == [f"ok: {lived.name(DESTROYER)}_user may destroy."]
    (handler, *_) = findings(lived.engine(APP), "handlers")
    assert handler.startswith("ok: delete_content is left to a daemon")


def test_doctor_finds_that_no_daemon_may_destroy(lived: World) -> None:
    engine = lived.engine(APP)
    at = lived.clock.now()
    engine.store.beat("app", at, at, engine.policy.version, None)
    assert findings(engine, "destroyer")[0].startswith("problem: None of the 1 daemons")
    lived.engine(DESTROYER).store.beat("destroyer", at, at, engine.policy.version, None)
    assert findings(engine, "destroyer") == []


def test_the_brakes_state_says_that_this_user_may_not_destroy(lived: World) -> None:
    def status(role: DatabaseRole, *options: str) -> str:
        return CliRunner().invoke(app, ["brake", "status", "--database", lived.url_of(role), *options]).stdout

    assert LEFT_TO_OTHERS in " ".join(status(APP).split()) and LEFT_TO_OTHERS not in " ".join(status(DESTROYER).split())
    assert json.loads(status(APP, "--json"))["may_destroy"] is False


# --- Daemons ---------------------------------------------------------------------------------------


def test_a_daemon_of_the_app_moves_and_delivers_and_one_of_the_destroyer_destroys(world: World, tmp_path: Path) -> None:
    with back_then(world.url, now() - 100 * DAY) as past:
        cancelled(past)
        past.run_until(now() - 71 * DAY)  # the notice is given, and access ends tomorrow
    open_trial(world.url, now() - DAY)
    watcher, handlers = world.engine(AUDITOR, clock=None), dict.fromkeys(DESTRUCTIVE, CONFIRM)
    with starting(world.url_of(APP), tmp_path) as start:
        ours = start(handlers=handlers)
        until(lambda: watcher.get("trial").state is State.ON_HOLD and watcher.get("acme").state is State.ACCESS_REVOKED)
        until(lambda: not watcher.outbox_counts().get("pending"))
        assert watcher.get("acme").erasure_requested_at is None
        theirs = start(handlers=handlers, url=world.url_of(DESTROYER))
        until(lambda: watcher.get("acme").state is State.PURGED)
        destroys = {beat["daemon"]: beat["destroys"] for beat in watcher.heartbeats()}
        assert destroys == {"daemon-0": False, "daemon-1": True}
        assert ours.moved() and ours.log("destruction is left to others")
        assert not ours.log("alarm") and not theirs.log("alarm")
    assert world.run(APP, "SELECT count(*) FROM personal_data WHERE account_id = 'acme'")[0][0] == 0


def test_a_user_who_may_do_nothing_is_told_so_by_every_command(world: World) -> None:
    world.run(None, f"REVOKE {world.name(APP)} FROM {world.name(APP)}_user")
    result = CliRunner().invoke(app, ["accounts", "--database", world.url_of(APP)])
    assert result.exit_code == 1 and "The database user lacks a right" in result.output
