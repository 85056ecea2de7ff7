"""A simulation lives by the real definition, says the same every time, and treats two policies alike."""

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lifecycle import Actor, Engine, Event, InvalidInput, ManualClock, Policy, PolicyError, Refused, Safety, State
from lifecycle.actor import Request
from lifecycle.cli import app
from lifecycle.histories import Life, check_promises, lives
from lifecycle.reads import Snapshot
from lifecycle.simulate import simulate
from lifecycle.simulate.crowd import Deed, fire_all
from lifecycle.simulate.customers import Kind, customers, wishes
from lifecycle.simulate.plots import STATES, _apart, write_plots
from lifecycle.simulate.results import DESTROYING, Outcome, Stays, write_csv
from lifecycle.simulate.scenario import Scenario, as_toml, read_scenario
from lifecycle.states import Step

pytestmark = pytest.mark.xdist_group("simulate")  # one worker, so that each population is lived through once

_CALM = read_scenario(accounts=80, years=0.3)
#: Many cancel, and many of them want to come back: a few months show whole lives.
BUSY = replace(
    _CALM,
    arrivals=replace(_CALM.arrivals, at_start=0.6),
    cancellations=replace(_CALM.cancellations, paid=0.4, free=0.4, others=0.3, comeback=0.4),
    trials=replace(_CALM.trials, upgrade=0.2),
)
BRIEF = read_scenario(accounts=15, years=0.06)
SLOWER = Policy(deletion_after="45 days", purge_after="90 days")  # type: ignore[arg-type]
TIGHT = Safety(accounts_per_hour=1, share_per_hour=0, accounts_per_day=1, share_per_day=0)


@pytest.fixture(scope="module")
def url_kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('simulation')}/kept.db"


@pytest.fixture(scope="module")
def usual(url_kept: str) -> Outcome:
    return simulate(BUSY, Policy(), name="usual", database=url_kept)


@pytest.fixture(scope="module")
def lived(url_kept: str, usual: Outcome) -> list[Life]:
    """The lives behind ``usual``."""
    return found(url_kept)


def found(url: str) -> list[Life]:
    with closing(Engine(url)) as engine:
        return list(lives(engine))


@pytest.fixture(scope="module")
def slower(url_kept: str) -> Outcome:
    return simulate(BUSY, SLOWER, name="slower", database=url_kept.replace("kept", "slower"))


@pytest.fixture(scope="module")
def braked() -> Outcome:
    return simulate(BUSY, Policy(), name="braked", safety=TIGHT)


def tables(folder: Path, *outcomes: Outcome) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    return {path.name: path.read_bytes() for path in write_csv(folder, outcomes)}


# --- The same every time -------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(usual: Outcome, tmp_path: Path) -> None:
    again = simulate(BUSY, Policy(), name="usual")  # in memory this time
    assert tables(tmp_path / "first", usual) == tables(tmp_path / "second", again)
    other = replace(BRIEF, population=replace(BRIEF.population, seed=7))
    first, second = (tables(tmp_path / str(n), simulate(one, Policy())) for n, one in enumerate((BRIEF, other)))
    assert first["accounts.csv"] != second["accounts.csv"]


@pytest.mark.empty
def test_both_databases_come_to_the_same(url: str, tmp_path: Path) -> None:
    kept = simulate(BRIEF, Policy(), database=url)
    assert tables(tmp_path / "kept", kept) == tables(tmp_path / "memory", simulate(BRIEF, Policy()))


def test_a_customer_wants_the_same_whoever_else_there_is() -> None:
    few, many = read_scenario(accounts=10), read_scenario(accounts=50)
    among = {one.number: one for one in customers(many)}
    for one in customers(few):
        assert among[one.number] == one
        assert list(wishes(few, one)) == list(wishes(many, one))


# --- By the real definition ----------------------------------------------------------------------


def test_every_promise_is_put_to_the_test_and_kept(usual: Outcome) -> None:
    assert usual.kept
    assert all(promise.tested > 3 for promise in usual.promises)
    assert usual.opened == 80 == sum(usual.days[-1].states.values())


def test_the_days_add_up_to_what_the_histories_say(usual: Outcome, lived: list[Life]) -> None:
    moves = Counter((e.event, e.step) for life in lived for e in life.entries)
    for event in DESTROYING.values():
        assert sum(day.requested.get(event, 0) for day in usual.days) == moves[event, Step.REQUEST] > 0
    assert usual.granted[Kind.COME_BACK] == moves[Event.REACTIVATE, Step.FIRE] > 0
    assert usual.granted[Kind.CANCEL] == moves[Event.CANCEL, Step.FIRE]
    assert usual.days[-1].states == {**dict.fromkeys(State, 0), **Counter(life.account.state for life in lived)}
    stays = sum(sum((*one.ended.values(), *one.lasting.values())) for one in usual.stays.values())
    assert stays == sum(len([*life.stays(usual.days[-1].at)]) for life in lived)


def test_many_requests_at_once_come_to_what_each_comes_to_alone(engine: Engine, clock: ManualClock) -> None:
    owner, admin = Actor.owner("ann@acme.test"), Actor.admin("root")
    facts: dict[str, Any] = {"company": "Acme Ltd", "owners": ["ann@acme.test"]}
    asked = {
        "cancels": Deed(Event.CANCEL, Request(owner)),
        "held": Deed(Event.PLACE_HOLD, Request(admin, reason="court order", case="a")),
        "stranger": Deed(Event.CANCEL, Request(Actor.owner("eve@acme.test"))),
        "suspended": Deed(Event.SUSPEND, Request(admin, reason="spam")),
        "nothing": None,
    }
    for name in asked:
        engine.open_account(f"{name}-1", **facts)
        engine.open_account(f"{name}-2", **facts)
    clock.set(clock.now() + timedelta(days=3))
    answers = {
        one.account_id: one for one in fire_all(engine, sorted(f"{n}-1" for n in asked), lambda s: asked[s.id[:-2]])
    }
    assert answers["stranger-1"].decision is None and answers["nothing-1"].deed is None
    for name, deed in asked.items():
        if deed is not None:
            said = {key: getattr(deed.asked, key) for key in ("case",) if getattr(deed.asked, key)}
            try:
                engine.fire(f"{name}-2", deed.event, actor=deed.asked.actor, reason=deed.asked.reason, **said)
            except Refused:
                assert answers[f"{name}-1"].decision is None
        together, alone = (engine.get(f"{name}-{n}").as_dict() | {"id": None} for n in (1, 2))
        assert together == alone
        one, two = ([replace(e, account_id="") for e in engine.history(f"{name}-{n}")] for n in (1, 2))
        assert one == two
        assert [h["case"] for h in engine.holds(f"{name}-1")] == [h["case"] for h in engine.holds(f"{name}-2")]


def test_a_hold_among_many_requests_withdraws_what_nobody_has_claimed(engine: Engine, clock: ManualClock) -> None:
    names = ["alone", "together"]
    for name in names:
        engine.open_account(name, company="Acme Ltd", owners=["ann@acme.test"], plan="free")
        engine.fire(name, Event.CANCEL, actor=Actor.owner("ann@acme.test"))
    engine.run_until(clock.now() + timedelta(days=29))
    clock.set(clock.now() + timedelta(days=1))
    engine.sweep()  # asks for the erasure, which nobody delivers
    assert all(engine.get(name).erasure_requested_at for name in names)
    admin = Actor.admin("root")
    engine.place_hold("alone", actor=admin, reason="court order")
    held = Deed(Event.PLACE_HOLD, Request(admin, reason="court order"))
    assert [one.decision is not None for one in fire_all(engine, ["together"], lambda _: held)] == [True]
    assert [engine.get(name).erasure_requested_at for name in names] == [None, None]
    assert engine.outbox_counts()["withdrawn"] == 2


def test_the_brake_holds_back_what_is_too_much_and_what_comes_late_is_said(braked: Outcome) -> None:
    assert all(day.limit == 1 and sum(day.requested.values()) <= 1 for day in braked.days)
    assert braked.braked_days > 0 and max(day.waiting for day in braked.days) > 1
    broken = [promise.sentence for promise in braked.promises if promise.broken]
    assert broken == ["Backups were purged by the promised date"] and not braked.kept


def test_what_would_break_a_promise_is_told(usual: Outcome, lived: list[Life]) -> None:
    def broken(life: Life) -> list[str]:
        promises = check_promises([life], Policy(), usual.days[-1].at)
        return [promise.sentence.split()[0] for promise in promises if promise.broken]

    life = next(one for one in lived if one.account.state is State.PURGED)
    assert broken(life) == []
    account, day = life.account, timedelta(days=1)
    columns = account.as_dict()
    for wrong, first_word in (
        ({"content_deleted_at": account.cancelled_at + 29 * day}, "Content"),
        ({"purged_at": account.purge_backups_by + day}, "Backups"),
        ({"purged_at": None}, "Backups"),
    ):
        assert broken(Life(Snapshot({**columns, **wrong}), life.entries)) == [first_word]
    assert broken(Life(account, life.entries[1:])) == ["Every"]
    unannounced = [entry for entry in life.entries if entry.step != Step.NOTICE]
    assert "Each" in broken(Life(account, unannounced))


# --- Two policies --------------------------------------------------------------------------------


def test_two_policies_meet_the_same_people(lived: list[Life], slower: Outcome, url_kept: str) -> None:
    others = found(url_kept.replace("kept", "slower"))
    for one, other in zip(lived, others, strict=True):
        differ = [e.at for life in (one, other) for e in life.entries if e.event == Event.DELETE_CONTENT]
        until = min(differ, default=datetime.max.replace(tzinfo=UTC))
        before, after = (
            [(e.event, e.step, e.at, e.actor) for e in life.entries if e.at < until] for life in (one, other)
        )
        assert before == after


def test_a_longer_wait_before_deletion_is_seen_in_the_stays_and_in_the_load(usual: Outcome, slower: Outcome) -> None:
    assert usual.stays[State.ACCESS_REVOKED].quantile(0.9) == 30
    assert slower.stays[State.ACCESS_REVOKED].quantile(0.9) == 45
    first = [next(day.at for day in one.days if day.requested) for one in (usual, slower)]
    assert first[0] < first[1]


def test_who_comes_back_after_the_deletion_is_refused_and_counted(usual: Outcome, slower: Outcome) -> None:
    assert usual.refused[Kind.COME_BACK] > slower.refused[Kind.COME_BACK]
    assert usual.granted[Kind.COME_BACK] < slower.granted[Kind.COME_BACK]


# --- Scenarios -----------------------------------------------------------------------------------


def test_a_printed_scenario_is_read_as_what_it_was(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(as_toml(_CALM))
    assert read_scenario(file) == _CALM
    assert read_scenario(file, seed=3).population.seed == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[arivals]", "did you mean arrivals?"),
        ("[arrivals]\nat_strat = 0.1", "did you mean at_start?"),
        ("[payments]\nfailure = 1.5", "payments.failure must be a part"),
        ("[payments]\nwithin = 40", "payments.within must be a duration"),
        ("[population]\naccounts = 0", "population.accounts must be a whole number between 1 and 1,000,000"),
        ("[population]\nyears = 21", "population.years must be a number above 0 and up to 20"),
        ('[population]\nstart = "soon"', "population.start must be a date"),
        ("[arrivals]\nfree = 0.6\nmonthly = 0.5", "add up to 1.15"),
        ("[trials", "is not TOML"),
    ],
)
def test_a_malformed_scenario_is_refused_with_the_name_of_the_setting(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    with pytest.raises((InvalidInput, PolicyError)) as refusal:
        read_scenario(file)
    assert says in str(refusal.value)


def test_the_scenario_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "simulate.md").read_text()
    (block,) = (text for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[population]" in text)
    file = tmp_path / "scenario.toml"
    file.write_text(block)
    assert read_scenario(file).population.years == 5.0


def test_a_missing_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="can't be read"):
        read_scenario(Path("nowhere.toml"))


def test_nobody_comes_who_is_not_wanted() -> None:
    paid = Scenario(arrivals=replace(_CALM.arrivals, at_start=0.0, free=0.0, monthly=1.0, annual=0.0))
    assert {one.plan for one in customers(replace(paid, population=_CALM.population))} == {"paid"}
    assert {one.plan for one in customers(_CALM) if one.arrives == 0} == {"paid", "free"}
    calm = replace(_CALM, cancellations=replace(_CALM.cancellations, paid=0.0, free=0.0, others=0.0))
    assert not [wish for one in customers(calm) for wish in wishes(calm, one) if wish.kind is Kind.CANCEL]


# --- Figures and pictures ------------------------------------------------------------------------


def test_a_quantile_is_the_day_by_which_that_part_was_over() -> None:
    stays = Stays({0: 1, 10: 2, 30: 1}, {5: 9})
    assert [stays.quantile(part) for part in (0.25, 0.5, 0.75, 1.0)] == [0, 10, 10, 30]
    assert Stays({}, {}).quantile(0.5) is None


def test_the_tables_are_tidy(usual: Outcome, tmp_path: Path) -> None:
    tables(tmp_path, usual)
    rows = list(csv.DictReader((tmp_path / "accounts.csv").open()))
    assert len(rows) == BUSY.days * len(State)
    assert rows[0] == {"policy": "usual", "date": "2026-01-01", "state": "trial", "accounts": rows[0]["accounts"]}
    load = list(csv.DictReader((tmp_path / "load.csv").open()))
    assert [*load[0]] == ["policy", "date", "delete_content", "purge_backups", "limit", "waiting"]
    assert {row["limit"] for row in load} == {"50"}


def test_pictures_of_two_policies_name_both_and_are_the_same_every_time(
    usual: Outcome, slower: Outcome, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        written = write_plots(folder, [usual, slower])
        assert {path.name for path in written} == {
            f"{name}.{kind}" for name in ("accounts", "load", "stays") for kind in ("png", "svg")
        }
    for path in written:
        assert path.read_bytes() == (first / path.name).read_bytes()
    for name in ("accounts", "load", "stays"):
        said = (first / f"{name}.svg").read_text()
        assert "usual -->" in said and "slower -->" in said
    assert all(f"<!-- {state} " in (first / "accounts.svg").read_text() for state in State)
    assert "held back" not in (first / "load.svg").read_text()


def test_what_the_brake_holds_back_has_a_panel_of_its_own(usual: Outcome, braked: Outcome, tmp_path: Path) -> None:
    write_plots(tmp_path, [usual, braked])
    assert (tmp_path / "load.svg").read_text().count("held back by the brake -->") == 2


@pytest.mark.filterwarnings("error")
def test_a_single_day_is_drawn_without_a_complaint(usual: Outcome, tmp_path: Path) -> None:
    assert write_plots(tmp_path, [replace(usual, days=usual.days[:1])])


def test_every_state_has_a_colour_and_labels_keep_apart() -> None:
    assert set(STATES) == set(State) and len(set(STATES.values())) == len(State)
    places = _apart([0.5, 0.5, 0.51, 0.99, 1.0])
    assert places == sorted(places) and places[-1] <= 1.0
    assert all(later - earlier > 0.06 for earlier, later in pairwise(places))


# --- The command ---------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", "sqlite:///in-use.db")
    yield tmp_path


def run(*arguments: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(app, ("simulate", *arguments), prog_name="lifecycle")
    assert result.exit_code == expect, result.output
    return result


QUICK = ("--accounts", "20", "--years", "0.05")


def test_the_command_compares_two_policies_and_leaves_the_environments_database_alone(here: Path) -> None:
    (here / "now.toml").write_text("")
    (here / "candidate.toml").write_text('[policy]\ndeletion_after = "45 days"')
    said = run(*QUICK, "--policy", "now.toml", "--policy", "candidate.toml", "-o", "out").stdout
    assert "now  candidate" in said and "Was anybody harmed under candidate?" in said
    assert not (here / "in-use.db").exists()
    policies = {row["policy"] for row in csv.DictReader((here / "out" / "stays.csv").open())}
    assert policies == {"now", "candidate"}
    again = read_scenario(here / "out" / "scenario.toml")
    assert (again.population.accounts, again.days) == (20, 18)


def test_json_is_all_that_is_printed(here: Path) -> None:
    found = json.loads(run(*QUICK, "--json").stdout)
    (outcome,) = found["outcomes"]
    assert outcome["accounts"] == 20 and outcome["kept"] is True
    assert set(found["files"]) >= {"accounts.csv", "load.csv", "stays.csv", "requests.csv", "scenario.toml"}


def test_without_matplotlib_the_tables_are_there_and_it_says_what_to_install(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lifecycle.simulate.plots", None)
    result = run(*QUICK)
    assert "account-lifecycle[simulation]" in result.stderr
    assert (here / "simulation" / "accounts.csv").is_file() and not list(here.glob("simulation/*.png"))


def test_a_broken_promise_is_exit_code_1(here: Path, monkeypatch: pytest.MonkeyPatch, braked: Outcome) -> None:
    monkeypatch.setattr("lifecycle.simulate.simulate", lambda *_, **__: braked)
    assert "broken" in run(expect=1).stdout


def test_a_database_with_accounts_is_refused_and_an_empty_one_kept(here: Path) -> None:
    run(*QUICK, "--database", "sqlite:///kept.db")
    engine = Engine("sqlite:///kept.db", clock=ManualClock(datetime(2027, 1, 1, tzinfo=UTC)))
    assert sum(engine.summary().values()) == 20
    engine.close()
    assert "must be empty" in run(*QUICK, "--database", "sqlite:///kept.db", expect=2).output
    (here / "a.toml").write_text("")
    (here / "b.toml").write_text("")
    twice = ("--policy", "a.toml", "--policy", "b.toml")
    assert "keeps one policy" in run(*twice, "--database", "sqlite:///other.db", expect=2).output
    assert "Two policies" in run(*twice, "--policy", "c.toml", expect=2).output
    assert "twice" in run("--policy", "a.toml", "--policy", "a.toml", expect=2).output


def test_a_printed_scenario_begins_a_file(here: Path) -> None:
    (here / "ours.toml").write_text(run("--print-scenario", "--accounts", "5").stdout)
    assert read_scenario(here / "ours.toml").population.accounts == 5


def test_an_interrupt_leaves_nothing_behind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "deliver", stop)
    run(*QUICK, expect=130)
    assert list(here.iterdir()) == []
