"""The certificate: what was asked to be destroyed of one account, what each store answered, and who was told before.

It holds ids, dates and the handlers' receipts, and no personal data, so that it outlives the account.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from lifecycle.holds import listed
from lifecycle.states import DESTRUCTIVE, NOTICES, Effect, State
from lifecycle.store import Store
from lifecycle.tables import ANSWERS, RECEIPT_OF_TASK, Status, history, outbox, receipts
from lifecycle.task import Found, Receipt, apart


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """What one store answered: in the words of :class:`lifecycle.task.Receipt`, or else in its own, as ``text``."""

    store: str
    confirmed_at: datetime | None
    outcome: Found | None = None
    count: int | None = None
    unit: str | None = None
    reason: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Destruction:
    """One request that destroys: when, under which policy, and what came of it; ``confirmed_at`` None is: not yet."""

    effect: Effect
    requested_at: datetime
    policy_version: str
    status: Status
    attempts: int
    confirmed_at: datetime | None
    stores: tuple[StoreOutcome, ...]


@dataclass(frozen=True, slots=True)
class NoticeGiven:
    """A notice to the owners: ``delivered_at``, or ``given_up_at`` as undeliverable, or neither yet."""

    effect: Effect
    requested_at: datetime
    delivered_at: datetime | None
    given_up_at: datetime | None


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A legal hold; ``released_at`` None is: in force."""

    case: str | None
    placed_at: datetime
    placed_by: str
    ends_at: datetime | None
    released_at: datetime | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """Everything about the destruction of one account that is known at ``issued_at``, each list oldest first."""

    account_id: str
    issued_at: datetime
    state: State
    cancelled_at: datetime | None
    cancelled_by: str | None
    delete_content_at: datetime | None
    content_deleted_at: datetime | None
    purge_backups_by: datetime | None
    purged_at: datetime | None
    destructions: tuple[Destruction, ...]
    notices: tuple[NoticeGiven, ...]
    holds: tuple[HoldRecord, ...]


_FACTS = (
    "state",
    "cancelled_at",
    "cancelled_by",
    "delete_content_at",
    "content_deleted_at",
    "purge_backups_by",
    "purged_at",
)


def certificate(store: Store, connection: Connection, account_id: str, now: datetime) -> Certificate:
    """The account's certificate; raises :class:`AccountNotFound`."""
    account = store.load(connection, account_id)
    asked = (history.c.account_id == outbox.c.account_id) & (history.c.number == outbox.c.number)
    rows = (
        select(outbox, history.c.policy_version, ANSWERS.label("answers"))
        .join(history, asked)
        .join(receipts, RECEIPT_OF_TASK, isouter=True)
        .where(outbox.c.account_id == account_id)
        .order_by(outbox.c.id)
    )
    owed = connection.execute(rows).mappings().all()
    return Certificate(
        account_id=account.id,
        issued_at=now,
        **{name: getattr(account, name) for name in _FACTS},
        destructions=tuple(_destruction(row) for row in owed if row["effect"] in DESTRUCTIVE),
        notices=tuple(_notice(row) for row in owed if row["effect"] in NOTICES),
        holds=tuple(
            HoldRecord(row["case"], row["placed_at"], row["actor"] or "-", row["ends_at"], row["released_at"])
            for row in listed(store, connection, account_id, released=True)
        ),
    )


def _destruction(row: Mapping[Any, Any]) -> Destruction:
    delivered = row["status"] is Status.DELIVERED
    return Destruction(
        effect=row["effect"],
        requested_at=row["created_at"],
        policy_version=row["policy_version"],
        status=row["status"],
        attempts=row["attempts"],
        confirmed_at=row["finished_at"] if delivered else None,
        stores=tuple(_stores(row)),
    )


def _stores(row: Mapping[Any, Any]) -> Iterable[StoreOutcome]:
    if row["answers"] is None:
        return
    answers, at = apart(row["answers"]) or ({"": row["answers"]}, {})
    for name, text in answers.items():
        confirmed_at = datetime.fromisoformat(at[name]) if name in at else row["finished_at"]
        said = Receipt.read(text)
        if said is None:
            yield StoreOutcome(name or "handler", confirmed_at, text=text)
        else:
            yield StoreOutcome(name or said.store, confirmed_at, said.outcome, said.count, said.unit, said.reason)


def _notice(row: Mapping[Any, Any]) -> NoticeGiven:
    finished = row["finished_at"]
    return NoticeGiven(
        effect=row["effect"],
        requested_at=row["created_at"],
        delivered_at=finished if row["status"] is Status.DELIVERED else None,
        given_up_at=finished if row["status"] is Status.PARKED else None,
    )
