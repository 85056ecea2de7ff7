"""What each safeguard of the schema costs a sweep: the same sweep with it and without, on PostgreSQL."""

from collections.abc import Iterator
from functools import partial
from time import perf_counter

from benchmarks.figures import Figure
from benchmarks.lab import POSTGRESQL, Lab, bare, interleaved
from benchmarks.population import Backlog, backlog, settle
from benchmarks.sweeps import ours, warm_up
from lifecycle import Engine

SECTION = "What safeguards cost"
EVENT = "cancel_inactive"
_DROP = (
    "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) "
    "FROM pg_constraint WHERE contype = '{}' AND connamespace = 'public'::regnamespace"
)
#: What finds the statements that take a safeguard away.
WITHOUT: dict[str, str] = {
    "foreign keys": _DROP.format("f"),
    "CHECK constraints": _DROP.format("c"),
    "commits that wait for the disk": (
        "SELECT 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'"
    ),
    "room on each page of accounts": "VALUES ('ALTER TABLE account SET (fillfactor = 100)'), ('VACUUM FULL account')",
}


def run(lab: Lab) -> Iterator[Figure]:
    """Accounts per second as it is, and without one safeguard each."""
    size = lab.size(50_000, 2_000)
    with backlog(lab, POSTGRESQL, EVENT, size) as prepared:
        for safeguard, statements in WITHOUT.items():
            lab.say(f"{SECTION}: {safeguard}")
            as_it_is, without = interleaved(
                lab.rounds, partial(swept, prepared, ""), partial(swept, prepared, statements)
            )
            yield Figure(SECTION, f"with {safeguard}, against without", POSTGRESQL, as_it_is, without)


def swept(prepared: Backlog, statements: str) -> float:
    with prepared.copy() as engine:
        if statements:
            weaken(engine, statements)
        warm_up(engine, EVENT)
        begun = perf_counter()
        moved = ours(engine, EVENT)
        return moved / (perf_counter() - begun)


def weaken(engine: Engine, statements: str) -> None:
    connection = bare(engine)
    for (statement,) in connection.execute(statements).fetchall():
        connection.execute(statement)
    connection.close()
    settle(engine)
