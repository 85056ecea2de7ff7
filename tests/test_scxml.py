"""An independent library reads the SCXML, finds the whole definition in it, and decides as the machine does."""

import random
import xml.etree.ElementTree as ElementTree
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from statemachine import StateChart
from statemachine.io.scxml.processor import SCXMLProcessor

from lifecycle.actor import SYSTEM, Actor, Request
from lifecycle.diagrams import pictures, render, to_scxml
from lifecycle.diagrams.scxml import DEADLINE_REACHED, OURS, SCXML, guard_id
from lifecycle.errors import InvalidInput, Refused
from lifecycle.machine import TIMERS, TRANSITIONS, decide, tick
from lifecycle.policy import Policy
from lifecycle.rows import timer_of
from lifecycle.states import FINAL, Event, State, Step
from lifecycle.terms import holds
from tests.builders import ADMIN, ANN, BILLING, COMPANY, NOW, OWNER, SUPPORT, armed, changed, days, delivered, trial

POLICY = Policy()
GUARDS = {guard for row in TRANSITIONS for guard in row.conditions()}
#: Events that a handler's receipt fires.
DESTROYS = {row.event for row in TIMERS if timer_of(row).confirmation is not None}
WALKS, STEPS = 40, 50
#: What the elements of SCXML 1.0 that we use may hold (section 3 of the Recommendation).
ATTRIBUTES = {
    "scxml": {"version", "datamodel", "name", "initial"},
    "state": {"id"},
    "final": {"id"},
    "transition": {"event", "cond", "target"},
}


def read(text: str) -> SCXMLProcessor:
    processor = SCXMLProcessor()
    processor.parse_scxml("lifecycle", text)
    return processor


def loaded(text: str) -> StateChart:
    return read(text).start()


def sources_of(subject: Any, asked: Request, at: Any) -> dict[str, Any]:
    return {"account": subject, "request": asked, "now": at, "policy": POLICY}


def data_of(event: str, sources: dict[str, Any]) -> dict[str, Any]:
    """What an event tells a state chart: who asks, which guards hold, and whether its timer's time has come."""
    timers = [timer_of(row) for row in TIMERS if row.event == event]
    reached = any(holds(timer.reached, sources) for timer in timers)
    answers = {guard_id(guard): guard(sources) for guard in GUARDS}
    return {"role": str(sources["request"].role), DEADLINE_REACHED: reached, **answers}


def state_of(chart: StateChart) -> str:
    (state,) = chart.configuration_values
    return str(state)


# --- The whole definition ------------------------------------------------------------------------


def test_the_library_finds_every_state_every_transition_and_the_end() -> None:
    chart = loaded(to_scxml("lifecycle", POLICY))
    assert [state.id for state in chart.states] == list(State)
    assert [state.id for state in chart.states if state.final] == [FINAL]
    found = [
        (state.id, one.event, (one.target or state).id)  # without a target the state stays
        for state in chart.states
        for one in state.transitions
    ]
    wanted = [(source, row.event, row.enters(source)) for row in TRANSITIONS for source in row.sources]
    assert sorted(found) == sorted(wanted)


def test_transitions_stand_in_the_order_in_which_rows_are_tried() -> None:
    root = ElementTree.fromstring(to_scxml("lifecycle", POLICY))
    for state in root.findall(f"{{{SCXML}}}state"):
        rows = [row for row in TRANSITIONS if state.get("id") in row.sources]
        assert [one.get("event") for one in state] == [row.event for row in rows]
        assert [one.get("target") for one in state] == [row.dest for row in rows]


@pytest.mark.parametrize("name", pictures())
def test_a_document_holds_what_scxml_allows_and_the_rest_in_a_namespace_of_its_own(name: str) -> None:
    root = ElementTree.fromstring(to_scxml(name, POLICY))
    ids = {element.get("id") for element in root if element.tag in (f"{{{SCXML}}}state", f"{{{SCXML}}}final")}
    assert root.get("initial") in ids
    for element in root.iter():
        namespace, _, tag = element.tag.removeprefix("{").partition("}")
        assert namespace in (SCXML, OURS)
        if namespace == SCXML:
            own = {key for key in element.keys() if not key.startswith(f"{{{OURS}}}")}  # noqa: SIM118 - no mapping
            assert own <= ATTRIBUTES[tag]
        if tag == "transition":
            assert element.get("target") in {None, *ids}


def test_clauses_deadlines_and_the_policy_can_be_read() -> None:
    root = ElementTree.fromstring(to_scxml("way-out", Policy(deletion_after="45 days")))
    policy = root.find(f"{{{OURS}}}policy")
    assert policy is not None
    assert policy.get("deletion_after") == "45 days"
    (deletion,) = root.findall(f".//*[@event='{Event.DELETE_CONTENT}']")
    assert deletion.get(f"{{{OURS}}}when") == "45 days after the cancellation, not before the end of access"
    assert deletion.get(f"{{{OURS}}}clauses", "").split()[0] == "delete-30"
    assert deletion.get(f"{{{OURS}}}irreversible") == "true"


def test_guards_have_ids_of_their_own_and_a_sentence() -> None:
    assert len({guard_id(guard) for guard in GUARDS}) == len(GUARDS)
    assert all(guard_id(guard).isidentifier() for guard in GUARDS)
    root = ElementTree.fromstring(to_scxml("lifecycle", POLICY))
    assert {one.get("id"): one.get("refusal") for one in root.findall(f"{{{OURS}}}guard")} == {
        guard_id(guard): guard.sentence for guard in GUARDS
    }


def test_an_unknown_guard_and_a_missing_role_move_nothing() -> None:
    chart = loaded(to_scxml("lifecycle", POLICY))
    chart.send(Event.CANCEL)
    chart.send(Event.CANCEL, role="owner")
    chart.send("abolish", role="owner")
    assert state_of(chart) == State.TRIAL


# --- The same decisions --------------------------------------------------------------------------


def a_request(chance: random.Random, state: State) -> tuple[str, Request]:
    """An event that somebody asks for, with facts that fit now and then."""
    event = chance.choice([row.event for row in TRANSITIONS if state in row.sources])
    actor = chance.choice((OWNER, ADMIN, BILLING, SUPPORT, SYSTEM, Actor.owner("eve@evil.test")))
    actor = SYSTEM if event in DESTROYS else actor
    facts: dict[str, Any] = {"reason": "because"} if chance.random() < 0.9 else {}
    if chance.random() < 0.9 and actor is not SYSTEM:
        facts |= {"company": COMPANY, "email": ANN}
    if actor == BILLING or chance.random() < 0.2:
        facts["period_ends_at"] = "now"
    if actor is SYSTEM:
        facts["receipt"] = "done"
    return event, Request(actor, **facts)


def test_random_lives_take_the_same_turns_in_the_library_as_in_the_machine() -> None:
    """Each life is asked for random things at random times; timers fire, notices and receipts arrive."""
    reader, chance, taken = read(to_scxml("lifecycle", POLICY)), random.Random(7), set()
    for _ in range(WALKS):
        chart, now = reader.start(), NOW
        subject = armed(trial())
        for _ in range(STEPS):
            now += timedelta(days=chance.choice((0, 0, 1, 5, 20)))
            subject = swept_beside(chart, subject, now, taken)
            event, asked = a_request(chance, subject.state)
            if asked.period_ends_at is not None:
                asked = Request(asked.actor, reason=asked.reason, period_ends_at=now + days(30))
            sources = sources_of(subject, asked, now)
            chart.send(event, **data_of(event, sources))
            try:
                decision = decide(subject, event, asked, now, POLICY)
            except Refused:
                pass
            else:
                taken.add((event, decision.source, decision.dest))
                subject = changed(subject, decision)
            assert state_of(chart) == subject.state, (event, asked)
            if subject.state is FINAL:
                break
    wanted = {(row.event, s, row.dest) for row in TRANSITIONS for s in row.sources if row.enters(s) is not s}
    assert len(wanted & taken) > len(wanted) * 0.6, "the lives see most moves of the definition"
    assert {event for event, *_ in taken} >= DESTROYS


def swept_beside(chart: StateChart, subject: SimpleNamespace, now: Any, taken: set[Any]) -> SimpleNamespace:
    """The account after everything due, and the chart after the same timers."""
    while (decision := tick(subject, now, POLICY)) is not None:
        if decision.step is Step.FIRE:
            chart.send(decision.event, **data_of(decision.event, sources_of(subject, Request(SYSTEM), now)))
            taken.add((decision.event, decision.source, decision.dest))
        subject = changed(subject, decision)
        assert state_of(chart) == subject.state, decision.event
        if decision.step is Step.REMIND:
            subject = delivered(subject, decision.event, now)
    return subject


def test_scxml_describes_one_policy_and_no_accounts() -> None:
    with pytest.raises(InvalidInput, match="SCXML describes one policy"):
        render("lifecycle", POLICY, "scxml", old=Policy(deletion_after="45 days"))
