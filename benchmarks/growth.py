"""What a larger population costs: per moved account, per look at the next deadline, in the daemon's memory."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

from sqlalchemy import func, select

from benchmarks.figures import Figure, Goal
from benchmarks.handwritten import JOBS, Handwritten
from benchmarks.lab import DATABASES, Lab, bare, lifecycle_command
from benchmarks.population import drop_template, due_after, lead, multiply, settle, url_of
from lifecycle import Engine, ManualClock, State
from lifecycle.tables import Status, outbox

SECTION = "Growth"
#: A trial whose reminder is due: it owes an effect, and its next deadline lies among those of all others.
CONDITION, STATE, SHIFTED = "remind_trial_end", State.TRIAL, ("due_at", "trial_ends_at")
BY_HAND = JOBS["expire_trial: reminder"]
#: Who is due together: accounts that came together, as trials do; or any, as with inactivity. These lie on as many
#: pages as there are accounts, and each has to be read, logged in whole, and written.
TOGETHER, SCATTERED = "came together", "scattered"
#: Bursts of either kind for the engine, and as many for the rival.
ROUNDS = 3
LOOKS = 200
SECOND = timedelta(seconds=1)
#: Coprime to every population: deals the deadlines out over the table.
SCATTER = 1_000_003

#: Microseconds per moved account: of the engine, and by hand.
Costs = dict[tuple[str, int], tuple[float, float]]


def run(lab: Lab) -> Iterator[Figure]:
    """The same bursts among ever more waiting accounts; what is due then is left to a daemon."""
    populations = lab.size((10_000, 100_000, 1_000_000, 10_000_000), (2_000, 20_000))
    burst, backlog = lab.size(20_000, 2_000), lab.size(200_000, 4_000)
    smallest, largest = populations[0], populations[-1]
    for kind in DATABASES:
        with ExitStack() as stack:
            engines = {}
            for waiting in populations:
                lab.say(f"{SECTION}: {waiting:,} waiting accounts on {kind}, being made")
                engines[waiting] = stack.enter_context(populated(lab, kind, waiting, burst, min(backlog, waiting)))
            yield from costs_of(kind, bursts(lab, kind, engines, burst), smallest, lab)
            for waiting, engine in engines.items():
                name = f"look at the next deadline, {waiting:,}"
                yield Figure(SECTION, name, kind, look(engine), None, "ms", Goal(at_most=5))
            yield Figure(SECTION, f"disk per account, {largest:,}", kind, disk(engines[largest]), None, "bytes")
            for waiting in (smallest, largest):
                lab.say(f"{SECTION}: the daemon's memory among {waiting:,} waiting accounts on {kind}")
                peak = daemon_memory(lab, engines[waiting])
                name = f"daemon's memory, {waiting:,} waiting, {min(backlog, waiting):,} due"
                yield Figure(SECTION, name, kind, peak, None, "MB", Goal(at_most=150))


def costs_of(kind: str, costs: Costs, smallest: int, lab: Lab) -> Iterator[Figure]:
    """Against the same among the fewest, and against SQL by hand among as many."""
    for (how, waiting), (ours, by_hand) in costs.items():
        lab.plot("growth", f"{kind}, {how}", waiting, 1e6 / ours)
        name = f"a moved account among {waiting:,}, {how}"
        if waiting != smallest:
            yield Figure(
                SECTION, f"{name}, against {smallest:,}", kind, ours, costs[how, smallest][0], "µs", Goal(at_most=1.3)
            )
        yield Figure(SECTION, f"{name}, against SQL by hand", kind, ours, by_hand, "µs", Goal(at_most=1.25))


@contextmanager
def populated(lab: Lab, kind: str, waiting: int, burst: int, backlog: int) -> Iterator[Engine]:
    """``waiting`` accounts, a second between the deadlines of any two.

    First come those of the scattered bursts, then the other bursts', then all others. Those of the bursts are past by
    the system's clock, and so is a ``backlog``.
    """
    kept = 2 * ROUNDS * burst
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0) - due_after(CONDITION) - (2 * kept + backlog) * SECOND)
    others = waiting + kept
    dealt = f"(i * {SCATTER}) % {others}"
    rank = (
        f"CASE WHEN i > {others} THEN i - {others} - 1 + {kept} "
        f"WHEN {dealt} < {kept} THEN {dealt} ELSE {dealt} + {kept} END"
    )
    with lab.engine(kind, clock) as engine:
        lead(engine, CONDITION)
        multiply(engine, others + kept, later=f"({rank}) * 1000000", shifted=SHIFTED)
        drop_template(engine)
        yield engine


def bursts(lab: Lab, kind: str, engines: Mapping[int, Engine], burst: int) -> Costs:
    """Medians by kind and population. All populations, and both ways, take turns."""
    taken: dict[tuple[str, int], list[list[float]]] = {}
    for how, round_ in product((SCATTERED, TOGETHER), range(1, ROUNDS + 1)):
        for waiting, engine in engines.items():
            lab.say(f"{SECTION}: bursts {round_}, {how}, among {waiting:,} waiting accounts on {kind}")
            both = taken.setdefault((how, waiting), [[], []])
            order = list(zip((by_engine, by_hand), both, strict=True))
            for move, costs in order if round_ % 2 else order[::-1]:
                costs.append(one_burst(engine, burst, move))
    return {key: (median(ours), median(hand)) for key, (ours, hand) in taken.items()}


def one_burst(engine: Engine, burst: int, move: Callable[[Engine], tuple[int, float]]) -> float:
    """Microseconds per moved account."""
    settle(engine)
    engine.clock.set(engine.clock.now() + burst * SECOND)
    moved, took = move(engine)
    if abs(moved - burst) > 1:
        raise AssertionError(f"{moved} accounts moved instead of {burst}")
    return took / moved * 1e6


def by_engine(engine: Engine) -> tuple[int, float]:
    begun = perf_counter()
    moved = engine.sweep(states=[STATE]).moved
    return moved, perf_counter() - begun


def by_hand(engine: Engine) -> tuple[int, float]:
    rival = Handwritten(engine, engine.clock.now())
    begun = perf_counter()
    moved = rival.sweep(BY_HAND)
    took = perf_counter() - begun
    rival.close()
    return moved, took


def look(engine: Engine) -> float:
    """Milliseconds of what an idle daemon asks again and again, a transaction of its own each."""

    def once() -> float:
        begun = perf_counter()
        with engine.database.read() as connection:
            engine.store.next_due(connection)
        return (perf_counter() - begun) * 1000

    return median(once() for _ in range(LOOKS))


def disk(engine: Engine) -> float:
    """Bytes that an account with its owner, its history and all indexes takes."""
    connection = bare(engine)
    size = "pg_database_size(current_database())" if engine.database.is_postgresql else "page_count * page_size"
    origin = "" if engine.database.is_postgresql else " FROM pragma_page_count(), pragma_page_size()"
    (used,) = connection.execute(f"SELECT {size}{origin}").fetchone()
    (count,) = connection.execute("SELECT count(*) FROM account").fetchone()
    connection.close()
    return float(used / count)


def daemon_memory(lab: Lab, engine: Engine) -> float:
    """The most that `lifecycle daemon` takes while it works off a backlog and delivers what that owes, in MB."""
    with running_daemon(engine, lab.directory / "daemon.log") as process:
        until(process, lambda: idle(engine))
        status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1000


def idle(engine: Engine) -> bool:
    """Whether nothing is due by the system's clock, and nothing owed."""
    soon = datetime.now(UTC) - 5 * SECOND  # a deadline comes every second
    with engine.database.read() as connection:
        due = engine.store.next_due(connection).get(STATE)
        pending = connection.scalar(select(func.count()).where(outbox.c.status == Status.PENDING))
    return (due is None or due > soon) and pending < 100


@contextmanager
def running_daemon(engine: Engine, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The daemon as an operator starts it."""
    command = [*lifecycle_command(), "daemon"]
    environment = {**os.environ, "LIFECYCLE_DATABASE_URL": url_of(engine)}
    with log.open("wb") as stream, subprocess.Popen(command, stderr=stream, env=environment) as process:
        try:
            yield process
        finally:
            process.terminate()


def until(process: "subprocess.Popen[bytes]", done: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError("the daemon has ended, or does not get ready")
        time.sleep(0.5)
