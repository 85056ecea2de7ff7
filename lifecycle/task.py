"""What a handler is given, one effect to deliver; and how hard the outbox tries."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Task:
    """An effect that is owed to the outside world, claimed for one attempt at delivery.

    ``idempotency_key`` is the same on every attempt: a handler that may be called twice (after a
    crash it will be) uses it to do the work once. ``attempt`` counts from 1. ``payload`` holds the
    company, the owners' addresses and the dates that were promised (ISO 8601, UTC).
    """

    id: int
    account_id: str
    effect: str
    payload: dict[str, Any] = field(hash=False)
    attempt: int
    idempotency_key: str


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
