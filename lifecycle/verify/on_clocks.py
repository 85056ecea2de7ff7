"""Checks of clocks, notices and suspensions."""

from datetime import datetime

from lifecycle.policy import Policy
from lifecycle.states import CANCELLED, LIVE, Effect, Event, State, Step
from lifecycle.verify.expected import customers_end, due_by
from lifecycle.verify.facts import company_deadline, deletion_reminder_from, destruction_from
from lifecycle.verify.happening import Happening, Kind
from lifecycle.verify.judging import COMPANY_EVENTS, day, overdue, said

E = Event


def due_in_time(h: Happening, values: Policy) -> str | None:
    latest = due_by(h.after, h.then, values)
    if latest is not None and (h.after.due_at is None or h.after.due_at > latest):
        return f"The next look at the account is {said(h.after.due_at or 'never')}; it should be {day(latest)}."
    return None


def not_overdue(h: Happening, values: Policy) -> str | None:
    return overdue(h, values, LIVE, "its time had come")


def void_notice(h: Happening, values: Policy) -> str | None:
    left = (column for column in ("reminder", "reminded_at", "not_before") if getattr(h.after, column) is not None)
    if h.then.reminder is None and (column := next(left, None)) is not None:
        return f"No notice counts any more, and {column} is still there."
    return None


def notice_in_full(h: Happening, values: Policy) -> str | None:
    if h.kind is not Kind.DELIVERED or h.event is E.EXPIRE_TRIAL:  # a trial ends on its date, notice or not
        return None
    earliest = h.now + (values.company_notice if h.event in COMPANY_EVENTS else values.deletion_notice)
    if h.after.not_before != earliest:
        return f"The notice lasts until {said(h.after.not_before)}; it should until {day(earliest)}."
    return None


def date_named(h: Happening, values: Policy) -> str | None:
    if h.decision is None or h.decision.step is not Step.REMIND or h.event is None:
        return None
    earliest = _earliest(h, h.event, values)
    if h.decision.promised != earliest:
        return f"The reminder names {said(h.decision.promised)}; it should be {day(earliest)}."
    return None


def _earliest(h: Happening, event: Event, values: Policy) -> datetime | None:
    """The first instant at which what is reminded of can happen, if the reminder is delivered at once."""
    facts = h.facts
    if (ending := customers_end(h.before, facts, values)) is not None:
        return ending[1]
    if event is E.DELETE_CONTENT:
        date = facts.delete_at and destruction_from(facts.delete_at, facts, values)
        return date and max(date, h.now + values.deletion_notice)
    date = company_deadline(event, facts, values)
    return date and max(date, h.now + values.company_notice)


def suspension_ends(h: Happening, values: Policy) -> str | None:
    if h.facts.suspended_from is None or h.then.suspended_from is None:
        if h.fired(E.LIFT_SUSPENSION) and h.after.suspended_from is not None:
            return "The suspension was lifted, and stays."
        if h.then.suspended_from is not None and h.after.suspended_from is not h.then.suspended_from:
            return f"The suspension is not remembered: {h.after.suspended_from}, not {h.then.suspended_from}."
        return None
    if h.after.state not in (State.FROZEN, *CANCELLED) or h.after.suspended_from is None:
        return "The suspension ended without an admin's lifting it."
    return None


def clocks_stand(h: Happening, values: Policy) -> str | None:
    clocks = (("held_at", h.then.held_since, "hold"), ("frozen_at", h.then.frozen_since, "freeze"))
    for column, since, words in clocks:
        if getattr(h.after, column) != since:
            return f"The {words} counts from {said(getattr(h.after, column) or 'never')}, not from {day(since)}."
    return None


def company_notice(h: Happening, values: Policy) -> str | None:
    decision = h.decision
    if not h.fired(*COMPANY_EVENTS) or decision is None or decision.event is None:
        return None
    deadline, reminder = company_deadline(decision.event, h.facts, values), h.facts.reminder
    if reminder is None or reminder.event is not decision.event or reminder.delivered is None:
        return "The company cancelled the account without a notice."
    if deadline is not None and reminder.asked < deadline - values.company_notice:
        return f"The notice of {day(reminder.asked)} was given for another clock."
    if h.now < reminder.delivered + values.company_notice:
        return f"The notice was delivered only {day(reminder.delivered)}."
    return None


def deletion_notice(h: Happening, values: Policy) -> str | None:
    if not h.requested(E.DELETE_CONTENT) or h.facts.delete_at is None:
        return None
    reminder = h.facts.reminder
    if reminder is None or reminder.delivered is None:
        return "Content was to be deleted without a notice."
    if reminder.asked < deletion_reminder_from(h.facts, values):
        return f"The notice of {day(reminder.asked)} was given for another date."
    if h.now < reminder.delivered + values.deletion_notice:
        return f"The notice of the deletion was delivered only {day(reminder.delivered)}."
    return None


#: What each state's reminder is.
_REMINDERS = {
    E.EXPIRE_TRIAL: Effect.REMIND_TRIAL_END,
    E.REVOKE_ACCESS: Effect.REMIND_ACCESS_END,
    E.DELETE_CONTENT: Effect.REMIND_DELETION,
    **dict.fromkeys(COMPANY_EVENTS, Effect.REMIND_COMPANY_CANCELLATION),
}


def reminded(h: Happening, values: Policy) -> str | None:
    reminds = h.decision is not None and h.decision.step is Step.REMIND
    if reminds and h.event is not None and _REMINDERS.get(h.event) not in h.owes:
        return "A reminder was due, and none is sent."
    ending = customers_end(h.before, h.facts, values)
    if reminds and ending is not None and h.now < ending[2]:
        return f"A reminder was sent before {day(ending[2])}."
    if h.facts.reminder is None and h.fired(E.EXPIRE_TRIAL) and h.kind is Kind.SWEPT and h.facts.ordinary:
        return "The trial ran out without a reminder."
    if h.facts.reminder is None and h.fired(E.REVOKE_ACCESS) and h.kind is Kind.SWEPT and h.facts.ordinary:
        began, until = h.facts.cancelled_at, h.facts.access_until
        if began is not None and until is not None and until - began > values.access_reminder:
            return "Access ended without a reminder."
    return None
