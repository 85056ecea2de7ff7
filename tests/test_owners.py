"""Owners on file: who may change them, who is told, and what somebody who adds himself can do: wait, and be seen."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from lifecycle import (
    Actor,
    Effect,
    Engine,
    Filter,
    GuardRefused,
    InvalidInput,
    ManualClock,
    NoSuchTransition,
    NotAuthorised,
    Policy,
    Refused,
    State,
    Task,
    TokenRefused,
)
from lifecycle.cli import app
from lifecycle.guards import MOST_OWNERS
from lifecycle.operation_tables import owner_changes
from lifecycle.states import DESTRUCTIVE
from tests.conftest import START
from tests.people import ME

COMPANY, ANN, BOB, EVE = "Acme Ltd", "ann@acme.test", "bob@acme.test", "eve@evil.test"
SUE, ADMIN = Actor.support("sue"), Actor.admin("root")
FOR_ANN = {"company": COMPANY, "email": ANN}
DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
WAIT = Policy().new_owner_wait


@pytest.fixture
def mails() -> list[Task]:
    """What was sent to owners."""
    return []


@pytest.fixture
def make(clock: ManualClock, mails: list[Task]) -> Iterator[Callable[[str], Engine]]:
    """Opens an engine with an account of two owners; messages about its owners go into ``mails``."""
    made = []

    def new(url: str) -> Engine:
        handlers = dict.fromkeys((Effect.VERIFY_OWNER, Effect.TELL_OWNER_CHANGE), mails.append)
        made.append(Engine(url, clock=clock, handlers=handlers | dict.fromkeys(DESTRUCTIVE, lambda task: "gone")))
        made[-1].migrate()
        made[-1].open_account("acme", company=COMPANY, owners=[ANN, BOB], plan="free")
        return made[-1]

    yield new
    for engine in made:
        engine.close()


@pytest.fixture
def acme(make: Callable[[str], Engine], sqlite_url: str) -> Engine:
    return make(sqlite_url)


@pytest.fixture
def either(make: Callable[[str], Engine], url: str) -> Engine:
    """The same on each database."""
    return make(url)


@pytest.fixture
def hijacked(acme: Engine) -> Engine:
    """Somebody has talked support into adding him in Ann's name."""
    acme.add_owner("acme", EVE, actor=SUE, **FOR_ANN)
    return acme


def emails(engine: Engine) -> list[str]:
    return [person.email for person in engine.owners("acme")]


# --- Adding and removing -------------------------------------------------------------------------------


def test_owners_are_added_by_one_of_them_by_support_for_one_and_by_an_admin_with_a_reason(either: Engine) -> None:
    either.add_owner("acme", "one@acme.test", actor=Actor.owner(BOB))
    either.add_owner("acme", "two@acme.test", actor=SUE, **FOR_ANN)
    entry = either.add_owner("acme", "three@acme.test", actor=ADMIN, reason="contract of 2 May")
    assert emails(either) == [ANN, BOB, "one@acme.test", "two@acme.test", "three@acme.test"]
    assert [(person.number, person.since) for person in either.owners("acme")][1:4] == [
        (2, None),
        (3, START),
        (4, START),
    ]
    entries = either.history("acme")[1:]
    assert [(one.actor, one.owner) for one in entries] == [("owner:2", 2), ("support:sue", 1), ("admin:root", None)]
    assert entries[-1] == entry and (entry.source, entry.dest) == (State.ACTIVE, State.ACTIVE)
    assert either.find(COMPANY, "Two@acme.test") == ["acme"]


def test_nobody_else_changes_owners(acme: Engine) -> None:
    for event, owner in (("add_owner", EVE), ("remove_owner", BOB)):
        for actor, facts in (
            (Actor.owner(EVE), {}),
            (SUE, {}),
            (SUE, {"company": COMPANY, "email": EVE}),
            (SUE, {"company": "Ajax Ltd", "email": ANN}),
            (ADMIN, {}),
            (ADMIN, {"reason": "x", "company": COMPANY, "email": EVE}),
        ):
            with pytest.raises(GuardRefused):
                acme.fire("acme", event, actor=actor, owner=owner, **facts)
        with pytest.raises(NotAuthorised):
            acme.fire("acme", event, actor=Actor.billing("psp"), owner=owner)
    assert emails(acme) == [ANN, BOB]


def test_a_removed_owner_is_none_and_numbers_stay(either: Engine) -> None:
    either.remove_owner("acme", f" {ANN.upper()} ", actor=Actor.owner(BOB))
    assert emails(either) == [BOB] and either.find(COMPANY, ANN) == []
    with pytest.raises(GuardRefused):
        either.fire("acme", "cancel", actor=Actor.owner(ANN))
    either.add_owner("acme", "cy@acme.test", actor=Actor.owner(BOB))
    either.remove_owner("acme", "cy@acme.test", actor=Actor.owner(BOB))
    either.add_owner("acme", "dan@acme.test", actor=Actor.owner(BOB))
    assert [person.number for person in either.owners("acme")] == [2, 4], "a number stands for one person for ever"
    assert either.fire("acme", "cancel", actor=Actor.owner(BOB)).actor == "owner:2"


def test_the_last_owner_can_not_be_removed(acme: Engine) -> None:
    acme.remove_owner("acme", BOB, actor=ADMIN, reason="left")
    for actor, facts in ((ADMIN, {"reason": "x"}), (Actor.owner(ANN), {}), (SUE, FOR_ANN)):
        with pytest.raises(GuardRefused, match="add another one first"):
            acme.remove_owner("acme", ANN, actor=actor, **facts)
    assert emails(acme) == [ANN]


@pytest.mark.parametrize("again", [ANN, "ANN@ACME.TEST", " ann@acme.test"])
def test_an_address_is_added_once_however_it_is_written(acme: Engine, again: str) -> None:
    with pytest.raises(GuardRefused, match="on file already"):
        acme.add_owner("acme", again, actor=ADMIN, reason="x")


@pytest.mark.parametrize(
    "address", ["", "eve", "eve@evil.test\u202e", "an\u017f@acme.test", "a@b c", "x" * 300 + "@x.test"]
)
def test_an_address_must_be_one(acme: Engine, address: str) -> None:
    with pytest.raises((InvalidInput, GuardRefused)):
        acme.add_owner("acme", address, actor=ADMIN, reason="x")


def test_the_number_of_owners_is_bounded(acme: Engine) -> None:
    full = [f"o{number}@acme.test" for number in range(MOST_OWNERS)]
    acme.open_account("full", company="Full", owners=full, plan="free")
    with pytest.raises(GuardRefused, match=f"at most {MOST_OWNERS} owners"):
        acme.add_owner("full", EVE, actor=ADMIN, reason="x")


def test_a_stranger_is_not_removed(acme: Engine) -> None:
    with pytest.raises(GuardRefused, match="lifecycle owners list"):
        acme.remove_owner("acme", EVE, actor=ADMIN, reason="x")


def test_a_request_id_changes_owners_once(either: Engine) -> None:
    first = either.remove_owner("acme", BOB, actor=ADMIN, reason="left", request_id="ticket-1")
    assert either.remove_owner("acme", BOB, actor=ADMIN, reason="left", request_id="ticket-1").number == first.number


def test_owners_are_not_changed_in_bulk(acme: Engine) -> None:
    for event in ("add_owner", "remove_owner"):
        with pytest.raises(InvalidInput, match="by itself"):
            acme.fire_many(event, Filter(everything=True), actor=ADMIN, reason="x", owner=EVE)


def test_a_purged_account_has_no_owners_and_gets_none(acme: Engine) -> None:
    acme.fire("acme", "cancel", actor=Actor.owner(ANN))
    acme.run_until(START + 61 * DAY)
    assert acme.owners("acme") == ()
    with pytest.raises(NoSuchTransition):
        acme.add_owner("acme", EVE, actor=ADMIN, reason="x")


# --- Who is told -----------------------------------------------------------------------------------------


def test_the_owners_before_a_change_are_told(either: Engine, mails: list[Task]) -> None:
    either.add_owner("acme", EVE, actor=SUE, **FOR_ANN)
    either.remove_owner("acme", "BOB@acme.test", actor=ADMIN, reason="left")  # before anything was delivered
    either.deliver()
    assert [(m.payload["owners"], m.payload["change"], m.payload["changed_owner"]) for m in mails] == [
        ([ANN, BOB], "add_owner", EVE),
        ([ANN, BOB, EVE], "remove_owner", BOB),
    ]


def test_addresses_before_a_change_are_sealed_and_kept_until_they_are_told(
    acme: Engine, mails: list[Task], sqlite_url: str
) -> None:
    acme.remove_owner("acme", BOB, actor=ADMIN, reason="she left")
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    written = b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    assert BOB.encode() not in written and b"she left" not in written
    for _ in range(2):
        acme.deliver()
    assert len(mails) == 1
    with acme.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(owner_changes)) == 0


# --- Hijackers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actor", "facts"),
    [
        (Actor.owner(EVE), {}),
        (SUE, {"company": COMPANY, "email": EVE}),
        (ADMIN, {"company": COMPANY, "email": EVE, "reason": "asked by phone"}),
    ],
    ids=["signed in", "support for him", "admin for him"],
)
def test_who_has_added_himself_neither_cancels_nor_throws_out_nor_brings_in(
    hijacked: Engine, actor: Actor, facts: dict[str, str]
) -> None:
    for event, owner in (("cancel", {}), ("remove_owner", {"owner": ANN}), ("add_owner", {"owner": "mal@evil.test"})):
        with pytest.raises(GuardRefused, match="an earlier owner must confirm"):
            hijacked.fire("acme", event, actor=actor, **owner, **facts)
    assert emails(hijacked) == [ANN, BOB, EVE]


def test_who_waits_is_seen_at_once_and_decides_only_after_the_wait(
    hijacked: Engine, mails: list[Task], clock: ManualClock
) -> None:
    hijacked.deliver()
    assert [mail.payload["owners"] for mail in mails] == [[ANN, BOB]], "there are 72 hours to answer"
    clock.set(START + WAIT - MICROSECOND)
    assert not hijacked.may("acme", "cancel", actor=Actor.owner(EVE)).allowed
    clock.set(START + WAIT)
    assert hijacked.may("acme", "cancel", actor=Actor.owner(EVE)).allowed


def test_a_new_owner_s_cancellation_is_confirmed_by_an_earlier_one_and_not_by_himself(
    hijacked: Engine, mails: list[Task]
) -> None:
    hijacked.request_cancellation(COMPANY, EVE, "form")
    hijacked.deliver()
    asked = mails[-1].payload
    assert asked["owners"] == [ANN, BOB] and asked["requester"] == EVE
    ann, bob = (one["token"] for one in asked["confirmations"])
    assert ann != bob, "so that the history can say who confirmed"
    entry = hijacked.confirm_cancellation(bob)
    assert (entry.actor, entry.reason) == ("owner:3", "requested by form on 2026-01-01, confirmed by owner 2")
    with pytest.raises(TokenRefused):
        hijacked.confirm_cancellation(ann)


def test_a_second_new_owner_confirms_nothing_for_the_first(hijacked: Engine, mails: list[Task]) -> None:
    hijacked.add_owner("acme", "mal@evil.test", actor=SUE, **FOR_ANN)
    hijacked.request_cancellation(COMPANY, "mal@evil.test", "form")
    hijacked.deliver()
    assert mails[-1].payload["owners"] == [ANN, BOB]


def test_who_is_removed_and_added_again_is_new(acme: Engine) -> None:
    acme.remove_owner("acme", ANN, actor=ADMIN, reason="x")
    acme.add_owner("acme", ANN, actor=ADMIN, reason="x")
    assert not acme.may("acme", "cancel", actor=Actor.owner(ANN)).allowed


def test_a_new_owner_alone_on_file_waits_too(hijacked: Engine, clock: ManualClock) -> None:
    for owner in (ANN, BOB):
        hijacked.remove_owner("acme", owner, actor=ADMIN, reason="x")
    with pytest.raises(Refused):
        hijacked.fire("acme", "cancel", actor=Actor.owner(EVE))
    clock.set(START + WAIT)
    assert hijacked.fire("acme", "cancel", actor=Actor.owner(EVE)).actor == "owner:3"


# --- The command line ------------------------------------------------------------------------------------


def cli(url: str, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--database", url])
    assert result.exit_code == code, result.output
    return result.output


def test_owners_are_listed_added_and_removed_at_the_command_line(acme: Engine, sqlite_url: str) -> None:
    added = cli(sqlite_url, "owners", "add", "acme", "\u0430nn@acme.test", "--as", "admin", "--reason", "contract")
    assert added == f"acme: add_owner by admin:{ME} (entry 2).\n"
    listed = cli(sqlite_url, "owners", "list", "acme")
    assert "from the beginning" in listed and "u0430nn" in listed, "letters that look like others are shown"
    for_bob = ("--company", COMPANY, "--email", BOB, "--as", "support")
    assert f"remove_owner by support:{ME}" in cli(sqlite_url, "owners", "remove", "acme", ANN, *for_bob)
    assert '"number": 2' in cli(sqlite_url, "owners", "list", "acme", "--json")
    refused = cli(sqlite_url, "owners", "remove", "acme", EVE, *for_bob, code=1)
    assert "See who is on file with `lifecycle owners list acme`." in refused
