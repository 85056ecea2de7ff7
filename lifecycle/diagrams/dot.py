"""A picture as DOT text that carries its own coordinates (``layout=nop2``)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from lifecycle.diagrams.content import (
    SYMBOLS,
    Card,
    Line,
    cards,
    group_of,
    group_title,
)
from lifecycle.diagrams.geometry import Box, path, spline, stretched
from lifecycle.diagrams.look import Look, Stroke
from lifecycle.diagrams.places import LIVE_BOX, Picture, Point, picture_named
from lifecycle.diagrams.text import INK, PALE, ROLES, dot_text, html_text
from lifecycle.diagrams.weights import Counts, look_of
from lifecycle.policy import Policy
from lifecycle.states import LIVE, Entitlements, State

FONT = "Helvetica,Arial,DejaVu Sans,sans-serif"


class Drawing:
    """One picture under one policy: its boxes and arrows, ready to be written."""

    def __init__(self, picture: Picture, values: Policy, look: Look | None = None) -> None:
        self.values, self.look = values, look or Look(values, picture)
        look = self.look
        if look.room > 1:
            plain = Drawing(picture, values)
            picture = stretched(picture, plain.boxes, plain.level(), look.room, look.spread)
        self.picture = picture
        self.cards = cards(picture.events)
        self.texts: dict[str, list[Line]] = {}
        self.boxes: dict[str, Box] = {}
        shown = {state for card in self.cards for state in (*card.sources, *card.dests)}
        for state in State:
            if state in picture.places or (state in shown and LIVE_BOX not in picture.places):
                self._add(state, look.state(state))
        for card in self.cards:
            self._add(card.name, look.card(card, self._characters(card.name)))
        if LIVE_BOX in picture.places:
            self._add(LIVE_BOX, look.live())
        elif picture.frame:
            self.boxes[LIVE_BOX] = Box.spanning(*picture.frame)
        if "stays" in picture.places:
            self._add("stays", look.stays(self.boxes, self._characters("stays")))
        samples = [Line(" " * 13 + text, 9) for text, _ in look.samples()]
        self._add("legend", [Line(look.legend, 9, bold=True), *samples])
        self._add("groups", [Line("Boxes", 9, bold=True), *(Line(" " * 13 + text, 9) for text, _ in SYMBOLS)])
        if footer := look.footer():
            self._add_footer(footer)

    def _place(self, name: str) -> tuple[float, float, float]:
        spare = len(self.boxes) % 6
        return self.picture.places.get(name, (100 + 180 * spare, self.picture.size[1] + 60, 160))

    def _characters(self, name: str) -> int:
        return int((self._place(name)[2] - 14) / (8.5 * 0.53))

    def _add(self, name: str, lines: list[Line]) -> None:
        x, y, width = self._place(name)
        self.texts[name] = lines
        self.boxes[name] = Box(x, y, width, 10 + sum(round(line.size * 1.3) for line in lines))

    def _add_footer(self, lines: list[Line]) -> None:
        """A box below everything else, as wide as the picture, which grows by it."""
        width, bottom = self.picture.size[0], max(box.bottom for box in self.boxes.values()) + 20
        height = 10 + sum(round(line.size * 1.3) for line in lines)
        self.texts["footer"], self.boxes["footer"] = lines, Box(width / 2, bottom + height / 2, width - 40, height)
        self.picture = replace(self.picture, size=(width, bottom + height + 10))

    def groups(self) -> dict[tuple[Entitlements, bool], Box]:
        """The rectangles around the states that grant the same, apart before and after a cancellation."""
        found: dict[tuple[Entitlements, bool], list[Box]] = {}
        for state in State:
            if state in self.boxes:
                found.setdefault((group_of(state), state in LIVE), []).append(self.boxes[state])
        for card in self.cards:  # a move within one group stands inside it
            ends = {(group_of(state), state in LIVE) for state in (*card.sources, *card.dests)}
            if len(ends) == 1 and ends <= set(found):
                found[ends.pop()].append(self.boxes[card.name])
        return {
            key: Box.spanning(
                min(box.left for box in boxes) - 14,
                min(box.top for box in boxes) - 22,
                max(box.right for box in boxes) + 14,
                max(box.bottom for box in boxes) + 12,
            )
            for key, boxes in found.items()
        }

    def arrows(self) -> Iterator[tuple[str, str, Card, list[Point], bool]]:
        """From, to, card, corners, and whether the arrow has a head."""
        for card in self.cards:
            for source in self._ends(card.sources, card):
                yield source, card.name, card, self._path(source, card.name), False
            for dest in self._ends(card.dests, card):
                yield card.name, dest, card, self._path(card.name, dest), True

    def level(self) -> Iterator[tuple[str, str]]:
        """The boxes that are joined by a horizontal arrow without a corner."""
        for start, end, _, points, _ in self.arrows():
            if (
                len(points) == 2
                and points[0][1] == points[1][1]
                and not (self.picture.frame and LIVE_BOX in (start, end))
            ):
                yield start, end

    def _ends(self, states: tuple[State, ...], card: Card) -> list[str]:
        """The boxes to draw to; all states that are not cancelled stand together in one."""
        live = [state for state in states if state in LIVE]
        whole = LIVE_BOX in self.boxes and {*card.sources, *card.dests} >= set(LIVE) and len(live) > 1
        return [LIVE_BOX, *(s for s in states if s not in LIVE)] if whole else list(states)

    def _path(self, start: str, end: str) -> list[Point]:
        return path(self.boxes[start], self.boxes[end], self.picture.corners.get((start, end), ()))


def move_id(card: Card) -> str:
    """What a move's card is called in the drawing; its arrows have this for a class."""
    return f"move-{card.name.replace('+', '-')}"


def to_dot(picture: str, policy: Policy, *, old: Policy | None = None, counts: Counts | None = None) -> str:
    """The picture as DOT text, the same for the same definition, policies and counts."""
    chosen = picture_named(picture)
    drawing = Drawing(chosen, policy, look_of(policy, chosen, old, counts))
    width, height = drawing.picture.size
    head = f'digraph {dot_text(picture)} {{\n  layout=nop2; bgcolor=white; pad=0.15; dpi=96; bb="0,0,{width},{height}";'
    defaults = f"  node [fontname={dot_text(FONT)}, fixedsize=true, shape=box, margin=0]; edge [arrowsize=0.8];"
    body = (*_backgrounds(drawing), *_box_statements(drawing), *_arrow_statements(drawing), *_samples(drawing))
    return "\n".join((head, defaults, *(f"  {statement};" for statement in body), "}", ""))


def _node(name: str, box: Box, height: float, label: str, **attributes: str) -> str:
    place = {
        "pos": f"{box.x:g},{height - box.y:g}",
        "width": f"{box.width / 72:.4f}",
        "height": f"{box.height / 72:.4f}",
    }
    pairs = ", ".join(f"{key}={dot_text(value)}" for key, value in (place | attributes).items())
    return f"{dot_text(name)} [{pairs}, label={label}]"


def _html(lines: list[Line], width: float) -> str:
    """The lines as a table: ``width`` points wide and flush left, or centred when 0."""
    look = f'width="{width:g}"' if width else ""
    align = "left" if width else "center"
    rows = "".join(
        f'<tr><td align="{align}" height="{line.size * 1.3:.0f}">{_line_html(line)}</td></tr>' for line in lines
    )
    return f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="0" {look}>{rows}</table>>'


def _line_html(line: Line) -> str:
    colours = {role: line.colour if line.faded else ROLES[role][0] for role in line.roles}
    roles = " · ".join(f'<font color="{colours[r]}"><b>{html_text(ROLES[r][2])}</b></font>' for r in line.roles)
    text = html_text(line.text)
    bold = f"<b>{text}</b>" if line.bold and text else text
    said = f"<s>{roles}{bold}</s>" if line.struck else f"{roles}{bold}"
    return f'<font point-size="{line.size:g}" color="{line.colour}">{html_text(line.mark)}{said}</font>'


def _backgrounds(drawing: Drawing) -> Iterator[str]:
    height = drawing.picture.size[1]
    title = _html(drawing.look.title(), 480)
    yield _node("title", Box(275, 26, 500, 46), height, title, shape="plaintext")
    for number, ((group, _), box) in enumerate(drawing.groups().items()):
        tint, line = drawing.look.tint(group)
        label = _html([Line(group_title(group), 8.5, INK, bold=True)], box.width - 20)
        yield _node(
            f"group {number}", box, height, label, labelloc="t", style="filled,rounded", fillcolor=tint, color=line
        )
    if drawing.picture.frame:
        label = _html([Line("Not cancelled", 10, PALE, bold=True)], 0)
        yield _node(LIVE_BOX, drawing.boxes[LIVE_BOX], height, label, labelloc="t", style="dashed,rounded", color=PALE)


def _box_statements(drawing: Drawing) -> Iterator[str]:
    height = drawing.picture.size[1]
    by_name = {card.name: card for card in drawing.cards}
    for name, lines in drawing.texts.items():
        look = {"style": "filled,rounded", "fillcolor": "white", "color": PALE}
        if name in by_name:
            look |= drawing.look.card_box(by_name[name]) | {"id": move_id(by_name[name])}
        elif name in set(State):
            look |= drawing.look.state_box(State(name)) | {"id": f"state-{name}"}
        box = drawing.boxes[name]
        label = _html(lines, 0) if name in {*State, LIVE_BOX} else _html(lines, box.width - 14)
        yield _node(name, box, height, label, **look)


def _arrow_statements(drawing: Drawing) -> Iterator[str]:
    for start, end, card, points, headed in drawing.arrows():
        stroke = drawing.look.arrow(card, end if headed else start, headed)
        yield _edge(start, end, points, drawing.picture.size[1], stroke, headed, {"class": move_id(card)})


def _edge(
    start: str,
    end: str,
    points: list[Point],
    height: float,
    stroke: Stroke,
    headed: bool,
    more: Mapping[str, str] = MappingProxyType({}),
) -> str:
    pairs = {
        "pos": spline(points, height, 8 * _arrow_size(stroke.width) if headed else 0),
        "color": stroke.colour,
        "style": stroke.style,
        "penwidth": f"{stroke.width:g}",
        "arrowhead": "normal" if headed else "none",
        "arrowsize": f"{_arrow_size(stroke.width):g}",
        **more,
    }
    return f"{dot_text(start)} -> {dot_text(end)} [{', '.join(f'{k}={dot_text(v)}' for k, v in pairs.items())}]"


def _arrow_size(width: float) -> float:
    return 1.1 if width > 3 else 0.8


def _samples(drawing: Drawing) -> Iterator[str]:
    """The lines and boxes of the legend, beside its words."""
    height = drawing.picture.size[1]
    for number, (_, stroke) in enumerate(drawing.look.samples()):
        x, y = _beside(drawing.boxes["legend"], number)
        start, end = f"arrow {number} from", f"arrow {number} to"
        yield _node(start, Box(x, y, 0.1, 0.1), height, '""', style="invis")
        yield _node(end, Box(x + 30, y, 0.1, 0.1), height, '""', style="invis")
        yield _edge(start, end, [(x, y), (x + 30, y)], height, stroke, True)
    for number, (_, look) in enumerate(SYMBOLS):
        x, y = _beside(drawing.boxes["groups"], number)
        size = (18, 2) if "peripheries" in look else (26, 8)
        yield _node(f"sample {number}", Box(x + 15, y, *size), height, '""', **look)


def _beside(legend: Box, number: int) -> Point:
    """Where the sample for one line of a legend begins."""
    return legend.left + 12, legend.top + 5 + 12 * (number + 1.5)
