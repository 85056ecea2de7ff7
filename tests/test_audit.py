"""The record can't be changed unseen: each attack on history, receipts and seals is refused, or noticed and named."""

import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from lifecycle import Actor, AuditSettings, Effect, Engine, ManualClock
from lifecycle.audit import KEPT, Audit, AuditReport, Discrepancy, export
from lifecycle.chain import Chain, each_seal
from lifecycle.cli import app
from lifecycle.doctor import Level, examine
from lifecycle.errors import InvalidInput
from lifecycle.metrics import exposed
from lifecycle.seal import GENESIS, SEALED, Head, Kind, Seal, Stream
from lifecycle.states import DESTRUCTIVE
from lifecycle.tables import RECORD
from tests.conftest import BACKENDS, START
from tests.tampering import unguarded

ANN = "ann@acme.test"
DAY = timedelta(days=1)
HISTORY, RECEIPT = Stream.HISTORY, Stream.RECEIPT
#: Adds an entry to the history of acme, under a number far from the others.
ENTRY = (
    "INSERT INTO history ({more}account_id, number, event, step, dest, at, actor, policy_version) "
    "SELECT {values}account_id, 1000, event, step, dest, at, actor, policy_version "
    "FROM history WHERE account_id = 'acme' AND number = 1"
)


on_sqlite = pytest.mark.parametrize("record", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("record", [BACKENDS[1]], indirect=True)
HANDLERS = dict.fromkeys(Effect, lambda task: f"done {task.idempotency_key}" if task.effect in DESTRUCTIVE else None)


def adding(id: int | None = None) -> str:
    return ENTRY.format(more="", values="") if id is None else ENTRY.format(more="id, ", values=f"{id}, ")


def url_of(engine: Engine) -> str:
    return engine.database.url.render_as_string(hide_password=False)


@contextmanager
def raw(url: str) -> Iterator[Connection]:
    """A transaction on a connection that the engine has not set up."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


class Undone(Exception):
    """Takes back what was done in a transaction."""


def after(engine: Engine, *statements: str) -> AuditReport:
    """What a check finds once the record was changed; all of it is undone."""
    reports: list[AuditReport] = []
    with suppress(Undone), engine.database.write() as connection, unguarded(connection):
        for statement in statements:
            assert connection.execute(text(statement)).rowcount > 0, statement
        reports.append(Audit(connection, lambda rows: None).run([]))
        raise Undone
    return reports[0]


def tamper(engine: Engine, *statements: str) -> None:
    """Change the record as whoever owns the database can."""
    with engine.database.write() as connection, unguarded(connection):
        for statement in statements:
            connection.execute(text(statement))


def value(engine: Engine, query: str) -> Any:
    with engine.database.read() as connection:
        return connection.scalar(text(query))


def found(report: AuditReport) -> list[tuple[Kind | None, Stream | None, str | None, int | None]]:
    """What does not fit: what happened, to a row of which stream, of whose account, by its number."""
    return [(one.kind, one.stream, one.account_id, one.number) for one in report.discrepancies]


def seals(engine: Engine) -> list[Seal]:
    with engine.database.read() as connection:
        return list(each_seal(connection))


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Seals of a few rows, so that there are several of each stream."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lifecycle.chain.MOST", 4)
        patch.setattr("lifecycle.chain._AT_ONCE", 2)
        yield


def lived(url: str) -> Engine:
    """Two accounts, one of them purged, and everything is sealed."""
    handlers = dict.fromkeys(
        Effect, lambda task: f"done {task.idempotency_key}" if task.effect in DESTRUCTIVE else None
    )
    engine = Engine(url, clock=ManualClock(START), handlers=handlers)
    engine.migrate()
    for name in ("acme", "beta"):
        engine.open_account(name, company="Acme", owners=[ANN], plan="free")
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + 61 * DAY)
    engine.seal()
    return engine


class Records:
    """Copies of a record that was lived once on each database."""

    def __init__(self, folder: Path, server: Callable[[], str]) -> None:
        self.folder, self.server = folder, server
        self.originals: dict[str, str] = {}

    def copy(self, backend: str) -> str:
        """The URL of a new one."""
        name = f"record_{uuid.uuid4().hex}"
        if backend == "sqlite":
            if backend not in self.originals:
                self.originals[backend] = str(self.folder / "original.db")
                lived(f"sqlite:///{self.originals[backend]}").close()
            shutil.copy(self.originals[backend], self.folder / name)
            return f"sqlite:///{self.folder / name}"
        if backend not in self.originals:
            self.originals[backend] = f"original_{uuid.uuid4().hex}"
            lived(self._make(self.originals[backend], "template1")).close()
        return self._make(name, self.originals[backend])

    def _make(self, name: str, template: str) -> str:
        server = make_url(self.server()).set(drivername="postgresql+psycopg")
        maker = create_engine(server, isolation_level="AUTOCOMMIT")
        with maker.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        maker.dispose()
        return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def records(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Records:
    return Records(tmp_path_factory.mktemp("record"), lambda: request.getfixturevalue("postgresql_server"))


def opened(url: str) -> Engine:
    return Engine(url, clock=ManualClock(START + 61 * DAY), handlers=HANDLERS)


@pytest.fixture(params=BACKENDS)
def record(request: pytest.FixtureRequest, records: Records) -> Iterator[Engine]:
    """A record to change."""
    engine = opened(records.copy(request.param))
    yield engine
    engine.close()


@pytest.fixture
def url(record: Engine) -> str:
    return url_of(record)


@pytest.fixture(scope="module", params=BACKENDS)
def untouched(request: pytest.FixtureRequest, records: Records) -> Iterator[Engine]:
    """A record that tests share: whoever changes it takes that back."""
    engine = opened(records.copy(request.param))
    yield engine
    engine.close()


# --- What is refused -----------------------------------------------------------------------------


CHANGES = (
    "UPDATE {table} SET {key} = {key}",
    "UPDATE {table} SET {key} = -{key} WHERE {key} = 1",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE {key} = 1",
    "INSERT INTO {table} SELECT * FROM {table} WHERE true ON CONFLICT ({key}) DO UPDATE SET {key} = 0",
)
TRUNCATIONS = ("TRUNCATE {table}", "TRUNCATE {table} CASCADE", "TRUNCATE account, {table} CASCADE")


@pytest.mark.parametrize("table", RECORD, ids=lambda table: table.name)
def test_the_record_refuses_every_change(untouched: Engine, table: Any) -> None:
    (key,) = table.primary_key.columns
    before = untouched.chain.state()
    for statement in CHANGES + TRUNCATIONS * untouched.database.is_postgresql:
        refused = pytest.raises(DBAPIError, match=r"is append-only: .* set a mistake right by a new event")
        with refused, raw(url_of(untouched)) as connection:
            connection.execute(text(statement.format(table=table.name, key=key.name)))
    assert untouched.chain.state() == before and untouched.verify().ok


def test_a_session_that_plays_a_replica_is_refused_as_well(untouched: Engine) -> None:
    if untouched.database.is_postgresql:
        with pytest.raises(DBAPIError, match="is append-only"), raw(url_of(untouched)) as connection:
            connection.execute(text("SET session_replication_role = replica"))
            connection.execute(text("DELETE FROM history"))


REPLACE = """
    INSERT OR REPLACE INTO history (id, account_id, number, event, step, dest, at, actor, policy_version)
    SELECT id, account_id, number, event, step, dest, at, 'admin:mallory', policy_version FROM history WHERE id = 3
"""


@on_sqlite
def test_to_replace_a_row_is_refused_on_the_engines_connections(record: Engine) -> None:
    with pytest.raises(InvalidInput, match="is append-only"), record.database.write() as connection:
        connection.execute(text(REPLACE))


@on_sqlite
def test_to_replace_a_row_behind_the_triggers_is_noticed(record: Engine, url: str) -> None:
    changed = value(record, "SELECT number FROM history WHERE id = 3")
    with raw(url) as connection:
        connection.execute(text(REPLACE))
    assert found(record.verify()) == [(Kind.CHANGED, HISTORY, "acme", changed)]


def test_what_the_engine_writes_is_refused_to_nobody(record: Engine) -> None:
    record.fire("beta", "cancel", actor=Actor.owner(ANN))
    record.seal()
    assert record.verify().ok


def test_triggers_that_were_taken_away_are_reported_and_put_back(record: Engine, url: str) -> None:
    assert not [one for one in examine(record) if one.check == "record"]
    where = " ON history" if record.database.is_postgresql else ""
    name = "refuses_update" if record.database.is_postgresql else "history_refuses_update"
    with raw(url) as connection:
        connection.execute(text(f"DROP TRIGGER {name}{where}"))
    (finding,) = [one for one in examine(record) if one.check == "record"]
    assert (finding.level, finding.message) == (Level.PROBLEM, "The database no longer refuses: update of history.")
    record.migrate()
    assert not [one for one in examine(record) if one.check == "record"]


@on_postgresql
def test_triggers_that_were_switched_off_are_reported_too(record: Engine, url: str) -> None:
    with raw(url) as connection:
        connection.execute(text("ALTER TABLE receipt DISABLE TRIGGER refuses_delete"))
    assert record.chain.unprotected() == [("receipt", "delete")]


# --- What is noticed -----------------------------------------------------------------------------


def test_a_record_that_nobody_touched_fits(untouched: Engine) -> None:
    report = untouched.verify()
    assert report.ok and report.seals == len(seals(untouched)) >= 4
    assert report.rows == {stream: value(untouched, f"SELECT count(*) FROM {stream}") for stream in Stream}
    assert report.rows[HISTORY] > 8 and report.rows[RECEIPT] == 2
    assert set(report.unsealed.values()) == {0}
    assert report.head == untouched.chain.state().head == seals(untouched)[-1].head


@pytest.mark.parametrize("stream", Stream)
def test_a_change_in_any_column_is_noticed(untouched: Engine, stream: Stream) -> None:
    at = "at + interval '1 microsecond'" if untouched.database.is_postgresql else "at + 1"
    number = 2 if stream is HISTORY else value(untouched, "SELECT min(number) FROM receipt")
    others = {"id": "-7", "number": "99", "at": at, "owner": "7", "account_id": "'beta'", "event": "'freeze'"}
    others |= {"step": "'void'", "source": "NULL", "dest": "'frozen'", "effect": "'stop_billing'"}
    others |= {"account_id": "'beta', number = 77"}
    for column in SEALED[stream]:
        changed = f"{column} = {others.get(column, repr('something else'))}"
        report = after(untouched, f"UPDATE {stream} SET {changed} WHERE account_id = 'acme' AND number = {number}")
        assert not report.ok and report.discrepancies[0].stream is stream, column
    assert untouched.verify().ok


def entry(engine: Engine, place: int) -> tuple[int, int]:
    """The id and the number of an entry of acme, by its place among all entries from 0 on; negative from the end."""
    with engine.database.read() as connection:
        rows = connection.execute(text("SELECT id, number FROM history WHERE account_id = 'acme' ORDER BY id")).all()
    return rows[place][0], rows[place][1]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE history SET actor = 'admin:mallory' WHERE id = {}", Kind.CHANGED),
        ("DELETE FROM history WHERE id = {}", Kind.MISSING),
    ],
    ids=["changed", "deleted"],
)
def test_the_entry_that_was_changed_or_deleted_is_named(untouched: Engine, statement: str, kind: Kind) -> None:
    for place in (0, 1, 4, -2, -1):  # the last one is the end of what is sealed
        id, number = entry(untouched, place)
        report = after(untouched, statement.format(id))
        assert found(report) == [(kind, HISTORY, "acme", number)]
        assert f"History entry {number} of account acme" in report.discrepancies[0].message


def test_the_first_of_many_changes_is_named_first_with_one_finding_for_each_seal(untouched: Engine) -> None:
    report = after(untouched, "UPDATE history SET actor = 'admin:mallory'", "DELETE FROM receipt")
    assert found(report)[0] == (Kind.CHANGED, HISTORY, "acme", 1)
    assert report.count == len(report.discrepancies) == len(seals(untouched))


def test_findings_are_counted_beyond_those_that_are_kept() -> None:
    report = AuditReport()
    for number in range(KEPT + 5):
        report.add(Discrepancy("changed", number))
    assert (report.count, len(report.discrepancies)) == (KEPT + 5, KEPT)


@pytest.mark.parametrize("id", [0, -5, "within"])
def test_an_entry_that_was_slipped_in_is_named(record: Engine, id: Any) -> None:
    if id == "within":  # between two that are sealed
        last = value(record, "SELECT max(id) FROM history")
        tamper(record, adding(last + 10), "UPDATE history SET number = 2000 WHERE number = 1000")
        record.seal()
        id = last + 5
    tamper(record, adding(id))
    assert found(record.verify()) == [(Kind.INSERTED, HISTORY, "acme", 1000)]


def test_entries_that_changed_places_are_noticed(untouched: Engine) -> None:
    (one, _), (other, _) = entry(untouched, 1), entry(untouched, 5)
    report = after(
        untouched,
        f"UPDATE history SET id = -9 WHERE id = {one}",
        f"UPDATE history SET id = {one} WHERE id = {other}",
        f"UPDATE history SET id = {other} WHERE id = -9",
    )
    assert report.discrepancies[0].kind is Kind.CHANGED and report.discrepancies[0].id == one


def test_a_receipt_that_was_changed_is_named(untouched: Engine) -> None:
    report = after(untouched, "UPDATE receipt SET text = 'erased 0 objects' WHERE effect = 'delete_content'")
    (finding,) = report.discrepancies
    number = value(untouched, "SELECT number FROM receipt WHERE effect = 'delete_content'")
    assert (finding.kind, finding.stream, finding.account_id, finding.number) == (Kind.CHANGED, RECEIPT, "acme", number)


def test_a_receipt_that_is_missing_is_named(untouched: Engine) -> None:
    number = value(untouched, "SELECT number FROM receipt WHERE effect = 'purge_backups'")
    report = after(untouched, "DELETE FROM receipt WHERE effect = 'purge_backups'")
    assert found(report) == [(Kind.MISSING, RECEIPT, "acme", number)]


def test_an_account_that_is_gone_altogether_leaves_a_hole(untouched: Engine) -> None:
    beta = ("history", "owner", "personal_data")
    gone = (f"DELETE FROM {table} WHERE account_id = 'beta'" for table in beta)
    report = after(untouched, *gone, "DELETE FROM account WHERE id = 'beta'")
    assert found(report) == [(Kind.MISSING, HISTORY, None, None)]
    assert "of an account that can't be told" in report.discrepancies[0].message


def test_a_seal_that_was_edited_is_named(untouched: Engine) -> None:
    columns = ("stream = 'receipt'", "rows = rows + 1", "to_id = to_id + 1000", "previous = hash", "digests = hash")
    for change in (*columns, "hash = previous"):
        report = after(untouched, f"UPDATE seal SET {change} WHERE number = 2")
        altered = Discrepancy("Seal 2 was altered: its hash is not that of what it says.", 2)
        assert report.discrepancies[0] == altered, change


def test_the_instant_of_a_seal_is_sealed_too(untouched: Engine) -> None:
    earlier = "sealed_at - interval '1 day'" if untouched.database.is_postgresql else "sealed_at - 1"
    report = after(untouched, f"UPDATE seal SET sealed_at = {earlier} WHERE number = 2")
    assert "Seal 2 was altered" in report.discrepancies[0].message


def test_a_seal_that_was_made_anew_for_changed_rows_does_not_fit_the_one_after_it(record: Engine) -> None:
    tamper(record, "UPDATE history SET actor = 'admin:mallory' WHERE number = 1 AND account_id = 'acme'")
    last = [seal for seal in seals(record)]
    tamper(record, "DELETE FROM seal WHERE number >= 1")
    record.seal()
    forged = seals(record)[0]
    tamper(record, "DELETE FROM seal")
    with record.database.write() as connection:
        for seal in (forged, *last[1:]):
            _put_back(record.chain, connection, seal)
    (finding,) = record.verify().discrepancies
    assert finding.message == "Seal 2 follows another seal 1 than the one that is there."


def _put_back(chain: Chain, connection: Connection, seal: Seal) -> None:
    from lifecycle.instants import EPOCH, MICROSECOND
    from lifecycle.operation_tables import seals as table

    values = {column.name: getattr(seal, column.name) for column in table.c}
    connection.execute(table.insert().values({**values, "sealed_at": EPOCH + seal.sealed_at * MICROSECOND}))


def test_a_seal_that_is_missing_is_named(untouched: Engine) -> None:
    report = after(untouched, "DELETE FROM seal WHERE number = 2")
    assert report.discrepancies[0].message == "Seal 2 is missing."
    report = after(untouched, "DELETE FROM seal WHERE number IN (2, 3)")
    assert report.discrepancies[0].message == "Seals 2 to 3 are missing."


# --- What only a head tells that was kept elsewhere -----------------------------------------------


def cut(engine: Engine) -> Head:
    """Cut the end of the record off, with its seals; the head that it had before."""
    head, last = engine.chain.state().head, seals(engine)[-1]
    assert last.stream == HISTORY
    begins = max(seal.to_id for seal in seals(engine)[:-1] if seal.stream == HISTORY)
    tamper(engine, f"DELETE FROM history WHERE id > {begins}", f"DELETE FROM seal WHERE number = {last.number}")
    return head


@pytest.fixture
def grown(record: Engine) -> Engine:
    """A record whose last seal is one of the history."""
    record.fire("beta", "cancel", actor=Actor.owner(ANN))
    record.seal()
    return record


def test_an_end_that_was_cut_off_is_noticed_by_a_head_that_was_kept(grown: Engine) -> None:
    kept = cut(grown)
    assert grown.verify().ok, "nothing in the database itself can tell"
    (finding,) = grown.verify([kept]).discrepancies
    assert f"there was a seal {kept.number}" in finding.message and "cut off" in finding.message


def test_an_end_that_was_written_anew_is_noticed_by_a_head_that_was_kept(grown: Engine) -> None:
    kept = cut(grown)
    tamper(grown, adding(value(grown, "SELECT max(id) + 1 FROM history")))
    grown.seal()
    assert grown.verify().ok
    (finding,) = grown.verify([kept]).discrepancies
    assert finding.message == f"Seal {kept.number} is another than the head {kept} says."


def test_heads_of_any_age_are_in_the_chain_as_long_as_nobody_cuts_it(record: Engine) -> None:
    heads = [GENESIS, *(seal.head for seal in seals(record))]
    record.fire("beta", "cancel", actor=Actor.owner(ANN))
    record.seal()
    assert record.verify(heads).ok


# --- Sealing -------------------------------------------------------------------------------------


def test_what_is_sealed_is_sealed_once_and_what_is_new_next(record: Engine) -> None:
    before = record.chain.state()
    assert record.seal().seals == 0 and record.chain.state() == before
    record.fire("beta", "cancel", actor=Actor.owner(ANN))
    state = record.chain.state()
    assert state.unsealed[HISTORY] == 1 and state.unsealed_since == record.clock.now()
    report = record.seal()
    assert (report.seals, report.rows[HISTORY], report.head.number) == (1, 1, before.head.number + 1)


def test_a_seal_covers_a_bounded_number_of_rows(record: Engine) -> None:
    assert [seal.rows for seal in seals(record) if seal.stream == HISTORY][:2] == [4, 4]


def test_a_run_stops_between_two_seals_when_it_is_told_to(record: Engine) -> None:
    tamper(record, "DELETE FROM seal")
    stops = iter([False, True])
    assert record.seal(stop=lambda: next(stops)).seals == 1


def test_a_number_of_the_chain_is_given_once(record: Engine) -> None:
    last, at = seals(record)[-1], record.clock.now()
    fork = Seal.after(Head(last.number - 1, last.previous), HISTORY, 10**6, [bytes(16)], 0)
    assert not record.chain._add(fork, at)
    assert seals(record)[-1] == last


def test_writers_and_sealers_at_once_neither_fork_the_chain_nor_leave_a_row_out(record: Engine) -> None:
    entries, before = value(record, "SELECT count(*) FROM history"), len(seals(record))
    others = [opened(url_of(record)) for _ in range(4)]
    left = [20] * 3

    def write(number: int) -> None:
        for count in range(left[number]):
            name = f"account-{number}-{count}"
            others[number].open_account(name, company="Acme", owners=[ANN], plan="free")
            others[number].contact_owners(name, actor=Actor.support("sue"), reason="who are you")
            left[number] -= 1

    def seal(sealer: Engine) -> int:
        made = 0
        while any(left):
            made += sealer.seal().seals
        return made

    with ThreadPoolExecutor(5) as pool:
        writing = [pool.submit(write, number) for number in range(3)]
        sealing = [pool.submit(seal, sealer) for sealer in (record, others[3])]
        assert [one.result() for one in writing] == [None] * 3
        made = sum(one.result() for one in sealing)
    made += record.seal().seals
    report = record.verify()
    assert report.ok and report.rows[HISTORY] == entries + 120 and report.unsealed[HISTORY] == 0
    assert report.seals == before + made and made > 2
    for other in others:
        other.close()


@on_postgresql
def test_a_row_that_is_committed_late_is_waited_for(record: Engine, url: str) -> None:
    with raw(url) as late:
        late.execute(text(adding()))
        record.fire("beta", "cancel", actor=Actor.owner(ANN))
        waiting = record.chain.seal(START, patience=0.1)
        assert waiting.waiting and waiting.seals == 0, "its id comes before one that is committed already"
    report = record.seal()
    assert report.rows[HISTORY] == 2 and not report.waiting
    assert record.verify().ok and record.verify().unsealed[HISTORY] == 0


@on_postgresql
def test_rows_that_are_rolled_back_hold_nothing_up(record: Engine, url: str) -> None:
    with suppress(Undone), raw(url) as undecided:
        undecided.execute(text(adding()))
        record.fire("beta", "cancel", actor=Actor.owner(ANN))
        assert record.chain.seal(START, patience=0.05).waiting
        raise Undone
    assert record.seal().rows[HISTORY] == 1
    assert record.verify().ok


@on_postgresql
def test_a_row_whose_transaction_is_younger_than_all_that_have_ended_is_waited_for(record: Engine, url: str) -> None:
    with raw(url) as late, raw(url) as early:
        early.execute(text("SELECT pg_current_xact_id()"))
        late.execute(text(adding()))
        early.execute(text(adding().replace("'acme'", "'beta'")))
        early.commit()
        assert record.chain.seal(START, patience=0.05).waiting
    assert record.seal().rows[HISTORY] == 2
    assert record.verify().ok


@on_postgresql
def test_transactions_that_overlap_without_end_hold_sealing_up_for_one_of_them_only(record: Engine, url: str) -> None:
    record.fire("beta", "cancel", actor=Actor.owner(ANN))
    with raw(url) as second:
        with raw(url) as first:
            first.execute(text("SELECT pg_current_xact_id()"))
            assert record.chain.seal(START, patience=0.05).waiting
            second.execute(text("SELECT pg_current_xact_id()"))
        report = record.chain.seal(START, patience=0.05)
        assert not report.waiting and report.rows[HISTORY] == 1
        assert record.chain.seal(START, patience=0.05).waiting


@on_postgresql
def test_nobody_who_writes_waits_for_who_verifies_or_exports(record: Engine) -> None:
    lines = export(record.database)
    next(lines)
    record.fire("beta", "cancel", actor=Actor.owner(ANN))
    assert record.seal().seals == 1
    lines.close()


# --- What operators see --------------------------------------------------------------------------


def seal_findings(engine: Engine) -> list[tuple[Level, str]]:
    return [(one.level, one.message) for one in examine(engine) if one.check == "seals"]


def test_doctor_says_how_long_rows_have_not_been_sealed(record: Engine) -> None:
    clock = record.clock
    assert isinstance(clock, ManualClock)
    assert seal_findings(record)[0] == (Level.OK, f"Everything is sealed; the head is {record.chain.state().head}.")
    record.fire("beta", "cancel", actor=Actor.owner(ANN))
    clock.set(clock.now() + timedelta(minutes=15))
    assert seal_findings(record)[0][0] is Level.OK
    clock.set(clock.now() + timedelta(seconds=1))
    level, message = seal_findings(record)[0]
    assert level is Level.WARNING and "1 rows of history and receipts are not sealed" in message
    record.store.beat("one", START, clock.now(), record.policy.version, None)
    assert seal_findings(record)[0][0] is Level.PROBLEM, "a daemon is there, and does not seal"


def test_doctor_notices_that_the_head_was_altered(record: Engine) -> None:
    last = seals(record)[-1].number
    tamper(record, f"UPDATE seal SET rows = rows + 1 WHERE number = {last}")
    assert (
        Level.PROBLEM,
        f"The chain of seals does not hold together: seal {last} was altered: its hash is not that of what it says.",
    ) in seal_findings(record)


def test_metrics_have_the_head_and_what_is_not_sealed(record: Engine) -> None:
    record.fire("beta", "cancel", actor=Actor.owner(ANN))
    lines = exposed(record).splitlines()
    assert 'lifecycle_unsealed_rows{stream="history"} 1.0' in lines
    assert f"lifecycle_seal_head {float(record.chain.state().head.number)}" in lines


def run(engine: Engine, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["audit", *arguments, "--database", url_of(engine)])
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_line_seals_verifies_and_keeps_heads(grown: Engine, tmp_path: Path) -> None:
    grown.fire("beta", "place_hold", actor=Actor.admin("root"), reason="court")
    assert re.search(r"Sealed  1 rows of history, 0 rows of receipt\nHead    \d+:[0-9a-f]{64}", run(grown, "seal"))
    kept = tmp_path / "head.json"
    kept.write_text(run(grown, "head", "--json"))
    assert json.loads(kept.read_text())["number"] == grown.chain.state().head.number
    assert str(grown.chain.state().head) in run(grown, "head")
    assert "Everything is as it was sealed." in run(grown, "verify", "--head", str(kept))
    head = cut(grown)
    assert "would also tell whether its end was cut off" in run(grown, "verify")
    assert "the end of the record was cut off" in run(grown, "verify", "--head", str(kept), code=1)
    told = json.loads(run(grown, "verify", "--head", str(head), "--json", code=1))
    assert (told["ok"], told["heads_checked"], told["count"]) == (False, 1, 1)


@on_sqlite
def test_verifying_by_command_line_names_the_row(record: Engine) -> None:
    tamper(record, "UPDATE history SET actor = 'admin:mallory' WHERE number = 3 AND account_id = 'acme'")
    assert "History entry 3 of account acme (id " in run(record, "verify", code=1)
    (told,) = json.loads(run(record, "verify", "--json", code=1))["discrepancies"]
    assert (told["kind"], told["account_id"], told["number"]) == ("changed", "acme", 3)


@pytest.mark.parametrize(("named", "advice"), [("12:abc", "must be NUMBER:HASH"), ("empty", "names no head")])
def test_a_head_that_says_nothing_is_refused(untouched: Engine, tmp_path: Path, named: str, advice: str) -> None:
    (tmp_path / "empty").touch()
    assert advice in run(untouched, "verify", "--head", named if named == "12:abc" else str(tmp_path / named), code=2)


def test_an_export_has_every_row_and_every_seal_after_its_rows(grown: Engine, tmp_path: Path) -> None:
    grown.fire("beta", "place_hold", actor=Actor.admin("root"), reason="court")
    file = tmp_path / "record.jsonl"
    assert "Wrote" in run(grown, "export", "--output", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert run(grown, "export").splitlines() == file.read_text().splitlines()
    for stream in Stream:
        of = [line for line in lines if line["stream"] == stream]
        assert len(of) == value(grown, f"SELECT count(*) FROM {stream}")
        assert [line["id"] for line in of] == sorted(line["id"] for line in of)
    places = {line["id"]: place for place, line in enumerate(lines) if line["stream"] == HISTORY}
    for place, line in enumerate(lines):
        if line["stream"] == "seal" and line["of"] == HISTORY:
            assert places[line["to_id"]] == place - 1
    assert lines[-1]["event"] == "place_hold", "what is not sealed comes last"


def test_the_setting_is_read_from_the_configuration(tmp_path: Path) -> None:
    from lifecycle.config import load

    file = tmp_path / "lifecycle.toml"
    file.write_text('[audit]\nseal_every = "1 hour"\n')
    assert load(file, {}).audit == AuditSettings(seal_every=timedelta(hours=1))
    file.write_text('[audit]\nseal_evry = "1 hour"\n')
    with pytest.raises(InvalidInput, match="did you mean seal_every"):
        load(file, {})
