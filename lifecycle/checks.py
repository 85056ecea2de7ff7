"""Checks of the definition, run when ``machine`` is imported: a bad table fails at once and names the culprits."""

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from lifecycle.actor import SYSTEM, Request
from lifecycle.errors import DefinitionError
from lifecycle.guards import Guard, facts_of
from lifecycle.policy import Clause, Policy
from lifecycle.rows import Transition
from lifecycle.states import DESTRUCTIVE, FINAL, Effect, Event, Plan, State, account
from lifecycle.terms import Term

Rows = tuple[Transition, ...]


def check(rows: Rows) -> None:
    """Raise :class:`DefinitionError` with everything that is wrong with the table."""
    problems = [problem for test in CHECKS for problem in test(rows)]
    if problems:
        raise DefinitionError("The definition is inconsistent: " + "; ".join(problems) + ".")


def _unknown_names(rows: Rows) -> Iterator[str]:
    for row in rows:
        if not isinstance(row.event, Event):
            yield f"{row!r} has an unknown event"
        for state in (*row.sources, *(() if row.dest is None else (row.dest,))):
            if not isinstance(state, State):
                yield f"{row!r} has an unknown state {state!r}"
        for owed in row.owes:
            if not isinstance(owed.effect, Effect):
                yield f"{row!r} owes an effect without a name: {owed.effect!r}"
        for name, _ in row.sets:
            if name not in account:
                yield f"{row!r} sets an unknown column {name}"


def _reach(rows: Rows, start: Iterable[State], forwards: bool) -> set[State]:
    edges = {(source, row.enters(source)) for row in rows for source in row.sources}
    found = set(start)
    while True:
        more = {(b if forwards else a) for a, b in edges if (a if forwards else b) in found} - found
        if not more:
            return found
        found |= more


def _unreachable_states(rows: Rows) -> Iterator[str]:
    # An account opens on one of the three plans: on trial, or active.
    for state in set(State) - _reach(rows, (State.TRIAL, State.ACTIVE), forwards=True):
        yield f"state {state} can't be reached"


def _traps(rows: Rows) -> Iterator[str]:
    for state in set(State) - _reach(rows, (FINAL,), forwards=False):
        yield f"state {state} is a trap: no way leads from it to {FINAL}"
    for row in rows:
        if FINAL in row.sources:
            yield f"{row!r} leaves the final state"


def _hidden_rows(rows: Rows) -> Iterator[str]:
    for later, row in enumerate(rows):
        for earlier in rows[:later]:
            overlap = earlier.event is row.event and set(earlier.sources) & set(row.sources)
            if overlap and (earlier.bracket is None or earlier.bracket is row.bracket):
                yield f"{row!r} is hidden by the earlier {earlier!r}"


def _timers(rows: Rows) -> Iterator[str]:
    for row in rows:
        if row.timer is None:
            continue
        if not isinstance(row.timer.deadline, Term):
            yield f"{row!r} has a timer without a deadline"
            continue
        if len(row.sources) != 1 or row.dest is None:
            yield f"{row!r} has a timer, so it needs one source and a destination"
        if not all(isinstance(value, Term) and not facts_of(value) for _, value in row.sets):
            yield f"{row!r} has a timer, so its assignments must be terms that read no request"
        if row.bracket and not isinstance(row.bracket.test, Term):
            yield f"{row!r} has a timer, so its bracket must be a term"
        if row.guards and row.timer.confirmation is None:
            yield f"{row!r} fires by itself, so its guards belong into its timer's terms"
    for state in State:
        timed = [row for row in rows if row.timer and state in row.sources]
        if len(timed) > 1 and any(row.bracket is None for row in timed):
            yield f"state {state} has several timers without brackets"


def _destruction(rows: Rows) -> Iterator[str]:
    for row in rows:
        if any(owed.effect in DESTRUCTIVE for owed in row.owes):
            yield f"{row!r} owes a destructive effect without waiting for its confirmation"


def _clauses(rows: Rows) -> Iterator[str]:
    for row in rows:
        if not row.clauses:
            yield f"{row!r} cites no clause of the policy"
    for clause in set(Clause) - {clause for row in rows for clause in row.clauses}:
        yield f"clause {clause} is kept by no transition"


def _guards(rows: Rows) -> Iterator[str]:
    """The library would take a truthy answer as no: every function must answer a sample with a bool."""
    columns: dict[str, Any] = dict.fromkeys(account)
    columns |= {"state": State.TRIAL, "plan": Plan.TRIAL, "legal_holds": 0, "version": 1}
    ann = SimpleNamespace(number=1, email="ann@acme.test", since=None)
    subject = SimpleNamespace(**columns, company="Acme", owners=(ann.email,), people=(ann,), cases=("1",))
    sources = {"account": subject, "request": Request(SYSTEM), "policy": Policy(), "now": None}
    seen: set[Guard] = set()
    for row in rows:
        for guard in row.conditions():
            if guard in seen:
                continue
            seen.add(guard)
            if not guard.sentence.endswith("."):
                yield f"guard {guard.name} of {row!r} needs a sentence for its refusal"
            answer = False if isinstance(guard.test, Term) else guard.test(sources)
            if type(answer) is not bool:
                yield f"guard {guard.name} of {row!r} must return a bool, not {answer!r}"


CHECKS: tuple[Callable[[Rows], Iterator[str]], ...] = (
    _unknown_names,
    _unreachable_states,
    _traps,
    _hidden_rows,
    _timers,
    _destruction,
    _clauses,
    _guards,
)
