"""Exports: what is in the database, all as of one instant, in a file that is complete or not there."""

import csv
import json
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle import (
    AccountNotFound,
    Actor,
    Effect,
    Engine,
    InvalidInput,
    ManualClock,
    Policy,
    SchemaOutdated,
    exporter,
    reads,
)
from lifecycle.exporter import FORMAT, NO_CASE, export, export_file
from lifecycle.import_rows import COLUMNS
from lifecycle.importer import FORMULA, as_written, import_accounts, neutral
from tests.conftest import START

EXAMPLE = Path(__file__).parent.parent / "examples" / "accounts.csv"
ANN, ADMIN = "ann@acme.test", Actor.admin("root")
DAY = timedelta(days=1)


@pytest.fixture
def acme(engine: Engine) -> Engine:
    """Two accounts; acme is under legal holds."""
    engine.open_account("acme", company="Acme Ltd", owners=[ANN, "bob@acme.test"])
    engine.open_account("beta", company="Beta", owners=["b@beta.test"], plan="free")
    for case in ("2031-114", None, None):
        engine.place_hold("acme", actor=ADMIN, reason="court order", case=case)
    return engine


@pytest.fixture
def empty(tmp_path: Path, engine: Engine) -> Iterator[Engine]:
    """An empty database at the same instant."""
    other = Engine(f"sqlite:///{tmp_path}/empty.db", policy=Policy(), clock=ManualClock(engine.clock.now()))
    other.migrate()
    yield other
    other.close()


def rows(engine: Engine, what: str, **options: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(export(engine, what, **options)))


def objects(engine: Engine, what: str, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export(engine, what, "jsonl", **options)]


# --- What is in it -------------------------------------------------------------------------------


def test_accounts_as_csv_have_the_columns_of_an_import_and_their_owners(acme: Engine) -> None:
    row, beta = rows(acme, "accounts")
    assert list(row) == [*COLUMNS, "export_format"]
    assert (row["id"], row["owners"], row["state"], row["plan"]) == ("acme", f"{ANN};bob@acme.test", "trial", "trial")
    assert (row["opened_at"], row["trial_ends_at"]) == ("2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z")
    assert (row["legal_holds"], row["frozen_at"], row["export_format"]) == (f"2031-114;{NO_CASE}", "", FORMAT)
    assert beta["free_since"] == "2026-01-01T00:00:00Z"


def test_accounts_as_lines_of_json_have_every_column(acme: Engine) -> None:
    row, _ = objects(acme, "accounts")
    account = acme.get("acme")
    assert set(row) == {*account.as_dict(), "legal_hold_cases"}
    assert row["owners"] == [ANN, "bob@acme.test"] and row["legal_hold_cases"] == list(account.cases)
    assert (row["version"], row["legal_holds"], row["frozen_at"]) == (4, 3, None)
    assert row["due_at"] == "2026-01-24T00:00:00Z"


def test_history_has_every_entry_by_account_and_number(acme: Engine) -> None:
    entries = rows(acme, "history")
    assert [(entry["account_id"], entry["number"]) for entry in entries] == [
        ("acme", "1"), ("acme", "2"), ("acme", "3"), ("acme", "4"), ("beta", "1"),
    ]  # fmt: skip
    assert entries[1] == {
        "account_id": "acme", "number": "2", "event": "place_hold", "step": "fire", "source": "trial", "dest": "trial",
        "at": "2026-01-01T00:00:00Z", "actor": "admin:root", "owner": "", "reason": "court order",
        "policy_version": acme.policy.version, "request_id": "",
    }  # fmt: skip
    as_json = objects(acme, "history")
    assert [entry["number"] for entry in as_json] == [1, 2, 3, 4, 1]
    assert (as_json[0]["source"], as_json[0]["at"]) == (None, "2026-01-01T00:00:00Z")


def test_instants_have_every_digit(engine: Engine, clock: ManualClock) -> None:
    clock.set(START + timedelta(microseconds=7))
    engine.open_account("acme", company="Acme", owners=[ANN])
    assert rows(engine, "accounts")[0]["opened_at"] == "2026-01-01T00:00:00.000007Z"


@pytest.mark.parametrize("what", ["accounts", "history"])
def test_a_state_or_an_id_chooses(acme: Engine, what: str) -> None:
    def named(**options: Any) -> set[str]:
        return {row.get("id") or row["account_id"] for row in rows(acme, what, **options)}

    assert named(state="active") == {"beta"}
    assert named(account_id="acme") == {"acme"}
    assert named(account_id="acme", state="active") == set()
    assert list(export(acme, what, "jsonl", state="purged")) == []


def test_an_empty_database_gives_a_header_and_no_rows(engine: Engine) -> None:
    assert list(export(engine, "accounts")) == [",".join([*COLUMNS, "export_format"]) + "\n"]
    assert list(export(engine, "history", "jsonl")) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"what": "account"}, "Unknown export 'account': did you mean accounts"),
        ({"format": "xml"}, "Unknown format 'xml': choose from csv, jsonl"),
        ({"state": "frozn"}, "Unknown state 'frozn': did you mean frozen"),
    ],
)
def test_an_unknown_word_is_refused_before_anything_is_read(
    engine: Engine, words: dict[str, str], complaint: str
) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        export(engine, **{"what": "accounts", **words})


def test_an_unknown_account_is_an_error(acme: Engine) -> None:
    with pytest.raises(AccountNotFound, match="lifecycle accounts"):
        list(export(acme, "history", account_id="nobody"))


@pytest.mark.empty
def test_a_database_without_a_schema_is_an_error(url: str) -> None:
    engine = Engine(url)
    with pytest.raises(SchemaOutdated, match="lifecycle init"):
        list(export(engine, "accounts"))
    engine.close()


# --- Formulas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", FORMULA)
@pytest.mark.parametrize("before", ["", "'", "''"])
def test_no_cell_begins_like_a_formula_and_each_comes_back_as_it_was(before: str, start: str) -> None:
    cell = f"{before}{start}cmd"
    assert neutral(cell) == f"'{cell}"
    assert as_written(neutral(cell)) == cell


@pytest.mark.parametrize("cell", ["", "'", "Acme", "'Acme'", "O'=Neill"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert neutral(cell) == cell == as_written(cell)


@pytest.mark.parametrize("company", ["=1+1", "-Dash GmbH", "'@Home", "''+x", "'s Hertogenbosch", 'A "b", c'])
def test_a_company_that_looks_like_a_formula_survives_the_round_trip(
    engine: Engine, empty: Engine, company: str
) -> None:
    engine.open_account("acme", company=company, owners=["=ann@acme.test"])
    (row,) = rows(engine, "accounts")
    assert not row["company"].startswith(FORMULA) and row["owners"] == "'=ann@acme.test"
    assert import_accounts(empty, export(engine, "accounts")).bad == []
    assert (empty.get("acme").company, empty.get("acme").owners) == (company, ("=ann@acme.test",))


def test_rejects_of_an_exported_file_are_neutral_once_and_can_be_mended(
    engine: Engine, empty: Engine, tmp_path: Path
) -> None:
    engine.open_account("acme", company="=1+1", owners=[ANN])
    file, rejects = tmp_path / "accounts.csv", tmp_path / "rejects.csv"
    export_file(engine, file, "accounts")
    file.write_text(file.read_text().replace(ANN, "nobody"))
    assert import_accounts(empty, file, skip_bad=True, rejects=rejects).bad_rows == 1
    (row,) = csv.DictReader(rejects.open(encoding="utf-8", newline=""))
    assert (row["company"], row["export_format"]) == ("'=1+1", FORMAT)
    rejects.write_text(rejects.read_text().replace("nobody", ANN, 1))
    assert import_accounts(empty, rejects).bad == []
    assert empty.get("acme").company == "=1+1"


# --- Round trip ----------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [0, 20, 200])
def test_exported_accounts_are_imported_and_exported_again_as_they_are(
    engine: Engine, empty: Engine, days: int
) -> None:
    import_accounts(engine, EXAMPLE)
    engine.run_until(START + days * DAY)
    empty.clock.set(START + days * DAY)  # type: ignore[attr-defined]
    lines = list(export(engine, "accounts"))
    assert len(lines) == 301
    report = import_accounts(empty, lines)
    assert (report.imported, report.bad) == (300, [])
    assert list(export(empty, "accounts")) == lines


def test_an_account_whose_erasure_is_under_way_is_refused_by_the_import(
    engine: Engine, empty: Engine, clock: ManualClock
) -> None:
    del engine.handlers[Effect.DELETE_CONTENT]
    engine.open_account("acme", company="Acme", owners=[ANN])
    engine.fire("acme", "terminate", actor=ADMIN, reason="fraud")
    engine.run_until(START + 40 * DAY)
    assert engine.get("acme").erasure_requested_at is not None
    empty.clock.set(clock.now())  # type: ignore[attr-defined]
    (bad,) = import_accounts(empty, export(engine, "accounts")).bad
    assert bad.column == "erasure_requested_at"


def test_an_imported_legal_hold_without_a_case_still_holds(acme: Engine, empty: Engine) -> None:
    assert import_accounts(empty, export(acme, "accounts")).bad == []
    assert set(empty.get("acme").cases) == {"2031-114", NO_CASE}


# --- One instant ---------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_what_changes_while_an_export_runs_is_not_in_it(
    acme: Engine, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "_PAGE", 1)
    expected = {what: list(export(acme, what, format)) for what in ("accounts", "history")}
    for what in ("accounts", "history"):
        before = list(export(acme, what, format))
        lines = export(acme, what, format)
        got = [next(lines), next(lines)]
        other = Engine(acme.database.url.render_as_string(hide_password=False), clock=acme.clock)
        other.open_account(f"new-{what}", company="New", owners=[ANN])
        other.fire("beta", "suspend" if what == "accounts" else "lift_suspension", actor=ADMIN, reason="spam")
        other.close()
        assert [*got, *lines] == before
    assert expected["accounts"] != list(export(acme, "accounts", format))


@pytest.mark.postgres
def test_an_export_can_write_nothing_on_postgresql(postgresql_url: str) -> None:
    engine = Engine(postgresql_url)
    engine.migrate()
    with engine.database.read() as connection:
        shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in
                 ("transaction_isolation", "transaction_read_only")]  # fmt: skip
    assert shown == ["repeatable read", "on"]
    engine.open_account("acme", company="Acme", owners=[ANN])  # the connection is an ordinary one again
    engine.close()


def test_progress_counts_rows(acme: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "_PAGE", 2)
    heard: list[int] = []
    list(export(acme, "history", on_progress=heard.append))
    assert heard == [2, 4, 5]


# --- Files ---------------------------------------------------------------------------------------


def test_a_file_holds_what_the_lines_are_and_only_the_user_can_read_it(acme: Engine, tmp_path: Path) -> None:
    file = tmp_path / "accounts.csv"
    file.write_text("old")
    file.chmod(0o644)
    assert export_file(acme, str(file), "accounts") == 2
    assert file.read_text(encoding="utf-8") == "".join(export(acme, "accounts"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert export_file(acme, tmp_path / "history.jsonl", "history", "jsonl", account_id="acme") == 4


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(("accounts.db", "empty.db")))


def test_an_export_that_breaks_leaves_the_old_file_and_nothing_half_done(
    acme: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Any, *args: Any) -> Iterator[Any]:
        yield [acme.get("acme")]
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "_KINDS", {
        what: exporter._Kind(breaks, kind.columns, kind.cells, kind.data) for what, kind in exporter._KINDS.items()
    })  # fmt: skip
    file = tmp_path / "accounts.csv"
    with pytest.raises(KeyboardInterrupt):
        export_file(acme, file, "accounts")
    assert leftovers(tmp_path) == []
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        export_file(acme, file, "accounts")
    assert leftovers(tmp_path) == ["accounts.csv"] and file.read_text() == "old"


# --- Size ----------------------------------------------------------------------------------------


@pytest.mark.postgres
def test_rows_stay_on_the_server_until_they_are_written(
    postgresql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(postgresql_url, clock=clock)
    engine.migrate()
    import_accounts(engine, EXAMPLE)
    monkeypatch.setattr(reads, "_PAGE", 10)
    with engine.database.read() as connection:
        for stream in (engine.store.stream_accounts, engine.store.stream_history):
            pages = stream(connection, None, None)
            assert len(next(pages)) == 10
            assert connection.exec_driver_sql("SELECT count(*) FROM pg_cursors").scalar() == 1
            assert sum(map(len, pages)) == 290
    engine.close()


@pytest.mark.slow
def test_thirty_thousand_accounts_take_little_memory(url: str) -> None:
    program = textwrap.dedent(
        f"""
        import resource
        from lifecycle import Engine
        from lifecycle.exporter import export
        from lifecycle.importer import import_accounts

        def rows(count):
            yield "id,company,owners,state,opened_at,trial_ends_at,held_at\\n"
            for n in range(count):
                yield f"a{{n}},Company {{n}},o{{n}}@c{{n}}.test,on_hold,2025-10-01,2025-11-01,2025-11-01\\n"

        engine = Engine({url!r})
        engine.migrate()
        import_accounts(engine, rows(2_000))
        count = sum(1 for what in ("accounts", "history") for line in export(engine, what))
        import_accounts(engine, rows(30_000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        count = sum(1 for what in ("accounts", "history") for line in export(engine, what))
        print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, kilobytes = map(int, done.stdout.split())
    assert count == 60_002
    assert kilobytes < 10_000
