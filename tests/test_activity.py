"""Activity of many accounts at once: what one by one would have written, of any size, from Python or from a file."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url, text, update

from lifecycle import ActivityReport, Engine, InvalidInput, ManualClock, Policy, PolicyError, activity, activity_file
from lifecycle.activity_file import record_file
from lifecycle.importer import import_accounts
from lifecycle.tables import accounts, history, outbox
from tests.conftest import SOAK, START
from tests.strategies import NOW, POLICIES, instants, populations
from tests.test_bulk import fill, rows

ANN = "ann@acme.test"
DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)


@pytest.fixture
def free(engine: Engine, clock: ManualClock) -> Engine:
    """Three free accounts, a day old."""
    for name in ("a", "b", "c"):
        engine.open_account(name, company="Acme Ltd", owners=[ANN], plan="free")
    clock.set(START + DAY)
    return engine


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (activity, activity_file):
        monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(activity, "SMALLEST_HAND", 2)


def last(engine: Engine, *names: str) -> list[datetime]:
    return [engine.get(name).last_active_at for name in names]


def crowd(engine: Engine, count: int) -> list[str]:
    """So many free accounts."""
    ids = [f"a{number:05}" for number in range(count)]
    lines = (f"{one},Acme Ltd,{ANN},active,free,2025-01-01,2025-01-01\n" for one in ids)
    import_accounts(engine, ["id,company,owners,state,plan,opened_at,free_since\n", *lines])
    return ids


# --- The same as one by one ----------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_many_accounts_end_as_if_each_had_been_recorded_alone(url: str, policy: Policy, small_batches: None) -> None:
    engine = Engine(url, policy=policy, clock=ManualClock(NOW))
    engine.migrate()

    @settings(max_examples=15 * SOAK)
    @given(populations(policy, 12), st.lists(instants.filter(lambda at: at <= NOW), min_size=14, max_size=14))
    def compare(population: list[dict[str, Any]], ats: list[datetime]) -> None:
        pairs = [(f"a{number}", at) for number, at in enumerate(ats)]
        known, strangers = pairs[: len(population)], pairs[len(population) :]
        fill(engine, population)
        written = sum(engine.record_activity(*pair) for pair in known)
        alone = rows(engine, accounts, history, outbox)
        fill(engine, population)
        report = engine.record_activities(iter(pairs))
        assert rows(engine, accounts, history, outbox) == alone
        assert (report.written, report.unchanged) == (written, len(known) - written)
        assert (report.unknown, set(report.unknown_ids)) == (len(strangers), {name for name, _ in strangers})

    compare()
    engine.close()


def test_a_timer_that_rests_on_the_notice_of_the_old_clock_is_armed_again(url: str, clock: ManualClock) -> None:
    engine = Engine(url, policy=Policy.from_mapping({"company_cancellation": "approval"}), clock=clock)
    engine.migrate()
    for name in ("rests", "alone"):
        engine.open_account(name, company="Acme", owners=[ANN], plan="free")
    engine.run_until(START + 360 * DAY)
    assert engine.get("rests").due_at is None
    assert engine.record_activities([("rests", clock.now())]).written == 1
    engine.record_activity("alone")
    assert engine.get("rests").due_at == engine.get("alone").due_at == START + (360 + 351) * DAY
    engine.close()


def test_activity_writes_no_history_and_no_other_column(free: Engine, clock: ManualClock) -> None:
    before = rows(free, history, outbox)
    accounts_before = [account.as_dict() for account in free.accounts()]
    free.record_activities([(name, clock.now()) for name in "abc"])
    assert rows(free, history, outbox) == before
    assert [account.as_dict() for account in free.accounts()] == [
        {**account, "last_active_at": START + DAY} for account in accounts_before
    ]


def test_activity_closer_than_the_resolution_is_not_written(url: str, clock: ManualClock) -> None:
    engine = Engine(url, policy=Policy.from_mapping({"activity_resolution": "1 day"}), clock=clock)
    engine.migrate()
    for name in ("early", "late"):
        engine.open_account(name, company="Acme", owners=[ANN], plan="free")
    clock.set(START + DAY)
    report = engine.record_activities([("early", START + DAY - MICROSECOND), ("late", START + DAY)])
    assert report == ActivityReport(written=1, unchanged=1)
    assert last(engine, "early", "late") == [START, START + DAY]
    engine.close()


def test_an_account_without_any_activity_gets_its_first(engine: Engine, clock: ManualClock) -> None:
    crowd(engine, 1)
    assert last(engine, "a00000") == [None]
    assert engine.record_activities([("a00000", START)]).written == 1
    assert last(engine, "a00000") == [START]


# --- What is given -------------------------------------------------------------------------------


def test_of_one_accounts_instants_in_a_batch_the_latest_counts(free: Engine) -> None:
    hours = [START + timedelta(hours=hour) for hour in (3, 9, 6)]
    assert free.record_activities([("a", at) for at in hours]) == ActivityReport(written=1, unchanged=2)
    assert last(free, "a") == [hours[1]]


def test_an_account_that_comes_again_in_a_later_batch_moves_forward_only(free: Engine, small_batches: None) -> None:
    hours = [START + timedelta(hours=hour) for hour in (3, 9, 6)]
    report = free.record_activities([(name, at) for at in hours for name in ("a", "b", "c", "nobody")])
    assert report == ActivityReport(written=6, unchanged=3, unknown=3, unknown_ids=("nobody",))
    assert last(free, "a", "b", "c") == [hours[1]] * 3


def test_recording_again_changes_nothing(free: Engine) -> None:
    pairs = [(name, START + DAY) for name in "abc"]
    assert free.record_activities(pairs).written == 3
    assert free.record_activities(pairs) == ActivityReport(unchanged=3)


def test_nothing_given_is_nothing_done(free: Engine) -> None:
    assert free.record_activities([]) == ActivityReport()


def test_instants_in_any_time_zone_are_the_same_instant(free: Engine) -> None:
    free.record_activities([("a", datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))))])
    assert last(free, "a") == [datetime(2026, 1, 1, 12, tzinfo=UTC)]


@pytest.mark.parametrize("unknown", ["nobody", "", "x\x00", "\x00", "\udcff", "' OR 1=1", '"', "a" * 100, "a\n", "ä"])
def test_an_id_without_an_account_is_counted_and_named_and_the_others_are_written(free: Engine, unknown: str) -> None:
    report = free.record_activities([(unknown, START), ("a", START + DAY), (unknown, START)])
    assert report == ActivityReport(written=1, unknown=2, unknown_ids=(unknown,))


def test_the_first_twenty_unknown_ids_are_named_each_once(free: Engine, small_batches: None) -> None:
    report = free.record_activities([(f"x{number % 30:02}", START) for number in range(60)])
    assert report.unknown == 60
    assert report.unknown_ids == tuple(f"x{number:02}" for number in range(20))


def test_an_instant_in_the_future_is_refused_by_its_pair_and_nothing_of_its_batch_is_written(
    free: Engine, small_batches: None
) -> None:
    now = START + DAY
    pairs = [("a", now), ("x", now), ("x", now), ("x", now), ("b", now), ("c", now + MICROSECOND)]
    with pytest.raises(InvalidInput, match=r"pair 6 says that account 'c' .* Nothing from pair 5 on was written"):
        free.record_activities(pairs)
    assert last(free, "a", "b", "c") == [now, START, START]


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("a", datetime(2026, 1, 1)), r"The instant of pair 2 must be a datetime with a time zone"),  # noqa: DTZ001
        (("a", "2026-01-01"), r"The instant of pair 2 must be a datetime"),
        (("a", datetime(1900, 1, 1, tzinfo=UTC)), "1970"),
        ((7, START), "The account id of pair 2 must be text, not 7"),
        (([], START), "The account id of pair 2 must be text"),
        (("a", START, START), "Pair 2 must be an account id and an instant"),
        (7, "Pair 2 must be an account id and an instant"),
    ],
)
def test_a_malformed_pair_is_refused_and_nothing_of_its_batch_is_written(free: Engine, pair: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        free.record_activities([("a", START + DAY), pair])
    assert last(free, "a") == [START]


def test_progress_counts_pairs(free: Engine, small_batches: None) -> None:
    heard: list[int] = []
    free.record_activities([("a", START)] * 10, heard.append)
    assert heard == [4, 8, 10]


def test_under_another_policy_than_the_databases_nothing_is_written(free: Engine) -> None:
    url = free.database.url.render_as_string(hide_password=False)
    other = Engine(url, policy=Policy(deletion_after="45 days"), clock=free.clock)
    with pytest.raises(PolicyError, match="lifecycle policy activate"):
        other.record_activities([("a", START + DAY)])
    assert last(free, "a") == [START]
    other.close()


# --- Several at once -----------------------------------------------------------------------------


def at_once(engine: Engine, *tasks: Callable[[Engine], Any]) -> list[Any]:
    """What the tasks return, each run by an engine and a thread of its own; an error is returned too."""
    url, barrier, got = engine.database.url.render_as_string(hide_password=False), Barrier(len(tasks)), []

    def one(task: Callable[[Engine], Any]) -> None:
        mine = Engine(url, clock=engine.clock)
        barrier.wait()
        try:
            got.append(task(mine))
        except Exception as error:
            got.append(error)
        mine.close()

    threads = [Thread(target=one, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_two_that_record_the_same_accounts_neither_deadlock_nor_lose_the_later_instant(
    engine: Engine, clock: ManualClock
) -> None:
    ids = crowd(engine, 1_200)
    clock.set(START + 30 * DAY)
    rising = [[(one, START + day * DAY) for one in ids] for day in range(1, 7)]
    falling = [list(reversed(round)) for round in reversed(rising)]

    def record(rounds: list[list[tuple[str, datetime]]]) -> Callable[[Engine], int]:
        return lambda mine: sum(mine.record_activities(round).written for round in rounds)

    done = at_once(engine, record(rising), record(falling))
    assert all(isinstance(count, int) for count in done), done
    assert {account.last_active_at for account in engine.accounts()} == {START + 6 * DAY}


@pytest.mark.postgres
def test_an_earlier_instant_that_waited_for_a_later_one_is_not_written(postgresql_url: str, clock: ManualClock) -> None:
    engine = Engine(postgresql_url, clock=clock)
    engine.migrate()
    crowd(engine, 1)
    clock.set(START + 9 * DAY)
    reports: list[ActivityReport] = []
    waits = Thread(target=lambda: reports.append(engine.record_activities([("a00000", START + 2 * DAY)])))
    with engine.database.write() as connection:
        connection.execute(update(accounts).values(last_active_at=START + 5 * DAY))
        waits.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        with engine.database.read() as other:
            for _ in range(200):
                if other.scalar(text(waiting)):
                    break
                time.sleep(0.02)
            assert other.scalar(text(waiting))
    waits.join()
    assert reports == [ActivityReport(unchanged=1)]
    assert last(engine, "a00000") == [START + 5 * DAY]
    engine.close()


# --- What it costs -------------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.parametrize("order", ["as imported", "shuffled"])
def test_postgresql_keeps_nine_of_ten_updates_on_their_page(
    postgresql_url: str, clock: ManualClock, order: str
) -> None:
    engine = Engine(postgresql_url, clock=clock)
    engine.migrate()
    ids = crowd(engine, 5_000)
    if order == "shuffled":
        ids = ids[1::2] + ids[::2]
    for _ in range(4):
        clock.set(clock.now() + DAY)
        assert engine.record_activities([(one, clock.now()) for one in ids]).written == 5_000
    engine.close()  # a connection that ends hands in its statistics
    updates, hot = _updates(postgresql_url, 20_000)
    assert updates == 20_000
    assert hot / updates >= 0.9


def _updates(url: str, expected: int) -> tuple[int, int]:
    """How many rows of accounts were updated, and how many of them within their page."""
    fresh = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    counted = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'account'")
    try:
        for _ in range(100):
            with fresh.connect() as connection:
                updates, hot = connection.execute(counted).one()
            if updates >= expected:
                break
            time.sleep(0.05)
        return updates, hot
    finally:
        fresh.dispose()


def test_any_number_of_ids_fits_into_one_statement(engine: Engine, clock: ManualClock) -> None:
    ids = crowd(engine, 500)
    clock.set(START + DAY)
    report = engine.record_activities((one, START + DAY) for one in [*ids, *(f"x{n}" for n in range(66_000))])
    assert (report.written, report.unknown) == (500, 66_000)  # drivers take 65,535 parameters at most


# --- From a file ---------------------------------------------------------------------------------


def lines(*pairs: tuple[str, str], header: str = "account_id,at") -> list[str]:
    return [f"{header}\n", *(f"{one},{at}\n" for one, at in pairs)]


def test_a_file_is_recorded_and_again_changes_nothing(free: Engine, tmp_path: Path) -> None:
    file = tmp_path / "activity.csv"
    text = "".join(lines(("a", "2026-01-01T12:00:00Z"), ("b", "2026-01-01T14:00+02:00"), ("nobody", "2026-01-01")))
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    report = record_file(free, file)
    assert (report.written, report.unchanged, report.unknown, report.unknown_ids) == (2, 0, 1, ["nobody"])
    assert (report.rows, report.bad, report.stopped_at) == (3, [], None)
    assert last(free, "a", "b", "c") == [START + DAY / 2, START + DAY / 2, START]
    assert record_file(free, str(file)).unchanged == 2


def test_the_columns_may_come_in_any_order(free: Engine) -> None:
    assert record_file(free, ["at, account_id\n", "2026-01-02,a\n"]).written == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("b,yesterday", "line 3, at: is not a date: 'yesterday'; write 2026-01-31"),
        ("b,2026-01-01T12:00:00", "line 3, at: has no time zone"),
        ("b,2026-01-02T00:00:01Z", "line 3, at: lies in the future."),
        ("b,1901-01-01", "line 3, at: lies outside the years"),
        ("b,", "line 3, at: must not be blank."),
        (",2026-01-01", "line 3, account_id: must not be blank."),
        ("b", "line 3: has 1 cells, the header has 2."),
        ('b,"2026', "line 3: is not CSV"),
    ],
)
def test_a_bad_line_is_reported_and_nothing_of_its_batch_is_written(free: Engine, row: str, problem: str) -> None:
    report = record_file(free, ["account_id,at\n", "a,2026-01-02\n", f"{row}\n"])
    assert (report.written, report.rows, report.stopped_at, report.bad_rows) == (0, 0, 2, 1)
    assert str(report.bad[0]).startswith(problem)
    assert last(free, "a") == [START]


def test_batches_before_a_bad_line_are_written_and_all_bad_lines_of_its_batch_are_reported(
    free: Engine, small_batches: None
) -> None:
    good = [("a", "2026-01-02"), ("x", "2026-01-02"), ("x", "2026-01-02"), ("x", "2026-01-02")]
    mixed = [("b", "soon"), ("c", "2026-01-02"), ("c", "later")]
    report = record_file(free, lines(*good, *mixed))
    assert (report.written, report.unknown, report.rows, report.stopped_at) == (1, 3, 4, 6)
    assert [bad.line for bad in report.bad] == [6, 8]
    assert last(free, "a", "b", "c") == [START + DAY, START, START]
    mended = record_file(free, lines(*good, ("b", "2026-01-02"), ("c", "2026-01-02")))
    assert (mended.written, mended.unchanged) == (2, 1)


@pytest.mark.parametrize("header", ["", "id,at\n", "account_id;at\n", "account_id,at,why\n", "a,2026-01-01\n"])
def test_a_file_with_another_header_is_refused(free: Engine, header: str) -> None:
    with pytest.raises(InvalidInput, match="The first line must name the columns account_id,at"):
        record_file(free, [header])


def test_a_file_that_is_not_there_is_named(free: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.csv can't be read"):
        record_file(free, tmp_path / "nowhere.csv")
