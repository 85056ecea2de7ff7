"""The command line as operators meet it: what it prints, where, and with which exit code."""

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from lifecycle import Conflict, Effect, Engine, Policy
from lifecycle.cli import app, main, only_named, output, parsing
from lifecycle.errors import InvalidInput
from lifecycle.personal import Person, Personal
from tests.people import ME

DOCUMENTATION = Path(__file__).parent.parent / "docs" / "cli.md"
ACME = ("--company", "Acme Ltd", "--email", "ann@acme.test")
NEXT_YEAR = f"{datetime.now(UTC) + timedelta(days=365):%Y-%m-%d}"
HOSTILE = "\x1b[31m[bold red]Acme\u202e\x07\x7f =cmd()"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own as the current one, and an environment that says nothing to lifecycle."""
    for name in [name for name in os.environ if name.startswith("LIFECYCLE_") or name in ("COLUMNS", "FORCE_COLOR")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def database(folder: Path) -> Path:
    """An initialised database in the current folder, with the account acme on trial."""
    run("init", expect=0)
    run("open", "acme", "--company", "Acme Ltd", "--owner", "ann@acme.test", expect=0)
    return folder / "lifecycle.db"


def run(*arguments: str, expect: int, input: str | None = None) -> Result:
    result = CliRunner().invoke(app, arguments, input=input, prog_name="lifecycle")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == expect, result.output
    assert "Traceback" not in result.output
    return result


def data(*arguments: str, expect: int = 0, input: str | None = None) -> Any:
    return json.loads(run(*arguments, "--json", expect=expect, input=input).stdout)


def process(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "lifecycle", *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def leaves(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the application with its words."""
    command = command or typer.main.get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    for name, one in (below or {}).items():
        yield from leaves(one, (*path, name))


COMMANDS = dict(leaves())
NAMES = [" ".join(path) for path in COMMANDS]


def examples(name: str) -> list[str]:
    epilog = COMMANDS[tuple(name.split())].epilog
    return [line.strip() for line in epilog.splitlines() if line.strip().startswith("lifecycle ")]


def test_a_command_line_that_names_a_command_first_makes_no_other_and_that_one_as_it_is() -> None:
    made: dict[tuple[str, ...], Any] = {}
    for first in {path[0] for path in COMMANDS}:
        named = dict(leaves(typer.main.get_command(only_named(first))))
        assert {path[0] for path in named} == {first}
        made |= named
    assert {path: [one.opts for one in command.params] for path, command in made.items()} == {
        path: [one.opts for one in command.params] for path, command in COMMANDS.items()
    }


@pytest.mark.parametrize("first", ("--help", "--database", "shw", ""))
def test_a_command_line_that_begins_otherwise_makes_all_of_them(first: str) -> None:
    assert only_named(first) is app


# --- Set-up --------------------------------------------------------------------------------------


def test_init_says_what_it_created_and_that_the_database_is_the_default() -> None:
    shown = run("init", expect=0).stdout
    assert "sqlite:///lifecycle.db (the default; name another with --database" in shown
    assert re.search(r"Schema\s+created", shown)
    assert "the defaults" in shown


def test_init_repeated_changes_nothing(database: Path) -> None:
    again = data("init")
    assert again["schema"] == "up to date"
    assert again["policy"]["adopted"] is False
    assert again["policy"]["changes"] == {}


def test_init_leaves_another_policy_in_force_and_names_what_changes_it(database: Path, folder: Path) -> None:
    (folder / "new.toml").write_text('[policy]\ndeletion_after = "45 days"\n')
    before = data("init")["policy"]["version"]
    refused = run("init", "--config", "new.toml", expect=2)
    assert "lifecycle policy activate" in refused.stderr
    assert data("init")["policy"] == {"version": before, "previous": before, "adopted": False, "changes": {}}


def test_init_of_a_new_database_adopts_the_policy_of_the_configuration(folder: Path) -> None:
    (folder / "new.toml").write_text('[policy]\ndeletion_after = "45 days"\n')
    shown = run("init", "--config", "new.toml", expect=0).stdout
    assert "deletion_after: 30 days → 45 days" in shown
    assert data("init")["policy"]["adopted"] is False, "the policy is kept"


def test_a_change_under_another_policy_than_the_databases_is_bad_input(database: Path, folder: Path) -> None:
    (folder / "new.toml").write_text('[policy]\ndeletion_after = "45 days"\n')
    for command in ("sweep", "daemon"):
        refused = run(command, "--config", "new.toml", expect=2)
        assert "lifecycle policy activate" in refused.stderr


def test_a_wrong_folder_gets_advice_and_no_empty_database(folder: Path) -> None:
    refused = run("accounts", expect=3)
    assert "lifecycle init" in refused.stderr
    assert "--database" in refused.stderr
    assert list(folder.iterdir()) == []


def test_the_option_wins_over_the_environment_and_may_stand_before_or_after_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", "sqlite:///environment.db")
    run("init", expect=0)
    run("init", "--database", "sqlite:///after.db", expect=0)
    run("--database", "sqlite:///before.db", "init", expect=0)
    run("--database", "sqlite:///neither.db", "init", "--database", "sqlite:///both.db", expect=0)
    made = {path.name for path in folder.glob("*.db")}
    assert made == {"environment.db", "after.db", "before.db", "both.db"}


def test_the_configuration_is_found_through_the_environment(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "wrong.toml").write_text("[polcy]\n")
    monkeypatch.setenv("LIFECYCLE_CONFIG", "wrong.toml")
    assert "did you mean policy?" in run("accounts", expect=2).stderr


# --- Exit codes ----------------------------------------------------------------------------------


def test_a_refusal_lists_its_reasons_and_exits_1(database: Path) -> None:
    refused = run("fire", "acme", "cancel", "--as", "owner:eve@acme.test", expect=1)
    assert refused.stdout == ""
    assert refused.stderr.startswith("Refused: cancel ")
    assert "\n- " in refused.stderr
    assert "`lifecycle show acme`" in refused.stderr


def test_nobody_can_act_as_the_system(database: Path) -> None:
    for claimed in ("system", "system:timer"):
        assert "only timers do" in run("fire", "acme", "expire_trial", "--as", claimed, expect=1).stderr


BAD_INPUT = {
    "an unknown account": (["show", "acne"], "lifecycle accounts"),
    "an unknown command": (["shwo"], "Did you mean 'show'?"),
    "an unknown option": (["show", "acme", "--databse", "x"], "Did you mean --database?"),
    "an unknown event": (["fire", "acme", "cancell", "--as", "owner:a@b.c"], "did you mean cancel?"),
    "an unknown role": (["fire", "acme", "cancel", "--as", "ower:a@b.c"], "did you mean owner?"),
    "an actor without a role": (["fire", "acme", "cancel", "--as", "ann"], "Unknown role"),
    "an owner without an address": (["fire", "acme", "cancel", "--as", "owner"], "--as owner:ann@acme.test"),
    "an id that is claimed": (["fire", "acme", "suspend", "--as", "support:sue"], "the id comes from who runs"),
    "an unknown state": (["accounts", "--state", "frozn"], "did you mean frozen?"),
    "an unknown status": (["outbox", "list", "--status", "prked"], "did you mean parked?"),
    "an unknown format of an export": (["export", "accounts", "--format", "json"], "did you mean jsonl?"),
    "the history of nobody": (["export", "history", "--account", "acne"], "lifecycle accounts"),
    "a file in no folder": (["export", "accounts", "-o", "nowhere/x.csv"], "No such file or directory"),
    "an unknown picture": (["diagram", "lifecycl"], "did you mean lifecycle?"),
    "an unknown format": (["diagram", "--format", "mermade"], "did you mean mermaid?"),
    "a fact that the event does not take": (
        ["fire", "acme", "suspend", "--as", "admin", "--email", "a@b.c"],
        "takes no 'email'",
    ),
    "an id that is taken": (["open", "acme", "--company", "A", "--owner", "a@b.c"], "exists already"),
    "an instant without a zone": (
        ["fire", "acme", "upgrade", "--as", "billing", "--period-ends-at", "2031-01-01T12:00"],
        "add Z for UTC",
    ),
    "a date that does not exist": (
        ["fire", "acme", "upgrade", "--as", "billing", "--period-ends-at", "2031-02-30"],
        "2026-01-31T12:00:00Z",
    ),
    "no word on which accounts": (["fire-many", "suspend", "--as", "admin"], "--all means all"),
    "accounts by id and by state": (
        ["fire-many", "suspend", "--as", "admin", "--ids", "x", "--state", "trial"],
        "choose one of them",
    ),
    "all accounts of one state": (["fire-many", "suspend", "--as", "admin", "--all", "--plan", "free"], "means all"),
    "a state that no account can have": (["fire-many", "suspend", "--as", "admin", "--state", "frozn"], "frozen?"),
    "a plan without its digest": (["fire-many", "suspend", "--as", "admin", "--all", "--apply"], "--digest"),
    "a digest that is not applied": (["fire-many", "suspend", "--as", "admin", "--all", "--digest", "x"], "--apply"),
    "a digest that is none": (
        ["fire-many", "suspend", "--as", "admin", "--all", "--apply", "--digest", "x"],
        "copy all 64 characters",
    ),
    "ids in a file that is not there": (["fire-many", "suspend", "--as", "admin", "--ids", "x"], "Check the path"),
    "a duration without a unit": (["due", "--within", "7"], "'30 days'"),
    "a database of another kind": (["accounts", "--database", "mysql://host/name"], "sqlite:///accounts.db"),
    "a database in memory": (["init", "--database", "sqlite://"], "sqlite:///lifecycle.db"),
    "a missing argument": (["show"], "lifecycle show --help"),
    "no task to retry": (["outbox", "retry"], "--all"),
    "a task that is not parked": (["outbox", "retry", "7"], "lifecycle outbox list --status parked"),
    "a file that is not there": (["import", "nowhere.csv"], "Check the path"),
    "a folder that is not there": (["diagram", "-o", "no/where.dot"], "look at the folder"),
    "an instant without counts": (["diagram", "--since", "2026-01-01"], "add --counts"),
    "a policy that is not there": (["diagram", "--diff", "no.toml"], "can't be read"),
    "a comparison as SCXML": (["diagram", "--diff", "default", "--format", "scxml"], "SCXML describes one policy"),
    "a daemon that would look too rarely": (["daemon", "--resync", "2 minutes"], "30 seconds"),
    "an unknown log level": (["daemon", "--log-level", "inof"], "did you mean info?"),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_exits_2_and_says_what_to_write_instead(what: str, database: Path) -> None:
    arguments, advice = BAD_INPUT[what]
    refused = run(*arguments, expect=2)
    assert refused.stdout == ""
    assert refused.stderr.startswith("Error: ")
    assert advice in refused.stderr


def test_a_database_that_cant_be_reached_exits_3() -> None:
    run("accounts", "--database", "postgresql://nobody:secret@127.0.0.1:1/none", expect=3)
    refused = run("init", "--database", "sqlite:///no/such/folder/x.db", expect=3)
    assert "check the URL" in refused.stderr


def test_a_password_in_the_url_is_never_shown() -> None:
    refused = run("init", "--database", "postgresql://nobody:secret@127.0.0.1:1/none", expect=3)
    assert "secret" not in refused.output


def test_a_password_among_the_options_of_a_url_is_never_shown(database: Path) -> None:
    url = "sqlite:///file:lifecycle.db?uri=true&password=secret"
    shown = run("policy", "show", "--database", url, expect=0)
    assert "password=hidden" in shown.stdout
    assert "secret" not in shown.output


@pytest.mark.parametrize("options", (["--counts"], ["--diff", "database"]))
def test_a_database_that_is_missed_is_not_made_by_looking_for_it(options: list[str], folder: Path) -> None:
    assert "no database lifecycle.db" in run("diagram", *options, expect=3).stderr
    assert list(folder.iterdir()) == []


def test_a_conflict_exits_3(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object, **__: object) -> None:
        raise Conflict("Another process changed the account; try again.")

    monkeypatch.setattr(Engine, "fire", lost)
    assert "try again" in run("cancel", *ACME, expect=3).stderr


def test_a_full_disk_is_told_as_one() -> None:
    command = [sys.executable, "-m", "lifecycle", "diagram", "--format", "dot"]
    with Path("/dev/full").open("wb") as full:
        told = subprocess.run(command, text=True, stdout=full, stderr=subprocess.PIPE, check=False)
    assert told.returncode == 3 and "Make room" in told.stderr


def test_ctrl_c_exits_130_without_a_traceback(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Engine) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "summary", interrupted)
    assert "Interrupted" in run("accounts", "--summary", expect=130).stderr


def test_a_defect_is_never_taken_for_a_refusal(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Engine) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(Engine, "summary", broken)
    monkeypatch.setattr(sys, "argv", ["lifecycle", "accounts", "--summary"])
    assert main() == 70
    assert "defect" in capsys.readouterr().err


def test_without_a_command_the_help_is_printed_as_a_usage_error() -> None:
    assert "Usage: lifecycle" in run(expect=2).stdout


# --- Accounts ------------------------------------------------------------------------------------


def test_open_prints_the_account_with_instants_in_utc(database: Path) -> None:
    account = data(
        "open", "beta", "--company", "Beta", "--owner", "b@b.test", "--plan", "paid", "--period-ends-at", NEXT_YEAR
    )
    assert account["state"] == "active"
    assert account["owners"] == ["b@b.test"]
    assert account["period_ends_at"] == f"{NEXT_YEAR}T00:00:00+00:00"


def test_show_names_state_entitlements_dates_what_is_possible_and_what_is_refused(database: Path) -> None:
    shown = run("show", "acme", expect=0).stdout
    for words in ("Acme Ltd", "ann@acme.test", "trial: trying the product", "sign in yes", "billed no", "in 30 days"):
        assert words in shown
    possible, refused = shown.split("Possible now")[1].split("Refused now")
    assert re.search(r"upgrade\s+→ active\s+admin, billing\s+period_ends_at", possible)
    assert re.search(r"expire_trial\s+It fires by itself", refused)
    assert max(map(len, shown.splitlines())) <= output.WIDTH


def test_show_fits_into_80_columns(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run("show", "acme", expect=0).stdout.splitlines())) <= 80


def test_show_as_json_holds_the_explanation_and_the_account(database: Path) -> None:
    shown = data("show", "acme")
    assert shown["state"] == "trial"
    assert shown["entitlements"]["sign_in"] is True
    assert {one["event"] for one in shown["possible"]} >= {"cancel", "upgrade"}
    assert shown["account"]["legal_hold_cases"] == []
    assert datetime.fromisoformat(shown["coming"][0]["at"]).tzinfo is not None


def test_a_customer_is_cancelled_by_company_and_owner(database: Path) -> None:
    entry = data("cancel", *ACME, "--as", "support", "--reason", "too expensive", "--request-id", "ticket-1")
    assert (entry["source"], entry["dest"], entry["actor"]) == ("trial", "cancel_pending", f"support:{ME}")
    again = data("cancel", *ACME, "--as", "support", "--request-id", "ticket-1")
    assert again == entry, "the same request happens once"
    shown = run("history", "acme", expect=0).stdout
    assert re.search(rf"trial → cancel_pending\s+support:{ME}\s+too expensive", shown)
    assert [one["event"] for one in data("history", "acme")] == ["open_account", "cancel"]


def test_a_cancellation_tells_what_comes(database: Path) -> None:
    assert "the deletion date" in run("cancel", *ACME, expect=0).stdout


def test_cancel_asks_which_one_when_several_accounts_match(database: Path) -> None:
    run("open", "acme-2", "--company", "ACME  ltd", "--owner", "Ann@acme.test", expect=0)
    refused = run("cancel", *ACME, expect=2)
    assert "acme (trial), acme-2 (trial)" in refused.stderr
    assert "--id" in refused.stderr
    assert data("cancel", *ACME, "--id", "acme-2")["account_id"] == "acme-2"


def test_cancel_for_an_unknown_owner_points_to_the_owners_on_file(database: Path) -> None:
    refused = run("cancel", "--company", "Acme Ltd", "--email", "eve@acme.test", expect=2)
    assert "contact_owners" in refused.stderr


def test_an_upgrade_by_billing_brings_the_paid_period(database: Path) -> None:
    shown = run("fire", "acme", "upgrade", "--as", "billing", "--period-ends-at", NEXT_YEAR, expect=0).stdout
    assert shown.startswith(f"acme: upgrade by billing:{ME}, trial → active (entry 2).")


def test_a_legal_hold_is_placed_shown_and_released(database: Path) -> None:
    run("hold", "place", "acme", "--reason", "court order", "--case", "2031-114", expect=0)
    assert re.search(r"legal holds\s+2031-114", run("show", "acme", expect=0).stdout)
    entry = data("hold", "release", "acme", "--reason", "settled", "--case", "2031-114", "--as", "admin")
    assert entry["actor"] == f"admin:{ME}"


# --- One event on many accounts ------------------------------------------------------------------

SUSPEND = ("fire-many", "suspend", "--as", "admin", "--reason", "spam wave")


def printed_command(shown: str) -> list[str]:
    """The words of the command that applies a plan, as the plan prints it."""
    return shlex.split(re.search(r"^  (lifecycle fire-many .*)$", shown, re.MULTILINE)[1])[1:]


def test_a_plan_is_shown_first_and_applied_by_the_command_that_it_prints(database: Path) -> None:
    run("open", "beta", "--company", "Beta", "--owner", "b@b.test", "--plan", "free", expect=0)
    shown = run(*SUSPEND, "--opened-after", "2020-01-01", expect=0).stdout
    assert shown.startswith("suspend would move 2 accounts and is refused for 0.")
    assert re.search(r"active\s+frozen\s+1\n", shown)
    assert re.search(r"acme\s+trial\s+frozen", shown)
    assert data("show", "acme")["state"] == "trial"
    applied = run(*printed_command(shown), expect=0)
    assert applied.stdout.startswith("suspend moved 2 accounts and is refused for 0.")
    assert "bulk event" in applied.stderr
    assert data("accounts", "--summary")["frozen"] == 2


def test_a_plan_that_has_changed_since_exits_3_and_changes_nothing(database: Path) -> None:
    shown = run(*SUSPEND, "--state", "trial", expect=0).stdout
    run("open", "beta", "--company", "Beta", "--owner", "b@b.test", expect=0)
    refused = run(*printed_command(shown), expect=3)
    assert "make the plan again" in refused.stderr
    assert data("accounts", "--summary")["frozen"] == 0


def test_where_nothing_can_be_moved_the_exit_code_is_1_with_the_reasons(database: Path) -> None:
    shown = run("fire-many", "suspend", "--as", "support", "--reason", "spam", "--all", expect=1).stdout
    assert re.search(r"1\s+Only admin may fire suspend here, not support\.\s+acme", shown)
    assert "--apply" not in shown
    assert "0 accounts" in run(*SUSPEND, "--state", "purged", expect=0).stdout, "nobody was refused"


def test_ids_come_from_a_file_or_from_standard_input_and_unknown_ones_are_shown(database: Path, folder: Path) -> None:
    (folder / "ids.txt").write_bytes(b"\xef\xbb\xbfacme\r\n\r\n  nobody \n\xff\n\x1b[31m\n")
    shown = run(*SUSPEND, "--ids", "ids.txt", expect=0).stdout
    assert "would move 1 account and is refused for 3" in shown
    assert re.search(r"3\s+There is no account with this id.*\\x1b\[31m, \\xff, nobody", shown)
    assert "--ids ids.txt" in shown
    assert data(*SUSPEND, "--ids", "-", expect=0, input="acme\n")["count"] == 1


def test_a_plan_as_json_holds_all_of_it(database: Path) -> None:
    plan = data(*SUSPEND, "--all")
    assert plan["moves"] == [{"source": "trial", "dest": "frozen", "accounts": 1}]
    assert plan["sample"][0]["account_id"] == "acme"
    assert (plan["count"], plan["refused"], plan["refusals"], plan["applied"]) == (1, 0, [], False)
    done = data(*shlex.split(plan["command"])[1:])
    assert (done["applied"], done["digest"], done["command"]) == (True, plan["digest"], None)
    refused = data(*SUSPEND, "--all", expect=1)["refusals"]
    assert [(one["accounts"], one["sample"]) for one in refused] == [(1, ["acme"])]


def test_the_same_request_id_tells_what_was_applied(database: Path) -> None:
    asked = (*SUSPEND, "--state", "trial", "--request-id", "ticket-1")
    command = shlex.split(data(*asked)["command"])[1:]
    first, again = data(*command), data(*command)
    assert first == again
    assert run(*asked, expect=0).stdout.startswith("suspend moved 1 account ")


def test_a_printed_command_names_the_database_and_the_configuration_that_were_named(database: Path) -> None:
    (database.parent / "mine.toml").write_text("")
    shown = run(*SUSPEND, "--all", "--database", "sqlite:///lifecycle.db", "--config", "mine.toml", expect=0).stdout
    assert "fire-many suspend --database sqlite:///lifecycle.db --config mine.toml " in shown
    run(*printed_command(shown), expect=0)


def test_accounts_are_listed_counted_and_limited(database: Path) -> None:
    run("open", "beta", "--company", "Beta", "--owner", "b@b.test", "--plan", "free", expect=0)
    assert [one["id"] for one in data("accounts")] == ["acme", "beta"]
    assert [one["id"] for one in data("accounts", "--state", "active")] == ["beta"]
    assert data("accounts", "--summary")["trial"] == 1
    limited = run("accounts", "--limit", "1", expect=0)
    assert "acme" in limited.stdout
    assert "beta" not in limited.stdout
    assert "--limit" in limited.stderr


def test_an_empty_list_is_an_empty_list(database: Path) -> None:
    assert data("accounts", "--state", "purged") == []
    assert run("accounts", "--state", "purged", expect=0).stdout == ""


# --- Import --------------------------------------------------------------------------------------

GOOD = "id,company,owners,state,plan,opened_at\nbeta,Beta,b@b.test,trial,trial,2026-01-01\n"
BAD = GOOD + "gamma,Gamma,nobody,trial,trial,2026-01-01\n"


def test_import_of_the_same_file_again_changes_nothing(database: Path, folder: Path) -> None:
    (folder / "accounts.csv").write_text(GOOD)
    assert data("import", "accounts.csv")["imported"] == 1
    again = data("import", "accounts.csv")
    assert (again["imported"], again["unchanged"]) == (0, 1)


def test_import_with_a_bad_row_names_it_and_imports_nothing(database: Path, folder: Path) -> None:
    (folder / "accounts.csv").write_text(BAD)
    refused = run("import", "accounts.csv", expect=2)
    assert "Line 3, owners: The e-mail address 'nobody' is malformed" in refused.stderr
    assert "--skip-bad" in refused.stderr
    assert [one["id"] for one in data("accounts")] == ["acme"]


def test_import_skips_bad_rows_into_a_file_when_asked(database: Path, folder: Path) -> None:
    (folder / "accounts.csv").write_text(BAD)
    assert "rejects.csv" in run("import", "accounts.csv", "--skip-bad", "rejects.csv", expect=0).stdout
    assert "gamma" in (folder / "rejects.csv").read_text()
    assert [one["id"] for one in data("accounts")] == ["acme", "beta"]


def test_a_dry_run_from_standard_input_imports_nothing(database: Path) -> None:
    assert "Would import 1" in run("import", "-", "--dry-run", expect=0, input=GOOD).stdout
    assert [one["id"] for one in data("accounts")] == ["acme"]


# --- Export --------------------------------------------------------------------------------------


def test_an_export_goes_to_standard_output_as_csv_or_lines_of_json(database: Path) -> None:
    shown = run("export", "accounts", expect=0)
    header, row = shown.stdout.splitlines()
    assert header.startswith("id,company,owners,state,plan") and row.startswith("acme,Acme Ltd,ann@acme.test,trial")
    assert shown.stderr == ""
    (entry,) = run("export", "history", "--format", "jsonl", "--account", "acme", expect=0).stdout.splitlines()
    assert json.loads(entry)["event"] == "open_account"
    assert run("export", "history", "--state", "purged", expect=0).stdout.count("\n") == 1


def test_an_exported_file_is_for_the_user_alone_and_can_be_imported(database: Path, folder: Path) -> None:
    said = run("export", "accounts", "-o", "accounts.csv", expect=0).stdout
    assert said == "Wrote 1 accounts to accounts.csv.\n"
    assert (folder / "accounts.csv").stat().st_mode & 0o077 == 0
    run("init", "--database", "sqlite:///other.db", expect=0)
    assert data("import", "accounts.csv", "--database", "sqlite:///other.db")["imported"] == 1
    again = run("export", "accounts", "--database", "sqlite:///other.db", expect=0).stdout
    assert again == (folder / "accounts.csv").read_text()


def test_an_export_is_utf_8_whatever_the_locale_says(database: Path) -> None:
    run("open", "cafe", "--company", "Café Çelik", "--owner", "c@cafe.test", expect=0)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "lifecycle", "export", "accounts"]
    written = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    assert "Café Çelik" in written.decode("utf-8")


# --- Activity ------------------------------------------------------------------------------------

USED = "account_id,at\nacme,2026-01-01T12:00:00Z\nnobody,2026-01-01\n"


def test_activity_is_recorded_from_a_file_or_from_standard_input(database: Path, folder: Path) -> None:
    (folder / "used.csv").write_text(USED.replace("2026", "2025") + f"acme,{datetime.now(UTC).isoformat()}\n")
    shown = run("activity", "used.csv", expect=0).stdout
    assert shown == "Rows: 1 recorded, 1 without effect, 1 unknown.\nNo such account: nobody\n"
    again = data("activity", "-", input=USED)
    assert (again["written"], again["unchanged"], again["unknown_ids"], again["bad"]) == (0, 1, ["nobody"], [])


def test_activity_with_a_bad_line_names_it_and_exits_2(database: Path) -> None:
    refused = run("activity", "-", expect=2, input=USED + "acme,yesterday\n")
    assert "Line 4, at: is not a date: 'yesterday'" in refused.stderr
    assert "Nothing was recorded" in refused.stderr
    assert refused.stdout == ""
    assert data("activity", "-", expect=2, input=USED + "acme,yesterday\n")["stopped_at"] == 2


def test_activity_before_the_batch_of_a_bad_line_is_kept_and_said(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifecycle.activity_file.BATCH", 2)
    refused = run("activity", "-", expect=2, input=USED + "acme,yesterday\n")
    assert refused.stdout.startswith("Rows: 0 recorded, 1 without effect, 1 unknown.")
    assert "Only what comes before line 4 was recorded" in refused.stderr


# --- Operation -----------------------------------------------------------------------------------


def test_due_looks_ahead_as_far_as_asked(database: Path) -> None:
    nothing = run("due", expect=0)
    assert nothing.stdout == ""
    assert "--within" in nothing.stderr
    assert re.search(r"acme\s+trial\s+expire_trial\s+remind", run("due", "--within", "30 days", expect=0).stdout)
    assert data("due", "--within", "30 days")["due"][0]["account_id"] == "acme"


def test_due_lists_what_awaits_approval(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_POLICY_COMPANY_CANCELLATION", "approval")
    run("init", expect=0)
    waiting = SimpleNamespace(
        id="late", company="Late", state="on_hold", owners=(), cases=(), as_dict=lambda: {"id": "late"}
    )
    monkeypatch.setattr(Engine, "awaiting_approval", lambda _: iter([waiting]))
    shown = run("due", expect=0).stdout
    assert re.search(r"late\s+Late\s+on_hold\s+cancel_expired_trial", shown)
    assert data("due")["awaiting_approval"][0]["event"] == "cancel_expired_trial"


def test_timers_are_listed_with_who_waits(database: Path) -> None:
    assert re.search(r"expire_trial\s+trial\s+\S+ \S+\s+in 23 days\s+1\s+0\n", run("timers", expect=0).stdout)
    [trial] = [one for one in data("timers") if one["event"] == "expire_trial"]
    assert (trial["waiting"], trial["overdue"]) == (1, 0)


def test_sweep_and_deliver_do_what_is_due_once(database: Path) -> None:
    run("cancel", *ACME, "--as", "support", expect=0)
    assert data("deliver")["delivered"] == {"stop_billing": 1, "confirm_cancellation": 1}
    assert data("deliver")["delivered"] == {}
    run("fire", "acme", "reactivate", "--as", "owner:ann@acme.test", expect=0)
    assert data("sweep")["moves"] == []


def test_a_task_that_failed_for_good_is_listed_and_retried(database: Path, folder: Path) -> None:
    (folder / "fails.toml").write_text('[handlers.stop_billing]\ncommand = ["false"]\n[delivery]\nattempts = 1\n')
    run("cancel", *ACME, expect=0)
    run("deliver", "--config", "fails.toml", expect=0)
    [parked] = data("outbox", "list", "--status", "parked")
    assert (parked["effect"], parked["attempts"]) == ("stop_billing", 1)
    assert "CommandFailed" in run("outbox", "list", "--account", "acme", expect=0).stdout
    assert data("outbox", "retry", str(parked["id"])) == {"retried": 1}
    assert data("outbox", "retry", "--all") == {"retried": 0}


def test_doctor_exits_1_when_it_finds_a_problem(database: Path) -> None:
    found = run("doctor", expect=1).stdout
    assert "PROBLEM" in found
    assert "delete_content has no handler" in found
    assert data("doctor", expect=1)[0]["level"] == "problem"


def test_doctor_exits_0_when_all_is_well(database: Path, folder: Path) -> None:
    handlers = (f'[handlers.{effect}]\ncommand = ["true"]\n' for effect in Effect)
    (folder / "all.toml").write_text("".join(handlers))
    run("doctor", "--config", "all.toml", expect=0)


def test_the_daemon_ends_with_0_on_sigterm(database: Path) -> None:
    daemon = process("daemon", "--resync", "1 second", "--name", "tester")
    try:
        deadline = time.monotonic() + 20
        while not any("tester" in one["message"] for one in data("doctor", expect=1)):
            assert daemon.poll() is None, daemon.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        daemon.send_signal(signal.SIGTERM)
        logged = daemon.communicate(timeout=20)[1]
    finally:
        daemon.kill()
    assert daemon.returncode == 0
    assert all(json.loads(line) for line in logged.splitlines()), "without a terminal the log is JSON"


def test_the_daemon_fails_at_once_where_there_is_no_database() -> None:
    assert "lifecycle init" in run("daemon", expect=3).stderr


# --- Definition ----------------------------------------------------------------------------------


def test_the_policy_is_shown_with_values_floors_clauses_and_version(database: Path) -> None:
    shown = run("policy", "show", expect=0).stdout
    assert re.search(
        r"deletion_after\s+30 days\s+database\s+Time from the clock's start to deletion\.\s+\(delete-30\)", shown
    )
    whole = data("policy", "show")
    assert {one["name"]: one["at_least"] for one in whole["settings"]}["deletion_after"] == "7 days"
    assert whole["version"] == data("init")["policy"]["version"]
    assert {one["name"] for one in whole["settings"]} >= {"trial_length", "refund_new_period"}


def test_without_any_database_the_default_policy_is_shown(folder: Path) -> None:
    assert data("policy", "show")["source"] == "the default policy"
    assert list(folder.iterdir()) == []


def test_a_diagram_goes_to_standard_output_or_into_a_file(folder: Path) -> None:
    assert run("diagram", "--format", "mermaid", expect=0).stdout.startswith("stateDiagram-v2")
    run("diagram", "way-out", "-o", "picture.dot", expect=0)
    assert (folder / "picture.dot").read_text().startswith("digraph")
    run("diagram", "--all", "-o", "pictures", expect=0)
    assert {path.suffix for path in (folder / "pictures").iterdir()} >= {".dot", ".svg"}


def test_a_diagram_shows_what_a_policy_changes_and_what_the_database_holds(database: Path) -> None:
    folder = database.parent
    (folder / "longer.toml").write_text('[policy]\ndeletion_after = "45 days"\n')
    for old in ("default", "database"):
        text = run("diagram", "--config", "longer.toml", "--diff", old, "--format", "mermaid", expect=0).stdout
        assert "30 days → 45 days after the cancellation" in text
    kept = Policy().version[:6]
    assert run("diagram", "--config", "longer.toml", "--diff", kept, "--format", "mermaid", expect=0).stdout == text
    text = run("diagram", "--diff", "longer.toml", "--format", "dot", expect=0).stdout
    assert "45 days → 30 days" in text
    assert "1 account" in run("diagram", "--counts", "--format", "mermaid", expect=0).stdout
    run("diagram", "--all", "--counts", "--since", "2026-01-01", "-o", "counted", expect=0)
    assert not list((folder / "counted").glob("*.scxml"))


def test_the_demo_never_touches_the_database_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[str | None] = []
    demo = SimpleNamespace(run=lambda database_url, console: played.append(database_url))
    monkeypatch.setitem(sys.modules, "lifecycle.demo", demo)  # type: ignore[arg-type]
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", "sqlite:///production.db")
    run("demo", expect=0)
    run("demo", "--database", "sqlite:///demo.db", expect=0)
    assert played == [None, "sqlite:///demo.db"]


def test_the_version_is_printed_by_command_and_by_option() -> None:
    assert run("version", expect=0).stdout == run("--version", expect=0).stdout
    assert set(data("version")) == {"account-lifecycle", "Python", "SQLite"}


# --- Terminals, pipes and shells -----------------------------------------------------------------


def harmless(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def strings(value: Any) -> set[str]:
    """All text in what was read from JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(strings, value))
    return {value} if isinstance(value, str) else set()


@pytest.mark.parametrize(
    "arguments",
    [("show", "acme"), ("accounts",), ("history", "acme"), ("outbox", "list"), ("due", "--within", "1 week")],
)
def test_what_customers_wrote_does_nothing_to_a_terminal(
    arguments: tuple[str, ...], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    run("cancel", *ACME, expect=0)
    engine = Engine(f"sqlite:///{database}")
    with engine.database.write() as written:
        hostile = Personal(HOSTILE, (Person(1, HOSTILE),), 2)
        engine.store.write_personal(written, engine.store.load(written, "acme"), hostile)
    engine.close()
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TRIGGER history_refuses_update")
        connection.execute("UPDATE history SET reason = ?, actor = ?", [HOSTILE, HOSTILE])
        connection.execute("UPDATE outbox SET last_error = ?", [HOSTILE])
    connection.close()
    shown = run(*arguments, expect=0)
    assert harmless(shown.output)
    if arguments[0] != "due":
        assert "\\x1b[31m[bold red]Acme\\u202e\\x07\\x7f =cmd()" in shown.stdout
    as_json = run(*arguments, "--json", expect=0).stdout
    assert harmless(as_json)
    if arguments[0] != "due":
        assert HOSTILE in strings(json.loads(as_json)), "JSON holds the very text"


def test_arguments_come_back_escaped_too(database: Path) -> None:
    assert harmless(run("show", "\x1b[31macme", expect=2).stderr)
    assert harmless(run("\x1b[31mshow", expect=2).stderr)


def test_a_reader_that_leaves_early_is_no_error(database: Path) -> None:
    for arguments in (
        ["accounts"], ["policy", "show", "--json"], ["diagram", "--format", "dot"], ["export", "history"],
    ):  # fmt: skip
        writer = process(*arguments)
        assert writer.stdout is not None
        writer.stdout.close()
        assert writer.stderr is not None
        assert writer.stderr.read() == ""
        assert writer.wait(20) == 0


def test_help_loads_nothing_of_the_database() -> None:
    script = (
        "import sys; from lifecycle.cli import main; sys.argv = ['lifecycle', 'sweep', '--help']; code = main();"
        "print(code, sorted({'sqlalchemy', 'sqlmodel', 'transitions', 'structlog'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "0 []"


def test_a_shell_completes_commands_events_and_states() -> None:
    for words, completion in (
        ("lifecycle hist", "history"),
        ("lifecycle fire acme upg", "upgrade"),
        ("lifecycle accounts --state cancel", "cancel_pending"),
    ):
        environment = {
            **os.environ,
            "_LIFECYCLE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        assert completion in process(env=environment).communicate(timeout=20)[0].split()


# --- Parsing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (" 2026-01-31T12:00+02:00 ", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_instants_are_read_as_utc(written: str, meant: datetime) -> None:
    assert parsing.instant(written, "--at") == meant


@pytest.mark.parametrize("written", ["", "tomorrow", "2026-01-31T12:00", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_instant_is_refused_by_the_options_name(written: str) -> None:
    with pytest.raises(InvalidInput, match=r"--at"):
        parsing.instant(written, "--at")


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(days=30) - timedelta(seconds=2), "in 30 days"),
        (timedelta(days=1), "in 1 day"),
        (timedelta(hours=-5), "5 hours ago"),
        (timedelta(minutes=2), "in 2 minutes"),
        (timedelta(milliseconds=3), "now"),
    ],
)
def test_distances_in_time_are_told_in_the_largest_unit(distance: timedelta, words: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert output.relative(now + distance, now) == words


# --- Help and documentation ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_every_command_has_an_example_that_can_be_typed(name: str) -> None:
    shown = run(*name.split(), "--help", expect=0).stdout
    assert examples(name)
    for example in examples(name):
        assert example in shown, "an example fits on one line, so that it can be copied"
        assert example == f"lifecycle {name}" or example.startswith(f"lifecycle {name} ")
        words = shlex.split(example)[1 + len(name.split()) :]
        COMMANDS[tuple(name.split())].make_context(name, words)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_documented_with_an_example(name: str) -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    _, heading, section = text.partition(f"\n### `lifecycle {name}`\n")
    assert heading, f"docs/cli.md needs a section on `lifecycle {name}`"
    section = section.split("\n##")[0]
    assert re.search(rf"^lifecycle {name}\b", section, re.MULTILINE), "an example in its section"
    for parameter in COMMANDS[tuple(name.split())].params:
        if parameter.param_type_name == "option" and parameter.name not in ("database", "config", "json"):
            assert f"`{parameter.opts[-1]}" in section, f"{parameter.opts[-1]} is documented"


def test_no_command_is_documented_that_is_not_there() -> None:
    documented = re.findall(r"^### `lifecycle ([^`]+)`$", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(documented) == sorted(NAMES)
