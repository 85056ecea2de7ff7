"""Activity of a million free accounts: beside an UPDATE written by hand, and what it does to the indexes."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from time import perf_counter, sleep

from benchmarks.figures import Figure, Goal
from benchmarks.lab import DATABASES, POSTGRESQL, Lab, bare, interleaved, wire
from benchmarks.population import START, Backlog, backlog
from lifecycle import Engine

SECTION = "Activity"
BATCH = 5_000
MANY = (
    "UPDATE account SET last_active_at = g.at FROM unnest(%s::text[], %s::timestamptz[]) AS g(id, at) "
    "WHERE account.id = g.id AND (last_active_at IS NULL OR last_active_at < g.at)"
)
ONE = "UPDATE account SET last_active_at = :at WHERE id = :id AND (last_active_at IS NULL OR last_active_at < :at)"


def run(lab: Lab) -> Iterator[Figure]:
    """Accounts per second of a stream in no order, and the share of updates that stay on their page."""
    count = lab.size(1_000_000, 20_000)
    for kind in DATABASES:
        lab.say(f"{SECTION}: {count:,} accounts on {kind}")
        shares: list[float] = []
        with backlog(lab, kind, "remind_inactive", count) as prepared:
            ours, rival = interleaved(
                lab.size(2, 1),
                lambda prepared=prepared, shares=shares: recorded(prepared, count, shares),
                lambda prepared=prepared: by_hand(prepared, count),
            )
        yield Figure(SECTION, "recorded at once, against UPDATE by hand", kind, ours, rival)
        if kind == POSTGRESQL:
            yield Figure(
                SECTION, "updates that rewrite no index entry", kind, min(shares), None, "%", Goal(at_least=90)
            )


def stream(count: int) -> Iterator[tuple[str, datetime]]:
    """Every account once, as they come: in no order."""
    for i in range(count):
        number = i * 1_000_003 % count + 1
        yield f"account-{number:09d}", START + timedelta(days=100, seconds=i % 86_400)


def recorded(prepared: Backlog, count: int, shares: list[float]) -> float:
    with prepared.copy() as engine:
        entries = rows_of(engine, "history")
        begun = perf_counter()
        report = engine.record_activities(stream(count))
        took = perf_counter() - begun
        if report.written != count or rows_of(engine, "history") != entries:
            raise AssertionError(f"not what was to be recorded: {report}")
        if engine.database.is_postgresql:
            engine.close()  # a session tells its figures at its end
            shares.append(hot_share(engine, count))
    return count / took


def by_hand(prepared: Backlog, count: int) -> float:
    with prepared.copy() as engine:
        connection = bare(engine)
        postgresql = engine.database.is_postgresql
        begin = "BEGIN" if postgresql else "BEGIN IMMEDIATE"
        begun = perf_counter()
        pairs = stream(count)
        while batch := list(islice(pairs, BATCH)):
            connection.execute(begin)
            if postgresql:
                connection.execute(MANY, [list(column) for column in zip(*sorted(batch), strict=True)])
            else:
                connection.executemany(ONE, [{"id": id, "at": wire(engine, at)} for id, at in batch])
            connection.execute("COMMIT")
        took = perf_counter() - begun
        connection.close()
    return count / took


def rows_of(engine: Engine, table: str) -> int:
    return int(bare(engine).execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def hot_share(engine: Engine, count: int) -> float:
    """Percent of the account's updates that PostgreSQL made without a new entry in any index."""
    connection = bare(engine)
    told = "SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'account'"
    hot, all_ = connection.execute(told).fetchone()
    while all_ < count:
        sleep(0.1)
        hot, all_ = connection.execute(told).fetchone()
    connection.close()
    return float(100 * hot / all_)
