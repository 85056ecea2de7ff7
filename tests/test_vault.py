"""Personal data is sealed: under the account's key, which the purge destroys, and that under one from the settings."""

import base64
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update
from typer.testing import CliRunner

from lifecycle import Actor, Conflict, Effect, Engine, InvalidInput, KeyMissing, KeyRing, ManualClock, State
from lifecycle.cli import app
from lifecycle.columns import metadata
from lifecycle.config import load
from lifecycle.doctor import examine
from lifecycle.personal import Person, Personal, Sealed
from lifecycle.tables import owners, personal_data
from lifecycle.vault import AccountKey, Vault, lookup_key, seal, unseal
from tests.conftest import START

pytestmark = pytest.mark.empty

ANN, SUE = "ann@canary.test", Actor.support("sue")
OLD, NEW = b"o" * 32, b"n" * 32
FIRST = KeyRing({"first": OLD}, "first")
BOTH = KeyRing({"first": OLD, "second": NEW}, "second")
RECEIPTS = dict.fromkeys((Effect.DELETE_CONTENT, Effect.PURGE_BACKUPS), lambda task: "erased")


def opened(url: str, ring: KeyRing | None, clock: ManualClock) -> Engine:
    engine = Engine(url, clock=clock, handlers=RECEIPTS, keys=ring)
    engine.migrate()
    return engine


@pytest.fixture
def engine(url: str, clock: ManualClock) -> Iterator[Engine]:
    engine = opened(url, FIRST, clock)
    engine.open_account("acme", company="Canary GmbH", owners=[ANN], plan="free")
    yield engine
    engine.close()


def cells(engine: Engine) -> list[tuple[str, Any]]:
    """Everything in the database, by table."""
    with engine.database.read() as connection:
        return [(t.name, c) for t in metadata.sorted_tables for row in connection.execute(select(t)) for c in row]


def sealed(engine: Engine, id: str = "acme") -> Any:
    with engine.database.read() as connection:
        return (
            connection.execute(select(personal_data).where(personal_data.c.account_id == id)).mappings().one_or_none()
        )


# --- Nothing in clear ------------------------------------------------------------------------------


def test_no_table_holds_a_company_an_address_or_a_reason_in_clear(engine: Engine) -> None:
    engine.fire("acme", "contact_owners", actor=SUE, reason="the canary sings")
    engine.fire("acme", "cancel", actor=SUE, company="canary  gmbh", email="ANN@canary.test", reason="Canary leaves")
    for table, cell in cells(engine):
        plain = cell if isinstance(cell, bytes) else str(cell).encode()
        assert b"canary" not in plain.lower(), table
    assert [entry.reason for entry in engine.history("acme")] == [None, "the canary sings", "Canary leaves"]
    assert (engine.get("acme").company, engine.get("acme").owners) == ("Canary GmbH", (ANN,))


def test_owners_are_found_without_case_and_extra_spaces_by_what_they_are_hashed_to(engine: Engine) -> None:
    engine.open_account("bolt", company="Bolt", owners=[ANN], plan="free")
    assert engine.find(" canary   GMBH", "Ann@Canary.test ") == ["acme"]
    assert engine.find("Canary GmbH", "bob@canary.test") == engine.find("Canary", ANN) == []
    with engine.database.read() as connection:
        assert engine.store.of_company(connection, "BOLT") == ["bolt"]


def test_the_purge_destroys_the_key_and_with_it_what_copies_hold(engine: Engine, clock: ManualClock) -> None:
    engine.fire("acme", "cancel", actor=Actor.owner(ANN), reason="Canary leaves")
    copy = sealed(engine)
    engine.run_until(START + timedelta(days=100))
    assert engine.get("acme").state is State.PURGED
    assert sealed(engine) is None
    assert (engine.get("acme").company, engine.get("acme").people) == ("", ())
    assert [entry.reason for entry in engine.history("acme")] == [None] * len(engine.history("acme"))
    later = Vault(KeyRing({"second": NEW}, "second"))  # the first key was retired
    with pytest.raises(KeyMissing, match="'first', which the settings don't have"):
        Sealed(AccountKey(copy["key_id"], copy["wrapped"]), copy["data"]).open(later, "acme")


def test_what_is_sealed_for_one_account_can_not_be_passed_off_as_anothers(engine: Engine) -> None:
    engine.open_account("evil", company="Evil Inc", owners=["eve@evil.test"], plan="free")
    theirs = sealed(engine, "evil")
    stolen = {name: theirs[name] for name in ("key_id", "wrapped", "data")}
    with engine.database.write() as connection:
        connection.execute(update(personal_data).where(personal_data.c.account_id == "acme").values(stolen))
    with pytest.raises(KeyMissing, match="it was altered"):
        engine.fire("acme", "cancel", actor=Actor.owner("eve@evil.test"))


def test_an_altered_byte_is_noticed(engine: Engine) -> None:
    data = bytearray(sealed(engine)["data"])
    data[-1] ^= 1
    with engine.database.write() as connection:
        connection.execute(update(personal_data).values(data=bytes(data)))
    with pytest.raises(KeyMissing, match="can't be opened"):
        _ = engine.get("acme").company


def test_the_same_text_is_never_sealed_alike_and_hashes_need_the_secret() -> None:
    vault = Vault(FIRST)
    _, cipher = vault.new_key("acme")
    assert seal(cipher, b"same", "p") != seal(cipher, b"same", "p")
    assert unseal(cipher, seal(cipher, b"same", "p"), "p") == b"same"
    assert lookup_key(OLD, "email", ANN) != lookup_key(NEW, "email", ANN) != lookup_key(NEW, "company", ANN)


def test_two_databases_hash_the_same_address_differently(tmp_path: Path, clock: ManualClock) -> None:
    keys = []
    for name in ("one", "two"):
        engine = opened(f"sqlite:///{tmp_path}/{name}.db", FIRST, clock)
        engine.open_account("acme", company="Acme", owners=[ANN])
        with engine.database.read() as connection:
            keys.append(connection.scalar(select(owners.c.email_key)))
        engine.close()
    assert keys[0] != keys[1]


# --- Keys --------------------------------------------------------------------------------------------


def test_a_rotation_wraps_every_key_anew_and_the_old_one_can_go(engine: Engine, url: str, clock: ManualClock) -> None:
    for number in range(3):
        engine.open_account(f"a{number}", company=f"Company {number}", owners=[ANN])
    engine.fire("a0", "contact_owners", actor=SUE, reason="who owns it?")
    rotating = opened(url, BOTH, clock)
    progress: list[int] = []
    assert rotating.key_counts() == {"first": 5}  # four accounts and the secret of the look-ups
    assert rotating.rotate_keys(progress.append) == sum(progress) == 5
    assert rotating.key_counts() == {"second": 5} and rotating.rotate_keys() == 0
    rotating.close()
    after = opened(url, KeyRing({"second": NEW}, "second"), clock)
    assert after.get("a1").company == "Company 1"
    assert after.find("company 2", ANN) == ["a2"]
    assert after.history("a0")[-1].reason == "who owns it?"
    after.close()


def test_a_database_without_a_key_is_sealed_all_the_same_and_gets_one_later(url: str, clock: ManualClock) -> None:
    engine = opened(url, None, clock)
    engine.open_account("acme", company="Canary GmbH", owners=[ANN])
    assert b"Canary" not in sealed(engine)["data"]
    assert "Accounts' keys are stored unwrapped" in encryption(engine)
    plain = sealed(engine)["wrapped"]
    engine.close()
    engine = opened(url, FIRST, clock)
    assert engine.get("acme").company == "Canary GmbH"
    assert "2 keys are not wrapped under the current key first" in encryption(engine)
    engine.rotate_keys()
    assert encryption(engine) == "Every account's key is wrapped under first."
    assert plain not in sealed(engine)["wrapped"]
    engine.close()


def encryption(engine: Engine) -> str:
    return next(finding.message for finding in examine(engine) if finding.check == "encryption")


def test_without_the_key_timers_go_on_and_what_needs_people_says_what_is_missing(
    engine: Engine, url: str, clock: ManualClock
) -> None:
    engine.open_account("bolt", company="Bolt", owners=[ANN])
    clock.set(START + timedelta(days=31))
    without = Engine(url, clock=clock, keys=KeyRing({"other": NEW}, "other"))
    assert without.sweep().moved == 1
    assert without.get("bolt").state is State.ON_HOLD
    with pytest.raises(KeyMissing, match=r"'first'.*\[encryption.keys\]"):
        without.fire("acme", "cancel", actor=Actor.owner(ANN))
    assert without.get("acme").state is State.ACTIVE
    assert "keys that the configuration lacks: first" in encryption(without)
    without.close()


def test_a_ring_needs_whole_keys_and_a_current_one_among_them() -> None:
    with pytest.raises(InvalidInput, match="32 bytes"):
        KeyRing({"short": b"x"}, "short")
    with pytest.raises(InvalidInput, match="'third' is not among the keys"):
        KeyRing({"first": OLD}, "third")
    with pytest.raises(InvalidInput, match="not among the keys"):
        KeyRing({"first": OLD})
    assert OLD.decode() not in repr(FIRST) and "oooo" not in repr(FIRST)


def written(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "lifecycle.toml"
    path.write_text(body)
    return path


def test_settings_name_the_keys_and_the_environment_holds_them(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("KEY_2031", base64.urlsafe_b64encode(OLD).decode())
    path = written(tmp_path, '[encryption]\ncurrent = "a"\n[encryption.keys]\na = "env:KEY_2031"\n')
    assert load(path, {}).keys == KeyRing({"a": OLD}, "a")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('[encryption]\ncurrent = "a"\n', "'a' is not among the keys"),
        ('[encryption]\ncurrent = "a"\nkeys = { a = "secret-but-short" }\n', "encryption.keys.a is no key"),
        ('[encryption]\nkeys = { a = "env:NO_SUCH_KEY" }\ncurrent = "a"\n', "NO_SUCH_KEY"),
        ('[encryption]\nkey = "a"\n', "did you mean keys?"),
    ],
)
def test_malformed_keys_are_refused_without_showing_them(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(written(tmp_path, body), {})
    assert message in str(caught.value) and "secret-but-short" not in str(caught.value)


def test_the_command_line_makes_counts_and_rotates_keys(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(
            app, ["--database", f"sqlite:///{tmp_path}/a.db", "--config", str(path), *arguments]
        )
        assert result.exit_code == 0, result.output
        return result.output

    path = written(tmp_path, "")
    run("init")
    run("open", "acme", "--company", "Acme", "--owner", ANN)
    assert "(not wrapped)" in run("keys", "status")
    key = run("keys", "new").strip()
    path.write_text(f'[encryption]\ncurrent = "2031"\nkeys = {{ "2031" = "{key}" }}\n')
    assert "Wrapped under 2031: 2." in run("keys", "rotate")
    assert "2031" in run("keys", "status") and "(not wrapped)" not in run("keys", "status")
    with sqlite3.connect(tmp_path / "a.db") as connection:
        assert {row[0] for row in connection.execute("SELECT key_id FROM personal_data")} == {"2031"}
    connection.close()


# --- People ------------------------------------------------------------------------------------------


def test_people_on_file_are_replaced_under_the_same_key(engine: Engine) -> None:
    key = sealed(engine)["wrapped"]
    people = (Person(1, ANN), Person(2, "bob@canary.test", START))
    with engine.database.write() as connection:
        snapshot = engine.store.load(connection, "acme", lock=True)
        engine.store.write_personal(connection, snapshot, Personal("Renamed GmbH", people, 3))
    assert engine.get("acme").personal == Personal("Renamed GmbH", people, 3)
    assert engine.find("renamed gmbh", "bob@canary.test") == ["acme"] and engine.find("Canary GmbH", ANN) == []
    assert sealed(engine)["wrapped"] == key


def test_an_account_without_people_on_file_keeps_no_reason_and_may_get_some(engine: Engine) -> None:
    with engine.database.write() as connection:
        connection.execute(text("DELETE FROM personal_data"))
    assert (engine.get("acme").company, engine.get("acme").owners) == ("", ())
    with pytest.raises(Conflict, match="no key to seal a reason with"):
        engine.fire("acme", "contact_owners", actor=SUE, reason="who owns it?")
    assert len(engine.history("acme")) == 1
    with engine.database.write() as connection:
        snapshot = engine.store.load(connection, "acme", lock=True)
        engine.store.write_personal(connection, snapshot, Personal("Canary GmbH"))
    assert (engine.get("acme").company, engine.get("acme").owners) == ("Canary GmbH", ())
    assert engine.fire("acme", "contact_owners", actor=SUE, reason="who owns it?").reason == "who owns it?"
