"""The activity of many accounts at once: a stream of (account, instant), recorded in batches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, bindparam, select, update

from lifecycle.characters import shown
from lifecycle.clock import in_utc
from lifecycle.deadlines import ACTIVITY_COUNTS
from lifecycle.errors import InvalidInput
from lifecycle.inputs import is_account_id
from lifecycle.machine import due
from lifecycle.policy import Policy
from lifecycle.store import Store
from lifecycle.tables import COLUMNS, accounts
from lifecycle.terms import compile_term

#: Pairs that are looked at together.
BATCH = 50_000
#: Transactions among which the accounts of a batch are dealt out.
HANDS = 10
#: Fewer accounts than this are not worth a transaction of their own.
SMALLEST_HAND = 500
#: Unknown ids that a report names; it counts the others.
NAMED = 20

Pair = tuple[str, datetime]


@dataclass(frozen=True, slots=True)
class ActivityReport:
    """What became of the pairs, each counted once.

    ``unchanged`` are those that the activity on file, a later pair of their batch or the policy's
    ``activity_resolution`` left without effect. ``unknown_ids`` are the first 20 ids among the ``unknown``.
    """

    written: int = 0
    unchanged: int = 0
    unknown: int = 0
    unknown_ids: tuple[str, ...] = ()


def record(
    store: Store,
    policy: Policy,
    pairs: Iterable[Pair],
    now: Callable[[], datetime],
    on_progress: Callable[[int], None] = lambda pairs: None,
) -> ActivityReport:
    """Record them all; raises :class:`InvalidInput` at a batch with a malformed pair, or an instant in the future.

    Nothing of such a batch is written; what came before it is. ``on_progress`` hears how many pairs
    are done.
    """
    stream, done = iter(pairs), 0
    written = unknown = 0
    named: dict[str, None] = {}
    while batch := list(islice(stream, BATCH)):
        at = now()
        latest, sizes = _latest(batch, at, done)
        strangers = {account_id for account_id in latest if not is_account_id(account_id)}
        for share in _hands(sorted(latest.keys() - strangers)):
            with store.database.write() as connection:
                store.require_policy(connection, policy)
                moved, absent = _write(store, connection, {i: latest[i] for i in share}, at, policy)
            written += moved
            strangers |= absent
        unknown += sum(sizes[account_id] for account_id in strangers)
        named |= dict.fromkeys(sorted(strangers - named.keys())[: NAMED - len(named)])
        done += len(batch)
        on_progress(done)
    return ActivityReport(written, done - written - unknown, unknown, tuple(named))


def _write(
    store: Store, connection: Connection, latest: Mapping[str, datetime], now: datetime, policy: Policy
) -> tuple[int, set[str]]:
    """Do what ``Store.record_activity`` does for each of these accounts; how many were written, and unknown ids."""
    given = store.database.given(latest, accounts.c.id.type, accounts.c.last_active_at.type)
    last, at = accounts.c.last_active_at, given.c.value
    stale = compile_term(ACTIVITY_COUNTS, COLUMNS, policy, at)
    # Locked in the order of their ids, so that two of these never wait for each other in a circle.
    mine = (
        select(accounts.c.id, at.label("at"))
        .join(given, given.c.key == accounts.c.id)
        .where(stale)
        .order_by(accounts.c.id)
        .with_for_update(of=accounts, key_share=True)
        .cte("mine")
    )
    # The dates themselves: SQLite 3.40 returns a wrong `due_at IS NULL` from an UPDATE of a table joined to another.
    rows = connection.execute(
        update(accounts)
        .where(accounts.c.id == mine.c.id, last.is_(None) | (last < mine.c.at))
        .values(last_active_at=mine.c.at)
        .returning(accounts.c.id, accounts.c.due_at, accounts.c.reminded_at)
    ).all()
    resting = [row.id for row in rows if row.due_at is None and row.reminded_at is not None]
    _arm_again(store, connection, resting, now, policy)
    others = latest.keys() - {row.id for row in rows}
    return len(rows), others - set(store.existing(connection, list(others))) if others else set()


def _arm_again(store: Store, connection: Connection, ids: Sequence[str], now: datetime, policy: Policy) -> None:
    """Arm the timers that a notice of the old clock has put to rest."""
    if ids:
        armed = update(accounts).where(accounts.c.id == bindparam("rested")).values(due_at=bindparam("at"))
        snapshots = store.load_many(connection, ids)
        connection.execute(armed, [{"rested": one.id, "at": due(one, now, policy)} for one in snapshots])


def _latest(batch: Sequence[Pair], now: datetime, before: int) -> tuple[dict[str, datetime], dict[str, int]]:
    """The latest instant of each account in the batch, and how many it has; ``before`` pairs came before."""
    latest: dict[str, datetime] = {}
    sizes: dict[str, int] = {}
    for number, pair in enumerate(batch, start=before + 1):
        account_id, at = _checked(pair, number)
        if at > now:
            raise InvalidInput(
                f"Activity can't lie in the future: pair {number:,} says that account {shown(account_id)} was used "
                f"at {at}, and it is {now}. Nothing from pair {before + 1:,} on was "
                "written; correct it, and record all again."
            )
        if account_id not in latest or at > latest[account_id]:
            latest[account_id] = at
        sizes[account_id] = sizes.get(account_id, 0) + 1
    return latest, sizes


def _checked(pair: Pair, number: int) -> Pair:
    """The pair with its instant in UTC. An id that no account can have is as unknown as any other text."""
    try:
        account_id, at = pair
    except (TypeError, ValueError):
        raise InvalidInput(f"Pair {number:,} must be an account id and an instant, not {shown(pair)}.") from None
    if not isinstance(account_id, str):
        raise InvalidInput(f"The account id of pair {number:,} must be text, not {shown(account_id)}.")
    return account_id, in_utc(at, f"The instant of pair {number:,}")


def _hands(ids: Sequence[str]) -> list[Sequence[str]]:
    """The ids dealt out like cards, one hand for each transaction.

    Accounts that were imported together lie on the same pages. PostgreSQL keeps an update on its page, without a
    new entry in any index, while there is room; what one transaction leaves behind is room for the next.
    """
    hands = min(-(-len(ids) // SMALLEST_HAND), HANDS)
    return [ids[hand::hands] for hand in range(hands)]
