"""Checks of money and access."""

from lifecycle.policy import Policy
from lifecycle.states import CANCELLED, LIVE, Effect, Event, Plan, State, entitlements
from lifecycle.verify import permitted
from lifecycle.verify.happening import Happening, Kind
from lifecycle.verify.judging import day, overdue, said

E = Event


def billing_stops(h: Happening, values: Policy) -> str | None:
    if h.cancels and Effect.STOP_BILLING not in h.owes:
        return "The account was cancelled, and nobody was told to stop billing."
    if h.after.state in CANCELLED and entitlements(h.after, h.now).billed:
        return "A cancelled account is billed."
    return None


def billing_resumes(h: Happening, values: Policy) -> str | None:
    if h.before.state not in LIVE and h.after.state in LIVE:
        paid, told = h.after.plan is Plan.PAID, Effect.RESUME_BILLING in h.owes
        if paid is not told:
            return "A paid plan goes on and nobody bills it." if paid else "Billing was resumed without a paid plan."
    return None


def confirmed(h: Happening, values: Policy) -> str | None:
    missing = (h.cancels or h.fired(E.TERMINATE)) and Effect.CONFIRM_CANCELLATION not in h.owes
    return "The account was cancelled, and its owners were not told." if missing else None


def refund(h: Happening, values: Policy) -> str | None:
    reviewed, paid = Effect.REVIEW_REFUND in h.owes, h.facts.paid_through
    if h.fired(E.RECORD_PAYMENT) and h.before.state in CANCELLED and not reviewed:
        return "Money came after the cancellation, and nobody looks at a refund."
    if not h.cancels:
        return None
    unused = (h.before.last_active_at or h.before.opened_at) + values.refund_unused <= h.now
    began = h.before.period_began_at
    fresh = began is not None and h.now < began + values.refund_new_period
    wasted = paid is not None and paid > h.now and (unused or fresh)
    if wasted and not reviewed:
        return "A paid period goes to waste, and nobody looks at a refund."
    return "People look at a refund without a reason." if reviewed and not wasted else None


def paid_access(h: Happening, values: Policy) -> str | None:
    until = h.then.access_until
    if h.after.state in CANCELLED and until is not None:
        if h.after.access_ends_at is None or h.after.access_ends_at < until:
            return f"Access ends {said(h.after.access_ends_at)}, before {day(until)}."
        if h.enters(State.ACCESS_REVOKED) and h.now < until:
            return f"Access was taken, before {day(until)}."
    return None


def access_ends(h: Happening, values: Policy) -> str | None:
    if h.kind is Kind.WAITED:
        return overdue(h, values, (State.CANCEL_PENDING,), "access was over")
    until = h.then.access_until
    ends = h.after.access_ends_at
    if h.after.state in CANCELLED and until is not None and ends is not None and ends > until:
        return f"Access lasts until {day(ends)}; it should end {day(until)}."
    return None


def trial_lasts(h: Happening, values: Policy) -> str | None:
    if h.fired(E.EXPIRE_TRIAL) and h.now < h.before.trial_ends_at:
        return f"The trial ran out, before {day(h.before.trial_ends_at)}."
    return None


def not_frozen_while_paid(h: Happening, values: Policy) -> str | None:
    paid = h.facts.paid_through
    if h.fired(E.FREEZE) and (paid is None or paid > h.now):
        return f"The account was frozen for billing, although it is paid until {day(paid)}."
    return None


def on_file(h: Happening, values: Policy) -> str | None:
    then = h.then
    columns = {"plan": then.plan, "period_began_at": then.paid_from, "period_ends_at": then.paid_through}
    dates = {State.CONTENT_DELETED: "content_deleted_at", State.PURGED: "purged_at"}
    columns |= {column: h.now for state, column in dates.items() if h.enters(state)}
    if h.fired(E.TERMINATE):
        columns["terminated_at"] = h.now
    for column, want in columns.items():
        if (have := getattr(h.after, column)) != want:
            return f"{column} is {said(have)} on file; it is {said(want)}."
    if (h.after.plan is Plan.FREE) is (h.after.free_since is None):
        return f"The plan is {h.after.plan}, and free since {day(h.after.free_since)}."
    return None


def period_stated(h: Happening, values: Policy) -> str | None:
    before, after = h.before.period_ends_at, h.after.period_ends_at
    if before == after or h.fired(E.RECORD_REFUND):
        return None
    if h.attempt is None or not permitted.states_period(h.attempt.asker):
        return "One who can't know stated until when is paid."
    if after is None or (before is not None and after < before):
        return f"The paid period was shortened from {day(before)} to {day(after)}."
    return None
