"""What all statements share: how keys reach them, and whose turn it is to write to SQLite."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Text, select, text

from lifecycle import Conflict
from lifecycle import database as database_module
from lifecycle.database import Database
from tests.conftest import BACKENDS

#: Writes one transaction after another, without a pause, until it is killed.
HASTY = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA busy_timeout=30000")
print(flush=True)
while True:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE counter SET n = n + 1")
    connection.execute("COMMIT")
"""


#: Whatever both databases can keep: PostgreSQL takes no NUL.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.sampled_from(
    ["NULL", '"', "\\", "{a,b}", " spaced ", "", "a\nb"]
)


@pytest.fixture(scope="module", params=BACKENDS)
def any_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Nothing is written to it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('database')}/empty.db"
    else:
        url = str(request.getfixturevalue("postgresql_server"))
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE counter (n INTEGER)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))
    yield database
    database.close()


@contextmanager
def hasty(database: Database) -> Iterator[None]:
    """Another process that is at it already."""
    command = [sys.executable, "-c", HASTY, str(database.url.database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def counted(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT n FROM counter")).scalar_one())


def test_a_writer_comes_to_its_turn_beside_a_process_that_writes_without_a_pause(database: Database) -> None:
    others = []
    with hasty(database):
        for _ in range(30):
            time.sleep(0.02)  # meanwhile the other, which has waited for this one, finds its pace again
            before = counted(database)
            with database.write() as connection:
                others.append(connection.execute(text("SELECT n FROM counter")).scalar_one() - before)
    assert max(others) < 10_000, "about a thousand pass at most; where SQLite itself waits, tens of thousands do"


@given(st.dictionaries(TEXT, st.none() | TEXT))
def test_keys_and_values_reach_a_statement_as_they_are(any_database: Database, pairs: dict[str, str | None]) -> None:
    table = any_database.given(pairs, Text(), Text())
    with any_database.read() as connection:
        assert {row.key: row.value for row in connection.execute(select(table.c.key, table.c.value))} == pairs
        keys = select(table.c.key).where(any_database.among(table.c.key))
        assert set(connection.scalars(keys, {"ids": any_database.ids(pairs)})) == set(pairs)


def test_who_waits_too_long_for_another_process_is_told_to_try_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_TIMEOUT_SECONDS", 0.05)
    with closing(sqlite3.connect(str(database.url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Conflict, match="try again"), database.write():
            pytest.fail("the other process still holds the lock")
        other.execute("COMMIT")
    with database.write() as connection:  # and its connection waits as before
        assert connection.execute(text("PRAGMA busy_timeout")).scalar_one() == 30_000
