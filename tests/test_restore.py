"""The ledger and what follows a restore: nothing is destroyed while the database has forgotten what was."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from lifecycle import (
    Actor,
    Effect,
    Engine,
    LedgerUnusable,
    ManualClock,
    NotAuthorised,
    Safety,
    State,
    Task,
    Undeliverable,
)
from lifecycle.doctor import examine
from lifecycle.ledger import Ledger
from lifecycle.states import DESTRUCTIVE
from tests.conftest import START
from tests.tampering import unguarded

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")
DAY = timedelta(days=1)


class World:
    """An engine with a ledger, on a database that can be put back to what it was."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.safety = url, Safety(ledger=folder / "ledger.jsonl")
        self.erased: list[tuple[str, str]] = []
        self.clock = ManualClock(START)
        self.engine = self.open()
        self.engine.migrate()

    def open(self) -> Engine:
        handlers = dict.fromkeys(DESTRUCTIVE, self.erase)
        return Engine(self.url, clock=self.clock, safety=self.safety, handlers=handlers)

    def erase(self, task: Task) -> str:
        assert self.lines()[-1]["account"] == task.account_id, "the ledger knows of it before it happens"
        self.erased.append((task.account_id, task.effect))
        return "erased"

    def lines(self) -> list[dict[str, Any]]:
        return [said for _, said in Ledger(self.safety.ledger).lines() if "account" in said]  # type: ignore[arg-type]

    def backup(self) -> dict[str, list[Any]]:
        with self.engine.database.read() as connection:
            return {name: connection.execute(text(f"SELECT * FROM {name}")).mappings().all() for name in _TABLES}

    def restore(self, saved: dict[str, list[Any]]) -> None:
        """The database as it was, and a daemon that has been started again."""
        with self.engine.database.write() as connection, unguarded(connection):
            for name in reversed(_TABLES):
                connection.execute(text(f"DELETE FROM {name}"))
            for name, rows in saved.items():
                for row in rows:
                    columns = ", ".join(f'"{column}"' for column in row)
                    values = ", ".join(f":{column}" for column in row)
                    connection.execute(text(f"INSERT INTO {name} ({columns}) VALUES ({values})"), dict(row))
        self.engine.close()
        self.engine = self.open()


_TABLES = (
    "account",
    "personal_data",
    "owner",
    "stated_reason",
    "history",
    "outbox",
    "receipt",
    "legal_hold",
    "ledger_position",
    "brake_count",
)


@pytest.fixture
def world(url: str, tmp_path: Path) -> Iterator[World]:
    world = World(url, tmp_path)
    world.engine.open_account("acme", company="Acme", owners=[ANN], plan="free")
    world.engine.open_account("bolt", company="Bolt", owners=[ANN], plan="free")
    yield world
    world.engine.close()


def cancel_acme(world: World) -> None:
    world.engine.fire("acme", "cancel", actor=Actor.owner(ANN))


def ask_to_erase_without_ledger(world: World) -> None:
    """The erasure is requested, and the ledger's disk is gone before it is delivered."""
    cancel_acme(world)
    world.engine.run_until(START + 29 * DAY)
    world.safety.ledger.unlink()  # type: ignore[union-attr]
    world.clock.set(START + 30 * DAY)
    world.engine.sweep()


# --- The ledger --------------------------------------------------------------------------------------


def test_every_destruction_is_in_the_ledger_before_it_happens(world: World) -> None:
    cancel_acme(world)
    world.engine.run_until(START + 60 * DAY)
    assert [(said["account"], said["effect"], said["attempt"]) for said in world.lines()] == [
        ("acme", "delete_content", 1),
        ("acme", "purge_backups", 1),
    ]
    assert world.erased == [("acme", "delete_content"), ("acme", "purge_backups")]


def test_the_ledger_holds_no_personal_data(world: World) -> None:
    cancel_acme(world)
    world.engine.run_until(START + 60 * DAY)
    written = world.safety.ledger.read_text()  # type: ignore[union-attr]
    assert "Acme" not in written and ANN not in written


def test_nothing_is_destroyed_when_the_ledger_can_not_be_written(world: World) -> None:
    ask_to_erase_without_ledger(world)
    report = world.engine.deliver()
    assert "Nothing is destroyed without it" in str(report.withheld)
    assert world.erased == [] and world.engine.get("acme").state is State.ACCESS_REVOKED


def test_a_torn_last_line_is_left_out_and_the_next_line_is_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.create()
    ledger.append([{"account": "a"}])
    with ledger.path.open("ab") as file:
        file.write(b'{"account":"b","eff')
    ledger.append([{"account": "c"}])
    assert [said["account"] for _, said in ledger.lines() if "account" in said] == ["a", "c"]


def test_a_line_that_is_no_line_of_a_ledger_is_damage(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.create()
    with ledger.path.open("ab") as file:
        file.write(b"{garbage}\n")
    with pytest.raises(LedgerUnusable, match="Line 2"):
        list(ledger.lines())


def test_a_ledger_is_made_once_and_keeps_its_identity(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.create()
    before = ledger.identity
    ledger.create()
    assert ledger.identity == before


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"account": "acme"}\n')
    with pytest.raises(LedgerUnusable, match="is no ledger"):
        _ = Ledger(tmp_path / "ledger.jsonl").identity


# --- After a restore ---------------------------------------------------------------------------------


def test_a_database_that_has_forgotten_a_deletion_destroys_nothing(world: World) -> None:
    cancel_acme(world)
    world.engine.run_until(START + 29 * DAY)
    world.engine.fire("bolt", "cancel", actor=Actor.owner(ANN))
    saved = world.backup()
    world.engine.run_until(START + 31 * DAY)
    assert world.erased == [("acme", "delete_content")]
    world.restore(saved)
    world.clock.set(START + 70 * DAY)
    report = world.engine.sweep()
    assert "restore check" in str(report.withheld)
    assert world.engine.deliver().withheld is not None
    assert world.erased == [("acme", "delete_content")], "nothing more, and nothing again"
    (finding,) = [finding for finding in examine(world.engine) if finding.check == "ledger"]
    assert finding.level == "problem" and "forgotten the destruction of 1 accounts" in finding.message


@pytest.mark.parametrize("age", [1, 5, 29.5, 30])
def test_after_a_restore_of_any_age_the_account_is_where_it_was_and_is_destroyed_anew(world: World, age: float) -> None:
    saved = {0: world.backup()}
    world.engine.run_until(START + DAY)
    cancel_acme(world)
    for day in (5, 29.5, 30, 31):
        saved[day] = world.backup()
        world.engine.run_until(START + day * DAY)
    world.engine.run_until(START + 32 * DAY)
    before = world.engine.get("acme")
    assert before.state is State.CONTENT_DELETED
    world.restore(saved[{1: 0, 5: 5, 29.5: 29.5, 30: 30}[age]])
    report = world.engine.apply_restore(actor=ADMIN)
    assert report is not None and list(report.behind) == ["acme"]
    account = world.engine.get("acme")
    assert account.state is State.ACCESS_REVOKED
    for name in ("cancelled_at", "cancelled_by", "cancelled_from", "delete_content_at", "erasure_requested_at"):
        assert getattr(account, name) == getattr(before, name), name
    world.engine.deliver()
    assert world.engine.get("acme").state is State.CONTENT_DELETED
    assert world.erased == [("acme", "delete_content")] * 2
    entries = world.engine.history("acme")
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    assert (entries[-2].actor, entries[-2].step) == ("admin:root", "request")
    assert world.engine.sweep().withheld is None, "the two agree again"
    assert world.engine.get("bolt").state is State.ACTIVE


def test_a_forgotten_purge_is_made_good_as_well(world: World) -> None:
    cancel_acme(world)
    world.engine.run_until(START + 10 * DAY)
    saved = world.backup()
    world.engine.run_until(START + 60 * DAY)
    world.restore(saved)
    world.engine.apply_restore(actor=ADMIN)
    assert world.engine.get("acme").state is State.CONTENT_DELETED
    world.engine.deliver()
    account = world.engine.get("acme")
    assert (account.state, account.company, account.owners) == (State.PURGED, "", ())
    assert world.erased[-1] == ("acme", "purge_backups")


def test_an_account_that_came_back_in_the_restored_database_is_erased_all_the_same(world: World) -> None:
    """Its content is gone; to call it active would be a lie."""
    cancel_acme(world)
    world.engine.run_until(START + 20 * DAY)
    saved = world.backup()
    world.engine.run_until(START + 31 * DAY)
    world.restore(saved)
    world.engine.fire("acme", "reactivate", actor=Actor.owner(ANN))
    assert world.engine.get("acme").state is State.ACTIVE
    world.engine.apply_restore(actor=ADMIN)
    assert world.engine.get("acme").state is State.ACCESS_REVOKED
    assert world.engine.may("acme", "reactivate", actor=Actor.owner(ANN)).allowed is False


def test_an_account_that_the_database_never_knew_is_reported_and_bars_nothing(world: World) -> None:
    saved = world.backup()
    world.engine.open_account("core", company="Core", owners=[ANN], plan="free")
    world.engine.fire("core", "cancel", actor=Actor.owner(ANN))
    world.engine.run_until(START + 31 * DAY)
    world.restore(saved)
    report = world.engine.check_restore()
    assert report is not None and (report.behind, report.unknown) == ({}, ["core"])
    assert world.engine.barred() is None


def test_a_ledger_that_has_lost_lines_bars_destruction(world: World) -> None:
    cancel_acme(world)
    world.engine.run_until(START + 60 * DAY)
    assert world.engine.check_restore() is not None
    path = world.safety.ledger
    assert path is not None
    first = path.read_text().splitlines(keepends=True)[0]
    path.write_text(first)
    again = world.open()
    assert "shorter than" in str(again.barred())
    with pytest.raises(LedgerUnusable, match="shorter than"):
        again.check_restore()
    again.close()


def test_a_second_ledger_does_not_pass_for_the_first(world: World, tmp_path: Path) -> None:
    cancel_acme(world)
    world.engine.run_until(START + 60 * DAY)
    world.engine.check_restore()
    other = Ledger(tmp_path / "other.jsonl")
    other.create()
    assert other.identity != Ledger(world.safety.ledger).identity  # type: ignore[arg-type]
    engine = Engine(world.url, clock=world.clock, safety=Safety(ledger=other.path))
    assert engine.check_restore() is not None
    engine.close()


def test_only_an_admin_brings_accounts_forward(world: World) -> None:
    with pytest.raises(NotAuthorised):
        world.engine.apply_restore(actor=Actor.support("sue"))


def test_without_a_ledger_doctor_warns(url: str) -> None:
    engine = Engine(url)
    engine.migrate()
    (finding,) = [finding for finding in examine(engine) if finding.check == "ledger"]
    assert finding.level == "warning"
    engine.close()


def test_lines_are_json_and_in_the_order_in_which_things_were_destroyed(world: World) -> None:
    for id in ("acme", "bolt"):
        world.engine.fire(id, "cancel", actor=Actor.owner(ANN))
    world.engine.run_until(START + 31 * DAY)
    raw = world.safety.ledger.read_text().splitlines()  # type: ignore[union-attr]
    assert "ledger" in json.loads(raw[0])
    assert [json.loads(line)["effect"] for line in raw[1:]] == [Effect.DELETE_CONTENT] * 2


def test_without_its_ledger_everything_but_destruction_is_delivered(world: World) -> None:
    ask_to_erase_without_ledger(world)
    world.engine.fire("bolt", "cancel", actor=Actor.owner(ANN))
    report = world.engine.deliver()
    assert report.delivered["confirm_cancellation"] == 1, "what comes later in line than the erasure"
    with world.engine.database.read() as connection:
        (request,) = [row for row in world.engine.courier.rows(connection) if row["effect"] == Effect.DELETE_CONTENT]
    assert (request["attempts"], request["claimed_until"]) == (0, None)
    assert world.open().barred() is not None


def test_a_parked_request_in_the_restored_database_gives_way_to_the_one_that_the_ledger_asks_for(world: World) -> None:
    cancel_acme(world)
    world.engine.courier.handlers[Effect.DELETE_CONTENT] = refuses
    world.engine.run_until(START + 30 * DAY)
    (parked,) = requests_of_acme(world)
    assert parked["status"] == "parked"
    saved = world.backup()
    world.engine.courier.retry(world.clock.now(), parked["id"])
    world.engine.courier.handlers[Effect.DELETE_CONTENT] = world.erase
    world.engine.deliver()
    world.restore(saved)
    world.engine.apply_restore(actor=ADMIN)
    assert [row["status"] for row in requests_of_acme(world)] == ["withdrawn", "pending"]
    world.engine.deliver()
    assert world.engine.get("acme").state is State.CONTENT_DELETED


def test_what_an_account_beyond_its_deletion_still_owes_stays_owed(world: World) -> None:
    cancel_acme(world)
    world.engine.run_until(START + 58 * DAY)
    world.clock.set(START + 59 * DAY)
    world.engine.sweep()
    assert world.engine.get("acme").purge_requested_at is not None
    forgotten = {**world.lines()[0], "number": 99}
    Ledger(world.safety.ledger).append([forgotten])  # type: ignore[arg-type]
    world.engine.close()
    world.engine = world.open()
    report = world.engine.apply_restore(actor=ADMIN)
    assert report is not None and list(report.behind) == ["acme"]
    world.engine.deliver()
    assert world.engine.get("acme").state is State.PURGED


def refuses(task: Task) -> str:
    raise Undeliverable("a person must look")


def requests_of_acme(world: World) -> list[Any]:
    with world.engine.database.read() as connection:
        rows = world.engine.courier.rows(connection, account_id="acme")
    return [row for row in rows if row["effect"] == Effect.DELETE_CONTENT]
