"""Refused attempts as they are kept: ids and our own words, never an address; so many an hour; for so long."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select, update

from lifecycle import inputs
from lifecycle.actor import Actor, Role
from lifecycle.errors import AccountNotFound, KeyMissing
from lifecycle.operation_tables import refused_attempts
from lifecycle.reads import Reads

#: Rows that a principal can cause in an hour: a flood must not fill the disk. The last counts what comes after it.
PER_HOUR = 1000
#: What the row is about that counts the rest of an hour.
OTHERS = "others"
_COUNTED = f"This principal was refused {PER_HOUR:,} times within an hour; what came then is only counted here."
_UNKNOWN = "?"
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class RefusedAttempt:
    """An attempt that was refused; see :class:`lifecycle.tables.RefusedAttempt`."""

    at: datetime
    what: str
    account_id: str | None
    who: str
    principal: str | None
    reasons: tuple[str, ...]
    times: int
    policy_version: str


def record(
    reads: Reads,
    connection: Connection,
    at: datetime,
    what: str,
    who: Actor | str,
    reasons: Iterable[str],
    *,
    account_id: str | None,
    principal: str | None,
    policy_version: str,
) -> None:
    """Keep a refused attempt, or count it where this principal has caused too many within the hour."""
    whose = refused_attempts.c.principal
    mine = (
        whose.is_(None) if principal is None else whose == principal,
        refused_attempts.c.at > at - timedelta(hours=1),
    )
    earlier = (
        connection.scalar(select(func.count()).select_from(select(1).where(*mine).limit(PER_HOUR).subquery())) or 0
    )
    if earlier >= PER_HOUR:
        last = select(func.max(refused_attempts.c.id)).where(*mine, refused_attempts.c.what == OTHERS).scalar_subquery()
        more = update(refused_attempts).where(refused_attempts.c.id == last)
        connection.execute(more.values(times=refused_attempts.c.times + 1))
        return
    if earlier == PER_HOUR - 1:
        what, who, account_id, reasons = OTHERS, principal or _UNKNOWN, None, (_COUNTED,)
    if account_id is not None and not inputs.is_account_id(account_id):
        account_id = _UNKNOWN  # whatever it is, it may be somebody's name
    connection.execute(
        insert(refused_attempts).values(
            at=at,
            what=what,
            account_id=account_id,
            who=who if isinstance(who, str) else _named(reads, connection, who, account_id),
            principal=principal,
            reasons="\n".join(reasons),
            times=1,
            policy_version=policy_version,
        )
    )


def _named(reads: Reads, connection: Connection, actor: Actor, account_id: str | None) -> str:
    """``role:id`` without an address: owners by their number on file, and ``?`` for whoever has none."""
    if actor.role is not Role.OWNER:
        # An id that is claimed may be anything, an address as well.
        return f"{actor.role}:{actor.id if inputs.REFERENCE.fullmatch(actor.id) else _UNKNOWN}"
    try:
        people = () if account_id is None else reads.load(connection, account_id).people
    except (AccountNotFound, KeyMissing):
        people = ()
    numbers = {inputs.email_key(person.email): person.number for person in people}
    return f"{actor.role}:{numbers.get(inputs.email_key(actor.id), _UNKNOWN)}"


def listed(
    connection: Connection, account_id: str | None = None, since: datetime | None = None, limit: int | None = None
) -> Iterator[RefusedAttempt]:
    """Refused attempts, the latest first."""
    query = select(refused_attempts).order_by(refused_attempts.c.at.desc(), refused_attempts.c.id.desc()).limit(limit)
    if account_id is not None:
        query = query.where(refused_attempts.c.account_id == account_id)
    if since is not None:
        query = query.where(refused_attempts.c.at >= since)
    for row in connection.execute(query).mappings():
        columns = {name: value for name, value in row.items() if name != "id"}
        yield RefusedAttempt(**{**columns, "reasons": tuple(row["reasons"].split("\n"))})


def prune(connection: Connection, before: datetime) -> int:
    """Forget attempts from before then, the oldest first, as many as fit into a short transaction; how many."""
    old = select(refused_attempts.c.id).where(refused_attempts.c.at < before).limit(_BATCH)
    return connection.execute(delete(refused_attempts).where(refused_attempts.c.id.in_(old))).rowcount
