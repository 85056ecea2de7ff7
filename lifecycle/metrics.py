"""The engine's state as Prometheus metrics: what a monitor counts, and what it should wake somebody for.

Everything is read from the database when it is asked for, so one daemon of several, or none, can answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lifecycle.engine import Engine
from lifecycle.errors import ClockInDoubt
from lifecycle.precautions import LEFT_TO_OTHERS
from lifecycle.risks import RISKS


def exposed(engine: Engine) -> str:
    """All metrics of the engine in Prometheus' text format."""
    return generate_latest(_registry(engine)).decode()


def serve(engine: Engine, address: str, port: int) -> None:
    """Answer requests for the metrics in a thread of its own, until the process ends."""
    start_http_server(port, address, _registry(engine))


def _registry(engine: Engine) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(engine))
    return registry


class _Metrics(Collector):
    """Reads the engine anew for every request."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: a registry that asked at its beginning would read the database."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        engine = self.engine
        now = engine.clock.now()
        yield _by("accounts", "Accounts by state.", "state", engine.summary())
        yield _by("outbox_tasks", "Tasks of the outbox by status.", "status", engine.outbox_counts())
        risks = {risk.name: 0 for risk in RISKS} | {risk.name: count for risk, count in engine.at_risk()}
        yield _by("at_risk_accounts", "Accounts that endanger a promise, by risk.", "risk", risks)
        overdue = {timer.event: timer.overdue for timer in engine.timers()}
        yield _by("overdue_accounts", "Accounts that are due and not yet moved, by timer.", "timer", overdue)
        brake = engine.brake()
        yield _by("destruction_waiting", "Accounts that are due to be destroyed, by effect.", "effect", brake.waiting)
        yield _one("brake_free", "Requests that destroy which the brake lets through now.", brake.free)
        yield _one("brake_tripped", "1 while more is due to be destroyed than the brake lets through.", brake.tripped)
        yield _one(
            "destruction_barred", "1 while nothing may be destroyed: clock in doubt, or ledger ahead.", _barred(engine)
        )
        record = engine.chain.state()
        yield _by("unsealed_rows", "Rows that no seal covers yet, by what they are of.", "stream", record.unsealed)
        yield _one("seal_head", "The number of the last seal; it only grows.", record.head.number)
        ages = {beat["daemon"]: (now - beat["seen_at"]).total_seconds() for beat in engine.heartbeats()}
        yield _by("daemon_seen_seconds", "Seconds since each daemon was last seen.", "daemon", ages)


def _barred(engine: Engine) -> bool:
    try:
        return engine.barred() not in (None, LEFT_TO_OTHERS)
    except ClockInDoubt:
        return True


def _by(name: str, text: str, label: str, values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"lifecycle_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([str(key)], float(value))
    return family


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lifecycle_{name}", text, value=float(value))
