"""The daemon's jobs: when each may run again, and what the log says of them."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from lifecycle.chain import SealReport
from lifecycle.handlers.log import log as log_handler
from lifecycle.log import described
from lifecycle.outbox import DeliveryReport
from lifecycle.precautions import LEFT_TO_OTHERS
from lifecycle.risks import Risk
from lifecycle.states import DESTRUCTIVE, Effect, State

#: Seconds between two runs of one job.
PACE = 0.02

_log = structlog.get_logger("lifecycle.daemon")


@dataclass(slots=True)
class Job:
    """What the daemon knows of a job; ``registered`` and the like are seconds of the monotonic clock."""

    name: str
    states: tuple[State, ...] = ()
    #: It shall run as soon as it can.
    asked: bool = False
    #: When it shall run next, by itself.
    again_at: datetime | None = None
    #: When the scheduler starts it; if that is past, it runs or is about to.
    registered: float | None = None
    running_since: float | None = None
    not_before: float = 0.0
    #: Seconds before the second try of what failed, or got nowhere.
    first_wait: float = 0.25
    #: Runs in a row that failed; and that found nothing although something was due.
    failures: int = 0
    idle: int = 0
    trouble: str | None = None
    #: Why it destroys nothing for now.
    withheld: str | None = None

    def put_off(self, tries: int, longest: float) -> float:
        """Not again before a while that doubles with ``tries`` up to ``longest`` seconds; returns it."""
        wait = min(self.first_wait * 2.0 ** min(tries - 1, 30), longest)
        self.not_before = time.monotonic() + wait
        return wait

    def failed(self, error: BaseException, longest: float) -> None:
        """Raise the alarm, and try again later."""
        self.failures += 1
        self.trouble = type(error).__name__
        wait = self.put_off(self.failures, longest)
        _log.error("alarm", job=self.name, **described(error), tries=self.failures, retry_in_seconds=wait)

    def went_well(self) -> None:
        """Nothing troubles the job, and it may run again at once."""
        if self.failures:
            _log.info("recovered", job=self.name, after_tries=self.failures)
        self.failures = 0
        self.trouble = None
        self.not_before = time.monotonic() + PACE

    def withheld_because(self, reason: str | None) -> None:
        """Say so when destruction begins to be withheld, or to go on. What is left to others is no alarm."""
        reason = None if reason == LEFT_TO_OTHERS else reason
        if reason is not None and self.withheld is None:
            _log.error("alarm", job=self.name, error="destruction is withheld", advice=reason)
        elif reason is None and self.withheld is not None:
            _log.info("destruction goes on", job=self.name)
        self.withheld = reason


def log_batch(state: State, moves: Mapping[tuple[str, str], int]) -> None:
    """One line for a sweep's batch, counted by event and step; none if dates were only moved on."""
    if moves:
        counts = {f"{event}/{step}": count for (event, step), count in moves.items()}
        _log.info("batch", state=str(state), moves=counts)


def log_delivery(report: DeliveryReport) -> DeliveryReport:
    """One line for a delivery that did something, and an alarm for what was given up; returns the report."""
    if report.handled:
        counts = {kind: dict(getattr(report, kind)) for kind in ("delivered", "failed", "parked")}
        _log.info("delivery", **{kind: count for kind, count in counts.items() if count}, withdrawn=report.withdrawn)
    if report.parked:
        advice = "See `lifecycle outbox list --status parked`, mend the cause, then `lifecycle outbox retry`."
        _log.error("alarm", job="outbox", error="given up", effects=dict(report.parked), advice=advice)
    return report


def log_risks(found: Iterable[tuple[Risk, int]], before: Mapping[str, int]) -> dict[str, int]:
    """One line for each risk whose count of accounts has changed since ``before``; returns the counts."""
    counts = {}
    for risk, count in found:
        counts[risk.name] = count
        if before.get(risk.name) != count:
            say = _log.error if risk.broken else _log.warning
            say("at risk", risk=risk.name, accounts=count, message=risk.message, advice=risk.advice)
    for name in before.keys() - counts.keys():
        _log.info("no longer at risk", risk=name)
    return counts


def log_seal(report: SealReport) -> None:
    """One line for a run that has sealed something; the ``head`` in a log tells later whether the end was cut off."""
    rows = {str(stream): count for stream, count in report.rows.items()}
    if report.waiting:
        advice = "Rows are sealed once every transaction that was open is over; is one left open?"
        _log.warning("nothing sealed", consequence="What is new in the record is not sealed yet.", advice=advice)
    elif report.seals:
        _log.info("sealed", head=str(report.head), seals=report.seals, rows=rows)


def log_handlers(handlers: Mapping[Effect, Any], may_destroy: bool) -> None:
    """Say plainly which effects nobody carries out, and whether destruction is left to others."""
    if not may_destroy:
        _log.info("destruction is left to others", reason=LEFT_TO_OTHERS)
    for effect in DESTRUCTIVE if may_destroy else ():
        if effect not in handlers:
            _log.warning(
                "no handler",
                effect=str(effect),
                consequence="It is requested, but nothing is destroyed and no account moves on.",
                advice=f"Name a program in [handlers.{effect}] of the configuration.",
            )
    logged = [str(effect) for effect in Effect if handlers.get(effect) is log_handler]
    if logged:
        _log.warning(
            "effects are only logged",
            effects=logged,
            consequence="Nobody outside is told, and yet the notices among them count as given.",
            advice="Name a program in [handlers.<effect>] of the configuration for each.",
        )


def log_polling(seconds: float) -> None:
    """Say that announcements can't be heard here."""
    _log.warning(
        "announcements are not heard",
        consequence=f"What other processes change is seen within {seconds:g} seconds, not at once.",
        advice="Give the daemon a database URL that leads past the pooling proxy, if that is too late.",
    )
