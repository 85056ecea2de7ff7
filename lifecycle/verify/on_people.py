"""Checks of who may, and of who must be able to."""

from lifecycle.policy import CompanyCancellation, Policy
from lifecycle.states import LIVE, Effect, Event, State
from lifecycle.verify import permitted
from lifecycle.verify.facts import company_deadline, company_event
from lifecycle.verify.happening import Happening, Kind
from lifecycle.verify.judging import COMPANY_EVENTS, by, day, pays
from lifecycle.verify.possible import WHERE, can_happen, leads_to
from lifecycle.verify.world import ADMIN_ASKS, BILLING_ASKS, OWNER_ASKS

E = Event


def owners_cancel(h: Happening, values: Policy) -> str | None:
    return _forbidden(h, values, (E.CANCEL, E.REQUEST_CANCELLATION))


def company_clauses(h: Happening, values: Policy) -> str | None:
    if not h.fired(*COMPANY_EVENTS) or h.decision is None or h.decision.event is None:
        return None
    event = h.decision.event
    if company_event(h.before, h.facts) is not event:
        return f"{event} is no clause for this account."
    deadline = company_deadline(event, h.facts, values)
    if deadline is None or h.now < deadline:
        return f"The company cancelled the account, before {day(deadline)}."
    if h.kind is Kind.SWEPT and values.company_cancellation is CompanyCancellation.APPROVAL:
        return "The company cancelled the account without the approval of an admin."
    return _forbidden(h, values, COMPANY_EVENTS)


def entitled_return(h: Happening, values: Policy) -> str | None:
    return _forbidden(h, values, (E.REACTIVATE,))


def others_permitted(h: Happening, values: Policy) -> str | None:
    return _forbidden(h, values, permitted.OTHERS)


def _forbidden(h: Happening, values: Policy, events: tuple[Event, ...]) -> str | None:
    asked = h.attempt
    if asked is None or asked.event not in events:
        return None
    if permitted.may(asked.event, asked.asker, asked.request, h.facts, h.now, values):
        return None
    return f"{asked.event} was accepted from {asked.asker.words}."


#: What is sent to owners when somebody asks for it.
_SENT = {
    **dict.fromkeys((E.ADD_OWNER, E.REMOVE_OWNER), Effect.TELL_OWNER_CHANGE),
    E.CONTACT_OWNERS: Effect.CONTACT_OWNERS,
    E.REQUEST_CANCELLATION: Effect.VERIFY_OWNER,
}


def owners_are_written_to(h: Happening, values: Policy) -> str | None:
    if h.attempt is not None and h.attempt.event in _SENT and _SENT[h.attempt.event] not in h.owes:
        return f"{h.attempt.event} was accepted, and {_SENT[h.attempt.event]} is not owed."
    return None


def permitted_are_heard(h: Happening, values: Policy) -> str | None:
    asked = h.attempt
    if asked is None or not can_happen(asked.event, h.before, h.facts, h.now, asked.request, values):
        return None
    if permitted.may(asked.event, asked.asker, asked.request, h.facts, h.now, values):
        return f"{asked.event} was refused to {asked.asker.words}."
    return None


def only_what_can_happen(h: Happening, values: Policy) -> str | None:
    asked = h.attempt
    if asked is None or asked.event not in WHERE:
        return None
    if can_happen(asked.event, h.before, h.facts, h.now, asked.request, values):
        return None
    return f"{asked.event} was accepted, and can't happen to this account now."


def right_destination(h: Happening, values: Policy) -> str | None:
    event = None if h.decision is None else h.decision.event
    if event is None or event in (E.REACTIVATE, E.LIFT_SUSPENSION):
        return None
    dest = leads_to(event, h.before.state) if h.fired() else h.before.state
    return None if h.after.state is dest else f"{event} led to {h.after.state} instead of {dest}."


def owner_can_cancel(h: Happening, values: Policy) -> str | None:
    if h.event is E.CANCEL and by(h, OWNER_ASKS) and h.before.state in LIVE:
        return "The owner could not cancel."
    return None


def hold_exits(h: Happening, values: Policy) -> str | None:
    if h.event is E.UPGRADE and by(h, BILLING_ASKS) and pays(h) and h.before.state in (State.TRIAL, State.ON_HOLD):
        return "The customer paid, and could not upgrade."
    return None


def payment_thaws(h: Happening, values: Policy) -> str | None:
    unpaid = h.before.state is State.FROZEN and h.facts.suspended_from is None
    if unpaid and h.event is E.THAW and by(h, BILLING_ASKS) and pays(h):
        return "The customer paid, and the account stayed frozen."
    return None


def company_may(h: Happening, values: Policy) -> str | None:
    if not by(h, ADMIN_ASKS):
        return None
    there = h.before.state in (*LIVE, State.CANCEL_PENDING, State.ACCESS_REVOKED)
    suspended = h.before.state is State.FROZEN and h.facts.suspended_from is not None
    if there and (h.event is E.TERMINATE or (h.event is E.SUSPEND and not suspended)):
        return f"An admin with a reason could not {h.event} the account."
    if suspended and h.event is E.LIFT_SUSPENSION:
        return "An admin could not lift the suspension."
    if h.event is E.PLACE_HOLD and h.before.state is not State.PURGED:
        return "An admin could not place a legal hold."
    return None
