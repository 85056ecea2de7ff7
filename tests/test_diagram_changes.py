"""A picture of two policies shows all that differs, says sooner and later as the machine does, and dims the rest."""

import itertools
from dataclasses import fields, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.actor import Role
from lifecycle.diagrams import Counts, pictures, render, to_dot, to_mermaid
from lifecycle.diagrams.changes import Change, differences, inline
from lifecycle.diagrams.compare import FADED, STROKES, Compared, lighter
from lifecycle.diagrams.content import Card, Line, cards
from lifecycle.diagrams.dot import Drawing
from lifecycle.diagrams.geometry import Box
from lifecycle.diagrams.places import PICTURES
from lifecycle.diagrams.shifts import Shift, shift_of
from lifecycle.diagrams.text import role_words
from lifecycle.diagrams.weights import look_of
from lifecycle.machine import TIMERS
from lifecycle.policy import Policy
from lifecycle.rows import timer_of
from lifecycle.states import CANCELLED, Event, State
from lifecycle.terms import evaluate
from tests.builders import NOW, ago, days, fire, free, on_hold, paid, trial, unpaid
from tests.test_diagrams import overlap

OLD = Policy()
LONGER = Policy(deletion_after="45 days", purge_after="75 days")
OTHERS = [
    LONGER,
    Policy(
        company_cancellation="approval",
        unpaid_cancellation_after="120 days",
        trial_length="14 days",
        company_notice="10 days",
        cancellation_requires_confirmation="true",
    ),
    Policy(
        deletion_clock="end_of_access",
        purge_lead="2 days",
        deletion_notice="5 days",
        inactive_cancellation_after="400 days",
        expired_trial_cancellation_after="60 days",
        access_reminder="14 days",
    ),
    Policy(deletion_after="1000 days 5 hours 30 minutes", purge_after="1100 days 11 hours 11 seconds"),
]
PAIRS = [pair for other in OTHERS for pair in ((OLD, other), (other, OLD))] + list(itertools.pairwise(OTHERS))
COUNTS = Counts(
    dict.fromkeys(State, 1_234_567),
    {(row.event, source, dest): 1_234_567 for card in cards() for source, dest, row in card.moves()},
    at=NOW,
)


def drawing(picture: str, old: Policy | None, new: Policy, counts: Counts | None = None) -> Drawing:
    return Drawing(PICTURES[picture], new, look_of(new, PICTURES[picture], old, counts))


def look(old: Policy, new: Policy, picture: str = "lifecycle") -> Compared:
    return Compared(new, PICTURES[picture], old)


def card_of(event: Event, picture: str = "lifecycle") -> Card:
    return next(card for card in cards(PICTURES[picture].events) if event in card.name.split("+"))


def words_of(event: Event, old: Policy, new: Policy) -> str:
    lines = drawing("lifecycle", old, new).texts[event]
    return " ".join(f"{line.mark}{role_words(line.roles)}{line.text}" for line in lines)


# --- What is said --------------------------------------------------------------------------------


def test_the_deadline_shows_old_and_new_and_by_how_much() -> None:
    text = words_of(Event.DELETE_CONTENT, OLD, LONGER)
    assert "30 days → 45 days after the cancellation, not before the end of access · delete-30" in text
    assert "later by up to 15 days" in text
    assert "60 days → 75 days after the cancellation" in words_of(Event.PURGE_BACKUPS, OLD, LONGER)


def test_a_deadline_that_all_accounts_share_moves_by_one_amount() -> None:
    text = words_of(Event.CANCEL_UNPAID, OLD, replace(OLD, unpaid_cancellation_after=days(200)))
    assert "180 days → 200 days after the freeze" in text
    assert "later by 20 days" in text
    assert "sooner by 20 days" in words_of(Event.CANCEL_UNPAID, replace(OLD, unpaid_cancellation_after=days(200)), OLD)


def test_what_a_later_deletion_drags_along_is_later_too_although_its_words_are_the_same() -> None:
    """The purge has 29 days from the deletion date: nothing in its own settings changes."""
    new = replace(OLD, deletion_after=days(45))
    text = words_of(Event.PURGE_BACKUPS, OLD, new)
    assert "60 days after the cancellation" in text
    assert "later by up to 14 days" in text
    assert look(OLD, new).change(card_of(Event.PURGE_BACKUPS)) is Change.LATER


def test_a_deadline_with_other_words_shows_both_lines() -> None:
    text = words_of(Event.DELETE_CONTENT, OLD, replace(OLD, deletion_clock="end_of_access"))
    assert text.index("not before the end of access") < text.index("30 days after the end of access")
    assert "later by up to 30 days" in text


def test_a_deadline_that_is_sooner_for_some_and_later_for_others_says_so() -> None:
    new = Policy(deletion_clock="end_of_access", deletion_after="20 days")
    assert "sooner by up to 10 days, or later by up to 20 days" in words_of(Event.DELETE_CONTENT, OLD, new)
    assert look(OLD, new).change(card_of(Event.DELETE_CONTENT)) is Change.CHANGED


def test_who_may_now_is_added_and_who_may_no_longer_is_removed() -> None:
    new = Policy(company_cancellation="approval")
    lines = drawing("company", OLD, new).texts[Event.CANCEL_UNPAID]
    assert [(line.roles, line.struck, line.colour) for line in lines if line.roles] == [
        ((Role.SYSTEM,), True, STROKES[Change.REMOVED].colour),
        ((Role.ADMIN,), False, STROKES[Change.ADDED].colour),
    ]
    assert "+ waits for an admin, once due" in words_of(Event.CANCEL_UNPAID, OLD, new)


def test_one_role_among_several_is_removed_alone() -> None:
    lines = drawing("way-out", OLD, Policy(cancellation_requires_confirmation="true")).texts[Event.CANCEL]
    assert [(line.roles, line.struck) for line in lines if line.roles] == [
        ((Role.OWNER, Role.ADMIN), False),
        ((Role.SUPPORT,), True),
    ]


def test_a_notice_and_the_limit_of_a_guard_show_old_and_new() -> None:
    new = Policy(company_notice="10 days", unpaid_cancellation_after="120 days")
    assert "with 14 days → 10 days of notice" in words_of(Event.CANCEL_INACTIVE, OLD, new)
    assert "[unpaid in time] 180 days → 120 days" in words_of(Event.REACTIVATE, OLD, new)


def test_every_setting_that_differs_is_named_below_the_picture() -> None:
    for old, new in PAIRS:
        said = " ".join(line.text for line in drawing("company", old, new).texts["footer"])
        for setting in fields(Policy):
            was, value = old.as_text()[setting.name], new.as_text()[setting.name]
            assert (f"{setting.name}: {was} → {value}" in said) is (was != value)


def test_equal_policies_have_nothing_that_differs() -> None:
    drawn = drawing("lifecycle", OLD, Policy())
    assert [line.text for line in drawn.texts["footer"]] == ["No setting differs"]
    assert {drawn.look.arrow(card, "", False) for card in drawn.cards} == {STROKES[Change.SAME]}


def test_lines_that_differ_in_more_than_durations_are_two_lines() -> None:
    assert inline("30 days after a", "45 days after b") == "45 days after b"
    assert inline("1 day 12 hours or 7 days", "2 days or 7 days") == "1 day 12 hours → 2 days or 7 days"
    said = differences([Line("a"), Line("30 days")], [Line("b"), Line("45 days")])
    assert [one.change for one in said] == [Change.REMOVED, Change.ADDED, Change.CHANGED]


# --- What is dimmed, and in which colours --------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_whatever_changes_has_its_colour_and_the_rest_is_grey(old: Policy, new: Policy) -> None:
    drawn, view = drawing("lifecycle", old, new), look(old, new)
    touched = set()
    for card in drawn.cards:
        change = view.change(card)
        colours = {line.colour for line in drawn.texts[card.name]}
        assert (colours == {FADED}) is (change is Change.SAME)
        touched |= {*card.sources, *card.dests} if change is not Change.SAME else set()
    for state in State:
        assert ({line.colour for line in drawn.texts[state]} == {FADED}) is (state not in touched)


def test_kinds_of_change_differ_in_colour_and_the_legend_shows_them_all() -> None:
    assert len({stroke.colour for stroke in STROKES.values()}) == len(STROKES) == len(Change)
    legend = {line.text.strip() for line in drawing("lifecycle", OLD, LONGER).texts["legend"]}
    assert legend >= {change.text for change in Change}
    assert lighter("#000000", 0.5) == "#808080"


# --- Sooner and later are what the machine does --------------------------------------------------

_DAYS = st.integers(0, 700).map(timedelta)
_POLICIES = st.builds(
    Policy,
    deletion_clock=st.sampled_from(("cancellation", "end_of_access")),
    deletion_after=st.integers(10, 60).map(timedelta),
    purge_after=st.integers(61, 120).map(timedelta),
    purge_after_deletion=st.integers(5, 60).map(timedelta),
    purge_lead=st.integers(1, 4).map(timedelta),
    unpaid_cancellation_after=st.integers(30, 400).map(timedelta),
    inactive_cancellation_after=st.integers(30, 400).map(timedelta),
    expired_trial_cancellation_after=st.integers(30, 400).map(timedelta),
)


def deadline(event: Event, subject: SimpleNamespace, policy: Policy) -> datetime:
    """When the timer is due for an account to which nobody has promised anything yet."""
    (row,) = (row for row in TIMERS if row.event is event)
    if row.sources[0] in CANCELLED:
        decision = fire(subject, Event.CANCEL, policy=policy, company=subject.company, email=subject.owners[0])
        subject = SimpleNamespace(**{**vars(subject), **decision.changes})
    found: datetime = evaluate(timer_of(row).deadline, {"account": subject, "policy": policy, "now": NOW})
    return found


def lives(event: Event, gap: timedelta) -> list[SimpleNamespace]:
    """Accounts on which the timer of an event is set, whose clocks are ``gap`` apart."""
    return {
        Event.CANCEL_EXPIRED_TRIAL: [on_hold()],
        Event.CANCEL_UNPAID: [unpaid()],
        Event.CANCEL_INACTIVE: [free(ago(800), last_active_at=ago(800) + gap), free(ago(800) + gap)],
        Event.DELETE_CONTENT: [paid(NOW + gap), free(), trial(NOW + gap)],
        Event.PURGE_BACKUPS: [paid(NOW + gap), free(), trial(NOW + gap)],
    }[event]


@settings(max_examples=40)
@given(
    old=_POLICIES,
    new=_POLICIES,
    gap=_DAYS,
    event=st.sampled_from(
        (
            Event.CANCEL_EXPIRED_TRIAL,
            Event.CANCEL_UNPAID,
            Event.CANCEL_INACTIVE,
            Event.DELETE_CONTENT,
            Event.PURGE_BACKUPS,
        )
    ),
)
def test_no_account_moves_further_than_the_picture_says(old: Policy, new: Policy, gap: timedelta, event: Event) -> None:
    (row,) = (row for row in TIMERS if row.event is event)
    shift = shift_of(row, old, new) or Shift(timedelta(0), timedelta(0))
    for subject in lives(event, gap):
        moved = deadline(event, subject, new) - deadline(event, subject, old)
        assert shift.least <= moved <= shift.most


@settings(max_examples=25)
@given(old=_POLICIES, new=_POLICIES)
def test_some_account_moves_as_far_as_the_picture_says(old: Policy, new: Policy) -> None:
    """Also in the dates of a deletion, where an end of access, a clock and a policy's other clock meet."""
    (row,) = (row for row in TIMERS if row.event is Event.DELETE_CONTENT)
    shift = shift_of(row, old, new)
    lengths = (timedelta(0), old.deletion_after, new.deletion_after, timedelta(3650))
    moved = {
        deadline(Event.DELETE_CONTENT, paid(NOW + gap), new) - deadline(Event.DELETE_CONTENT, paid(NOW + gap), old)
        for gap in lengths
    }
    assert (min(moved), max(moved)) == ((shift.least, shift.most) if shift else (timedelta(0), timedelta(0)))


# --- Every format, and nothing overlaps ----------------------------------------------------------


@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_each_drawing_compares(format: str, start: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pygraphviz")
    drawn = render("way-out", LONGER, format, old=OLD)
    assert drawn.startswith(start)
    assert drawn != render("way-out", LONGER, format)
    assert "too small" not in capfd.readouterr().err


def test_dot_and_mermaid_say_the_same() -> None:
    for text in (to_dot("way-out", LONGER, old=OLD), to_mermaid("way-out", LONGER, old=OLD)):
        assert "30 days → 45 days" in text
        assert "later by up to 15 days" in text
        assert "deletion_after: 30 days → 45 days" in text
    assert " : LATER delete_content<br/>30 days → 45 days" in to_mermaid("way-out", LONGER, old=OLD)


def test_in_mermaid_what_stays_is_only_named() -> None:
    text = to_mermaid("lifecycle", LONGER, old=OLD)
    assert "    trial --> on_hold : expire_trial\n" in text
    assert "    class trial untouched\n" in text
    assert "    class purged content_gone\n" in text
    assert "note right of" not in text


@pytest.mark.parametrize(("old", "new"), PAIRS)
@pytest.mark.parametrize("name", pictures())
def test_no_box_overlaps_another_and_no_arrow_runs_through_one(name: str, old: Policy, new: Policy) -> None:
    no_overlap(drawing(name, old, new))


@pytest.mark.parametrize("old", [None, *OTHERS], ids=["one policy", *(other.version for other in OTHERS)])
@pytest.mark.parametrize("name", pictures())
def test_nothing_overlaps_where_all_is_counted(name: str, old: Policy | None) -> None:
    no_overlap(drawing(name, old, OLD, COUNTS))


def no_overlap(drawn: Drawing) -> None:
    boxes = {key: drawn.boxes[key] for key in drawn.texts}
    width, height = drawn.picture.size
    for key, box in boxes.items():
        assert min(box.left, box.top, width - box.right, height - box.bottom) >= 0, key
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        assert not overlap(a, b), (one, other)
    pieces: list[tuple[Any, ...]] = []
    for start, end, _, points, _ in drawn.arrows():
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            assert x1 == x2 or y1 == y2, (start, end)
            piece = Box.spanning(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            pieces.append((start, end, piece))
            for key in set(boxes) - {start, end}:
                assert not overlap(piece, boxes[key], 2), (start, end, key)
    for (s1, e1, a), (s2, e2, b) in itertools.combinations(pieces, 2):
        if (s1, e1) != (s2, e2) and (a.width == b.width == 0 or a.height == b.height == 0):
            assert not overlap(a, b, 5), (s1, e1, s2, e2)
