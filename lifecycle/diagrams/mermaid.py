"""A picture as Mermaid text (``stateDiagram-v2``); where Mermaid has no colours for arrows, words stand."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from lifecycle.diagrams.changes import Change, Said, overall
from lifecycle.diagrams.compare import FADED, changed_settings, compared
from lifecycle.diagrams.content import Line, cards, group_colours, group_of, group_title, stays
from lifecycle.diagrams.places import Picture, picture_named
from lifecycle.diagrams.text import INK, brackets, deadline_words, mermaid_text, permitted, role_words, timer_notes
from lifecycle.diagrams.weights import Counts, things
from lifecycle.policy import Clause, Policy
from lifecycle.rows import Transition
from lifecycle.states import FINAL, Entitlements, Event, State

_UNTOUCHED = "untouched"


def to_mermaid(picture: str, policy: Policy, *, old: Policy | None = None, counts: Counts | None = None) -> str:
    """The picture as a Mermaid ``stateDiagram-v2``, the same for the same definition, policies and counts.

    With an ``old`` policy only the moves that differ say more than their names; with ``counts`` states and moves have
    their numbers.
    """
    chosen = picture_named(picture)
    text = _Text(chosen, policy, old, counts)
    body = (*text.classes(), *text.states(), *text.moves(), *text.notes())
    end = [f"{FINAL} --> [*]"] if FINAL in text.shown else []
    return "\n".join(["stateDiagram-v2", *(f"    {line}" for line in (*text.comments(), *body, *end)), ""])


class _Text:
    """The lines of one picture."""

    def __init__(self, picture: Picture, policy: Policy, old: Policy | None, counts: Counts | None) -> None:
        self.picture, self.policy, self.old, self.counts = picture, policy, old, counts
        self.rows: dict[tuple[State, State], list[Transition]] = {}
        for card in cards(picture.events):
            for source, dest, row in card.moves():
                self.rows.setdefault((source, dest), []).append(row)
        self.shown = [state for state in State if any(state in pair for pair in self.rows)]

    def comments(self) -> Iterator[str]:
        version = self.policy.version if self.old is None else f"{self.old.version} → {self.policy.version}"
        yield f"%% {mermaid_text(self.picture.title)}; policy {version}"
        for name, was, value, _ in () if self.old is None else changed_settings(self.old, self.policy):
            yield f"%% {name}: {was} → {value}"

    def classes(self) -> Iterator[str]:
        for group in dict.fromkeys(map(group_of, self.shown)):
            tint, line = group_colours(group)
            yield f"classDef {_class_of(group)} fill:{tint},stroke:{line},color:{INK}"
        if self.old is not None:
            yield f"classDef {_UNTOUCHED} fill:#ffffff,stroke:{FADED},color:{FADED}"

    def states(self) -> Iterator[str]:
        for state in self.shown:
            number = "" if self.counts is None else f" · {things(self.counts.accounts.get(state, 0), 'account')}"
            words = f"{state}, {state.text} ({group_title(group_of(state))}){number}"
            yield f'state "{mermaid_text(words)}" as {state}'
            yield f"class {state} {_class_of(group_of(state)) if self._touched(state) else _UNTOUCHED}"

    def _touched(self, state: State) -> bool:
        return self.old is None or any(
            self._change(row) is not Change.SAME for pair, rows in self.rows.items() if state in pair for row in rows
        )

    def moves(self) -> Iterator[str]:
        for (source, dest), rows in self.rows.items():
            labels = [self._label(row) for row in rows]
            if self.old is not None:  # parallel rows that say nothing but their event
                labels = list(dict.fromkeys(labels))
            if self.counts is not None:
                events = dict.fromkeys(row.event for row in rows)
                labels += [self._taken(event, source, dest) for event in events]
            yield f"{source} --> {dest} : {'<br/>'.join(labels)}"

    def notes(self) -> Iterator[str]:
        for state in self.shown:
            rows = [row for row, states in stays(self.picture.events) if state in states]
            notes = [self._label(row) for row in rows if self.old is None or self._change(row) is not Change.SAME]
            if self.counts is not None:
                events = dict.fromkeys(row.event for row in rows)
                notes += [self._taken(e, state, state) for e in events if self.counts.moves.get((e, state, state))]
            if notes:
                yield f"note right of {state}"
                yield from (f"    {text}" for text in ("stays:", *notes))
                yield "end note"

    def _change(self, row: Transition) -> Change:
        if self.old is None:
            return Change.SAME
        return overall(said.change for said in _compared(row, self.old, self.policy))

    def _label(self, row: Transition) -> str:
        if self.old is None:
            return _in_one(_parts(row, self.policy))
        change = self._change(row)
        if change is Change.SAME:
            return mermaid_text(row.event)
        said = [_words(one.line) for one in _compared(row, self.old, self.policy) if one.change is not Change.SAME]
        return "<br/>".join(map(mermaid_text, (f"{change.upper()} {row.event}", *said, " ".join(row.clauses))))

    def _taken(self, event: Event, source: State, dest: State) -> str:
        assert self.counts is not None
        return mermaid_text(f"{event} {things(self.counts.moves.get((event, source, dest), 0), 'time')}")


def _compared(row: Transition, old: Policy, new: Policy) -> list[Said]:
    """What becomes of all that is said of a row."""
    before, after = (list(_parts(row, values)) for values in (old, new))
    timed = ("", "") if row.timer is None else (deadline_words(row.timer, old), deadline_words(row.timer, new))
    return compared((row,), before, after, timed, old, new)


def _parts(row: Transition, values: Policy) -> Iterator[Line]:
    """All that is said of a row: event, deadline, who, guards, clauses."""
    yield Line(f"IRREVERSIBLE {row.event}" if Clause.IRREVERSIBLE in row.clauses else row.event)
    if row.timer is not None:
        yield Line(deadline_words(row.timer, values))
        yield from map(Line, timer_notes(row.timer, values, 200))
    for roles, guards in permitted(row, values):
        yield Line(brackets(guards), roles=roles)
    bracket = (row.bracket,) if row.bracket else ()
    yield Line(brackets((*bracket, *row.guards)))
    yield Line(" ".join(row.clauses))


def _in_one(parts: Iterable[Line]) -> str:
    """The parts in one line; those who may are alternatives."""
    together = [
        (" or " if who else " · ").join(filter(None, map(_words, some)))
        for who, some in groupby(parts, key=lambda part: bool(part.roles))
    ]
    return mermaid_text(" · ".join(filter(None, together)))


def _words(line: Line) -> str:
    return line.mark + " ".join(filter(None, (role_words(line.roles), line.text)))


def _class_of(group: Entitlements) -> str:
    return group_title(group).replace(" ", "_").lower()
