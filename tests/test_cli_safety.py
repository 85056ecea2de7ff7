"""The commands around destruction: the brake, the clock, the ledger after a restore."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lifecycle import Actor, Engine, ManualClock, Safety
from lifecycle.cli import app
from lifecycle.clock import SystemClock
from lifecycle.config import load
from lifecycle.errors import InvalidInput, PolicyError
from lifecycle.ledger import Ledger
from tests.people import ME

ANN = "ann@acme.test"
DAY = timedelta(days=1)


def run(url: str, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*arguments, "--database", url])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def database(sqlite_url: str) -> str:
    """Sixty accounts, all due to be erased now."""
    begun = SystemClock().now() - 30 * DAY - timedelta(minutes=1)
    engine = Engine(sqlite_url, clock=ManualClock(begun))
    engine.migrate()
    for number in range(60):
        engine.open_account(f"a{number:02}", company="Acme", owners=[ANN], plan="free")
        engine.fire(f"a{number:02}", "cancel", actor=Actor.owner(ANN))
    engine.run_until(begun + 29 * DAY)
    engine.close()
    return sqlite_url


def test_a_sweep_says_that_the_brake_holds_and_doctor_reports_a_problem(database: str) -> None:
    assert "Destruction is withheld. The brake" in run(database, "sweep").stdout
    status = run(database, "brake", "status").stdout
    assert "delete_content of 10 accounts" in status and "It opens at" in status
    assert "brake" in run(database, "doctor", code=1).stdout


def test_a_release_lets_the_rest_through(database: str, tmp_path: Path) -> None:
    run(database, "sweep")
    (tmp_path / "lifecycle.toml").write_text("[two_person]\nbrake_release = false\n")
    options = ("--config", str(tmp_path / "lifecycle.toml"))
    run(database, "init", *options)
    said = run(database, "brake", "release", "10", "--reason", "spam of May", "--as", "admin", *options)
    assert "lets 10 through now" in said.stdout
    assert "withheld" not in run(database, "sweep").stdout
    data = json.loads(run(database, "brake", "status", "--json", *options).stdout)
    assert [window["released"] for window in data["windows"]] == [10, 10] and data["tripped"] is False
    (release,) = data["releases"]
    assert (release["accounts"], release["actor"], release["reason"]) == (10, f"admin:{ME}", "spam of May")
    assert f"by admin:{ME}: 10, spam of May" in run(database, "brake", "status", *options).stdout


def test_a_release_by_support_is_refused(database: str) -> None:
    said = run(database, "brake", "release", "10", "--reason", "please", "--as", "support", code=1)
    assert "Only an admin" in said.stderr


def test_a_release_asks_for_a_reason(database: str) -> None:
    assert "--reason" in run(database, "brake", "release", "10", code=2).stderr


def test_after_a_leap_the_sweep_says_so_until_the_clock_is_accepted(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(database, "sweep")
    later = SystemClock().now() + 5 * DAY
    monkeypatch.setattr("lifecycle.clock.SystemClock.now", lambda self: later)
    assert "--accept-clock" in run(database, "sweep").stdout
    assert "Until that is settled, nothing is destroyed" in " ".join(run(database, "doctor", code=1).stdout.split())
    run(database, "doctor", "--accept-clock", code=1)
    assert "--accept-clock" not in run(database, "sweep").stdout


def test_a_clock_that_can_not_be_right_ends_with_exit_code_3(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(database, "sweep")
    later = SystemClock().now() + 4000 * DAY
    monkeypatch.setattr("lifecycle.clock.SystemClock.now", lambda self: later)
    assert "Error: This host's clock says" in run(database, "sweep", code=3).stderr


def test_without_a_ledger_there_is_nothing_to_compare(database: str) -> None:
    assert "name one as [safety] ledger" in run(database, "restore", "check", code=2).stderr


def test_a_restore_is_checked_and_applied(sqlite_url: str, tmp_path: Path) -> None:
    config = tmp_path / "lifecycle.toml"
    config.write_text('[safety]\nledger = "ledger.jsonl"\n')
    options = ("--config", str(config))
    assert "Schema    created" in run(sqlite_url, "init", *options).stdout
    engine = Engine(sqlite_url)
    engine.open_account("acme", company="Acme", owners=[ANN], plan="free")
    assert "knows all" in run(sqlite_url, "restore", "check", *options).stderr
    begun = engine.clock.now() - 40 * DAY
    stamps = {"cancelled_at": 0, "access_ends_at": 0, "delete_content_at": 30, "purge_backups_by": 60}
    line = {
        "at": engine.clock.now().isoformat(), "account": "acme", "number": 9, "effect": "delete_content", "attempt": 1,
        "cancelled_by": "owner", "cancelled_from": "active",
        "erasure_requested_at": (begun + 30 * DAY).isoformat(),
        **{name: (begun + days * DAY).isoformat() for name, days in stamps.items()},
    }  # fmt: skip
    Ledger(tmp_path / "ledger.jsonl").append([line])
    assert "acme" in run(sqlite_url, "restore", "check", *options, code=1).stdout
    assert "Brought forward, to be destroyed anew: 1" in run(sqlite_url, "restore", "apply", *options).stdout
    assert engine.get("acme").state == "access_revoked"
    assert json.loads(run(sqlite_url, "restore", "check", "--json", *options).stdout)["behind"] == []
    engine.close()


# --- The configuration -------------------------------------------------------------------------------


def test_the_safety_of_the_configuration_reaches_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "lifecycle.toml"
    file.write_text(
        "[safety]\naccounts_per_hour = 0\nshare_per_hour = 0\naccounts_per_day = 7\nshare_per_day = 0.5\n"
        'outage = "1 day"\nledger = "sub/ledger.jsonl"\n'
    )
    assert load(file, {}).safety == Safety(0, 0.0, 7, 0.5, DAY, tmp_path / "sub/ledger.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("accounts_per_dai = 3", "did you mean accounts_per_day"),
        ("accounts_per_day = -1", "between 0 and"),
        ("accounts_per_day = true", "whole number"),
        ("share_per_day = 2", "between 0 and 1"),
        ('share_per_day = "1 %"', "between 0 and 1"),
        ("share_per_day = nan", "between 0 and 1"),
        ('outage = "90 days"', "longest outage"),
        ('outage = "soon"', "duration"),
        ('ledger = ""', "must be a path"),
    ],
)
def test_a_slip_in_the_safety_of_the_configuration_is_refused(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "lifecycle.toml"
    file.write_text(f"[safety]\n{line}\n")
    with pytest.raises((InvalidInput, PolicyError), match=message):
        load(file, {})
