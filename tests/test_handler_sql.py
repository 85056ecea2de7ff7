"""The handler that erases rows of the customer's own database: exactly an account's, and never by half."""

import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine, event, make_url, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from lifecycle import Engine, InvalidInput, Task
from lifecycle.columns import metadata
from lifecycle.handlers import sql as sql_module
from lifecycle.handlers import sql_tables
from lifecycle.handlers.sql import ROUNDS, Sql, SqlFailed
from lifecycle.handlers.sql_tables import Refusal
from lifecycle.task import Found, Receipt, Undeliverable
from tests.conftest import SOAK

pytestmark = pytest.mark.empty

#: Ids that a careless comparison takes for each other.
LOOKALIKES = ("acme", "ACME", "Acme", "acme2", "acm", "acme.", "acme:", "a_me", "a%", "0", "00", "1e3", "1000")


def task(account_id: str) -> Task:
    return Task(1, account_id, "delete_content", {}, 1, f"{account_id}:1:delete_content")


def run(url: str, *statements: str, rows: Sequence[Mapping[str, Any]] | None = None) -> Any:
    """Run statements in one transaction of another connection; the rows of the last one, if it has any."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(text(statement), rows)
        return result.all() if result.returns_rows else []


def count(url: str, table: str, column: str = "account") -> Counter[str]:
    return Counter(dict(run(url, f"SELECT {column}, count(*) FROM {table} GROUP BY {column}")))


def fill(url: str, table: str, *accounts: str) -> None:
    """One row for each of the accounts, numbered on."""
    (start,) = run(url, f"SELECT coalesce(max(id), 0) FROM {table}")[0]
    numbered = [{"id": start + n, "account": account} for n, account in enumerate(accounts, 1)]
    run(url, f"INSERT INTO {table} (id, account) VALUES (:id, :account)", rows=numbered)


def receipt(answer: object) -> tuple[Found, int]:
    said = Receipt.read(str(answer))
    assert said is not None and said.unit == "rows"
    return said.outcome, said.count


@pytest.fixture
def erasing() -> Iterator[Callable[..., Sql]]:
    """Makes handlers, and closes them."""
    made: list[Sql] = []

    def make(*arguments: Any, **options: Any) -> Sql:
        made.append(Sql(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def notes(url: str) -> str:
    """A database with one table."""
    run(url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account VARCHAR(64))")
    return url


Erasing = Callable[..., Sql]


# --- What goes, and what stays -------------------------------------------------------------------


def test_an_accounts_rows_go_from_all_tables_and_the_receipt_counts_them(notes: str, erasing: Erasing) -> None:
    run(notes, "CREATE TABLE files (id INTEGER PRIMARY KEY, account TEXT)")
    fill(notes, "notes", "acme", "acme", "bold")
    fill(notes, "files", "bold", "acme")
    answer = erasing(notes, {"files": "account", "notes": "account"}, name="shop")(task("acme"))
    assert Receipt.read(str(answer)) == Receipt("shop", Found.ERASED, 3, "rows")
    assert (count(notes, "notes"), count(notes, "files")) == ({"bold": 1}, {"bold": 1})


def test_an_account_without_rows_is_absent_and_so_is_one_that_was_erased_before(notes: str, erasing: Erasing) -> None:
    fill(notes, "notes", "acme", "bold")
    erase = erasing(notes, {"notes": "account"})
    assert receipt(erase(task("cold"))) == (Found.ABSENT, 0)
    assert [receipt(erase(task("acme"))) for _ in range(2)] == [(Found.ERASED, 1), (Found.ABSENT, 0)]
    assert count(notes, "notes") == {"bold": 1}


def test_by_default_the_store_is_called_as_the_database_is(notes: str, erasing: Erasing) -> None:
    said = Receipt.read(str(erasing(notes, {"notes": "account"})(task("acme"))))
    assert said is not None and said.store == Path(str(make_url(notes).database)).name


def test_neighbours_that_look_alike_keep_their_rows(notes: str, erasing: Erasing) -> None:
    fill(notes, "notes", *LOOKALIKES)
    erase = erasing(notes, {"notes": "account"})
    for number, account in enumerate(LOOKALIKES, 1):
        assert receipt(erase(task(account))) == (Found.ERASED, 1)
        assert count(notes, "notes") == Counter(LOOKALIKES[number:])


#: A type that compares as the extension of the same name does, which a small server lacks.
CITEXT = (
    "CREATE TYPE citext",
    "CREATE FUNCTION citextin(cstring) RETURNS citext LANGUAGE internal IMMUTABLE AS 'textin'",
    "CREATE FUNCTION citextout(citext) RETURNS cstring LANGUAGE internal IMMUTABLE AS 'textout'",
    "CREATE TYPE citext (INPUT = citextin, OUTPUT = citextout, LIKE = text, COLLATABLE = true)",
    "CREATE CAST (citext AS text) WITHOUT FUNCTION AS IMPLICIT",
    "CREATE CAST (text AS citext) WITHOUT FUNCTION AS ASSIGNMENT",
    "CREATE CAST (varchar AS citext) WITHOUT FUNCTION AS ASSIGNMENT",
    "CREATE FUNCTION citext_eq(citext, citext) RETURNS bool LANGUAGE sql AS 'SELECT lower($1::text) = lower($2::text)'",
    "CREATE OPERATOR = (LEFTARG = citext, RIGHTARG = citext, FUNCTION = citext_eq)",
    "CREATE DOMAIN char_of_20 AS CHAR(20)",
    "CREATE DOMAIN loose AS citext",
)


def test_a_column_that_compares_loosely_is_compared_exactly(url: str, erasing: Erasing) -> None:
    if url.startswith("sqlite"):
        kinds = ["TEXT COLLATE NOCASE", "VARCHAR(64) COLLATE RTRIM", "CHAR(20)"]
    else:
        run(url, *CITEXT)
        kinds = ["CHAR(20)", "char_of_20", "citext", "loose"]
    for number, kind in enumerate(kinds):
        table = f"notes_{number}"
        run(url, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, account {kind})")
        fill(url, table, *LOOKALIKES, "acme  ")
        if kind in ("TEXT COLLATE NOCASE", "citext"):
            assert run(url, f"SELECT count(*) FROM {table} WHERE account = 'aCME'") == [(3,)], "it does compare loosely"
        padded = kind.lower().startswith("char") and len(kinds) == 4  # PostgreSQL: white space at the end is no value
        answers = erasing(url, {table: "account"}, chunk=2).many([task("acme"), task("00")])
        assert [receipt(one) for one in answers] == [(Found.ERASED, 1 + padded), (Found.ERASED, 1)]
        left = Counter(account for (account,) in run(url, f"SELECT CAST(account AS text) FROM {table}"))
        assert left == Counter(LOOKALIKES) - Counter(["acme", "00"]) + Counter([] if padded else ["acme  "])


@pytest.mark.postgres
def test_the_index_on_the_accounts_column_is_used(postgresql_url: str, erasing: Erasing) -> None:
    for kind in ("CHAR(20)", "VARCHAR(64)", "TEXT"):
        run(
            postgresql_url,
            "DROP TABLE IF EXISTS notes",
            f"CREATE TABLE notes (id INTEGER, account {kind})",
            "INSERT INTO notes SELECT n, 'a' || n FROM generate_series(1, 10000) n",
            "CREATE INDEX notes_by_account ON notes (account)",
        )
        run(postgresql_url, "ANALYZE notes")
        erase = erasing(postgresql_url, {"notes": "account"})
        assert receipt(erase(task("a77"))) == (Found.ERASED, 1)
        erase.close()  # a server's process publishes what it counted when it ends
        scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'notes_by_account'"
        deadline = monotonic() + 10
        while run(postgresql_url, scans) == [(0,)] and monotonic() < deadline:
            run(postgresql_url, "SELECT pg_sleep(0.02)")
        assert run(postgresql_url, scans)[0][0] > 0, kind


ids = st.sampled_from(LOOKALIKES)


@pytest.fixture
def loose_notes(url: str) -> str:
    collation = " COLLATE NOCASE" if url.startswith("sqlite") else ""
    for table in ("notes", "files"):
        run(url, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, account VARCHAR(64){collation})")
    return url


def test_only_rows_of_exactly_the_erased_accounts_are_gone(loose_notes: str, erasing: Erasing) -> None:
    handlers = [erasing(loose_notes, {"notes": "account", "files": "account"}, chunk=size) for size in (1, 2, 5, 1000)]

    @settings(max_examples=15 * SOAK)
    @given(st.lists(ids, max_size=25), st.lists(ids, max_size=10), st.lists(ids, max_size=6), st.sampled_from(handlers))
    def holds(notes: list[str], files: list[str], gone: list[str], erase: Sql) -> None:
        run(loose_notes, "DELETE FROM notes", "DELETE FROM files")
        for table, accounts in (("notes", notes), ("files", files)):
            if accounts:
                fill(loose_notes, table, *accounts)
        answers = erase.many([task(one) for one in gone])
        had = Counter(notes + files)
        assert [receipt(one)[1] for one in answers] == [had[one] for one in gone]
        for table, accounts in (("notes", notes), ("files", files)):
            left = Counter(account for (account,) in run(loose_notes, f"SELECT account FROM {table}"))
            assert left == Counter(one for one in accounts if one not in gone)

    holds()


def test_one_table_may_name_accounts_in_two_columns(url: str, erasing: Erasing) -> None:
    run(url, "CREATE TABLE mail (id INTEGER PRIMARY KEY, sender TEXT, recipient TEXT)")
    run(url, "INSERT INTO mail VALUES (1, 'acme', 'bold'), (2, 'bold', 'acme'), (3, 'bold', 'bold'), (4, 'acme', NULL)")
    answer = erasing(url, [("mail", "sender"), ("mail", "recipient")])(task("acme"))
    assert receipt(answer) == (Found.ERASED, 3)
    assert run(url, "SELECT id FROM mail") == [(3,)]


def test_names_are_taken_as_they_are_written(url: str, erasing: Erasing) -> None:
    run(url, 'CREATE TABLE "Order" ("group" TEXT, "The Account" TEXT)')
    run(url, """INSERT INTO "Order" VALUES ('acme', 'bold'), ('bold', 'acme')""")
    erasing(url, {"Order": "The Account"})(task("acme"))
    assert run(url, 'SELECT "group" FROM "Order"') == [("acme",)]
    erasing(url, {"Order": "group"})(task("acme"))
    assert run(url, 'SELECT "group" FROM "Order"') == []


@pytest.mark.postgres
def test_a_table_in_another_schema_is_not_taken_for_its_namesake(postgresql_url: str, erasing: Erasing) -> None:
    for name in ("public", "shop"):
        run(postgresql_url, f"CREATE SCHEMA IF NOT EXISTS {name}", f"CREATE TABLE {name}.notes (id INT, account TEXT)")
        fill(postgresql_url, f"{name}.notes", "acme")
    erasing(postgresql_url, {"shop.notes": "account"})(task("acme"))
    assert (count(postgresql_url, "shop.notes"), count(postgresql_url, "public.notes")) == ({}, {"acme": 1})


@pytest.mark.postgres
def test_a_column_of_uuids_is_searched_only_for_ids_that_are_written_as_one(
    postgresql_url: str, erasing: Erasing
) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    run(postgresql_url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account UUID)")
    fill(postgresql_url, "notes", first, second, second)
    written = [second, second.upper(), "{" + second + "}", "acme"]
    good, *bad = erasing(postgresql_url, {"notes": "account"}).many([task(one) for one in written])
    assert receipt(good) == (Found.ERASED, 2)
    assert [type(one) for one in bad] == [Undeliverable] * 3
    assert count(postgresql_url, "notes", "account::text") == {first: 1}


def test_what_can_be_no_accounts_id_is_not_looked_for(notes: str, erasing: Erasing) -> None:
    strange = ("", " ", "acme ", "\tacme")
    fill(notes, "notes", "acme", *strange)
    answers = erasing(notes, {"notes": "account"}).many([task(one) for one in strange])
    assert [type(one) for one in answers] == [Undeliverable] * 4
    assert count(notes, "notes").total() == 5


def test_erased_rows_can_no_longer_be_found_in_the_file(sqlite_url: str, erasing: Erasing) -> None:
    run(sqlite_url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT, body TEXT)")
    run(sqlite_url, "INSERT INTO notes VALUES (1, 'acme', 'the secret of acme'), (2, 'bold', 'kept')")
    file = Path(str(make_url(sqlite_url).database))
    assert b"the secret of acme" in file.read_bytes()
    erasing(sqlite_url, {"notes": "account"})(task("acme"))
    assert b"the secret" not in file.read_bytes()


# --- Several accounts at once --------------------------------------------------------------------


def test_a_batch_has_one_answer_per_task_in_their_order(notes: str, erasing: Erasing) -> None:
    fill(notes, "notes", *["acme"] * 3, "bold", "cold", "cold")
    erase = erasing(notes, {"notes": "account"}, chunk=2)
    answers = erase.many([task(one) for one in ("cold", "none", "acme", "cold")])
    assert [receipt(one) for one in answers] == [
        (Found.ERASED, 2),
        (Found.ABSENT, 0),
        (Found.ERASED, 3),
        (Found.ERASED, 2),
    ]
    assert count(notes, "notes") == {"bold": 1}
    assert erase.many([]) == []


def test_a_batch_needs_few_statements(notes: str, erasing: Erasing) -> None:
    accounts = [f"a{n}" for n in range(150)]
    fill(notes, "notes", *accounts * 2, "other")
    erase = erasing(notes, {"notes": "account"})
    erase(task("nobody"))
    statements = deletions(erase)
    assert {receipt(one) for one in erase.many([task(one) for one in accounts])} == {(Found.ERASED, 2)}
    assert len(statements) == 1
    assert count(notes, "notes") == {"other": 1}


def test_more_accounts_than_a_statement_takes_are_erased_in_groups(
    notes: str, erasing: Erasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_module, "LARGEST_GROUP", 3)
    accounts = [f"a{n}" for n in range(10)]
    fill(notes, "notes", *accounts)
    erase = erasing(notes, {"notes": "account"})
    statements = deletions(erase)
    assert {receipt(one) for one in erase.many([task(one) for one in accounts])} == {(Found.ERASED, 1)}
    assert len(statements) == 4 and not count(notes, "notes")


def test_accounts_that_can_be_erased_do_not_wait_for_one_that_can_not(family: str, erasing: Erasing) -> None:
    fill(family, "parent", *[f"a{n}" for n in range(9)])
    run(family, "INSERT INTO child SELECT 1, id, 'someone' FROM parent WHERE account = 'a5'")
    answers = erasing(family, {"parent": "account"}).many([task(f"a{n}") for n in range(9)])
    assert isinstance(answers.pop(5), SqlFailed)
    assert {receipt(one) for one in answers} == {(Found.ERASED, 1)}
    assert count(family, "parent") == {"a5": 1}


# --- Chunks, crashes and company -----------------------------------------------------------------


def deletions(erase: Sql) -> list[str]:
    """Filled with every DELETE of the handler's from now on."""
    seen: list[str] = []

    @event.listens_for(erase._engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            seen.append(statement)

    return seen


def between(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> None:
    """Have ``what`` done after every chunk, in the handler's pause."""
    monkeypatch.setattr(sql_module, "sleep", lambda _seconds: what())


def test_ten_thousand_rows_go_in_transactions_of_a_chunk(
    notes: str, erasing: Erasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(notes, "notes", *["acme", "bold"] * 10_000)
    left: list[int] = []
    between(monkeypatch, lambda: left.append(count(notes, "notes")["acme"]))
    assert receipt(erasing(notes, {"notes": "account"})(task("acme"))) == (Found.ERASED, 10_000)
    assert left == [*range(9000, -1, -1000)], "each chunk is committed before the next one"
    assert count(notes, "notes") == {"bold": 10_000}


def test_after_every_chunk_there_is_a_pause(notes: str, erasing: Erasing, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(sql_module, "sleep", slept.append)
    fill(notes, "notes", *["acme"] * 5)
    erasing(notes, {"notes": "account"}, chunk=2, pause=timedelta(milliseconds=20))(task("acme"))
    assert slept == [0.02] * 3


def test_after_a_crash_in_the_middle_the_next_run_erases_the_rest(
    notes: str, erasing: Erasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerFailure(BaseException):
        pass

    def fail() -> None:
        raise PowerFailure

    fill(notes, "notes", *["acme"] * 25, "bold")
    between(monkeypatch, fail)
    with pytest.raises(PowerFailure):
        erasing(notes, {"notes": "account"}, chunk=10)(task("acme"))
    monkeypatch.undo()
    assert receipt(erasing(notes, {"notes": "account"}, chunk=10)(task("acme"))) == (Found.ERASED, 15)
    assert count(notes, "notes") == {"bold": 1}


def test_rows_that_somebody_writes_meanwhile_are_erased_too(
    notes: str, erasing: Erasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    latecomers = iter(["acme", "bold", "acme"])

    def write() -> None:
        for account in latecomers:
            fill(notes, "notes", account)
            return

    fill(notes, "notes", *["acme"] * 4)
    between(monkeypatch, write)
    assert receipt(erasing(notes, {"notes": "account"}, chunk=2)(task("acme"))) == (Found.ERASED, 6)
    assert count(notes, "notes") == {"bold": 1}


def test_somebody_who_never_stops_writing_is_reported_and_nothing_is_confirmed(
    notes: str, erasing: Erasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks: list[int] = []

    def write() -> None:
        chunks.append(1)
        fill(notes, "notes", *["acme"] * 10)

    fill(notes, "notes", *["acme"] * 10)
    between(monkeypatch, write)
    with pytest.raises(SqlFailed, match="keeps writing rows of the account to notes"):
        erasing(notes, {"notes": "account"}, chunk=10)(task("acme"))
    assert ROUNDS <= len(chunks) <= 2**ROUNDS
    monkeypatch.undo()
    assert receipt(erasing(notes, {"notes": "account"})(task("acme")))[0] is Found.ERASED


def test_a_database_that_another_keeps_locked_is_tried_again_later(sqlite_url: str, erasing: Erasing) -> None:
    run(sqlite_url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT)")
    fill(sqlite_url, "notes", "acme")
    erase = erasing(f"{sqlite_url}?timeout=0.05", {"notes": "account"})
    other = create_engine(sqlite_url, poolclass=NullPool)
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(SqlFailed, match="SQLITE_BUSY") as caught:
            erase(task("acme"))
    assert not isinstance(caught.value, Refusal), "no use in asking for each account alone"
    assert receipt(erase(task("acme"))) == (Found.ERASED, 1)


@pytest.mark.postgres
def test_nobody_waits_for_ever_for_a_lock(
    postgresql_url: str, erasing: Erasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_module, "_POSTGRESQL_SETTINGS", text("SELECT set_config('lock_timeout', '50ms', true)"))
    run(postgresql_url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT)")
    fill(postgresql_url, "notes", "acme")
    erase = erasing(postgresql_url, {"notes": "account"})
    other = create_engine(postgresql_url, poolclass=NullPool)
    with other.connect() as connection:
        connection.execute(text("SELECT * FROM notes FOR UPDATE"))
        with pytest.raises(SqlFailed, match="LockNotAvailable 55P03"):
            erase(task("acme"))
    assert receipt(erase(task("acme"))) == (Found.ERASED, 1)


# --- Tables of every kind ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["(a INT, b TEXT, account TEXT)", "(rowid TEXT, account TEXT)"])
def test_a_table_without_a_primary_key_is_erased_in_chunks_too(url: str, kind: str, erasing: Erasing) -> None:
    run(url, f"CREATE TABLE notes {kind}")
    run(url, "INSERT INTO notes (account) VALUES ('acme'), ('bold'), ('acme'), ('acme')")
    erase = erasing(url, {"notes": "account"}, chunk=2)
    statements = deletions(erase)
    assert receipt(erase(task("acme"))) == (Found.ERASED, 3)
    assert len(statements) == 2 and count(url, "notes") == {"bold": 1}


def test_a_table_without_row_ids_is_erased_by_its_primary_key(sqlite_url: str, erasing: Erasing) -> None:
    run(sqlite_url, "CREATE TABLE notes (account TEXT, day DATE, PRIMARY KEY (account, day)) WITHOUT ROWID")
    run(sqlite_url, "INSERT INTO notes VALUES ('acme', 1), ('acme', 'x'), ('acme', '2026-01-01'), ('bold', 1)")
    assert receipt(erasing(sqlite_url, {"notes": "account"}, chunk=2)(task("acme"))) == (Found.ERASED, 3)
    assert count(sqlite_url, "notes") == {"bold": 1}


@pytest.mark.postgres
def test_rows_of_other_accounts_at_the_same_place_of_another_partition_stay(
    postgresql_url: str, erasing: Erasing
) -> None:
    run(postgresql_url, "CREATE TABLE notes (part INT, account TEXT) PARTITION BY LIST (part)")
    for part in (1, 2, 3):
        run(postgresql_url, f"CREATE TABLE notes_{part} PARTITION OF notes FOR VALUES IN ({part})")
    run(postgresql_url, "INSERT INTO notes SELECT n % 3 + 1, 'a' || n % 2 FROM generate_series(1, 60) n")
    assert receipt(erasing(postgresql_url, {"notes": "account"}, chunk=7)(task("a0"))) == (Found.ERASED, 30)
    assert count(postgresql_url, "notes") == {"a1": 30}


def test_rows_that_are_each_others_parents_go_together(url: str, erasing: Erasing) -> None:
    run(url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT, above INTEGER REFERENCES notes)")
    run(url, "INSERT INTO notes VALUES (1, 'acme', NULL), (2, 'acme', 1), (3, 'acme', 2), (4, 'acme', 1), (5, 'b', 5)")
    assert receipt(erasing(url, {"notes": "account"}, chunk=2)(task("acme"))) == (Found.ERASED, 4)
    assert count(url, "notes") == {"b": 1}


class Plain(SQLiteDialect_pysqlite):
    """A database of which the handler knows nothing: no row ids, no RETURNING, no collation by name."""

    name = "plain"
    driver = "plain"
    delete_returning = False
    supports_statement_cache = True


@pytest.fixture
def plain_url(sqlite_url: str) -> str:
    registry.register("plain", __name__, "Plain")
    run(
        sqlite_url,
        "CREATE TABLE notes (id INTEGER, part TEXT, account TEXT COLLATE NOCASE, PRIMARY KEY (id, part))",
        "CREATE TABLE files (id INTEGER PRIMARY KEY, account TEXT)",
        "CREATE TABLE loose (id INTEGER, account TEXT)",
        "INSERT INTO notes VALUES (1, 'a', 'acme'), (1, 'b', 'acme'), (2, 'a', 'bold'), (2, 'b', 'acme')",
        "INSERT INTO files VALUES (1, 'acme'), (2, 'bold')",
    )
    return sqlite_url.replace("sqlite", "plain")


def test_on_a_database_that_nobody_thought_of_rows_go_by_primary_key(
    plain_url: str, sqlite_url: str, erasing: Erasing
) -> None:
    erase = erasing(plain_url, {"notes": "account", "files": "account"}, chunk=2)
    assert receipt(erase(task("acme"))) == (Found.ERASED, 4)
    assert receipt(erase(task("acme"))) == (Found.ABSENT, 0)
    assert (count(sqlite_url, "notes"), count(sqlite_url, "files")) == ({"bold": 1}, {"bold": 1})


def test_there_rows_that_only_resemble_the_account_are_an_error_and_stay(
    plain_url: str, sqlite_url: str, erasing: Erasing
) -> None:
    run(sqlite_url, "INSERT INTO notes VALUES (3, 'a', 'ACME')")
    answers = erasing(plain_url, {"notes": "account"}).many([task("acme"), task("bold")])
    with pytest.raises(SqlFailed, match="account only resembles the account's id"):
        raise answers[0]  # type: ignore[misc]
    assert receipt(answers[1]) == (Found.ERASED, 1)
    assert [account for (account,) in run(sqlite_url, "SELECT account FROM notes ORDER BY 1")] == ["acme"] * 3 + [
        "ACME"
    ]


def test_there_a_table_without_a_primary_key_is_refused(plain_url: str, erasing: Erasing) -> None:
    with pytest.raises(Undeliverable, match=r"main\.loose has no primary key"):
        erasing(plain_url, {"loose": "account"})(task("acme"))


# --- What is refused -----------------------------------------------------------------------------


@pytest.fixture
def family(url: str) -> str:
    run(
        url,
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, account TEXT)",
        "CREATE TABLE child (id INTEGER, parent INTEGER, account TEXT, "
        "CONSTRAINT child_of FOREIGN KEY (parent) REFERENCES parent (id))",
    )
    return url


def test_a_foreign_key_that_stands_against_it_is_named_without_any_data(family: str, erasing: Erasing) -> None:
    fill(family, "parent", "acme")
    run(family, "INSERT INTO child VALUES (1, 1, 'acme')")
    with pytest.raises(SqlFailed) as caught:
        erasing(family, {"parent": "account", "child": "account"})(task("acme"))
    shown = "".join(traceback.format_exception(caught.value))
    assert "erasing from" in shown and "parent" in shown and "child_of" in shown
    assert "acme" not in str(caught.value) and "Key (id)" not in shown and "[SQL" not in shown
    assert (count(family, "parent"), count(family, "child")) == ({"acme": 1}, {"acme": 1})


def test_children_before_parents_is_the_order_that_works(family: str, erasing: Erasing) -> None:
    fill(family, "parent", "acme", "acme")
    run(family, "INSERT INTO child VALUES (1, 1, 'acme'), (2, 2, 'acme')")
    assert receipt(erasing(family, {"child": "account", "parent": "account"})(task("acme"))) == (Found.ERASED, 4)


@pytest.mark.postgres
def test_a_constraint_that_is_checked_only_at_the_end_refuses_as_well(postgresql_url: str, erasing: Erasing) -> None:
    run(
        postgresql_url,
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, account TEXT)",
        "CREATE TABLE child (parent INTEGER CONSTRAINT late REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO parent VALUES (1, 'acme'), (2, 'bold')",
        "INSERT INTO child VALUES (1)",
    )
    answers = erasing(postgresql_url, {"parent": "account"}).many([task("acme"), task("bold")])
    assert isinstance(answers[0], SqlFailed) and "constraint late of public.child" in str(answers[0])
    assert receipt(answers[1]) == (Found.ERASED, 1)


def test_a_trigger_that_refuses_says_nothing_of_what_it_refuses(url: str, erasing: Erasing) -> None:
    run(url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT)")
    if url.startswith("sqlite"):
        run(
            url,
            "CREATE TRIGGER keep BEFORE DELETE ON notes WHEN old.id = 2 BEGIN SELECT RAISE(ABORT, 'Ann Smith'); END",
        )
    else:
        run(
            url,
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF old.id = 2 THEN RAISE 'Ann Smith'; END IF; RETURN old; END $$",
            "CREATE TRIGGER keep BEFORE DELETE ON notes FOR EACH ROW EXECUTE FUNCTION keep()",
        )
    fill(url, "notes", "bold", "acme")
    answers = erasing(url, {"notes": "account"}).many([task("acme"), task("bold")])
    assert isinstance(answers[0], SqlFailed)
    assert "Smith" not in "".join(traceback.format_exception(answers[0]))
    assert receipt(answers[1]) == (Found.ERASED, 1)


def test_a_name_that_the_database_does_not_know_is_an_error_that_lists_what_there_is(
    notes: str, erasing: Erasing
) -> None:
    fill(notes, "notes", "acme")
    for wrong, said in (
        (("nodes", "account"), r"There is no table 'nodes' in (main|public); it has notes\."),
        (("shop.notes", "account"), "There is no schema 'shop' in the database; it has .*(main|public)"),
        (("notes", "acount"), r"notes has no column 'acount'; it has account, id\."),
    ):
        with pytest.raises(SqlFailed, match=said):
            erasing(notes, [("notes", "account"), wrong])(task("acme"))
    assert count(notes, "notes") == {"acme": 1}, "nothing is erased before all tables are found"


def test_a_table_that_comes_back_is_erased_from(url: str, erasing: Erasing) -> None:
    run(url, "CREATE TABLE other (id INTEGER)")
    erase = erasing(url, {"notes": "account"})
    with pytest.raises(SqlFailed, match="it has other"):
        erase(task("acme"))
    run(url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT)")
    fill(url, "notes", "acme")
    assert receipt(erase(task("acme"))) == (Found.ERASED, 1)
    run(url, "DROP TABLE notes")
    with pytest.raises(SqlFailed, match="counting rows of notes"):
        erase(task("acme"))


def test_a_column_that_is_not_text_is_refused(url: str, erasing: Erasing) -> None:
    kinds = ["INTEGER", "BIGINT", "NUMERIC(10)", "DOUBLE PRECISION", "DATE", "TIMESTAMP", "BOOLEAN"]
    if url.startswith("postgresql"):
        run(url, "CREATE TYPE letter AS ENUM ('a', '1')")
        kinds += ["BYTEA", "JSONB", "letter", "TEXT[]"]
    for number, kind in enumerate(kinds):
        run(url, f"CREATE TABLE notes_{number} (id INTEGER PRIMARY KEY, account {kind})")
        with pytest.raises(Undeliverable, match=r"\.account is .*, which can't hold an account's id as it is written"):
            erasing(url, {f"notes_{number}": "account"})(task("1"))


@pytest.mark.parametrize("kind", ["", "STRING", "BLOB", "UUID"])
def test_sqlites_columns_of_no_certain_type_are_refused(sqlite_url: str, kind: str, erasing: Erasing) -> None:
    run(sqlite_url, f"CREATE TABLE notes (id INTEGER PRIMARY KEY, account {kind})")
    with pytest.raises(Undeliverable, match="name a column of text"):
        erasing(sqlite_url, {"notes": "account"})(task("1"))


def test_a_view_is_refused(notes: str, erasing: Erasing) -> None:
    run(notes, "CREATE VIEW seen AS SELECT * FROM notes")
    with pytest.raises(Undeliverable, match="seen is a view or a foreign table"):
        erasing(notes, {"seen": "account"})(task("acme"))


def test_the_engines_own_tables_are_refused_and_others_beside_them_are_not(url: str, erasing: Erasing) -> None:
    engine = Engine(url)
    engine.migrate()
    engine.open_account("acme", company="Acme Ltd", owners=["ann@acme.test"], plan="free")
    engine.close()
    assert frozenset(metadata.tables) == sql_tables.OWN
    for name, one in metadata.tables.items():
        column = next(iter(one.columns)).name
        with pytest.raises(Undeliverable, match=f"{name} is a table of the engine's own"):
            erasing(url, {name: column})(task("acme"))
    run(url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT)")
    fill(url, "notes", "acme")
    assert receipt(erasing(url, {"notes": "account"})(task("acme"))) == (Found.ERASED, 1)
    assert run(url, "SELECT id FROM account") == [("acme",)]


def test_a_customers_own_table_may_be_called_account(url: str, erasing: Erasing) -> None:
    run(url, "CREATE TABLE account (id TEXT PRIMARY KEY)", "INSERT INTO account VALUES ('acme'), ('bold')")
    assert receipt(erasing(url, {"account": "id"})(task("acme"))) == (Found.ERASED, 1)
    assert count(url, "account", "id") == {"bold": 1}


@pytest.mark.parametrize(
    "tables",
    [
        {},
        [],
        "notes",
        ["notes"],
        [("notes",)],
        {"": "a"},
        {"a.b.c": "a"},
        {".a": "a"},
        {"a b": "a"},
        {"a": " "},
        {'a"': "a"},
        {"a": 1},
        {"notes": "account"}.keys(),
        [7],
        7,
    ],
)
def test_malformed_tables_are_refused_at_once(tables: Any) -> None:
    with pytest.raises(InvalidInput, match=r"Name the tables|malformed|no pair"):
        Sql("sqlite:///customers.db", tables)


@pytest.mark.parametrize(
    "options", [{"chunk": 0}, {"chunk": 10**6}, {"chunk": "9"}, {"pause": timedelta(seconds=-1)}, {"pause": 1}]
)
def test_malformed_options_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"^{next(iter(options))} must be"):
        Sql("sqlite:///customers.db", {"notes": "account"}, **options)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense:secret", "can't be understood"),
        ("nobody://ann:secret@host/db", "can't be understood"),
        ("oracle+oracledb://ann:secret@host/db", "needs a driver that is not installed: oracledb"),
        ("postgresql+psycopg_async://ann:secret@host/db", "asynchronous"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_at_once_and_its_password_is_not_shown(url: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        Sql(url, {"notes": "account"})
    assert "secret" not in "".join(traceback.format_exception(caught.value))


# --- A database that can't be reached, or does not show everything --------------------------------


def test_a_server_that_can_not_be_reached_is_tried_again_and_its_password_is_not_shown(erasing: Erasing) -> None:
    url = "postgresql://ann:s3cret@localhost:1/shop?password=s3cret"
    answers = erasing(url, {"notes": "account"}).many([task("acme"), task("bold")])
    assert [type(one) for one in answers] == [SqlFailed] * 2
    shown = "".join(traceback.format_exception(answers[0]))  # type: ignore[call-overload]
    assert "localhost:1/shop can't be reached" in shown and "s3cret" not in shown


def test_a_file_that_is_not_there_is_an_error_and_is_not_made(sqlite_url: str, erasing: Erasing) -> None:
    with pytest.raises(SqlFailed, match="is not there; is its disk mounted"):
        erasing(sqlite_url, {"notes": "account"})(task("acme"))
    assert not Path(str(make_url(sqlite_url).database)).exists()


@pytest.mark.postgres
def test_a_server_that_goes_away_and_comes_back_is_found_again(postgresql_url: str, erasing: Erasing) -> None:
    run(postgresql_url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT)")
    erase = erasing(postgresql_url, {"notes": "account"})
    erase(task("acme"))
    run(
        postgresql_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    fill(postgresql_url, "notes", "acme")
    assert receipt(erase(task("acme"))) == (Found.ERASED, 1)


@pytest.fixture
def reader(postgresql_url: str) -> Iterator[str]:
    """The database as somebody sees it to whom row-level security hides all notes."""
    role = f"reader_{uuid.uuid4().hex}"
    run(
        postgresql_url,
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT)",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        "INSERT INTO notes VALUES (1, 'acme')",
        f"CREATE ROLE {role}",
        f"GRANT ALL ON notes TO {role}",
    )
    yield make_url(postgresql_url).update_query_dict({"options": f"-c role={role}"}).render_as_string(False)
    run(postgresql_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.postgres
def test_rows_that_a_policy_hides_are_not_taken_for_gone(reader: str, erasing: Erasing) -> None:
    assert run(reader, "SELECT count(*) FROM notes") == [(0,)], "they are hidden"
    with pytest.raises(SqlFailed, match="InsufficientPrivilege"):
        erasing(reader, {"notes": "account"})(task("acme"))


@pytest.mark.postgres
def test_a_server_that_only_reads_is_not_asked(postgresql_url: str, erasing: Erasing) -> None:
    run(postgresql_url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, account TEXT)")
    name = make_url(postgresql_url).database
    run(postgresql_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(SqlFailed, match=r"can't be reached: .*read-only"):
        erasing(postgresql_url, {"notes": "account"})(task("acme"))
