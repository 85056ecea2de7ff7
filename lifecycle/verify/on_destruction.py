"""Checks of destruction, of the dates that are promised, and of the way back."""

from lifecycle.policy import Policy
from lifecycle.states import DESTRUCTIVE, LIVE, Event, State
from lifecycle.verify.expected import way_back, way_up
from lifecycle.verify.happening import Happening, Kind
from lifecycle.verify.judging import by, day, overdue, said
from lifecycle.verify.world import OWNER_ASKS

E = Event


def not_early(h: Happening, values: Policy) -> str | None:
    date = h.facts.delete_at
    if h.requested(E.DELETE_CONTENT) and date is not None and h.now < date:
        return f"Content was to be deleted, before {day(date)}."
    return None


def purge_not_early(h: Happening, values: Policy) -> str | None:
    if not h.requested(E.PURGE_BACKUPS):
        return None
    if h.before.state is not State.CONTENT_DELETED:
        return "Backups were to be purged while the content was still there."
    if h.facts.purge_by is not None and h.now < h.facts.purge_by - values.purge_lead:
        return f"Backups were to be purged, before {day(h.facts.purge_by - values.purge_lead)}."
    return None


def not_before_access_ends(h: Happening, values: Policy) -> str | None:
    until = h.facts.access_until
    if h.requested(E.DELETE_CONTENT) and until is not None and h.now < until:
        return f"Content was to be deleted while there was access until {day(until)}."
    return None


def only_cancelled(h: Happening, values: Policy) -> str | None:
    destroys = any(effect in DESTRUCTIVE for effect in h.owes) or h.enters(State.CONTENT_DELETED)
    if destroys and (h.facts.cancelled_at is None or h.before.state in LIVE):
        return "Content of an account was to be destroyed that nobody has cancelled."
    return None


def deletion_on_time(h: Happening, values: Policy) -> str | None:
    facts = h.facts
    if h.kind is Kind.WAITED:
        return overdue(h, values, (State.ACCESS_REVOKED,), "the deletion was due")
    if h.requested(E.DELETE_CONTENT) and facts.ordinary and facts.delete_at is not None and h.now > facts.delete_at:
        return f"The deletion was asked for only now; it was due {day(facts.delete_at)}."
    return None


def purge_on_time(h: Happening, values: Policy) -> str | None:
    facts = h.facts
    if h.kind is Kind.WAITED:
        return overdue(h, values, (State.CONTENT_DELETED,), "the purge was due")
    if h.requested(E.PURGE_BACKUPS) and facts.ordinary and facts.purge_by is not None and h.now > facts.purge_by:
        return f"Backups were to be purged only now; the deadline was {day(facts.purge_by)}."
    return None


_STAMPS = {
    "cancelled_at": "cancelled_at",
    "cancelled_by": "cancelled_by",
    "delete_content_at": "delete_at",
    "purge_backups_by": "purge_by",
}


def stamped(h: Happening, values: Policy) -> str | None:
    if not h.cancels:
        return None
    wrong = [f"{column} is {said(have)} instead of {said(want)}" for column, fact in _STAMPS.items()
             if (have := getattr(h.after, column)) != (want := getattr(h.then, fact))]  # fmt: skip
    if h.after.cancelled_from is not h.before.state:
        wrong.append(f"cancelled_from is {h.after.cancelled_from} instead of {h.before.state}")
    return f"The cancellation wrote down wrong dates: {', '.join(wrong)}." if wrong else None


def never_shortened(h: Happening, values: Policy) -> str | None:
    if h.before.state in LIVE or h.after.state in LIVE:
        return None
    for column, fact in (("delete_content_at", h.then.delete_at), ("purge_backups_by", h.then.purge_by)):
        have = getattr(h.after, column)
        if have is None or (fact is not None and have < fact):
            return f"{column} was moved forward to {said(have)}; {said(fact)} was promised."
    return None


def requested_first(h: Happening, values: Policy) -> str | None:
    confirmed = {State.CONTENT_DELETED: h.facts.erasure_asked, State.PURGED: h.facts.purge_asked}
    for state, asked in confirmed.items():
        if h.enters(state):
            if asked is None:
                return f"The account is {state}, and nobody was asked to do it."
            if h.attempt is None or h.attempt.request.receipt is None:
                return f"The account is {state} without a receipt."
    return None


def scrubbed(h: Happening, values: Policy) -> str | None:
    if h.enters(State.PURGED) and h.decision is not None and not h.decision.scrubs:
        return "The account is purged, and the people's data on file are still there."
    return None


def one_request(h: Happening, values: Policy) -> str | None:
    for event, asked in ((E.DELETE_CONTENT, h.facts.erasure_asked), (E.PURGE_BACKUPS, h.facts.purge_asked)):
        if h.requested(event) and asked is not None:
            return f"{event} was requested once more; the request of {day(asked)} is still in force."
    return None


def not_under_hold(h: Happening, values: Policy) -> str | None:
    if h.facts.holds and (h.requested(E.DELETE_CONTENT) or h.requested(E.PURGE_BACKUPS)):
        return "Destruction was requested under a legal hold."
    if h.fired(E.PLACE_HOLD):
        marks = ("erasure_requested_at", h.then.erasure_asked), ("purge_requested_at", h.then.purge_asked)
        for column, asked in marks:
            if asked is None and getattr(h.after, column) is not None and getattr(h.facts, _MARKS[column]) is not None:
                return "A legal hold was placed, and the request that no handler had yet was not taken back."
            if asked is not None and getattr(h.after, column) is None:
                return "A legal hold forgot a request that a handler had in hand already."
    if h.fired(E.PLACE_HOLD) and h.after.legal_holds <= h.before.legal_holds:
        return "A legal hold was placed and is not in force."
    return None


_MARKS = {"erasure_requested_at": "erasure_asked", "purge_requested_at": "purge_asked"}


def wait_after_hold(h: Happening, values: Policy) -> str | None:
    released = h.facts.hold_released
    if released is not None and (h.requested(E.DELETE_CONTENT) or h.requested(E.PURGE_BACKUPS)):
        earliest = released + values.hold_release_notice
        if h.now < earliest:
            return f"Destruction was requested, before {day(earliest)}: the legal hold had just been released."
    return None


def no_return(h: Happening, values: Policy) -> str | None:
    if h.before.state not in LIVE and h.after.state in LIVE:
        if h.facts.erasure_asked is not None:
            return "The account came back although its deletion had been requested."
        if h.before.state not in (State.CANCEL_PENDING, State.ACCESS_REVOKED):
            return "The account came back without its content."
    return None


_CLEARED = (*_STAMPS, "cancelled_from", "access_ends_at", "terminated_at", "erasure_requested_at")


def return_clears(h: Happening, values: Policy) -> str | None:
    if h.before.state not in LIVE and h.after.state in LIVE:
        left = [column for column in _CLEARED if getattr(h.after, column) is not None]
        if left:
            return f"The account came back, and {', '.join(left)} still stand."
    return None


def may_return(h: Happening, values: Policy) -> str | None:
    plain = h.attempt is not None and h.attempt.request.period_ends_at is None
    plain = plain and h.before.state in (State.CANCEL_PENDING, State.ACCESS_REVOKED)
    if (
        h.event is E.REACTIVATE
        and by(h, OWNER_ASKS)
        and plain
        and not h.facts.terminated
        and h.facts.erasure_asked is None
    ):
        dest = way_back(h.before, h.facts, h.now, values, None)
        if dest is not None:
            return f"The owner could not have the account back; it should have become {dest}."
    return None


def right_way(h: Happening, values: Policy) -> str | None:
    asked = h.attempt
    if asked is None or not h.fired(E.REACTIVATE, E.LIFT_SUSPENSION):
        return None
    dest: State | None
    if h.fired(E.LIFT_SUSPENSION):
        dest = way_up(h.before, h.facts, h.now)
    else:
        dest = way_back(h.before, h.facts, h.now, values, asked.request.period_ends_at)
    if dest is None:
        return f"The account became {h.after.state} although only a payment could bring it back."
    return None if h.after.state is dest else f"The account became {h.after.state} instead of {dest}."
