"""What is true of an account by what has happened to it, told in plain Python from the policy alone.

The promises compare the definition with these facts. Nothing here reads a term, a guard or a timer: a fault of the
definition must not become a fault of its judge.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from lifecycle.actor import Request
from lifecycle.policy import DeletionClock, Policy
from lifecycle.states import CANCELLED, LIVE, Event, Party, Plan, State, Step
from lifecycle.verify.world import Subject


class Reminder(NamedTuple):
    """A reminder: of which event, when it was asked for, and when it was delivered or given up."""

    event: Event
    asked: datetime
    delivered: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The life so far. Instants are None where nothing of the kind has happened, or no longer counts.

    ``access_until``, ``delete_at`` and ``purge_by`` are what the policy promised; ``ordinary`` says that since the
    cancellation nobody was late and nothing out of the ordinary happened.
    """

    plan: Plan
    paid_through: datetime | None = None
    paid_from: datetime | None = None
    held_since: datetime | None = None
    frozen_since: datetime | None = None
    inactive_since: datetime | None = None
    suspended_from: State | None = None
    cancelled_at: datetime | None = None
    cancelled_by: Party | None = None
    access_until: datetime | None = None
    delete_at: datetime | None = None
    purge_by: datetime | None = None
    terminated: bool = False
    erasure_asked: datetime | None = None
    purge_asked: datetime | None = None
    holds: int = 0
    hold_released: datetime | None = None
    reminder: Reminder | None = None
    ordinary: bool = True

    @classmethod
    def of(cls, subject: Subject) -> "Facts":
        """What is on file of an account that exploring begins with."""
        return cls(
            plan=subject.plan,
            paid_through=subject.period_ends_at,
            paid_from=subject.period_began_at,
            held_since=subject.held_at,
            frozen_since=subject.frozen_at,
            inactive_since=max((at for at in (subject.last_active_at, subject.free_since) if at), default=None),
            suspended_from=subject.suspended_from,
            cancelled_at=subject.cancelled_at,
            cancelled_by=subject.cancelled_by,
            access_until=subject.access_ends_at,
            delete_at=subject.delete_content_at,
            purge_by=subject.purge_backups_by,
        )


def deletion_date(cancelled: datetime, access_until: datetime, values: Policy) -> datetime:
    """When content goes: the days after the cancellation, but not while there is access; or after that."""
    if values.deletion_clock is DeletionClock.END_OF_ACCESS:
        return access_until + values.deletion_after
    return max(cancelled + values.deletion_after, access_until)


def purge_date(cancelled: datetime, delete_at: datetime, values: Policy) -> datetime:
    """By when backups are gone."""
    return max(cancelled + values.purge_after, delete_at + values.purge_after_deletion)


def destruction_from(date: datetime, facts: Facts, values: Policy) -> datetime:
    """A date of destruction, moved by the wait after a legal hold."""
    released = facts.hold_released
    return date if released is None else max(date, released + values.hold_release_notice)


def deletion_reminder_from(facts: Facts, values: Policy) -> datetime:
    """From when on a reminder counts as the notice of the deletion."""
    assert facts.delete_at is not None and facts.access_until is not None
    date = destruction_from(facts.delete_at, facts, values)
    opens = date - values.deletion_notice
    if facts.access_until + values.deletion_notice > date:
        return min(opens, facts.access_until - values.access_reminder)
    return opens


def company_deadline(event: Event, facts: Facts, values: Policy) -> datetime | None:
    """From when on the company may cancel under one of its three clauses; None where the clock does not run."""
    after = {
        Event.CANCEL_EXPIRED_TRIAL: (facts.held_since, values.expired_trial_cancellation_after),
        Event.CANCEL_UNPAID: (facts.frozen_since, values.unpaid_cancellation_after),
        Event.CANCEL_INACTIVE: (facts.inactive_since, values.inactive_cancellation_after + values.activity_resolution),
    }
    clock, duration = after[event]
    return None if clock is None else clock + duration


def company_event(subject: Subject, facts: Facts) -> Event | None:
    """The clause under which the company may cancel the account as it is."""
    if facts.suspended_from is not None:
        return None
    if subject.state is State.ACTIVE:
        return Event.CANCEL_INACTIVE if subject.plan is Plan.FREE else None
    return {State.ON_HOLD: Event.CANCEL_EXPIRED_TRIAL, State.FROZEN: Event.CANCEL_UNPAID}.get(subject.state)


# --- What happens --------------------------------------------------------------------------------


def told(
    facts: Facts,
    event: Event,
    step: Step,
    asked: Request | None,
    now: datetime,
    subject: Subject,
    dest: State,
    values: Policy,
) -> Facts:
    """The facts after a step that an account, as it was before, has taken."""
    if step is Step.REMIND:
        return replace(facts, reminder=Reminder(event, now))
    if step is Step.NOTICE:
        reminder = facts.reminder
        return facts if reminder is None else replace(facts, reminder=reminder._replace(delivered=now))
    if step is Step.REQUEST:
        return replace(facts, erasure_asked=now) if event is Event.DELETE_CONTENT else replace(facts, purge_asked=now)
    if asked is not None and asked.period_ends_at is not None:
        # What is paid after a cancellation, or in a suspension, changes no plan.
        plan = facts.plan if event is Event.RECORD_PAYMENT else Plan.PAID
        facts = replace(facts, paid_through=asked.period_ends_at, paid_from=now, plan=plan)
    if event is Event.PLACE_HOLD:
        return _held(facts, asked, subject)
    if event is Event.RELEASE_HOLD:
        return replace(facts, holds=0, hold_released=now, ordinary=False)
    if subject.state in LIVE:
        if dest in CANCELLED:
            return _cancelled(facts, event, subject, now, values)
        return _lived_on(facts, event, subject, dest, now)
    if dest in LIVE:
        return _returned(facts, subject, dest, now)
    return _while_cancelled(facts, event, subject, dest, now, values)


def _held(facts: Facts, asked: Request | None, subject: Subject) -> Facts:
    withdrawn = asked is not None and asked.unclaimed
    erasure = None if withdrawn and subject.state is State.ACCESS_REVOKED else facts.erasure_asked
    purge = None if withdrawn else facts.purge_asked
    return replace(facts, holds=facts.holds + 1, ordinary=False, erasure_asked=erasure, purge_asked=purge)


def _cancelled(facts: Facts, event: Event, subject: Subject, now: datetime, values: Policy) -> Facts:
    terminated = event is Event.TERMINATE
    until = [now]
    if not terminated and facts.suspended_from is None:
        until += [] if facts.paid_through is None else [facts.paid_through]
        until += [subject.trial_ends_at] if subject.state is State.TRIAL else []
    access = max(until)
    delete = deletion_date(now, access, values)
    return replace(
        facts,
        cancelled_at=now,
        cancelled_by=Party.OWNER if event is Event.CANCEL else Party.COMPANY,
        access_until=access,
        delete_at=delete,
        purge_by=purge_date(now, delete, values),
        terminated=terminated,
        reminder=None,
        ordinary=facts.hold_released is None and facts.holds == 0,
    )


def _lived_on(facts: Facts, event: Event, subject: Subject, dest: State, now: datetime) -> Facts:
    if event is Event.SUSPEND:
        return replace(facts, suspended_from=subject.state, reminder=None)
    if event is Event.LIFT_SUSPENSION:
        facts = replace(facts, suspended_from=None, plan=_plan_with_access(facts, dest))
    if event is Event.DOWNGRADE:
        facts = replace(facts, inactive_since=now, plan=Plan.FREE)
    return _arrived(facts, dest, now, moved=dest is not subject.state)


def _plan_with_access(facts: Facts, dest: State) -> Plan:
    """Who comes back to an active account from a trial has paid for it."""
    return Plan.PAID if dest is State.ACTIVE and facts.plan is Plan.TRIAL else facts.plan


def _arrived(facts: Facts, dest: State, now: datetime, moved: bool) -> Facts:
    """Clocks start when an account first gets there, and only an active account has them cleared."""
    if dest is State.ACTIVE:
        facts = replace(facts, held_since=None, frozen_since=None)
    elif dest is State.ON_HOLD and facts.held_since is None:
        facts = replace(facts, held_since=now)
    elif dest is State.FROZEN and facts.suspended_from is None and facts.frozen_since is None:
        facts = replace(facts, frozen_since=now)
    return replace(facts, reminder=None) if moved else facts


_NOT_CANCELLED: dict[str, Any] = {
    **dict.fromkeys(("cancelled_at", "cancelled_by", "access_until", "delete_at", "purge_by")),
    **{"terminated": False, "ordinary": True},
}


def _returned(facts: Facts, subject: Subject, dest: State, now: datetime) -> Facts:
    runs = facts.paid_through is not None and facts.paid_through > now
    free_again = dest is State.ACTIVE and subject.plan is Plan.FREE and not runs
    back = replace(facts, **_NOT_CANCELLED, plan=_plan_with_access(facts, dest))
    return _arrived(replace(back, inactive_since=now) if free_again else back, dest, now, moved=True)


def _while_cancelled(facts: Facts, event: Event, subject: Subject, dest: State, now: datetime, values: Policy) -> Facts:
    if event is Event.DELETE_CONTENT:
        return replace(facts, reminder=None)
    if event is Event.RECORD_REFUND:
        paid = facts.paid_through
        return replace(facts, paid_through=paid if paid is None else min(paid, now))
    if event in (Event.SUSPEND, Event.TERMINATE):
        assert facts.access_until is not None
        facts = replace(facts, access_until=min(facts.access_until, now), ordinary=False)
        if event is Event.TERMINATE:
            return replace(facts, terminated=True)
        return replace(facts, suspended_from=facts.suspended_from or subject.cancelled_from)
    if event is Event.RECORD_PAYMENT and subject.state is State.CANCEL_PENDING and facts.suspended_from is None:
        assert facts.access_until and facts.cancelled_at and facts.delete_at and facts.purge_by
        access = max(facts.access_until, facts.paid_through or facts.access_until)
        delete = max(facts.delete_at, deletion_date(facts.cancelled_at, access, values))
        purge = max(facts.purge_by, purge_date(facts.cancelled_at, delete, values))
        return replace(facts, access_until=access, delete_at=delete, purge_by=purge, ordinary=False)
    return facts
