"""Imports: every state, every way in which a row can be bad, and what becomes of imported accounts."""

import csv
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle import Actor, Engine, InvalidInput, ManualClock, Policy, Refused, State, Task
from lifecycle.import_rows import COLUMNS, REQUIRED, RowReader
from lifecycle.import_rules import DERIVED, RULES
from lifecycle.importer import BATCH, FORMULA, ImportReport, import_accounts, neutral
from lifecycle.machine import due
from lifecycle.terms import evaluate, holds

EXAMPLE = Path(__file__).parent.parent / "examples" / "accounts.csv"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACME = {"id": "acme", "company": "Acme Ltd", "owners": "ann@acme.test;bob@acme.test", "opened_at": "2025-01-01"}
TRIAL = {**ACME, "state": "trial", "trial_ends_at": "2026-01-20"}
HOLD = {**ACME, "state": "on_hold", "trial_ends_at": "2025-12-20"}
PAID = {**ACME, "state": "active", "plan": "paid", "period_ends_at": "2026-01-15"}
FREE = {**ACME, "state": "active", "plan": "free", "free_since": "2025-02-01"}
UNPAID = {**ACME, "state": "frozen", "plan": "paid", "period_ends_at": "2025-11-01", "frozen_at": "2025-11-03"}
SUSPENDED = {**PAID, "state": "frozen", "suspended_from": "active"}
CANCELLED = {"cancelled_at": "2025-12-20", "cancelled_by": "owner", "cancelled_from": "active"}
PENDING = {**PAID, **CANCELLED, "state": "cancel_pending"}
REVOKED = {**PENDING, "state": "access_revoked", "period_ends_at": "2025-12-24"}
LONG_AGO = {**REVOKED, "cancelled_at": "2025-08-01", "period_ends_at": "2025-08-05"}
DELETED = {**LONG_AGO, "state": "content_deleted", "content_deleted_at": "2025-09-01"}
PURGED = {**DELETED, "state": "purged", "purged_at": "2025-09-29", "company": "", "owners": ""}
EVERY_STATE = {"trial": TRIAL, "on_hold": HOLD, "active": PAID, "frozen": UNPAID, "cancel_pending": PENDING,
               "access_revoked": REVOKED, "content_deleted": DELETED, "purged": PURGED}  # fmt: skip


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def lines(*rows: dict[str, str]) -> list[str]:
    """The lines of a file with these rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [",".join(columns) + "\n", *(",".join(row.get(name, "") for name in columns) + "\n" for row in rows)]


def load(engine: Engine, *rows: dict[str, str], **options: Any) -> ImportReport:
    return import_accounts(engine, lines(*rows), **options)


def reasons(report: ImportReport) -> list[str]:
    return [str(bad) for bad in report.bad]


def test_the_example_file_is_imported_whole(engine: Engine) -> None:
    report = import_accounts(engine, EXAMPLE)
    assert (report.imported, report.bad) == (300, [])
    assert all(count > 0 for count in engine.summary().values())


@pytest.mark.parametrize("state", State)
def test_an_account_can_be_imported_in_every_state(engine: Engine, state: State) -> None:
    report = load(engine, EVERY_STATE[state])
    assert reasons(report) == [] and report.imported == 1
    account = engine.get("acme")
    assert account.state is state and account.version == 1
    (entry,) = engine.history("acme")
    assert (entry.event, entry.step, entry.dest, entry.actor) == ("import_account", "open", state, "system:import")


def test_owners_keep_their_order_and_may_cancel(engine: Engine) -> None:
    load(engine, {**PAID, "owners": " bob@acme.test ; ann@acme.test;"})
    assert engine.get("acme").owners == ("bob@acme.test", "ann@acme.test")
    assert engine.fire("acme", "cancel", actor=Actor.owner("ann@acme.test")).owner == 2


@pytest.mark.parametrize(
    ("row", "derived"),
    [
        ({**TRIAL, "trial_ends_at": "", "opened_at": "2025-12-10"}, {"trial_ends_at": "2026-01-09"}),
        (HOLD, {"plan": "trial", "held_at": "2025-12-20"}),
        (PENDING, {"access_ends_at": "2026-01-15", "delete_content_at": "2026-01-19",
                   "purge_backups_by": "2026-02-18"}),
        ({**PENDING, "period_ends_at": "2026-11-01"},
         {"access_ends_at": "2026-11-01", "delete_content_at": "2026-11-01", "purge_backups_by": "2026-11-30"}),
        (REVOKED, {"access_ends_at": "2025-12-24", "delete_content_at": "2026-01-19"}),
        # A suspension or termination after the cancellation takes access, but no day before deletion.
        ({**REVOKED, "period_ends_at": "2026-11-01", "terminated_at": "2025-12-22"},
         {"access_ends_at": "2025-12-22", "delete_content_at": "2026-11-01"}),
        ({**REVOKED, "period_ends_at": "2026-11-01", "suspended_from": "active", "access_ends_at": "2025-12-23"},
         {"delete_content_at": "2026-11-01"}),
        ({**REVOKED, "period_ends_at": "2026-11-01", "terminated_at": "2025-12-20"},
         {"access_ends_at": "2025-12-20", "delete_content_at": "2026-01-19"}),
        ({**REVOKED, "period_ends_at": "2026-11-01", "suspended_from": "active", "cancelled_from": "frozen"},
         {"access_ends_at": "2025-12-20", "delete_content_at": "2026-01-19"}),
        (DELETED, {"erasure_requested_at": "2025-09-01", "purge_backups_by": "2025-09-30"}),
        (PURGED, {"purge_requested_at": "2025-09-29"}),
    ],
)  # fmt: skip
def test_omitted_dates_are_those_that_the_definition_gives(
    engine: Engine, row: dict[str, str], derived: dict[str, str]
) -> None:
    assert reasons(load(engine, row)) == []
    account = engine.get("acme")
    for column, value in derived.items():
        assert getattr(account, column) == (value if column == "plan" else day(value)), column


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        ({**PAID, "id": "no spaces"}, "id", "malformed"),
        ({**PAID, "id": ""}, "id", "blank"),
        ({**PAID, "company": ""}, "company", "blank"),
        ({**PAID, "company": "Ac\x07me"}, "company", "control character U+0007"),
        ({**PAID, "company": "Ac\x00me"}, "company", "control character U+0000"),
        ({**PAID, "company": "Ac\u202eme"}, "company", "control character U+202E"),
        ({**PAID, "company": '"Acme\nLtd"'}, "company", "control character U+000A"),
        ({**PAID, "company": "Caf\udce9"}, "company", "not UTF-8"),
        ({**PAID, "owners": ""}, "owners", "blank"),
        ({**PAID, "owners": "ann"}, "owners", "malformed"),
        ({**PAID, "owners": "ann@acme.test;ANN@acme.test"}, "owners", "twice"),
        ({**PAID, "state": "actve"}, "state", "did you mean active?"),
        ({**PAID, "state": ""}, "state", "blank"),
        ({**PAID, "plan": "gold"}, "plan", "one of trial, free, paid"),
        ({**PAID, "plan": ""}, "plan", "free or paid"),
        ({**PAID, "plan": "trial"}, "plan", "free or paid"),
        ({**PAID, "opened_at": ""}, "opened_at", "blank"),
        ({**PAID, "opened_at": "01/02/2025"}, "opened_at", "not a date"),
        ({**PAID, "opened_at": "2025-02-30"}, "opened_at", "not a date"),
        ({**PAID, "opened_at": "2025-02-01T10:00:00"}, "opened_at", "no time zone"),
        ({**PAID, "opened_at": "2026-01-02"}, "opened_at", "future"),
        ({**PAID, "period_ends_at": "9999-12-31"}, "period_ends_at", "1970 to 2199"),
        ({**PAID, "period_ends_at": ""}, "period_ends_at", "has period_ends_at"),
        ({**PAID, "period_ends_at": "2024-12-31"}, "period_ends_at", "before opened_at"),
        ({**PAID, "held_at": "2025-06-01"}, "held_at", "only in the states"),
        ({**PAID, "frozen_at": "2025-06-01"}, "frozen_at", "only in the states"),
        ({**PAID, "cancelled_at": "2025-06-01"}, "cancelled_at", "in no other"),
        ({**PAID, "free_since": "2025-06-01"}, "free_since", "plan free"),
        ({**FREE, "free_since": ""}, "free_since", "has free_since"),
        ({**HOLD, "trial_ends_at": ""}, "held_at", "has held_at"),
        ({**HOLD, "trial_ends_at": "2026-01-05"}, "trial_ends_at", "still runs"),
        ({**HOLD, "held_at": "2025-12-01"}, "held_at", "before trial_ends_at"),
        ({**UNPAID, "frozen_at": ""}, "frozen_at", "has frozen_at"),
        ({**UNPAID, "period_ends_at": "2026-02-01"}, "period_ends_at", "not frozen"),
        ({**UNPAID, "plan": "free"}, "plan", "is paid"),
        ({**SUSPENDED, "suspended_from": "purged"}, "suspended_from", "is one of trial"),
        ({**SUSPENDED, "plan": "trial"}, "plan", "active before"),
        ({**PENDING, "cancelled_at": ""}, "cancelled_at", "is set in"),
        ({**PENDING, "cancelled_by": "nobody"}, "cancelled_by", "owner, company"),
        ({**PENDING, "cancelled_from": "purged"}, "cancelled_from", "is one of trial"),
        ({**PENDING, "access_ends_at": "2026-01-10"}, "access_ends_at", "as long as was paid for"),
        ({**PENDING, "delete_content_at": "2026-01-18"}, "delete_content_at", "policy promises"),
        ({**REVOKED, "access_ends_at": "2026-01-02"}, "access_ends_at", "cancel_pending"),
        ({**REVOKED, "erasure_requested_at": "2026-01-01"}, "erasure_requested_at", "only in the states"),
        ({**REVOKED, "terminated_at": "2025-12-19"}, "terminated_at", "before cancelled_at"),
        ({**DELETED, "content_deleted_at": "2025-08-20"}, "erasure_requested_at", "before the deletion date"),
        ({**DELETED, "purge_requested_at": "2025-09-20"}, "purge_requested_at", "only in the states"),
        ({**PURGED, "company": "Acme"}, "company", "no personal data"),
        ({**PURGED, "legal_holds": "2025-1"}, "legal_holds", "purged"),
        ({**REVOKED, "legal_holds": "2025-1;2025-1"}, "legal_holds", "twice"),
    ],
)  # fmt: skip
def test_a_bad_row_is_reported_by_line_column_and_reason(
    engine: Engine, row: dict[str, str], column: str, words: str
) -> None:
    report = load(engine, row)
    assert [(bad.line, bad.column) for bad in report.bad if words in bad.reason] == [(2, column)], reasons(report)
    assert report.imported == 0 and sum(engine.summary().values()) == 0


def test_all_problems_of_a_row_are_reported_and_none_twice(engine: Engine) -> None:
    report = load(
        engine, {**PENDING, "owners": "ann", "cancelled_at": "", "period_ends_at": "soon", "cancelled_by": ""}
    )
    assert [bad.column for bad in report.bad] == ["owners", "period_ends_at", "cancelled_at", "cancelled_by"]
    assert (report.bad_rows, report.problems) == (1, 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"id,company\n", "owners, state, opened_at missing"),
        (b"id,company,owners,state,opened_at,freezed_at\n", "did you mean frozen_at"),
        (b"ID,company,owners,state,opened_at\n", "did you mean id"),
        (b"id,id,company,owners,state,opened_at\n", "id is there twice"),
        (b"id,company,owners,state,opened_at,not_before\n", "it will give its own"),
        (b"id;company;owners;state;opened_at\n", "separated by commas"),
        ("id,company,owners,state,opened_at\n".encode("utf-16"), "not UTF-8"),
        (b'id,"company\n', "not CSV"),
        (b"x" * 2_000_000, "more than 1,000,000 bytes"),
    ],
)
def test_a_file_with_a_wrong_header_is_refused_with_what_to_do(
    engine: Engine, tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "accounts.csv"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        import_accounts(engine, file)


def test_a_missing_file_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.csv can't be read: No such file"):
        import_accounts(engine, tmp_path / "nowhere.csv")


def test_a_byte_order_mark_crlf_quotes_and_blank_lines_do_no_harm(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "accounts.csv"
    text = 'id,company,owners,state,opened_at\n\nacme,"Acme, ""the"" firm",ann@acme.test,trial,2025-12-20\n'
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert reasons(import_accounts(engine, file)) == []
    assert engine.get("acme").company == 'Acme, "the" firm'


def test_rows_that_are_no_csv_or_too_short_or_too_long_are_named_by_their_line(engine: Engine) -> None:
    text = ["id,company,owners,state,opened_at\n", "a,b\n", "a,b,c,d,e,f\n", 'a,"b"c,d,e,f\n', 'a,"open\n', "more\n"]
    report = import_accounts(engine, text)
    assert [(bad.line, bad.column) for bad in report.bad] == [(2, None), (3, None), (4, None), (5, None)]
    assert "has 2 cells, the header has 5" in str(report.bad[0])
    assert "is not CSV" in str(report.bad[3])


def test_instants_in_any_time_zone_are_the_same_instant(engine: Engine) -> None:
    load(engine, {**PAID, "period_ends_at": "2026-01-15T02:00:00.5+02:00"})
    assert engine.get("acme").period_ends_at == datetime(2026, 1, 15, 0, 0, 0, 500_000, tzinfo=UTC)


def test_one_bad_row_keeps_everything_out(engine: Engine) -> None:
    report = load(engine, PAID, {**FREE, "id": "beta"}, {**FREE, "id": "gamma", "free_since": ""})
    assert report.imported == 0 and report.bad_rows == 1 and report.rows == 3
    assert sum(engine.summary().values()) == 0


def test_skip_bad_imports_the_others_and_the_mended_rejects_can_be_imported(engine: Engine, tmp_path: Path) -> None:
    file, rejects = tmp_path / "accounts.csv", tmp_path / "accounts.rejects.csv"
    file.write_text("".join(lines(PAID, {**FREE, "id": "beta", "company": "=1+1", "free_since": "soon"})))
    report = import_accounts(engine, file, skip_bad=True)
    assert (report.imported, report.bad_rows, report.rejects) == (1, 1, rejects)
    (row,) = csv.DictReader(rejects.open(encoding="utf-8", newline=""))
    assert row["company"] == "'=1+1" and row["rejected_line"] == "3"
    assert row["rejected_because"].startswith("free_since: is not a date")
    assert rejects.stat().st_mode & 0o077 == 0
    rejects.write_text(rejects.read_text().replace("soon", "2025-06-01"))
    assert reasons(import_accounts(engine, rejects)) == []
    assert engine.get("beta").company == "=1+1"


def test_rejects_never_overwrite_the_source(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "accounts.csv"
    file.write_text("".join(lines(PAID)))
    with pytest.raises(InvalidInput, match="overwrite"):
        import_accounts(engine, file, skip_bad=True, rejects=file)


@pytest.mark.parametrize("start", FORMULA)
def test_no_cell_of_the_rejects_begins_like_a_formula(start: str) -> None:
    assert neutral(f"{start}cmd") == f"'{start}cmd"


def test_formula_like_text_is_data_and_stays_as_it_is(engine: Engine) -> None:
    load(engine, {**PAID, "company": "-Dash GmbH"})
    assert engine.get("acme").company == "-Dash GmbH"


def test_a_dry_run_reports_the_same_and_writes_nothing(engine: Engine, tmp_path: Path) -> None:
    report = load(engine, PAID, {**FREE, "id": "beta"}, dry_run=True)
    assert (report.imported, report.dry_run) == (2, True)
    assert sum(engine.summary().values()) == 0
    assert load(engine, {**PAID, "plan": ""}, dry_run=True).bad_rows == 1


def test_the_same_file_again_changes_nothing_even_when_accounts_have_moved_on(
    engine: Engine, clock: ManualClock
) -> None:
    rows = [{**row, "id": f"a-{state}"} for state, row in EVERY_STATE.items()]
    assert load(engine, *rows).imported == 8
    engine.run_until(NOW + timedelta(days=300))
    before = {account.id: account.as_dict() for account in engine.accounts()}
    report = load(engine, *rows)
    assert (report.imported, report.unchanged, reasons(report)) == (0, 8, [])
    assert {account.id: account.as_dict() for account in engine.accounts()} == before


def test_the_same_facts_in_other_words_are_unchanged(engine: Engine) -> None:
    load(engine, PAID)
    reordered = dict(reversed({**PAID, "period_ends_at": "2026-01-15T01:00:00+01:00", "held_at": ""}.items()))
    assert load(engine, reordered).unchanged == 1


def test_an_id_with_other_facts_is_bad_in_the_file_and_in_the_database(engine: Engine) -> None:
    report = load(engine, PAID, {**PAID, "company": "Other"})
    assert reasons(report) == ["line 3, id: exists already with other facts; an import changes no account."]
    load(engine, PAID)
    assert load(engine, {**PAID, "company": "Other"}).bad_rows == 1
    engine.open_account("opened", company="Opened", owners=["o@opened.test"])
    assert load(engine, {**PAID, "id": "opened"}).bad_rows == 1


def test_an_id_is_known_again_in_a_later_batch_of_the_same_file(engine: Engine) -> None:
    many = [{**PAID, "id": f"a{n}"} for n in range(BATCH + 1)]
    report = load(engine, *many, {**PAID, "id": "a0"}, {**PAID, "id": "a1", "company": "Other"}, skip_bad=True)
    assert (report.imported, report.unchanged, report.bad_rows) == (BATCH + 1, 1, 1)
    assert engine.get("a1").company == "Acme Ltd"


@pytest.mark.parametrize("company", ["\\N", "\\.", "back\\tslash", "NULL", "per % cent", "{x}", "'quoted'", "Çelik"])
def test_text_that_means_something_to_a_database_is_kept_as_it_is(engine: Engine, company: str) -> None:
    quoted = {**PAID, "company": f'"{company}"', "legal_holds": "DOMAIN\\case;NULL"}
    assert reasons(load(engine, quoted, {**FREE, "id": "beta"})) == []
    assert engine.get("acme").company == company and set(engine.get("acme").cases) == {"DOMAIN\\case", "NULL"}


def test_a_report_holds_a_thousand_problems_and_counts_the_others(engine: Engine) -> None:
    report = load(engine, *({**PAID, "id": f"a{n}", "plan": "gold"} for n in range(1200)))
    assert (len(report.bad), report.problems, report.bad_rows) == (1000, 1200, 1200)


def test_progress_counts_rows(engine: Engine) -> None:
    heard: list[int] = []
    load(engine, *({**PAID, "id": f"a{n}"} for n in range(1500)), on_progress=heard.append)
    assert heard == [1000, 1500]


def test_checks_settled_per_shape_agree_with_the_rules_and_terms_themselves() -> None:
    """Rows of the example with cells blanked or swapped: the short cut finds what the definition finds."""
    policy, pick = Policy(), random.Random(7)
    with EXAMPLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    reader, good, bad = RowReader(policy, NOW), 0, 0
    for example in rows * 4:
        cells = dict(example)
        for column in pick.sample(sorted(set(cells) - set(REQUIRED)), 2):
            cells[column] = pick.choice(["", cells[column], pick.choice(rows)[column]])
        row = reader.read(cells)
        broken = [rule for rule in RULES if evaluate(rule.test, read_at_now(row.columns, policy)) is False]
        assert bool(broken or row.columns["plan"] is None) is bool(row.problems), (cells, row.problems)
        assert row.columns["due_at"] == due(SimpleNamespace(**row.columns), NOW, policy)
        for column, where, value in DERIVED:
            if not cells.get(column) and holds(where, read_at_now(row.columns, policy)):
                assert row.columns[column] == evaluate(value, read_at_now(row.columns, policy)), (cells, column)
        good, bad = good + (not row.problems), bad + bool(row.problems)
    assert good > 200 and bad > 200


def read_at_now(columns: dict[str, Any], policy: Policy) -> dict[str, Any]:
    return {"account": columns, "now": NOW, "policy": policy}


# --- What becomes of them ------------------------------------------------------------------------


def steps(engine: Engine, account_id: str = "acme") -> list[tuple[str, str, int]]:
    """What happened after the import: event, step, and the day."""
    return [(e.event, e.step, (e.at - NOW).days) for e in engine.history(account_id)[1:]]


def test_an_account_long_on_hold_gets_its_notice_first(engine: Engine) -> None:
    load(engine, {**HOLD, "trial_ends_at": "2025-09-23"})
    engine.run_until(NOW + timedelta(days=20))
    assert steps(engine)[:3] == [
        ("cancel_expired_trial", "remind", 0),
        ("cancel_expired_trial", "notice", 0),
        ("cancel_expired_trial", "fire", 14),
    ]


def test_an_account_long_past_its_deletion_date_is_reminded_first(engine: Engine, engine_erased: list[Task]) -> None:
    load(engine, LONG_AGO)
    engine.run_until(NOW + timedelta(days=7) - timedelta(microseconds=1))
    assert engine_erased == [] and engine.get("acme").state is State.ACCESS_REVOKED
    engine.run_until(NOW + timedelta(days=7))
    assert steps(engine)[:3] == [
        ("delete_content", "remind", 0),
        ("delete_content", "notice", 0),
        ("delete_content", "request", 7),
    ]


def test_an_imported_legal_hold_keeps_content_until_it_is_released(engine: Engine, engine_erased: list[Task]) -> None:
    load(engine, {**LONG_AGO, "legal_holds": "2025-7; 2025-9"})
    engine.run_until(NOW + timedelta(days=100))
    assert engine_erased == [] and engine.get("acme").cases == ("2025-9", "2025-7")
    admin = Actor.admin("root")
    engine.place_hold("acme", actor=admin, reason="one more", case="2026-1")
    for case in ("2025-7", "2025-9", "2026-1"):
        engine.release_hold("acme", actor=admin, reason="settled", case=case)
    engine.run_until(NOW + timedelta(days=120))
    assert [task.effect for task in engine_erased] == ["delete_content", "purge_backups"]


def test_a_suspended_account_does_not_come_back_by_a_detour(engine: Engine) -> None:
    load(engine, {**REVOKED, "suspended_from": "active", "access_ends_at": "2025-12-23"})
    engine.fire("acme", "reactivate", actor=Actor.owner("ann@acme.test"))
    assert engine.get("acme").freeze_reason == "suspension"


def test_every_imported_life_goes_on_to_a_rest_with_nobody_harmed(engine: Engine, engine_erased: list[Task]) -> None:
    header, *rows = EXAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)
    import_accounts(engine, [header, *rows[::3]])
    promised = {a.id: a.delete_content_at for a in engine.accounts() if a.delete_content_at}
    engine.run_until(NOW + timedelta(days=600))
    for account in engine.accounts():
        entries = engine.history(account.id)
        assert [entry.number for entry in entries] == list(range(1, account.version + 1))
        for entry in entries[1:]:
            _assert_noticed(entries, entry)
        if account.content_deleted_at is not None:
            assert account.content_deleted_at >= account.cancelled_at + timedelta(days=30)
            assert account.content_deleted_at >= promised.get(account.id, account.content_deleted_at)
    assert {a.state for a in engine.accounts()} <= {State.ACTIVE, State.FROZEN, State.ACCESS_REVOKED, State.PURGED}
    assert all(a.legal_holds for a in engine.accounts(State.ACCESS_REVOKED))


def _assert_noticed(entries: Iterable[Any], deed: Any) -> None:
    """Cancellations by the company come two weeks after a notice, deletions one week."""
    lead = {("cancel_expired_trial", "fire"): 14, ("cancel_unpaid", "fire"): 14, ("cancel_inactive", "fire"): 14,
            ("delete_content", "request"): 7}.get((deed.event, deed.step))  # fmt: skip
    if lead is not None:
        counts = {deed.event, "revoke_access"} if deed.event == "delete_content" else {deed.event}
        assert any(
            e.step == "notice" and e.event in counts and e.at + timedelta(days=lead) <= deed.at for e in entries
        ), deed


def test_a_purged_account_can_do_nothing(engine: Engine) -> None:
    load(engine, PURGED)
    assert engine.get("acme").due_at is None
    with pytest.raises(Refused):
        engine.fire("acme", "reactivate", actor=Actor.admin("root"))


# --- Size ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_little_memory(sqlite_url: str) -> None:
    program = textwrap.dedent(
        f"""
        import resource
        from lifecycle import Engine
        from lifecycle.importer import import_accounts

        def rows(count):
            yield "id,company,owners,state,opened_at,trial_ends_at,held_at\\n"
            for n in range(count):
                yield f"a{{n}},Company {{n}},o{{n}}@c{{n}}.test,on_hold,2025-10-01,2025-11-01,2025-11-01\\n"

        engine = Engine({sqlite_url!r})
        engine.migrate()
        import_accounts(engine, rows(2_000), dry_run=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report = import_accounts(engine, rows(100_000))
        print(report.imported, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported, kilobytes = map(int, done.stdout.split())
    assert imported == 100_000
    assert kilobytes < 30_000


def test_the_columns_and_the_documentation_name_the_same() -> None:
    text = (Path(__file__).parent.parent / "docs" / "import.md").read_text()
    table = text[text.index("| Column |") : text.index("## What is left out")]
    documented = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert documented == set(COLUMNS)
