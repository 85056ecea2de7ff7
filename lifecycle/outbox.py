"""The outbox: hands every owed effect to its handler, at least once, and carries the answer back.

A claim is a lease: a worker that dies loses it, and another takes the task up. Outcomes of a claim
that was lost in the meantime are fenced off by the number of the attempt, but a receipt always counts,
since what was destroyed is destroyed.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, func, or_, select, update
from tenacity import RetryCallState, wait_exponential_jitter

from lifecycle.actor import SYSTEM, Request
from lifecycle.errors import InvalidInput, LifecycleError, Refused
from lifecycle.instants import Instant
from lifecycle.machine import TIMERS, decide, give_notice
from lifecycle.policy import Policy
from lifecycle.reads import Snapshot
from lifecycle.rows import Transition, timer_of
from lifecycle.states import DESTRUCTIVE, Effect
from lifecycle.store import PROMISES, Entry, Store
from lifecycle.tables import COLUMNS, Status, accounts, outbox
from lifecycle.task import Handler, Task
from lifecycle.terms import compile_term
from lifecycle.terms import now as now_term

#: The row whose event a destructive effect's receipt fires.
CONFIRMS: Mapping[Effect, Transition] = {
    timer.confirmation.effect: row for row in TIMERS if (timer := timer_of(row)).confirmation
}
#: The rows whose timers an effect reminds of.
REMINDS: Mapping[Effect, tuple[Transition, ...]] = {
    effect: tuple(row for row in TIMERS if (notice := timer_of(row).notice) and notice.effect is effect)
    for effect in Effect
    if any((notice := timer_of(row).notice) and notice.effect is effect for row in TIMERS)
}
#: Effects that undo each other: the latest of an account counts, and one waits for the one before it.
OPPOSITES = (Effect.STOP_BILLING, Effect.RESUME_BILLING)


@dataclass(frozen=True)
class DeliverySettings:
    """How hard the outbox tries."""

    #: Tasks per claim.
    batch: int = 100
    #: How long a claim holds. A handler must be done well before.
    lease: timedelta = timedelta(minutes=10)
    #: Attempts before a task is parked for a person to look at.
    attempts: int = 8
    #: Wait after the first failure; it doubles with every further one, with jitter.
    first_wait: timedelta = timedelta(seconds=30)
    longest_wait: timedelta = timedelta(hours=6)


@dataclass
class DeliveryReport:
    """What a delivery did, counted by effect, and when the next attempt is due."""

    delivered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    withdrawn: int = 0
    next_due: datetime | None = None
    finished: bool = True

    @property
    def handled(self) -> int:
        """How many tasks had an outcome."""
        return self.delivered.total() + self.failed.total() + self.parked.total() + self.withdrawn


@dataclass(frozen=True)
class _Claimed:
    task: Task
    number: int
    effect: Effect


@dataclass(frozen=True)
class _Outcome:
    claimed: _Claimed
    receipt: str | None = None
    error: str | None = None


_NOW = bindparam("now", type_=Instant)
#: Due, and not claimed by anybody who still holds the claim.
_OPEN = and_(
    outbox.c.status == Status.PENDING,
    outbox.c.due_at <= _NOW,
    or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= _NOW),
)


def _withdraw_superseded() -> Any:
    """Withdraw what is no longer true: reminders of a clock that stopped, the confirmation of a cancellation
    that was taken back, and billing orders that a later one reversed.
    """
    later = outbox.alias("later")
    reversed_since = exists().where(
        later.c.account_id == outbox.c.account_id,
        later.c.id > outbox.c.id,
        later.c.effect.in_(OPPOSITES),
        later.c.effect != outbox.c.effect,
    )
    current = exists().where(accounts.c.id == outbox.c.account_id, accounts.c.reminder == outbox.c.number)
    came_back = exists().where(accounts.c.id == outbox.c.account_id, accounts.c.cancelled_at.is_(None))
    superseded = or_(
        and_(outbox.c.effect == Effect.CONFIRM_CANCELLATION, came_back),
        and_(outbox.c.effect.in_(list(REMINDS)), ~current),
        and_(outbox.c.effect.in_(OPPOSITES), reversed_since),
    )
    return (
        update(outbox)
        .where(_OPEN, superseded)
        .values(status=Status.WITHDRAWN, finished_at=_NOW, last_error="superseded by what happened since")
    )


_WITHDRAW_SUPERSEDED = _withdraw_superseded()


class Courier:
    """Delivers the outbox of one store with a registry of handlers.

    An effect without a handler is never claimed: it waits, and doctor says so.
    """

    def __init__(
        self, store: Store, policy: Policy, handlers: Mapping[Effect, Handler], settings: DeliverySettings
    ) -> None:
        self.store = store
        self.database = store.database
        self.policy = policy
        self.handlers = dict(handlers)
        self.settings = settings
        self._wait = wait_exponential_jitter(
            multiplier=settings.first_wait.total_seconds(),
            max=settings.longest_wait.total_seconds(),
            jitter=settings.first_wait.total_seconds(),
        )

    def deliver(self, clock: Callable[[], datetime], stop: Callable[[], bool] = lambda: False) -> DeliveryReport:
        """Deliver all that is due, until nothing is left or ``stop`` says so (read between tasks)."""
        report = DeliveryReport()
        while not stop():
            claimed = self._claim(clock(), report)
            if not claimed:
                with self.database.read() as connection:
                    report.next_due = self.next_due(connection, clock())
                return report
            self._work(claimed, clock, stop, report)
        report.finished = False
        return report

    def _work(
        self, claimed: list[_Claimed], clock: Callable[[], datetime], stop: Callable[[], bool], report: DeliveryReport
    ) -> None:
        """Hand the tasks over; what the lease or the stop leaves undone is given back untouched."""
        expires = clock() + self.settings.lease / 2
        outcomes: list[_Outcome] = []
        for position, one in enumerate(claimed):
            if stop() or clock() > expires:
                self._give_back(claimed[position:])
                break
            outcomes.append(self._attempt(one))
        self._settle(outcomes, clock(), report)

    def _attempt(self, claimed: _Claimed) -> _Outcome:
        try:
            receipt = self.handlers[claimed.effect](claimed.task)
        except Exception as error:  # whatever a handler raises means: try again
            return _Outcome(claimed, error=f"{type(error).__name__}: {error}"[:2000])
        if receipt is not None and not isinstance(receipt, str):
            return _Outcome(claimed, error=f"The handler returned {receipt!r}; a receipt is text, or None.")
        if claimed.effect in DESTRUCTIVE and not (receipt and receipt.strip()):
            return _Outcome(claimed, error="The handler returned no receipt; destruction is confirmed by one only.")
        return _Outcome(claimed, receipt=receipt)

    # --- Claims ------------------------------------------------------------------------------

    def _claim(self, now: datetime, report: DeliveryReport) -> list[_Claimed]:
        with self.database.write() as connection:
            self.store.require_policy(connection, self.policy)
            report.withdrawn += connection.execute(_WITHDRAW_SUPERSEDED, {"now": now}).rowcount
            rows = connection.execute(self._claimable, {"now": now}).mappings().all()
            if not rows:
                return []
            connection.execute(
                update(outbox)
                .where(outbox.c.id == bindparam("key"))
                .values(attempts=outbox.c.attempts + 1, claimed_until=now + self.settings.lease),
                [{"key": row["id"]} for row in rows],
            )
            ids = list(dict.fromkeys(row["account_id"] for row in rows))
            snapshots = {snapshot.id: snapshot for snapshot in self.store.load_many(connection, ids)}
        return [_claimed(row, snapshots[row["account_id"]]) for row in rows]

    @cached_property
    def _claimable(self) -> Any:
        earlier = outbox.alias("earlier")
        waits_for = exists().where(
            earlier.c.account_id == outbox.c.account_id,
            earlier.c.id < outbox.c.id,
            earlier.c.status == Status.PENDING,
            earlier.c.effect.in_(OPPOSITES),
        )
        return (
            select(outbox)
            .join(accounts, accounts.c.id == outbox.c.account_id)
            .where(
                _OPEN,
                outbox.c.effect.in_(list(self.handlers)),
                outbox.c.effect.not_in(DESTRUCTIVE) | self._may_destroy(),
                outbox.c.effect.not_in(OPPOSITES) | ~waits_for,
            )
            .order_by(outbox.c.due_at, outbox.c.id)
            .limit(self.settings.batch)
            .with_for_update(skip_locked=True, of=outbox)
        )

    def _may_destroy(self) -> Any:
        """The account is still where the request left it, its date is reached, and nothing blocks it."""
        allowed = []
        for effect, row in CONFIRMS.items():
            timer = timer_of(row)
            condition = compile_term(~timer.blocked & (timer.deadline <= now_term), COLUMNS, self.policy, _NOW)
            mark = accounts.c[timer.confirmation.mark]  # type: ignore[union-attr]
            allowed.append(
                and_(outbox.c.effect == effect, accounts.c.state.in_(row.sources), mark.is_not(None), condition)
            )
        return or_(*allowed)

    def _give_back(self, claimed: list[_Claimed]) -> None:
        """Claims that no handler has seen: as if they had never been made."""
        with self.database.write() as connection:
            connection.execute(
                update(outbox)
                .where(outbox.c.id == bindparam("key"), outbox.c.attempts == bindparam("attempt"))
                .values(attempts=outbox.c.attempts - 1, claimed_until=None),
                [{"key": one.task.id, "attempt": one.task.attempt} for one in claimed],
            )

    def next_due(self, connection: Connection, now: datetime) -> datetime | None:
        """When the next attempt after ``now`` is due; a live claim counts from the end of its lease."""
        pending = outbox.c.status == Status.PENDING
        due: datetime | None = connection.scalar(
            select(func.min(outbox.c.due_at)).where(
                pending, outbox.c.due_at > now, outbox.c.effect.in_(list(self.handlers))
            )
        )
        lapses: datetime | None = connection.scalar(
            select(func.min(outbox.c.claimed_until)).where(pending, outbox.c.claimed_until > now)
        )
        return min((instant for instant in (due, lapses) if instant), default=None)

    # --- Outcomes ----------------------------------------------------------------------------

    def _settle(self, outcomes: list[_Outcome], now: datetime, report: DeliveryReport) -> None:
        """Write all outcomes in one transaction; if one of them can't be written, the others still are."""
        try:
            with self.database.write() as connection:
                self.store.hold_policy(connection)
                # What a handler has done is written whatever policy came into force meanwhile.
                policy = self.store.policy_in_force(connection) or self.policy
                for outcome in outcomes:
                    self._write(connection, outcome, now, policy)
        except LifecycleError as error:
            if len(outcomes) == 1:
                raise
            failed = [one for one in outcomes if not self._settled_alone(one, now, report)]
            if failed:
                raise error
            return
        for outcome in outcomes:
            effect = str(outcome.claimed.effect)
            if outcome.error is None:
                report.delivered[effect] += 1
            elif outcome.claimed.task.attempt >= self.settings.attempts:
                report.parked[effect] += 1
            else:
                report.failed[effect] += 1

    def _settled_alone(self, outcome: _Outcome, now: datetime, report: DeliveryReport) -> bool:
        try:
            self._settle([outcome], now, report)
        except LifecycleError:
            return False  # its claim lapses, and it is tried again
        return True

    def _write(self, connection: Connection, outcome: _Outcome, now: datetime, policy: Policy) -> None:
        claimed = outcome.claimed
        snapshot = self.store.load(connection, claimed.task.account_id, lock=True)
        mine = outbox.c.id == claimed.task.id
        if outcome.error is None:
            counted = mine & (outbox.c.status != Status.DELIVERED)
            values: dict[str, Any] = {
                "status": Status.DELIVERED,
                "receipt": outcome.receipt,
                "finished_at": now,
                "last_error": None,
            }
        else:
            counted = mine & (outbox.c.status == Status.PENDING) & (outbox.c.attempts == claimed.task.attempt)
            values = {"last_error": outcome.error, **self._after_failure(claimed.task.attempt, now)}
        settled = connection.execute(update(outbox).where(counted).values(claimed_until=None, **values))
        if settled.rowcount == 1 and values.get("status") is not None:
            self._carry_back(connection, snapshot, outcome, now, policy)

    def _after_failure(self, attempt: int, now: datetime) -> dict[str, Any]:
        if attempt >= self.settings.attempts:
            return {"status": Status.PARKED, "finished_at": now}
        return {"due_at": now + self.backoff(attempt)}

    def backoff(self, attempt: int) -> timedelta:
        """How long to wait after the ``attempt``-th failure (from 1): exponential, with jitter."""
        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = attempt
        return timedelta(seconds=self._wait(state))

    def _carry_back(
        self, connection: Connection, snapshot: Snapshot, outcome: _Outcome, now: datetime, policy: Policy
    ) -> None:
        """What a delivery means for its account: a notice counts from now, a receipt fires its event."""
        effect = outcome.claimed.effect
        entry = Entry(now, policy.version)
        if effect in REMINDS and snapshot.reminder == outcome.claimed.number:
            rows = REMINDS[effect]
            row = next((row for row in rows if snapshot.state in row.sources), rows[0])
            self.store.write(connection, snapshot, give_notice(snapshot, row, now, policy), entry)
        elif effect in CONFIRMS and outcome.error is None:
            asked = Request(SYSTEM, receipt=outcome.receipt)
            try:
                decision = decide(snapshot, CONFIRMS[effect].event, asked, now, policy)
            except Refused:
                return  # the receipt is kept; the account has gone where it no longer matters
            self.store.write(connection, snapshot, decision, entry)

    # --- For people --------------------------------------------------------------------------

    def rows(
        self,
        connection: Connection,
        status: Status | None = None,
        account_id: str | None = None,
        limit: int | None = None,
    ) -> list[Any]:
        """At most ``limit`` outbox rows as mappings, oldest first."""
        query = select(outbox).order_by(outbox.c.id).limit(limit)
        if status is not None:
            query = query.where(outbox.c.status == status)
        if account_id is not None:
            query = query.where(outbox.c.account_id == account_id)
        return list(connection.execute(query).mappings())

    def counts(self, connection: Connection) -> dict[str, int]:
        """How many rows there are per status."""
        rows = connection.execute(select(outbox.c.status, func.count()).group_by(outbox.c.status))
        return {str(row[0]): row[1] for row in rows}

    def retry(self, now: datetime, task_id: int | None = None) -> int:
        """Put a parked task (all of them, without ``task_id``) back in line; returns how many."""
        parked = update(outbox).where(outbox.c.status == Status.PARKED)
        if task_id is not None:
            parked = parked.where(outbox.c.id == task_id)
        with self.database.write() as connection:
            # attempts stays: a request that a handler has once seen can never pass for unclaimed again.
            count = connection.execute(
                parked.values(status=Status.PENDING, due_at=now, finished_at=None, claimed_until=None)
            ).rowcount
        if task_id is not None and count == 0:
            raise InvalidInput(f"Task {task_id} is not parked; see `lifecycle outbox list --status parked`.")
        return int(count)


def _claimed(row: Mapping[Any, Any], snapshot: Snapshot) -> _Claimed:
    dates = ("promised", *PROMISES)
    payload = {
        "company": snapshot.company,
        "owners": list(snapshot.owners),
        **{name: row[name].isoformat() for name in dates if row[name] is not None},
    }
    task = Task(
        id=row["id"],
        account_id=row["account_id"],
        effect=str(row["effect"]),
        payload=payload,
        attempt=row["attempts"] + 1,
        idempotency_key=f"{row['account_id']}:{row['number']}:{row['effect']}",
    )
    return _Claimed(task, row["number"], row["effect"])
