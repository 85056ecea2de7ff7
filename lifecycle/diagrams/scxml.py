"""A picture as SCXML 1.0 (W3C Recommendation of 1 September 2015), for tools that read state charts.

Every row is a transition of each of its sources, in the order in which rows are tried. Conditions can be evaluated:
whoever sends an event says in its data who asks (``role``) and which guards hold, each under its id, for
example ``{role: "owner", owner_on_file: true, …}``. A timer's event is sent at its deadline, in the role of the
system; ``deadline_reached`` is true then. What SCXML has no words for stands in a namespace of our own.
"""

import re
import xml.etree.ElementTree as ElementTree

from lifecycle.diagrams.places import picture_named
from lifecycle.diagrams.text import brackets, deadline_words, permitted, printable, role_words, timer_notes
from lifecycle.guards import Guard
from lifecycle.machine import TRANSITIONS
from lifecycle.policy import Clause, Policy
from lifecycle.rows import Transition
from lifecycle.states import ENTITLEMENTS, FINAL, State

SCXML = "http://www.w3.org/2005/07/scxml"
#: The namespace of what SCXML has no words for: a name, not an address.
OURS = "urn:account-lifecycle:definition"
#: What an event's data say of its timer: its deadline is reached and its notice is over.
DEADLINE_REACHED = "deadline_reached"


def to_scxml(picture: str, policy: Policy) -> str:
    """The events of the picture as an SCXML document, the same for the same definition and policy."""
    chosen = picture_named(picture)
    rows = [row for row in TRANSITIONS if row.event in chosen.events]
    states = [state for state in State if any(state in (*row.sources, row.dest) for row in rows)]
    root = _element("scxml", xmlns=SCXML, version="1.0", name=picture, initial=states[0], datamodel="ecmascript")
    root.set("xmlns:lifecycle", OURS)
    root.append(ElementTree.Comment(f" {printable(chosen.title)}: printed from the definition "))
    root.append(_element("lifecycle:policy", version=policy.version, **policy.as_text()))
    guards = dict.fromkeys(guard for row in rows for guard in row.conditions())
    root.extend(
        _element("lifecycle:guard", id=guard_id(guard), name=guard.name, refusal=guard.sentence) for guard in guards
    )
    root.extend(_state(state, rows, policy) for state in states)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def guard_id(guard: Guard) -> str:
    """Under which name an event's data say whether the guard holds: ``"owner on file"`` → ``"owner_on_file"``."""
    return re.sub(r"\W+", "_", guard.name)


def _state(state: State, rows: list[Transition], policy: Policy) -> ElementTree.Element:
    granted = ENTITLEMENTS[state]
    has = [name for name in granted.__slots__ if getattr(granted, name)]
    found = _element("final" if state is FINAL else "state", id=state)
    found.set("lifecycle:text", printable(state.text))
    found.set("lifecycle:grants", " ".join(has))
    found.extend(_transition(row, policy) for row in rows if state in row.sources)
    return found


def _transition(row: Transition, policy: Policy) -> ElementTree.Element:
    bracket = (row.bracket,) if row.bracket else ()
    who = [f"{role_words(roles)} {brackets(guards)}".strip() for roles, guards in permitted(row, policy)]
    found = _element("transition", event=row.event, cond=_condition(row, policy), target=row.dest or "")
    said = {"by": " or ".join(who), "guards": brackets((*bracket, *row.guards))}
    if row.timer is not None:
        said["when"] = deadline_words(row.timer, policy)
        said["also"] = "; ".join(timer_notes(row.timer, policy, 200))
    said["owes"] = " ".join(owed.effect for owed in row.owes)
    said["clauses"] = " ".join(row.clauses)
    said["irreversible"] = "true" if Clause.IRREVERSIBLE in row.clauses else ""
    for name, value in said.items():
        if value:
            found.set(f"lifecycle:{name}", printable(value))
    return found


def _condition(row: Transition, policy: Policy) -> str:
    """Who may, and the guards, as an expression over the event's data."""
    ways = []
    for roles, guards in permitted(row, policy):
        asked = " || ".join(f"_event.data.role === '{role}'" for role in roles)
        ways.append(" && ".join((f"({asked})" if len(roles) > 1 else asked, *map(_holds, guards))))
    someone = " || ".join(f"({way})" for way in ways) if len(ways) > 1 else ways[0]
    needed = [guard for guard in (row.bracket, *row.guards) if guard is not None]
    timed = [f"_event.data.{DEADLINE_REACHED}"] if row.timer and row.timer.confirmation is None else []
    parts = (f"({someone})" if len(ways) > 1 else someone, *map(_holds, needed), *timed)
    return " && ".join(parts)


def _holds(guard: Guard) -> str:
    return f"_event.data.{guard_id(guard)}"


def _element(tag: str, **attributes: str) -> ElementTree.Element:
    """An element with what it says, where it says something."""
    return ElementTree.Element(tag, {name: printable(value) for name, value in attributes.items() if value})
