"""How a picture looks: the lines of its boxes, their colours, its legends."""

from collections.abc import Iterable
from typing import NamedTuple

from lifecycle.actor import Role
from lifecycle.diagrams.content import (
    FOREVER,
    SAMPLES,
    Card,
    Line,
    card_lines,
    group_colours,
    state_lines,
    stays_lines,
)
from lifecycle.diagrams.places import LIVE_BOX, Picture
from lifecycle.diagrams.text import INK, IRREVERSIBLE, PALE, ROLES
from lifecycle.policy import Policy
from lifecycle.states import FINAL, LIVE, Entitlements, State


class Stroke(NamedTuple):
    """How an arrow is drawn; ``width`` in points."""

    colour: str
    style: str
    width: float


class Look:
    """A picture under one policy, as it is drawn where nothing is compared and nothing counted."""

    #: By how much the boxes stand further apart than their places say, so that they have room for more lines.
    room = 1.0
    #: The same among boxes that have to stay on one level.
    spread = 1.0
    legend = "Arrows"

    def __init__(self, values: Policy, picture: Picture) -> None:
        self.values, self.picture = values, picture

    def title(self) -> list[Line]:
        return [Line(self.picture.title, 17, bold=True), Line(f"policy {self.values.version}", 9, PALE)]

    def state(self, state: State) -> list[Line]:
        return state_lines(state)

    def card(self, card: Card, width: int) -> list[Line]:
        return card_lines(card, self.values, width)

    def live(self) -> list[Line]:
        """The box that stands for all states that are not cancelled."""
        return [Line(LIVE_BOX, 13, bold=True), *(Line(state) for state in LIVE)]

    def stays(self, shown: Iterable[str], width: int) -> list[Line]:
        return stays_lines(self.picture.events, shown, self.values, width)

    def footer(self) -> list[Line]:
        """What is written below the picture; nothing, for no footer."""
        return []

    def tint(self, group: Entitlements) -> tuple[str, str]:
        """The colours of a group's background and of its line."""
        return group_colours(group)

    def state_box(self, state: State) -> dict[str, str]:
        return {"color": INK, "penwidth": "1.6", "peripheries": "2" if state is FINAL else "1"}

    def card_box(self, card: Card) -> dict[str, str]:
        colour = IRREVERSIBLE if card.irreversible else ROLES[card.role(self.values)][0]
        return {"color": colour, **({"peripheries": "2"} if card.confirmed else {}), "style": "filled"}

    def arrow(self, card: Card, end: str, headed: bool) -> Stroke:
        """The arrow from the box at ``end`` to a card, or with a head from the card to the box."""
        role = card.role(self.values)
        colour, style, _ = ROLES[role]
        if card.irreversible:
            return Stroke(IRREVERSIBLE, "solid", FOREVER)
        return Stroke(colour, style, 1.8 if role is Role.SYSTEM else 1.3)

    def samples(self) -> tuple[tuple[str, Stroke], ...]:
        """The arrows of the legend, each with its words."""
        return tuple((words, Stroke(colour, style, width)) for words, colour, style, width in SAMPLES)
