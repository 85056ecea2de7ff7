"""What a handler is given: one effect to deliver."""

from collections.abc import Callable
from dataclasses import dataclass, field
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
