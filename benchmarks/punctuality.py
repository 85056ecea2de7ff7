"""How late moves come: deadlines at random over half a minute, a daemon as operators start it, and load beside it."""

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.figures import Figure, Goal
from benchmarks.growth import running_daemon, until
from benchmarks.lab import DATABASES, Lab, confirm
from benchmarks.population import drop_template, due_after, lead, multiply
from lifecycle import Actor, Effect, Engine, Event, ManualClock, State
from lifecycle.tables import accounts, history

SECTION = "Punctuality"
CONDITION, EVENT = "expire_trial", Event.EXPIRE_TRIAL
#: With the deadline its reminder, which would not count for a later one.
SHIFTED = ("due_at", "trial_ends_at", "reminded_at", "not_before")
#: Whom the load asks for, while trials expire by the thousand.
CUSTOMERS = 200
SUPPORT = Actor.support("sue")


def run(lab: Lab) -> Iterator[Figure]:
    """The share of moves that are committed within a second of their deadline, and percentiles."""
    count = lab.size(30_000, 2_000)
    spread = timedelta(seconds=lab.size(30, 4))
    ahead = timedelta(seconds=lab.size(20, 6))
    for kind in DATABASES:
        lab.say(f"{SECTION}: {count:,} deadlines in {spread.seconds} s on {kind}")
        late, requests = lateness(lab, kind, count, spread, ahead)
        for percent in range(1, 101):
            lab.plot("lateness", kind, percentile(late, percent), percent)
        on_time = 100 * sum(seconds <= 1 for seconds in late) / len(late)
        note = f"{count / spread.seconds:,.0f} deadlines/s; {requests / spread.seconds:,.0f} requests/s beside"
        yield Figure(SECTION, "moves at most 1 s late", kind, on_time, None, "%", Goal(at_least=99), note)
        for percent in (50, 99, 100):
            name = f"lateness, {percent}th percentile" if percent < 100 else "lateness of the last"
            yield Figure(SECTION, name, kind, percentile(late, percent) * 1000, None, "ms")


def percentile(ordered: list[float], percent: int) -> float:
    return ordered[max(0, len(ordered) * percent // 100 - 1)]


def lateness(lab: Lab, kind: str, count: int, spread: timedelta, ahead: timedelta) -> tuple[list[float], int]:
    """Seconds from each deadline until the move was committed, in order; and how many requests were served beside.

    ``ahead`` is the time to prepare, and for the daemon to start.
    """
    log = lab.directory / "punctual.log"
    with lab.database(kind) as url:
        first = prepare(url, count, spread, datetime.now(UTC) + ahead)
        engine = Engine(url)
        with running_daemon(engine, log) as daemon:
            if datetime.now(UTC) > first:
                raise AssertionError(f"preparing took longer than {ahead}")
            time.sleep((first - datetime.now(UTC)).total_seconds())
            requests = load(engine, first + spread)
            until(daemon, lambda: not remaining(engine))
        late = sorted(delays(engine, log))
        engine.close()
    if len(late) != count:
        raise AssertionError(f"{len(late)} moves of {count} are in the log")
    return late, requests


def prepare(url: str, count: int, spread: timedelta, first: datetime) -> datetime:
    """Trials that expire at random from ``first`` on, which is returned, and customers who have no deadline."""
    microseconds = spread // timedelta(microseconds=1)
    handlers = dict.fromkeys(Effect, confirm)
    engine = Engine(url, clock=ManualClock(first - due_after(CONDITION)), handlers=handlers)
    engine.migrate()
    lead(engine, CONDITION)
    # Not random(), of which SQLite would take another for each column.
    multiply(engine, count, later=f"(i * i * 48271 + i * 16807) % 2147483647 % {microseconds}", shifted=SHIFTED)
    drop_template(engine)
    for number in range(CUSTOMERS):
        engine.open_account(f"customer-{number}", company="Customer Ltd", owners=["ann@customer.test"], plan="free")
    engine.close()
    return first


def load(engine: Engine, end: datetime) -> int:
    """Requests of support and activity of customers, one after another; returns how many were served."""
    dice, served = random.Random(7), 0
    while datetime.now(UTC) < end:
        engine.fire(f"customer-{dice.randrange(CUSTOMERS)}", "contact_owners", actor=SUPPORT, reason="nobody answers")
        engine.record_activity(f"customer-{dice.randrange(CUSTOMERS)}")
        served += 2
    return served


def remaining(engine: Engine) -> int:
    with engine.database.read() as connection:
        return int(connection.scalar(select(func.count()).where(accounts.c.state == State.TRIAL)))


def delays(engine: Engine, log: Path) -> Iterator[float]:
    """A batch is logged when it is committed: the log, in its order, tells the instants of the moves in theirs."""
    moves = (
        select(accounts.c.trial_ends_at)
        .join(history, history.c.account_id == accounts.c.id)
        .where(history.c.event == EVENT, history.c.dest == State.ON_HOLD)
        .order_by(history.c.at, accounts.c.trial_ends_at)
    )
    with engine.database.read() as connection:
        deadlines = iter(connection.scalars(moves).all())
    for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        if line["event"] == "batch":
            committed = datetime.fromisoformat(line["timestamp"])
            for _ in range(line["moves"].get(f"{EVENT}/fire", 0)):
                yield (committed - next(deadlines)).total_seconds()
