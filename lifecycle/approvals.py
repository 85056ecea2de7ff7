"""What takes two people: one asks, another approves, and it is done once.

A request is bound to a digest of exactly what is asked, so that nothing else can be done under its approval. To use an
approval up is part of the transaction that it is for: what is rolled back has used nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from lifecycle import inputs
from lifecycle.actor import Role
from lifecycle.authority import Authority, Principal
from lifecycle.errors import InvalidInput, NotAuthorised, Refused
from lifecycle.operation_tables import adopted_access, approvals


class Action(StrEnum):
    """What may take two people; the words of :class:`lifecycle.authority.TwoPerson`."""

    RELEASE_BRAKE = "release_brake"
    SHORTEN_POLICY = "shorten_policy"
    CHANGE_ACCESS = "change_access"
    FIRE_MANY = "fire_many"


@dataclass(frozen=True)
class Ask:
    """Exactly what is asked: an action with its arguments, a summary for people, and who may approve it."""

    action: Action
    arguments: Mapping[str, Any]
    summary: str
    roles: tuple[Role, ...] = (Role.ADMIN,)
    reason: str | None = None
    #: Where it is not what the engine's own rules say.
    expires_after: timedelta | None = None

    @classmethod
    def of_plan(cls, digest: str, summary: str = "", roles: tuple[Role, ...] = (), reason: str | None = None) -> "Ask":
        """To apply a bulk change's plan, which its own digest stands for."""
        return cls(Action.FIRE_MANY, {"plan": digest}, summary, roles, reason)

    @cached_property
    def digest(self) -> str:
        """Stands for the action and its arguments."""
        return sha256(json.dumps([self.action, self.arguments], sort_keys=True).encode()).hexdigest()


class Unapproved(Exception):
    """Unwinds the transaction of what nobody has approved yet, so that it can be asked for in another."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        super().__init__(ask.summary)


@dataclass(frozen=True, slots=True)
class Approval:
    """A request and what became of it; see :class:`lifecycle.tables.Approval`."""

    number: int
    action: Action
    digest: str
    summary: str
    roles: tuple[Role, ...]
    requested_by: str
    requested_at: datetime
    reason: str | None
    expires_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    approval_reason: str | None
    used_at: datetime | None

    def status(self, now: datetime) -> str:
        """``waiting``, ``approved``, ``used`` or ``expired``."""
        if self.used_at is not None:
            return "used"
        if self.expires_at <= now:
            return "expired"
        return "waiting" if self.approved_at is None else "approved"


def _approval(row: Mapping[Any, Any]) -> Approval:
    values = {field.name: row[field.name] for field in fields(Approval)}
    roles = tuple(Role(role) for role in row["roles"].split())
    return Approval(**{**values, "action": Action(row["action"]), "roles": roles})


_OPEN = approvals.c.used_at.is_(None)


def _asked(ask: Ask, requester: Principal, now: datetime) -> Any:
    """The condition for requests of exactly this by this principal that still count."""
    same = (approvals.c.digest == ask.digest) & (approvals.c.requested_by == str(requester))
    return same & _OPEN & (approvals.c.expires_at > now)


def approved(connection: Connection, ask: Ask, requester: Principal, now: datetime) -> bool:
    """Whether another has approved exactly this, and it was not done yet."""
    query = select(approvals.c.number).where(_asked(ask, requester, now), approvals.c.approved_at.is_not(None))
    return connection.scalar(query.limit(1)) is not None


def use(connection: Connection, ask: Ask, requester: Principal, now: datetime) -> str:
    """Use an approval of exactly this up, and say whose it is; :class:`Unapproved` where there is none."""
    query = select(approvals.c.number, approvals.c.approved_by)
    query = query.where(_asked(ask, requester, now), approvals.c.approved_at.is_not(None))
    for number, approver in connection.execute(query.order_by(approvals.c.number)).all():
        # Of two at once the later waits here, and finds it used.
        used = update(approvals).where(approvals.c.number == number, _OPEN).values(used_at=now)
        if connection.execute(used).rowcount == 1:
            return str(approver)
    raise Unapproved(ask)


def request(connection: Connection, ask: Ask, requester: Principal, now: datetime, expires_after: timedelta) -> int:
    """Ask for it; the number of the request, which is the same while the first one counts."""
    earlier = connection.scalar(select(approvals.c.number).where(_asked(ask, requester, now)).limit(1))
    if earlier is not None:
        return int(earlier)
    number = connection.scalar(
        insert(approvals)
        .values(
            action=ask.action,
            digest=ask.digest,
            summary=ask.summary,
            roles=" ".join(ask.roles),
            requested_by=str(requester),
            requested_at=now,
            reason=ask.reason,
            expires_at=now + expires_after,
        )
        .returning(approvals.c.number)
    )
    assert number is not None
    return int(number)


def approve(connection: Connection, number: int, second: Authority, now: datetime, reason: str | None) -> Approval:
    """Approve request ``number`` as another person; :class:`Refused` with the reason where that can't be."""
    found = (
        connection.execute(select(approvals).where(approvals.c.number == number).with_for_update()).mappings().first()
    )
    if found is None:
        raise InvalidInput(f"There is no request {number}; see `lifecycle approvals`.")
    asked = _approval(found)
    refusal = f"Request {number} is not approved:"
    if asked.requested_by.partition(":")[2] == second.principal.name:
        raise NotAuthorised(refusal, (f"It was asked for by {second.principal}: another person must approve it.",))
    second.require(asked.roles)
    status = asked.status(now)
    if status != "waiting":
        advice = "whoever needs it asks again." if status in ("used", "expired") else "it can be used now."
        raise Refused(refusal, (f"It is {status} already; {advice}",))
    given = {"approved_by": str(second.principal), "approved_at": now, "approval_reason": inputs.text(reason, "reason")}
    connection.execute(update(approvals).where(approvals.c.number == number).values(given))
    return _approval({**found, **given})


def listed(connection: Connection, now: datetime, *, everything: bool = False) -> list[Approval]:
    """Requests that can still be approved or used; with ``everything`` all, the latest first."""
    query = select(approvals).order_by(approvals.c.number.desc())
    if not everything:
        query = query.where(_OPEN, approvals.c.expires_at > now)
    return [_approval(row) for row in connection.execute(query).mappings()]


def prune(connection: Connection, before: datetime) -> None:
    """Forget requests that came to nothing and expired before then. Of those that were used people's words go."""
    old = approvals.c.expires_at < before
    connection.execute(delete(approvals).where(_OPEN, old))
    wordy = approvals.c.reason.is_not(None) | approvals.c.approval_reason.is_not(None)
    connection.execute(update(approvals).where(old, wordy).values(reason=None, approval_reason=None))


# --- The settings about who may do what ------------------------------------------------------------


def kept_access(connection: Connection) -> str | None:
    """The text of the roles, keys and two-person rules that this database keeps; None before the first adoption."""
    latest = select(adopted_access.c.settings).order_by(adopted_access.c.number.desc()).limit(1)
    text: str | None = connection.scalar(latest)
    return text


def adopt_access(connection: Connection, text: str, adopted_by: str, approved_by: str | None, now: datetime) -> None:
    """From now on this database keeps these settings."""
    row = {"settings": text, "adopted_at": now, "adopted_by": adopted_by, "approved_by": approved_by}
    connection.execute(insert(adopted_access).values(row))
