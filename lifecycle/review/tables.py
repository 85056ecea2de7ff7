"""The definition as plain data: what the page's script reads, so that no rule is written a second time.

Instants and durations are whole microseconds, which a number of JavaScript holds exactly until the year 2255. A term
is its number in the table of terms; a term stands after those that it is made of.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from datetime import timedelta
from typing import Any

from lifecycle import guards as g
from lifecycle.actor import Role
from lifecycle.deadlines import ACTIVITY_COUNTS, BEGINNINGS, OPENED
from lifecycle.errors import DefinitionError
from lifecycle.guards import Guard
from lifecycle.instants import MICROSECOND
from lifecycle.machine import DUE, MOVES, TIMERS, TRANSITIONS
from lifecycle.policy import Policy
from lifecycle.rows import Assignment, Move, Transition, timer_of
from lifecycle.states import ENTITLEMENTS, OWNERS_CHANGE, REFINED, UNDER_LEGAL_HOLD, Event, State, account
from lifecycle.terms import Term, literal

#: What a request on the page takes for granted where the definition asks people: who asks in an owner's name is an
#: owner on file, and no new one; legal holds are placed one at a time and released together.
ASSUMED: Mapping[Any, Term] = {
    g.requester_is_owner: literal(True),
    g.owner_if_named: literal(True),
    g.owner_decides: literal(True),
    g.hold_in_force: UNDER_LEGAL_HOLD,
    g.holds_left: literal(0),
}
#: Events that change nothing that a timeline shows.
_SILENT = (*OWNERS_CHANGE, Event.CONTACT_OWNERS, Event.REQUEST_CANCELLATION)


def definition() -> dict[str, Any]:
    """Terms, rows, timers and grants in JSON's own types; the policy stays a source that the terms read."""
    return _Definition().as_json()


def settings(policy: Policy) -> dict[str, Any]:
    """The policy's settings as the terms read them."""
    return {setting.name: _plain(getattr(policy, setting.name)) for setting in fields(policy)}


def _plain(value: Any) -> Any:
    """A constant in JSON's own types."""
    if isinstance(value, timedelta):
        return value // MICROSECOND
    return str(value) if isinstance(value, str) else value


class _Definition:
    """Collects the terms while the rest is written down."""

    def __init__(self) -> None:
        self.terms: list[list[Any]] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        self.guards: list[dict[str, Any]] = []
        self._guard_numbers: dict[Guard, int] = {}

    def as_json(self) -> dict[str, Any]:
        rows = [row for row in TRANSITIONS if row.event not in _SILENT]
        return {
            "columns": list(account),
            "openings": {
                plan: {"state": state, "sets": self._sets((*OPENED, *begins))}
                for plan, (state, begins) in BEGINNINGS.items()
            },
            "rows": [self._row(row) for row in rows],
            "timers": [self._timer(row) for row in TIMERS],
            "due": {state: self.term(DUE[state]) for state in State},
            "grants": {state: asdict(granted) for state, granted in ENTITLEMENTS.items()},
            "refined": [
                {"state": state, "case": self.term(case), "grants": asdict(granted)}
                for state, case, _, granted in REFINED
            ],
            "activity": self.term(ACTIVITY_COUNTS),
            "guards": self.guards,
            "terms": self.terms,
        }

    def term(self, term: Term) -> int:
        """The number of the term; the same term has one number wherever it stands."""
        if term.op in ("literal", "field"):
            node = [term.op, *map(_plain, term.args)]
        else:
            node = [term.op, *map(self.term, term.args)]
        key = (*node, *map(type, node))  # 1 and True are equal, and not the same
        if key not in self._numbers:
            self._numbers[key] = len(self.terms)
            self.terms.append(node)
        return self._numbers[key]

    def _guard(self, guard: Guard) -> int:
        if guard not in self._guard_numbers:
            test = guard.test if isinstance(guard.test, Term) else _assumed(guard, guard.name)
            self._guard_numbers[guard] = len(self.guards)
            self.guards.append({"name": guard.name, "sentence": guard.sentence, "test": self.term(test)})
        return self._guard_numbers[guard]

    def _sets(self, sets: Iterable[Assignment]) -> list[list[Any]]:
        return [[name, self.term(v if isinstance(v, Term) else _assumed(v, name))] for name, v in sets]

    def _move(self, move: Move) -> dict[str, Any]:
        return {
            "event": move.row.event,
            "step": move.step,
            "dest": move.row.dest if move.moves else None,
            "condition": self.term(move.condition),
            "sets": self._sets(move.sets),
            "owes": [
                [owed.effect, self.term(literal(True) if owed.condition is None else owed.condition)]
                for owed in move.owes
            ],
            "promised": None if move.promised is None else self.term(move.promised),
        }

    def _bracket(self, row: Transition) -> int:
        return self.term(literal(True) if row.bracket is None else row.bracket.term)

    def _row(self, row: Transition) -> dict[str, Any]:
        timed = row.timer is not None and row.timer.confirmation is None
        return {
            "event": row.event,
            "sources": list(row.sources),
            "bracket": self._bracket(row),
            "by": [{"role": way.role, "guards": [*map(self._guard, way.guards)]} for way in row.by],
            "guards": [*map(self._guard, row.guards)],
            "reached": self.term(timer_of(row).reached) if timed else None,
            "move": self._move(Move.of_row(row)),
        }

    def _timer(self, row: Transition) -> dict[str, Any]:
        timer = timer_of(row)
        return {
            "event": row.event,
            "source": row.sources[0],
            "bracket": self._bracket(row),
            "moves": [self._move(move) for move in MOVES[row]],
            "reminder": None if timer.notice is None else timer.notice.effect,
            "notice": self._move(Move.of_notice(row)),
            "request": None if timer.confirmation is None else timer.confirmation.effect,
        }


def _assumed(asked: Guard | Callable[..., Any], name: str) -> Term:
    if asked not in ASSUMED:
        raise DefinitionError(f"{name} is a function, which the page can't read; say in ASSUMED what it stands for.")
    return ASSUMED[asked]


def askable() -> list[tuple[Event, Role]]:
    """Every event that somebody can ask for on the page, with each who may; timers ask for none."""
    ways = [(row.event, way.role) for row in TRANSITIONS if row.event not in _SILENT for way in row.by]
    return [(event, role) for event, role in dict.fromkeys(ways) if role is not Role.SYSTEM]
