"""No address, no company and no secret goes to a log; and none is kept of what handlers answer."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from sqlalchemy import create_engine, text

from lifecycle import Actor, Effect, Engine, ManualClock, Task, Undeliverable
from lifecycle import log as logs
from lifecycle.cli import documents, main
from lifecycle.jobs import Job
from lifecycle.redaction import PERSONAL, REMOVED, masked, redacted, without
from lifecycle.task import Found, PartlyDone, Receipt, apart, joined
from tests.conftest import START

COMPANY, ANN = "Canary & Söhne", "canary.ann@acme.test"


# --- Text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (f"550 {ANN}: unknown user", f"550 {REMOVED}: unknown user"),
        (f"<{ANN}>,{ANN};({ANN})", f"<{REMOVED}>,{REMOVED};({REMOVED})"),
        (f"DETAIL: Key (email)=({ANN.upper()}) exists", f"DETAIL: Key (email)=({REMOVED}) exists"),
        ("jürgen@bücher.test", REMOVED),
        ("a@b@c.test", REMOVED),
        ("https://x.test/?to=ann%40acme.test", f"https:{REMOVED}"),
        ("o'hara+tag@localhost said", f"{REMOVED} said"),
        ("account acme:12:delete_content, @noon, 3 @ 4", "account acme:12:delete_content, @noon, 3 @ 4"),
        (f"<{'0123456789abcdef' * 2}@mail.test>", f"<{'0123456789abcdef' * 2}@mail.test>"),
        ("nothing", "nothing"),
    ],
)
def test_whatever_looks_like_an_address_is_masked_and_ids_stay(said: str, left: str) -> None:
    assert masked(said) == left


@pytest.mark.parametrize(
    "said", ["a" * 20_000 + " @", "a@" * 10_000, "%40" * 10_000, "@" * 20_000, "a." * 10_000 + " @"]
)
def test_no_text_takes_long_to_mask(said: str) -> None:
    begun = time.process_time()
    masked(said)
    assert time.process_time() - begun < 1


def test_values_are_taken_out_as_whole_words_in_any_case_and_as_json_writes_them() -> None:
    said = f"{COMPANY.upper()} and {json.dumps(COMPANY)} but not Canary"
    assert without([COMPANY, None, ""], said) == f'{REMOVED} and "{REMOVED}" but not Canary'
    assert without(["ann"], "annual") == "annual"


def test_personal_fields_are_taken_out_at_any_depth_and_whatever_they_are_called() -> None:
    @dataclass
    class Bill:
        id: str
        company: str

    found = redacted(
        {
            "account": "acme",
            "Company": COMPANY,
            "api-key": "canary",
            "owners": [ANN],
            "reason": None,
            "nested": [{"payload": {"x": COMPANY}, "at": START, "n": 3}, (f"to {ANN}",), {ANN: 1}],
            "bill": Bill("b1", COMPANY),
            "task": Task(1, "acme", "x", {"company": COMPANY, "owners": [ANN]}, 2, "acme:1:x"),
            "error": ValueError(f"no {ANN}"),
        }
    )
    assert "canary" not in repr(found).lower()
    assert (found["account"], found["reason"], found["bill"]["id"]) == ("acme", None, "b1")
    assert found["nested"][0] == {"payload": REMOVED, "at": START, "n": 3}
    assert found["task"]["idempotency_key"] == "acme:1:x"


# --- Logs ----------------------------------------------------------------------------------------


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What has gone to standard error since it was last asked; logging is as before afterwards."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err
    structlog.contextvars.clear_contextvars()
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("lifecycle").setLevel(logging.NOTSET)


def failing() -> BaseException:
    """An error whose message, cause and notes name an owner."""
    try:
        try:
            raise KeyError(ANN)
        except KeyError as cause:
            raise ValueError(f"\x1b[31mno mailbox for {ANN}") from cause
    except ValueError as error:
        error.add_note(f"asked by {ANN}")
        return error


LINES: dict[str, Callable[[Any, logging.Logger], object]] = {
    "event": lambda ours, theirs: ours.warning(f"mail to {ANN}"),
    "field": lambda ours, theirs: ours.warning("mail", to=f"Ann <{ANN}>"),
    "nested": lambda ours, theirs: ours.warning("mail", sent={"to": [ANN], "company": COMPANY}),
    "object": lambda ours, theirs: ours.warning("mail", task=Task(1, "acme", "x", {"company": COMPANY}, 1, "k")),
    "bound": lambda ours, theirs: ours.bind(company=COMPANY, to=ANN).warning("mail"),
    "bound to the context": lambda ours, theirs: (
        structlog.contextvars.bind_contextvars(owners=[ANN], who=ANN),
        ours.warning("mail"),
    ),
    "trace": lambda ours, theirs: ours.error("mail", exc_info=failing()),
    "described": lambda ours, theirs: ours.error("mail", **logs.described(failing())),
    "alarm": lambda ours, theirs: Job("outbox").failed(failing(), 1),
    "of a library": lambda ours, theirs: theirs.warning("mail to %s", ANN, extra={"company": COMPANY, "to": ANN}),
    "trace of a library": lambda ours, theirs: theirs.error("mail", exc_info=failing()),
    **{
        f"field {name}": lambda ours, theirs, name=name: ours.warning("mail", **{name: COMPANY})  # type: ignore[misc]
        for name in sorted(PERSONAL)
    },
}


@pytest.mark.parametrize("json_lines", [True, False])
@pytest.mark.parametrize("line", LINES)
def test_no_line_of_a_log_names_anybody(written: Callable[[], str], line: str, json_lines: bool) -> None:
    logs.configure(json=json_lines)
    LINES[line](structlog.get_logger("lifecycle.daemon"), logging.getLogger("apscheduler"))
    shown = written()
    assert shown and "canary" not in shown.lower(), shown
    assert "\x1b" not in shown and shown.isascii()
    if json_lines:
        assert json.loads(shown)["level"] in ("warning", "error")


def test_what_libraries_add_to_their_lines_is_taken_out_as_well(written: Callable[[], str]) -> None:
    logs.configure(json=True)
    formatter = logging.getLogger().handlers[0].formatter
    assert isinstance(formatter, structlog.stdlib.ProcessorFormatter)
    formatter.foreign_pre_chain = [*(formatter.foreign_pre_chain or ()), structlog.stdlib.ExtraAdder()]
    logging.getLogger("library").warning("mail", extra={"company": COMPANY, "to": ANN, "number": 7})
    line = json.loads(written())
    assert (line["company"], line["to"], line["number"]) == (REMOVED, REMOVED, 7)


@pytest.mark.parametrize("json_lines", [True, False])
def test_no_line_does_anything_to_a_terminal(written: Callable[[], str], json_lines: bool) -> None:
    logs.configure(json=json_lines)
    structlog.get_logger("lifecycle.x").warning("a\u202eb\x7f\x1b]0;c\x07\nd", e=["f\u202e\x7f"], g="h\u3164")
    shown = written()
    assert shown.count("\n") == 1 and shown[:-1].isprintable() and "\u3164" not in shown


def test_ids_and_dates_stay_in_the_log(written: Callable[[], str]) -> None:
    logs.configure(json=True)
    structlog.get_logger("lifecycle.x").warning("effect", account="acme", idempotency_key="acme:1:x", at=START, n=3)
    line = json.loads(written())
    assert [line[name] for name in ("account", "idempotency_key", "at", "n")] == ["acme", "acme:1:x", str(START), 3]


# --- What handlers answer ------------------------------------------------------------------------


def row_error() -> Exception:
    """What a database says of a row that it refuses, with the row."""
    with closing(create_engine("sqlite://").connect()) as connection:
        try:
            connection.execute(text("SELECT * FROM nowhere WHERE email = :email"), {"email": ANN})
        except Exception as error:
            return error
    raise AssertionError


ANSWERS: dict[str, tuple[object, str]] = {
    "an address": (OSError(f"550 no mailbox {ANN}"), f"OSError: 550 no mailbox {REMOVED}"),
    "an address that is nobody's": (OSError("refused by eve@canary.test"), f"OSError: refused by {REMOVED}"),
    "a company": (Undeliverable(f"{COMPANY} is closed"), f"Undeliverable: {REMOVED} is closed"),
    "a long text": (OSError("x" * 1970 + f" {ANN}"), "OSError: " + "x" * 1970 + " [removed]"),
    "NUL and surrogates": (OSError(f"\0\udcff{COMPANY}"), f"OSError: \ufffd?{REMOVED}"),
    "no text": ({"to": ANN}, f"The handler returned {{'to': '{REMOVED}'}}; a receipt is text, or None."),
}


@pytest.fixture
def deliver(written: Callable[[], str], sqlite_url: str) -> Iterator[Callable[[object], Any]]:
    """Delivers the confirmation of a cancellation to a handler that answers so; gives its row of the outbox."""

    def delivered(answer: object, company: str = COMPANY) -> Any:
        def handler(task: Task) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return answer

        logs.configure(json=True)
        handlers = {effect: handler for effect in Effect if effect is not Effect.STOP_BILLING}
        with closing(Engine(sqlite_url, clock=ManualClock(START), handlers=handlers)) as engine:
            engine.migrate()
            engine.open_account("acme", company=company, owners=["bob@acme.test", ANN], plan="free")
            engine.fire("acme", "cancel", actor=Actor.owner(ANN), reason="canary left")
            engine.deliver()
            engine.sweep()
            engine.deliver()
            shown = written()
            assert "effect" in shown and "canary" not in shown.lower()
            with engine.database.read() as connection:
                rows = engine.courier.rows(connection)
            (row,) = (SimpleNamespace(**one) for one in rows if one["effect"] == Effect.CONFIRM_CANCELLATION)
            assert "canary" not in repr(row).lower()
            return row

    yield delivered


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_kept_of_an_error_names_nobody(deliver: Callable[[object], Any], answer: str) -> None:
    raised, kept = ANSWERS[answer]
    assert deliver(raised).last_error == kept


def test_an_error_of_a_database_is_kept_without_the_row(deliver: Callable[[object], Any]) -> None:
    assert "no such table: nowhere" in deliver(row_error()).last_error


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"mailed {ANN} for {COMPANY}", f"mailed {REMOVED} for {REMOVED}"),
        (json.dumps({"to": [ANN]}), f'{{"to": ["{REMOVED}"]}}'),
        (f"250 OK <{'0f' * 16}@mail.test>", f"250 OK <{'0f' * 16}@mail.test>"),
    ],
)
def test_what_is_kept_of_a_receipt_names_nobody(deliver: Callable[[object], Any], said: str, kept: str) -> None:
    assert deliver(said).receipt == kept


def test_receipts_of_several_handlers_name_nobody(deliver: Callable[[object], Any]) -> None:
    row = deliver(PartlyDone({"mail": f"to {ANN}"}, {"crm": OSError(f"no {COMPANY}")}))
    receipts, _ = apart(row.receipt) or pytest.fail("they were several")
    assert receipts == {"mail": f"to {REMOVED}"}
    assert row.last_error == f"crm: OSError: no {REMOVED}"


def test_all_receipts_of_several_handlers_name_nobody(deliver: Callable[[object], Any]) -> None:
    receipts, _ = apart(deliver(joined({"mail": f"to {ANN}"})).receipt) or pytest.fail("they were several")
    assert receipts == {"mail": f"to {REMOVED}"}


@pytest.mark.parametrize("company", ["erased", "store", "1", "objects"])
def test_a_receipt_in_fixed_words_outlives_a_company_that_is_called_like_one_of_them(
    deliver: Callable[..., Any], company: str
) -> None:
    receipt = Receipt("store", Found.ERASED, 1, "objects", f"kept the bills of {ANN}")
    kept = Receipt.read(deliver(str(receipt), company).receipt)
    assert kept == Receipt("store", Found.ERASED, 1, "objects", f"kept the bills of {REMOVED}")


def test_a_text_without_anything_personal_is_kept_as_it_is(deliver: Callable[[object], Any]) -> None:
    assert deliver('{"deleted": 3}').receipt == '{"deleted": 3}'


def test_an_unforeseen_error_names_nobody_and_does_nothing_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> str:
        raise RuntimeError(f"\x1b[31mfor {ANN}")

    monkeypatch.setattr(documents, "version_line", broken)
    monkeypatch.setattr(sys, "argv", ["lifecycle", "version"])
    assert main() == 70
    shown = capsys.readouterr().err
    assert f"RuntimeError: \\x1b[31mfor {REMOVED}" in shown and "report it" in shown
    assert ANN not in shown and "\x1b" not in shown
