"""The model checker: the definition keeps its promises, and a planted fault is noticed by the promise it breaks."""

import ast
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.cli import app
from lifecycle.errors import InvalidInput
from lifecycle.machine import DEFINITION, TRANSITIONS
from lifecycle.policy import Policy
from lifecycle.states import Event, State
from lifecycle.terms import Term
from lifecycle.verify import PROMISES, Timeline, Verification, verify
from lifecycle.verify.explorer import Explorer
from lifecycle.verify.happening import Kind
from lifecycle.verify.mutants import MUTANTS, Mutant
from lifecycle.verify.nodes import Violation
from lifecycle.verify.picture import FORMATS, draw
from lifecycle.verify.promises import ELSEWHERE
from tests.strategies import POLICIES

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "lifecycle" / "verify"
#: What judges the definition, and so may not read it.
JUDGES = (
    *("world", "facts", "expected", "possible", "permitted", "judging"),
    *("on_destruction", "on_access", "on_people", "on_clocks"),
)
READERS_OF_THE_DEFINITION = ("machine", "definition", "deadlines", "guards", "rows", "terms")


def planted(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def broken(found: Verification) -> dict[str, Timeline]:
    return {one.name: one.counterexample for one in found.promises if one.counterexample is not None}


# --- The definition that counts --------------------------------------------------------------------


def test_the_definition_keeps_every_promise_and_every_transition_is_seen_in_under_ten_seconds() -> None:
    began = time.process_time()
    found = verify(Policy())
    assert broken(found) == {} and found.held
    assert found.uncovered == ()
    assert len(found.covered) == sum(len(row.sources) for row in TRANSITIONS)
    assert found.explored > 5000
    assert time.process_time() - began < 10


@pytest.mark.parametrize("policy", POLICIES[1:], ids=("approval", "end_of_access", "45 days"))
def test_other_policies_keep_every_promise(policy: Policy) -> None:
    assert broken(verify(policy, depth=1)) == {}


def test_no_assignment_reads_who_asked_so_that_it_is_enough_to_follow_one() -> None:
    read = [
        term.args
        for row in TRANSITIONS
        for _, value in row.sets
        if isinstance(value, Term)
        for term in value.walk()
        if term.op == "field" and term.args[0] == "request"
    ]
    assert read and not {"role", "email", "company"} & {name for _, name in read}


@pytest.mark.parametrize("module", JUDGES)
def test_what_judges_the_definition_does_not_read_it(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not {f"lifecycle.{name}" for name in READERS_OF_THE_DEFINITION} & set(imported)


# --- Planted faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_noticed_by_the_promise_that_it_breaks(mutant: Mutant) -> None:
    caught = mutant.caught()
    assert caught is not None, f"{mutant.text} {mutant.promise} does not notice."
    assert caught.promise.name == mutant.promise


def test_there_are_many_faults_and_every_promise_has_one_that_breaks_it() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.promise for mutant in MUTANTS} == {one.name for one in PROMISES}


def test_a_fault_changes_the_definition_and_leaves_the_one_that_counts_alone() -> None:
    before = TRANSITIONS
    assert all(mutant.definition().rows != before for mutant in MUTANTS)
    assert DEFINITION.rows is before


# --- Counterexamples -------------------------------------------------------------------------------


def test_a_counterexample_is_the_shortest_life_in_dates_and_plain_words() -> None:
    mutant = planted("reactivate-too-late")
    timeline = broken(verify(Policy(), mutant.definition(), depth=0))[mutant.promise]
    assert timeline.title == "Nobody comes back once the deletion was requested."
    assert [str(entry) for entry in timeline.entries] == [
        "1 March 2027: there is an account that the company cancelled; "
        "it is access_revoked (no access, content awaits deletion)",
        "24 March 2027: a reminder of the deletion of the content was sent",
        "24 March 2027: the reminder was delivered",
        "31 March 2027: the engine asked for the deletion of the content",
        "31 March 2027: the owner brought the account back; the account is now frozen (unpaid or suspended, data kept)",
        "31 March 2027: broken: The account came back although its deletion had been requested.",
    ]
    assert timeline.entries[-1].state is State.FROZEN


def test_outages_late_reminders_activity_and_refusals_are_told_in_words() -> None:
    told = {
        "hold-backdated": "the machine was down until",
        "notice-of-another-clock": "the customer used the account",
        "no-cancelling-on-hold": "asked for cancel, and was refused",
        "deletion-after-the-date": "looks at the account again and again",
    }
    for name, words in told.items():
        caught = planted(name).caught()
        assert caught is not None
        assert words in " ".join(entry.words for entry in Timeline.of(caught).entries), name


def test_a_reminder_and_a_receipt_that_are_late_are_told_in_words() -> None:
    explorer = Explorer(DEFINITION, Policy(), 1, kind="an account that the company cancelled")
    explorer.run()
    late = [node for node in explorer.nodes.values() if node.last and node.last.kind is Kind.LATE]
    told = [Timeline.of(Violation(PROMISES[0], "nothing", node)).entries[-2].words for node in late]
    assert "the reminder was not delivered until 30 March 2027" in told
    assert "no receipt came until 22 April 2027" in told


def test_a_missed_deadline_is_dated_when_it_has_passed() -> None:
    caught = planted("never-looks-again").caught()
    assert caught is not None
    last = Timeline.of(caught).entries[-1]
    assert "Nothing happened although its time had come" in last.words


@pytest.mark.parametrize("format", FORMATS)
def test_a_counterexample_is_drawn(format: str) -> None:
    caught = planted("trial-cut-short").caught()
    assert caught is not None
    timeline = Timeline.of(caught)
    drawn = draw(replace(timeline, title="<a> & b"), format)
    signs = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF", "dot": b"digraph"}
    assert signs[format] in drawn[:1000]
    if format == "dot":
        assert b"&lt;a&gt; &amp; b" in drawn and timeline.entries[-1].words.split()[1].encode() in drawn


def test_an_unknown_format_is_bad_input() -> None:
    with pytest.raises(InvalidInput, match="svg, png, pdf, dot"):
        draw(Timeline("nothing", ()), "gif")


def test_an_exploration_that_looks_for_one_promise_stops_at_its_first_violation() -> None:
    mutant = planted("billing-goes-on")
    kind = "a new monthly plan"
    whole, short = (Explorer(mutant.definition(), Policy(), 1, only, kind) for only in (None, mutant.promise))
    whole.run()
    short.run()
    assert short.decisions < whole.decisions / 10
    assert set(short.violations) == {mutant.promise}


# --- The command -----------------------------------------------------------------------------------


def lifecycle(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, prog_name="lifecycle")
    return result.exit_code, result.stdout


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_command_says_that_all_is_well_and_what_it_has_seen(tmp_path: Path) -> None:
    policy = tmp_path / "candidate.toml"
    policy.write_text('deletion_after = "45 days"\npurge_after = "90 days"\n')
    code, out = lifecycle("verify", "--depth", "0", "--policy", str(policy), "-o", "none.svg")
    assert code == 0
    assert "All promises of the definition are kept." in out and "candidate.toml" in out
    assert not Path("none.svg").exists()


def test_a_broken_promise_is_exit_code_1_with_its_life_as_json_and_as_a_picture() -> None:
    code, out = lifecycle("verify", "--depth", "0", "--mutant", "trial-cut-short", "--json", "-o", "life.svg")
    assert code == 1
    found = json.loads(out)
    assert not found["held"]
    (trial,) = (one for one in found["promises"] if one["name"] == "trial-lasts")
    assert trial["number"] == 7 and not trial["held"]
    last = trial["counterexample"]["entries"][-1]
    assert last["at"].startswith("2027-03-24") and last["state"] == State.ON_HOLD
    assert [one["promise"] for one in found["not_checked_here"]] == [what for what, _ in ELSEWHERE]
    assert "<svg" in Path("life.svg").read_text()


def test_a_broken_promise_is_told_on_the_terminal() -> None:
    code, out = lifecycle("verify", "--depth", "0", "--mutant", "approval-ignored")
    assert code == 1
    assert "With a planted fault: The company's cancellations fire although" in out
    assert "company-by-its-clauses is broken." in out and "without the approval of an admin" in out


def test_the_faults_are_listed_with_the_promise_that_notices_each(monkeypatch: pytest.MonkeyPatch) -> None:
    some = (planted("billing-cancels"), replace(planted("trial-lost"), name="unnoticed", promise="trial-lasts"))
    monkeypatch.setattr("lifecycle.verify.mutants.MUTANTS", some)
    code, out = lifecycle("verify", "--mutants", "--depth", "0")
    assert code == 1
    assert "1 of 2 planted faults are noticed" in out and "MISSED" in out
    code, out = lifecycle("verify", "--mutants", "--depth", "0", "--json")
    assert [(one["name"], one["caught"]) for one in json.loads(out)] == [
        ("billing-cancels", True),
        ("unnoticed", False),
    ]


def test_an_unknown_fault_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ("verify", "--mutant", "trial-lots"), prog_name="lifecycle")
    assert result.exit_code == 2 and "trial-lost" in result.output


def test_all_faults_leave_no_room_for_other_options() -> None:
    assert lifecycle("verify", "--mutants", "--mutant", "trial-lost")[0] == 2


# --- The page --------------------------------------------------------------------------------------


def test_the_page_lists_the_promises_and_where_the_others_are_tested() -> None:
    page = (REPOSITORY / "docs" / "verify.md").read_text(encoding="utf-8")
    faults = {one.name: sum(mutant.promise == one.name for mutant in MUTANTS) for one in PROMISES}
    table = "\n".join(f"| {one.number} | `{one.name}` | {one.text} | {faults[one.name]} |" for one in PROMISES)
    assert table in page
    for what, where in ELSEWHERE:
        assert f"| {what} | {', '.join(f'[{one[6:]}](../{one})' for one in where.split(', '))} |" in page
        assert all((REPOSITORY / one).exists() for one in where.split(", "))


@pytest.mark.parametrize("page", ("README.md", "CHANGELOG.md", "docs/verify.md"))
def test_pages_count_the_planted_faults_right(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert re.findall(r"(\d+) (?:planted faults|definitions with one fault)", text) == [str(len(MUTANTS))]


def test_the_page_shows_a_counterexample_as_the_checker_finds_it() -> None:
    page = (REPOSITORY / "docs" / "verify.md").read_text(encoding="utf-8")
    caught = planted("return-keeps-notice").caught()
    assert caught is not None
    for entry in Timeline.of(caught).entries:
        assert str(entry) in page


def test_a_second_row_for_one_event_is_seen_by_every_row_that_would_act() -> None:
    mutant = planted("two-ways")
    caught = mutant.caught()
    assert caught is not None and caught.last is None
    assert str(Event.FREEZE) in caught.words and str(State.ON_HOLD) in caught.words
