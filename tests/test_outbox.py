"""Delivery: at least once, fenced, backed off, parked; and what a receipt or a delivered notice means."""

import json
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from sqlalchemy import select, update

from lifecycle import (
    Actor,
    DeliverySettings,
    Effect,
    Engine,
    InvalidInput,
    ManualClock,
    Policy,
    PolicyError,
    Refused,
    State,
    Task,
)
from lifecycle.handlers.command import Command, CommandFailed
from lifecycle.handlers.log import log
from lifecycle.outcomes import CONFIRMS, REMINDS
from lifecycle.states import DESTRUCTIVE
from lifecycle.tables import Status, outbox
from tests.conftest import START

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")
DAY = timedelta(days=1)


class Recorder:
    """A handler that can be told to fail, and remembers its tasks."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.error: Exception | None = None
        self.receipt: Any = "receipt 1"

    def __call__(self, task: Task) -> Any:
        self.tasks.append(task)
        if self.error is not None:
            raise self.error
        return self.receipt


@pytest.fixture
def handler() -> Recorder:
    return Recorder()


@pytest.fixture
def engine(url: str, clock: ManualClock, handler: Recorder) -> Iterator[Engine]:
    handlers = dict.fromkeys((*DESTRUCTIVE, *REMINDS, Effect.STOP_BILLING, Effect.RESUME_BILLING), handler)
    engine = Engine(url, clock=clock, handlers=handlers, delivery=DeliverySettings(attempts=3))
    engine.migrate()
    engine.open_account("acme", company="Acme Ltd", owners=[ANN], plan="free")
    yield engine
    engine.close()


def rows(engine: Engine, effect: Effect) -> list[Any]:
    with engine.database.read() as connection:
        return [row for row in engine.courier.rows(connection) if row["effect"] == effect]


def cancelled(engine: Engine) -> None:
    engine.fire("acme", "cancel", actor=Actor.owner(ANN), reason="bye")


def asked_to_erase(engine: Engine, handler: Recorder) -> None:
    """Up to the sweep that requests erasure; nothing is delivered yet."""
    cancelled(engine)
    engine.run_until(START + 29 * DAY)
    engine.clock.set(START + 30 * DAY)  # type: ignore[attr-defined]
    engine.sweep()
    handler.tasks.clear()


# --- Delivery --------------------------------------------------------------------------------------


def test_a_task_tells_the_handler_what_was_promised_to_whom(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)
    engine.deliver()
    task = next(task for task in handler.tasks if task.effect == Effect.STOP_BILLING)
    assert (task.account_id, task.attempt, task.idempotency_key) == ("acme", 1, "acme:2:stop_billing")
    assert task.payload == {
        "company": "Acme Ltd",
        "owners": [ANN],
        "access_ends_at": START.isoformat(),
        "delete_content_at": (START + 30 * DAY).isoformat(),
        "purge_backups_by": (START + 60 * DAY).isoformat(),
    }


def test_what_is_delivered_is_not_delivered_again(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)
    assert engine.deliver().delivered["stop_billing"] == 1
    assert engine.deliver().handled == 0
    assert len(handler.tasks) == 1


def test_a_failure_is_tried_again_later_and_later_with_the_same_key(engine: Engine, handler: Recorder) -> None:
    handler.error = OSError("no route to billing")
    cancelled(engine)
    waits = []
    for attempt in (1, 2):
        report = engine.deliver()
        assert report.failed["stop_billing"] == 1
        (row,) = rows(engine, Effect.STOP_BILLING)
        assert (row["attempts"], row["last_error"]) == (attempt, "OSError: no route to billing")
        assert report.next_due == row["due_at"]
        assert engine.deliver().handled == 0
        waits.append(row["due_at"] - engine.clock.now())
        engine.clock.set(row["due_at"])  # type: ignore[attr-defined]
    assert timedelta(seconds=30) <= waits[0] <= timedelta(seconds=60) <= waits[1] <= timedelta(seconds=90)
    assert {task.idempotency_key for task in handler.tasks} == {"acme:2:stop_billing"}
    assert [task.attempt for task in handler.tasks] == [1, 2]


def test_after_the_last_attempt_a_task_is_parked_until_somebody_retries_it(engine: Engine, handler: Recorder) -> None:
    handler.error = OSError("down")
    cancelled(engine)
    engine.run_until(START + DAY)
    (row,) = rows(engine, Effect.STOP_BILLING)
    assert (row["status"], row["attempts"]) == (Status.PARKED, 3)
    handler.error = None
    assert engine.deliver().handled == 0
    assert engine.courier.retry(engine.clock.now(), row["id"]) == 1
    assert engine.deliver().delivered["stop_billing"] == 1


def test_all_parked_tasks_can_be_retried_and_none_that_is_not(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)
    engine.deliver()
    assert engine.courier.retry(engine.clock.now()) == 0
    with pytest.raises(InvalidInput, match="is not parked"):
        engine.courier.retry(engine.clock.now(), rows(engine, Effect.STOP_BILLING)[0]["id"])


def test_the_wait_grows_to_a_limit_and_is_never_the_same_for_all(engine: Engine) -> None:
    courier = engine.courier
    assert courier.backoff(1) < courier.backoff(3) < courier.backoff(6)
    assert courier.backoff(40) == timedelta(hours=6)
    assert len({courier.backoff(2) for _ in range(20)}) > 1


def test_a_receipt_that_is_not_text_is_a_failure(engine: Engine, handler: Recorder) -> None:
    handler.receipt = {"ok": True}
    cancelled(engine)
    engine.deliver()
    assert "a receipt is text" in rows(engine, Effect.STOP_BILLING)[0]["last_error"]


# --- Claims ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["torn \ud83d", "cut \0 off"])
def test_text_that_no_database_can_keep_holds_nobody_up(engine: Engine, handler: Recorder, text: str) -> None:
    for account_id in ("a1", "a2"):
        engine.open_account(account_id, company="Acme Ltd", owners=[ANN], plan="free")
        engine.fire(account_id, "cancel", actor=Actor.owner(ANN))
    handler.error = RuntimeError(text)
    assert engine.deliver().failed == {"stop_billing": 2}
    handler.error, handler.receipt = None, text
    engine.clock.set(engine.clock.now() + DAY)  # type: ignore[attr-defined]
    assert engine.deliver().delivered == {"stop_billing": 2}


def test_a_claim_whose_worker_died_lapses_and_another_takes_the_task_up(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)
    handler.error = KeyboardInterrupt()  # the worker is killed in the middle of its work
    with pytest.raises(KeyboardInterrupt):
        engine.deliver()
    handler.error = None
    assert engine.deliver().delivered == {"confirm_cancellation": 1}, "what it had not begun is free at once"
    lease = engine.courier.settings.lease
    engine.clock.set(START + lease)  # type: ignore[attr-defined]
    assert engine.deliver().delivered["stop_billing"] == 1
    assert [task.attempt for task in handler.tasks] == [1, 2]


def test_the_failure_of_a_claim_that_was_lost_changes_nothing(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)

    def lose_the_claim(task: Task) -> str:
        with engine.database.write() as connection:
            connection.execute(update(outbox).where(outbox.c.id == task.id).values(attempts=outbox.c.attempts + 1))
        raise OSError("too late")

    engine.courier.handlers[Effect.STOP_BILLING] = lose_the_claim
    engine.deliver()
    (row,) = rows(engine, Effect.STOP_BILLING)
    assert (row["status"], row["last_error"]) == (Status.PENDING, None)


def test_two_workers_never_hold_the_same_task(engine: Engine, url: str, clock: ManualClock) -> None:
    for number in range(40):
        engine.open_account(f"a{number}", company="Acme", owners=[ANN], plan="free")
        engine.fire(f"a{number}", "cancel", actor=Actor.owner(ANN))
    seen: list[str] = []
    settings = DeliverySettings(batch=7)

    def work() -> None:
        handlers = {Effect.STOP_BILLING: lambda task: seen.append(task.idempotency_key)}
        worker = Engine(url, clock=clock, handlers=handlers, delivery=settings)
        worker.deliver()
        worker.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == 40


def test_stopping_gives_back_what_no_handler_has_seen(engine: Engine, handler: Recorder) -> None:
    for number in range(3):
        engine.open_account(f"a{number}", company="Acme", owners=[ANN], plan="free")
        engine.fire(f"a{number}", "cancel", actor=Actor.owner(ANN))
    report = engine.deliver(stop=lambda: len(handler.tasks) >= 1)
    assert not report.finished
    assert report.delivered["stop_billing"] == 1
    left = [row for row in rows(engine, Effect.STOP_BILLING) if row["status"] == Status.PENDING]
    assert [(row["attempts"], row["claimed_until"]) for row in left] == [(0, None), (0, None)]
    assert engine.deliver().delivered["stop_billing"] == 2


def test_an_outcome_that_cannot_be_written_does_not_lose_the_others(
    engine: Engine, handler: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        engine.open_account(f"a{number}", company="Acme", owners=[ANN], plan="free")
        engine.fire(f"a{number}", "cancel", actor=Actor.owner(ANN))
    write = engine.courier._outcomes.write

    def poisoned(connection: Any, outcomes: Any, *rest: Any) -> None:
        write(connection, outcomes, *rest)
        if any(outcome.claimed.account_id == "a1" for outcome in outcomes):
            raise InvalidInput("this one is poison")

    monkeypatch.setattr(engine.courier._outcomes, "write", poisoned)
    with pytest.raises(InvalidInput):
        engine.deliver()
    done = {row["account_id"] for row in rows(engine, Effect.STOP_BILLING) if row["status"] == Status.DELIVERED}
    assert done == {"a0", "a2"}


# --- Billing orders ----------------------------------------------------------------------------------


def test_an_order_to_billing_that_was_reversed_since_is_withdrawn(engine: Engine, handler: Recorder) -> None:
    engine.fire("acme", "upgrade", actor=Actor.billing("psp"), period_ends_at=START + 90 * DAY)
    cancelled(engine)
    engine.fire("acme", "reactivate", actor=Actor.owner(ANN))
    engine.deliver()
    assert [task.effect for task in handler.tasks] == ["resume_billing"]
    assert rows(engine, Effect.STOP_BILLING)[0]["status"] == Status.WITHDRAWN


def test_the_confirmation_of_a_cancellation_that_was_taken_back_is_not_sent(engine: Engine) -> None:
    cancelled(engine)
    engine.fire("acme", "reactivate", actor=Actor.owner(ANN))
    engine.deliver()
    assert rows(engine, Effect.CONFIRM_CANCELLATION)[0]["status"] == Status.WITHDRAWN


def test_an_order_to_billing_waits_for_the_one_before_it(engine: Engine, handler: Recorder) -> None:
    engine.fire("acme", "upgrade", actor=Actor.billing("psp"), period_ends_at=START + 90 * DAY)
    cancelled(engine)

    def comes_back_meanwhile(task: Task) -> None:
        engine.fire("acme", "reactivate", actor=Actor.owner(ANN))
        with engine.database.write() as connection:
            claimable = connection.execute(
                engine.courier._claimable, {"now": engine.clock.now(), "size": 9, "destroys": True}
            ).all()
        assert Effect.RESUME_BILLING not in [row.effect for row in claimable]

    engine.courier.handlers[Effect.STOP_BILLING] = comes_back_meanwhile
    engine.deliver()
    assert rows(engine, Effect.STOP_BILLING)[0]["status"] == Status.DELIVERED
    assert [task.effect for task in handler.tasks] == ["resume_billing"]


# --- Notices -----------------------------------------------------------------------------------------


def test_a_delivered_notice_promises_time_from_its_delivery_on(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)
    engine.run_until(START + 22 * DAY)
    handler.error = OSError("the mail server is down")
    engine.clock.set(START + 23 * DAY)  # type: ignore[attr-defined]
    engine.sweep()
    engine.deliver()
    assert engine.get("acme").due_at is None
    handler.error = None
    engine.clock.set(START + 23 * DAY + timedelta(hours=3))  # type: ignore[attr-defined]
    engine.deliver()
    assert engine.get("acme").not_before == START + 30 * DAY + timedelta(hours=3)
    engine.run_until(START + 30 * DAY + timedelta(hours=2))
    assert engine.get("acme").erasure_requested_at is None
    engine.run_until(START + 30 * DAY + timedelta(hours=3))
    assert engine.get("acme").state is State.CONTENT_DELETED


def test_a_notice_that_cannot_be_delivered_counts_once_it_is_parked(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)
    engine.run_until(START + 22 * DAY)
    handler.error = OSError("mailbox unknown")
    engine.run_until(START + 24 * DAY)
    (row,) = rows(engine, Effect.REMIND_DELETION)
    assert row["status"] == Status.PARKED
    assert engine.get("acme").not_before == row["finished_at"] + 7 * DAY
    assert engine.history("acme")[-1].step == "notice"


def test_a_reminder_of_a_clock_that_stopped_is_not_sent(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)
    engine.deliver()
    handler.tasks.clear()
    engine.clock.set(START + 23 * DAY)  # type: ignore[attr-defined]
    engine.sweep()
    engine.fire("acme", "reactivate", actor=Actor.owner(ANN))
    engine.deliver()
    assert handler.tasks == []
    assert rows(engine, Effect.REMIND_DELETION)[0]["status"] == Status.WITHDRAWN


# --- Destruction --------------------------------------------------------------------------------------


def test_content_counts_as_deleted_only_with_a_receipt(engine: Engine, handler: Recorder) -> None:
    asked_to_erase(engine, handler)
    assert engine.get("acme").state is State.ACCESS_REVOKED
    for receipt in (None, "", "  "):
        handler.receipt = receipt
        engine.clock.set(engine.clock.now() + timedelta(hours=1))  # type: ignore[attr-defined]
        engine.deliver()
        assert engine.get("acme").state is State.ACCESS_REVOKED
    assert "no receipt" in rows(engine, Effect.DELETE_CONTENT)[0]["last_error"]
    handler.receipt = "erased 12 objects"
    engine.courier.retry(engine.clock.now())
    engine.deliver()
    assert engine.get("acme").state is State.CONTENT_DELETED
    assert rows(engine, Effect.DELETE_CONTENT)[0]["receipt"] == "erased 12 objects"


def test_a_receipt_counts_whatever_policy_came_into_force_meanwhile(
    engine: Engine, handler: Recorder, url: str
) -> None:
    asked_to_erase(engine, handler)
    longer = Engine(url, policy=Policy.from_mapping({"deletion_after": "45 days"}), clock=engine.clock)

    def adopts_meanwhile(task: Task) -> str:
        longer.migrate()
        return "erased"

    engine.courier.handlers[Effect.DELETE_CONTENT] = adopts_meanwhile
    with pytest.raises(PolicyError):
        engine.deliver()
    assert longer.get("acme").state is State.CONTENT_DELETED
    assert longer.history("acme")[-1].policy_version == longer.policy.version
    longer.close()


def test_once_erasure_is_requested_there_is_no_way_back(engine: Engine, handler: Recorder) -> None:
    asked_to_erase(engine, handler)
    with pytest.raises(Refused, match="requested already"):
        engine.fire("acme", "reactivate", actor=Actor.owner(ANN))


def test_a_destructive_effect_without_a_handler_is_never_claimed(url: str, clock: ManualClock) -> None:
    engine = Engine(url, clock=clock)
    engine.migrate()
    engine.open_account("acme", company="Acme", owners=[ANN], plan="free")
    cancelled(engine)
    engine.run_until(START + 100 * DAY)
    (row,) = rows(engine, Effect.DELETE_CONTENT)
    assert (row["status"], row["attempts"]) == (Status.PENDING, 0)
    assert engine.get("acme").state is State.ACCESS_REVOKED
    engine.close()


def test_a_legal_hold_withdraws_a_request_that_nobody_has_claimed(engine: Engine, handler: Recorder) -> None:
    asked_to_erase(engine, handler)
    engine.place_hold("acme", actor=ADMIN, reason="court order", case="2027-114")
    assert rows(engine, Effect.DELETE_CONTENT)[0]["status"] == Status.WITHDRAWN
    assert engine.get("acme").erasure_requested_at is None
    engine.run_until(START + 90 * DAY)
    assert handler.tasks == []
    engine.release_hold("acme", actor=ADMIN, reason="settled", case="2027-114")
    engine.run_until(START + 97 * DAY - timedelta(microseconds=1))
    assert engine.get("acme").state is State.ACCESS_REVOKED
    engine.run_until(START + 97 * DAY)
    assert [task.effect for task in handler.tasks if task.effect in DESTRUCTIVE] == ["delete_content", "purge_backups"]
    assert engine.get("acme").state is State.PURGED, "the backups' own deadline passed during the hold"


def test_a_request_that_a_handler_has_seen_stays_a_point_of_no_return(engine: Engine, handler: Recorder) -> None:
    asked_to_erase(engine, handler)
    handler.error = OSError("half of it is erased")
    engine.deliver()
    engine.place_hold("acme", actor=ADMIN, reason="court order")
    assert rows(engine, Effect.DELETE_CONTENT)[0]["status"] == Status.PENDING
    assert engine.get("acme").erasure_requested_at is not None
    with pytest.raises(Refused, match="requested already"):
        engine.fire("acme", "reactivate", actor=Actor.owner(ANN))
    handler.error = None
    engine.run_until(START + 60 * DAY)
    assert len(handler.tasks) == 1, "nothing is delivered under a hold"
    engine.release_hold("acme", actor=ADMIN, reason="settled")
    engine.clock.set(START + 67 * DAY)  # type: ignore[attr-defined]
    engine.deliver()
    assert engine.get("acme").state is State.CONTENT_DELETED


def test_a_receipt_that_arrives_under_a_hold_is_recorded_and_the_state_follows(
    engine: Engine, handler: Recorder
) -> None:
    asked_to_erase(engine, handler)

    def a_hold_comes_too_late(task: Task) -> str:
        engine.place_hold("acme", actor=ADMIN, reason="court order")
        return "erased before the order came"

    engine.courier.handlers[Effect.DELETE_CONTENT] = a_hold_comes_too_late
    engine.deliver()
    account = engine.get("acme")
    assert (account.state, account.legal_holds, account.due_at) == (State.CONTENT_DELETED, 1, None)


def test_one_hold_of_several_is_released_alone(engine: Engine) -> None:
    for case in ("a", "b", None):
        engine.place_hold("acme", actor=ADMIN, reason="court order", case=case)
    engine.release_hold("acme", actor=ADMIN, reason="settled", case="a")
    assert engine.get("acme").legal_holds == 2
    assert engine.get("acme").cases == ("b", None)
    assert engine.get("acme").hold_released_at is None
    with pytest.raises(Refused, match="No legal hold of this case"):
        engine.release_hold("acme", actor=ADMIN, reason="settled", case="a")
    engine.release_hold("acme", actor=ADMIN, reason="all settled")
    assert engine.get("acme").legal_holds == 0
    assert engine.get("acme").hold_released_at == START


def test_a_hold_during_the_purge_withdraws_its_request_too(engine: Engine, handler: Recorder) -> None:
    cancelled(engine)
    engine.run_until(START + 58 * DAY)
    engine.clock.set(START + 59 * DAY)  # type: ignore[attr-defined]
    engine.sweep()
    assert engine.get("acme").purge_requested_at is not None
    engine.place_hold("acme", actor=ADMIN, reason="court order")
    account = engine.get("acme")
    assert (account.purge_requested_at, account.erasure_requested_at) == (None, START + 30 * DAY)


def test_every_destructive_effect_is_confirmed_by_one_row_of_the_table() -> None:
    assert set(CONFIRMS) == set(DESTRUCTIVE)


# --- Handlers ----------------------------------------------------------------------------------------


def task(**changes: Any) -> Task:
    values = {"id": 7, "account_id": "acme", "effect": "delete_content", "payload": {"owners": [ANN], "promised": "x"}}
    return Task(**({**values, "attempt": 1, "idempotency_key": "acme:2:delete_content"} | changes))


def program(tmp_path: Path, code: str) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(code)
    return [sys.executable, str(path)]


def test_a_command_reads_the_task_and_its_output_is_the_receipt(tmp_path: Path) -> None:
    code = "import json, sys; t = json.load(sys.stdin); print('erased', t['account_id'], t['idempotency_key'])"
    assert Command(program(tmp_path, code))(task()) == "erased acme acme:2:delete_content"


def test_a_command_that_prints_nothing_gives_no_receipt(tmp_path: Path) -> None:
    assert Command(program(tmp_path, "pass"))(task()) is None


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="exit code 3: the bucket is locked"):
        Command(program(tmp_path, "import sys; sys.stderr.write('the bucket is locked'); sys.exit(3)"))(task())
    with pytest.raises(CommandFailed, match="can't be started"):
        Command([str(tmp_path / "missing")])(task())


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    child = f"import time; time.sleep(2); open({str(marker)!r}, 'w')"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    with pytest.raises(CommandFailed, match=r"killed after 0\.5 s"):
        Command(program(tmp_path, code), timedelta(seconds=0.5))(task())
    threading.Event().wait(2.5)
    assert not marker.exists()


def test_closing_kills_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    command = Command(program(tmp_path, "import time; time.sleep(60)"))
    threading.Timer(0.5, command.close).start()
    with pytest.raises(CommandFailed):
        command(task())
    with pytest.raises(CommandFailed, match="shutting down"):
        command(task())


@pytest.mark.parametrize(("arguments", "timeout"), [([], timedelta(1)), (["true"], timedelta(0))])
def test_a_command_needs_a_program_and_a_timeout(arguments: list[str], timeout: timedelta) -> None:
    with pytest.raises(InvalidInput):
        Command(arguments, timeout)


def test_the_log_handler_keeps_addresses_and_names_out() -> None:
    with structlog.testing.capture_logs() as logged:
        assert log(task(payload={"company": "Canary GmbH", "owners": [ANN], "promised": "2026-02-01"})) is None
    (line,) = logged
    assert (line["promised"], line["idempotency_key"]) == ("2026-02-01", "acme:2:delete_content")
    assert "Canary" not in repr(line) and ANN not in repr(line)


def test_a_command_is_given_json(tmp_path: Path) -> None:
    code = "import sys; print(sys.stdin.read())"
    given = json.loads(Command(program(tmp_path, code))(task()) or "")
    assert set(given) == {"id", "account_id", "effect", "payload", "attempt", "idempotency_key", "receipts"}


def test_rows_are_listed_by_status_and_account(engine: Engine) -> None:
    engine.open_account("other", company="Other", owners=[ANN], plan="free")
    cancelled(engine)
    engine.fire("other", "cancel", actor=Actor.owner(ANN))
    engine.deliver()
    with engine.database.read() as connection:
        assert engine.courier.rows(connection, Status.PARKED) == []
        listed = engine.courier.rows(connection, Status.DELIVERED, "acme")
        assert {row["account_id"] for row in listed} == {"acme"}
        assert connection.execute(select(outbox.c.id)).all()
    assert engine.outbox_counts()["delivered"] == 4
