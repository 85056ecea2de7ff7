"""What a picture says: the boxes of states, the cards of moves, and their lines of text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import NamedTuple

from lifecycle.actor import Role
from lifecycle.diagrams.text import (
    INK,
    IRREVERSIBLE,
    PALE,
    ROLES,
    brackets,
    deadline_words,
    permitted,
    role_words,
    timer_notes,
    wrap,
)
from lifecycle.machine import TRANSITIONS
from lifecycle.policy import Clause, Policy
from lifecycle.rows import Transition
from lifecycle.states import ENTITLEMENTS, FINAL, Entitlements, Event, State, entitlements


class Line(NamedTuple):
    """One line of text in a box; ``roles`` lead it, each in its colour, and ``mark`` leads those.

    What is ``faded`` has one colour, roles and all; what is ``struck`` is no longer so.
    """

    text: str
    size: float = 8.5
    colour: str = INK
    bold: bool = False
    roles: tuple[Role, ...] = ()
    mark: str = ""
    faded: bool = False
    struck: bool = False


@dataclass(frozen=True)
class Card:
    """A move, or parallel moves of one kind of actor: from any of ``sources`` to any of ``dests``."""

    rows: tuple[Transition, ...]
    sources: tuple[State, ...]
    dests: tuple[State, ...]

    def with_sources(self, other: "Card") -> "Card":
        """One card for both: the same events from other states."""
        return replace(self, sources=(*self.sources, *other.sources))

    @property
    def name(self) -> str:
        return "+".join(dict.fromkeys(row.event for row in self.rows))

    def moves(self) -> Iterator[tuple[State, State, Transition]]:
        """Every source, destination and row that the card stands for."""
        for row in self.rows:
            for source in row.sources:
                if row.enters(source) is not source:
                    yield source, row.enters(source), row

    def role(self, values: Policy) -> Role:
        """The kind of actor who gives the card its colour: the first who may fire it under the policy."""
        return permitted(self.rows[0], values)[0][0][0]

    @property
    def irreversible(self) -> bool:
        return any(Clause.IRREVERSIBLE in row.clauses for row in self.rows)

    @property
    def confirmed(self) -> bool:
        return any(row.timer is not None and row.timer.confirmation is not None for row in self.rows)


def cards(events: Iterable[Event] = tuple(Event)) -> tuple[Card, ...]:
    """The moves between states: one card per event and sources, parallel ones merged."""
    moves: dict[tuple[Event, tuple[State, ...]], list[Transition]] = {}
    for row in TRANSITIONS:
        if row.event in events and _leaving(row):
            moves.setdefault((row.event, _leaving(row)), []).append(row)
    merged: dict[tuple[object, ...], Card] = {}
    for (event, sources), moving in moves.items():
        dests, rows = tuple(dict.fromkeys(row.dest for row in moving if row.dest)), moving
        if len(dests) > 1:  # a route back to where it came from belongs to the picture of the routes
            rows = [row for row in TRANSITIONS if row.event is event and set(sources) <= set(row.sources)]
        key = (sources, dests, rows[0].by, rows[0].guards, rows[0].timer)
        before = merged[key].rows if key in merged else ()
        merged[key] = Card((*before, *rows), sources, dests)
    united: dict[str, Card] = {}
    for card in merged.values():
        known = united.get(card.name)
        united[card.name] = card if known is None else known.with_sources(card)
    return tuple(united.values())


def _leaving(row: Transition) -> tuple[State, ...]:
    return tuple(source for source in row.sources if row.enters(source) is not source)


def stays(events: Iterable[Event]) -> Iterator[tuple[Transition, tuple[State, ...]]]:
    """The rows that leave an account where it is, with the states in which they do."""
    for row in TRANSITIONS:
        staying = tuple(source for source in row.sources if row.enters(source) is source)
        if row.event in events and staying:
            yield row, staying


def card_lines(card: Card, values: Policy, width: int) -> list[Line]:
    """What a card says, in lines of at most ``width`` characters."""
    first = card.rows[0]
    colour = IRREVERSIBLE if card.irreversible else ROLES[card.role(values)][0]
    lines = [Line(", ".join(card.name.split("+")), 10, colour, bold=True)]
    if card.irreversible:
        lines.append(Line("IRREVERSIBLE", 8, IRREVERSIBLE, bold=True))
    for roles, guards in permitted(first, values):
        lead = role_words(roles)
        head, *rest = wrap(f"{lead} {brackets(guards)}", width)
        lines += [Line(head.removeprefix(lead), roles=roles), *map(Line, rest)]
    clauses = list(dict.fromkeys(clause for row in card.rows for clause in row.clauses))
    if first.timer is not None:
        lines += [Line(text, bold=True) for text in wrap(when_words(card, values), width * 9 // 10)]
        clauses.pop(0)
        lines += map(Line, timer_notes(first.timer, values, width))
    lines += map(Line, _conditions(card, width))
    return lines + [Line(text.removeprefix("· "), 8, PALE) for text in wrap(" · ".join(clauses), width)]


def when_words(card: Card, values: Policy) -> str:
    """When a card's timer fires, and the clause behind it; nothing for a move without a timer."""
    first = card.rows[0]
    return "" if first.timer is None else f"{deadline_words(first.timer, values)} · {first.clauses[0]}"


def _conditions(card: Card, width: int) -> Iterator[str]:
    """Guards in brackets; where the brackets route, a line per destination."""
    shared = [guard for guard in card.rows[0].guards if all(guard in row.guards for row in card.rows)]
    routed = len(card.dests) > 1
    routing = [row.bracket for row in card.rows[:1] if row.bracket and not routed]
    yield from wrap(brackets((*routing, *shared)), width)
    if routed:
        yield "the first of these that holds:"
    for row in card.rows if routed else ():
        own = [guard for guard in row.guards if guard not in shared]
        yield from wrap(f"{brackets(([row.bracket] if row.bracket else []) + own)} → {row.dest}", width)


def group_of(state: State) -> Entitlements:
    """States that grant the same use, sign-in and content stand in one group, whatever else differs."""
    granted = ENTITLEMENTS[state]
    return Entitlements(granted.sign_in, granted.use, granted.export, billed=False, content=granted.content)


def group_title(group: Entitlements) -> str:
    """What the customer has, in a word or two."""
    if not group.content:
        return "Content gone"
    if not group.sign_in:
        return "No access"
    return "Full access" if group.use else "Limited access"


def group_words(group: Entitlements) -> str:
    """The title and what it means: ``"Limited access: sign in, export"``."""
    have = [word for word in ("sign in", "use", "export") if getattr(group, word.replace(" ", "_"))]
    return f"{group_title(group)}: {', '.join(have) or ('content kept' if group.content else 'for good')}"


def group_colours(group: Entitlements) -> tuple[str, str]:
    """Tint and line colour of a group."""
    if not group.content:
        return "#dcdfe4", "#7b8794"
    if not group.sign_in:
        return "#f7e3d4", "#c07a45"
    return ("#e3f0ea", "#5f9e86") if group.use else ("#fbf2cf", "#b99a2e")


def state_lines(state: State) -> list[Line]:
    """What a state's box says: its name, its sentence, and what the group's title does not say of it."""
    lines = [Line(state, 13, bold=True), *(Line(t, 8.5) for t in wrap(state.text, 30))]
    stub = SimpleNamespace(state=state, plan=None, suspended_from=State.ACTIVE, access_ends_at=None)
    if entitlements(stub, datetime.min.replace(tzinfo=UTC)).sign_in is not ENTITLEMENTS[state].sign_in:
        lines.append(Line("suspended: no access", 8.5, IRREVERSIBLE))
    if ENTITLEMENTS[state].billed:
        lines.append(Line("billed on a paid plan", 8.5))
    return lines


def stays_lines(events: tuple[Event, ...], shown: Iterable[str], values: Policy, width: int) -> list[Line]:
    """The moves that leave the state as it is, as a table."""
    lines = [Line("Changes that leave the state as it is", 9, bold=True)]
    for row, states in stays(events):
        if not set(states) & set(shown):
            continue
        where = f"all but {FINAL}" if len(states) == len(State) - 1 else ", ".join(states)
        bracket = (row.bracket,) if row.bracket else ()
        for roles, guards in permitted(row, values):
            lead = role_words(roles)
            head, *rest = wrap(f"{lead}: {row.event} in {where} {brackets((*bracket, *row.guards, *guards))}", width)
            lines += [Line(head.removeprefix(lead), roles=roles), *(Line(f"      {text}") for text in rest)]
    return lines


#: How wide the arrow is of what can never be undone.
FOREVER = 4.0
_LEADS = {Role.OWNER: "owner, support for them", Role.SYSTEM: "the company, by a timer"}
#: The legend: words, colour, line style, line width.
SAMPLES: tuple[tuple[str, str, str, float], ...] = (
    *(
        (_LEADS.get(role, words), colour, style, 1.8 if role is Role.SYSTEM else 1.3)
        for role, (colour, style, words) in ROLES.items()
        if role is not Role.SUPPORT
    ),
    ("can never be undone", IRREVERSIBLE, "solid", FOREVER),
)
_STATE = {"style": "filled,rounded", "fillcolor": "white", "color": INK, "penwidth": "1.6"}
_MOVE = {"style": "filled", "fillcolor": "white", "color": PALE}
SYMBOLS: tuple[tuple[str, Mapping[str, str]], ...] = (
    *(
        (
            group_words(group),
            {"style": "filled", "fillcolor": group_colours(group)[0], "color": group_colours(group)[1]},
        )
        for group in dict.fromkeys(map(group_of, State))
    ),
    ("a state", _STATE),
    ("the final state", {**_STATE, "peripheries": "2"}),
    ("a move: who, when, [guards]", _MOVE),
    ("a move in two steps", {**_MOVE, "color": IRREVERSIBLE, "peripheries": "2"}),
)
