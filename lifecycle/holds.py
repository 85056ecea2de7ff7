"""Legal holds as they are kept: which are in force, who placed them and why, and which have come to their end."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, func, select

from lifecycle.reads import Reads
from lifecycle.tables import history, legal_holds

_IN_FORCE = legal_holds.c.released_at.is_(None)


def listed(
    reads: Reads, connection: Connection, account_id: str | None = None, *, released: bool = False
) -> list[dict[str, Any]]:
    """Holds in force (``released``: those that were, too), with who placed them and why, the oldest first."""
    placed = (history.c.account_id == legal_holds.c.account_id) & (history.c.number == legal_holds.c.number)
    rows = (
        select(legal_holds, history.c.actor, history.c.reason)
        .join_from(legal_holds, history, placed, isouter=True)
        .order_by(legal_holds.c.placed_at, legal_holds.c.account_id, legal_holds.c.number)
    )
    if not released:
        rows = rows.where(_IN_FORCE)
    if account_id is not None:
        rows = rows.where(legal_holds.c.account_id == account_id)
    reasoned = reads.reading_reasons(connection, rows)
    return [reads.with_reason(row) for row in connection.execute(reasoned).mappings()]


def ended(connection: Connection, now: datetime) -> list[tuple[str, str]]:
    """(account, case) of the cases in force all of whose holds have come to their end."""
    over = select(legal_holds.c.account_id, legal_holds.c.case).where(_IN_FORCE, legal_holds.c.ends_at <= now)
    cases = over.distinct().subquery()
    of_the_case = (legal_holds.c.account_id == cases.c.account_id) & (legal_holds.c.case == cases.c.case)
    lasts = legal_holds.c.ends_at.is_(None) | (legal_holds.c.ends_at > now)
    rows = connection.execute(select(cases).where(~exists().where(of_the_case, _IN_FORCE, lasts)))
    return [(row.account_id, row.case) for row in rows]


def next_end(connection: Connection, after: datetime) -> datetime | None:
    """When the next legal hold comes to its end."""
    ends_at = legal_holds.c.ends_at
    end: datetime | None = connection.scalar(select(func.min(ends_at)).where(_IN_FORCE, ends_at > after))
    return end
