"""One thing that happened to an account, or was refused: what the promises look at."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from lifecycle.definition import Decision
from lifecycle.states import CANCELLED, LIVE, Effect, Event, State, Step
from lifecycle.verify.facts import Facts
from lifecycle.verify.world import Attempt, Subject


class Kind(Enum):
    """What kind of thing it was."""

    ASKED = "a request was accepted"
    REFUSED = "a request was refused"
    SWEPT = "a sweep did something"
    DELIVERED = "a reminder was delivered"
    ACTIVE = "the customer was active"
    WAITED = "time passed while everything ran"
    DOWN = "the machine stood still"
    LATE = "time passed without the delivery, or the receipt, that was due"


@dataclass(frozen=True, slots=True)
class Happening:
    """``before`` and ``after`` are the account, ``facts`` and ``then`` what was and is true of it.

    ``until`` is the instant until which time has passed.
    """

    kind: Kind
    now: datetime
    before: Subject
    after: Subject
    facts: Facts
    then: Facts
    event: Event | None = None
    decision: Decision | None = None
    attempt: Attempt | None = None
    until: datetime | None = None

    def fired(self, *events: Event) -> bool:
        """Whether one of ``events`` (any, without names) happened."""
        decision = self.decision
        return decision is not None and decision.step is Step.FIRE and (not events or decision.event in events)

    def requested(self, event: Event) -> bool:
        """Whether the outside world was asked to do it."""
        decision = self.decision
        return decision is not None and decision.step is Step.REQUEST and decision.event is event

    @property
    def owes(self) -> tuple[Effect, ...]:
        return () if self.decision is None else self.decision.owes

    @property
    def cancels(self) -> bool:
        """Whether the account became a cancelled one."""
        return self.before.state in LIVE and self.after.state in CANCELLED

    def enters(self, state: State) -> bool:
        return self.after.state is state and self.before.state is not state
