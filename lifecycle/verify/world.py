"""What the explorer lets happen: the kinds of accounts that it begins with, and the requests that people make."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple

from lifecycle.actor import SYSTEM, Actor, Request, Role
from lifecycle.personal import Person
from lifecycle.policy import Policy
from lifecycle.states import Event, Party, Plan, State, account

#: The day on which every life begins: the only dates that matter are differences.
BEGINNING = datetime(2027, 3, 1, 12, tzinfo=UTC)
_DAY = timedelta(days=1)
COMPANY, OWNER, NEWCOMER, STRANGER = "Acme Ltd", "ann@acme.test", "ben@acme.test", "eve@elsewhere.test"
#: The second owner was added a moment ago, whenever it is: everything that the policy says of new owners holds for him.
_PEOPLE = (Person(1, OWNER), Person(2, NEWCOMER, datetime(2999, 1, 1, tzinfo=UTC)))
CASE = "a court order"


class Subject(SimpleNamespace):
    """An account with every column of the definition, its owners and the cases of its legal holds."""

    def after(self, changes: Any) -> "Subject":
        """The account as a decision has changed it."""
        changed = Subject(**{**self.__dict__, **changes})
        if "legal_holds" in changes:
            changed.cases = (CASE,) * changed.legal_holds
        return changed


_EMPTY: dict[str, Any] = dict.fromkeys(account)
_EMPTY |= {"version": 1, "legal_holds": 0, "company": COMPANY, "people": _PEOPLE, "cases": ()}
_EMPTY |= {"owners": tuple(person.email for person in _PEOPLE)}


def kinds(values: Policy) -> dict[str, Subject]:
    """The accounts that exploring begins with, by what they are: as opened, and as an import may bring them."""
    born = BEGINNING - 400 * _DAY

    def one(state: State, plan: Plan, **columns: Any) -> Subject:
        return Subject(**{**_EMPTY, "opened_at": born, "state": state, "plan": plan, **columns})

    def paid(days: float, began: float = 20, **columns: Any) -> Subject:
        dates = {"period_ends_at": BEGINNING + days * _DAY, "period_began_at": BEGINNING - began * _DAY}
        return one(State.ACTIVE, Plan.PAID, **(dates | columns))

    held = {"trial_ends_at": BEGINNING - 2 * _DAY, "held_at": BEGINNING - 2 * _DAY}
    trial_end = BEGINNING + values.trial_length
    free = {"free_since": BEGINNING - 10 * _DAY}
    lapsed: dict[str, Any] = {"period_ends_at": BEGINNING - 3 * _DAY, "period_began_at": BEGINNING - 33 * _DAY}
    unpaid = {**lapsed, "frozen_at": BEGINNING - 2 * _DAY}
    found = {
        "a new trial": one(State.TRIAL, Plan.TRIAL, opened_at=BEGINNING, trial_ends_at=trial_end),
        "a new free account": one(State.ACTIVE, Plan.FREE, opened_at=BEGINNING, free_since=BEGINNING),
        "a new monthly plan": paid(31, 0),
        # Cancelled now, access ends less than a notice before the deletion: one reminder counts for both.
        "a monthly plan, some days old": paid(26, 5),
        "a yearly plan": paid(300, 65, last_active_at=BEGINNING - _DAY),
        "a monthly plan, long unused": paid(8, last_active_at=BEGINNING - 2 * values.refund_unused),
        "a paid plan that nobody renewed": paid(-1),
        "a free account with a paid period left": one(State.ACTIVE, Plan.FREE, **free, **_period(20)),
        "a free account, long unused": one(State.ACTIVE, Plan.FREE, free_since=BEGINNING - 340 * _DAY),
        "a trial on hold": one(State.ON_HOLD, Plan.TRIAL, **held),
        "an unpaid account": one(State.FROZEN, Plan.PAID, **unpaid),
        "a suspended trial": one(
            State.FROZEN, Plan.TRIAL, suspended_from=State.TRIAL, trial_ends_at=BEGINNING + 5 * _DAY
        ),
        "a suspended trial on hold": one(State.FROZEN, Plan.TRIAL, suspended_from=State.ON_HOLD, **held),
        "a suspended paid plan": one(State.FROZEN, Plan.PAID, suspended_from=State.ACTIVE, **_period(20)),
        "a suspended free account": one(State.FROZEN, Plan.FREE, suspended_from=State.ACTIVE, **free),
        "a suspended unpaid account": one(State.FROZEN, Plan.PAID, suspended_from=State.FROZEN, **unpaid),
    }
    return found | {"an account that the company cancelled": _cancelled(found["an unpaid account"], values)}


def _period(days: int) -> dict[str, Any]:
    return {"period_ends_at": BEGINNING + days * _DAY, "period_began_at": BEGINNING - 5 * _DAY}


def _cancelled(before: Subject, values: Policy) -> Subject:
    """An account without access, as another system may have left it, with generous dates."""
    delete = BEGINNING + values.deletion_after
    purge = BEGINNING + max(values.purge_after, values.deletion_after + values.purge_after_deletion)
    stamps = {"cancelled_at": BEGINNING, "cancelled_by": Party.COMPANY, "cancelled_from": before.state}
    dates = {"access_ends_at": BEGINNING, "delete_content_at": delete, "purge_backups_by": purge}
    return before.after({"state": State.ACCESS_REVOKED, **stamps, **dates})


# --- Who asks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asker:
    """One who asks, in whose name, and whether with a reason; ``words`` say it in a timeline."""

    words: str
    actor: Actor
    email: str | None = None
    reason: str | None = None

    @property
    def role(self) -> Role:
        return self.actor.role

    @property
    def stands_for(self) -> str | None:
        """The address in whose name it is asked."""
        return self.actor.id if self.role is Role.OWNER else self.email

    @property
    def for_owner(self) -> bool:
        """Whether it is an owner on file, however new, or one who acts for them."""
        return self.stands_for in (OWNER, NEWCOMER)

    @property
    def decides(self) -> bool:
        """Whether no new owner is behind it."""
        return self.stands_for != NEWCOMER

    def asks(self, **facts: Any) -> Request:
        """The request."""
        company = None if self.email is None else COMPANY
        return Request(self.actor, company=company, email=self.email, reason=self.reason, **facts)


_SUE, _ROOT, _REASON = Actor.support("sue"), Actor.admin("root"), "a reason"
OWNER_ASKS = Asker("the owner", Actor.owner(OWNER))
BILLING_ASKS = Asker("billing", Actor.billing("billing"))
ADMIN_ASKS = Asker("an admin", _ROOT, reason=_REASON)
SYSTEM_ASKS = Asker("the engine", SYSTEM, reason=_REASON)
#: Everybody who may try.
ASKERS = (
    OWNER_ASKS,
    ADMIN_ASKS,
    BILLING_ASKS,
    SYSTEM_ASKS,
    Asker("support for the owner", _SUE, OWNER, _REASON),
    Asker("an admin for the owner", _ROOT, OWNER),
    Asker("the engine for the owner", SYSTEM, OWNER),
    Asker("the owner with a reason", Actor.owner(OWNER), reason=_REASON),
    Asker("billing with a reason", Actor.billing("billing"), reason=_REASON),
    Asker("an owner who is new", Actor.owner(NEWCOMER)),
    Asker("support for a new owner", _SUE, NEWCOMER),
    Asker("an admin for a new owner", _ROOT, NEWCOMER, _REASON),
    Asker("a stranger", Actor.owner(STRANGER)),
    Asker("support for a stranger", _SUE, STRANGER, _REASON),
    Asker("an admin for a stranger", _ROOT, STRANGER, _REASON),
    Asker("support", _SUE),
    Asker("an admin without a reason", _ROOT),
    Asker("an auditor", Actor(Role.AUDITOR, "ada"), reason=_REASON),
    Asker("the portal itself", Actor(Role.PORTAL, "web"), reason=_REASON),
)


class Attempt(NamedTuple):
    """A request to be tried."""

    event: Event
    asker: Asker
    request: Request


def _longer(subject: Subject, now: datetime) -> datetime:
    paid = subject.period_ends_at
    return (now if paid is None or paid < now else paid) + 30 * _DAY


#: Events that bring a paid period along.
PAYS = (Event.UPGRADE, Event.RENEW, Event.THAW, Event.RECORD_PAYMENT)
CONFIRMED = {Event.DELETE_CONTENT: "erasure_requested_at", Event.PURGE_BACKUPS: "purge_requested_at"}
#: Who asks for what, when effects are explored: what an event changes does not depend on who is heard.
_BY = {
    Event.DOWNGRADE: (OWNER_ASKS,),
    Event.CANCEL: (OWNER_ASKS,),
    Event.REACTIVATE: (OWNER_ASKS, ADMIN_ASKS),
    **dict.fromkeys((*PAYS, Event.FREEZE, Event.RECORD_REFUND), (BILLING_ASKS,)),
    **dict.fromkeys(
        (Event.CANCEL_EXPIRED_TRIAL, Event.CANCEL_UNPAID, Event.CANCEL_INACTIVE), (SYSTEM_ASKS, ADMIN_ASKS)
    ),
    **dict.fromkeys((Event.SUSPEND, Event.LIFT_SUSPENSION, Event.TERMINATE), (ADMIN_ASKS,)),
    **dict.fromkeys((Event.PLACE_HOLD, Event.RELEASE_HOLD), (ADMIN_ASKS,)),
    **dict.fromkeys((Event.EXPIRE_TRIAL, Event.REVOKE_ACCESS, *CONFIRMED), (SYSTEM_ASKS,)),
}


def attempts(event: Event, subject: Subject, now: datetime) -> Iterator[Attempt]:
    """The requests of this event whose effects are explored."""
    for asker in _BY.get(event, ()):
        if event in PAYS:
            yield Attempt(event, asker, asker.asks(period_ends_at=_longer(subject, now)))
        if event in CONFIRMED:
            yield Attempt(event, asker, asker.asks(receipt="a receipt"))
        elif event is Event.PLACE_HOLD:
            asked = subject.erasure_requested_at is not None and subject.content_deleted_at is None
            asked = asked or subject.purge_requested_at is not None
            yield Attempt(event, asker, asker.asks(case=CASE, unclaimed=asked))
            if asked:  # or a handler has it in hand
                yield Attempt(event, asker, asker.asks(case=CASE))
        elif event not in PAYS or event is Event.THAW:
            yield Attempt(event, asker, asker.asks())
    if event is Event.REACTIVATE:
        yield Attempt(event, BILLING_ASKS, BILLING_ASKS.asks(period_ends_at=_longer(subject, now)))


def everybody(event: Event, subject: Subject, now: datetime) -> Iterator[Attempt]:
    """The event as everybody may ask for it, with the facts that it can bring."""
    for asker in ASKERS:
        if event in (Event.ADD_OWNER, Event.REMOVE_OWNER):
            for other in (STRANGER, NEWCOMER):  # one who is not on file, and one who is
                yield Attempt(event, asker, asker.asks(owner=other))
            continue
        yield Attempt(event, asker, asker.asks())
        if event in (*PAYS, Event.REACTIVATE):
            yield Attempt(event, asker, asker.asks(period_ends_at=_longer(subject, now)))
            if asker in (OWNER_ASKS, ADMIN_ASKS, BILLING_ASKS):  # perhaps one that is shorter than what is paid
                yield Attempt(event, asker, asker.asks(period_ends_at=now + _DAY))
                yield Attempt(event, asker, asker.asks(period_ends_at=now))
        if event in CONFIRMED:
            yield Attempt(event, asker, asker.asks(receipt="a receipt"))
