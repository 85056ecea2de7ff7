"""The daemon from inside: what it registers, how it waits, what it says; as threads of this process."""

import contextlib
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from apscheduler.schedulers.blocking import BlockingScheduler

from lifecycle import Actor, Effect, Engine, ManualClock, Policy, Safety, State
from lifecycle import log as logs
from lifecycle.clock import SystemClock
from lifecycle.errors import Conflict, DatabaseUnavailable, InvalidInput, PolicyError, SchemaOutdated
from lifecycle.ledger import Ledger
from lifecycle.machine import TIMERS
from lifecycle.outbox import DeliveryReport
from lifecycle.risks import RISKS
from lifecycle.scheduler import OUTBOX, SEAL, Daemon
from lifecycle.scheduler import RISKS as COUNT_RISKS
from lifecycle.sweep import SweepReport

DAY = timedelta(days=1)
TIMER_NAMES = {str(row.event) for row in TIMERS}


def now() -> datetime:
    return SystemClock().now()


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return found


@pytest.fixture
def live(sqlite_url: str) -> Iterator[Engine]:
    """A migrated engine on the system's clock."""
    engine = Engine(sqlite_url)
    engine.migrate()
    yield engine
    engine.close()


@pytest.fixture
def said() -> Iterator[list[dict[str, Any]]]:
    """What is logged in the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@contextlib.contextmanager
def running(engine: Engine, resync: timedelta = timedelta(seconds=30)) -> Iterator[Daemon]:
    """A daemon in a thread; stopped, and joined, at the end."""
    daemon = Daemon(engine, resync=resync)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(daemon.run()))
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join(10)
        assert codes == [0]


def open_trial(url: str, ends_at: datetime, account_id: str = "trial") -> None:
    past = Engine(url, clock=ManualClock(ends_at - 30 * DAY))
    past.open_account(account_id, company="Acme", owners=["ann@acme.test"])
    past.close()


def jobs(daemon: Daemon) -> dict[str, datetime]:
    """The scheduler's jobs by id, each with its date."""
    assert daemon._timetable is not None
    return {job.id: job.next_run_time for job in daemon._timetable._scheduler.get_jobs()}


def calls_of(engine: Engine, monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[..., Any]) -> list[float]:
    """Replace an engine's method; the instants at which it is called."""
    called: list[float] = []

    def replacement(**options: Any) -> Any:
        called.append(time.monotonic())
        return act(len(called))

    monkeypatch.setattr(engine, method, replacement)
    return called


# --- Registering -----------------------------------------------------------------------------------


def test_there_is_one_job_for_each_timer_and_one_each_that_delivers_counts_risks_and_seals(live: Engine) -> None:
    assert set(Daemon(live).jobs) == TIMER_NAMES | {OUTBOX, COUNT_RISKS, SEAL}


def test_a_timer_is_registered_at_its_earliest_deadline_and_one_without_accounts_is_not(live: Engine) -> None:
    soon, later = now() + 10 * DAY, now() + 12 * DAY
    open_trial(str(live.database.url), later, "later")
    open_trial(str(live.database.url), soon, "soon")
    with running(live) as daemon:
        registered = until(lambda: daemon._timetable and jobs(daemon))
        until(lambda: TIMER_NAMES & set(jobs(daemon)) == {"expire_trial"})
        registered = jobs(daemon)
        reminded_at = live.get("soon").due_at
        assert reminded_at is not None
        assert abs(registered["expire_trial"] - reminded_at) < timedelta(milliseconds=50)


def test_a_timer_whose_accounts_have_gone_is_unregistered_at_the_next_look(live: Engine) -> None:
    open_trial(str(live.database.url), now() + 10 * DAY)
    with running(live, timedelta(seconds=0.2)) as daemon:
        until(lambda: daemon._timetable and "expire_trial" in jobs(daemon))
        other = Engine(str(live.database.url))
        from lifecycle import Actor

        other.fire("trial", "downgrade", actor=Actor.billing("b"))
        other.close()
        until(lambda: "expire_trial" not in jobs(daemon) and "cancel_inactive" in jobs(daemon))


def test_a_deadline_of_the_engines_clock_is_registered_on_the_schedulers_wall_clock(sqlite_url: str) -> None:
    engine = Engine(sqlite_url, clock=ManualClock(datetime(2031, 1, 1, tzinfo=UTC)))
    engine.migrate()
    engine.open_account("trial", company="Acme", owners=["ann@acme.test"])
    with running(engine) as daemon:
        until(lambda: daemon._timetable and "expire_trial" in jobs(daemon))
        away = jobs(daemon)["expire_trial"] - now()
        assert abs(away - 23 * DAY) < timedelta(seconds=10)


def test_a_sweep_that_moves_something_is_followed_by_a_delivery(live: Engine, said: list[dict[str, Any]]) -> None:
    with running(live) as daemon:
        until(lambda: daemon._timetable and OUTBOX not in jobs(daemon))
        open_trial(str(live.database.url), now() + DAY)
        daemon._queue.put(None)  # as the listener does
        until(lambda: live.outbox_counts() == {"delivered": 1})
    assert [line["moves"] for line in said if line["event"] == "batch"] == [{"expire_trial/remind": 1}]
    assert [line["delivered"] for line in said if line["event"] == "delivery"] == [{"remind_trial_end": 1}]


def test_an_effect_that_failed_is_tried_again_when_its_wait_is_over(sqlite_url: str) -> None:
    from lifecycle.task import DeliverySettings

    attempts: list[float] = []

    def fail_once(task: Any) -> None:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            raise RuntimeError("not now")

    settings = DeliverySettings(first_wait=timedelta(seconds=0.3))
    engine = Engine(sqlite_url, handlers={Effect.REMIND_TRIAL_END: fail_once}, delivery=settings)
    engine.migrate()
    open_trial(sqlite_url, now() + DAY)
    with running(engine):
        until(lambda: engine.outbox_counts() == {"delivered": 1})
    assert len(attempts) == 2
    assert 0.3 <= attempts[1] - attempts[0] < 2


# --- Trouble ---------------------------------------------------------------------------------------


def test_a_failing_job_is_alarmed_and_tried_again_with_growing_waits_until_it_recovers(
    live: Engine, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_trial(str(live.database.url), now() - DAY)
    sweep = live.sweep

    def act(call: int) -> Any:
        if call <= 3:
            raise Conflict("Another process holds the rows; try again.")
        return sweep()

    called = calls_of(live, monkeypatch, "sweep", act)
    with running(live):
        until(lambda: live.summary()[State.ON_HOLD])
        until(lambda: [line for line in said if line["event"] == "recovered"])
    alarms = [line for line in said if line["event"] == "alarm"]
    assert [(line["job"], line["error"], line["tries"]) for line in alarms] == [
        ("expire_trial", "Conflict", tries) for tries in (1, 2, 3)
    ]
    assert [line["retry_in_seconds"] for line in alarms] == [0.25, 0.5, 1.0]
    assert alarms[0]["advice"] == "Another process holds the rows; try again."
    waits = [later - earlier for earlier, later in itertools.pairwise(called)][:3]
    assert all(wait >= promised for wait, promised in zip(waits, (0.25, 0.5, 1.0), strict=True))


def test_waits_never_grow_beyond_the_resync_time(
    live: Engine, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_trial(str(live.database.url), now() - DAY)

    def act(call: int) -> Any:
        raise DatabaseUnavailable("The database can't be reached.")

    calls_of(live, monkeypatch, "sweep", act)
    with running(live, timedelta(seconds=0.4)):
        until(lambda: len([line for line in said if line["event"] == "alarm"]) >= 4)
    waits = [line["retry_in_seconds"] for line in said if line["event"] == "alarm"]
    assert waits[:4] == [0.25, 0.4, 0.4, 0.4]


def test_an_unforeseen_error_is_alarmed_with_its_place_and_without_the_rows_in_its_text(
    live: Engine, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_trial(str(live.database.url), now() - DAY)

    def act(call: int) -> Any:
        if call == 1:
            raise ValueError("a constraint failed\nDETAIL: Failing row contains (ann@acme.test)")
        return SweepReport()

    calls_of(live, monkeypatch, "sweep", act)
    with running(live):
        alarm = until(lambda: [line for line in said if line["event"] == "alarm"])[0]
    assert alarm["advice"].startswith("a constraint failed ")
    assert "ann@acme.test" not in str(alarm)
    assert any("in act" in frame or frame.endswith(" act") for frame in alarm["trace"])


def test_a_timer_that_can_not_move_what_is_due_does_not_spin(live: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    open_trial(str(live.database.url), now() - DAY)
    called = calls_of(live, monkeypatch, "sweep", lambda call: SweepReport())
    with running(live):
        until(lambda: called)
        begun = time.monotonic()
        until(lambda: time.monotonic() > begun + 1.5)
        assert 2 <= len(called) <= 5


def test_announcements_in_a_flood_do_not_make_the_daemon_spin(live: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    called = calls_of(live, monkeypatch, "deliver", lambda call: DeliveryReport())
    with running(live) as daemon:
        until(lambda: called)
        begun = time.monotonic()
        while time.monotonic() < begun + 0.5:
            daemon._queue.put(None)
            time.sleep(0.0005)
        assert len(called) <= 30


def test_a_policy_that_is_not_in_force_any_more_makes_the_daemon_give_up(
    live: Engine, said: list[dict[str, Any]]
) -> None:
    open_trial(str(live.database.url), now() + timedelta(seconds=0.5))
    daemon = Daemon(live, resync=timedelta(seconds=0.2))
    adopting = Engine(str(live.database.url), policy=Policy(trial_length=40 * DAY))
    threading.Timer(0.3, adopting.migrate).start()
    assert daemon.run() == 1
    adopting.close()
    (last,) = [line for line in said if line["event"] == "daemon gives up"]
    assert (last["log_level"], last["error"]) == ("critical", "PolicyError")


def test_a_scheduler_that_dies_is_started_again_and_loses_nothing(
    live: Engine, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    process_jobs = BlockingScheduler._process_jobs
    deaths: list[int] = []

    def die_once(self: BlockingScheduler) -> Any:
        if not deaths:
            deaths.append(1)
            raise OSError("the job store has gone")
        return process_jobs(self)

    monkeypatch.setattr(BlockingScheduler, "_process_jobs", die_once)
    open_trial(str(live.database.url), now() - DAY)
    with running(live):
        until(lambda: live.summary()[State.ON_HOLD])
    assert [line["job"] for line in said if line["event"] == "alarm"] == ["scheduler"]


def test_a_scheduler_that_keeps_dying_makes_the_daemon_give_up(
    live: Engine, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: BlockingScheduler) -> Any:
        raise OSError("the job store has gone")

    monkeypatch.setattr(BlockingScheduler, "_process_jobs", die)
    assert Daemon(live).run() == 1
    assert [line["log_level"] for line in said if line["event"] == "daemon gives up"] == ["critical"]
    assert len([line for line in said if line["event"] == "scheduler died"]) == 4


def test_a_run_that_the_scheduler_lost_is_registered_again(live: Engine, said: list[dict[str, Any]]) -> None:
    with running(live, timedelta(seconds=0.2)) as daemon:
        until(lambda: daemon._timetable)
        daemon.jobs["expire_trial"].registered = 0.0  # registered long ago, and no word since
        open_trial(str(live.database.url), now() - DAY)
        until(lambda: live.summary()[State.ON_HOLD])
    assert [line["job"] for line in said if line["event"] == "alarm"] == ["expire_trial"]


# --- Signs of life -----------------------------------------------------------------------------------


def test_the_heartbeat_is_written_at_each_resync_and_not_more_often(
    live: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[tuple[float, Any]] = []
    beat = live.store.beat

    def recorded(*arguments: Any) -> None:
        beats.append((time.monotonic(), arguments[-1]))
        beat(*arguments)

    monkeypatch.setattr(live.store, "beat", recorded)
    with running(live, timedelta(seconds=0.3)) as daemon:
        until(lambda: beats)
        for _ in range(20):
            daemon._queue.put(None)
            time.sleep(0.01)
        until(lambda: len(beats) >= 4)
    # Together, since after a stall of the machine two come close to each other.
    lasted = beats[-1][0] - beats[0][0]
    assert len(beats) <= lasted / 0.3 + 1.5
    (row,) = live.heartbeats()
    assert (row["daemon"], row["trouble"], row["policy_version"]) == (daemon.name, None, live.policy.version)


def test_the_heartbeat_names_what_troubles_the_daemon(live: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    open_trial(str(live.database.url), now() - DAY)

    def act(call: int) -> Any:
        raise Conflict("try again")

    calls_of(live, monkeypatch, "sweep", act)
    with running(live, timedelta(seconds=0.2)):
        until(lambda: live.heartbeats() and live.heartbeats()[0]["trouble"] == "expire_trial: Conflict")


def test_what_is_at_risk_is_logged_when_it_changes(
    live: Engine, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = next(risk for risk in RISKS if risk.broken)
    counts = iter([[(broken, 2)], [(broken, 2)], [(broken, 3)]])
    calls = calls_of(live, monkeypatch, "at_risk", lambda call: next(counts, []))
    with running(live, timedelta(seconds=0.1)):
        until(lambda: len(calls) >= 5)
    at_risk = [line for line in said if line["event"] == "at risk"]
    assert [line["accounts"] for line in at_risk] == [2, 3]
    assert {line["log_level"] for line in at_risk} == {"error"}
    assert [line["risk"] for line in said if line["event"] == "no longer at risk"] == [broken.name]


# --- Start and stop --------------------------------------------------------------------------------


@pytest.mark.parametrize("resync", [timedelta(0), timedelta(seconds=-1), timedelta(seconds=30.1)])
def test_a_resync_time_that_promises_nothing_is_refused(live: Engine, resync: timedelta) -> None:
    with pytest.raises(InvalidInput, match="resync"):
        Daemon(live, resync=resync)


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(InvalidInput, match="others can open"):
        Daemon(Engine("sqlite://"))


def test_a_database_without_a_schema_is_refused_at_the_start(sqlite_url: str, said: list[dict[str, Any]]) -> None:
    with pytest.raises(SchemaOutdated, match="lifecycle init"):
        Daemon(Engine(sqlite_url)).run()
    assert [line["error"] for line in said] == ["SchemaOutdated"]


def test_a_policy_that_is_not_in_force_is_refused_at_the_start(live: Engine, said: list[dict[str, Any]]) -> None:
    with pytest.raises(PolicyError, match="lifecycle policy activate"):
        Daemon(Engine(str(live.database.url), policy=Policy(trial_length=40 * DAY))).run()
    assert [(line["event"], line["error"]) for line in said] == [("daemon can't start", "PolicyError")]


def test_a_daemon_that_is_stopped_before_it_runs_ends_at_once(live: Engine) -> None:
    daemon = Daemon(live)
    daemon.stop()
    begun = time.monotonic()
    assert daemon.run() == 0
    assert time.monotonic() - begun < 2


def test_handlers_that_are_given_are_not_complained_of(live: Engine, said: list[dict[str, Any]]) -> None:
    live.handlers = {effect: lambda task: "receipt" for effect in Effect}
    with running(live):
        until(lambda: [line for line in said if line["event"] == "daemon started"])
    assert not {"no handler", "effects are only logged"} & {line["event"] for line in said}


# --- Logs ------------------------------------------------------------------------------------------


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What has gone to standard error since it was last asked; logging is as before afterwards."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("lifecycle").setLevel(logging.NOTSET)


def test_logs_are_json_when_nobody_looks_at_a_terminal(written: Callable[[], str]) -> None:
    logs.configure()
    structlog.get_logger("lifecycle.daemon").info("batch", state="trial", at=datetime(2026, 1, 1, tzinfo=UTC))
    line = json.loads(written())
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["level"], line["event"], line["state"]) == ("info", "batch", "trial")
    assert line["timestamp"].endswith("Z")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_a_terminal_gets_words_with_control_characters_made_harmless(written: Callable[[], str]) -> None:
    logs.configure(json=False)
    structlog.get_logger("lifecycle.effect").warning("effect", account="a\x1b]0;evil\x07\nforged")
    shown = written()
    assert not shown.startswith("{")
    assert "\\x1b]0;evil\\x07\\x0aforged" in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(("level", "heard"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_says_from_where_on_the_product_is_heard(written: Callable[[], str], level: str, heard: int) -> None:
    logs.configure(json=True, level=level)
    logger = structlog.get_logger("lifecycle.daemon")
    for method in (logger.debug, logger.info, logger.warning, logger.error):
        method("said")
    assert len(written().splitlines()) == heard


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(InvalidInput, match="debug, info, warning, error"):
        logs.configure(level="loud")


def test_of_libraries_only_warnings_and_errors_are_heard(written: Callable[[], str]) -> None:
    logs.configure(json=True, level="debug")
    library = logging.getLogger("apscheduler.scheduler")
    library.info("Scheduler started")
    library.error("Error submitting job %s", "x")
    assert [json.loads(line)["event"] for line in written().splitlines()] == ["Error submitting job x"]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_local_variables(written: Callable[[], str], as_json: bool) -> None:
    logs.configure(json=as_json)
    secret = "ann" + "@acme.test"
    try:
        raise RuntimeError("it broke")
    except RuntimeError:
        structlog.get_logger("lifecycle.daemon").exception("failed")
    shown = written()
    assert "it broke" in shown
    assert secret not in shown


# --- Destruction that is withheld --------------------------------------------------------------------


def due_to_be_erased(url: str, count: int) -> None:
    """Accounts whose erasure is due now; their notice has been given."""
    begun = now() - 30 * DAY - timedelta(seconds=1)
    past = Engine(url, clock=ManualClock(begun))
    for number in range(count):
        past.open_account(f"a{number}", company="Acme", owners=["ann@acme.test"], plan="free")
        past.fire(f"a{number}", "cancel", actor=Actor.owner("ann@acme.test"))
    past.run_until(begun + 29 * DAY)
    past.close()


def requested(engine: Engine) -> int:
    return sum(account.erasure_requested_at is not None for account in engine.accounts())


def test_a_daemon_at_the_brake_raises_one_alarm_and_does_not_hurry(
    sqlite_url: str, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = Safety(accounts_per_hour=2, share_per_hour=0, accounts_per_day=2, share_per_day=0)
    engine = Engine(sqlite_url, safety=tight)
    engine.migrate()
    due_to_be_erased(sqlite_url, 5)
    sweeps: list[Any] = []
    sweep = engine.sweep
    monkeypatch.setattr(engine, "sweep", lambda **options: sweeps.append(options["states"]) or sweep(**options))
    with running(engine, resync=timedelta(seconds=1)):
        until(lambda: requested(engine) == 2)
        until(lambda: [line for line in said if line.get("error") == "destruction is withheld"])
        time.sleep(1.5)
        assert len(sweeps) < 10
        engine.release_brake(3, actor=Actor.admin("root"), reason="it is right")
        until(lambda: requested(engine) == 5)
        until(lambda: [line for line in said if line["event"] == "destruction goes on"])
    alarms = [line for line in said if line.get("error") == "destruction is withheld"]
    assert len(alarms) == 1 and "brake status" in alarms[0]["advice"]


class Host(SystemClock):
    """The host's clock, for the engine alone."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


def test_a_daemon_whose_clock_can_not_be_right_alarms_moves_nothing_and_goes_on_once_it_is(
    sqlite_url: str, said: list[dict[str, Any]]
) -> None:
    host = Host()
    engine = Engine(sqlite_url, clock=host)
    engine.migrate()
    assert engine.clock_doubt() is None
    due_to_be_erased(sqlite_url, 1)
    host.ahead = 400 * DAY
    with running(engine, resync=timedelta(seconds=1)):
        until(lambda: [line for line in said if "ClockInDoubt" in str(line.get("error"))])
        assert requested(engine) == 0
        host.ahead = timedelta(0)
        until(lambda: requested(engine) == 1)


def test_a_daemon_checks_its_ledger_before_anything_else(
    sqlite_url: str, tmp_path: Path, said: list[dict[str, Any]]
) -> None:
    safety = Safety(ledger=tmp_path / "ledger.jsonl")
    engine = Engine(sqlite_url, safety=safety)
    engine.migrate()
    due_to_be_erased(sqlite_url, 2)
    forgotten = {"account": "a0", "number": 99, "effect": "delete_content", "attempt": 1, "at": now().isoformat()}
    Ledger(tmp_path / "ledger.jsonl").append([forgotten])
    with running(engine, resync=timedelta(seconds=1)):
        until(lambda: [line for line in said if "restore check" in str(line.get("advice"))])
        assert requested(engine) == 0


def test_a_daemon_releases_a_hold_at_its_end(live: Engine) -> None:
    live.open_account("acme", company="Acme", owners=["ann@acme.test"])
    live.place_hold("acme", actor=Actor.admin("root"), reason="order", case="a", ends_at=now() + timedelta(seconds=1))
    with running(live, resync=timedelta(seconds=1)):
        until(lambda: live.get("acme").legal_holds == 0)
