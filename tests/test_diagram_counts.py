"""The numbers in a picture are those of the database, and nothing is changed by counting."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lifecycle import Actor, Engine, ManualClock, Policy, State
from lifecycle.diagrams import Counts, render, to_mermaid
from lifecycle.diagrams.content import cards
from lifecycle.diagrams.dot import Drawing
from lifecycle.diagrams.places import LIVE_BOX, PICTURES
from lifecycle.diagrams.weights import look_of, short, things
from lifecycle.errors import InvalidInput
from lifecycle.states import Event, Step

ANN = "ann@acme.test"
OWNER, ADMIN = Actor.owner(ANN), Actor.admin("root")
TAKEN = {
    (Event.CANCEL, State.TRIAL, State.CANCEL_PENDING): 2,
    (Event.CANCEL, State.ACTIVE, State.CANCEL_PENDING): 1,
    (Event.REVOKE_ACCESS, State.CANCEL_PENDING, State.ACCESS_REVOKED): 1,
    (Event.REACTIVATE, State.CANCEL_PENDING, State.TRIAL): 1,
    (Event.SUSPEND, State.TRIAL, State.FROZEN): 1,
    (Event.PLACE_HOLD, State.TRIAL, State.TRIAL): 2,
}


def open_accounts(engine: Engine) -> None:
    for name, plan in (("a", "trial"), ("b", "trial"), ("c", "free")):
        engine.open_account(name, company=f"{name} Ltd", owners=[ANN], plan=plan)


def live(engine: Engine, clock: ManualClock) -> None:
    """A few moves of three accounts, and a reminder, which is none."""
    open_accounts(engine)
    engine.fire("a", "cancel", actor=OWNER)
    engine.fire("a", "reactivate", actor=OWNER)
    engine.place_hold("a", actor=ADMIN, reason="court", case="1")
    engine.place_hold("a", actor=ADMIN, reason="court", case="2")
    engine.fire("a", "suspend", actor=ADMIN, reason="spam")
    engine.fire("b", "cancel", actor=OWNER)
    clock.set(clock.now() + timedelta(days=23))
    engine.fire("c", "cancel", actor=OWNER)
    engine.sweep()
    assert engine.history("b")[-1].step is Step.REMIND


def counts(engine: Engine) -> Counts:
    return Counts(engine.summary(), engine.taken(), engine.clock.now())


def drawn(picture: str, counted: Counts) -> Drawing:
    return Drawing(PICTURES[picture], Policy(), look_of(Policy(), PICTURES[picture], None, counted))


def texts(drawing: Drawing, name: str) -> list[str]:
    return [line.text.replace("\0", " ") for line in drawing.texts[name]]


# --- What is counted -----------------------------------------------------------------------------


def test_moves_are_counted_by_event_source_and_destination_alone(engine: Engine, clock: ManualClock) -> None:
    live(engine, clock)
    assert engine.taken() == TAKEN


def test_moves_count_from_the_instant_on(engine: Engine, clock: ManualClock) -> None:
    begun = clock.now()
    live(engine, clock)
    assert engine.taken(begun) == TAKEN
    assert engine.taken(clock.now()) == {
        (Event.CANCEL, State.ACTIVE, State.CANCEL_PENDING): 1,
        (Event.REVOKE_ACCESS, State.CANCEL_PENDING, State.ACCESS_REVOKED): 1,
    }
    assert engine.taken(clock.now() + timedelta(microseconds=1)) == {}
    with pytest.raises(InvalidInput, match="time zone"):
        engine.taken(begun.replace(tzinfo=None))


def test_counting_changes_nothing(engine: Engine, clock: ManualClock) -> None:
    live(engine, clock)
    before = [(a.id, a.version, len(engine.history(a.id))) for a in engine.accounts()]
    render("lifecycle", engine.policy, "mermaid", counts=counts(engine))
    assert [(a.id, a.version, len(engine.history(a.id))) for a in engine.accounts()] == before


# --- What is shown -------------------------------------------------------------------------------

COUNTED = Counts(
    {State.TRIAL: 1, State.ACTIVE: 1_234_567},
    {
        (Event.CANCEL, State.TRIAL, State.CANCEL_PENDING): 20_000,
        (Event.CANCEL, State.ACTIVE, State.CANCEL_PENDING): 30,
        (Event.REACTIVATE, State.CANCEL_PENDING, State.FROZEN): 7,
        (Event.REACTIVATE, State.ACCESS_REVOKED, State.ACTIVE): 5,
        (Event.REVOKE_ACCESS, State.CANCEL_PENDING, State.ACCESS_REVOKED): 1,
        (Event.RENEW, State.ACTIVE, State.ACTIVE): 99,
    },
    at=datetime(2027, 5, 1, 12, tzinfo=UTC),
    since=datetime(2027, 1, 1, tzinfo=UTC),
)


def test_states_and_moves_have_their_numbers() -> None:
    whole = drawn("lifecycle", COUNTED)
    assert texts(whole, State.TRIAL)[1] == "1 account"
    assert texts(whole, State.ACTIVE)[1] == "1,234,567 accounts"
    assert texts(whole, State.PURGED)[1] == "0 accounts"
    assert texts(whole, "cancel")[1:3] == ["20,030 times", "from trial 20k · active 30"]
    assert texts(whole, "revoke_access")[1] == "1 time"
    assert texts(whole, "thaw")[1] == "0 times"
    shares = " ".join(texts(whole, "reactivate"))
    assert "12 times from cancel_pending 7 · access_revoked 5 to frozen 7 · active 5" in shares


def test_a_box_of_all_that_is_not_cancelled_has_their_sum() -> None:
    assert texts(drawn("way-out", COUNTED), LIVE_BOX)[1:3] == ["1,234,568 accounts", "trial: 1"]


def test_below_the_picture_stand_the_instants_the_sums_and_what_left_the_state_as_it_is() -> None:
    said = " ".join(texts(drawn("lifecycle", COUNTED), "footer"))
    assert "Counted 2027-05-01 12:00 UTC: 1,234,568 accounts; moves since 2027-01-01 00:00 UTC: 20,043" in said
    assert "Changes that left the state as it is: renew 99" in said
    assert "all moves on record" in " ".join(texts(drawn("company", replace(COUNTED, since=None)), "footer"))


def test_the_more_often_a_move_was_taken_the_wider_its_arrow() -> None:
    whole = drawn("lifecycle", COUNTED)
    by_name = {card.name: card for card in cards()}
    widths = [
        whole.look.arrow(by_name[name], end, headed).width
        for name, end, headed in (
            ("thaw", State.ACTIVE, True),
            ("revoke_access", State.CANCEL_PENDING, False),
            ("reactivate", State.ACCESS_REVOKED, False),
            ("reactivate", State.CANCEL_PENDING, False),
            ("reactivate", LIVE_BOX, True),
            ("cancel", LIVE_BOX, False),
        )
    ]
    assert widths == sorted(widths)
    assert len(set(widths)) == len(widths)
    assert whole.look.arrow(by_name["cancel"], State.CANCEL_PENDING, True).width == widths[-1] == 5


def test_a_database_without_accounts_is_drawn_with_thin_arrows() -> None:
    nothing = drawn("company", Counts({}, {}, COUNTED.at))
    assert {nothing.look.arrow(card, card.sources[0], False).width for card in nothing.cards} == {0.8}


def test_mermaid_has_the_same_numbers() -> None:
    text = to_mermaid("lifecycle", Policy(), counts=COUNTED)
    assert "(Full access) · 1,234,567 accounts" in text
    assert "<br/>cancel 20,000 times\n" in text
    assert "        renew 99 times\n" in text
    assert "cancel 30 times" in to_mermaid("lifecycle", Policy(), old=Policy(), counts=COUNTED)


def test_numbers_are_written_for_people() -> None:
    assert [things(1, "time"), things(2_000, "time")] == ["1 time", "2,000 times"]
    assert [short(n) for n in (0, 9_999, 12_345, 123_456, 1_234_567, 12_345_678)] == [
        "0", "9,999", "12k", "123k", "1.2M", "12M",
    ]  # fmt: skip


def test_a_picture_with_numbers_is_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pygraphviz")
    svg = render("lifecycle", Policy(), "svg", counts=COUNTED).decode()
    assert "1,234,567 accounts" in svg
    assert "20,030 times" in svg
    assert "too small" not in capfd.readouterr().err
