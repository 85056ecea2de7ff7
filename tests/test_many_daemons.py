"""Many daemons on one PostgreSQL: they share the work, each account moves exactly once, and nobody waits for others."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from lifecycle import Effect, Engine, Task
from tests.daemons import (
    CONFIRM,
    Process,
    assert_each_moved_once,
    now,
    prepare,
    scalar,
    started_together,
    starting,
    until,
    until_all_is_done,
)

pytestmark = pytest.mark.postgres

DAEMONS = 4


@pytest.fixture
def start(postgresql_url: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts daemons that confirm everything; none outlives the test."""
    handlers = {effect: CONFIRM for effect in Effect}
    with starting(postgresql_url, tmp_path) as start:
        yield lambda **options: start(resync=5, handlers=handlers, **options)


@pytest.fixture
def handled() -> list[Task]:
    """What the present engine's handlers were given."""
    return []


@pytest.fixture
def present(postgresql_url: str, handled: list[Task]) -> Iterator[Engine]:
    """An engine on the system's clock, as other processes have it."""
    engine = Engine(postgresql_url, handlers=dict.fromkeys(Effect, handled.append))
    engine.migrate()
    yield engine
    engine.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_four_daemons_move_each_of_200_000_accounts_exactly_once(
    present: Engine, start: Callable[..., Process]
) -> None:
    kinds = {"trials": 150_000, "inactive": 50_000}
    prepare(present, **kinds)
    daemons = started_together(present, start, DAEMONS, batch=2_000)
    until_all_is_done(present, 180)
    assert_each_moved_once(present, **kinds)
    assert scalar(present, "SELECT count(*) FROM outbox WHERE attempts <> 1") == 0
    until(lambda: sum(daemon.delivered() for daemon in daemons) == 100_000)  # logged after the last commit
    until(lambda: sum(daemon.moved() for daemon in daemons) == 250_000)
    assert all(daemon.log("batch") for daemon in daemons), "each has taken part"
    assert [daemon.troubles() for daemon in daemons] == [[]] * DAEMONS
    assert scalar(present, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_when_one_of_four_daemons_is_killed_the_others_leave_nothing_and_repeat_no_move(
    present: Engine, start: Callable[..., Process]
) -> None:
    kinds = {"trials": 30_000, "inactive": 10_000}
    prepare(present, **kinds)
    daemons = started_together(present, start, DAEMONS, batch=1_000, lease=10)
    victim, *others = daemons
    until(lambda: victim.log("batch"))
    victim.ended_after(signal.SIGKILL)
    assert scalar(present, "SELECT count(*) FROM account WHERE due_at < now()") > 0, "it was killed in the middle"
    until_all_is_done(present, 120)  # what it had in hand is delivered when its claim has lapsed
    assert_each_moved_once(present, **kinds)
    assert scalar(present, "SELECT count(*) FROM outbox WHERE attempts > 2") == 0
    assert scalar(present, "SELECT count(*) FROM outbox WHERE attempts = 2") <= 5_000, "no more than one claim"
    assert all(other.log("batch") for other in others)
    assert [daemon.troubles() for daemon in daemons] == [[]] * DAEMONS


def test_a_sweep_moves_what_nobody_holds_and_does_not_wait_for_the_rest(present: Engine, postgresql_url: str) -> None:
    prepare(present, trials=10_500)
    other = Engine(postgresql_url)
    first = "SELECT FROM account WHERE state = 'trial' ORDER BY due_at LIMIT 10000 FOR UPDATE"  # a whole batch
    with other.database.write() as connection:
        connection.execute(text(first))
        report = present.sweep()  # whoever waited for that transaction would fail in the end: it goes on
        assert (report.moved, report.finished) == (500, True)
        assert report.next_due < now(), "the others are still due"
    assert present.sweep().moved == 10_000
    assert_each_moved_once(present, trials=10_500)
    other.close()


def test_a_delivery_hands_over_what_nobody_holds_and_does_not_wait_for_the_rest(
    present: Engine, postgresql_url: str, handled: list[Task]
) -> None:
    prepare(present, inactive=75)
    present.sweep()
    other = Engine(postgresql_url)
    first = "SELECT id FROM outbox WHERE status = 'pending' ORDER BY due_at, id LIMIT 100 FOR UPDATE"  # a whole claim
    with other.database.write() as connection:
        held = set(connection.scalars(text(first)))
        assert present.deliver().delivered.total() == 50
        assert len(handled) == 50 and held.isdisjoint(task.id for task in handled)
    assert present.deliver().delivered.total() == 100
    assert len({task.id for task in handled}) == len(handled) == 150
    assert_each_moved_once(present, inactive=75)
    other.close()
