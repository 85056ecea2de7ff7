"""The rival that knows no engine: SQL written by hand for each timed event, as one would put it into cron.

It writes what the engine writes, row for row (the benchmark compares), in batches of the same size that
several processes could share. But it knows one policy and one path: no precedence among moves, no
definition, nothing that is re-armed, and a change of the policy means to write it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.lab import bare, confirm, wire
from lifecycle import Engine, Task
from lifecycle.instants import EPOCH, MICROSECOND
from lifecycle.personal import Sealed
from lifecycle.sweep import BATCH
from lifecycle.vault import AccountKey

COMPANY_CANCELS = """
    state = 'cancel_pending', version = version + 1, due_at = {now} - 7 * {day},
    cancelled_at = {now}, cancelled_by = 'company', cancelled_from = state, access_ends_at = {now},
    delete_content_at = {now} + 30 * {day}, purge_backups_by = {now} + 60 * {day},
    reminder = NULL, reminded_at = NULL, not_before = NULL"""
NOTICED = "due_at <= {now} AND legal_holds = 0 AND reminded_at IS NOT NULL AND not_before <= {now}"
CANCELLATION = ("stop_billing", "confirm_cancellation")


@dataclass(frozen=True)
class Job:
    """One event: which accounts, what it sets, its history entry and what it owes. ``{now}`` and ``{day}`` differ."""

    where: str
    sets: str
    event: str
    step: str
    source: str
    dest: str
    effects: tuple[str, ...] = ()
    promised: str = "NULL"


#: By the name of the figure.
JOBS: dict[str, Job] = {
    "expire_trial: reminder": Job(
        "state = 'trial' AND due_at <= {now} AND legal_holds = 0 AND reminder IS NULL"
        " AND trial_ends_at - 7 * {day} <= {now}",
        "version = version + 1, reminder = version + 1, reminded_at = {now}, due_at = trial_ends_at",
        "expire_trial", "remind", "trial", "trial", ("remind_trial_end",), "trial_ends_at",
    ),
    "expire_trial": Job(
        "state = 'trial' AND trial_ends_at <= {now} AND " + NOTICED,
        "state = 'on_hold', version = version + 1, held_at = {now}, due_at = {now} + 16 * {day},"
        " reminder = NULL, reminded_at = NULL, not_before = NULL",
        "expire_trial", "fire", "trial", "on_hold",
    ),
    "cancel_expired_trial": Job(
        "state = 'on_hold' AND held_at <= {now} - 30 * {day} AND " + NOTICED,
        COMPANY_CANCELS, "cancel_expired_trial", "fire", "on_hold", "cancel_pending", CANCELLATION,
    ),
    "cancel_unpaid": Job(
        "state = 'frozen' AND suspended_from IS NULL AND frozen_at <= {now} - 180 * {day} AND " + NOTICED,
        COMPANY_CANCELS, "cancel_unpaid", "fire", "frozen", "cancel_pending", CANCELLATION,
    ),
    "cancel_inactive": Job(
        "state = 'active' AND plan = 'free' AND last_active_at <= {now} - 365 * {day} AND " + NOTICED,
        COMPANY_CANCELS, "cancel_inactive", "fire", "active", "cancel_pending", CANCELLATION,
    ),
    "revoke_access": Job(
        "state = 'cancel_pending' AND access_ends_at <= {now} AND due_at <= {now} AND legal_holds = 0",
        "state = 'access_revoked', version = version + 1, due_at = delete_content_at - 7 * {day}",
        "revoke_access", "fire", "cancel_pending", "access_revoked",
    ),
    "delete_content: request": Job(
        "state = 'access_revoked' AND erasure_requested_at IS NULL AND delete_content_at <= {now} AND " + NOTICED,
        "version = version + 1, due_at = NULL, erasure_requested_at = {now}",
        "delete_content", "request", "access_revoked", "access_revoked", ("delete_content",), "delete_content_at",
    ),
    "purge_backups: request": Job(
        "state = 'content_deleted' AND purge_requested_at IS NULL AND due_at <= {now} AND legal_holds = 0"
        " AND purge_backups_by - 1 * {day} <= {now}",
        "version = version + 1, due_at = NULL, purge_requested_at = {now}",
        "purge_backups", "request", "content_deleted", "content_deleted",
        ("purge_backups",), "purge_backups_by - 1 * {day}",
    ),
}  # fmt: skip

#: What a receipt does: the effect that it is for, and the move of the account.
RECEIPTS: dict[str, tuple[str, Job]] = {
    "delete_content: confirmation": ("delete_content", Job(
        "state = 'access_revoked' AND erasure_requested_at IS NOT NULL AND legal_holds = 0",
        "state = 'content_deleted', version = version + 1, due_at = purge_backups_by - 1 * {day},"
        " content_deleted_at = {now}, reminder = NULL, reminded_at = NULL, not_before = NULL",
        "delete_content", "fire", "access_revoked", "content_deleted",
    )),
    "purge_backups: confirmation": ("purge_backups", Job(
        "state = 'content_deleted' AND purge_requested_at IS NOT NULL AND legal_holds = 0",
        "state = 'purged', version = version + 1, purged_at = {now}",
        "purge_backups", "fire", "content_deleted", "purged",
    )),
}  # fmt: skip
#: What a purge erases beside.
SCRUBBING = (
    "DELETE FROM owner WHERE account_id IN ({ids})",
    "DELETE FROM stated_reason WHERE account_id IN ({ids})",
    "DELETE FROM personal_data WHERE account_id IN ({ids})",
    "UPDATE outbox SET last_error = NULL WHERE account_id IN ({ids}) AND last_error IS NOT NULL",
)
CLAIM = 5000
PROMISES = ("promised", "access_ends_at", "delete_content_at", "purge_backups_by")


class Handwritten:
    """Runs the jobs on the driver's own connection to an engine's database."""

    def __init__(self, engine: Engine, now: datetime) -> None:
        self.connection: Any = bare(engine)
        self.postgresql = engine.database.is_postgresql
        self.version = engine.policy.version
        self.vault = engine.store.vault
        if self.postgresql:
            self.now, self.day, self.mark = "%(now)s::timestamptz", "interval '24 hours'", "%({})s"
            self.given: dict[str, Any] = {"now": now}
        else:
            self.now, self.day, self.mark = ":now", "86400000000", ":{}"
            self.given = {"now": wire(engine, now)}
            self.connection.execute("CREATE TEMP TABLE picked (key INTEGER PRIMARY KEY)")

    def close(self) -> None:
        self.connection.close()

    def _filled(self, text: str) -> str:
        return text.format(now=self.now, day=self.day, ids=self.mark.format("ids"))

    # --- What is due -------------------------------------------------------------------------

    def sweep(self, job: Job, batch: int = BATCH) -> int:
        """Move all that is due; returns how many accounts."""
        locked = " FOR UPDATE SKIP LOCKED" if self.postgresql else ""
        one_batch, moved = self._moving(job, f"ORDER BY due_at LIMIT {batch}{locked}"), 0
        while count := one_batch(self.given):
            moved += count
        return moved

    def mover(self, job: Job) -> Callable[[str], int]:
        """What moves one account, if it is due, in a transaction of its own; returns how many it moved."""
        locked = " FOR UPDATE" if self.postgresql else ""
        move = self._moving(job, f"AND id = {self.mark.format('id')}{locked}")
        return lambda account_id: move({**self.given, "id": account_id})

    def _moving(self, job: Job, chosen: str) -> Callable[[dict[str, Any]], int]:
        """One transaction, which counts what it moves; ``chosen`` ends the query for what is due."""
        return self._moving_postgresql(job, chosen) if self.postgresql else self._moving_sqlite(job, chosen)

    def _entry(self, job: Job, moved: str) -> str:
        return (
            "INSERT INTO history (account_id, number, event, step, source, dest, at, actor, policy_version) "
            f"SELECT id, version, '{job.event}', '{job.step}', '{job.source}', '{job.dest}', {self.now}, "
            f"'system:timer', '{self.version}' FROM {moved}"
        )

    def _owed(self, job: Job, moved: str) -> list[str]:
        return [
            "INSERT INTO outbox (account_id, number, effect, status, attempts, created_at, due_at, promised, "
            "access_ends_at, delete_content_at, purge_backups_by) "
            f"SELECT id, version, '{effect}', 'pending', 0, {self.now}, {self.now}, "
            f"{self._filled(job.promised)}, access_ends_at, delete_content_at, purge_backups_by FROM {moved}"
            for effect in job.effects
        ]

    def _moving_postgresql(self, job: Job, chosen: str) -> Callable[[dict[str, Any]], int]:
        owed = "".join(f", owed_{n} AS ({text})" for n, text in enumerate(self._owed(job, "moved")))
        # "version" on the right of an assignment is ambiguous beside another table, so ids are compared.
        statement = (
            f"WITH picked AS (SELECT id AS key FROM account WHERE {self._filled(job.where)} {chosen}), "
            f"moved AS (UPDATE account SET {self._filled(job.sets)} FROM picked WHERE id = key RETURNING account.*), "
            f"entered AS ({self._entry(job, 'moved')}){owed} SELECT count(*) FROM picked"
        )
        return lambda given: int(self.connection.execute(statement, given).fetchone()[0])

    def _moving_sqlite(self, job: Job, chosen: str) -> Callable[[dict[str, Any]], int]:
        pick = f"INSERT INTO picked SELECT rowid FROM account WHERE {self._filled(job.where)} {chosen}"
        among = "account WHERE rowid IN (SELECT key FROM picked)"
        steps = [
            f"UPDATE account SET {self._filled(job.sets)} WHERE rowid IN (SELECT key FROM picked)",
            self._entry(job, among),
            *self._owed(job, among),
        ]

        def one_transaction(given: dict[str, Any]) -> int:
            run = self.connection.execute
            run("BEGIN IMMEDIATE")
            run("DELETE FROM picked")
            count = int(run(pick, given).rowcount)
            for step in steps:
                run(step, given)
            run("COMMIT")
            return count

        return one_transaction

    # --- What handlers confirm ---------------------------------------------------------------

    def deliver(self, effect: str, job: Job) -> int:
        """Claim, hand over and confirm until nothing is left; returns how many accounts moved."""
        moved = 0
        while claimed := self._claim(effect):
            receipts = [(row[0], row[1], confirm(self._task(row, effect))) for row in claimed]
            self._confirm(job, receipts, job.dest == "purged")
            moved += len(receipts)
        return moved

    def _claim(self, effect: str) -> list[tuple[Any, ...]]:
        run = self.connection.execute
        dates = ", ".join(f"o.{name}" for name in PROMISES)
        select = (
            f"SELECT o.id, o.account_id, o.number, o.attempts, p.key_id, p.wrapped, p.data, {dates} "
            f"FROM outbox AS o JOIN account AS a ON a.id = o.account_id "
            f"JOIN personal_data AS p ON p.account_id = o.account_id WHERE o.status = 'pending' "
            f"AND o.effect = '{effect}' AND o.due_at <= {self.now} "
            f"AND (o.claimed_until IS NULL OR o.claimed_until <= {self.now}) AND a.legal_holds = 0 "
            f"ORDER BY o.due_at, o.id LIMIT {CLAIM}"
        )
        until = f"claimed_until = {self.now} + {self.day} / 144"
        if self.postgresql:
            run("BEGIN")
            rows: list[tuple[Any, ...]] = run(select + " FOR UPDATE OF o SKIP LOCKED", self.given).fetchall()
            take = f"UPDATE outbox SET attempts = attempts + 1, {until} WHERE id = ANY(%(ids)s)"
            run(take, {**self.given, "ids": [row[0] for row in rows]})
        else:
            run("BEGIN IMMEDIATE")
            rows = run(select, self.given).fetchall()
            self._pick([row[0] for row in rows])
            take = f"UPDATE outbox SET attempts = attempts + 1, {until} WHERE id IN (SELECT key FROM picked)"
            run(take, self.given)
        run("COMMIT")
        return rows

    def _pick(self, keys: list[int]) -> None:
        self.connection.execute("DELETE FROM picked")
        self.connection.executemany("INSERT INTO picked VALUES (?)", [(key,) for key in keys])

    def _task(self, row: tuple[Any, ...], effect: str) -> Task:
        key, account_id, number, attempts, key_id, wrapped, data, *dates = row
        personal = Sealed(AccountKey(key_id, wrapped), data).open(self.vault, account_id)
        said = {name: self._iso(at) for name, at in zip(PROMISES, dates, strict=True) if at is not None}
        payload = {"company": personal.company, "owners": list(personal.owners), **said}
        return Task(
            id=key, account_id=account_id, effect=effect, payload=payload, attempt=attempts + 1,
            idempotency_key=f"{account_id}:{number}:{effect}",
        )  # fmt: skip

    def _iso(self, at: Any) -> str:
        """A handler is told instants as text in UTC, whatever the database keeps."""
        return str((at.astimezone(UTC) if self.postgresql else EPOCH + at * MICROSECOND).isoformat())

    def _confirm(self, job: Job, receipts: list[tuple[int, str, str]], scrubs: bool) -> None:
        if self.postgresql:
            self._confirm_postgresql(job, receipts, scrubs)
        else:
            self._confirm_sqlite(job, receipts, scrubs)

    def _confirm_postgresql(self, job: Job, receipts: list[tuple[int, str, str]], scrubs: bool) -> None:
        run = self.connection.execute
        keys, ids, texts = (list(column) for column in zip(*receipts, strict=True))
        delivered = (
            "WITH delivered AS (UPDATE outbox SET status = 'delivered', finished_at = %(now)s, last_error = NULL, "
            "claimed_until = NULL FROM unnest(%(keys)s::bigint[], %(texts)s::text[]) AS g(key, text) "
            "WHERE outbox.id = g.key AND status = 'pending' RETURNING account_id, number, effect, text) "
            "INSERT INTO receipt (account_id, number, effect, at, text) "
            "SELECT account_id, number, effect, %(now)s, text FROM delivered"
        )
        move = (
            f"WITH moved AS (UPDATE account SET {self._filled(job.sets)} "
            f"WHERE id = ANY(%(ids)s) AND {self._filled(job.where)} RETURNING *) {self._entry(job, 'moved')}"
        )
        given = {**self.given, "keys": keys, "texts": texts, "ids": ids}
        run("BEGIN")
        # Whoever takes several rows takes them in one order.
        run("SELECT FROM account WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE", given)
        run(delivered, given)
        run(move, given)
        for erasure in SCRUBBING if scrubs else ():
            run(erasure.format(ids="SELECT unnest(%(ids)s::text[])"), given)
        run("COMMIT")

    def _confirm_sqlite(self, job: Job, receipts: list[tuple[int, str, str]], scrubs: bool) -> None:
        run = self.connection.execute
        run("BEGIN IMMEDIATE")
        self.connection.executemany(
            "INSERT INTO receipt (account_id, number, effect, at, text) "
            "SELECT account_id, number, effect, ?, ? FROM outbox WHERE id = ? AND status = 'pending'",
            [(self.given["now"], text, key) for key, _, text in receipts],
        )
        self.connection.executemany(
            "UPDATE outbox SET status = 'delivered', finished_at = ?, last_error = NULL, claimed_until = NULL "
            "WHERE id = ? AND status = 'pending'",
            [(self.given["now"], key) for key, _, _ in receipts],
        )
        run("DELETE FROM picked")
        pick = f"INSERT INTO picked SELECT rowid FROM account WHERE id = :id AND {self._filled(job.where)}"
        self.connection.executemany(pick, [{**self.given, "id": account_id} for _, account_id, _ in receipts])
        run(f"UPDATE account SET {self._filled(job.sets)} WHERE rowid IN (SELECT key FROM picked)", self.given)
        run(self._entry(job, "account WHERE rowid IN (SELECT key FROM picked)"), self.given)
        for erasure in SCRUBBING if scrubs else ():
            run(erasure.format(ids="SELECT id FROM account WHERE rowid IN (SELECT key FROM picked)"))
        run("COMMIT")
