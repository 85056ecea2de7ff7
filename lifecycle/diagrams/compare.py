"""A picture of two policies: what differs in colour, what stays in grey.

Lines are compared as they are worded, so that whatever a picture says is compared. Whether a deadline comes
sooner or later is not read from names of settings: :mod:`lifecycle.diagrams.shifts` evaluates its term.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache

from lifecycle.diagrams.changes import Change, Said, differences, inline, overall
from lifecycle.diagrams.content import Card, Line, card_lines, cards, group_colours, stays_lines, when_words
from lifecycle.diagrams.look import Look, Stroke
from lifecycle.diagrams.places import Picture
from lifecycle.diagrams.shifts import shift_of
from lifecycle.diagrams.text import INK, PALE, role_words, wrap
from lifecycle.policy import Policy, setting_words
from lifecycle.rows import Transition
from lifecycle.states import LIVE, Entitlements, State
from lifecycle.terms import Term, simplify

_WHOLE = 10_000  # characters: nothing is wrapped
#: Colours that stay apart without colour vision, line styles that stay apart without any.
STROKES: Mapping[Change, Stroke] = {
    Change.ADDED: Stroke("#007a5a", "solid", 2.4),
    Change.REMOVED: Stroke("#c4161c", "dotted", 2.4),
    Change.SOONER: Stroke("#b35900", "dashed", 2.8),
    Change.LATER: Stroke("#0062a8", "solid", 2.8),
    Change.CHANGED: Stroke("#93328e", "dashed", 2.0),
    Change.SAME: Stroke("#98a1aa", "solid", 1.0),
}
FADED = STROKES[Change.SAME].colour
KEPT = (
    "Dates that were stamped on an account stay as promised; clocks that still run are counted anew, "
    "with a notice of their own."
)


class Compared(Look):
    """The look of a picture that shows ``values`` beside the policy from before, ``old``."""

    room = 1.34
    legend = "What changes"

    def __init__(self, values: Policy, picture: Picture, old: Policy) -> None:
        super().__init__(values, picture)
        self.old = old
        self._said = cache(self._compare)
        self._touched = {
            state
            for card in cards(picture.events)
            if self.change(card) is not Change.SAME
            for state in (*card.sources, *card.dests)
        }

    def change(self, card: Card) -> Change:
        """What becomes of a move."""
        return overall(said.change for said in self._said(card))

    def _compare(self, card: Card) -> list[Said]:
        before, after = (card_lines(card, values, _WHOLE) for values in (self.old, self.values))
        timed = (when_words(card, self.old), when_words(card, self.values))
        return compared(card.rows, before, after, timed, self.old, self.values)

    # --- The look ---

    def title(self) -> list[Line]:
        policies = f"policy {self.old.version} → {self.values.version}"
        return [Line(f"{self.picture.title}: what changes", 17, bold=True), Line(policies, 9, PALE)]

    def state(self, state: State) -> list[Line]:
        lines = super().state(state)
        return lines if state in self._touched else [line._replace(colour=FADED, faded=True) for line in lines]

    def live(self) -> list[Line]:
        lines = super().live()
        return lines if self._touched & set(LIVE) else [line._replace(colour=FADED) for line in lines]

    def card(self, card: Card, width: int) -> list[Line]:
        head, *rest = self._said(card)
        changed = self.change(card) is not Change.SAME
        title = head.line._replace(colour=INK if changed else FADED)
        return [title, *_dressed(rest, width, PALE if changed else FADED)]

    def stays(self, shown: Iterable[str], width: int) -> list[Line]:
        before, after = (stays_lines(self.picture.events, shown, p, _WHOLE) for p in (self.old, self.values))
        return list(_dressed(differences(before, after), width, FADED, indent="      "))

    def footer(self) -> list[Line]:
        changed = list(changed_settings(self.old, self.values))
        title = "Settings that differ" if changed else "No setting differs"
        return [
            Line(title, 9, bold=True),
            *(Line(f"{name}: {was} → {value} · {doc}", 9) for name, was, value, doc in changed),
            *([Line(KEPT, 8.5, PALE)] if changed else []),
        ]

    def tint(self, group: Entitlements) -> tuple[str, str]:
        tint, line = group_colours(group)
        return lighter(tint), lighter(line)

    def state_box(self, state: State) -> dict[str, str]:
        return super().state_box(state) | ({} if state in self._touched else {"color": FADED})

    def card_box(self, card: Card) -> dict[str, str]:
        stroke = STROKES[self.change(card)]
        return super().card_box(card) | {"color": stroke.colour, "penwidth": f"{max(stroke.width - 0.8, 1):g}"}

    def arrow(self, card: Card, end: str, headed: bool) -> Stroke:
        return STROKES[self.change(card)]

    def samples(self) -> tuple[tuple[str, Stroke], ...]:
        return tuple((change.text, stroke) for change, stroke in STROKES.items())


def compared(
    rows: Sequence[Transition],
    before: Sequence[Line],
    after: Sequence[Line],
    timed: tuple[str, str],
    old: Policy,
    new: Policy,
) -> list[Said]:
    """What becomes of all that was said of some rows; ``timed`` are the words of their deadline, then and now."""
    shift = shift_of(rows[0], old, new)
    found = []
    for said in differences(before, after):
        of_deadline = shift is not None and said.line.text in (*timed, inline(*timed))
        if shift is None or not of_deadline:
            found.append(said)
            continue
        found.append(said if said.change is Change.SAME else said._replace(change=shift.change))
        if not said.line.struck:
            found.append(Said(shift.change, Line(shift.words, bold=True, mark="▸ ")))
    return found + [Said(Change.CHANGED, Line(words)) for words in moved_guards(rows, old, new)]


def _dressed(lines: Iterable[Said], width: int, same: str, indent: str = "") -> Iterator[Line]:
    """The lines in the colours of what becomes of them, wrapped; what is as before is grey (``same``)."""
    for change, line in lines:
        colour = same if change is Change.SAME else STROKES[change].colour
        lead = line.mark + role_words(line.roles)
        head, *rest = wrap(lead + _joined(line.text), width * 9 // 10 if line.bold else width)
        faded = change is Change.SAME or line.struck
        first = line._replace(text=head.removeprefix(lead), colour=colour, faded=faded)
        yield first
        texts = rest if line.bold else [text.removeprefix("· ") for text in rest]
        yield from (first._replace(text=indent + text, roles=(), mark="") for text in texts)


def _joined(text: str) -> str:
    """An old and a new value stay together when lines are wrapped."""
    return text.replace(" → ", "\0→\0")


def moved_guards(rows: Iterable[Transition], old: Policy, new: Policy) -> Iterator[str]:
    """The guards whose limit is another under the new policy: ``"[hold in time] 30 days → 45 days"``."""
    guards = dict.fromkeys(guard for row in rows for guard in row.conditions())
    for guard in guards:
        if isinstance(guard.test, Term):
            terms = [simplify(guard.test, values) for values in (old, new)]
            if all(term.op != "literal" for term in terms):  # what a policy decides is not in its picture
                was, now = map(_literals, terms)
                moved = [f"{a} → {b}" for a, b in zip(was, now, strict=False) if a != b]
                yield from [f"[{guard.name}] {', '.join(moved)}"] if moved else []


def _literals(term: Term) -> list[str]:
    return [setting_words(one.args[0]) for one in term.walk() if one.op == "literal"]


def changed_settings(old: Policy, new: Policy) -> Iterator[tuple[str, str, str, str]]:
    """The settings that differ: name, old value, new value, and what the setting means."""
    before, after = old.as_text(), new.as_text()
    for setting in fields(Policy):
        if before[setting.name] != after[setting.name]:
            yield setting.name, before[setting.name], after[setting.name], setting.metadata["doc"]


def lighter(colour: str, share: float = 0.55) -> str:
    """The colour (``#rrggbb``) with that share of white in it."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)
