"""How a promise is broken, as a timeline of dates in plain words, and as a picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lifecycle.states import Event, State, Step
from lifecycle.verify.happening import Happening, Kind
from lifecycle.verify.nodes import Violation

E = Event
#: What somebody did who fired the event.
_DID = {
    E.EXPIRE_TRIAL: "ended the trial",
    E.UPGRADE: "upgraded the account",
    E.DOWNGRADE: "moved the account to the free plan",
    E.RENEW: "renewed the paid period",
    E.FREEZE: "froze the account for unpaid bills",
    E.THAW: "thawed the account",
    E.SUSPEND: "suspended the account",
    E.LIFT_SUSPENSION: "lifted the suspension",
    E.RECORD_PAYMENT: "recorded a payment",
    E.RECORD_REFUND: "recorded a refund",
    E.CANCEL: "cancelled the account",
    E.CANCEL_EXPIRED_TRIAL: "cancelled the expired trial",
    E.CANCEL_UNPAID: "cancelled the unpaid account",
    E.CANCEL_INACTIVE: "cancelled the unused account",
    E.REVOKE_ACCESS: "ended the access",
    E.TERMINATE: "terminated the account",
    E.REACTIVATE: "brought the account back",
    E.DELETE_CONTENT: "had the deletion of the content confirmed",
    E.PURGE_BACKUPS: "had the purge of the backups confirmed",
    E.PLACE_HOLD: "placed a legal hold",
    E.RELEASE_HOLD: "released the legal hold",
    E.CONTACT_OWNERS: "wrote to the owners",
    E.REQUEST_CANCELLATION: "asked the owner to confirm a cancellation",
    E.ADD_OWNER: "added an owner",
    E.REMOVE_OWNER: "removed an owner",
}
#: What a timer is about, in a reminder or a request.
_ABOUT = {
    E.EXPIRE_TRIAL: "the end of the trial",
    E.CANCEL_EXPIRED_TRIAL: "the cancellation of the expired trial",
    E.CANCEL_UNPAID: "the cancellation for unpaid bills",
    E.CANCEL_INACTIVE: "the cancellation of the unused account",
    E.REVOKE_ACCESS: "the end of access",
    E.DELETE_CONTENT: "the deletion of the content",
    E.PURGE_BACKUPS: "the purge of the backups",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened at an instant, and the state that the account was in then."""

    at: datetime
    state: State
    words: str

    def __str__(self) -> str:
        return f"{_date(self.at)}: {self.words}"


@dataclass(frozen=True, slots=True)
class Timeline:
    """A life of an account that ends where the promise is broken: the last entry says how."""

    title: str
    entries: tuple[Entry, ...]

    def as_json(self) -> dict[str, Any]:
        entries = [{"at": one.at, "state": str(one.state), "words": one.words} for one in self.entries]
        return {"title": self.title, "entries": entries}

    @classmethod
    def of(cls, violation: Violation) -> "Timeline":
        """The life that led to a violation."""
        begun = violation.node.beginning
        first = Entry(begun.now, begun.subject.state, f"there is {begun.kind}; it is {_is(begun.subject.state)}")
        path = violation.path()
        entries = [first, *(entry for happening in path if (entry := _entry(happening)) is not None)]
        at, state = _last(violation)
        return cls(violation.promise.text, (*entries, Entry(at, state, f"broken: {violation.words}")))


def _last(violation: Violation) -> tuple[datetime, State]:
    last = violation.last
    if last is None:
        return violation.node.now, violation.node.subject.state
    return last.until or last.now, last.after.state


def _entry(h: Happening) -> Entry | None:
    return None if h.kind is Kind.WAITED else Entry(h.now, h.after.state, "; ".join(_words(h)))


def _words(h: Happening) -> Iterator[str]:
    decision = h.decision
    if h.kind is Kind.DOWN:
        yield f"the machine was down until {_date(h.until)}"
    elif h.kind is Kind.LATE:
        what = "the reminder was not delivered" if h.before.erasure_requested_at is None else "no receipt came"
        yield f"{what} until {_date(h.until)}"
    elif h.kind is Kind.ACTIVE:
        yield "the customer used the account"
    elif h.kind is Kind.DELIVERED:
        yield "the reminder was delivered"
    elif decision is None or decision.event is None:
        yield _refused(h)
    elif decision.step is Step.REMIND:
        yield f"a reminder of {_ABOUT[decision.event]} was sent"
    elif decision.step is Step.REQUEST:
        yield f"the engine asked for {_ABOUT[decision.event]}"
    else:
        yield f"{_who(h)} {_DID[decision.event]}{_paying(h)}"
        if h.after.state is not h.before.state:
            yield f"the account is now {_is(h.after.state)}"


def _refused(h: Happening) -> str:
    if h.attempt is None or h.event is None:
        return f"the engine looked at the account, and looks again {_date(h.after.due_at)}"
    return f"{_who(h)} asked for {h.event}{_paying(h)}, and was refused"


def _who(h: Happening) -> str:
    return "the engine" if h.attempt is None else h.attempt.asker.words


def _paying(h: Happening) -> str:
    until = None if h.attempt is None else h.attempt.request.period_ends_at
    return "" if until is None else f", paid until {_date(until)}"


def _is(state: State) -> str:
    return f"{state} ({state.text})"


def _date(at: datetime | None) -> str:
    """``1 March 2027``, with the time of day where it is not the one at which every life begins."""
    if at is None:
        return "never"
    words = f"{at.day} {at:%B %Y}"
    return words if (at.hour, at.minute, at.second, at.microsecond) == (12, 0, 0, 0) else f"{words} {_clock(at)}"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S.%f}" if at.microsecond else f"{at:%H:%M:%S}"
