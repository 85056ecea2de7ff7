"""Several handlers of one effect, and the certificate of what was destroyed."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from lifecycle import (
    Actor,
    DeliverySettings,
    Effect,
    Engine,
    Found,
    InvalidInput,
    ManualClock,
    Receipt,
    State,
    Task,
    Undeliverable,
)
from lifecycle.cli import app
from lifecycle.handlers.several import Several
from lifecycle.policy import Policy
from lifecycle.tables import Status
from lifecycle.task import apart, joined
from tests.conftest import START

ANN = "ann@acme.test"
ADMIN = Actor.admin("root")
DAY = timedelta(days=1)


class Store:
    """A handler for one store, that can be told what to answer."""

    def __init__(self, name: str) -> None:
        self.calls = 0
        self.answer: Any = str(Receipt(name, Found.ERASED, count=3))

    def __call__(self, task: Task) -> Any:
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def stores() -> dict[str, Store]:
    return {"files": Store("files"), "orders": Store("orders")}


@pytest.fixture
def engine(url: str, clock: ManualClock, stores: dict[str, Store]) -> Iterator[Engine]:
    handlers = {Effect.DELETE_CONTENT: stores, Effect.PURGE_BACKUPS: lambda task: "tapes overwritten"}
    engine = Engine(url, clock=clock, handlers=handlers, delivery=DeliverySettings(attempts=3))  # type: ignore[arg-type]
    engine.migrate()
    engine.open_account("acme", company="Acme Ltd", owners=[ANN], plan="free")
    yield engine
    engine.close()


def ask_to_erase(engine: Engine) -> None:
    engine.fire("acme", "cancel", actor=Actor.owner(ANN), reason="bye")
    engine.run_until(START + 29 * DAY)
    engine.clock.set(START + 30 * DAY)  # type: ignore[attr-defined]
    engine.sweep()


def request(engine: Engine) -> Any:
    with engine.database.read() as connection:
        (row,) = [row for row in engine.courier.rows(connection) if row["effect"] == Effect.DELETE_CONTENT]
    return row


# --- Several handlers --------------------------------------------------------------------------------


def test_an_effect_is_confirmed_when_all_its_handlers_have_confirmed(engine: Engine) -> None:
    ask_to_erase(engine)
    engine.deliver()
    assert engine.get("acme").state is State.CONTENT_DELETED
    assert set(apart(request(engine)["receipt"])[0]) == {"files", "orders"}


def test_who_has_confirmed_is_not_called_again(engine: Engine, stores: dict[str, Store]) -> None:
    ask_to_erase(engine)
    stores["files"].answer, answer = OSError("a disk is gone"), stores["files"].answer
    engine.deliver()
    row = request(engine)
    assert (row["status"], row["last_error"]) == (Status.PENDING, "files: OSError: a disk is gone")
    assert engine.get("acme").state is State.ACCESS_REVOKED
    assert list(apart(row["receipt"])[0]) == ["orders"]
    stores["files"].answer = answer
    engine.clock.set(row["due_at"])  # type: ignore[attr-defined]
    engine.deliver()
    assert (stores["files"].calls, stores["orders"].calls) == (2, 1)
    (destruction,) = engine.certificate("acme").destructions
    assert [(s.store, s.confirmed_at) for s in destruction.stores] == [
        ("orders", START + 30 * DAY),
        ("files", row["due_at"]),
    ]
    assert engine.get("acme").state is State.CONTENT_DELETED


def test_a_handler_without_a_receipt_has_not_confirmed(engine: Engine, stores: dict[str, Store]) -> None:
    ask_to_erase(engine)
    stores["files"].answer = None
    engine.deliver()
    assert engine.get("acme").state is State.ACCESS_REVOKED
    assert "files: ValueError: it returned no receipt" in request(engine)["last_error"]


def test_what_no_handler_that_is_left_can_deliver_is_parked_with_what_was_confirmed(
    engine: Engine, stores: dict[str, Store]
) -> None:
    ask_to_erase(engine)
    stores["files"].answer = Undeliverable("the bucket is locked for good")
    engine.deliver()
    row = request(engine)
    assert row["status"] == Status.PARKED
    assert list(apart(row["receipt"])[0]) == ["orders"]


def test_several_handlers_need_names() -> None:
    for wrong, complaint in (
        ({}, "a name each"),
        ({" ": Store("a")}, "malformed"),
        ({"ann@acme.test": Store("a")}, "malformed"),
    ):
        with pytest.raises(InvalidInput, match=complaint):
            Several(wrong)


def test_several_handlers_are_closed_together() -> None:
    closed: list[str] = []

    class Closes(Store):
        def close(self) -> None:
            closed.append("closed")

    Several({"a": Closes("a"), "b": Store("b"), "c": Closes("c")}).close()
    assert closed == ["closed", "closed"]


@pytest.mark.parametrize("text", ["erased 12 files", "[]", '{"receipts": 3}', '{"receipts": {}, "more": 1}', "{"])
def test_the_receipt_of_one_handler_is_not_taken_for_those_of_several(text: str) -> None:
    assert apart(text) is None
    assert apart(joined({"files": text})) == ({"files": text}, {})


def test_a_receipt_is_read_back_from_its_text() -> None:
    receipt = Receipt("files", Found.RETAINED, 3, "rows", "invoices")
    assert Receipt.read(str(receipt)) == receipt
    for other in ("erased", "{}", "[1]", '{"store": "a", "outcome": "burnt"}', '{"outcome": "erased", "x": 1}'):
        assert Receipt.read(other) is None


# --- The certificate ---------------------------------------------------------------------------------


def test_the_certificate_says_what_was_asked_and_what_every_store_answered(
    engine: Engine, stores: dict[str, Store]
) -> None:
    stores["orders"].answer = str(Receipt("orders", Found.RETAINED, 2, "rows", "invoices are kept"))
    ask_to_erase(engine)
    engine.run_until(START + 60 * DAY)
    issued = engine.certificate("acme")
    assert (issued.state, issued.cancelled_at, issued.cancelled_by) == (State.PURGED, START, "owner")
    assert (issued.content_deleted_at, issued.purged_at) == (START + 30 * DAY, START + 59 * DAY)
    deletion, purge = issued.destructions
    assert (deletion.effect, deletion.policy_version, deletion.attempts) == (
        Effect.DELETE_CONTENT,
        Policy().version,
        1,
    )
    assert deletion.requested_at == deletion.confirmed_at == START + 30 * DAY
    assert [(s.store, s.outcome, s.count, s.unit, s.reason) for s in deletion.stores] == [
        ("files", Found.ERASED, 3, "objects", None),
        ("orders", Found.RETAINED, 2, "rows", "invoices are kept"),
    ]
    assert [(s.store, s.text) for s in purge.stores] == [("handler", "tapes overwritten")]


def test_the_certificate_shows_the_notices_that_came_before(engine: Engine) -> None:
    ask_to_erase(engine)
    notices = {notice.effect: notice for notice in engine.certificate("acme").notices}
    reminder = notices[Effect.REMIND_DELETION]
    assert reminder.delivered_at == START + 23 * DAY and reminder.given_up_at is None
    assert notices[Effect.CONFIRM_CANCELLATION].delivered_at == START


def test_a_notice_that_was_given_up_is_shown_as_that(engine: Engine) -> None:
    def bounces(task: Task) -> str:
        raise Undeliverable("no such mailbox")

    engine.courier.handlers[Effect.REMIND_DELETION] = bounces
    ask_to_erase(engine)
    (reminder,) = [n for n in engine.certificate("acme").notices if n.effect is Effect.REMIND_DELETION]
    assert reminder.delivered_at is None and reminder.given_up_at == START + 23 * DAY
    engine.run_until(START + 60 * DAY)
    assert engine.get("acme").state is State.PURGED
    (entry,) = [entry for entry in engine.history("acme") if entry.step == "notice"]
    assert entry.reason == "the notice was given up as undeliverable", "our own words outlive the purge"


def test_the_certificate_shows_the_legal_holds(engine: Engine) -> None:
    engine.place_hold("acme", actor=ADMIN, reason="court order", case="2031-114")
    engine.place_hold("acme", actor=ADMIN, reason="another", case="2031-115")
    engine.release_hold("acme", actor=ADMIN, reason="settled", case="2031-114")
    holds = engine.certificate("acme").holds
    assert [(hold.case, hold.placed_by, hold.released_at is None) for hold in holds] == [
        ("2031-114", "admin:root", False),
        ("2031-115", "admin:root", True),
    ]


def test_the_certificate_of_a_purged_account_holds_nothing_personal(engine: Engine) -> None:
    ask_to_erase(engine)
    engine.run_until(START + 60 * DAY)
    said = repr(asdict(engine.certificate("acme")))
    assert "Acme" not in said and ANN not in said and "bye" not in said


def test_the_command_line_prints_the_certificate(engine: Engine, url: str) -> None:
    ask_to_erase(engine)
    engine.run_until(START + 60 * DAY)
    shown = CliRunner().invoke(app, ["certificate", "acme", "--database", url])
    assert shown.exit_code == 0, shown.output
    for words in ("purged: nothing left", "delete_content", "3 objects", "overwritten", "remind_deletion"):
        assert words in shown.stdout
    data = CliRunner().invoke(app, ["certificate", "acme", "--json", "--database", url])
    assert '"outcome": "erased"' in data.stdout


# --- The forecast ------------------------------------------------------------------------------------


def test_the_forecast_counts_deletions_and_purges_on_their_days(engine: Engine) -> None:
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    engine.open_account("bolt", company="Bolt", owners=[ANN], plan="free")
    engine.run_until(START + 10 * DAY + timedelta(hours=1))
    engine.fire("bolt", "cancel", actor=Actor.owner(ANN))
    counts = engine.destruction_forecast(60)
    assert {day: count for day, count in enumerate(counts) if count} == {19: 1, 30: 1, 48: 1, 59: 1}
    engine.place_hold("bolt", actor=ADMIN, reason="court order")
    assert sum(engine.destruction_forecast(60)) == 2, "under a hold nothing is destroyed"


def test_what_is_due_already_counts_for_the_first_day(engine: Engine) -> None:
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + 29 * DAY)
    engine.clock.set(START + 45 * DAY)  # type: ignore[attr-defined]
    assert engine.destruction_forecast(20) == [1, *[0] * 13, 1, *[0] * 5]


@pytest.mark.parametrize("days", [0, 367])
def test_a_forecast_covers_a_year_at_most(engine: Engine, days: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 366"):
        engine.destruction_forecast(days)


def test_the_command_line_draws_the_forecast_beside_the_limit(engine: Engine, url: str) -> None:
    shown = CliRunner().invoke(app, ["due", "--destructive", "--by", "day", "--database", url])
    assert shown.exit_code == 0, shown.output
    assert "50 requests a day" in shown.stdout and "│" in shown.stdout
    data = CliRunner().invoke(app, ["due", "--destructive", "--json", "--database", url])
    assert '"limit": 50' in data.stdout
