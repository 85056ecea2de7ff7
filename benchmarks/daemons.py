"""Several daemons on one PostgreSQL: they share one backlog, and one outbox."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

from sqlalchemy import func, select

from benchmarks.figures import Figure, Goal
from benchmarks.handwritten import JOBS, RECEIPTS
from benchmarks.lab import POSTGRESQL, Lab, interleaved
from benchmarks.population import Backlog, backlog, url_of
from lifecycle import Engine, State
from lifecycle.tables import accounts

SECTION = "Several daemons"
COUNTS = (1, 2, 4)
SHARED = {"expire_trial": "accounts/s", "cancel_inactive": "accounts/s", "delete_content: confirmation": "tasks/s"}


def run(lab: Lab) -> Iterator[Figure]:
    """Throughput of one, two and four processes on the same backlog."""
    for name, unit in SHARED.items():
        delivers = name in RECEIPTS
        size = lab.size(50_000, 2_000) if delivers else lab.size(200_000, 5_000)
        lab.say(f"{SECTION}: {name}")
        with backlog(lab, POSTGRESQL, name.split(":")[0], size, requested=delivers) as prepared:
            speeds = interleaved(
                lab.rounds,
                *(lambda prepared=prepared, n=n, name=name, size=size: shared(prepared, name, n, size) for n in COUNTS),
            )
        for number, speed in zip(COUNTS, speeds, strict=True):
            lab.plot("daemons", name, number, speed)
            if number != 1:
                yield Figure(
                    SECTION,
                    f"{name}: {number} daemons, against one",
                    POSTGRESQL,
                    speed,
                    speeds[0],
                    unit,
                    Goal(at_least=1),
                )


def shared(prepared: Backlog, name: str, number: int, size: int) -> float:
    """Accounts per second of ``number`` processes together; nothing is moved twice, nothing left."""
    with prepared.copy() as engine:
        command = [sys.executable, "-m", "benchmarks.worker", name, url_of(engine), prepared.clock.now().isoformat()]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, **pipes) for _ in range(number)]
        for worker in workers:
            worker.stdout.readline()
        begun = time.monotonic()
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        told = [json.loads(worker.communicate(timeout=600)[0]) for worker in workers]
        done = sum(one["done"] for one in told)
        warm = sum(one["warm"] for one in told)
        moved = moved_once(engine, name)
        if not moved == size == done + warm:
            raise AssertionError(f"{name}: {done} and {warm} done of {size}, {moved} moved once")
        return done / (max(one["ended"] for one in told) - begun)


def moved_once(engine: Engine, name: str) -> int:
    """Accounts in the destination that are a single version farther than the backlog's."""
    job = JOBS[name] if name in JOBS else RECEIPTS[name][1]
    there = accounts.c.state == State(job.dest)
    with engine.database.read() as connection:
        first = connection.scalar(select(func.min(accounts.c.version)).where(there))
        return int(connection.scalar(select(func.count()).where(there, accounts.c.version == first)))
