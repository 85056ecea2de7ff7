"""The inbox of requests for cancellation: written at once and unread, so that nobody learns from it what matches.

A row waits until it is looked at; then it is settled, or left to support for review with the reason ``why``. What was
asked is sealed under a key of its own, since it may belong to no account, and erased when nobody needs it any more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, exists, func, insert, literal, or_, select, update

from lifecycle.actor import Actor
from lifecycle.errors import InvalidInput
from lifecycle.inputs import email_key
from lifecycle.operation_tables import cancellation_requests as requests
from lifecycle.operation_tables import cancellation_tokens, owner_changes
from lifecycle.reads import Reads
from lifecycle.requesting import RequestSettings
from lifecycle.tables import Status, outbox
from lifecycle.vault import AccountKey, seal, unseal

#: Over which limits are counted.
DAY = timedelta(days=1)
#: How many are looked at in one go.
_BATCH = 1000
_REQUESTER = "requester"
#: What a request's key is for.
SEALING = "cancellation request"
_WAITING = and_(requests.c.settled_at.is_(None), requests.c.why.is_(None))
_REVIEW = and_(requests.c.settled_at.is_(None), requests.c.why.is_not(None))


class Asked(NamedTuple):
    """What somebody stated: company and address as they were written, and the channel."""

    company: str
    email: str
    channel: str


class Waiting(NamedTuple):
    """A request that nobody has looked at; so many of the same requester came in the day ``before`` it."""

    id: int
    received_at: datetime
    requester: bytes
    before: int
    asked: Asked


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A request that support must look at: why, and which account it is about, if that is known.

    ``reason`` is what was said as it was settled, ``settled_by`` who did it.
    """

    id: int
    received_at: datetime
    why: str
    account_id: str | None
    company: str
    email: str
    channel: str
    settled_at: datetime | None
    settled_by: str | None
    reason: str | None


class Inbox:
    """The requests of one database. Its methods work inside the caller's transaction."""

    def __init__(self, reads: Reads, settings: RequestSettings) -> None:
        self.reads = reads
        self.settings = settings

    def receive(self, connection: Connection, asked: Asked, now: datetime) -> None:
        """Keep a request, in one statement that does the same whatever it names.

        Of those over the limit the first is kept, for review: what one requester can make us keep is bounded.
        """
        requester = self.reads.lookup(connection, _REQUESTER, email_key(asked.email))
        row = {"received_at": now, "requester": requester, **self._sealed(asked._asdict())}
        before = self._count_before(requester, now)
        values = select(*(literal(value, requests.c[name].type) for name, value in row.items()))
        connection.execute(insert(requests).from_select(list(row), values.where(before <= self.settings.per_requester)))

    def waiting(self, connection: Connection) -> list[int]:
        """The requests that nobody has looked at, the oldest first."""
        return list(connection.scalars(select(requests.c.id).where(_WAITING).order_by(requests.c.id).limit(_BATCH)))

    def take(self, connection: Connection, id: int) -> Waiting | None:
        """The request, locked; None where another process has it, or had it."""
        row = connection.execute(
            select(requests).where(requests.c.id == id, _WAITING).with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        earlier = self._count_before(row.requester, row.received_at, requests.c.id < id)
        said = self._opened(row)
        return Waiting(id, row.received_at, row.requester, connection.scalar(select(earlier)) or 0, Asked(**said))

    def settle(self, connection: Connection, id: int, now: datetime) -> None:
        """Nobody needs what was asked any more. The row stays for a while, since limits count it."""
        self._update(connection, id, settled_at=now, key_id=None, wrapped=None, data=None)

    def leave_for_review(self, connection: Connection, id: int, why: str, account_id: str | None = None) -> None:
        """Support must look at it."""
        self._update(connection, id, why=why, account_id=account_id)

    def is_under_review(self, connection: Connection, why: str, account_id: str) -> bool:
        """Whether support is to look at such a request about the account already."""
        here = select(requests.c.id).where(_REVIEW, requests.c.why == why, requests.c.account_id == account_id)
        return connection.scalar(here.limit(1)) is not None

    def review_settled(self, connection: Connection, id: int, actor: Actor, reason: str, now: datetime) -> None:
        """Note who has looked at a request, and what came of it. Raises :class:`InvalidInput` where none waits."""
        row = connection.execute(select(requests).where(requests.c.id == id, _REVIEW).with_for_update()).one_or_none()
        if row is None:
            raise InvalidInput(f"Request {id} waits for nobody's review; see `lifecycle requests list`.")
        who = str(actor)
        sealed = self._sealed({**self._opened(row), "reason": reason})
        self._update(connection, id, settled_at=now, settled_by=who, **sealed)

    def listed(self, connection: Connection, *, settled: bool = False) -> list[ReviewItem]:
        """What waits for review (``settled``: what somebody has looked at, too), the oldest first."""
        chosen = requests.c.why.is_not(None) if settled else _REVIEW
        rows = connection.execute(select(requests).where(chosen).order_by(requests.c.id))
        return [
            ReviewItem(
                id=row.id,
                received_at=row.received_at,
                why=row.why,
                account_id=row.account_id,
                settled_at=row.settled_at,
                settled_by=row.settled_by,
                reason=said.pop("reason", None),
                **said,
            )
            for row in rows
            for said in [self._opened(row)]
        ]

    def count_reviews(self, connection: Connection) -> int:
        """How many requests wait for review."""
        return connection.scalar(select(func.count()).where(_REVIEW)) or 0

    def holds_stale(self, connection: Connection, now: datetime) -> bool:
        """Whether there is something for :meth:`forget`."""
        stale = (exists(select(table).where(condition)) for table, condition in self._stale(now))
        return bool(connection.scalar(select(or_(*stale))))

    def forget(self, connection: Connection, now: datetime) -> None:
        """Delete what nobody needs: requests kept for long enough, tokens that expired, addresses that were told."""
        for table, condition in self._stale(now):
            connection.execute(delete(table).where(condition))

    def _stale(self, now: datetime) -> tuple[tuple[Any, Any], ...]:
        """What goes from each table."""
        told = exists().where(
            outbox.c.account_id == owner_changes.c.account_id,
            outbox.c.number == owner_changes.c.number,
            outbox.c.status == Status.DELIVERED,
        )
        return (
            (requests, requests.c.received_at <= now - self.settings.retention),
            (cancellation_tokens, cancellation_tokens.c.expires_at <= now - DAY),
            (owner_changes, told),
        )

    def _update(self, connection: Connection, id: int, **values: Any) -> None:
        connection.execute(update(requests).where(requests.c.id == id).values(**values))

    def _count_before(self, requester: bytes, at: datetime, *conditions: Any) -> Any:
        same = (requests.c.requester == requester, requests.c.received_at > at - DAY, *conditions)
        return select(func.count()).select_from(requests).where(*same).scalar_subquery()

    def _sealed(self, said: Mapping[str, str]) -> dict[str, Any]:
        key, cipher = self.reads.vault.new_key(SEALING)
        data = seal(cipher, json.dumps(said, ensure_ascii=False).encode(), SEALING)
        return {"key_id": key.key_id, "wrapped": key.wrapped, "data": data}

    def _opened(self, row: Any) -> dict[str, str]:
        cipher = self.reads.vault.cipher(SEALING, AccountKey(row.key_id, row.wrapped))
        opened: dict[str, str] = json.loads(unseal(cipher, row.data, SEALING))
        return opened
