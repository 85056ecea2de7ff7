"""What a handler is given, one effect to deliver; and how hard the outbox tries."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

#: The dates that a payload may hold.
DATES = ("promised", "access_ends_at", "delete_content_at", "purge_backups_by")


@dataclass(frozen=True, slots=True)
class Task:
    """An effect that is owed to the outside world, claimed for one attempt at delivery.

    ``idempotency_key`` is the same on every attempt: a handler that may be called twice (after a
    crash it will be) uses it to do the work once. ``attempt`` counts from 1. ``payload`` holds the
    company, the addresses that it goes to (``owners``) and the dates that were promised (ISO 8601, UTC; :data:`DATES`).

    ``verify_owner`` has besides: ``confirmations``, for each of the ``owners`` the address (``owner``), the ``token``
    that only they may see and the ``confirm_url`` (or None); until when these count (``confirm_until``); and the
    address of the ``requester`` where others answer for a new owner, else None. ``tell_owner_change`` has the
    ``change`` (the event) and the ``changed_owner``.
    """

    id: int
    account_id: str
    effect: str
    payload: dict[str, Any] = field(hash=False)
    attempt: int
    idempotency_key: str
    #: What handlers of this effect have confirmed at earlier attempts, by their names, where it has several.
    receipts: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What the payload holds that nobody but the addressees may see: no log, no receipt and no error keeps it."""
        return tuple(one["token"] for one in self.payload.get("confirmations", ()))


class Undeliverable(Exception):
    """Raised by a handler for what no further attempt can mend: the task is parked at once, for a person to look at."""


class PartlyDone(Exception):
    """Raised where an effect has several handlers and some have confirmed: these are not asked again."""

    def __init__(self, receipts: Mapping[str, str], failures: Mapping[str, Exception]) -> None:
        self.receipts = receipts
        self.hopeless = all(isinstance(failure, Undeliverable) for failure in failures.values())
        super().__init__("; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failures.items()))


class Found(StrEnum):
    """What a store that was asked to erase an account reports."""

    ERASED = "erased"  # something was there, and a second look found it gone
    ABSENT = "absent"  # nothing was there
    RETAINED = "retained"  # something stays on purpose; the receipt says why


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one store confirms: ``store`` names it, ``count`` is how many ``unit`` were erased (or are retained).

    Its text, which is what a handler returns, is one line of JSON without personal data.
    """

    store: str
    outcome: Found
    count: int = 0
    unit: str = "objects"
    reason: str | None = None

    def __str__(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})

    @classmethod
    def read(cls, text: str) -> "Receipt | None":
        """The receipt in a handler's text; None where the handler said it in its own words."""
        try:
            said = json.loads(text)
            return cls(**{**said, "outcome": Found(said["outcome"])})
        except (ValueError, TypeError, KeyError):
            return None


_SAID, _AT = "receipts", "at"
_BEGINNING = json.dumps({_SAID: {}})[:-2]


def joined(receipts: Mapping[str, str], at: Mapping[str, str] | None = None) -> str:
    """The receipts of several handlers as one text, by their names, with the instants ``at`` which they came."""
    return json.dumps({_SAID: dict(receipts), _AT: dict(at or {})})


def apart(text: str | None) -> tuple[dict[str, str], dict[str, str]] | None:
    """What :func:`joined` was given; None for the receipt of a single handler."""
    if text is None or not text.startswith(_BEGINNING):
        return None  # nearly always: to try and fail to read it would take longer than all the rest
    try:
        said = json.loads(text)
    except ValueError:
        return None
    if not isinstance(said, dict) or set(said) != {_SAID, _AT}:
        return None
    receipts, at = said[_SAID], said[_AT]
    return (receipts, at) if isinstance(receipts, dict) and isinstance(at, dict) else None


#: Delivers one task. Returns a receipt, or None where the effect confirms nothing; raising means: try again.
Handler = Callable[[Task], str | None]

#: Tasks of a worker's first claim: what a crash has others repeat is never more than about a second's work.
SMALLEST = 100


@dataclass(frozen=True)
class DeliverySettings:
    """How hard the outbox tries."""

    #: The most tasks per claim. A claim grows from :data:`SMALLEST` on to about what a second's work is.
    batch: int = 5000
    #: How long a claim holds. A handler must be done well before.
    lease: timedelta = timedelta(minutes=10)
    #: Attempts before a task is parked for a person to look at.
    attempts: int = 8
    #: Wait after the first failure; it doubles with every further one, with jitter.
    first_wait: timedelta = timedelta(seconds=30)
    longest_wait: timedelta = timedelta(hours=6)
