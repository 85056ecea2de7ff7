"""The daemon as operators meet it: a process that is started, signalled, killed, cut off and started again."""

import contextlib
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from lifecycle import Actor, Effect, Engine, State
from tests.daemons import (
    DAY,
    HANG,
    Process,
    assert_whole,
    back_then,
    multiply,
    now,
    open_trial,
    scalar,
    starting,
    until,
)

#: Confirms whatever it is given.
ECHO = ["echo", "receipt"]


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts daemons on ``url``; none outlives the test."""
    with starting(url, tmp_path) as start:
        yield start


@pytest.fixture
def present(url: str) -> Iterator[Engine]:
    """An engine on the system's clock, as other processes have it."""
    engine = Engine(url)
    engine.migrate()
    yield engine
    engine.close()


def in_state(engine: Engine, state: State) -> int:
    return engine.summary()[state]


# --- Punctuality -----------------------------------------------------------------------------------


def test_every_move_happens_within_a_second_of_its_deadline(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    begun = now()
    deadlines = {f"trial-{tenths}": begun + timedelta(seconds=tenths / 10) for tenths in (18, 22, 23, 29)}
    for account_id, ends_at in deadlines.items():
        open_trial(url, ends_at, account_id)
    start()
    until(lambda: in_state(present, State.ON_HOLD) == len(deadlines))
    for account_id, ends_at in deadlines.items():
        late = present.history(account_id)[-1].at - ends_at
        assert timedelta(0) <= late < timedelta(seconds=1), account_id


def test_a_move_that_makes_another_timer_due_is_followed_at_once(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    ends_at = now() + timedelta(seconds=2)
    with back_then(url, now() - 10 * DAY) as past:
        past.open_account("free", company="Acme", owners=["ann@acme.test"], plan="free")
        past.fire("free", "cancel", actor=Actor.owner("ann@acme.test"), company="Acme", email="ann@acme.test")
    open_trial(url, ends_at)
    start()
    until(lambda: in_state(present, State.ACCESS_REVOKED) and in_state(present, State.ON_HOLD))
    until(lambda: present.outbox_counts() == {"delivered": present.outbox_counts().get("delivered")})


def test_what_another_process_writes_is_seen_within_the_resync_time(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    daemon = start(resync=1)
    until(present.heartbeats)
    open_trial(url, now() - DAY)
    written = time.monotonic()
    until(lambda: in_state(present, State.ON_HOLD), 5)
    assert time.monotonic() - written < 2
    assert daemon.popen.poll() is None


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_on_postgresql_it_is_seen_at_once(url: str, present: Engine, start: Callable[..., Process]) -> None:
    start(resync=30)
    until(present.heartbeats)
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    until(lambda: scalar(present, listening))
    open_trial(url, now() - DAY)
    written = time.monotonic()
    until(lambda: in_state(present, State.ON_HOLD))
    assert time.monotonic() - written < 2
    # Cut, the line is mended, and nothing that was said meanwhile is missed.
    scalar(present, f"SELECT count(pg_terminate_backend(pid)) {listening.removeprefix('SELECT count(*)')}")
    open_trial(url, now() - DAY, "second")
    written = time.monotonic()
    until(lambda: in_state(present, State.ON_HOLD) == 2)
    assert time.monotonic() - written < 3


# --- Stopping --------------------------------------------------------------------------------------


def test_sigterm_in_a_large_sweep_leaves_nothing_half_done(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    count = 100_000 if present.database.is_postgresql else 200_000
    open_trial(url, now() - DAY)
    multiply(present, "trial", count - 1)
    daemon = start(batch=500)
    until(lambda: daemon.log("batch"))
    assert daemon.ended_after(signal.SIGTERM) < 5
    assert daemon.popen.returncode == 0
    moved = in_state(present, State.ON_HOLD)
    assert 0 < moved < count
    assert scalar(present, "SELECT count(*) FROM history WHERE number = 2") == moved
    assert daemon.moved() == moved

    second = start()
    until(lambda: second.moved() == count - moved, 60)
    assert in_state(present, State.ON_HOLD) == count
    assert scalar(present, "SELECT count(*) FROM history") == 2 * count
    assert scalar(present, "SELECT count(*) FROM account WHERE version <> 2") == 0


def test_after_sigkill_nothing_is_lost_and_nothing_happens_twice(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    with back_then(url, now() - 60 * DAY) as past:
        past.open_account("held", company="Acme", owners=["ann@acme.test"])
        past.run_until(now() - 25 * DAY)  # on hold for five days; its reminder is overdue by now
    open_trial(url, now() - DAY)
    multiply(present, "trial", 9_999)
    multiply(present, "held", 999)
    before = scalar(present, "SELECT count(*) FROM history")
    for batches in (3, 10):
        daemon = start(batch=50)
        until(lambda daemon=daemon, batches=batches: len(daemon.log("batch")) >= batches)
        daemon.ended_after(signal.SIGKILL)
        assert_whole(present)
    assert in_state(present, State.ON_HOLD) < 11_000
    start(batch=1_000)
    reminded = "SELECT count(*) FROM account WHERE id LIKE 'held%' AND reminded_at IS NOT NULL"
    until(lambda: in_state(present, State.ON_HOLD) == 11_000 and scalar(present, reminded) == 1_000)
    assert_whole(present)
    swept = "SELECT count(*) FROM history WHERE actor LIKE 'system:%' AND step IN ('fire', 'remind') AND number > 1"
    fired = scalar(present, f"{swept} AND account_id LIKE 'trial%'")
    assert fired == 10_000
    assert before < scalar(present, "SELECT count(*) FROM history")


def test_a_hung_program_does_not_delay_sigterm(
    url: str, present: Engine, start: Callable[..., Process], tmp_path: Path
) -> None:
    marker = tmp_path / "pid"
    open_trial(url, now() + DAY)
    daemon = start(handlers={Effect.REMIND_TRIAL_END: ["sh", "-c", f"echo $$ > {marker}; sleep 600"]})
    pid = int(until(lambda: marker.exists() and marker.read_text()))
    assert daemon.ended_after(signal.SIGTERM) < 5
    assert daemon.popen.returncode == 0
    assert not Path(f"/proc/{pid}").exists()
    assert not daemon.log("daemon cut off")
    (task,) = _tasks(present)
    assert (task["status"], task["attempts"], task["claimed_until"]) == ("pending", 1, None)


def test_a_hung_function_is_cut_off_with_the_process(url: str, present: Engine, start: Callable[..., Process]) -> None:
    open_trial(url, now() + DAY)
    daemon = start(handlers={Effect.REMIND_TRIAL_END: HANG})
    until(lambda: [task for task in _tasks(present) if task["attempts"]])
    assert daemon.ended_after(signal.SIGINT) < 5
    assert daemon.popen.returncode == 0
    assert daemon.log("daemon cut off")[0]["running"] == ["outbox"]


def _tasks(engine: Engine) -> list[Any]:
    with engine.database.read() as connection:
        return engine.courier.rows(connection)


# --- Outages ---------------------------------------------------------------------------------------


def test_a_start_that_is_31_days_late_handles_all_and_harms_nobody(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    outage = now() - 31 * DAY
    owner, names = Actor.owner("ann@acme.test"), {"company": "Acme", "owners": ["ann@acme.test"]}
    with back_then(url, outage - 59 * DAY) as past:
        past.open_account("noticed", **names)  # its notice is given before the outage, its date is within
        past.run_until(outage - 45 * DAY)
        past.open_account("on-hold", **names)  # its reminder was due in the outage
        past.run_until(outage - 29 * DAY)
        past.open_account("trial", **names)
        past.run_until(outage - DAY)
        past.open_account("leaver", **names, plan="paid", period_ends_at=outage + 12 * DAY)
        past.fire("leaver", "cancel", actor=owner, company="Acme", email="ann@acme.test")
        past.run_until(outage)
    assert present.get("noticed").not_before is not None
    daemon = start(handlers={Effect.DELETE_CONTENT: ECHO, Effect.PURGE_BACKUPS: ECHO})
    begun = now()
    until(lambda: present.get("leaver").not_before and present.get("on-hold").not_before)
    until(lambda: present.get("noticed").state is State.ACCESS_REVOKED)
    until(lambda: not [due for due in present.due() if due.at <= begun])

    trial, held = present.get("trial"), present.get("on-hold")
    assert (trial.state, held.state) == (State.ON_HOLD, State.ON_HOLD)
    assert trial.held_at > outage + 30 * DAY, "the hold begins when it really began"
    assert held.not_before > now() + 13 * DAY, "nobody is cancelled without the full notice"
    noticed, leaver = present.get("noticed"), present.get("leaver")
    assert noticed.delete_content_at >= noticed.cancelled_at + 30 * DAY > now() + 29 * DAY
    assert leaver.state is State.ACCESS_REVOKED
    assert leaver.not_before > now() + 6 * DAY, "nothing is deleted without the full notice"
    assert scalar(present, "SELECT count(*) FROM outbox WHERE effect IN ('delete_content', 'purge_backups')") == 0
    assert_whole(present)
    assert daemon.popen.poll() is None


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_on_postgresql_the_daemon_outlives_its_database(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    daemon = start(resync=2)
    until(present.heartbeats)
    open_trial(url, now() + timedelta(seconds=2))
    name = present.database.url.database
    present.database.close()
    maker = create_engine(present.database.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with maker.connect() as admin:
        admin.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        admin.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        alarms = until(lambda: len(daemon.log("alarm")) >= 3 and daemon.log("alarm"))
        until(lambda: len([line for line in daemon.log("alarm") if line["job"] == "deadlines"]) >= 3)
        admin.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    maker.dispose()
    assert {line["error"] for line in alarms} == {"DatabaseUnavailable"}
    assert all(line["advice"] and line["retry_in_seconds"] <= 2 for line in alarms)
    until(lambda: in_state(present, State.ON_HOLD))
    until(lambda: daemon.log("recovered"))
    assert daemon.popen.poll() is None


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_on_sqlite_the_daemon_waits_for_whoever_locks_the_file(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    daemon = start(resync=1)
    until(present.heartbeats)
    ends_at = now() + timedelta(seconds=2)
    open_trial(url, ends_at)
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    until(lambda: now() > ends_at + timedelta(seconds=2))
    assert in_state(present, State.TRIAL) == 1
    other.execute("ROLLBACK")
    other.close()
    until(lambda: in_state(present, State.ON_HOLD), 3)
    assert daemon.ended_after(signal.SIGTERM) < 5
    assert daemon.popen.returncode == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_database_that_hangs_does_not_delay_sigterm(url: str, present: Engine, start: Callable[..., Process]) -> None:
    daemon = start(resync=0.5)
    until(present.heartbeats)
    open_trial(url, now() + timedelta(seconds=2))
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        until(lambda: now() > present.get("trial").trial_ends_at + timedelta(seconds=1))
        assert daemon.ended_after(signal.SIGTERM) < 5
    assert daemon.popen.returncode == 0
    assert in_state(present, State.TRIAL) == 1
    assert_whole(present)


# --- Company ---------------------------------------------------------------------------------------


def test_two_daemons_share_the_work_and_do_nothing_twice(
    url: str, present: Engine, start: Callable[..., Process]
) -> None:
    open_trial(url, now() + 7 * DAY + timedelta(seconds=3))  # its reminder is due in three seconds
    multiply(present, "trial", 1_999)
    daemons = [start(resync=1, batch=50), start(resync=1, batch=50)]
    until(lambda: len(present.heartbeats()) == 2)
    until(lambda: scalar(present, "SELECT count(*) FROM history WHERE step = 'remind'") == 2_000, 30)
    assert_whole(present)
    assert scalar(present, "SELECT count(*) FROM account WHERE version > 3") == 0
    done = [daemon.moved() for daemon in daemons]
    assert sum(done) == 2_000
    if present.database.is_postgresql:
        assert all(done), "on PostgreSQL both take part"
    delivering = "SELECT count(*) FROM outbox WHERE attempts > 1"
    assert scalar(present, delivering) == 0
    assert all(daemon.ended_after(signal.SIGTERM) < 5 for daemon in daemons)


def test_missing_handlers_and_notices_that_reach_nobody_are_named_in_the_log(
    present: Engine, start: Callable[..., Process]
) -> None:
    daemon = start(handlers={Effect.PURGE_BACKUPS: ECHO})
    until(present.heartbeats)
    assert [line["effect"] for line in daemon.log("no handler")] == ["delete_content"]
    (line,) = daemon.log("effects are only logged")
    assert "remind_deletion" in line["effects"]
    assert line["level"] == "warning"
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_a_database_without_a_schema_is_refused_with_advice(start: Callable[..., Process]) -> None:
    daemon = start()
    assert daemon.popen.wait(20) == 1
    (line,) = daemon.log("daemon can't start")
    assert (line["error"], "lifecycle init" in line["advice"]) == ("SchemaOutdated", True)
