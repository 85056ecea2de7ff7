"""Legal holds: several at a time, each with its case, who placed it, why and until when."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from lifecycle import Actor, Engine, GuardRefused, ManualClock, NotAuthorised, State
from lifecycle.actor import SYSTEM
from lifecycle.cli import app
from lifecycle.states import DESTRUCTIVE
from tests.conftest import START
from tests.people import ME

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")
DAY = timedelta(days=1)


@pytest.fixture
def engine(url: str, clock: ManualClock) -> Iterator[Engine]:
    engine = Engine(url, clock=clock, handlers=dict.fromkeys(DESTRUCTIVE, lambda task: "erased"))
    engine.migrate()
    engine.open_account("acme", company="Acme", owners=[ANN], plan="free")
    yield engine
    engine.close()


def hold(engine: Engine, case: str | None, **more: Any) -> None:
    engine.place_hold("acme", actor=ADMIN, reason=f"order {case}", case=case, **more)


def test_holds_are_listed_with_who_placed_them_and_why(engine: Engine) -> None:
    hold(engine, "a")
    hold(engine, "b", ends_at=START + 10 * DAY)
    listed = [(h["case"], h["actor"], h["reason"], h["ends_at"], h["released_at"]) for h in engine.holds()]
    assert listed == [
        ("a", "admin:root", "order a", None, None),
        ("b", "admin:root", "order b", START + 10 * DAY, None),
    ]
    engine.release_hold("acme", actor=ADMIN, reason="settled", case="a")
    assert [h["case"] for h in engine.holds("acme")] == ["b"]
    assert [h["case"] for h in engine.holds("acme", released=True)] == ["a", "b"]
    assert engine.holds("another") == []


def test_a_hold_with_an_end_is_released_by_itself_and_destruction_waits_for_the_notice(engine: Engine) -> None:
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    hold(engine, "a", ends_at=START + 50 * DAY)
    engine.run_until(START + 50 * DAY - timedelta(microseconds=1))
    assert engine.get("acme").legal_holds == 1
    engine.run_until(START + 50 * DAY)
    account = engine.get("acme")
    assert (account.legal_holds, account.hold_released_at, account.state) == (0, START + 50 * DAY, State.ACCESS_REVOKED)
    last = engine.history("acme")[-1]
    assert any(
        (entry.event, entry.actor, entry.reason) == ("release_hold", "system:timer", "the hold has come to its end")
        for entry in engine.history("acme")
    ), last
    engine.run_until(START + 57 * DAY - timedelta(microseconds=1))
    assert engine.get("acme").state is State.ACCESS_REVOKED
    engine.run_until(START + 57 * DAY)
    assert engine.get("acme").state is not State.ACCESS_REVOKED


def test_the_end_of_one_hold_leaves_the_others_in_force(engine: Engine) -> None:
    hold(engine, "a", ends_at=START + DAY)
    hold(engine, "b")
    engine.run_until(START + 2 * DAY)
    assert engine.get("acme").cases == ("b",)


def test_a_case_with_two_holds_ends_with_the_later_one(engine: Engine) -> None:
    hold(engine, "a", ends_at=START + DAY)
    hold(engine, "a", ends_at=START + 3 * DAY)
    engine.run_until(START + 2 * DAY)
    assert engine.get("acme").legal_holds == 2
    engine.run_until(START + 3 * DAY)
    assert engine.get("acme").legal_holds == 0


def test_a_case_one_of_whose_holds_has_no_end_does_not_end(engine: Engine) -> None:
    hold(engine, "a", ends_at=START + DAY)
    hold(engine, "a")
    engine.run_until(START + 9 * DAY)
    assert engine.get("acme").legal_holds == 2


@pytest.mark.parametrize("facts", [{"case": "a", "ends_at": START}, {"case": None, "ends_at": START + DAY}])
def test_an_end_needs_a_case_and_lies_in_the_future(engine: Engine, facts: dict[str, Any]) -> None:
    with pytest.raises(GuardRefused, match="needs a case, and an end in the future"):
        engine.place_hold("acme", actor=ADMIN, reason="order", **facts)


def test_nobody_releases_a_hold_as_the_system(engine: Engine) -> None:
    hold(engine, "a")
    with pytest.raises(NotAuthorised):
        engine.release_hold("acme", actor=SYSTEM, reason="nobody looks")


def test_the_command_line_lists_holds_and_takes_their_end(engine: Engine, url: str) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--database", url])
        assert result.exit_code == 0, result.output
        return result.stdout

    until = ("--until", "2199-01-01", "--as", "admin")
    run("hold", "place", "acme", "--reason", "order", "--case", "2031-114", *until)
    shown = run("hold", "list")
    assert "2031-114" in shown and "2199-01-01 00:00" in shown and f"admin:{ME}" in shown
    assert '"case": "2031-114"' in run("hold", "list", "acme", "--json")
    run("hold", "release", "acme", "--reason", "settled", "--as", "admin")
    assert "released 20" in run("hold", "list", "--all")
