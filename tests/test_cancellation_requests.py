"""Requests for cancellation: who is asked to confirm, what impostors learn and get (nothing), what a token is worth."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import event, func, select
from typer.testing import CliRunner

from lifecycle import (
    Actor,
    Channel,
    DeliverySettings,
    Effect,
    Engine,
    GuardRefused,
    InvalidInput,
    KeyRing,
    ManualClock,
    NotAuthorised,
    Policy,
    RequestSettings,
    State,
    Task,
    TokenRefused,
)
from lifecycle.cli import app
from lifecycle.config import load
from lifecycle.doctor import examine
from lifecycle.handlers.email import Email
from lifecycle.intake import ACCOUNT_LIMIT, CANCELLED, MANY_ACCOUNTS, NO_ACCOUNT, NO_CONFIRMER, REQUESTER_LIMIT
from lifecycle.log import configure
from lifecycle.operation_tables import cancellation_requests, cancellation_tokens, owner_changes, refused_attempts
from lifecycle.redaction import REMOVED
from lifecycle.statements import Statement
from lifecycle.tables import ANSWERS, RECEIPT_OF_TASK, outbox, receipts
from tests.conftest import START
from tests.test_handler_email import Inbox, Server, text_of

COMPANY, ANN, BOB, EVE = "Acme Ltd", "ann@acme.test", "bob@acme.test", "eve@evil.test"
SUE, ADMIN = Actor.support("sue"), Actor.admin("root")
HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
MESSAGES = (Effect.VERIFY_OWNER, Effect.CONTACT_OWNERS, Effect.TELL_OWNER_CHANGE)


@pytest.fixture
def mails() -> list[Task]:
    """What was sent to owners."""
    return []


@pytest.fixture
def make(clock: ManualClock, mails: list[Task]) -> Iterator[Callable[..., Engine]]:
    """Opens engines that send into ``mails``."""
    made = []

    def new(url: str, **options: Any) -> Engine:
        handlers = {effect: mails.append for effect in MESSAGES} | options.pop("handlers", {})
        made.append(Engine(url, clock=clock, handlers=handlers, **options))
        made[-1].migrate()
        return made[-1]

    yield new
    for engine in made:
        engine.close()


def open_acme(engine: Engine) -> Engine:
    engine.open_account("acme", company=COMPANY, owners=[ANN, BOB], plan="free")
    return engine


@pytest.fixture
def engine(make: Callable[..., Engine], sqlite_url: str) -> Engine:
    return open_acme(make(sqlite_url))


@pytest.fixture
def either(make: Callable[..., Engine], url: str) -> Engine:
    """The same on each database."""
    return open_acme(make(url))


def ask(engine: Engine, email: str = ANN, company: str = COMPANY, channel: str = "email") -> None:
    engine.request_cancellation(company, email, channel)
    engine.deliver()


def sent(mails: list[Task], effect: Effect) -> list[tuple[str, list[str]]]:
    """To whom messages of a kind went, by account."""
    return [(task.account_id, task.payload["owners"]) for task in mails if task.effect == effect]


def token_of(mails: list[Task], owner: str = ANN) -> str:
    """The latest token that was sent to an owner."""
    found = [one["token"] for task in mails for one in task.payload.get("confirmations", ()) if one["owner"] == owner]
    return str(found[-1])


def refuses(engine: Engine, token: str) -> None:
    before = engine.get("acme").version
    with pytest.raises(TokenRefused) as refusal:
        engine.confirm_cancellation(token)
    assert str(refusal.value) == str(TokenRefused()), "what is wrong with a token is nobody's business"
    assert engine.get("acme").version == before


def count(engine: Engine, table: Any) -> int:
    with engine.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def whys(engine: Engine) -> list[str]:
    return [item.why for item in engine.reviews()]


# --- The way it is meant ---------------------------------------------------------------------------


def test_an_owner_confirms_and_the_account_is_cancelled_with_the_original_facts(
    either: Engine, mails: list[Task], clock: ManualClock
) -> None:
    ask(either, channel="phone")
    assert sent(mails, Effect.VERIFY_OWNER) == [("acme", [ANN])]
    assert either.get("acme").state is State.ACTIVE
    clock.set(START + 2 * HOUR)
    entry = either.confirm_cancellation(f"{token_of(mails)}\n")
    assert (entry.event, entry.dest, entry.actor, entry.owner) == ("cancel", State.CANCEL_PENDING, "owner:1", 1)
    assert entry.reason == "requested by phone on 2026-01-01, confirmed by owner 1"
    asked = either.history("acme")[1]
    assert (asked.event, asked.actor, asked.owner) == ("request_cancellation", "system:requests", 1)
    assert either.history("acme")[2] == entry


def test_by_mail_from_the_request_to_the_cancellation(
    make: Callable[..., Engine], sqlite_url: str, tmp_path: Path
) -> None:
    inbox = Inbox()
    server = Server(inbox, hostname="127.0.0.1", port=0, ready_timeout=10)
    server.start()
    try:
        options = {"policy": Policy().as_text(), "product": "Tracker", "tls": "none", "port": server.port}
        mailer = Email("127.0.0.1", "notices@tracker.test", **options)
        engine = open_acme(make(sqlite_url, handlers=dict.fromkeys(MESSAGES, mailer)))
        ask(engine, "ANN@acme.TEST")
        engine.close()
    finally:
        server.stop(no_assert=True)
    assert inbox.addressed == [ANN]
    (mail,) = inbox.mails
    assert "3 January 2026, 00:00 UTC" in text_of(mail) and "did not ask for this" in text_of(mail)
    (token,) = re.findall(r"^  ([\w-]{43})$", text_of(mail), re.MULTILINE)
    (tmp_path / "token").write_text(f"{token}\n")
    confirm = ["confirm-cancellation", "--token-file", f"{tmp_path}/token", "--database", sqlite_url]
    with freeze_time(START + HOUR):
        assert "cancel by owner:1" in CliRunner().invoke(app, confirm).stdout
    assert make(sqlite_url).get("acme").state is State.CANCEL_PENDING


def test_a_page_of_ones_own_takes_the_token(make: Callable[..., Engine], sqlite_url: str, mails: list[Task]) -> None:
    url = "https://tracker.test/confirm?token={token}"
    ask(open_acme(make(sqlite_url, requests=RequestSettings(confirm_url=url))))
    (confirmation,) = mails[0].payload["confirmations"]
    assert confirmation["confirm_url"] == url.format(token=confirmation["token"])


def test_where_confirmation_is_required_support_has_no_direct_way(
    make: Callable[..., Engine], sqlite_url: str, mails: list[Task]
) -> None:
    engine = open_acme(make(sqlite_url, policy=Policy(cancellation_requires_confirmation=True)))
    facts = {"company": COMPANY, "email": ANN}
    with pytest.raises(GuardRefused, match="lifecycle request-cancellation"):
        engine.fire("acme", "cancel", actor=SUE, **facts)
    assert engine.may("acme", "cancel", actor=Actor.owner(ANN)).allowed, "who is signed in has shown who they are"
    assert engine.may("acme", "cancel", actor=ADMIN, **facts).allowed
    ask(engine)
    assert engine.confirm_cancellation(token_of(mails)).dest is State.CANCEL_PENDING


def test_where_it_is_not_support_may_go_the_direct_way(engine: Engine) -> None:
    assert engine.fire("acme", "cancel", actor=SUE, company=COMPANY, email=ANN).dest is State.CANCEL_PENDING


# --- Impostors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["ANN@ACME.TEST", "  ann@acme.test ", "Ann@Acme.Test"])
def test_the_message_goes_to_the_address_on_file_and_not_to_the_one_that_was_typed(
    engine: Engine, mails: list[Task], typed: str
) -> None:
    ask(engine, typed, company="  ACME   ltd ")
    assert sent(mails, Effect.VERIFY_OWNER) == [("acme", [ANN])]


@pytest.mark.parametrize("typed", ["\u017fue@k.test", "sue@\u212a.test"])
def test_letters_that_fold_into_those_on_file_are_no_address(engine: Engine, typed: str) -> None:
    engine.open_account("kilo", company="Kilo", owners=["sue@k.test"], plan="free")
    with pytest.raises(InvalidInput):
        engine.request_cancellation("Kilo", typed, "form")


def test_letters_that_only_look_like_those_on_file_are_no_owners(engine: Engine, mails: list[Task]) -> None:
    ask(engine, "\u0430nn@acme.test")  # the first letter is Cyrillic
    assert sent(mails, Effect.VERIFY_OWNER) == []
    assert sent(mails, Effect.CONTACT_OWNERS) == [("acme", [ANN, BOB])]


def test_an_impostor_who_names_the_company_reaches_only_the_owners_on_file(engine: Engine, mails: list[Task]) -> None:
    ask(engine, EVE)
    assert sent(mails, Effect.CONTACT_OWNERS) == [("acme", [ANN, BOB])]
    assert [task.effect for task in mails] == ["contact_owners"]
    entry = engine.history("acme")[-1]
    assert entry.actor == "system:requests" and EVE not in str(entry)
    assert entry.reason == "a cancellation was requested by email on 2026-01-01, and no owner fits"


def test_an_impostor_who_names_an_owner_gets_nothing_and_changes_nothing(engine: Engine, mails: list[Task]) -> None:
    ask(engine, ANN)
    assert engine.get("acme").state is State.ACTIVE
    assert sent(mails, Effect.VERIFY_OWNER) == [("acme", [ANN])]


def test_an_owner_of_another_company_is_a_stranger_here(engine: Engine, mails: list[Task]) -> None:
    engine.open_account("evil", company="Evil Ltd", owners=[EVE], plan="free")
    ask(engine, EVE, COMPANY)
    assert [task.account_id for task in mails] == ["acme"]
    assert sent(mails, Effect.VERIFY_OWNER) == []


def test_nobody_can_claim_to_be_the_system_that_asks_owners(engine: Engine) -> None:
    with pytest.raises(NotAuthorised):
        engine.fire("acme", "request_cancellation", actor=Actor(ADMIN.role.SYSTEM, "requests"))
    with pytest.raises(NotAuthorised):
        engine.fire("acme", "request_cancellation", actor=ADMIN, company=COMPANY, email=ANN)
    with pytest.raises(InvalidInput, match="confirmed_by"):
        engine.fire("acme", "cancel", actor=Actor.owner(ANN), confirmed_by=1)


# --- What an answer tells ----------------------------------------------------------------------------


def several_kinds(engine: Engine) -> list[tuple[str, str]]:
    """A match, a stranger, a company that nobody knows, an owner with two accounts, one who has cancelled, a flood."""
    for id in ("duo1", "duo2"):
        engine.open_account(id, company="Duo", owners=[BOB], plan="free")
    engine.open_account("gone", company="Gone", owners=["cy@gone.test"], plan="free")
    engine.fire("gone", "cancel", actor=Actor.owner("cy@gone.test"))
    asked = [(COMPANY, ANN), (COMPANY, EVE), ("Nix", "dan@nix.test"), ("Duo", BOB), ("Gone", "cy@gone.test")]
    for _ in range(9):
        engine.request_cancellation("Nix", "flood@nix.test", "form")
    return [*asked, ("Nix", "flood@nix.test")]


def test_the_answer_and_the_work_are_the_same_whatever_matches(either: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = several_kinds(either)
    statements: list[str] = []
    event.listen(either.database._engine, "before_cursor_execute", lambda c, cursor, text, *_: statements.append(text))
    for name in ("rows", "run"):
        whole = getattr(Statement, name)
        monkeypatch.setattr(
            Statement, name, lambda self, *args, whole=whole: (statements.append("driver"), whole(self, *args))[1]
        )
    did = []
    for company, email in asked:
        statements.clear()
        answer = either.request_cancellation(company, email, "form")
        did.append((answer, tuple(statements)))
    assert len(set(did)) == 1, did
    assert sum("INSERT INTO cancellation_request" in text for text in did[0][1]) == 1
    assert not [text for text in did[0][1] if "account" in re.sub("account_id", "", text)], "nothing is looked up"


def test_only_the_form_is_refused_and_the_same_for_all(engine: Engine) -> None:
    for company, email, channel in (
        ("", ANN, "form"),
        (COMPANY, "ann", "form"),
        (COMPANY, "ann@acme.test\u202e", "form"),
        (COMPANY, ANN, "carrier pigeon"),
        ("x" * 2000, ANN, "form"),
    ):
        with pytest.raises(InvalidInput):
            engine.request_cancellation(company, email, channel)
    assert count(engine, cancellation_requests) == 0


# --- What fits nobody, or several --------------------------------------------------------------------


def test_several_accounts_of_one_owner_are_left_to_their_owners(engine: Engine, mails: list[Task]) -> None:
    several_kinds(engine)
    ask(engine, BOB, "duo")
    assert sent(mails, Effect.CONTACT_OWNERS) == [("duo1", [BOB]), ("duo2", [BOB])]
    assert sent(mails, Effect.VERIFY_OWNER) == []


def test_an_account_that_is_cancelled_does_not_make_the_other_ambiguous(engine: Engine, mails: list[Task]) -> None:
    several_kinds(engine)
    engine.fire("duo1", "cancel", actor=Actor.owner(BOB))
    ask(engine, BOB, "Duo")
    assert sent(mails, Effect.VERIFY_OWNER) == [("duo2", [BOB])]


def test_what_fits_nobody_is_left_to_support_and_sealed(engine: Engine, mails: list[Task]) -> None:
    ask(engine, "dan@nix.test", "Nix Ltd", "letter")
    ask(engine, "dan@nix.test", "Nix Ltd")
    first, second = engine.reviews()
    assert (first.why, first.company, first.email, first.channel) == (NO_ACCOUNT, "Nix Ltd", "dan@nix.test", "letter")
    assert mails == []
    with pytest.raises(NotAuthorised):
        engine.settle_review(first.id, actor=Actor.billing("psp"), reason="x")
    engine.settle_review(first.id, actor=SUE, reason="called back")
    assert engine.reviews() == [second] and engine.count_reviews() == 1
    settled = engine.reviews(settled=True)[0]
    assert (settled.settled_by, settled.reason) == ("support:sue", "called back")
    with pytest.raises(InvalidInput, match="lifecycle requests list"):
        engine.settle_review(first.id, actor=SUE, reason="again")


def test_an_owner_who_has_cancelled_already_is_left_to_support(engine: Engine) -> None:
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    ask(engine)
    assert whys(engine) == [CANCELLED]


def test_a_company_with_many_accounts_is_no_amplifier(engine: Engine, mails: list[Task]) -> None:
    for number in range(6):
        engine.open_account(f"m{number}", company="Many", owners=[f"o{number}@many.test", BOB], plan="free")
    ask(engine, EVE, "Many")
    ask(engine, BOB, "Many")
    assert (mails, whys(engine)) == ([], [MANY_ACCOUNTS] * 2)


# --- Tokens -------------------------------------------------------------------------------------------


def test_a_token_is_256_random_bits_and_only_its_hash_is_kept(engine: Engine, mails: list[Task]) -> None:
    ask(engine)
    ask(engine)
    first, second = (task.payload["confirmations"][0]["token"] for task in mails)
    assert first != second and len(first) == 43
    with engine.database.read() as connection:
        hashes = set(connection.scalars(select(cancellation_tokens.c.hash)))
    assert hashes == {sha256(token.encode()).digest() for token in (first, second)}


def test_guesses_confirm_nothing(engine: Engine, mails: list[Task]) -> None:
    ask(engine)
    token = token_of(mails)
    near = token[:-1] + ("A" if token[-1] != "A" else "B")
    for guess in ("", " ", "x", near, token.swapcase(), sha256(token.encode()).hexdigest(), "é", "x" * 10_000, "%"):
        refuses(engine, guess)
    refuses(engine, None)  # type: ignore[arg-type]
    assert count(engine, refused_attempts) == 0, "nobody's account is known"


def test_a_token_is_used_once(either: Engine, mails: list[Task]) -> None:
    ask(either)
    either.confirm_cancellation(token_of(mails))
    refuses(either, token_of(mails))
    either.fire("acme", "reactivate", actor=Actor.owner(ANN))
    refuses(either, token_of(mails))
    assert count(either, refused_attempts) == 2


def test_a_token_counts_until_its_end_and_not_longer(engine: Engine, mails: list[Task], clock: ManualClock) -> None:
    ask(engine)
    assert mails[0].payload["confirm_until"] == "2026-01-03T00:00:00+00:00"
    clock.set(START + 2 * DAY)
    refuses(engine, token_of(mails))
    ask(engine)
    clock.set(START + 4 * DAY - MICROSECOND)
    assert engine.confirm_cancellation(token_of(mails)).event == "cancel"


@pytest.mark.parametrize("change", ["add_owner", "remove_owner"])
def test_a_change_of_owners_voids_every_token(engine: Engine, mails: list[Task], change: str) -> None:
    ask(engine)
    getattr(engine, change)("acme", "cy@acme.test" if change == "add_owner" else BOB, actor=ADMIN, reason="contract")
    refuses(engine, token_of(mails))


def test_a_removed_owner_cannot_confirm(engine: Engine, mails: list[Task]) -> None:
    ask(engine)
    engine.remove_owner("acme", ANN, actor=ADMIN, reason="left")
    refuses(engine, token_of(mails))
    engine.add_owner("acme", ANN, actor=ADMIN, reason="came back")
    refuses(engine, token_of(mails))


@pytest.mark.parametrize("end", ["cancel", "terminate"])
def test_a_cancellation_by_another_way_voids_the_token_even_after_a_reactivation(
    engine: Engine, mails: list[Task], end: str
) -> None:
    ask(engine)
    engine.fire("acme", end, actor=ADMIN if end == "terminate" else Actor.owner(ANN), reason="x")
    refuses(engine, token_of(mails))
    engine.fire("acme", "reactivate", actor=ADMIN, company=COMPANY, email=ANN)
    refuses(engine, token_of(mails))


def test_a_token_cancels_its_own_account_and_no_other(engine: Engine, mails: list[Task]) -> None:
    engine.open_account("beta", company="Beta", owners=[EVE], plan="free")
    ask(engine, EVE, "Beta")
    ask(engine)
    entry = engine.confirm_cancellation(token_of(mails, EVE))
    assert entry.account_id == "beta"
    assert engine.get("acme").state is State.ACTIVE


def test_whatever_else_forbids_it_by_then_is_not_said_either(
    make: Callable[..., Engine], sqlite_url: str, mails: list[Task], clock: ManualClock
) -> None:
    engine = open_acme(make(sqlite_url))
    engine.add_owner("acme", "cy@acme.test", actor=ADMIN, reason="contract")
    clock.set(START + 4 * DAY)
    ask(engine, "cy@acme.test")
    stricter = make(sqlite_url, policy=Policy(new_owner_wait=10 * DAY))
    refuses(stricter, token_of(mails, "cy@acme.test"))
    with stricter.database.read() as connection:
        assert "an earlier owner must confirm" in str(connection.scalar(select(refused_attempts.c.reasons)))


def test_a_second_request_leaves_the_first_token_and_one_use_voids_both(engine: Engine, mails: list[Task]) -> None:
    ask(engine)
    ask(engine)  # as a stranger may, who wants the owner's own link to fail
    first, second = (task.payload["confirmations"][0]["token"] for task in mails)
    engine.confirm_cancellation(first)
    refuses(engine, second)


def test_a_retried_delivery_makes_a_further_token_and_the_first_use_ends_all(
    make: Callable[..., Engine], sqlite_url: str, clock: ManualClock
) -> None:
    tokens = []

    def flaky(task: Task) -> None:
        tokens.append(task.payload["confirmations"][0]["token"])
        if len(tokens) == 1:
            raise OSError("the line broke after the mail was taken")

    delivery = DeliverySettings(first_wait=timedelta(seconds=1))
    engine = open_acme(make(sqlite_url, handlers={Effect.VERIFY_OWNER: flaky}, delivery=delivery))
    ask(engine)
    clock.set(START + HOUR)
    engine.deliver()
    first, second = tokens
    assert first != second
    engine.confirm_cancellation(first)
    refuses(engine, second)


def test_what_is_overtaken_before_its_delivery_is_not_sent(engine: Engine, mails: list[Task]) -> None:
    engine.request_cancellation(COMPANY, ANN, "form")
    engine.settle_requests()
    engine.add_owner("acme", "cy@acme.test", actor=ADMIN, reason="contract")
    assert engine.deliver().withdrawn == 1
    assert sent(mails, Effect.VERIFY_OWNER) == [] and count(engine, cancellation_tokens) == 0


def test_of_two_confirmations_at_once_one_wins(make: Callable[..., Engine], url: str, mails: list[Task]) -> None:
    engines = [open_acme(make(url)), make(url), make(url)]
    ask(engines[0])
    token, start, won, lost = token_of(mails), threading.Barrier(3), [], []

    def confirm(engine: Engine) -> None:
        start.wait()
        try:
            won.append(engine.confirm_cancellation(token))
        except TokenRefused:
            lost.append(engine)

    with ThreadPoolExecutor() as pool:
        list(pool.map(confirm, engines))
    assert (len(won), len(lost)) == (1, 2)
    assert [entry.event for entry in engines[0].history("acme")].count("cancel") == 1


def test_two_daemons_act_upon_a_request_once(make: Callable[..., Engine], url: str, mails: list[Task]) -> None:
    unlimited = RequestSettings(per_account=100)  # the limit would hide a second message
    engines = [open_acme(make(url, requests=unlimited)), make(url, requests=unlimited)]
    for _ in range(3):
        engines[0].request_cancellation(COMPANY, ANN, "form")
    start = threading.Barrier(2)

    def settle(engine: Engine) -> None:
        start.wait()
        engine.settle_requests()

    with ThreadPoolExecutor() as pool:
        list(pool.map(settle, engines))
    engines[0].deliver()  # what somebody else held at that moment comes now
    assert len(sent(mails, Effect.VERIFY_OWNER)) == 3
    assert [entry.event for entry in engines[0].history("acme")].count("request_cancellation") == 3


# --- Secrets stay secret -------------------------------------------------------------------------------


def stored(url: str) -> bytes:
    """All bytes of an SQLite database, its write-ahead log included."""
    file = Path(url.removeprefix("sqlite:///"))
    return b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))


def test_the_database_holds_neither_a_token_nor_what_was_stated_in_clear(
    engine: Engine, mails: list[Task], sqlite_url: str
) -> None:
    ask(engine)
    ask(engine, "canary@nix.test", "Canary Ltd")
    engine.settle_review(engine.reviews()[0].id, actor=SUE, reason="canary reason")
    written = stored(sqlite_url)
    for canary in (token_of(mails), "canary@nix.test", "Canary Ltd", "canary reason", ANN, COMPANY):
        assert canary.encode() not in written, canary


def test_a_token_that_is_only_logged_is_not_in_the_log(
    make: Callable[..., Engine], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lifecycle import tokens
    from lifecycle.handlers.log import log

    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure(json=True)
    made: list[str] = []
    issue = tokens.issue
    monkeypatch.setattr(tokens, "issue", lambda *args: made.append(issue(*args)) or made[-1])
    ask(open_acme(make(sqlite_url, handlers={Effect.VERIFY_OWNER: log})))
    assert "verify_owner" in stream.getvalue() and len(made) == 1
    assert made[0] not in stream.getvalue() and ANN not in stream.getvalue()


@pytest.mark.parametrize("echo", ["error", "receipt", "object", "several"])
def test_a_handler_that_echoes_a_token_does_not_get_it_kept(
    make: Callable[..., Engine], sqlite_url: str, echo: str
) -> None:
    seen: list[str] = []

    def echoing(task: Task) -> Any:
        seen.append(task.payload["confirmations"][0]["token"])
        if echo == "error":
            raise ValueError(f"could not send {seen[-1]} to anybody " * 100)
        return {"said": seen[-1]} if echo == "object" else f"sent {seen[-1]}"

    handler = {"one": echoing, "two": echoing} if echo == "several" else echoing
    engine = open_acme(make(sqlite_url, handlers={Effect.VERIFY_OWNER: handler}))
    ask(engine)
    with engine.database.read() as connection:
        kept = connection.execute(select(outbox.c.last_error, ANSWERS).outerjoin(receipts, RECEIPT_OF_TASK)).one()
    assert REMOVED in str(kept)
    assert not [token for token in seen if token.encode() in stored(sqlite_url)]


# --- Floods --------------------------------------------------------------------------------------------


def test_one_requester_is_acted_upon_five_times_a_day_and_reviewed_once(
    either: Engine, mails: list[Task], clock: ManualClock
) -> None:
    for number in range(30):
        either.request_cancellation("Nix" if number % 2 else COMPANY, f" {EVE.upper()}", "form")
    either.deliver()
    assert count(either, cancellation_requests) == 6, "what one requester can make us keep is bounded"
    assert whys(either) == [NO_ACCOUNT, NO_ACCOUNT, REQUESTER_LIMIT]
    assert len(mails) == 3
    clock.set(START + DAY)
    ask(either, EVE)
    assert len(mails) == 4


def test_strangers_flood_no_owner_and_an_owner_still_gets_through(
    either: Engine, make: Callable[..., Engine], mails: list[Task], clock: ManualClock
) -> None:
    other = make(either.database.url.render_as_string(hide_password=False))
    for number in range(20):
        ask((either, other)[number % 2], f"eve{number}@evil.test")
    assert len(sent(mails, Effect.CONTACT_OWNERS)) == 3
    assert whys(either) == [ACCOUNT_LIMIT], "one item for support, not seventeen"
    ask(either)
    assert sent(mails, Effect.VERIFY_OWNER) == [("acme", [ANN])]
    clock.set(START + DAY)
    ask(either, EVE)
    assert len(sent(mails, Effect.CONTACT_OWNERS)) == 4


def test_who_floods_an_owner_with_confirmations_is_stopped_and_no_wish_is_lost(
    engine: Engine, mails: list[Task]
) -> None:
    for _ in range(4):
        ask(engine)
    ask(engine, BOB)
    assert len(sent(mails, Effect.VERIFY_OWNER)) == 3
    assert [(item.why, item.account_id, item.email) for item in engine.reviews()] == [
        (ACCOUNT_LIMIT, "acme", ANN),
        (ACCOUNT_LIMIT, "acme", BOB),
    ]


# --- What is left --------------------------------------------------------------------------------------


def test_requests_and_tokens_are_kept_no_longer_than_they_are_needed(
    engine: Engine, mails: list[Task], clock: ManualClock
) -> None:
    ask(engine)
    ask(engine, EVE, "Nix")
    with engine.database.read() as connection:
        settled, waiting = connection.execute(select(cancellation_requests).order_by(cancellation_requests.c.id))
    assert settled.data is None and waiting.data is not None, "what was acted upon is erased at once"
    clock.set(START + 30 * DAY)
    engine.deliver()
    assert (count(engine, cancellation_requests), count(engine, cancellation_tokens)) == (0, 0)


def test_a_purge_leaves_nothing_of_requests_and_owners(engine: Engine, clock: ManualClock) -> None:
    engine.handlers |= {Effect.DELETE_CONTENT: lambda task: "gone", Effect.PURGE_BACKUPS: lambda task: "gone"}
    engine.fire("acme", "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + 58 * DAY)
    engine.requests = RequestSettings(retention=300 * DAY)
    ask(engine)  # cancelled already: for review
    with engine.database.write() as connection:
        from lifecycle import tokens

        tokens.issue(connection, "acme", 1, 1, clock.now(), 7 * DAY)
    engine.add_owner("acme", "cy@acme.test", actor=ADMIN, reason="contract")
    assert engine.reviews()[0].account_id == "acme" and count(engine, owner_changes) == 1
    engine.run_until(START + 61 * DAY)
    assert engine.get("acme").state is State.PURGED
    for table in (cancellation_requests, cancellation_tokens, owner_changes):
        assert count(engine, table) == 0, table.name
    with pytest.raises(InvalidInput):
        engine.settle_review(1, actor=SUE, reason="x")


def test_what_waits_for_support_is_read_after_its_key_was_replaced(
    make: Callable[..., Engine], sqlite_url: str
) -> None:
    old, new = {"old": b"o" * 32}, {"new": b"n" * 32}
    ask(make(sqlite_url, keys=KeyRing(old, "old")), "dan@nix.test", "Nix")
    make(sqlite_url, keys=KeyRing(old | new, "new")).rotate_keys()
    (item,) = make(sqlite_url, keys=KeyRing(new, "new")).reviews()
    assert item.company == "Nix"


def test_a_new_owner_without_an_earlier_one_is_left_to_support(engine: Engine) -> None:
    engine.add_owner("acme", EVE, actor=ADMIN, reason="x")
    for owner in (ANN, BOB):
        engine.remove_owner("acme", owner, actor=ADMIN, reason="x")
    ask(engine, EVE)
    assert whys(engine) == [NO_CONFIRMER]


# --- Operation ------------------------------------------------------------------------------------------


def test_doctor_says_when_tokens_reach_nobody_and_when_support_is_awaited(
    make: Callable[..., Engine], sqlite_url: str
) -> None:
    from lifecycle.handlers.log import log

    engine = make(sqlite_url, handlers={Effect.VERIFY_OWNER: log})
    (notices,) = [finding for finding in examine(engine) if finding.check == "notices"]
    assert notices.level == "problem" and "verify_owner" in notices.message
    ask(engine, EVE, "Nix")
    (found,) = [finding for finding in examine(engine) if finding.check == "requests"]
    assert found.message == "1 requests for cancellation wait for support."


def test_the_configuration_sets_the_limits(tmp_path: Path) -> None:
    def requests(text: str) -> RequestSettings:
        (tmp_path / "c.toml").write_text(f"[requests]\n{text}\n")
        return load(tmp_path / "c.toml", {}).requests

    url = "https://x.test/{token}"
    assert requests(f'per_requester = 7\ntoken_lifetime = "1 day"\nconfirm_url = "{url}"') == RequestSettings(
        per_requester=7, token_lifetime=DAY, confirm_url=url
    )
    for wrong in (
        "per_account = 0",
        'token_lifetime = "30 days"',
        'confirm_url = "http://x.test/{token}"',
        'confirm_url = "https://x.test/"',
        "per_requestor = 1",
        'retention = "1 hour"',
    ):
        with pytest.raises(InvalidInput, match=wrong.split(" ")[0]):
            requests(wrong)


def cli(url: str, *arguments: str, given: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--database", url], input=given)
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_line_says_the_same_to_everybody(engine: Engine, sqlite_url: str) -> None:
    answers = {
        cli(sqlite_url, "request-cancellation", "--company", company, "--email", email, "--channel", "phone")
        for company, email in several_kinds(engine)
    }
    assert len(answers) == 1
    refused = cli(sqlite_url, "request-cancellation", "--company", "x", "--email", ANN, "--channel", "phon", code=2)
    assert "did you mean phone?" in refused


def test_a_token_is_read_from_standard_input_and_never_repeated(
    engine: Engine, mails: list[Task], sqlite_url: str
) -> None:
    ask(engine)
    with freeze_time(START + HOUR):
        said = cli(sqlite_url, "confirm-cancellation", given=f"{token_of(mails)}\n")
        again = cli(sqlite_url, "confirm-cancellation", given=f"{token_of(mails)}\n", code=1)
        never = cli(sqlite_url, "confirm-cancellation", given="nonsense\n", code=1)
    assert said.startswith("acme: cancel by owner:1")
    assert again == never and "ask for the cancellation again" in again
    assert token_of(mails) not in said + again


def test_support_lists_and_settles_requests(engine: Engine, sqlite_url: str) -> None:
    ask(engine, "\u0430nn@acme.test", "Nix")
    listed = cli(sqlite_url, "requests", "list", "--json")
    assert '"why": "no account of this company' in listed
    assert "u0430" in cli(sqlite_url, "requests", "list"), "letters that look like others are shown as what they are"
    assert "is settled" in cli(sqlite_url, "requests", "settle", "1", "--reason", "nobody there")
    assert "No request waits" in cli(sqlite_url, "requests", "list")
    assert "nobody there" in cli(sqlite_url, "requests", "list", "--all", "--json")


def test_the_channels_are_the_engine_s_own_words(engine: Engine) -> None:
    for channel in Channel:
        engine.request_cancellation("Nix", f"{channel}@nix.test", channel)
    engine.deliver()
    assert [item.channel for item in engine.reviews()] == list(Channel)
