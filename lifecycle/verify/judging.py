"""What checks have in common: the words of an answer, and who asked for what."""

from collections.abc import Callable
from datetime import datetime

from lifecycle.policy import Policy
from lifecycle.states import Event, State
from lifecycle.verify.expected import due_by
from lifecycle.verify.happening import Happening
from lifecycle.verify.world import Asker

#: Looks at one happening, and says what is wrong about it, or None.
Check = Callable[[Happening, Policy], str | None]
COMPANY_EVENTS = (Event.CANCEL_EXPIRED_TRIAL, Event.CANCEL_UNPAID, Event.CANCEL_INACTIVE)


def day(at: datetime | None) -> str:
    """An instant in words: ``1 March 2027 12:00``."""
    return "never" if at is None else f"{at.day} {at:%B %Y %H:%M}"


def overdue(h: Happening, values: Policy, states: tuple[State, ...], words: str) -> str | None:
    """Time passed although the hand-made deadline of the state had come."""
    if h.before.state not in states:
        return None
    deadline = due_by(h.before, h.facts, values)
    if deadline is not None and deadline <= h.now:
        return f"Nothing happened although {words}, since {day(deadline)}."
    return None


def said(value: object) -> str:
    """A value in words."""
    return day(value) if isinstance(value, datetime) else str(value)


def by(h: Happening, asker: Asker) -> bool:
    """Whether this asker has asked."""
    return h.attempt is not None and h.attempt.asker is asker


def pays(h: Happening) -> bool:
    """Whether the request brings a period that runs, and that is longer than what is paid."""
    paid, brought = h.facts.paid_through, None if h.attempt is None else h.attempt.request.period_ends_at
    return brought is not None and brought > h.now and (paid is None or brought > paid)
