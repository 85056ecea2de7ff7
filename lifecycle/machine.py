"""The definition of the lifecycle, and the decision on one account.

:data:`TRANSITIONS` states every transition once, as data: who may fire it, under which guards, what it
sets, what it owes, which clauses of the policy it keeps, and at which deadline it fires by itself.
Everything else reads it: :data:`decide` and :data:`tick` for one account (:mod:`lifecycle.definition`), the sweep's
SQL for a million, the diagrams, the reference and the schema's constraints.

This module does no I/O, no logging, and reads no clock.
"""

from collections.abc import Mapping

from lifecycle import deadlines as d
from lifecycle import guards as g
from lifecycle.actor import Role
from lifecycle.checks import check
from lifecycle.definition import Decision, Definition, event_named
from lifecycle.policy import Clause
from lifecycle.rows import Move, Owed, Permission, Transition, timer_of
from lifecycle.states import FINAL, LIVE, Effect, Event, Party, Plan, State, account, request
from lifecycle.terms import Term, default, earliest, literal, now, when

__all__ = [
    "AWAITING_APPROVAL",
    "DEFINITION",
    "DUE",
    "FACTS",
    "MOVES",
    "TIMERS",
    "TRANSITIONS",
    "Decision",
    "decide",
    "due",
    "event_named",
    "give_notice",
    "may_fire",
    "tick",
    "withdraw",
]

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


# --- The definition at work ------------------------------------------------------------------------

check(TRANSITIONS)
#: The one that counts: decisions, sweeps, pictures and constraints read it.
DEFINITION = Definition(TRANSITIONS)

decide = DEFINITION.decide
tick = DEFINITION.tick
give_notice = DEFINITION.give_notice
withdraw = DEFINITION.withdraw
due = DEFINITION.due
TIMERS: tuple[Transition, ...] = DEFINITION.timers
MOVES: Mapping[Transition, tuple[Move, ...]] = DEFINITION.moves
DUE: Mapping[State, Term] = DEFINITION.due_terms


def may_fire(event: Event) -> frozenset[Role]:
    """The roles that may fire the event somewhere, under whatever conditions; the timers' own is not among them."""
    ways = (permission.role for row in TRANSITIONS if row.event is event for permission in row.by)
    return frozenset(ways) - {Role.SYSTEM}


#: The facts that a caller may give with each event.
FACTS: Mapping[Event, frozenset[str]] = {
    event: frozenset().union(*(row.facts() for row in TRANSITIONS if row.event is event)) for event in Event
}


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
