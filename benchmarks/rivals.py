"""The sweep beside what one would take instead: a job for every account, in a scheduler or queue on the same database.

Every rival's job does the same work: one account's move, written by hand. Its jobs were added long before, so
only the time counts from starting its worker until the last account has moved.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from time import perf_counter, sleep

from sqlalchemy import func, make_url, select

from benchmarks.figures import Figure, Goal
from benchmarks.handwritten import JOBS, Handwritten
from benchmarks.lab import DATABASES, POSTGRESQL, Lab, interleaved
from benchmarks.population import Backlog, backlog, settle, url_of
from benchmarks.sweeps import ours, warm_up
from lifecycle import Engine, State
from lifecycle.database import LOCK_TIMEOUT_SECONDS
from lifecycle.tables import accounts

SECTION = "One job per account"
#: The lightest of the timed events, and the heaviest: without an effect, and with two.
EVENTS = ("expire_trial", "cancel_inactive")
#: What queues know the job by.
TASK = "move_account"
#: Due accounts, in a full and in a quick run: for the sweep, and for the rivals, which would take minutes.
SWEPT, QUEUED = (50_000, 2_000), (3_000, 150)
#: Seconds: between two looks whether all have moved, and without any move until a worker counts as stuck.
LOOK, PATIENCE = 0.05, 60
PAST = datetime(2000, 1, 1, tzinfo=UTC)
#: What :func:`move_account` is called with.
Arguments = dict[str, str]

_thread = threading.local()


class NotRun(Exception):
    """Why there is nothing to compare with."""


@dataclass(frozen=True)
class Rival:
    """``loaded`` adds jobs to the database at a URL; what it gives starts the worker."""

    name: str
    databases: tuple[str, ...]
    loaded: Callable[[str, list[Arguments]], AbstractContextManager[Callable[[], object]]]
    goal: Goal
    note: str


def run(lab: Lab) -> Iterator[Figure]:
    """Accounts per second, ours and each rival's; one that can't be run is a figure that says why."""
    for chatty in ("apscheduler", "procrastinate", "dbos"):  # two lines or more for every job
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for kind, event in product(DATABASES, lab.size(EVENTS, EVENTS[:1])):
        with (
            backlog(lab, kind, event, lab.size(*SWEPT)) as swept,
            backlog(lab, kind, event, lab.size(*QUEUED)) as queued,
        ):
            for rival in RIVALS:
                if kind in rival.databases:
                    lab.say(f"{SECTION}: {event} by {rival.name} on {kind}")
                    yield compared(lab, rival, event, swept, queued)


def compared(lab: Lab, rival: Rival, event: str, swept: Backlog, queued: Backlog) -> Figure:
    name = f"{event}, against {rival.name}"
    try:
        speeds = interleaved(lab.rounds, lambda: sweep(swept, event), lambda: job_by_job(rival, event, queued))
    except NotRun as reason:
        return Figure(SECTION, name, queued.kind, None, goal=rival.goal, note=f"{reason}")
    return Figure(SECTION, name, queued.kind, *speeds, goal=rival.goal, note=rival.note)


def sweep(prepared: Backlog, event: str) -> float:
    """Our accounts per second."""
    with prepared.copy() as engine:
        warm_up(engine, event)
        begun = perf_counter()
        count = ours(engine, event)
        took = perf_counter() - begun
        if moved(engine, event) != prepared.lab.size(*SWEPT):
            raise AssertionError(f"{event}: swept {count} accounts, {moved(engine, event)} have moved")
        return count / took


def job_by_job(rival: Rival, event: str, prepared: Backlog) -> float:
    """A rival's accounts per second."""
    count, now = prepared.lab.size(*QUEUED), prepared.clock.now().isoformat()
    with prepared.copy() as engine:
        url = url_of(engine)
        alike = {"url": url, "now": now, "event": event}
        jobs = [{**alike, "account_id": f"account-{i:09d}"} for i in range(1, count + 1)]
        try:
            with rival.loaded(url, jobs) as start:
                settle(engine)
                begun = perf_counter()
                start()
                await_moved(engine, event, count)
                return count / (perf_counter() - begun)
        except AssertionError:
            raise  # it ran and left work undone, which is a fault of the benchmark
        except Exception as error:
            raise NotRun(f"{type(error).__name__}: {error}".partition("\n")[0]) from error


def await_moved(engine: Engine, event: str, count: int) -> None:
    """A job that failed is told from a slow one by nothing moving any more."""
    known, changed = 0, perf_counter()
    while (now_moved := moved(engine, event)) < count:
        if now_moved != known:
            known, changed = now_moved, perf_counter()
        if perf_counter() - changed > PATIENCE:
            raise AssertionError(f"{event}: {known} accounts of {count} have moved, and none for {PATIENCE} seconds")
        sleep(LOOK)


def moved(engine: Engine, event: str) -> int:
    """How many accounts are where the event leads."""
    there = accounts.c.state == State(JOBS[event].dest)
    with engine.database.read() as connection:
        return int(connection.scalar(select(func.count()).where(there)) or 0)


def move_account(url: str, now: str, event: str, account_id: str) -> None:
    """The job. Nobody would open a connection for every account: its thread keeps one, which ends with it."""
    if getattr(_thread, "url", None) != url:
        by_hand = Handwritten(Engine(url), datetime.fromisoformat(now))
        _thread.url, _thread.move = url, by_hand.mover(JOBS[event])
    _thread.move(account_id)


# --- The rivals, each set up as its documentation advises ------------------------------------------


@contextmanager
def apscheduler(url: str, jobs: list[Arguments]) -> Iterator[Callable[[], object]]:
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.background import BackgroundScheduler

    if make_url(url).get_backend_name() == "sqlite":
        # Writers wait for each other: more of them are slower, and the driver's own patience is short.
        threads, options = 10, {"timeout": LOCK_TIMEOUT_SECONDS}
    else:
        threads, options = 20, {}
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url, engine_options={"connect_args": options})},
        executors={"default": ThreadPoolExecutor(threads)},
        job_defaults={"misfire_grace_time": None, "coalesce": True},
        timezone="UTC",
    )
    scheduler.start(paused=True)
    try:
        for job in jobs:  # its clock is the system's, so any date will do that is past
            scheduler.add_job("benchmarks.rivals:move_account", "date", run_date=PAST, kwargs=job)
        yield scheduler.resume
    finally:
        scheduler.shutdown()


@contextmanager
def procrastinate(url: str, jobs: list[Arguments]) -> Iterator[Callable[[], object]]:
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=plain(url)))
    # It runs plain functions in threads; coroutines on a pool of connections were hardly faster.
    task = app.task(name=TASK)(move_account)
    with app.open():
        app.schema_manager.apply_schema()
        task.batch_defer(*jobs)
    yield lambda: app.run_worker(wait=False, concurrency=10, delete_jobs="successful", install_signal_handlers=False)


@contextmanager
def dbos(url: str, jobs: list[Arguments]) -> Iterator[Callable[[], object]]:
    from dbos import DBOS, DBOSClient

    name, queue, url = "benchmark", "accounts", plain(url)
    DBOS.migrate(url)
    client = DBOSClient(system_database_url=url, application_name=name)
    client.register_queue(queue, polling_interval_sec=0.1)
    for job in jobs:
        client.enqueue({"workflow_name": TASK, "queue_name": queue}, **job)
    client.destroy()
    # Without a conductor's key and telemetry it talks to nobody but the database.
    DBOS(
        config={
            "name": name,
            "system_database_url": url,
            "max_executor_threads": 20,
            "enable_otlp": False,
            "log_level": "WARNING",
        }
    )
    try:
        step = DBOS.step()(move_account)

        @DBOS.workflow(name=TASK)
        def workflow(**job: str) -> None:
            step(**job)

        yield DBOS.launch
    finally:
        # The last accounts have moved before their workflows are noted down as finished.
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=10)


def plain(url: str) -> str:
    """The URL as libpq understands it, which knows no drivers."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


RIVALS = (
    Rival("APScheduler", DATABASES, apscheduler, Goal(at_least=100), "10 threads on SQLite, 20 on PostgreSQL"),
    Rival("procrastinate", (POSTGRESQL,), procrastinate, Goal(at_least=50), "10 jobs at once, deleted when finished"),
    Rival("DBOS", (POSTGRESQL,), dbos, Goal(at_least=50), "one step per workflow, 20 threads, polled every 0.1 s"),
)
