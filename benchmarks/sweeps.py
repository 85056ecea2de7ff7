"""Sweeps and receipts beside hand-written SQL that does the same, event by event."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from time import perf_counter
from typing import Any

from sqlalchemy import select

from benchmarks.figures import Figure, Goal
from benchmarks.handwritten import JOBS, RECEIPTS, Handwritten
from benchmarks.lab import DATABASES, Lab, interleaved
from benchmarks.population import Backlog, backlog
from lifecycle import Effect, Engine, State
from lifecycle.cli.operate import tune_collector
from lifecycle.tables import accounts, history, outbox, receipts

SECTION = "Sweep"
#: The condition that is prepared for a figure whose name does not say so.
CONDITIONS = {"expire_trial: reminder": "remind_trial_end"}


def run(lab: Lab) -> Iterator[Figure]:
    """Accounts per second, ours and by hand, for every timed event on both databases."""
    with as_in_the_daemon():
        yield from figures(lab)


@contextmanager
def as_in_the_daemon() -> Iterator[None]:
    """Python's collector of garbage is set as the daemon sets it, for the SQL by hand, too."""
    before = gc.get_threshold()
    tune_collector()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def figures(lab: Lab) -> Iterator[Figure]:
    size = lab.size(50_000, 1_000)
    for kind in DATABASES:
        for name in (*JOBS, *RECEIPTS):
            lab.say(f"{SECTION}: {name} on {kind}")
            condition = CONDITIONS.get(name, name.split(":")[0])
            with backlog(lab, kind, condition, size, requested=name in RECEIPTS) as prepared:
                ours, rival = compared(lab.rounds, prepared, name, size)
            yield Figure(SECTION, name, kind, ours, rival, goal=Goal(at_least=0.8))


def compared(rounds: int, prepared: Backlog, name: str, size: int) -> list[float]:
    """Median accounts per second of both, once it is clear that both write the same rows."""
    written: dict[str, Any] = {}

    def measure(who: str, work: Callable[[Engine], int]) -> float:
        with prepared.copy() as engine:
            left = size - warm_up(engine, name)
            begun = perf_counter()
            moved = work(engine)
            took = perf_counter() - begun
            if moved != left:
                raise AssertionError(f"{name}, {who}: moved {moved} accounts of {left}")
            if who not in written:
                written[who] = rows(engine)
            return moved / took

    speeds = interleaved(
        rounds, lambda: measure("engine", lambda e: ours(e, name)), lambda: measure("by hand", lambda e: hand(e, name))
    )
    for one, other in zip(written["engine"], written["by hand"], strict=True):
        if one != other:
            raise AssertionError(f"{name}: the engine wrote\n{one}\nand the hand-written SQL\n{other}")
    return speeds


def warm_up(engine: Engine, name: str) -> int:
    """Connections are open and statements known, as in a running daemon.

    One account is moved for that, or as many as a handler of many is given at first; returns how many.
    """
    asked = count()
    if name in RECEIPTS:
        return only(engine, name).deliver(stop=lambda: next(asked) >= 2).delivered.total()
    engine.sweeper.batch, batch = 1, engine.sweeper.batch
    moved = engine.sweep(states=[State(JOBS[name].source)], stop=lambda: next(asked) >= 1).moved
    engine.sweeper.batch = batch
    return moved


def ours(engine: Engine, name: str) -> int:
    if name in JOBS:
        return engine.sweep(states=[State(JOBS[name].source)]).moved
    return only(engine, name).deliver().delivered.total()


def only(engine: Engine, name: str) -> Engine:
    """The engine with the one handler that counts here."""
    effect = Effect(RECEIPTS[name][0])
    engine.courier.handlers = {effect: engine.courier.handlers[effect]}
    return engine


def hand(engine: Engine, name: str) -> int:
    by_hand = Handwritten(engine, engine.clock.now())
    try:
        return by_hand.sweep(JOBS[name]) if name in JOBS else by_hand.deliver(*RECEIPTS[name])
    finally:
        by_hand.close()


def rows(engine: Engine) -> list[tuple[Any, ...]]:
    """All that was written, but for the ids of entries, tasks and receipts, which are given as they come."""
    drawn = (history.c.id, outbox.c.id, receipts.c.id)
    with engine.database.read() as connection:
        return [
            tuple(row)
            for table in (accounts, history, outbox, receipts)
            for columns in [[column for column in table.c if column not in drawn]]
            for row in connection.execute(select(*columns).order_by(*columns[:3]))
        ]
