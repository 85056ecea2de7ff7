"""The review page says what the definition says, escapes what it shows, loads nothing and names nobody."""

import builtins
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from markupsafe import escape
from typer.testing import CliRunner

from lifecycle import Actor, Engine, Policy, State
from lifecycle.cli import app
from lifecycle.comparison import compare
from lifecycle.decisions import DECISIONS
from lifecycle.diagrams import PICTURES
from lifecycle.diagrams.content import cards
from lifecycle.diagrams.dot import move_id
from lifecycle.errors import DefinitionError, InvalidInput
from lifecycle.guards import Guard
from lifecycle.impact import Impact, Loss, TimerImpact
from lifecycle.machine import TIMERS, TRANSITIONS, tick
from lifecycle.policy import Clause, CompanyCancellation
from lifecycle.review import write
from lifecycle.review.change import differences, reached
from lifecycle.review.clauses import clause_lines
from lifecycle.review.details import move_details, state_details
from lifecycle.review.evidence import EVIDENCE
from lifecycle.review.examples import Example
from lifecycle.review.page import page
from lifecycle.review.pictures import night
from lifecycle.review.standing import WEEKS, standing
from lifecycle.review.tables import ASSUMED, definition, settings
from lifecycle.states import Effect, Event, Plan, Step
from lifecycle.verify import verify
from tests.conftest import SOAK, START
from tests.lives import POLICIES, Life, lived_by_an_engine, scenarios

HOSTILE = '</script><img src=x onerror="alert(1)">&\u2028'
CANDIDATE = Policy.from_mapping({"deletion_after": "45 days", "purge_after": "75 days"})
ANN = Actor.owner("ann@acme.test")


class Elements(HTMLParser):
    """The page's elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self._raw = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._raw = tag if tag in ("script", "style") else ""

    def handle_data(self, data: str) -> None:
        if self._raw:
            self.inside.append((self._raw, data))
            self._raw = ""


@pytest.fixture(scope="module")
def text() -> str:
    return page(Policy())


@pytest.fixture(scope="module")
def elements(text: str) -> Elements:
    return Elements(text)


# --- What it says --------------------------------------------------------------------------------


def test_every_state_and_every_transition_has_a_panel_with_its_guards_and_clauses(text: str) -> None:
    policy = Policy()
    assert [detail.state for detail in state_details(policy)] == list(State)
    moves = move_details(policy)
    for row in TRANSITIONS:
        mine = [one for one in moves if row.event in one.events and any(row.sources == r.sources for r in one.routes)]
        assert mine, row
        assert any(set(row.clauses) <= set(one.clauses) for one in mine)
        shown = {guard for one in mine for guard in (*one.guards, *(g for r in one.routes for g in r.guards))}
        assert set(row.guards) <= shown
    for guard in {guard for row in TRANSITIONS for guard in row.guards}:
        assert str(escape(guard.sentence)) in text


def test_a_timed_move_says_when_and_with_which_notice() -> None:
    by_event = {one.events[0]: one for one in move_details(Policy()) if one.deadline}
    assert set(by_event) == {row.event for row in TIMERS}
    deletion = by_event[Event.DELETE_CONTENT]
    assert deletion.deadline == "30 days after the cancellation, not before the end of access"
    assert "with 7 days of notice" in deletion.notes and "rests under a legal hold" in deletion.notes
    assert deletion.irreversible and Effect.DELETE_CONTENT in deletion.owes


def test_every_box_and_arrow_of_the_pictures_leads_to_a_panel(elements: Elements) -> None:
    panels = {a["id"] for tag, a in elements.found if tag == "article"}
    linked = [a["data-detail"] for _, a in elements.found if "data-detail" in a]
    assert set(linked) <= panels
    for name, picture in PICTURES.items():
        wanted = {move_id(card) for card in cards(picture.events)}
        assert wanted <= {str(a.get("id")).removeprefix(f"{name}-") for _, a in elements.found}
    assert len(linked) > 2 * len(set(linked))  # arrows too


def test_every_clause_names_what_implements_it_and_what_holds_it(text: str) -> None:
    lines = clause_lines(Policy())
    assert [line.clause for line in lines] == list(Clause)
    for line in lines:
        assert line.events and line.tests, line.clause
        assert set(line.events) == {row.event for row in TRANSITIONS if line.clause in row.clauses}
        assert f'id="clause-{line.clause}"' in text


def test_every_test_that_a_clause_names_exists_and_every_promise_has_a_number() -> None:
    root = Path(__file__).parent
    assert set(EVIDENCE) == set(Clause)
    for clause, evidence in EVIDENCE.items():
        assert set(evidence.promises) <= set(range(1, 13)), clause
        for file, names in evidence.tests.items():
            there = (root / f"test_{file}.py").read_text(encoding="utf-8")
            for name in names:
                assert f"def test_{name}(" in there, f"{clause} names {name}, which is not in test_{file}.py"


def test_the_ten_decisions_are_on_the_page_with_the_values_in_force(text: str) -> None:
    assert len(DECISIONS) == 10
    for number, decision in enumerate(DECISIONS, start=1):
        assert f'id="decision-{number}"' in text
        assert str(escape(decision.title)) in text
    assert "<strong>Access wins</strong>" in text and "<code>record_activity</code>" in text


def test_a_candidate_is_shown_beside_the_policy_in_force() -> None:
    shown = page(Policy(), candidate=CANDIDATE, comparison=compare(Policy(), CANDIDATE))
    assert CANDIDATE.version in shown and 'class="changed">45 days' in shown
    assert f"{Policy().version} → {CANDIDATE.version}" in shown  # in the pictures
    data = json.loads(next(inside for tag, inside in Elements(shown).inside if inside.startswith("{")))
    assert [one["settings"] for one in data["policies"]] == [settings(Policy()), settings(CANDIDATE)]


def test_the_page_is_the_same_for_the_same_policy(text: str) -> None:
    assert page(Policy()) == text


# --- Proofs --------------------------------------------------------------------------------------


def a_verification(**changes: Any) -> SimpleNamespace:
    entry = SimpleNamespace(at=START, state=State.TRIAL, words=f"opened {HOSTILE}")
    later = SimpleNamespace(at=START + timedelta(days=40, hours=6), state=State.CANCEL_PENDING, words="too early")
    found = {
        "promises": [
            SimpleNamespace(name="notice-given", number=11, text="Notice is given.", held=False,
                            counterexample=SimpleNamespace(title="A trial", entries=(entry, later))),
            SimpleNamespace(name="never-early", number=2, text="Nothing is early.", held=True, counterexample=None),
        ],
        "as_json": lambda: {"not_checked_here": [{"promise": "1: history", "tests": "tests/test_store.py"}]},
        "explored": 12345, "covered": ("a", "b"), "uncovered": (), "seconds": 1.5,
    }  # fmt: skip
    return SimpleNamespace(**{**found, **changes})


def test_a_broken_promise_is_told_as_a_timeline_and_marks_its_clauses() -> None:
    shown = page(Policy(), verifications=[a_verification()])
    assert "1 of 2 broken" in shown and "12,345" in shown
    assert "too early" in shown and "10 Feb 2026, 06:00 UTC" in shown
    assert "1: history" in shown and shown.count('class="life"') == 1
    both = page(Policy(), candidate=CANDIDATE, verifications=[a_verification(), a_verification()])
    assert both.count('class="life"') == 2 and "Candidate: " in both
    assert 'id="promise-11"' in shown and '<a href="#promise-11">11</a> <strong class="bad">broken</strong>' in shown


def test_what_verify_finds_is_on_the_page_promise_by_promise() -> None:
    found = verify(Policy(), depth=0)
    shown = page(Policy(), verifications=[found])
    assert f"all {len(found.promises)} hold" in shown
    for promise in found.promises:
        assert str(escape(promise.text)) in shown and f">{promise.name}<" in shown


def test_without_proofs_the_page_says_so(text: str) -> None:
    assert "were not verified" in text and 'href="#promise-' not in text


def test_a_candidate_s_differences_are_tables_that_leave_out_what_stays() -> None:
    later = replace(Policy(), deletion_after=timedelta(days=45), company_cancellation=CompanyCancellation.APPROVAL)
    ways, timers, calendar = differences(compare(Policy(), later))
    assert ways.heads[0] == "What" and {row[-1] for row in ways.rows} == {"newly", "no more"}
    assert [row[0] for row in timers.rows if "45 days" in row[2]] == [Event.DELETE_CONTENT.text]
    assert Event.EXPIRE_TRIAL.text not in calendar.heads
    cells = dict(
        zip(calendar.heads, next(row for row in calendar.rows if row[0] == "trial, not upgraded"), strict=True)
    )
    assert cells[Event.DELETE_CONTENT.text] == "day 90 → never", "which waits for an admin now"
    assert list(differences(compare(Policy(), Policy()))) == []


def test_an_impact_is_told_with_the_columns_that_say_something() -> None:
    moved = TimerImpact(State.TRIAL, Event.DELETE_CONTENT, Step.REMIND, 0, 3, 0, 0, 1)
    still = TimerImpact(State.TRIAL, Event.PURGE_BACKUPS, Step.FIRE, 0, 0, 0, 0, 4)
    losses = (Loss("content", 30, 9, 7, 2, 0),)
    found = Impact(START, "old", "new", (moved, still), losses, 1200, 0.1)
    lost, timers = reached(found)
    assert "1,200 accounts" in lost.caption and lost.rows == (("content", 30, 9, 7, 0, 2),)
    assert timers.heads[2:] == ("Later", "As before")
    assert timers.rows == ((State.TRIAL, f"Notice: {Effect.REMIND_DELETION.text}", 3, 1),)
    assert len(list(reached(replace(found, timers=(still,))))) == 1


# --- What it must not do -------------------------------------------------------------------------


def test_whatever_is_shown_is_escaped_and_data_can_not_leave_its_element(monkeypatch: pytest.MonkeyPatch) -> None:
    example = Example(HOSTILE, Plan.FREE, "2027-01-01")
    monkeypatch.setattr("lifecycle.review.page.EXAMPLES", (example,))
    shown = page(
        Policy(),
        source=HOSTILE,
        verifications=[a_verification()],
        impact=Impact(START, HOSTILE, HOSTILE, (), (Loss(HOSTILE, 7, 1, 1, 0, 0),), 1, 0.1),
    )
    found = Elements(shown)
    tags = [tag for tag, _ in found.found]
    assert "img" not in tags and tags.count("script") == 4 and "\u2028" not in found.inside[1][1]
    assert not any("onerror" in attributes for _, attributes in found.found)
    (data,) = (json.loads(inside) for _, inside in found.inside if inside.startswith("{"))
    assert [one["name"] for one in data["examples"]] == [HOSTILE]


def test_the_page_s_own_policy_allows_its_style_and_scripts_and_nothing_else(elements: Elements) -> None:
    (csp,) = (a["content"] for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    assert csp is not None and csp.startswith("default-src 'none'; ") and "unsafe" not in csp
    for kind, inside in elements.inside:
        if not inside.startswith("{"):  # the data is no script
            digest = b64encode(sha256(inside.encode()).digest()).decode()
            assert f"{kind}-src" in csp and f"'sha256-{digest}'" in csp
    assert not any("style" in a or any(name.startswith("on") for name in a) for _, a in elements.found)


def test_the_page_refers_to_nothing_outside_itself(text: str, elements: Elements) -> None:
    for _, attributes in elements.found:
        for name in ("src", "href", "action", "data", "poster", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in text and not re.search(r"url\(", text)


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(elements: Elements) -> None:
    ids = [a["id"] for _, a in elements.found if "id" in a]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for tag, a in elements.found if tag == "a"} <= set(ids)


def test_colours_of_a_dark_page_exchange_light_and_dark() -> None:
    assert dict(night(["#ffffff", "#000000"])) == {"#ffffff": "#1a1a1a", "#000000": "#f0f0f0"}


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fails(name: str, *args: Any, **more: Any) -> Any:
        if name == "lifecycle.review.page":
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(InvalidInput, match=r"account-lifecycle\[review\]"):
        write(tmp_path / "page.html", Policy())


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_proved(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="can't be written"):
        write(tmp_path / "no" / "page.html", Policy(), on_progress=lambda more: pytest.fail("proved for nothing"))


# --- Accounts ------------------------------------------------------------------------------------


@pytest.fixture
def populated(engine: Engine, clock: Any) -> Iterator[Engine]:
    """Accounts on every plan, some cancelled, some held, some overdue."""
    for number in range(16):
        plan = ("trial", "free", "paid")[number % 3]
        period = clock.now() + timedelta(days=3 + number) if plan == "paid" else None
        engine.open_account(
            f"secret{number}", company="Secret Ltd", owners=["ann@acme.test"], plan=plan, period_ends_at=period
        )
        clock.set(clock.now() + timedelta(hours=30))
        if number % 4 == 0:
            engine.fire(f"secret{number}", "cancel", actor=ANN)
        if number % 8 == 0:
            engine.place_hold(f"secret{number}", actor=Actor.admin("root"), reason="court order")
    clock.set(START + timedelta(days=26))
    for _ in range(2):
        engine.sweep()
        engine.deliver()
    clock.set(START + timedelta(days=29))  # what falls due from here on is overdue
    yield engine


def test_the_forecast_counts_every_account_with_what_comes_next(populated: Engine) -> None:
    found = standing(populated)
    assert dict(found.counts) == populated.summary() and found.total == 16
    now = found.at
    assert len(found.spans) == WEEKS + 1
    counted: dict[tuple[str, State, int], int] = {}
    for one in populated.accounts():
        if one.due_at is None or one.due_at >= now + timedelta(weeks=WEEKS):
            continue
        decision = tick(one, max(now, one.due_at), populated.policy)
        if decision is None or decision.step is None:
            continue  # the lazy timer of inactivity
        (row,) = (row for row in TIMERS if row.event is decision.event)
        words = {
            Step.FIRE: row.event.text,
            Step.REMIND: f"Notice: {row.timer and row.timer.notice and row.timer.notice.effect.text}",
            Step.REQUEST: f"Asked for: {row.timer and row.timer.confirmation and row.timer.confirmation.effect.text}",
        }[decision.step]
        span = 0 if one.due_at < now else 1 + (one.due_at - now) // timedelta(weeks=1)
        key = (words, one.state, span)
        counted[key] = counted.get(key, 0) + 1
    shown = {(line.what, line.state, span): n for line in found.steps for span, n in enumerate(line.counts) if n}
    assert shown == counted and len(counted) > 3
    assert any(span == 0 for _, _, span in counted)


def test_the_forecast_counts_the_dates_that_were_promised(populated: Engine) -> None:
    access, deletion, purge = standing(populated).dates
    accounts = list(populated.accounts())
    horizon = populated.clock.now() + timedelta(weeks=WEEKS)
    pending = [one for one in accounts if one.state is State.CANCEL_PENDING and one.access_ends_at < horizon]
    assert sum(access.counts) == len(pending)
    held = [one for one in accounts if one.legal_holds]
    free = [one for one in accounts if one.cancelled_at is not None and one not in held]
    assert held and free
    assert sum(deletion.counts) == sum(one.delete_content_at < horizon for one in free)
    assert sum(purge.counts) == sum(one.purge_backups_by < horizon for one in free if one.state is not State.PURGED)


def test_a_page_about_a_database_names_nobody(populated: Engine, tmp_path: Path) -> None:
    write(tmp_path / "page.html", populated.policy, engine=populated, candidate=CANDIDATE, prove=False)
    shown = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "16 accounts" in shown
    for table in ("When it happens", "loses access or content", "at another time"):  # compared and foretold
        assert table in shown
    assert not re.search(r"secret|acme|ann@|court order", shown, re.IGNORECASE)


# --- The definition that the page reads ----------------------------------------------------------


def test_a_function_of_the_definition_must_be_said_to_stand_for_something(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = next(one for one in ASSUMED if isinstance(one, Guard))
    monkeypatch.setattr("lifecycle.review.tables.ASSUMED", {k: v for k, v in ASSUMED.items() if k is not guard})
    with pytest.raises(DefinitionError, match="say in ASSUMED"):
        definition()


def test_the_exported_definition_is_plain_data_and_terms_stand_after_their_parts() -> None:
    exported = json.loads(json.dumps(definition()))
    for number, (op, *args) in enumerate(exported["terms"]):
        assert op in ("literal", "field") or all(arg < number for arg in args)
    assert json.loads(json.dumps(settings(Policy())))["deletion_after"] == 30 * 86_400_000_000


@pytest.mark.parametrize("number", range(len(POLICIES)))
def test_lives_by_single_decisions_are_those_that_an_engine_writes_down(number: int) -> None:
    asked = list(scenarios(4 * SOAK, seed=100 + number, whole_days=True))
    found = lived_by_an_engine(asked, POLICIES[number])
    for name, scenario in enumerate(asked):
        lived = [entry[:5] for entry in Life(scenario, POLICIES[number]).entries if entry[2] != "refused"]
        assert lived == found[str(name)], scenario


# --- The command line ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIFECYCLE_DATABASE_URL", raising=False)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["review", "--no-proofs", *arguments])


def test_the_command_writes_one_file_with_or_without_a_database(folder: Path) -> None:
    (folder / "longer.toml").write_text('[policy]\ndeletion_after = "45 days"\npurge_after = "75 days"\n')
    result = run("--candidate", "longer.toml", "-o", "page.html")
    assert result.exit_code == 0 and "the default policy" in result.output
    shown = (folder / "page.html").read_text(encoding="utf-8")
    assert CANDIDATE.version in shown and "without a database" in shown
    assert [path.name for path in folder.iterdir() if path.suffix == ".html"] == ["page.html"]
    CliRunner().invoke(app, ["init"])
    assert run("-o", "page.html").exit_code == 0
    assert "0 accounts" in (folder / "page.html").read_text(encoding="utf-8")


def test_a_bad_candidate_and_a_database_that_is_not_there_are_refused(folder: Path) -> None:
    (folder / "bad.toml").write_text('deletion_aftr = "45 days"\n')
    refused = run("--candidate", "bad.toml")
    assert refused.exit_code == 2 and "did you mean deletion_after" in refused.output
    assert run("--database", "sqlite:///none.db").exit_code == 3
    assert not list(folder.glob("*.html"))
