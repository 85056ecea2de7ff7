"""What the engine answers when it is asked, not told: verdicts, explanations, coming dates. Nothing changes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from lifecycle.actor import Actor, Request, Role
from lifecycle.deadlines import REFUND_REASONS
from lifecycle.errors import Refused
from lifecycle.machine import MOVES, TIMERS, TRANSITIONS, decide
from lifecycle.policy import Policy, duration_words
from lifecycle.rows import Transition, timer_of
from lifecycle.states import Entitlements, Event, State, Step, account, entitlements
from lifecycle.terms import evaluate, holds

#: What a hypothetical request states when an account is explained.
_SAMPLE_REASON = "a reason"
_NOBODY = "nobody@example.invalid"
#: Stamped or running dates that are shown as coming, in the order of a life.
_DATES = ("trial_ends_at", "period_ends_at", "access_ends_at", "delete_content_at", "purge_backups_by")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request would be carried out now; if not, every reason."""

    allowed: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coming:
    """Something that will happen, or a date that was promised."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class Possible:
    """An event that could be fired now: by whom, where to, and the facts that all of them must state."""

    event: Event
    by: tuple[Role, ...]
    dest: State
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Impossible:
    """An event that leaves the account's state, but not now, and why."""

    event: Event
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where an account is, why, what comes, what is possible and what is refused."""

    account_id: str
    state: State
    because: str
    entitlements: Entitlements
    coming: tuple[Coming, ...]
    possible: tuple[Possible, ...]
    refused: tuple[Impossible, ...]


@dataclass(frozen=True, slots=True)
class RefundAssessment:
    """Whether people should look at a refund (clause fair-refund), and why."""

    review: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """What a sweep will do with an account, and when: remind, request or fire its event."""

    account_id: str
    state: State
    event: Event
    step: Step
    at: datetime


@dataclass(frozen=True, slots=True)
class TimerStatus:
    """One timer over all accounts."""

    event: Event
    state: State
    next: datetime | None
    waiting: int
    overdue: int


def assess_refund(subject: Any, now: datetime, policy: Policy) -> RefundAssessment:
    """What the policy's reasons for a refund review say of one account."""
    sources = {"account": subject, "now": now, "policy": policy}
    words = {name: duration_words(getattr(policy, name)) for name in ("refund_unused", "refund_new_period")}
    reasons = tuple(sentence.format(**words) for term, sentence in REFUND_REASONS if holds(term, sources))
    return RefundAssessment(bool(reasons), reasons)


def timer_row(subject: Any) -> Transition | None:
    """The row whose timer runs in the account's present state, if there is one."""
    for row in TIMERS:
        if subject.state in row.sources and (row.bracket is None or row.bracket({"account": subject, "now": None})):
            return row
    return None


def coming(subject: Any, now: datetime, policy: Policy) -> Due | None:
    """What a sweep does next with the account, or None where no timer runs."""
    row = timer_row(subject)
    if row is None or subject.due_at is None:
        return None
    sources = {"account": subject, "now": max(now, subject.due_at), "policy": policy}
    step = next((move.step for move in MOVES[row] if holds(move.condition, sources)), Step.REMIND)
    return Due(subject.id, subject.state, row.event, step, subject.due_at)


def explain(subject: Any, because: str, now: datetime, policy: Policy) -> Explanation:
    """See :class:`Explanation`; ``because`` says how the account came into its state."""
    possible, refused = [], []
    for event in Event:
        outcome = _outcome(subject, event, now, policy)
        if isinstance(outcome, Possible):
            possible.append(outcome)
        elif outcome is not None:
            refused.append(outcome)
    return Explanation(
        subject.id,
        subject.state,
        because,
        entitlements(subject, now),
        tuple(sorted(_dates(subject, now, policy), key=lambda date: date.at)),
        tuple(possible),
        tuple(refused),
    )


def _dates(subject: Any, now: datetime, policy: Policy) -> Iterable[Coming]:
    for name in _DATES:
        at = getattr(subject, name)
        over = name == "trial_ends_at" and subject.state is not State.TRIAL
        if at is not None and at > now and not over:
            yield Coming(at, account.words[name])
    next_step = coming(subject, now, policy)
    if next_step is not None:
        yield Coming(next_step.at, _STEP_WORDS[next_step.step].format(event=next_step.event))
    row = timer_row(subject)
    if row is None:
        return
    timer = timer_of(row)
    sources = {"account": subject, "now": now, "policy": policy}
    if next_step is not None and next_step.step is Step.REMIND:
        at = evaluate(timer.promised, {**sources, "now": max(now, next_step.at)})
        yield Coming(at, f"{row.event}, at the earliest")
    elif next_step is None and not holds(timer.automatic, sources):
        at = evaluate(timer.fires_at, sources)
        if at is not None:
            yield Coming(at, f"{row.event} may be fired by an admin")


_STEP_WORDS = {
    Step.REMIND: "reminder of {event} is sent",
    Step.REQUEST: "{event} is requested",
    Step.FIRE: "{event} happens",
}


def _outcome(subject: Any, event: Event, now: datetime, policy: Policy) -> Possible | Impossible | None:
    """Try an event as everybody whom the definition knows for it, with all facts that could be brought."""
    roles = {p.role for row in _rows(event, subject.state) for p in row.by} - {Role.SYSTEM}
    timed = any(row.timer is not None for row in _rows(event, subject.state))
    allowed: list[Role] = []
    dest: State | None = None
    needs: list[set[str]] = []
    reasons: dict[str, None] = {}
    for role in sorted(roles):
        asked = _sample(subject, event, role, now)
        try:
            dest = decide(subject, event, asked, now, policy).dest
        except Refused as refusal:
            reasons |= dict.fromkeys(refusal.reasons)
            continue
        allowed.append(role)
        needs.append(_needs(subject, event, asked, now, policy))
    if dest is not None:
        common = set.intersection(*needs)  # what all of them must state
        return Possible(event, tuple(allowed), dest, tuple(sorted(common)))
    if timed and not roles:
        reasons = {"It fires by itself, at its deadline.": None}
    return Impossible(event, tuple(reasons)) if reasons else None


def _rows(event: Event, state: State) -> list[Transition]:
    return [row for row in TRANSITIONS if row.event is event and state in row.sources]


def _sample(subject: Any, event: Event, role: Role, now: datetime) -> Request:
    """A request with every fact that could help, made by ``role`` in the name of the first owner."""
    email = subject.owners[0] if subject.owners else _NOBODY
    latest = max(now, subject.period_ends_at or now)
    return Request(
        Actor(role, email if role is Role.OWNER else "somebody"),
        reason=_SAMPLE_REASON,
        company=subject.company,
        email=email,
        period_ends_at=latest + timedelta(days=30) if role in (Role.BILLING, Role.ADMIN) else None,
        case=subject.cases[0] if subject.cases else None,
        owner=subject.owners[-1] if event is Event.REMOVE_OWNER and subject.owners else _NOBODY,
    )


def _needs(subject: Any, event: Event, asked: Request, now: datetime, policy: Policy) -> set[str]:
    """The facts without which the request would be refused."""
    needed = set()
    for fact in ("company", "email", "period_ends_at", "owner", "reason"):
        if getattr(asked, fact) is None:
            continue
        try:
            decide(subject, event, replace(asked, **{fact: None}), now, policy)  # type: ignore[arg-type]
        except Refused:
            needed.add(fact)
    return needed
