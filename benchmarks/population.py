"""Many accounts in one condition: one is led there by the engine, so that it is valid, and then multiplied."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Table

from benchmarks.lab import Lab, bare
from lifecycle import Actor, Engine, ManualClock
from lifecycle.personal import Personal
from lifecycle.tables import accounts, history, outbox, owners, personal_data, receipts

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
OWNER = "ann@template.test"
TEMPLATE = "template"
#: Per condition: the plan it is opened with, days until the paid period ends, days until the owner
#: cancels, days until billing freezes it, and the day on which the timer is due.
CONDITIONS: dict[str, tuple[str, int | None, int | None, int | None, int]] = {
    "remind_trial_end": ("trial", None, None, None, 23),
    "expire_trial": ("trial", None, None, None, 30),
    "cancel_expired_trial": ("trial", None, None, None, 60),
    "cancel_unpaid": ("paid", 20, None, 20, 200),
    "remind_inactive": ("free", None, None, None, 351),
    "cancel_inactive": ("free", None, None, None, 365),
    "revoke_access": ("paid", 20, 0, None, 20),
    "delete_content": ("paid", 20, 0, None, 30),
    "purge_backups": ("paid", 20, 0, None, 59),
}
_SEALED_AT_ONCE = 10_000
#: What belongs to an account and can be copied, and by which column.
_TABLES: tuple[tuple[Table, str], ...] = (
    (accounts, "id"),
    (history, "account_id"),
    (outbox, "account_id"),
    (receipts, "account_id"),
)
#: Lets the template be removed from what is append-only; the engine puts the triggers back.
_DISARMED = {
    True: "ALTER TABLE {table} DISABLE TRIGGER refuses_delete",
    False: "DROP TRIGGER {table}_refuses_delete",
}


def due_after(condition: str) -> timedelta:
    """How long after its beginning an account's timer is due."""
    return CONDITIONS[condition][-1] * DAY


def lead(engine: Engine, condition: str) -> None:
    """One account, begun now, at the instant at which the timer of ``condition`` is due."""
    plan, period, cancelled, frozen, _ = CONDITIONS[condition]
    clock = engine.clock
    assert isinstance(clock, ManualClock)
    begun = clock.now()
    ends = None if period is None else begun + period * DAY
    engine.open_account(TEMPLATE, company="Template Ltd", owners=[OWNER], plan=plan, period_ends_at=ends)
    if cancelled is not None:
        engine.fire(TEMPLATE, "cancel", actor=Actor.owner(OWNER))
    if frozen is not None:
        engine.run_until(begun + frozen * DAY)
        engine.fire(TEMPLATE, "freeze", actor=Actor.billing("psp"))
    due = begun + due_after(condition)
    engine.run_until(due - timedelta(microseconds=1))
    clock.set(due)


def multiply(engine: Engine, count: int, *, later: str = "0", shifted: Sequence[str] = ()) -> None:
    """``count`` accounts like the template, numbered from 1; then :func:`drop_template` ends the preparation.

    ``later`` is an SQL expression over the number ``i``: the microseconds by which the account's columns
    ``shifted`` come later than the template's. Copies of a valid account need no look at foreign keys, and what a
    crash would cost is made again.
    """
    if engine.database.is_postgresql:
        numbers = f"SELECT i, ({later})::bigint AS later FROM generate_series(1::bigint, {count}) AS s(i)"
        name, delay = "'account-' || lpad(i::text, 9, '0')", "later * interval '1 microsecond'"
        without_checks = ["SET session_replication_role = replica", "SET synchronous_commit = off"]
    else:
        numbers = (
            f"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {count}) "
            f"SELECT i, {later} AS later FROM s"
        )
        name, delay = "printf('account-%09d', i)", "later"
        without_checks = ["PRAGMA foreign_keys = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -2000000"]
    connection = bare(engine)
    for setting in without_checks:
        connection.execute(setting)
    for table, key in _TABLES:
        copied = [c.name for c in table.c if c.name not in (key, "id")]
        values = [f't."{c}" + {delay}' if table is accounts and c in shifted else f't."{c}"' for c in copied]
        quoted = ", ".join(f'"{c}"' for c in copied)
        connection.execute(
            f"INSERT INTO {table.name} ({key}, {quoted}) SELECT {name}, {', '.join(values)} "
            f"FROM ({numbers}) AS n CROSS JOIN {table.name} AS t WHERE t.{key} = '{TEMPLATE}'"
        )
    connection.close()
    seal_people(engine, count)


def seal_people(engine: Engine, count: int) -> None:
    """The company and the owner of every copy, each sealed under a key of its own."""
    for first in range(1, count + 1, _SEALED_AT_ONCE):
        ids = [f"account-{number:09d}" for number in range(first, min(first + _SEALED_AT_ONCE, count + 1))]
        with engine.database.write() as connection:
            engine.store.put_people(connection, ids, [Personal.of_new("Template Ltd", [OWNER])] * len(ids))


@dataclass(frozen=True)
class Backlog:
    """A prepared database, and the instant at which its accounts are due."""

    lab: Lab
    kind: str
    url: str
    clock: ManualClock

    @contextmanager
    def copy(self) -> Iterator[Engine]:
        with self.lab.engine(self.kind, self.clock, like=self.url) as engine:
            settle(engine)
            yield engine


@contextmanager
def backlog(lab: Lab, kind: str, condition: str, count: int, *, requested: bool = False) -> Iterator[Backlog]:
    """``count`` accounts whose timer is due; with ``requested``, their requests wait in the outbox."""
    clock = ManualClock(START)
    with lab.engine(kind, clock) as engine:
        lead(engine, condition)
        if requested:
            engine.sweep()
        multiply(engine, count)
        drop_template(engine)
        engine.close()  # a copy is made of a database that nobody uses
        yield Backlog(lab, kind, url_of(engine), clock)


def url_of(engine: Engine) -> str:
    return engine.database.url.render_as_string(hide_password=False)


def drop_template(engine: Engine) -> None:
    """Remove the template, and have the database look at its tables as a running one would have done."""
    connection = bare(engine)
    for table in (history, receipts):
        connection.execute(_DISARMED[engine.database.is_postgresql].format(table=table.name))
    people = ((personal_data, "account_id"), (owners, "account_id"))
    for table, key in (*people, *reversed(_TABLES)):
        connection.execute(f"DELETE FROM {table.name} WHERE {key} = '{TEMPLATE}'")
    connection.close()
    engine.migrate()
    settle(engine)


def settle(engine: Engine) -> None:
    """Fresh statistics and no unwritten pages: what an hour of rest does to a database."""
    connection = bare(engine)
    if engine.database.is_postgresql:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    else:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
