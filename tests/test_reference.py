"""The reference says all that the definition says, and is well-formed Markdown."""

from dataclasses import fields
from datetime import timedelta

import pytest

from lifecycle.machine import TIMERS, TRANSITIONS
from lifecycle.policy import Clause, Policy
from lifecycle.reference import reference, table
from lifecycle.states import Effect, Event, State


def section(page: str, name: str) -> str:
    return page.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]


def rows(page: str, name: str) -> list[list[str]]:
    lines = [line for line in section(page, name).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


PAGE = reference(Policy())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("States", State),
        ("Transitions", dict.fromkeys(row.event for row in TRANSITIONS)),
        ("Timers", dict.fromkeys(row.event for row in TIMERS)),
        ("Policy settings", [setting.name for setting in fields(Policy)]),
        ("Clauses", Clause),
        ("Effects", Effect),
    ],
)
def test_every_word_of_the_definition_has_a_row(name: str, words: object) -> None:
    first = list(dict.fromkeys(row[0].split(" ")[0] for row in rows(PAGE, name)))
    assert first == [f"`{word}`" for word in words]  # type: ignore[attr-defined]


def test_each_transition_has_one_row_with_its_guards_and_clauses() -> None:
    printed = rows(PAGE, "Transitions")
    assert len(printed) == len(TRANSITIONS)
    for row, cells in zip(TRANSITIONS, printed, strict=True):
        assert [guard.name for guard in row.guards] == ([] if cells[5] == "-" else cells[5].split(" · "))
        assert [f"`{clause}`" for clause in row.clauses] == cells[6].split(", ")


def test_who_may_cancel_is_said_with_the_condition_that_the_requester_is_an_owner() -> None:
    (cancel,) = [cells for cells in rows(PAGE, "Transitions") if cells[0] == "`cancel`"]
    assert cancel[4] == "owner, admin (owner on file); support (owner on file · confirmation not required)"


def test_guards_that_share_a_name_all_say_their_sentence() -> None:
    sentences = {cells[1] for cells in rows(PAGE, "Guards")}
    assert sentences == {guard.sentence for row in TRANSITIONS for guard in row.conditions()}


def test_deadlines_follow_the_policy() -> None:
    assert "30 days after the cancellation, but not before the end of access" in section(PAGE, "Timers")
    longer = reference(Policy(deletion_after=timedelta(days=45)))
    assert "45 days after the cancellation" in section(longer, "Timers")
    later = reference(Policy(deletion_clock="end_of_access"))
    assert "30 days after the end of access" in section(later, "Timers")


def test_a_changed_setting_stands_beside_its_default_and_its_floor() -> None:
    page = reference(Policy(company_notice=timedelta(days=20)))
    (cells,) = [cells for cells in rows(page, "Policy settings") if cells[0] == "`company_notice`"]
    assert cells[1:4] == ["14 days", "20 days", "1 day"]


def test_timers_that_wait_for_an_admin_say_so() -> None:
    waiting = rows(reference(Policy(company_cancellation="approval")), "Timers")
    stopped = {cells[0] for cells in waiting if cells[5] == "waiting for an admin"}
    assert stopped == {f"`{e}`" for e in (Event.CANCEL_EXPIRED_TRIAL, Event.CANCEL_UNPAID, Event.CANCEL_INACTIVE)}


def test_a_cell_cannot_break_its_table() -> None:
    text = table(("a", "b"), [("x|y", "one\ntwo"), ("<b>", "")])
    assert text.splitlines()[2:] == [r"| x\|y   | one two |", "| &lt;b> | -       |"]
    assert len({len(line) for line in text.splitlines()}) == 1
