"""A definition at work: the decision on one account, from any table of transitions.

:mod:`lifecycle.machine` holds the table that counts, and binds the one :class:`Definition` of it. The model checker
runs the same code over tables with a planted fault.

This module does no I/O, no logging, and reads no clock.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any, cast

import transitions

from lifecycle.actor import SYSTEM, Request
from lifecycle.characters import shown
from lifecycle.errors import GuardRefused, InvalidInput, NoSuchTransition, NotAuthorised, Refused
from lifecycle.policy import Policy
from lifecycle.rows import Move, Transition
from lifecycle.states import Effect, Event, State, Step
from lifecycle.terms import Term, evaluate, holds, literal, when

logging.getLogger("transitions").setLevel(logging.WARNING)  # it logs every callback at INFO


@dataclass(frozen=True)
class Decision:
    """What is to be written: nothing has happened yet.

    ``changes`` maps every column that is set to its value, ``due_at`` included. ``step`` None means a
    mere re-arming: ``due_at`` moves, and history is silent. ``promised`` is the date that a reminder names.
    """

    event: Event | None
    step: Step | None
    source: State
    dest: State
    changes: Mapping[str, Any]
    owes: tuple[Effect, ...] = ()
    promised: datetime | None = None
    scrubs: bool = False


class _Overlay:
    """An account as the assignments so far have changed it."""

    def __init__(self, subject: Any) -> None:
        self.subject = subject
        self.changes: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return self.changes[name] if name in self.changes else getattr(self.subject, name)


class Definition:
    """One table of transitions, the library's machine over it, and what timers derive from it.

    ``timers`` are the rows that fire by themselves, in the order of a life. ``moves`` is what a sweep may do with the
    accounts of each timer, in this order; accounts left over are re-armed. ``due_terms`` is what ``due_at`` is in each
    state: the next instant of the one timer whose bracket holds, else NULL.
    """

    def __init__(self, rows: tuple[Transition, ...]) -> None:
        self.rows = rows
        self.timers = tuple(row for row in rows if row.timer is not None)
        self.moves: Mapping[Transition, tuple[Move, ...]] = {row: Move.of_timer(row) for row in self.timers}
        self.due_terms: Mapping[State, Term] = {state: self._due_term(state) for state in State}
        self._machine = _library_machine(rows)

    def decide(self, subject: Any, event: str, asked: Request, instant: datetime, values: Policy) -> Decision:
        """What firing ``event`` on an account would change, or :class:`Refused` with every reason.

        ``subject`` needs the columns of :data:`lifecycle.states.account`, ``company``, ``people`` (owners with number,
        e-mail and since when), ``owners`` (their addresses) and ``cases`` (legal holds in force); it is only read. An
        unknown event raises :class:`InvalidInput` and proposes the nearest name.
        """
        name = event_named(event)
        sources = {"account": subject, "request": asked, "now": instant, "policy": values}
        attempt = Attempt(str(subject.state), sources)
        # Where no row of this event leaves the state, the refusal below says what is possible.
        if name in self._machine.events:
            with suppress(transitions.MachineError):
                self._machine.events[name].trigger(attempt)
        if attempt.row is None:
            raise self._refusal(subject.state, name, attempt)
        return self._decision(Move.of_row(attempt.row), sources)

    def tick(self, subject: Any, instant: datetime, values: Policy) -> Decision | None:
        """What a sweep does with one account now: remind, request, fire or re-arm; None where no timer is set."""
        if subject.due_at is None or subject.due_at > instant:
            return None
        sources = {"account": subject, "request": Request(SYSTEM), "now": instant, "policy": values}
        for row in self.timers:
            if subject.state not in row.sources or (row.bracket and not row.bracket(sources)):
                continue
            for move in self.moves[row]:
                if holds(move.condition, sources):
                    return self._decision(move, sources)
        return Decision(None, None, subject.state, subject.state, {"due_at": self.due(subject, instant, values)})

    def give_notice(self, subject: Any, row: Transition, instant: datetime, values: Policy) -> Decision:
        """What the delivery of the present reminder of ``row``'s timer changes: the notice starts to count."""
        return self._decision(
            Move.of_notice(row), {"account": subject, "request": None, "now": instant, "policy": values}
        )

    def withdraw(self, subject: Any, row: Transition, instant: datetime, values: Policy) -> Decision:
        """What it changes that the request of ``row``'s confirmed timer is taken back before a handler has seen it."""
        sources = {"account": subject, "request": None, "now": instant, "policy": values}
        return self._decision(Move.of_withdrawal(row), sources)

    def due(self, subject: Any, instant: datetime, values: Policy) -> datetime | None:
        """The next instant at which a sweep has something to do with the account, or None."""
        result: datetime | None = evaluate(
            self.due_terms[subject.state],
            {"account": subject, "now": instant, "policy": values, "request": Request(SYSTEM)},
        )
        return result

    def admitting(
        self, subject: Any, event: Event, asked: Request, instant: datetime, values: Policy
    ) -> tuple[Transition, ...]:
        """Every row that would take the request, in the table's order; :meth:`decide` takes the first."""
        sources = {"account": subject, "request": asked, "now": instant, "policy": values}
        attempt = Attempt(str(subject.state), sources)
        rows = (row for row in self.rows if row.event is event and subject.state in row.sources)
        return tuple(row for row in rows if _admitted(row, attempt))

    def _due_term(self, state: State) -> Term:
        term = literal(None)
        for row in self.timers:
            if state in row.sources and row.timer is not None:
                term = row.timer.next if row.bracket is None else when(row.bracket.term, row.timer.next, term)
        return term

    def _decision(self, move: Move, sources: Mapping[str, Any]) -> Decision:
        subject = sources["account"]
        dest = move.row.enters(subject.state) if move.moves else subject.state
        overlay = _Overlay(subject)
        after = {**sources, "account": overlay}
        for name, value in move.sets:
            overlay.changes[name] = evaluate(value, after) if isinstance(value, Term) else value(after)
        owes = tuple(o.effect for o in move.owes if o.condition is None or holds(o.condition, after))
        promised = None if move.promised is None else evaluate(move.promised, sources)
        overlay.changes |= {"state": dest, "version": subject.version + 1}
        overlay.changes["due_at"] = self.due(overlay, sources["now"], sources["policy"])
        scrubs = move.moves and move.row.scrubs
        return Decision(move.row.event, move.step, subject.state, dest, overlay.changes, owes, promised, scrubs)

    def _refusal(self, state: State, event: Event, attempt: "Attempt") -> Refused:
        if not attempt.reasons:
            possible = ", ".join(sorted({row.event for row in self.rows if state in row.sources})) or "nothing"
            return NoSuchTransition(
                f"{event} is refused:", (f"No {event} leaves the account's state {state}; possible here: {possible}.",)
            )
        kind = GuardRefused if attempt.authorised else NotAuthorised
        return kind(f"{event} is refused in state {state}:", attempt.reasons)


def event_named(name: str) -> Event:
    """The event of this name; :class:`InvalidInput` with the nearest name where there is none."""
    try:
        return Event(name)
    except ValueError:
        near = get_close_matches(str(name), list(Event), n=1)
        hint = f"did you mean {near[0]}?" if near else f"the events are {', '.join(Event)}."
        raise InvalidInput(f"Unknown event {shown(name)}: {hint}") from None


# --- The library's machine: source look-up, order and first match ---------------------------------


@dataclass
class Attempt:
    """One request against one account, thrown away after the decision: the library's model."""

    state: str
    sources: Mapping[str, Any]
    row: Transition | None = None
    #: Reasons of the rows whose brackets hold; ``authorised`` once a row admitted the actor.
    reasons: list[str] = field(default_factory=list)
    authorised: bool = False


def _admitted(row: Transition, attempt: Attempt) -> bool:
    """Whether the row's bracket, its permissions and all its guards hold; notes every reason if not."""
    sources = attempt.sources
    if row.bracket is not None and not row.bracket(sources):
        return False
    role = sources["request"].role
    permissions = [permission for permission in row.by if permission.role is role]
    refused = []
    if not permissions:
        allowed = " or ".join(dict.fromkeys(permission.role for permission in row.by))
        refused.append(f"Only {allowed} may fire {row.event} here, not {role}.")
    else:
        attempt.authorised = True
        failing = [[g for g in permission.guards if not g(sources)] for permission in permissions]
        if all(failing):
            refused += [guard.sentence for guards in failing for guard in guards]
    refused += [guard.sentence for guard in row.guards if not guard(sources)]
    # A confirmed timer's event waits for the receipt, the others for their deadline.
    if row.timer and row.timer.confirmation is None and not holds(row.timer.reached, sources):
        refused.append("Its deadline, or the end of its notice period, is not reached yet.")
    attempt.reasons += [reason for reason in refused if reason not in attempt.reasons]
    return not refused


def _library_machine(rows: tuple[Transition, ...]) -> transitions.Machine:
    def condition(row: Transition) -> Callable[[transitions.EventData], bool]:
        return lambda event: _admitted(row, cast(Attempt, event.model))

    def choose(row: Transition) -> Callable[[transitions.EventData], None]:
        return lambda event: setattr(event.model, "row", row)

    return transitions.Machine(
        model=None,
        states=[str(state) for state in State],
        initial=None,
        transitions=[
            {
                "trigger": str(row.event),
                "source": str(source),
                "dest": str(row.enters(source)),
                "conditions": [condition(row)],
                "before": [choose(row)],
            }
            for row in rows
            for source in row.sources
        ],
        auto_transitions=False,
        send_event=True,
        queued=False,
    )
