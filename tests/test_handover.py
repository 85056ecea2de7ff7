"""Handing over: the last look before destruction, handlers of many, handlers that hang, and what can't be delivered."""

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from lifecycle import Actor, DeliverySettings, Effect, Engine, ManualClock, State, Task, Undeliverable
from lifecycle.states import DESTRUCTIVE
from lifecycle.tables import Status
from tests.conftest import START

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")
DAY = timedelta(days=1)
IDS = ("acme", "bolt", "core")


class Many:
    """A handler of many tasks; ``answers`` is what it says of each account instead of a receipt."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.answers: dict[str, Any] = {}

    def __call__(self, task: Task) -> Any:
        return self.many([task])[0]

    def many(self, tasks: Sequence[Task]) -> list[Any]:
        self.calls.append([task.account_id for task in tasks])
        return [self.answers.get(task.account_id, "erased") for task in tasks]


@pytest.fixture
def many() -> Many:
    return Many()


@pytest.fixture
def engine(url: str, clock: ManualClock, many: Many) -> Iterator[Engine]:
    engine = Engine(url, clock=clock, handlers=dict.fromkeys(DESTRUCTIVE, many), delivery=DeliverySettings(attempts=3))
    engine.migrate()
    for id in IDS:
        engine.open_account(id, company=f"{id} Ltd", owners=[ANN], plan="free")
    yield engine
    engine.close()


def ask_to_erase(engine: Engine) -> None:
    """All accounts are cancelled, and their erasure is requested but not delivered."""
    for id in IDS:
        engine.fire(id, "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + 29 * DAY)
    engine.clock.set(START + 30 * DAY)  # type: ignore[attr-defined]
    engine.sweep()


def handled_by(engine: Engine, handler: Any) -> None:
    engine.courier.handlers[Effect.DELETE_CONTENT] = handler


def request(engine: Engine, id: str) -> Any:
    with engine.database.read() as connection:
        rows = engine.courier.rows(connection, account_id=id)
    return [row for row in rows if row["effect"] == Effect.DELETE_CONTENT][-1]


# --- The last look -----------------------------------------------------------------------------------


def test_a_hold_that_comes_between_claim_and_handler_is_in_time(engine: Engine) -> None:
    ask_to_erase(engine)
    seen: list[str] = []

    def the_first_call_brings_a_hold(task: Task) -> str:
        if not seen:
            engine.place_hold(next(id for id in IDS if id != task.account_id), actor=ADMIN, reason="court order")
        seen.append(task.account_id)
        return "erased"

    handled_by(engine, the_first_call_brings_a_hold)
    report = engine.deliver()
    held = next(account for account in map(engine.get, IDS) if account.legal_holds)
    assert held.id not in seen and len(seen) == 2
    assert report.withdrawn == 1
    assert (held.state, held.erasure_requested_at, held.due_at) == (State.ACCESS_REVOKED, None, None)
    assert (request(engine, held.id)["status"], request(engine, held.id)["last_error"]) == (
        Status.WITHDRAWN,
        "a legal hold is in force",
    )
    last = engine.history(held.id)[-1]
    assert (last.event, last.step) == ("delete_content", "void")


def test_what_was_withdrawn_at_the_last_moment_is_requested_anew_after_the_hold(engine: Engine, many: Many) -> None:
    ask_to_erase(engine)
    claimed, people = engine.courier._claim(engine.clock.now(), _report())
    assert claimed is not None
    engine.place_hold("acme", actor=ADMIN, reason="court order")
    assert engine.get("acme").erasure_requested_at is not None, "it was claimed, so the hold leaves it"
    engine.courier._work(claimed, people, engine.clock.now, lambda: False, lambda: None, _report())
    assert engine.get("acme").erasure_requested_at is None
    engine.release_hold("acme", actor=ADMIN, reason="settled")
    engine.run_until(START + 37 * DAY)
    assert many.calls == [["bolt", "core"], ["acme"]]
    assert engine.get("acme").state is State.CONTENT_DELETED


def test_what_a_handler_has_seen_once_waits_for_the_end_of_the_hold_with_its_request_in_force(engine: Engine) -> None:
    ask_to_erase(engine)

    def fails(task: Task) -> str:
        raise OSError("half of it is erased")

    handled_by(engine, fails)
    engine.deliver()
    engine.clock.set(request(engine, "acme")["due_at"])  # type: ignore[attr-defined]
    claimed, people = engine.courier._claim(engine.clock.now(), _report())
    assert claimed is not None and "acme" in {one.account_id for one in claimed}
    engine.place_hold("acme", actor=ADMIN, reason="court order")
    engine.courier._work(claimed, people, engine.clock.now, lambda: False, lambda: None, _report())
    assert (request(engine, "acme")["status"], request(engine, "acme")["attempts"]) == (Status.PENDING, 1)
    assert engine.get("acme").erasure_requested_at is not None


def test_a_claim_that_another_worker_has_taken_over_is_left_to_it(engine: Engine, many: Many) -> None:
    ask_to_erase(engine)
    mine, people = engine.courier._claim(engine.clock.now(), _report())
    engine.clock.set(engine.clock.now() + engine._delivery.lease)  # type: ignore[attr-defined]
    theirs, _ = engine.courier._claim(engine.clock.now(), _report())
    assert mine is not None and theirs is not None
    report = _report()
    engine.courier._work(mine, people, engine.clock.now, lambda: False, lambda: None, report)
    assert many.calls == [] and report.handled == 0
    assert {request(engine, id)["attempts"] for id in IDS} == {2}


def _report() -> Any:
    from lifecycle.outbox import DeliveryReport

    return DeliveryReport()


# --- Many at once ------------------------------------------------------------------------------------


def test_a_handler_of_many_is_called_once_and_answers_for_each(engine: Engine, many: Many) -> None:
    ask_to_erase(engine)
    many.answers = {"bolt": OSError("a disk is gone"), "core": "  "}
    report = engine.deliver()
    assert [sorted(call) for call in many.calls] == [sorted(IDS)]
    assert (report.delivered["delete_content"], report.failed["delete_content"]) == (1, 2)
    assert engine.get("acme").state is State.CONTENT_DELETED
    assert request(engine, "bolt")["last_error"] == "OSError: a disk is gone"
    assert "no receipt" in request(engine, "core")["last_error"]


def test_too_few_answers_confirm_nothing(engine: Engine, many: Many) -> None:
    ask_to_erase(engine)
    many.many = lambda tasks: ["erased"]  # type: ignore[method-assign]
    assert engine.deliver().failed["delete_content"] == 3
    assert "gave 1 answers to 3 tasks" in request(engine, "acme")["last_error"]
    assert {engine.get(id).state for id in IDS} == {State.ACCESS_REVOKED}


def test_what_a_handler_of_many_raises_is_tried_again_for_all(engine: Engine, many: Many) -> None:
    ask_to_erase(engine)

    def fails(tasks: Sequence[Task]) -> list[str]:
        raise OSError("no route to the store")

    many.many = fails  # type: ignore[method-assign]
    assert engine.deliver().failed["delete_content"] == 3


# --- Poison ------------------------------------------------------------------------------------------


def test_what_can_not_be_delivered_is_parked_at_once(engine: Engine) -> None:
    ask_to_erase(engine)

    def refuses(task: Task) -> str:
        if task.account_id == "acme":
            raise Undeliverable("410 Gone")
        return "erased"

    handled_by(engine, refuses)
    report = engine.deliver()
    assert (report.parked["delete_content"], report.delivered["delete_content"]) == (1, 2)
    assert (request(engine, "acme")["status"], request(engine, "acme")["attempts"]) == (Status.PARKED, 1)


def test_a_handler_that_hangs_delays_nobody_else(url: str, clock: ManualClock) -> None:
    wakes, woken = threading.Event(), threading.Event()

    def hangs(task: Task) -> str:
        if task.account_id == "acme":
            wakes.wait(20)
            woken.set()
            return "erased after all"
        return "erased"

    settings = DeliverySettings(lease=timedelta(seconds=0.6), attempts=2)
    engine = Engine(url, clock=clock, handlers={Effect.DELETE_CONTENT: hangs}, delivery=settings)
    engine.migrate()
    for id in IDS:
        engine.open_account(id, company=f"{id} Ltd", owners=[ANN], plan="free")
    ask_to_erase(engine)
    report = engine.deliver()
    assert (report.delivered["delete_content"], report.failed["delete_content"]) == (2, 1)
    assert "did not answer within" in request(engine, "acme")["last_error"]
    assert engine.get("acme").state is State.ACCESS_REVOKED
    wakes.set()
    assert woken.wait(10)
    for _ in range(200):
        if engine.get("acme").state is State.CONTENT_DELETED:
            break
        threading.Event().wait(0.05)
    assert engine.get("acme").state is State.CONTENT_DELETED, "what was destroyed is destroyed, whoever still waits"
    assert request(engine, "acme")["receipt"] == "erased after all"
    engine.close()


def test_an_error_of_the_last_look_gives_back_what_nobody_has_seen(
    engine: Engine, many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_to_erase(engine)
    handled_by(engine, many.__call__)

    def breaks(*args: Any) -> Any:
        raise RuntimeError("the disk of the ledger is full")

    monkeypatch.setattr(engine.courier, "_last_look", breaks)
    with pytest.raises(RuntimeError, match="ledger"):
        engine.deliver()
    assert many.calls == []
    assert {(request(engine, id)["attempts"], request(engine, id)["claimed_until"]) for id in IDS} == {(0, None)}
