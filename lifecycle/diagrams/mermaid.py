"""A picture as Mermaid text (``stateDiagram-v2``)."""

from lifecycle.diagrams.content import cards, group_colours, group_of, group_title, stays
from lifecycle.diagrams.places import picture_named
from lifecycle.diagrams.text import INK, brackets, deadline_words, mermaid_text, permitted, role_words, timer_notes
from lifecycle.policy import Clause, Policy
from lifecycle.rows import Transition
from lifecycle.states import FINAL, Entitlements, State


def to_mermaid(picture: str, policy: Policy) -> str:
    """The picture as a Mermaid ``stateDiagram-v2``; where Mermaid has no colours for arrows, words stand."""
    events = picture_named(picture).events
    drawn = cards(events)
    lines = ["stateDiagram-v2", f"    %% {mermaid_text(picture_named(picture).title)}; policy {policy.version}"]
    moves = {(source, dest): [] for card in drawn for source, dest, _ in card.moves()}  # type: dict[tuple[State, State], list[str]]
    shown = [state for state in State if any(state in pair for pair in moves)]
    for group in dict.fromkeys(map(group_of, shown)):
        tint, line = group_colours(group)
        lines.append(f"    classDef {_class_of(group)} fill:{tint},stroke:{line},color:{INK}")
    for state in shown:
        words = f"{state}, {state.text} ({group_title(group_of(state))})"
        lines += [f'    state "{mermaid_text(words)}" as {state}', f"    class {state} {_class_of(group_of(state))}"]
    for card in drawn:
        for source, dest, row in card.moves():
            moves[source, dest].append(_mermaid_label(row, policy))
    lines += [f"    {source} --> {dest} : {'<br/>'.join(labels)}" for (source, dest), labels in moves.items()]
    for state in shown:
        notes = [_mermaid_label(row, policy) for row, states in stays(events) if state in states]
        if notes:
            lines += [f"    note right of {state}", *(f"        {text}" for text in ("stays:", *notes)), "    end note"]
    return "\n".join([*lines, *([f"    {FINAL} --> [*]"] if FINAL in shown else []), ""])


def _class_of(group: Entitlements) -> str:
    return group_title(group).replace(" ", "_").lower()


def _mermaid_label(row: Transition, values: Policy) -> str:
    """A row in one line: event, deadline, who, guards, clauses."""
    bracket = (row.bracket,) if row.bracket else ()
    who = [f"{role_words(roles)} {brackets(guards)}".strip() for roles, guards in permitted(row, values)]
    parts = [f"IRREVERSIBLE {row.event}" if Clause.IRREVERSIBLE in row.clauses else row.event]
    if row.timer is not None:
        parts += [deadline_words(row.timer, values), *timer_notes(row.timer, values, 200)]
    parts += [" or ".join(who), brackets((*bracket, *row.guards)), " ".join(row.clauses)]
    return mermaid_text(" · ".join(part for part in parts if part))
