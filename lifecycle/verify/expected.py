"""Where an account goes, and by when, as the policy says it: by hand, for the promises to compare with."""

from datetime import datetime, timedelta

from lifecycle.policy import CompanyCancellation, Policy
from lifecycle.states import Event, Plan, State
from lifecycle.verify.facts import (
    Facts,
    company_deadline,
    company_event,
    deletion_reminder_from,
    destruction_from,
)
from lifecycle.verify.world import Subject


def due_by(subject: Subject, facts: Facts, values: Policy) -> datetime | None:
    """The latest instant at which the engine must look at the account again, or None where it may rest."""
    if (ending := customers_end(subject, facts, values)) is not None:
        by_event, ends, reminded_from = ending
        reminder = facts.reminder
        given = reminder is not None and reminder.event is by_event and reminder.asked >= reminded_from
        return ends if given else reminded_from
    if subject.state is State.ACCESS_REVOKED:
        return _deletion_due(facts, values)
    if subject.state is State.CONTENT_DELETED:
        if facts.holds or facts.purge_asked is not None or facts.purge_by is None:
            return None
        return destruction_from(facts.purge_by - values.purge_lead, facts, values)
    event = company_event(subject, facts)
    deadline = None if event is None else company_deadline(event, facts, values)
    if event is None or deadline is None:
        return None
    automatic = values.company_cancellation is CompanyCancellation.AUTOMATIC
    return _after_notice(facts, deadline, deadline - values.company_notice, values.company_notice, (event,), automatic)


def customers_end(subject: Subject, facts: Facts, values: Policy) -> tuple[Event, datetime, datetime] | None:
    """What ends for a customer in this state (trial or access): by which event, when, and reminded from when on."""
    if subject.state is State.TRIAL:
        return Event.EXPIRE_TRIAL, subject.trial_ends_at, subject.trial_ends_at - values.trial_reminder
    if subject.state is State.CANCEL_PENDING and facts.access_until is not None:
        return Event.REVOKE_ACCESS, facts.access_until, facts.access_until - values.access_reminder
    return None


def _deletion_due(facts: Facts, values: Policy) -> datetime | None:
    if facts.holds or facts.erasure_asked is not None or facts.delete_at is None or facts.access_until is None:
        return None
    opens = deletion_reminder_from(facts, values)
    events = (Event.DELETE_CONTENT, Event.REVOKE_ACCESS)
    return _after_notice(
        facts, destruction_from(facts.delete_at, facts, values), opens, values.deletion_notice, events, True
    )


def _after_notice(
    facts: Facts, deadline: datetime, opens: datetime, lead: timedelta, events: tuple[Event, ...], automatic: bool
) -> datetime | None:
    """First the reminder, then nothing until it is delivered, then the deadline or the end of the notice."""
    reminder = facts.reminder
    if reminder is None or reminder.event not in events or reminder.asked < opens:
        return opens
    if reminder.delivered is None or not automatic:
        return None
    return max(deadline, reminder.delivered + lead)


def way_up(subject: Subject, facts: Facts, now: datetime) -> State:
    """Where a suspended account goes when the suspension is lifted."""
    runs = facts.paid_through is not None and facts.paid_through > now
    if runs and subject.plan is not Plan.FREE:
        return State.ACTIVE
    if subject.plan is Plan.TRIAL:
        began_in_trial = facts.suspended_from is State.TRIAL and subject.trial_ends_at > now
        return State.TRIAL if began_in_trial else State.ON_HOLD
    unpaid = subject.plan is Plan.PAID or facts.suspended_from is State.FROZEN
    return State.FROZEN if unpaid and not runs else State.ACTIVE


def way_back(subject: Subject, facts: Facts, now: datetime, values: Policy, paying: datetime | None) -> State | None:
    """Where a cancelled account goes when it is reactivated; None where only a payment brings it back."""
    if facts.suspended_from is not None:
        return State.FROZEN
    if any(period is not None and period > now for period in (facts.paid_through, paying)):
        return State.ACTIVE
    if subject.plan is Plan.PAID:
        since, limit, dest = facts.frozen_since, values.unpaid_cancellation_after, State.FROZEN
    elif subject.plan is Plan.FREE:
        return State.ACTIVE
    elif subject.trial_ends_at is not None and subject.trial_ends_at > now:
        return State.TRIAL
    else:
        since, limit, dest = facts.held_since, values.expired_trial_cancellation_after, State.ON_HOLD
    return dest if since is None or now < since + limit else None
