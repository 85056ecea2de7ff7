"""Tokens that confirm a cancellation: random, sent once, kept as a hash, good for one request of one account.

Whether a token still counts is read from the history: a change of owners after the request, or a cancellation by
whatever way, voids every token of it. So none is used twice, or comes to life again when the account is reactivated.
"""

import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, exists, insert, select

from lifecycle.operation_tables import cancellation_tokens
from lifecycle.states import LIVE, OWNERS_CHANGE
from lifecycle.tables import history

#: 256 random bits.
_TOKEN_BYTES = 32


class Issued(NamedTuple):
    """What is kept of a token: the request that it confirms, and the owner whom it was sent to, by their number."""

    account_id: str
    number: int
    owner: int
    expires_at: datetime


def issue(connection: Connection, account_id: str, number: int, owner: int, now: datetime, lifetime: timedelta) -> str:
    """A new token for history entry ``number``, to be sent to ``owner``; only its hash is kept."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    connection.execute(
        insert(cancellation_tokens).values(
            hash=_hash(token),
            account_id=account_id,
            number=number,
            owner=owner,
            issued_at=now,
            expires_at=now + lifetime,
        )
    )
    return token


def find(connection: Connection, token: str) -> Issued | None:
    """What was kept of the token. It is looked up by its hash, so that the time tells nothing of near misses."""
    columns = (cancellation_tokens.c[name] for name in Issued._fields)
    row = connection.execute(select(*columns).where(cancellation_tokens.c.hash == _hash(token))).one_or_none()
    return None if row is None else Issued._make(row)


def counts(connection: Connection, issued: Issued, now: datetime) -> bool:
    """Whether the token confirms its request at ``now``; the account must be locked."""
    return now < issued.expires_at and not connection.scalar(select(overtaken(issued.account_id, issued.number)))


def overtaken(account_id: Any, number: Any) -> Any:
    """The condition that request ``number`` can't be confirmed any more: owners changed since, or it was cancelled."""
    later = history.alias("later")
    return exists().where(
        later.c.account_id == account_id,
        later.c.number > number,
        later.c.dest.not_in(LIVE) | later.c.event.in_(OWNERS_CHANGE),
    )


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
