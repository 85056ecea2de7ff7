"""APScheduler, kept on a short leash: one date job per name, in a thread of its own."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.blocking import BlockingScheduler

from lifecycle.clock import SystemClock
from lifecycle.log import described

#: The listener's code for a run that was skipped because the one before it goes on.
STILL_RUNNING: int = EVENT_JOB_MAX_INSTANCES
_CODES = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES

_log = structlog.get_logger("lifecycle.daemon")


@dataclass(frozen=True, slots=True)
class Happened:
    """What a listener queues: the job's name, the scheduler's code, and what the run returned or raised."""

    name: str
    code: int
    result: Any = None


class Timetable:
    """APScheduler in a thread of its own, which calls ``run(name)``; only the daemon's loop talks to it."""

    def __init__(self, run: Callable[[str], Any], report: Callable[[Happened | None], None], workers: int) -> None:
        self._run = run
        self._report = report
        self._wall = SystemClock()
        self._scheduler = BlockingScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(workers)},
            # The library's own defaults drop a job that is a second late.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(self._listen, _CODES)
        self._thread = threading.Thread(target=self._serve, name="lifecycle-scheduler", daemon=True)
        self._died = False
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the scheduler's thread serves: its ``running`` stays true when an exception has ended that."""
        return self._thread.is_alive() and not self._died

    def register(self, name: str, wait: float) -> None:
        """Run the job in ``wait`` seconds instead of whenever it was registered before."""
        at = self._wall.now() + timedelta(seconds=wait)
        self._scheduler.add_job(self._run, "date", run_date=at, args=[name], id=name, replace_existing=True)

    def remove(self, name: str) -> None:
        """Forget the job, if it is registered."""
        with suppress(JobLookupError):
            self._scheduler.remove_job(name)

    def close(self) -> None:
        """Start nothing any more. Runs that have begun go on."""
        with suppress(SchedulerNotRunningError):
            self._scheduler.shutdown(wait=False)

    def _serve(self) -> None:
        try:
            self._scheduler.start()
        except Exception as error:
            if self._scheduler.running:  # while it shuts down it may stumble over jobs that are gone
                _log.error("scheduler died", **described(error))
        finally:
            self._died = True  # before the report: the thread itself still lives for a moment
            self._report(None)

    def _listen(self, event: Any) -> None:
        result = getattr(event, "retval", None) or getattr(event, "exception", None)
        self._report(Happened(event.job_id, event.code, result))
