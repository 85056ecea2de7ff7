"""The definition of the lifecycle, and the decision on one account.

:data:`TRANSITIONS` states every transition once, as data: who may fire it, under which guards, what it
sets, what it owes, which clauses of the policy it keeps, and at which deadline it fires by itself.
Everything else reads it: :func:`decide` and :func:`tick` for one account, the sweep's SQL for a
million, the diagrams, the reference and the schema's constraints.

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

from lifecycle import deadlines as d
from lifecycle import guards as g
from lifecycle.actor import SYSTEM, Request, Role
from lifecycle.characters import shown
from lifecycle.checks import check
from lifecycle.errors import GuardRefused, InvalidInput, NoSuchTransition, NotAuthorised, Refused
from lifecycle.policy import Clause, Policy
from lifecycle.rows import Move, Owed, Permission, Transition, timer_of
from lifecycle.states import FINAL, LIVE, Effect, Event, Party, Plan, State, Step, account, request
from lifecycle.terms import Term, default, earliest, evaluate, holds, literal, now, when

logging.getLogger("transitions").setLevel(logging.WARNING)  # it logs every callback at INFO

TRIAL, ON_HOLD, ACTIVE, FROZEN = State.TRIAL, State.ON_HOLD, State.ACTIVE, State.FROZEN
PENDING, REVOKED = State.CANCEL_PENDING, State.ACCESS_REVOKED
DELETED, PURGED = State.CONTENT_DELETED, State.PURGED
NOT_PURGED = tuple(state for state in State if state is not FINAL)

# --- Who may ---------------------------------------------------------------------------------------

TIMER = (Permission(Role.SYSTEM),)
ADMIN = (Permission(Role.ADMIN),)
BILLING = (Permission(Role.BILLING),)
FOR_AN_OWNER = (
    Permission(Role.OWNER, (g.requester_is_owner,)),
    Permission(Role.SUPPORT, (g.requester_is_owner,)),
)
#: Support acts in an owner's name, an admin on their own or in an owner's.
OWNERS = (*FOR_AN_OWNER, Permission(Role.ADMIN, (g.reason_given, g.owner_if_named)))
COMPANY = (Permission(Role.SYSTEM, (g.automatic,)), Permission(Role.ADMIN, (g.approval,)))
COMEBACK = (
    Permission(Role.OWNER, (g.requester_is_owner, g.not_terminated)),
    Permission(Role.SUPPORT, (g.requester_is_owner, g.not_terminated)),
    Permission(Role.ADMIN, (g.requester_is_owner,)),
    Permission(Role.ADMIN, (g.company_cancelled,)),
    Permission(Role.BILLING, (g.brings_period, g.not_terminated)),
)

# --- The table -----------------------------------------------------------------------------------

C, E, Row = Clause, Event, Transition

# fmt: off
TRANSITIONS: tuple[Transition, ...] = (
    # Trial, upgrade, downgrade, renewal
    Row(event=E.EXPIRE_TRIAL, sources=(TRIAL,), dest=ON_HOLD, by=TIMER, timer=d.TRIAL_TIMER,
        sets=(*d.VOID_NOTICE, *d.HOLD_FROM_NOW), clauses=(C.TRIAL_HOLD, C.HOLD_KEEPS_DATA)),
    Row(event=E.UPGRADE, sources=(TRIAL, ON_HOLD), dest=ACTIVE, by=BILLING + ADMIN,
        guards=(g.brings_period, g.period_not_back, g.period_from_billing),
        sets=(*d.BRING_PERIOD, *d.ACTIVATE), clauses=(C.TRIAL_HOLD, C.HOLD_EXITS)),
    Row(event=E.UPGRADE, sources=(ACTIVE,), bracket=g.free, dest=ACTIVE, by=BILLING + ADMIN,
        guards=(g.brings_period, g.period_not_back, g.period_from_billing),
        sets=(*d.BRING_PERIOD, *d.ACTIVATE), clauses=(C.COMPANY_FREE,)),
    Row(event=E.DOWNGRADE, sources=(TRIAL,), dest=ACTIVE, by=FOR_AN_OWNER + BILLING,
        sets=(*d.FREE_FROM_NOW, *d.ACTIVATE), clauses=(C.TRIAL_HOLD, C.COMPANY_FREE)),
    Row(event=E.DOWNGRADE, sources=(ACTIVE,), bracket=g.paid, dest=ACTIVE, by=FOR_AN_OWNER + BILLING,
        sets=(*d.FREE_FROM_NOW, *d.ACTIVATE), clauses=(C.COMPANY_FREE,)),
    Row(event=E.RENEW, sources=(ACTIVE,), bracket=g.paid, dest=ACTIVE, by=BILLING,
        guards=(g.period_forward,), sets=d.BRING_PERIOD, clauses=(C.ACCESS_TO_PERIOD_END,)),
    # Unpaid
    Row(event=E.FREEZE, sources=(ACTIVE,), bracket=g.paid, dest=FROZEN, by=BILLING,
        guards=(g.period_over,), sets=(*d.VOID_NOTICE, *d.FREEZE_FROM_NOW), clauses=(C.COMPANY_FROZEN,)),
    Row(event=E.THAW, sources=(FROZEN,), bracket=g.unpaid, dest=ACTIVE, by=BILLING + ADMIN,
        guards=(g.period_paid, g.period_not_back, g.period_from_billing),
        sets=(*d.BRING_PERIOD, *d.ACTIVATE), clauses=(C.COMPANY_FROZEN,)),
    # Suspension
    Row(event=E.SUSPEND, sources=(TRIAL, ON_HOLD, ACTIVE), dest=FROZEN, by=ADMIN,
        guards=(g.reason_given,), sets=(*d.VOID_NOTICE, ("suspended_from", account.state)),
        clauses=(C.COMPANY_ANY,)),
    Row(event=E.SUSPEND, sources=(FROZEN,), bracket=g.unpaid, dest=FROZEN, by=ADMIN,
        guards=(g.reason_given,), sets=(*d.VOID_NOTICE, ("suspended_from", account.state)),
        clauses=(C.COMPANY_ANY,)),
    Row(event=E.SUSPEND, sources=(PENDING, REVOKED), dest=REVOKED, by=ADMIN, guards=(g.reason_given,),
        sets=(("suspended_from", default(account.suspended_from, account.cancelled_from)),
              ("access_ends_at", earliest(account.access_ends_at, now))),
        clauses=(C.COMPANY_ANY,)),
    *(
        Row(event=E.LIFT_SUSPENSION, sources=(FROZEN,), bracket=bracket, dest=dest, by=ADMIN,
            guards=(g.reason_given,), sets=sets, clauses=(C.COMPANY_ANY,))
        for bracket, dest, sets in (
            (g.paid_meanwhile, ACTIVE,  (("plan", literal(Plan.PAID)), *d.ACTIVATE)),
            (g.from_trial,     TRIAL,   d.LIFT),
            (g.from_hold,      ON_HOLD, (*d.LIFT, *d.HOLD_FROM_NOW)),
            (g.from_unpaid,    FROZEN,  (*d.LIFT, *d.FREEZE_FROM_NOW)),
            (g.from_active,    ACTIVE,  (*d.FREE_AS_BEFORE, *d.ACTIVATE)),
        )
    ),
    # Money that comes or goes after a cancellation, or during a suspension
    Row(event=E.RECORD_PAYMENT, sources=(PENDING,), dest=None, by=BILLING, guards=(g.period_forward,),
        sets=(("period_began_at", now), ("period_ends_at", request.period_ends_at), *d.LENGTHEN),
        owes=d.REVIEW, clauses=(C.NO_BILLING, C.ACCESS_TO_PERIOD_END, C.FAIR_REFUND)),
    Row(event=E.RECORD_PAYMENT, sources=(REVOKED,), dest=None, by=BILLING, guards=(g.period_forward,),
        sets=(("period_began_at", now), ("period_ends_at", request.period_ends_at)),
        owes=d.REVIEW, clauses=(C.NO_BILLING, C.FAIR_REFUND)),
    Row(event=E.RECORD_PAYMENT, sources=(FROZEN,), bracket=g.suspended, dest=None, by=BILLING,
        guards=(g.period_forward,),
        sets=(("period_began_at", now), ("period_ends_at", request.period_ends_at)),
        clauses=(C.COMPANY_ANY,)),
    Row(event=E.RECORD_REFUND, sources=(PENDING, REVOKED), dest=None, by=BILLING,
        sets=(("period_ends_at", earliest(account.period_ends_at, now)),), clauses=(C.FAIR_REFUND,)),
    # The customer's cancellation
    Row(event=E.CANCEL, sources=LIVE, dest=PENDING,
        by=(Permission(Role.OWNER, (g.requester_is_owner,)),
            Permission(Role.ADMIN, (g.requester_is_owner,)),
            Permission(Role.SUPPORT, (g.requester_is_owner, g.direct_way))),
        guards=(g.owner_decides,), sets=d.stamps(Party.OWNER, d.ACCESS_END), owes=d.CANCELLATION_OWES,
        clauses=(C.OWNER_ONLY, C.ACCESS_TO_PERIOD_END, C.NO_BILLING, C.FAIR_REFUND, C.HOLD_EXITS)),
    # The company's own cancellations
    Row(event=E.CANCEL_EXPIRED_TRIAL, sources=(ON_HOLD,), dest=PENDING, by=COMPANY,
        timer=d.EXPIRED_TRIAL_TIMER, sets=d.stamps(Party.COMPANY, d.ACCESS_END), owes=d.CANCELLATION_OWES,
        clauses=(C.COMPANY_TRIAL, C.EXPORT_FIRST)),
    Row(event=E.CANCEL_UNPAID, sources=(FROZEN,), bracket=g.unpaid, dest=PENDING, by=COMPANY,
        timer=d.UNPAID_TIMER, sets=d.stamps(Party.COMPANY, d.ACCESS_END), owes=d.CANCELLATION_OWES,
        clauses=(C.COMPANY_FROZEN, C.EXPORT_FIRST)),
    Row(event=E.CANCEL_INACTIVE, sources=(ACTIVE,), bracket=g.free, dest=PENDING, by=COMPANY,
        timer=d.INACTIVE_TIMER, sets=d.stamps(Party.COMPANY, d.ACCESS_END), owes=d.CANCELLATION_OWES,
        clauses=(C.COMPANY_FREE, C.EXPORT_FIRST)),
    Row(event=E.TERMINATE, sources=LIVE, dest=REVOKED, by=ADMIN, guards=(g.reason_given,),
        sets=(*d.stamps(Party.COMPANY, now), ("terminated_at", now)), owes=d.CANCELLATION_OWES,
        clauses=(C.COMPANY_ANY,)),
    Row(event=E.TERMINATE, sources=(PENDING, REVOKED), dest=REVOKED, by=ADMIN, guards=(g.reason_given,),
        sets=(("access_ends_at", earliest(account.access_ends_at, now)), ("terminated_at", now)),
        owes=(Owed(Effect.CONFIRM_CANCELLATION),), clauses=(C.COMPANY_ANY,)),
    # The way out, and the way back
    Row(event=E.REVOKE_ACCESS, sources=(PENDING,), dest=REVOKED, by=TIMER, timer=d.ACCESS_TIMER,
        clauses=(C.ACCESS_ENDS, C.EXPORT_FIRST)),
    *(
        Row(event=E.REACTIVATE, sources=(PENDING, REVOKED), bracket=bracket, dest=dest, by=COMEBACK,
            guards=(g.erasure_not_requested, g.period_not_past, g.period_not_back, g.period_from_billing,
                    *extra),
            sets=(*d.UNSTAMP, *d.BRING_PERIOD, *sets), owes=d.RESUME, clauses=(C.UNDO_30,))
        for bracket, dest, extra, sets in (
            (g.suspended,   FROZEN,  (),                  ()),
            (g.period_runs, ACTIVE,  (),                  (("plan", when(account.plan == Plan.TRIAL, Plan.PAID,
                                                                         account.plan)), *d.ACTIVATE)),
            (g.paid,        FROZEN,  (g.unpaid_in_time,), d.FREEZE_FROM_NOW),
            (g.free,        ACTIVE,  (),                  (*d.FREE_FROM_NOW, *d.ACTIVATE)),
            (g.trial_runs,  TRIAL,   (),                  ()),
            (g.trial_over,  ON_HOLD, (g.held_in_time,),   d.HOLD_FROM_NOW),
        )
    ),
    Row(event=E.DELETE_CONTENT, sources=(REVOKED,), dest=DELETED, by=TIMER, timer=d.DELETION_TIMER,
        guards=(g.erasure_confirmed,), sets=(*d.VOID_NOTICE, ("content_deleted_at", now)),
        clauses=(C.DELETE_30, C.IRREVERSIBLE, C.EXPORT_FIRST)),
    Row(event=E.PURGE_BACKUPS, sources=(DELETED,), dest=PURGED, by=TIMER, timer=d.PURGE_TIMER,
        guards=(g.purge_confirmed,), sets=(("purged_at", now),), scrubs=True,
        clauses=(C.PURGE_60, C.IRREVERSIBLE)),
    # Beside the life of the account
    Row(event=E.PLACE_HOLD, sources=NOT_PURGED, dest=None, by=ADMIN, guards=(g.reason_given, g.hold_end_ahead),
        takes=("case",),
        sets=(("legal_holds", account.legal_holds + literal(1)), *d.WITHDRAW_REQUESTS),
        clauses=(C.DELETE_30, C.PURGE_60)),
    Row(event=E.RELEASE_HOLD, sources=NOT_PURGED, dest=None, by=ADMIN + TIMER, guards=(g.reason_given, g.hold_in_force),
        sets=(("legal_holds", g.holds_left),
              ("hold_released_at", when(account.legal_holds == 0, now, account.hold_released_at))),
        clauses=(C.DELETE_30, C.PURGE_60)),
    Row(event=E.CONTACT_OWNERS, sources=NOT_PURGED, dest=None,
        by=(Permission(Role.SUPPORT), *ADMIN, *TIMER), guards=(g.reason_given,),
        owes=(Owed(Effect.CONTACT_OWNERS),), clauses=(C.UNKNOWN_OWNER,)),
    Row(event=E.REQUEST_CANCELLATION, sources=LIVE, dest=None,
        by=(Permission(Role.SYSTEM, (g.requester_is_owner,)),), guards=(g.can_be_confirmed,),
        owes=(Owed(Effect.VERIFY_OWNER),), clauses=(C.OWNER_ONLY,)),
    # Who may: the owners on file
    Row(event=E.ADD_OWNER, sources=NOT_PURGED, dest=None, by=OWNERS,
        guards=(g.owner_decides, g.owner_is_new, g.room_for_owner),
        owes=(Owed(Effect.TELL_OWNER_CHANGE),), clauses=(C.OWNER_ONLY, C.UNKNOWN_OWNER)),
    Row(event=E.REMOVE_OWNER, sources=NOT_PURGED, dest=None, by=OWNERS,
        guards=(g.owner_decides, g.owner_is_on_file, g.another_owner_stays),
        owes=(Owed(Effect.TELL_OWNER_CHANGE),), clauses=(C.OWNER_ONLY, C.UNKNOWN_OWNER)),
)
# fmt: on


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


check(TRANSITIONS)
_MACHINE = _library_machine(TRANSITIONS)


def may_fire(event: Event) -> frozenset[Role]:
    """The roles that may fire the event somewhere, under whatever conditions; the timers' own is not among them."""
    ways = (permission.role for row in TRANSITIONS if row.event is event for permission in row.by)
    return frozenset(ways) - {Role.SYSTEM}


#: The facts that a caller may give with each event.
FACTS: Mapping[Event, frozenset[str]] = {
    event: frozenset().union(*(row.facts() for row in TRANSITIONS if row.event is event)) for event in Event
}
#: The rows that fire by themselves, in the order of a life.
TIMERS: tuple[Transition, ...] = tuple(row for row in TRANSITIONS if row.timer is not None)
#: What a sweep may do with the accounts of each timer, in this order; accounts left over are re-armed.
MOVES: Mapping[Transition, tuple[Move, ...]] = {row: Move.of_timer(row) for row in TIMERS}


def _due_term(state: State) -> Term:
    """What ``due_at`` is in a state: the next instant of the one timer whose bracket holds, else NULL."""
    term = literal(None)
    for row in TIMERS:
        if state in row.sources and row.timer is not None:
            term = row.timer.next if row.bracket is None else when(row.bracket.term, row.timer.next, term)
    return term


DUE: Mapping[State, Term] = {state: _due_term(state) for state in State}


def _awaiting_approval() -> Term:
    """Accounts whose cancellation by the company is due and waits for an admin (decision 4)."""
    term = literal(False)
    for row in TIMERS:
        timer = timer_of(row)
        if timer.approvable:
            here = account.state == row.sources[0]
            bracket = literal(True) if row.bracket is None else row.bracket.term
            term = term | (here & bracket & ~timer.automatic & timer.reached)
    return term


AWAITING_APPROVAL: Term = _awaiting_approval()


# --- Decisions -----------------------------------------------------------------------------------


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


def decide(subject: Any, event: str, asked: Request, instant: datetime, values: Policy) -> Decision:
    """What firing ``event`` on an account would change, or :class:`Refused` with every reason.

    ``subject`` needs the columns of :data:`lifecycle.states.account`, ``company``, ``people`` (owners with number,
    e-mail and since when), ``owners`` (their addresses) and ``cases`` (legal holds in force); it is only read. An
    unknown event raises :class:`InvalidInput` and proposes the nearest name.
    """
    name = event_named(event)
    sources = {"account": subject, "request": asked, "now": instant, "policy": values}
    attempt = Attempt(str(subject.state), sources)
    with suppress(
        transitions.MachineError
    ):  # no row of this event leaves the state; the refusal below says what is possible
        _MACHINE.events[str(name)].trigger(attempt)
    if attempt.row is None:
        raise _refusal(subject.state, name, attempt)
    return _decision(Move.of_row(attempt.row), sources)


def tick(subject: Any, instant: datetime, values: Policy) -> Decision | None:
    """What a sweep does with one account now: remind, request, fire or re-arm; None where no timer is set."""
    if subject.due_at is None or subject.due_at > instant:
        return None
    sources = {"account": subject, "request": Request(SYSTEM), "now": instant, "policy": values}
    for row in TIMERS:
        if subject.state not in row.sources or (row.bracket and not row.bracket(sources)):
            continue
        for move in MOVES[row]:
            if holds(move.condition, sources):
                return _decision(move, sources)
    return Decision(None, None, subject.state, subject.state, {"due_at": due(subject, instant, values)})


def give_notice(subject: Any, row: Transition, instant: datetime, values: Policy) -> Decision:
    """What the delivery of the present reminder of ``row``'s timer changes: the notice starts to count."""
    return _decision(Move.of_notice(row), {"account": subject, "request": None, "now": instant, "policy": values})


def withdraw(subject: Any, row: Transition, instant: datetime, values: Policy) -> Decision:
    """What it changes that the request of ``row``'s confirmed timer is taken back before a handler has seen it."""
    sources = {"account": subject, "request": None, "now": instant, "policy": values}
    return _decision(Move.of_withdrawal(row), sources)


def due(subject: Any, instant: datetime, values: Policy) -> datetime | None:
    """The next instant at which a sweep has something to do with the account, or None."""
    result: datetime | None = evaluate(
        DUE[subject.state], {"account": subject, "now": instant, "policy": values, "request": Request(SYSTEM)}
    )
    return result


def _decision(move: Move, sources: Mapping[str, Any]) -> Decision:
    subject = sources["account"]
    dest = move.row.enters(subject.state) if move.moves else subject.state
    overlay = _Overlay(subject)
    after = {**sources, "account": overlay}
    for name, value in move.sets:
        overlay.changes[name] = evaluate(value, after) if isinstance(value, Term) else value(after)
    owes = tuple(o.effect for o in move.owes if o.condition is None or holds(o.condition, after))
    promised = None if move.promised is None else evaluate(move.promised, sources)
    overlay.changes |= {"state": dest, "version": subject.version + 1}
    overlay.changes["due_at"] = due(overlay, sources["now"], sources["policy"])
    return Decision(
        move.row.event, move.step, subject.state, dest, overlay.changes, owes, promised, move.moves and move.row.scrubs
    )


def _refusal(state: State, event: Event, attempt: Attempt) -> Refused:
    if not attempt.reasons:
        possible = ", ".join(sorted({row.event for row in TRANSITIONS if state in row.sources})) or "nothing"
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
