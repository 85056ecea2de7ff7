"""Accounts, requests and steps in time for the tests of the definition: nothing here touches a database."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from lifecycle.actor import SYSTEM, Actor, Request
from lifecycle.machine import TIMERS, Decision, decide, due, give_notice, tick
from lifecycle.personal import Person
from lifecycle.policy import Policy
from lifecycle.states import Event, Party, Plan, State, Step, account

NOW = datetime(2027, 5, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
COMPANY, ANN = "Acme Ltd", "ann@acme.test"

OWNER = Actor.owner(ANN)
ADMIN = Actor.admin("root")
BILLING = Actor.billing("stripe")
SUPPORT = Actor.support("sue")


def days(count: float) -> timedelta:
    return timedelta(days=count)


def ago(count: float) -> datetime:
    return NOW - days(count)


def ahead(count: float) -> datetime:
    return NOW + days(count)


_TEN_DAYS_AGO, _FIVE_DAYS_AGO, _IN_TEN_DAYS, _IN_TWENTY_DAYS = ago(10), ago(5), ahead(10), ahead(20)


def an_account(state: State, plan: Plan, **columns: Any) -> SimpleNamespace:
    """An account with every column of the definition; those not named are empty."""
    base = {**dict.fromkeys(account), "opened_at": ago(1000), "version": 7, "legal_holds": 0}
    facts = {"company": COMPANY, "owners": (ANN, "bob@acme.test"), "cases": ()}
    facts["people"] = tuple(Person(number, email) for number, email in enumerate(facts["owners"], start=1))
    return SimpleNamespace(**{**base, **facts, "state": state, "plan": plan, **columns})


def trial(ends_at: datetime = _IN_TEN_DAYS, **columns: Any) -> SimpleNamespace:
    opened = {"opened_at": ends_at - days(30), "trial_ends_at": ends_at}
    return an_account(State.TRIAL, Plan.TRIAL, **{**opened, **columns})


def on_hold(held_at: datetime = _TEN_DAYS_AGO, **columns: Any) -> SimpleNamespace:
    opened = {"opened_at": held_at - days(30), "trial_ends_at": held_at, "held_at": held_at}
    return an_account(State.ON_HOLD, Plan.TRIAL, **{**opened, **columns})


def free(since: datetime = _TEN_DAYS_AGO, **columns: Any) -> SimpleNamespace:
    return an_account(State.ACTIVE, Plan.FREE, free_since=since, **columns)


def paid(until: datetime = _IN_TWENTY_DAYS, **columns: Any) -> SimpleNamespace:
    return an_account(
        State.ACTIVE, Plan.PAID, **{"period_began_at": until - days(30), "period_ends_at": until, **columns}
    )


def unpaid(frozen_at: datetime = _TEN_DAYS_AGO, **columns: Any) -> SimpleNamespace:
    """Frozen for billing."""
    over = {"period_began_at": frozen_at - days(31), "period_ends_at": frozen_at - days(1), "frozen_at": frozen_at}
    return an_account(State.FROZEN, Plan.PAID, **{**over, **columns})


def suspended(before: SimpleNamespace) -> SimpleNamespace:
    """The account as an admin has suspended it."""
    return SimpleNamespace(**{**vars(before), "suspended_from": before.state, "state": State.FROZEN})


def cancelled(
    before: SimpleNamespace,
    state: State = State.CANCEL_PENDING,
    at: datetime = _FIVE_DAYS_AGO,
    access_ends_at: datetime | None = None,
    **columns: Any,
) -> SimpleNamespace:
    """The account as it was cancelled, under the default policy."""
    access = access_ends_at or at
    delete = max(at + days(30), access)
    stamps = {
        "cancelled_at": at,
        "cancelled_by": Party.OWNER,
        "cancelled_from": before.state,
        "access_ends_at": access,
        "delete_content_at": delete,
        "purge_backups_by": max(at + days(60), delete + days(29)),
    }
    return SimpleNamespace(**{**vars(before), **stamps, "state": state, **columns})


def fire(
    subject: SimpleNamespace,
    event: str,
    actor: Actor = ADMIN,
    at: datetime = NOW,
    policy: Policy | None = None,
    **facts: Any,
) -> Decision:
    """The decision on an event; an admin gives a reason unless told otherwise."""
    if actor == ADMIN:
        facts.setdefault("reason", "because")
    return decide(subject, event, Request(actor, **facts), at, policy or Policy())


def changed(subject: SimpleNamespace, decision: Decision) -> SimpleNamespace:
    """The account as the decision leaves it."""
    return SimpleNamespace(**{**vars(subject), **decision.changes})


def after(subject: SimpleNamespace, event: str, *args: Any, **facts: Any) -> SimpleNamespace:
    """The account after an event; takes what :func:`fire` takes."""
    return changed(subject, fire(subject, event, *args, **facts))


def armed(subject: SimpleNamespace, at: datetime = NOW, policy: Policy | None = None) -> SimpleNamespace:
    """The account with the ``due_at`` that the store would have given it at ``at``."""
    return SimpleNamespace(**{**vars(subject), "due_at": due(subject, at, policy or Policy())})


def swept(
    subject: SimpleNamespace, at: datetime, policy: Policy | None = None, deliver: bool = True
) -> tuple[SimpleNamespace, list[tuple[Step, Event]]]:
    """The account after everything due at ``at``, and the steps taken; reminders are delivered at once."""
    values, steps = policy or Policy(), []
    while (decision := tick(subject, at, values)) is not None:
        subject = changed(subject, decision)
        if decision.step is None:
            continue
        steps.append((decision.step, decision.event))
        assert len(steps) < 20, f"the sweep does not come to rest: {steps}"
        if decision.step is Step.REMIND and deliver:
            subject = delivered(subject, decision.event, at, values)
    return subject, steps


def delivered(subject: SimpleNamespace, event: Event, at: datetime, policy: Policy | None = None) -> SimpleNamespace:
    """The account after its reminder reached the owners."""
    (row,) = (row for row in TIMERS if row.event is event)
    return changed(subject, give_notice(subject, row, at, policy or Policy()))


def confirmed(subject: SimpleNamespace, event: str, at: datetime) -> SimpleNamespace:
    """The account after a handler's receipt."""
    return changed(subject, decide(subject, event, Request(SYSTEM, receipt="done"), at, Policy()))
