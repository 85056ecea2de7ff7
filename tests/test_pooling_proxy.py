"""Behind a proxy that pools PostgreSQL's sessions by the transaction, everything works, and no session keeps a trace.

The proxy is a real PgBouncer with fewer sessions than clients, so that each transaction gets any of them.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, make_url, select, text

from lifecycle import Actor, Effect, Engine, ManualClock, Policy, State, database
from lifecycle.database import Database
from lifecycle.doctor import examine
from lifecycle.exporter import export
from lifecycle.importer import import_accounts
from lifecycle.notify import announcements
from lifecycle.tables import outbox
from tests.conftest import START
from tests.daemons import (
    CONFIRM,
    DAY,
    Process,
    assert_each_moved_once,
    now,
    open_trial,
    prepare,
    scalar,
    started_together,
    starting,
    until,
    until_all_is_done,
)

pytestmark = pytest.mark.postgres

SECOND = timedelta(seconds=1)
EXAMPLE = Path(__file__).parent.parent / "examples" / "accounts.csv"
ANN, ADMIN = "ann@acme.test", Actor.admin("root")
#: Debian installs it where only root looks.
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
CONFIGURATION = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
query_wait_timeout = {wait}
"""
#: Seconds after which who waits for a session gets an error: nobody waits for so long, unless for ever.
WAIT = 15


@dataclass(frozen=True)
class Proxy:
    """A running proxy: its port, the server's URL of the test's database, and how many sessions it has there."""

    port: int
    server: str
    sessions: int

    @property
    def name(self) -> str:
        """The test's database."""
        return str(make_url(self.server).database)

    @property
    def url(self) -> str:
        """What a client of the proxy is given."""
        return f"postgresql://anybody@127.0.0.1:{self.port}/{self.name}"

    def pool(self) -> dict[str, Any]:
        """How many clients and sessions do what, as the proxy counts them."""
        with psycopg.connect(
            f"{self.url.rpartition('/')[0]}/pgbouncer", autocommit=True, row_factory=dict_row
        ) as console:
            return next(pool for pool in console.execute("SHOW POOLS") if pool["database"] == self.name)

    @contextlib.contextmanager
    def every_session(self) -> Iterator[list[psycopg.Connection[Any]]]:
        """A transaction on each session at the same time."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(psycopg.connect(self.url)) for _ in range(self.sessions)]
            assert len({value(client, "SELECT pg_backend_pid()") for client in clients}) == self.sessions
            yield clients


def value(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def proxy(postgresql_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy with two sessions, or as many as the test says."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed (on Debian: apt-get install pgbouncer)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, sessions = make_url(postgresql_url), getattr(request, "param", 2)
    host = url.query.get("host", url.host)
    server = {"host": host, "port": url.port, "user": url.username, "password": url.password}
    told = " ".join(f"{name}='{word}'" for name, word in server.items() if word)
    configuration, log = tmp_path / "pgbouncer.ini", tmp_path / "pgbouncer.log"
    configuration.write_text(CONFIGURATION.format(server=told, port=port, sessions=sessions, wait=WAIT))
    with log.open("wb") as stream:
        popen = subprocess.Popen([PGBOUNCER, *_as_somebody(host), configuration], stderr=stream)
    try:
        until(lambda: popen.poll() is not None or "process up" in log.read_text())
        assert popen.poll() is None, log.read_text()
        yield Proxy(port, url.set(drivername="postgresql").render_as_string(hide_password=False), sessions)
    finally:
        popen.terminate()
        popen.wait(20)


def _as_somebody(host: Any) -> list[str]:
    """PgBouncer refuses to run as root; it runs as whoever may enter the folder of the server's socket."""
    if os.geteuid() != 0:
        return []
    return ["-u", Path(host).owner() if host and os.path.isdir(host) else "nobody"]


@contextlib.contextmanager
def opened(url: str) -> Iterator[Engine]:
    """An engine that begins at the start of 2026 and confirms everything."""
    receipts = dict.fromkeys(Effect, lambda task: f"receipt for {task.idempotency_key}")
    engine = Engine(url, policy=Policy(), clock=ManualClock(START), handlers=receipts)
    engine.migrate()
    yield engine
    engine.close()


# --- Everything works ------------------------------------------------------------------------------


def at_once(*calls: Callable[[], Any]) -> None:
    """Each call in a thread of its own."""
    with ThreadPoolExecutor(len(calls)) as threads:
        for done in [threads.submit(call) for call in calls]:
            done.result()


def in_turn(*calls: Callable[[], Any]) -> None:
    for call in calls:
        call()


def live(engine: Engine, do: Callable[..., None]) -> None:
    """Five weeks in which an engine does all that it can; ``do`` runs calls of which none depends on another."""
    clock, reads = engine.clock, partial(read, engine)
    assert isinstance(clock, ManualClock)
    do(*(partial(open_crowd, engine, name) for name in ("many", "used")), partial(bring_in, engine), reads)
    clock.set(START + 3 * DAY)
    teams = [partial(open_and_ask, engine, f"team-{number}") for number in range(5)]
    do(*teams, partial(suspend_many, engine), partial(note_activity, engine), reads)
    for day in range(4, 36):  # deadlines are passed in their order, as a daemon passes them
        clock.set(START + day * DAY)
        do(engine.sweep, engine.deliver, engine.sweep, engine.deliver, reads)
        engine.run_until(clock.now())


def open_crowd(engine: Engine, name: str) -> None:
    for number in range(10):
        engine.open_account(f"{name}-{number}", company="Acme Ltd", owners=[ANN], plan="free")


def bring_in(engine: Engine) -> None:
    assert import_accounts(engine, EXAMPLE).imported == 300


def open_and_ask(engine: Engine, team: str) -> None:
    engine.open_account(f"{team}-trial", company="Acme Ltd", owners=[ANN])
    engine.open_account(f"{team}-paid", company="Acme Ltd", owners=[ANN], plan="paid", period_ends_at=START + 40 * DAY)
    engine.fire(f"{team}-paid", "cancel", actor=Actor.owner(ANN), reason="too expensive", request_id=f"{team}-1")
    engine.place_hold(f"{team}-trial", actor=ADMIN, reason="by order of the court", case="2027-114")


def suspend_many(engine: Engine) -> None:
    ids = [f"many-{number}" for number in range(10)]
    plan = engine.fire_many("suspend", ids, actor=ADMIN, reason="spam")
    done = engine.fire_many("suspend", ids, actor=ADMIN, reason="spam", dry_run=False, digest=plan.digest)
    assert (done.count, done.applied) == (10, True)


def note_activity(engine: Engine) -> None:
    pairs = [(f"used-{number}", START + 2 * DAY) for number in range(10)]
    assert engine.record_activities([*pairs, ("nobody", START)]).written == 10


def read(engine: Engine) -> None:
    rows = list(export(engine, "accounts"))
    assert sum(engine.summary().values()) >= len(rows) - 1
    assert len(list(export(engine, "history"))) >= len(rows)
    assert sum(1 for _ in engine.accounts()) >= len(rows) - 1
    assert all(one.at <= engine.clock.now() for one in engine.due())
    assert all(count > 0 for count in (*(count for _, count in engine.at_risk()), *engine.outbox_counts().values()))


def contents(engine: Engine) -> tuple[list[str], list[str], list[str]]:
    """Accounts, history and outbox, without the numbers and hashes that are each database's own."""
    with engine.database.read() as connection:
        tasks = connection.execute(select(*(column for column in outbox.c if column is not outbox.c.id)))
        owed = sorted(repr(tuple(task)) for task in tasks)
    entries = [re.sub('"import:[0-9a-f]{32}"', "", line) for line in export(engine, "history", "jsonl")]
    return list(export(engine, "accounts", "jsonl")), entries, owed


@pytest.mark.slow
@pytest.mark.parametrize("proxy", [1, 2], indirect=True)
def test_all_work_of_many_threads_ends_as_it_does_one_by_one_without_a_proxy(proxy: Proxy, sqlite_url: str) -> None:
    """One session is enough for all of them: nothing needs a second one while it has the first."""
    with opened(proxy.url) as pooled, opened(sqlite_url) as alone:
        live(pooled, at_once)
        live(alone, in_turn)
        assert contents(pooled) == contents(alone)
    assert_fresh(proxy)


#: What may be the first call on an engine. The policy that it needs then is in the database.
CALLS: dict[str, Callable[[Engine], Any]] = {
    "open_account": lambda engine: engine.open_account("new", company="New Ltd", owners=[ANN]),
    "fire": lambda engine: engine.fire("acme", "suspend", actor=ADMIN, reason="spam"),
    "fire_many": lambda engine: engine.fire_many("suspend", ["acme"], actor=ADMIN, reason="spam"),
    "may": lambda engine: engine.may("acme", "cancel", actor=Actor.owner(ANN)),
    "explain": lambda engine: engine.explain("acme"),
    "refund_assessment": lambda engine: engine.refund_assessment("acme"),
    "due": lambda engine: list(engine.due(400 * DAY)),
    "awaiting_approval": lambda engine: list(engine.awaiting_approval()),
    "at_risk": lambda engine: engine.at_risk(),
    "outbox_counts": lambda engine: engine.outbox_counts(),
    "record_activity": lambda engine: engine.record_activity("acme"),
    "record_activities": lambda engine: engine.record_activities([("acme", now())]),
    "import_accounts": lambda engine: import_accounts(engine, EXAMPLE, dry_run=True),
    "export": lambda engine: list(export(engine, "accounts")),
    "examine": examine,
    "sweep": lambda engine: engine.sweep(),
    "deliver": lambda engine: engine.deliver(),
}


@pytest.mark.parametrize("proxy", [1], indirect=True)
def test_the_first_call_on_an_engine_needs_no_second_session_either(proxy: Proxy, present: Engine) -> None:
    present.open_account("acme", company="Acme Ltd", owners=[ANN])
    for name, call in CALLS.items():
        with contextlib.closing(Engine(proxy.url)) as engine:
            begun = time.monotonic()
            call(engine)
            assert time.monotonic() - begun < WAIT, name


@pytest.mark.parametrize("proxy", [1], indirect=True)
@pytest.mark.parametrize("line", ["outbox list", "due", "show acme", "doctor", "timers"])
def test_a_command_needs_no_second_session(proxy: Proxy, present: Engine, line: str) -> None:
    present.open_account("acme", company="Acme Ltd", owners=[ANN])
    done = subprocess.run(command(proxy, *line.split()), check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("proxy", [1], indirect=True)
def test_the_daemon_that_operators_start_begins_with_one_session(proxy: Proxy, present: Engine) -> None:
    with subprocess.Popen(command(proxy, "daemon"), stderr=subprocess.DEVNULL) as daemon:
        try:
            until(present.heartbeats, WAIT)
        finally:
            daemon.terminate()
        assert daemon.wait(20) == 0


def command(proxy: Proxy, *words: str) -> list[str]:
    return [sys.executable, "-m", "lifecycle", "--database", proxy.url, *words]


def test_instants_are_right_whatever_time_zone_the_server_is_in(
    proxy: Proxy, postgresql_url: str, sqlite_url: str
) -> None:
    in_berlin(postgresql_url)
    with opened(proxy.url) as berlin, opened(sqlite_url) as plain:
        with berlin.database.read() as connection:
            assert connection.scalar(text("SHOW timezone")) == "Europe/Berlin"
        for engine in (berlin, plain):
            for day in (50, 80, 260, 290):  # before and in the summer, and before and in the winter
                engine.run_until(START + day * DAY)
                engine.open_account(f"trial-{day}", company="Acme Ltd", owners=[ANN])
            engine.run_until(START + 500 * DAY)
        assert contents(berlin) == contents(plain)
        opening, *_, purge = berlin.history("trial-50")
        assert opening.at == START + 50 * DAY and purge.dest is State.PURGED
        # Clocks go forward on the 88th day: 30 days of trial, and 30 on hold, are not an hour less.
        fired = [entry.at - opening.at for entry in berlin.history("trial-50") if entry.step == "fire"]
        assert fired[:2] == [30 * DAY, 60 * DAY]


def in_berlin(url: str) -> None:
    """Have the server think that everybody who comes to this database lives in Berlin."""
    maker = create_engine(url, isolation_level="AUTOCOMMIT")
    with maker.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {maker.url.database} SET timezone = 'Europe/Berlin'"))
    maker.dispose()


# --- Daemons ---------------------------------------------------------------------------------------


@pytest.fixture
def start(proxy: Proxy, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts daemons that look at the database every second and confirm everything; none outlives the test."""
    with starting(proxy.url, tmp_path) as start:
        yield partial(start, resync=1, handlers=dict.fromkeys(Effect, CONFIRM))


@pytest.fixture
def present(proxy: Proxy) -> Iterator[Engine]:
    """An engine on the system's clock, as other processes have it."""
    engine = Engine(proxy.url)
    engine.migrate()
    yield engine
    engine.close()


def last_look(engine: Engine) -> datetime:
    (heartbeat,) = engine.heartbeats()
    return heartbeat["seen_at"]


def on_hold(engine: Engine) -> int:
    return engine.summary()[State.ON_HOLD]


def test_two_daemons_move_each_account_once_and_end_when_they_are_told_to(
    proxy: Proxy, postgresql_url: str, present: Engine, start: Callable[..., Process]
) -> None:
    kinds = {"trials": 2_000, "inactive": 1_000}
    prepare(present, **kinds)
    with contextlib.closing(Engine(postgresql_url)) as straight:  # they have a session each, and both wait in it
        daemons = started_together(straight, start, 2, batch=50)
    until_all_is_done(present, 60)
    assert_each_moved_once(present, **kinds)
    assert scalar(present, "SELECT count(*) FROM outbox WHERE attempts <> 1") == 0
    until(lambda: sum(daemon.moved() for daemon in daemons) == 4_000)
    assert all(daemon.moved() for daemon in daemons), "both have taken part"
    assert all(daemon.ended_after(signal.SIGTERM) < 5 for daemon in daemons)
    assert [daemon.popen.returncode for daemon in daemons] == [0, 0]
    assert [daemon.troubles() for daemon in daemons] == [[], []]
    assert_fresh(proxy)


@pytest.mark.parametrize("proxy", [1], indirect=True)
def test_a_daemon_sees_what_others_write_at_its_next_look_and_holds_no_session(
    proxy: Proxy, postgresql_url: str, present: Engine, start: Callable[..., Process]
) -> None:
    daemon = start()
    until(present.heartbeats)
    open_trial(postgresql_url, now() - DAY)
    until(lambda: on_hold(present), 5)
    seen = last_look(present)
    until(lambda: last_look(present) > seen + 2 * SECOND)
    (line,) = daemon.log("announcements are not heard")  # once, not at each look
    assert line["level"] == "warning" and "within 1 seconds" in line["consequence"]
    assert daemon.troubles() == []
    until(lambda: proxy.pool()["sv_active"] == 0)
    assert_fresh(proxy)


def test_nobody_listens_behind_a_proxy(proxy: Proxy) -> None:
    assert next(announcements(Database(proxy.url), lambda: False), "it ended") == "it ended"
    assert_fresh(proxy)


# --- Sessions --------------------------------------------------------------------------------------


def assert_fresh(proxy: Proxy) -> None:
    """Each session of the proxy is as a new one: nothing that was done there has left a trace."""
    with proxy.every_session() as sessions, psycopg.connect(proxy.server) as fresh:
        for session in sessions:
            assert settings(session) == settings(fresh)
            assert value(session, "SELECT count(*) FROM pg_prepared_statements") == 0
            assert value(session, "SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0
            assert value(session, "SELECT count(*) FROM pg_listening_channels()") == 0
            assert value(session, "SELECT count(*) FROM pg_class WHERE relpersistence = 't'") == 0
            own = "WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            assert value(session, f"SELECT count(*) FROM pg_locks {own}") == 0


def settings(session: psycopg.Connection[Any]) -> dict[str, str]:
    """All of them, from the time zone to the timeouts, but for the name that the proxy hands on.

    Those of the language that triggers are written in are there once a session has made one, whatever it leaves.
    """
    ours = "name <> 'application_name' AND name NOT LIKE 'plpgsql.%'"
    return dict(session.execute(f"SELECT name, setting FROM pg_settings WHERE {ours}"))


@pytest.mark.parametrize("way", ["straight", "proxy"])
def test_an_export_leaves_its_connection_as_it_found_it(
    way: str, postgresql_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_TRUSTED_SECONDS", -1)  # as if each connection had lain idle for long
    url = postgresql_url if way == "straight" else request.getfixturevalue("proxy").url
    with opened(url) as engine:
        engine.open_account("acme", company="Acme Ltd", owners=[ANN])
        assert len(list(export(engine, "accounts"))) == 2
        assert engine.summary()[State.TRIAL] == 1
        engine.open_account("beta", company="Beta Ltd", owners=[ANN])
