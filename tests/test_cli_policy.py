"""The commands on the policy as operators meet them."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lifecycle import Policy
from tests.test_cli import data, database, folder, run

__all__ = ["database", "folder"]
LONGER = '[policy]\ndeletion_after = "45 days"\npurge_after = "80 days"\n'
WRONG = '[policy]\ndeletion_after = "1 day"\npurge_afte = "80 days"\ntrial_length = "5 days"\n'


@pytest.fixture
def longer(database: Path, folder: Path) -> str:
    """A file with a policy that is not in force."""
    (folder / "longer.toml").write_text(LONGER)
    return "longer.toml"


def version(file: str) -> str:
    return Policy.load(file, {}).version


# --- Show ----------------------------------------------------------------------------------------


def test_each_value_says_where_it_comes_from(longer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def origins(*options: str) -> dict[str, str]:
        return {one["name"]: one["from"] for one in data("policy", "show", *options)["settings"]}

    assert set(origins().values()) == {"database"}
    monkeypatch.setenv("LIFECYCLE_POLICY_TRIAL_LENGTH", "40 days")
    stated = origins("--config", longer)
    assert (stated["deletion_after"], stated["trial_reminder"]) == ("file", "default")
    assert stated["trial_length"] == "LIFECYCLE_POLICY_TRIAL_LENGTH"


def test_the_default_database_is_not_passed_over_because_it_is_old(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE schema_info SET version = 3")
        connection.commit()
    for command in (["policy", "show"], ["diagram"], ["review", "--no-proofs"]):
        assert "The schema has version 3" in run(*command, expect=3).stderr


def test_an_upgrade_is_called_one_and_keeps_the_policy(longer: str) -> None:
    run("policy", "activate", longer, "--reason", "longer", "--yes", expect=0)
    with closing(sqlite3.connect("lifecycle.db")) as connection:
        for name in ("actor", "approved_by", "reason"):
            connection.execute(f"ALTER TABLE adopted_policy DROP COLUMN {name}")
        connection.execute("UPDATE schema_info SET version = 3")
        connection.commit()
    done = data("init")
    assert (done["schema"], done["policy"]["adopted"]) == ("upgraded", False)
    assert done["policy"]["version"] == version(longer)


# --- Check ---------------------------------------------------------------------------------------


def test_a_wrong_policy_is_told_everything_at_once(folder: Path) -> None:
    (folder / "wrong.toml").write_text(WRONG)
    told = run("policy", "check", "wrong.toml", expect=2).stderr
    for words in ("did you mean purge_after?", "deletion_after must lie between", "shorter than trial_length"):
        assert words in told
    found = data("policy", "check", "wrong.toml", expect=2)
    assert (found["valid"], len(found["problems"])) == (False, 3)


def test_a_wrong_configuration_is_told_everything_at_once_as_well(folder: Path) -> None:
    (folder / "wrong.toml").write_text(WRONG)
    told = run("accounts", "--config", "wrong.toml", expect=2).stderr
    assert "did you mean purge_after?" in told
    assert "deletion_after must lie between" in told


def test_a_right_policy_is_held_against_the_default_and_what_is_in_force(longer: str) -> None:
    run("policy", "activate", longer, "--reason", "longer", "--yes", expect=0)
    found = data("policy", "check", longer)
    assert found["valid"] is True
    assert [one["setting"] for one in found["differs_from"]["default"]] == ["deletion_after", "purge_after"]
    assert found["differs_from"]["database"] == []
    Path("shorter.toml").write_text('[policy]\ndeletion_after = "20 days"\n')
    shown = run("policy", "check", "shorter.toml", expect=0).stdout
    assert re.search(r"deletion_after\s+45 days\s+20 days\s+sooner", shown)


def test_a_policy_is_checked_where_there_is_no_database(folder: Path) -> None:
    (folder / "longer.toml").write_text(LONGER)
    assert set(data("policy", "check", "longer.toml")["differs_from"]) == {"default"}


def test_without_a_file_it_is_the_configurations_policy(longer: str) -> None:
    assert data("policy", "check", "--config", longer)["version"] == version(longer)
    assert "name its FILE" in run("policy", "check", expect=2).stderr


# --- Diff ----------------------------------------------------------------------------------------


def test_a_difference_is_shown_in_values_and_days(longer: str) -> None:
    shown = run("policy", "diff", "default", longer, expect=0).stdout
    assert re.search(r"deletion_after\s+30 days\s+45 days\s+later", shown)
    assert re.search(r"trial, cancelled on day 10\s+delete_content\s+day 40\s+day 55\s+later", shown)
    assert "revoke_access" not in shown
    assert "revoke_access" in run("policy", "diff", "default", longer, "--all", expect=0).stdout


def test_policies_are_named_by_database_file_or_version(longer: str) -> None:
    run("policy", "activate", longer, "--reason", "longer", "--yes", expect=0)
    for old in ("default", Policy().version[:6]):
        found = data("policy", "diff", old, "database")
        assert (found["old"], found["new"]) == (Policy().version, version(longer))
    assert "policy history" in run("policy", "diff", "abcd", "database", expect=2).stderr
    assert "can't be read" in run("policy", "diff", "nowhere.toml", "database", expect=2).stderr


# --- Impact --------------------------------------------------------------------------------------


def test_impact_is_shown_and_changes_nothing(longer: str) -> None:
    before = data("show", "acme")
    shown = run("policy", "impact", longer, expect=0).stdout
    assert re.search(r"trial\s+delete_content\s+fire\s+0\s+1\s+0\s+0\s+0", shown)
    assert re.search(r"content\s+90 days\s+1\s+0\s+0\s+1", shown)
    assert data("policy", "impact", longer)["candidate"] == version(longer)
    assert data("show", "acme") == before


def test_accounts_are_listed_on_demand_with_filters(longer: str) -> None:
    rows = data("policy", "impact", longer, "--list", "--event", "delete_content")
    assert [(one["account_id"], one["step"], one["change"]) for one in rows] == [
        ("acme", "remind", "later"),
        ("acme", "fire", "later"),
    ]
    assert data("policy", "impact", longer, "--list", "--change", "newly") == []
    assert len(data("policy", "impact", longer, "--list", "--limit", "1")) == 1
    losing = run("policy", "impact", longer, "--list", "--loses", "content", expect=0).stdout
    assert "acme" in losing and "remind" not in losing
    assert "give --list" in run("policy", "impact", longer, "--state", "trial", expect=2).stderr
    assert "no timer fires it" in run("policy", "impact", longer, "--list", "--event", "cancel", expect=2).stderr
    assert "did you mean content?" in run("policy", "impact", longer, "--list", "--loses", "contents", expect=2).stderr


# --- Activate ------------------------------------------------------------------------------------


def test_activation_shows_the_change_asks_and_is_on_record(longer: str) -> None:
    declined = run("policy", "activate", longer, "--reason", "ticket 4711", expect=1, input="n\n")
    assert "deletion_after" in declined.stdout and "Not activated" in declined.stderr
    unanswered = run("policy", "activate", longer, "--reason", "ticket 4711", expect=1)
    assert "give --yes" in unanswered.stderr
    assert len(data("policy", "history")) == 1
    run("policy", "activate", longer, "--reason", "ticket 4711", expect=0, input="y\n")
    latest = data("policy", "history")[0]
    assert (latest["version"], latest["reason"]) == (version(longer), "ticket 4711")
    assert latest["actor"].startswith("admin:")
    assert latest["changes"]["deletion_after"] == {"from": "30 days", "to": "45 days"}
    assert "ticket 4711" in run("policy", "history", expect=0).stdout
    run("sweep", "--config", longer, expect=0)


def test_a_policy_that_is_wrong_or_in_force_is_not_activated(longer: str, folder: Path) -> None:
    run("policy", "activate", longer, "--reason", "longer", "--yes", expect=0)
    assert "in force already" in run("policy", "activate", longer, "--reason", "again", expect=1).stderr
    (folder / "wrong.toml").write_text(WRONG)
    run("policy", "activate", "wrong.toml", "--reason", "wrong", "--yes", expect=2)
    assert "--yes" in run("policy", "activate", longer, "--reason", "asked", "--json", expect=2).stderr
    assert len(data("policy", "history")) == 2


def test_a_policy_is_not_even_compared_without_a_reason(longer: str) -> None:
    unexplained = run("policy", "activate", longer, "--reason", " ", expect=2)
    assert "reason" in unexplained.stderr and unexplained.stdout == ""


def test_a_policy_that_is_in_force_is_refused_without_asking(longer: str) -> None:
    run("policy", "activate", "--config", longer, "--reason", "longer", "--yes", expect=0)
    assert data("policy", "show")["version"] == version(longer)


# --- Report --------------------------------------------------------------------------------------


def test_the_report_is_markdown_that_a_review_shows(longer: str) -> None:
    report = run("policy", "report", "default", longer, "--format", "markdown", expect=0).stdout
    assert report.startswith(f"## Policy `{Policy().version}` → `{version(longer)}`\n")
    assert "| **45 days**" in report
    assert "day 40 → **day 55**" in report
    assert report.count("```") == 2 and "```mermaid\nstateDiagram-v2" in report
    assert report.count("<details>") == report.count("</details>")
    assert "Accounts that there are" not in report
    assert (
        "did you mean markdown?" in run("policy", "report", "default", longer, "--format", "mardown", expect=2).stderr
    )


def test_the_report_says_what_it_would_do_where_a_database_is_named(longer: str) -> None:
    named = ("--database", "sqlite:///lifecycle.db")
    report = run("policy", "report", "database", longer, *named, expect=0).stdout
    assert "### Accounts that there are" in report
    assert re.search(r"\| content \| 90 days \| 1 +\| 0 +\| 0 +\| 1 +\|", report)


def test_the_report_warns_where_customers_get_less_time(longer: str) -> None:
    report = run("policy", "report", longer, "default", expect=0).stdout
    assert "Customers get less time, or fewer people look**: `deletion_after`, `purge_after`" in report


# --- Review --------------------------------------------------------------------------------------


def test_a_page_never_calls_a_policy_in_force_that_is_not(longer: str, folder: Path) -> None:
    refused = run("review", "--no-proofs", "--config", longer, expect=2)
    assert "--candidate" in refused.stderr
    assert not (folder / "review.html").exists()
