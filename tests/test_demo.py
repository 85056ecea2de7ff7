"""The demo keeps the promises that it shows, and says the same every time."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from lifecycle import Engine, InvalidInput, ManualClock, State, demo
from lifecycle.demo_world import HERO
from lifecycle.policy import Policy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]  # one worker, so that it is lived through once


def play(url: str | None, months: int) -> tuple[str, list[demo.Promise]]:
    written = io.StringIO()
    promises = demo.run(url, Console(file=written, markup=False, highlight=False, width=100), months=months)
    return written.getvalue(), promises


@pytest.fixture(scope="module")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('demo')}/accounts.db"


@pytest.fixture(scope="module")
def shown(demo_url: str) -> tuple[str, list[demo.Promise]]:
    """Eight months: the outage, and half of the story, lie within."""
    return play(demo_url, 8)


@pytest.fixture
def lived(demo_url: str, shown: object) -> Engine:
    return Engine(demo_url, clock=ManualClock(datetime(2026, 9, 1, tzinfo=UTC)))


def test_every_promise_is_put_to_the_test_and_only_the_outage_makes_a_purge_late(
    shown: tuple[str, list[demo.Promise]],
) -> None:
    promises = shown[1]
    assert all(promise.tested > 20 for promise in promises)
    assert {promise.sentence for promise in promises if promise.broken} <= {"Backups were purged by the promised date"}


def test_nothing_was_deleted_before_its_dates(lived: Engine) -> None:
    policy, deleted = Policy(), 0
    for account in lived.accounts():
        if account.content_deleted_at is not None:
            deleted += 1
            assert account.content_deleted_at >= account.cancelled_at + policy.deletion_after
            assert account.content_deleted_at >= account.access_ends_at
    assert deleted > 50


def test_every_history_is_contiguous_and_ends_in_the_state_of_its_account(lived: Engine) -> None:
    for account in lived.accounts():
        entries = lived.history(account.id)
        assert [entry.number for entry in entries] == list(range(1, account.version + 1))
        assert entries[-1].dest is account.state


def test_the_output_shows_moves_states_story_pictures_and_what_to_type_next(
    shown: tuple[str, list[demo.Promise]], demo_url: str
) -> None:
    text = shown[0]
    assert "2026-01 " in text and "2026-08 " in text and "2026-09 " not in text
    assert all(state in text for state in State)
    assert f"The life of {HERO}" in text and "reactivate" in text
    assert f"LIFECYCLE_DATABASE_URL={demo_url}" in text and f"lifecycle show {HERO}" in text
    assert "No daemon ran for 14 days" in text
    assert max(len(line) for line in text.splitlines() if demo_url not in line) <= 100


def test_two_runs_show_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, _ = play(None, 1)
    second, _ = play(None, 1)
    assert first == second
    assert (tmp_path / "demo" / "accounts.db").is_file()


def test_a_database_with_accounts_in_it_is_left_alone(lived: Engine, demo_url: str) -> None:
    before = lived.summary()
    with pytest.raises(InvalidInput, match="must be empty"):
        play(demo_url, 1)
    assert lived.summary() == before


def test_without_the_example_file_the_demo_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "ACCOUNTS", tmp_path / "accounts.csv")
    with pytest.raises(InvalidInput, match=r"accounts\.csv.*checkout"):
        play(f"sqlite:///{tmp_path}/demo.db", 1)


def test_a_broken_promise_is_counted(lived: Engine) -> None:
    """The checks can fail: a life without its notices breaks the promises of notice."""
    silent = [demo.Life(life.account, [e for e in life.entries if e.step != "notice"]) for life in demo.lives(lived)]
    broken = {promise.sentence: promise.broken for promise in demo.check_promises(silent, Policy(), lived.clock.now())}
    assert broken["Each deletion was announced 7 days before"] > 20
    assert broken["Each cancellation by the company was announced 14 days before"] > 20
    assert broken["Every history is without a gap, and ends where the account is"] > 20
