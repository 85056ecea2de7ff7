"""What the side panel says of each state and each move, from the definition."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain

from lifecycle.actor import Role
from lifecycle.diagrams import PICTURES
from lifecycle.diagrams.content import Card, cards, group_of, group_words
from lifecycle.diagrams.dot import move_id
from lifecycle.diagrams.text import ROLES, deadline_words, permitted, timer_notes
from lifecycle.guards import Guard
from lifecycle.policy import Clause, Policy
from lifecycle.rows import Timer, Transition
from lifecycle.states import ENTITLEMENTS, FINAL, REFINED, Effect, Entitlements, Event, State

#: So wide that no note of a timer is broken into lines.
_WIDE = 1000


@dataclass(frozen=True)
class Way:
    """Who may do it, and what must hold for them."""

    who: str
    guards: tuple[Guard, ...]


@dataclass(frozen=True)
class Route:
    """From where to where, and the condition that routes there."""

    sources: tuple[State, ...]
    dest: State | None
    bracket: Guard | None
    guards: tuple[Guard, ...]


@dataclass(frozen=True)
class MoveDetail:
    """One card of a diagram, or one row that leaves the account where it is."""

    id: str
    events: tuple[Event, ...]
    irreversible: bool
    deadline: str
    notes: tuple[str, ...]
    ways: tuple[Way, ...]
    routes: tuple[Route, ...]
    guards: tuple[Guard, ...]
    owes: tuple[Effect, ...]
    clauses: tuple[Clause, ...]
    then: tuple[str, ...]


@dataclass(frozen=True)
class StateDetail:
    """One state: what the customer has in it, what happens by itself, and what can be asked for."""

    id: str
    state: State
    final: bool
    grants: tuple[tuple[str, Entitlements], ...]
    timers: tuple[tuple[Event, str, tuple[str, ...]], ...]
    leaving: tuple[tuple[Event, str, str], ...]
    staying: tuple[tuple[Event, str, str], ...]  # event, where to, by whom


def state_details(policy: Policy) -> list[StateDetail]:
    """Every state, in the order of a life."""
    return [_state(state, policy) for state in State]


def _state(state: State, policy: Policy) -> StateDetail:
    from lifecycle.machine import TRANSITIONS

    here = [row for row in TRANSITIONS if state in row.sources]
    timed = [(row, row.timer) for row in here if row.timer is not None]
    return StateDetail(
        f"state-{state}",
        state,
        state is FINAL,
        (("", ENTITLEMENTS[state]), *((words, granted) for one, _, words, granted in REFINED if one is state)),
        tuple((row.event, _when(row, timer, policy), _notes(timer, policy)) for row, timer in timed),
        tuple(_lines([row for row in here if row.enters(state) is not state], policy)),
        tuple(_lines([row for row in here if row.enters(state) is state], policy)),
    )


def _when(row: Transition, timer: Timer, policy: Policy) -> str:
    words = deadline_words(timer, policy)
    return words if row.bracket is None else f"{words} (where it holds: {row.bracket.name})"


def _notes(timer: Timer, policy: Policy) -> tuple[str, ...]:
    return tuple(timer_notes(timer, policy, _WIDE))


def _lines(rows: list[Transition], policy: Policy) -> Iterator[tuple[Event, str, str]]:
    """Each event of the rows, where it leads (the first condition that holds decides), and who may fire it."""
    for event in dict.fromkeys(row.event for row in rows):
        mine = [row for row in rows if row.event is event]
        dests = [f"{row.dest or 'the same'}{f' [{row.bracket.name}]' if row.bracket else ''}" for row in mine]
        who = dict.fromkeys(ROLES[role][2] for row in mine for roles, _ in permitted(row, policy) for role in roles)
        yield event, ", else ".join(dict.fromkeys(dests)), ", ".join(who)


def move_details(policy: Policy) -> list[MoveDetail]:
    """Every card of every picture, and every change that leaves the state as it is."""
    from lifecycle.machine import TRANSITIONS

    drawn = {move_id(card): card for card in chain.from_iterable(cards(one.events) for one in PICTURES.values())}
    shown = {row for card in drawn.values() for row in card.rows}
    details = [_move(id, card, policy) for id, card in drawn.items()]
    rest: dict[str, list[Transition]] = {}
    for row in TRANSITIONS:
        if row not in shown:
            rest.setdefault(row.event, []).append(row)
    for event, rows in rest.items():
        card = Card(tuple(rows), (), ())
        details.append(_move(f"change-{event}", card, policy))
    return details


def _move(id: str, card: Card, policy: Policy) -> MoveDetail:
    first = card.rows[0]
    shared = [guard for guard in first.guards if all(guard in row.guards for row in card.rows)]
    dests = dict.fromkeys(row.dest for row in card.rows if row.dest is not None)
    return MoveDetail(
        id,
        tuple(dict.fromkeys(row.event for row in card.rows)),
        card.irreversible,
        "" if first.timer is None else deadline_words(first.timer, policy),
        () if first.timer is None else _notes(first.timer, policy),
        tuple(_ways(card.rows, policy)),
        tuple(Route(r.sources, r.dest, r.bracket, tuple(g for g in r.guards if g not in shared)) for r in card.rows),
        tuple(shared),
        tuple(dict.fromkeys(_owed(card.rows))),
        tuple(dict.fromkeys(clause for row in card.rows for clause in row.clauses)),
        tuple(dict.fromkeys(f"{dest}: {group_words(group_of(dest))}" for dest in dests)),
    )


def _ways(rows: Iterable[Transition], policy: Policy) -> Iterator[Way]:
    told = set()
    for row in rows:
        for roles, guards in permitted(row, policy):
            who = " or ".join("a timer" if role is Role.SYSTEM and row.timer else ROLES[role][2] for role in roles)
            if (who, guards) not in told:
                told.add((who, guards))
                yield Way(who, guards)


def _owed(rows: Iterable[Transition]) -> Iterator[Effect]:
    for row in rows:
        timer = row.timer
        if timer is not None and timer.notice is not None:
            yield timer.notice.effect
        if timer is not None and timer.confirmation is not None:
            yield timer.confirmation.effect
        yield from (owed.effect for owed in row.owes)


def granted(entitlements: Entitlements) -> dict[str, str]:
    """What is granted, by its words: ``{"sign in": "yes", …, "content": "kept"}``."""
    words = {True: ("yes", "kept"), False: ("no", "gone")}
    return {
        name.replace("_", " "): words[has][name in ("content", "backups")] for name, has in asdict(entitlements).items()
    }
