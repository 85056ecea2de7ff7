"""The daemon: sweeps every timer at its earliest deadline and delivers the outbox, until it is stopped.

The truth is in the database. APScheduler only says when to look: one date job per timer of the
definition and one for the outbox, in a thread that the daemon owns. Jobs and listeners never call the
scheduler (it loses date jobs that are added again while they run); they queue what happened, and the
daemon's loop registers what comes next. The loop also looks at the database by itself every ``resync``,
so whatever is lost, late or unheard of is made good then.

::

    main thread   waits for a signal, winds up, and ends the process if something hangs
    loop          re-arms jobs, resyncs, writes the heartbeat, watches over the scheduler
    scheduler     APScheduler: waits for the next date
    workers       one per job: engine.sweep(states=…) or engine.deliver()
    listener      PostgreSQL only: wakes the loop when another process has written
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any

import structlog

from lifecycle import inputs
from lifecycle.engine import Engine
from lifecycle.errors import InvalidInput, LifecycleError, PolicyError, SchemaOutdated
from lifecycle.jobs import PACE, Job, log_batch, log_delivery, log_handlers, log_polling, log_risks, log_seal
from lifecycle.log import described
from lifecycle.machine import TIMERS
from lifecycle.notify import announcements
from lifecycle.outbox import DeliveryReport
from lifecycle.sweep import SweepReport
from lifecycle.timetable import STILL_RUNNING, Happened, Timetable

RESYNC = timedelta(seconds=30)
#: The jobs that deliver, count what endangers a promise, and seal the record; the others bear their timer's event.
OUTBOX, RISKS, SEAL = "outbox", "risks", "seal"
#: What no retry of this process can mend.
_HOPELESS = (PolicyError, SchemaOutdated)
#: The longest wait of a timer whose due accounts others hold.
_LONGEST_IDLE = 1.0  # seconds
#: Counting risks reads every account: at most this part of the time is spent on it.
_RISKS_SHARE = 0.05
#: Seconds between two times that old refusals are pruned, and SQLite's files made to forget what was purged.
_FORGETS_EVERY = 3600.0
#: Seconds after a stop: until handlers are killed, and until the process ends whatever hangs.
_GRACE, _END = 1.5, 3.5
#: Seconds after which the main thread, which waits for the end, looks whether a signal has come.
_LOOKS_UP = 0.5
#: How often a scheduler that dies before it has run anything is started again.
_RESTARTS = 3
#: Farther dates are registered nearer: a resync comes long before.
_FARTHEST = timedelta(days=365)

_log = structlog.get_logger("lifecycle.daemon")


class Daemon:
    """Keeps the policy on one database until it is stopped; any number may share a PostgreSQL.

    ``name`` tells daemons apart in the heartbeats (default: the host's name). Every ``resync`` the daemon
    looks at the database whether or not it was told to; what other processes wrote is seen then at the
    latest, on PostgreSQL at once. The engine's clock decides what is due.

    Raises :class:`InvalidInput` for a ``resync`` that is not positive or longer than 30 seconds, and for
    a database in memory, which no other process could reach.
    """

    def __init__(self, engine: Engine, *, name: str | None = None, resync: timedelta = RESYNC) -> None:
        if not timedelta(0) < resync <= RESYNC:
            raise InvalidInput(f"resync must be positive and at most 30 seconds, not {resync}.")
        if not engine.database.is_postgresql and engine.database.url.database in (None, "", ":memory:"):
            raise InvalidInput("A daemon needs a database that others can open: give a file or a server.")
        self.engine = engine
        self.name = inputs.reference(name or socket.gethostname(), "The daemon's name (--name gives one)")
        self.jobs = {str(row.event): Job(str(row.event), row.sources) for row in TIMERS}
        self.jobs |= {name: Job(name) for name in (OUTBOX, RISKS, SEAL)}
        self._resync = resync.total_seconds()
        self._loop = Job("deadlines")  # the loop's own look at the database fails and waits as jobs do
        self._beat = Job("heartbeat", first_wait=self._resync)
        self._timetable: Timetable | None = None
        self._restarts = 0
        self._risks: dict[str, int] = {}
        self._risks_at = 0.0
        self._seals_at = 0.0
        self._forgets_at = 0.0
        # SimpleQueue.put is reentrant, so that a signal handler may call it; an Event or a Queue is not.
        self._queue: SimpleQueue[Happened | None] = SimpleQueue()
        self._ended: SimpleQueue[int] = SimpleQueue()
        self._stopped = False

    # --- The main thread ---------------------------------------------------------------------

    def run(self) -> int:
        """Work until :meth:`stop`, SIGTERM or SIGINT; returns 0, or 1 when the daemon gave up.

        Raises :class:`LifecycleError` when the database can't be used from the beginning. Afterwards the
        engine is closed. In the main thread signals are handled, and what does not end within 5 seconds
        of a stop is cut off together with the process: its transaction never happened.
        """
        self._prepare()
        owner = threading.current_thread() is threading.main_thread()
        loop = threading.Thread(target=self._live, name="lifecycle-loop", daemon=True)
        listener = threading.Thread(target=self._hear, name="lifecycle-listener", daemon=True)
        with _signals(self.stop) if owner else nullcontext():
            loop.start()
            if self.engine.database.is_postgresql:
                listener.start()
            code = self._end()
            self._wind_up([loop, listener], code, owner)
        return code

    def _end(self) -> int:
        """Wait until the daemon shall end; the code to end with.

        In short waits: a signal that arrives in the instant before a thread blocks is seen when it wakes only.
        """
        while True:
            with suppress(Empty):
                return self._ended.get(timeout=_LOOKS_UP)

    def stop(self) -> None:
        """Ask the daemon to end; returns at once. Safe in signal handlers and from any thread."""
        self._stopped = True
        self._queue.put(None)
        self._ended.put(0)

    def _stopping(self) -> bool:
        return self._stopped

    def _prepare(self) -> None:
        try:
            policy = self.engine.policy
            with self.engine.database.read() as connection:
                self.engine.store.check_schema(connection)
                self.engine.store.require_policy(connection, policy)
        except LifecycleError as error:
            _log.error("daemon can't start", error=type(error).__name__, advice=str(error))
            raise
        self._started_at = self.engine.clock.now()
        _log.info(
            "daemon started",
            daemon=self.name,
            pid=os.getpid(),
            database=str(self.engine.database),
            policy=policy.version,
            resync_seconds=self._resync,
        )
        log_handlers(self.engine.handlers, self.engine.may_destroy)

    def _wind_up(self, threads: list[threading.Thread], code: int, owner: bool) -> None:
        """End everything within :data:`_END` seconds; what is under way ends itself, is killed or cut off."""
        _log.info("daemon stopping", running=self._running())
        self._stopped = True
        self._queue.put(None)
        begun = time.monotonic()
        _until(lambda: not self._running(), begun + _GRACE)
        # In a thread, since a handler's close() may hang as well.
        closing = threading.Thread(target=self.engine.close, name="lifecycle-close", daemon=True)
        closing.start()
        threads = [closing, *threads]
        ended = _until(lambda: not (self._running() or any(thread.is_alive() for thread in threads)), begun + _END)
        if ended:
            _log.info("daemon stopped", code=code)
        else:
            _log.warning(
                "daemon cut off",
                running=self._running(),
                advice="What was under way is rolled back, or delivered again.",
            )
            if owner:
                logging.shutdown()
                os._exit(code)

    def _running(self) -> list[str]:
        return [job.name for job in self.jobs.values() if job.running_since is not None]

    # --- The loop ----------------------------------------------------------------------------

    def _live(self) -> None:
        code = 1
        try:
            self._work()
            code = 0
        except _HOPELESS as error:
            _log.critical("daemon gives up", error=type(error).__name__, advice=f"{error} Then start it again.")
        except Exception as error:
            _log.critical("daemon gives up", **described(error))
        finally:
            if self._timetable is not None:
                self._timetable.close()
            self._ended.put(code)

    def _work(self) -> None:
        """Resync when it is time, register what comes next, and wait until something happens."""
        resync_at, news = 0.0, True
        while not self._stopped:
            now = time.monotonic()
            resync = now >= resync_at
            if resync:
                self._note(now)  # what has been reported is not lost
            # The watch comes after all taking of reports, or a death reported in between would go unseen.
            self._watch()
            if resync:
                self._synchronise(now)
                resync_at, news = now + self._resync, True
            if news and now >= self._loop.not_before:
                news = not self._try(self._loop, self._arm)
            news |= self._note(min(resync_at, self._loop.not_before) if news else resync_at)

    def _note(self, until: float) -> bool:
        """Wait for something to happen, at most ``until``, and take all that has; whether anything did."""
        try:
            first = self._queue.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return False
        for item in (first, *(self._queue.get_nowait() for _ in range(self._queue.qsize()))):
            if item is None:  # somebody wrote, or a thread ended
                self.jobs[OUTBOX].asked = True
            else:
                self._take(self.jobs[item.name], item)
        return True

    def _watch(self) -> None:
        """See to it that a scheduler runs; raises :class:`RuntimeError` when it dies again and again."""
        if self._timetable is not None:
            if self._timetable.alive:
                return
            self._timetable.close()
            self._restarts += 1
            if self._restarts > _RESTARTS:
                raise RuntimeError("The scheduler dies whenever it is started.")
            _log.error("alarm", job="scheduler", error="its thread died", advice="It is started again.")
        for job in self.jobs.values():
            if job.running_since is None:
                job.registered = None
        self._timetable = Timetable(self._execute, self._queue.put, len(self.jobs))

    def _synchronise(self, now: float) -> None:
        """What every resync does: find what was lost, ask for all that polls, say that this daemon is alive."""
        self.jobs[OUTBOX].asked = True
        self.jobs[RISKS].asked |= now >= self._risks_at
        self.jobs[SEAL].asked |= now >= self._seals_at
        for job in self.jobs.values():
            if job.registered is not None and job.registered < now - self._resync and job.running_since is None:
                _log.error("alarm", job=job.name, error="its run was lost", advice="It is registered again.")
                job.registered = None
        self._try(self._beat, self._write_heartbeat)
        self._try(self._loop, self._end_holds)
        if now >= self._forgets_at:
            self._forgets_at = now + _FORGETS_EVERY
            self._try(self._loop, self.engine.forget_purged)
            self._try(self._loop, self._prune)

    def _end_holds(self) -> None:
        if self.engine.release_ended_holds():
            self._queue.put(None)

    def _prune(self) -> None:
        if self.engine.may_destroy:  # the record of refusals as well
            self.engine.prune()

    def _write_heartbeat(self) -> None:
        troubled = [job for job in (self._loop, *self.jobs.values()) if job.trouble]
        trouble = "; ".join(f"{job.name}: {job.trouble}" for job in troubled) or None
        now, version = self.engine.clock.now(), self.engine.policy.version
        self.engine.store.beat(self.name, self._started_at, now, version, trouble)

    def _arm(self) -> None:
        """Register every job that does not run at its earliest deadline."""
        assert self._timetable is not None
        waits = self._waits()
        now = time.monotonic()
        for job, wait in waits:
            if job.registered is not None and job.registered <= now:
                continue  # it runs, or is about to; when it has ended there is another look
            if wait is None:
                job.registered = None
                self._timetable.remove(job.name)
                continue
            if wait > 0 and not job.failures:  # whoever held what was due has moved it
                job.idle, job.not_before = 0, min(job.not_before, now + PACE)
            job.asked = False
            job.registered = max(now + wait, job.not_before)
            self._timetable.register(job.name, job.registered - now)

    def _waits(self) -> list[tuple[Job, float | None]]:
        """The seconds until each job has something to do, None where nothing waits."""
        with self.engine.database.read() as connection:
            earliest: dict[Any, datetime] = dict(self.engine.store.next_due(connection))
        now = self.engine.clock.now()
        waits: list[tuple[Job, float | None]] = []
        for job in self.jobs.values():
            due = [earliest[state] for state in job.states if state in earliest]
            due += [at for at in (job.again_at, now if job.asked else None) if at is not None]
            waits.append((job, min(min(due) - now, _FARTHEST).total_seconds() if due else None))
        return waits

    # --- Outcomes ----------------------------------------------------------------------------

    def _try(self, job: Job, action: Callable[[], None]) -> bool:
        """Do something of the loop's own; what fails is alarmed and put off, as with jobs."""
        try:
            action()
        except _HOPELESS:
            raise
        except Exception as error:
            job.failed(error, self._resync)
            return False
        job.went_well()
        return True

    def _take(self, job: Job, happened: Happened) -> None:
        """A run has ended, in whatever way."""
        job.registered = None
        result = happened.result
        if happened.code == STILL_RUNNING:  # an earlier run goes on
            job.put_off(1, self._resync)
        elif isinstance(result, _HOPELESS):
            raise result
        elif isinstance(result, BaseException):
            job.asked = not job.states
            job.failed(result, self._resync)
        else:
            self._restarts = 0
            job.went_well()
            if isinstance(result, SweepReport):
                self._swept(job, result)
            elif isinstance(result, DeliveryReport):
                job.withheld_because(result.withheld)
                job.again_at = result.next_due

    def _swept(self, job: Job, report: SweepReport) -> None:
        if report.moved:
            self.jobs[OUTBOX].asked = True
        job.withheld_because(report.withheld)
        if report.moved or report.rearmed:
            job.idle = 0
        elif report.withheld:  # nothing to hurry for: a release is announced, and seen at a resync at the latest
            job.put_off(10, self._resync)
        else:  # others hold what is due, or have moved it already
            job.idle += 1
            job.put_off(job.idle, _LONGEST_IDLE)

    # --- Other threads -----------------------------------------------------------------------

    def _execute(self, name: str) -> Any:
        """A job's run, in a worker's thread. Errors are returned: what the library logs of them may show rows."""
        if self._stopped:
            return None
        job = self.jobs[name]
        job.running_since = time.monotonic()
        try:
            if name == OUTBOX:
                return log_delivery(self.engine.deliver(stop=self._stopping))
            if name == RISKS:
                return self._count_risks(job.running_since)
            if name == SEAL:
                return self._seal(job.running_since)
            return self.engine.sweep(states=job.states, stop=self._stopping, on_batch=log_batch)
        except Exception as error:
            return error
        finally:
            job.running_since = None

    def _count_risks(self, begun: float) -> None:
        self._risks = log_risks(self.engine.at_risk(), self._risks)
        ended = time.monotonic()
        self._risks_at = ended + (ended - begun) / _RISKS_SHARE

    def _seal(self, begun: float) -> None:
        log_seal(self.engine.seal(stop=self._stopping))
        self._seals_at = begun + self.engine.audit.seal_every.total_seconds()

    def _hear(self) -> None:
        """Wake the loop whenever another process has announced a change; listens again when the line is cut.

        Where nobody can listen, the loop's own looks at the database have to do.
        """
        line = Job("listener")
        while not self._stopped:
            try:
                for _ in announcements(self.engine.database, self._stopping):
                    line.went_well()
                    self._queue.put(None)
                break
            except Exception as error:
                line.failed(error, self._resync)
                _until(self._stopping, line.not_before)
        if not self._stopped:
            log_polling(self._resync)


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask to stop, for the time being."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _until(condition: Callable[[], bool], deadline: float) -> bool:
    """Wait for the condition until ``deadline`` of the monotonic clock; whether it came true."""
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True
