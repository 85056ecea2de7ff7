"""The clock gate: what a clock in doubt may not do, and how an operator says that it is right."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from lifecycle import Actor, ClockInDoubt, Engine, ManualClock, Safety, State
from lifecycle.clock import SystemClock
from lifecycle.doctor import examine
from lifecycle.gate import ClockGate
from lifecycle.operation_tables import clock_acceptances
from lifecycle.states import DESTRUCTIVE

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


class Host(SystemClock):
    """A host's clock that a test can move; the database's own clock is the real one."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Trusting(ClockGate):
    """A gate over a database without a clock of its own, on PostgreSQL as well."""

    def _theirs(self, connection: Any) -> None:
        return None


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def engine(url: str, host: Host) -> Iterator[Engine]:
    """An account that is due to be erased in an instant, and a trial."""
    begun = host.now() - 30 * DAY
    manual = ManualClock(begun)
    past = Engine(url, clock=manual)
    past.migrate()
    past.open_account("acme", company="Acme", owners=[ANN], plan="free")
    past.fire("acme", "cancel", actor=Actor.owner(ANN))
    past.open_account("trial", company="Trial", owners=[ANN])
    past.run_until(begun + 29 * DAY)
    past.close()
    engine = Engine(url, clock=host, handlers=dict.fromkeys(DESTRUCTIVE, lambda task: "erased"))
    engine.__dict__["gate"] = Trusting(engine.database, engine.safety)
    yield engine
    engine.close()


def see(engine: Engine, host: Host, ahead: timedelta) -> None:
    """The clock has been taken for right at that distance from now."""
    host.ahead = ahead
    engine.clock_doubt()
    host.ahead = timedelta(0)


def test_a_clock_that_runs_as_before_destroys_what_is_due(engine: Engine, host: Host) -> None:
    see(engine, host, -MINUTE)
    engine.sweep()
    engine.deliver()
    assert engine.get("acme").state is State.CONTENT_DELETED


@pytest.mark.parametrize("outage", [73 * HOUR, 29 * DAY])
def test_after_a_leap_beyond_the_outage_nothing_is_destroyed_and_everything_else_goes_on(
    engine: Engine, host: Host, outage: timedelta
) -> None:
    see(engine, host, -outage)
    report = engine.sweep()
    assert "--accept-clock" in str(report.withheld)
    assert engine.get("acme").erasure_requested_at is None
    assert engine.get("trial").state is State.ON_HOLD
    assert engine.deliver().withheld is not None


def test_an_outage_that_was_expected_needs_no_confirmation(engine: Engine, host: Host) -> None:
    see(engine, host, -71 * HOUR)
    assert engine.sweep().withheld is None
    assert engine.get("acme").erasure_requested_at is not None


def test_a_request_made_before_the_leap_is_not_carried_out_after_it(engine: Engine, host: Host) -> None:
    engine.sweep()
    assert engine.get("acme").erasure_requested_at is not None
    host.ahead = 73 * HOUR
    assert engine.deliver().withheld is not None
    assert engine.get("acme").state is State.ACCESS_REVOKED


@pytest.mark.parametrize("ahead", [31 * DAY, 12 * 365 * DAY])
def test_a_leap_that_no_outage_explains_moves_nothing(engine: Engine, host: Host, ahead: timedelta) -> None:
    see(engine, host, timedelta(0))
    host.ahead = ahead
    before = engine.summary()
    for act in (engine.sweep, engine.deliver):
        with pytest.raises(ClockInDoubt, match="accept-clock"):
            act()
    assert engine.summary() == before


def test_a_clock_that_runs_backwards_moves_nothing(engine: Engine, host: Host) -> None:
    see(engine, host, 6 * MINUTE)
    with pytest.raises(ClockInDoubt, match="less than before"):
        engine.sweep()


def test_a_clock_that_is_set_back_by_a_little_is_no_doubt(engine: Engine, host: Host) -> None:
    see(engine, host, 4 * MINUTE)
    assert engine.clock_doubt() is None


def test_a_request_under_a_clock_that_runs_backwards_is_refused_since_it_would_stamp_dates_too_early(
    engine: Engine, host: Host
) -> None:
    engine.open_account("bolt", company="Bolt", owners=[ANN], plan="free")
    see(engine, host, 2 * HOUR)
    with pytest.raises(ClockInDoubt, match="less than before"):
        engine.fire("bolt", "cancel", actor=Actor.owner(ANN))
    assert engine.get("bolt").state is State.ACTIVE


def test_a_clock_in_doubt_stays_in_doubt_until_somebody_accepts_it(engine: Engine, host: Host) -> None:
    see(engine, host, -73 * HOUR)
    assert engine.clock_doubt() is not None
    assert engine.clock_doubt() is not None, "to look is not to accept"
    engine.accept_clock(ADMIN)
    assert engine.clock_doubt() is None
    with engine.database.read() as connection:
        (row,) = connection.execute(select(clock_acceptances)).mappings()
    assert row["actor"] == "admin:root" and row["at"] - row["seen_at"] >= 73 * HOUR


def test_a_clock_that_was_set_back_can_be_accepted(engine: Engine, host: Host) -> None:
    see(engine, host, 2 * DAY)
    assert engine.clock_doubt() is not None
    engine.accept_clock(ADMIN)
    assert engine.clock_doubt() is None


def test_doctor_says_that_the_clock_is_in_doubt(engine: Engine, host: Host) -> None:
    see(engine, host, -73 * HOUR)
    (finding,) = [finding for finding in examine(engine) if finding.check == "clock"]
    assert finding.level == "problem" and "--accept-clock" in finding.advice


def test_a_manual_clock_is_its_own_authority(url: str, clock: ManualClock) -> None:
    engine = Engine(url, clock=clock)
    engine.migrate()
    engine.sweep()
    clock.set(clock.now() + 4000 * DAY)
    assert engine.gate is None and engine.sweep().withheld is None
    engine.close()


@pytest.mark.postgres
@pytest.mark.parametrize(("ahead", "stops"), [(6 * MINUTE, False), (-6 * MINUTE, True), (31 * DAY, True)])
def test_a_clock_that_differs_from_the_databases_destroys_nothing_and_can_not_be_accepted(
    postgresql_url: str, host: Host, ahead: timedelta, stops: bool
) -> None:
    engine = Engine(postgresql_url, clock=host)
    engine.migrate()
    assert engine.clock_doubt() is None
    host.ahead = ahead
    doubt = engine.clock_doubt()
    assert doubt is not None and doubt.stops is stops and "database" in doubt.reason
    with pytest.raises(ClockInDoubt, match="Correct the clock"):
        engine.accept_clock(ADMIN)
    engine.close()


def test_the_longest_outage_is_a_setting(engine: Engine, host: Host) -> None:
    engine.gate.safety = Safety(outage=2 * HOUR)  # type: ignore[union-attr]
    see(engine, host, -3 * HOUR)
    assert engine.clock_doubt() is not None
