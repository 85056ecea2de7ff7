"""The outbox: hands every owed effect to its handler, at least once, and carries the answer back.

A claim is a lease: a worker that dies loses it, and another takes the task up. Outcomes of a claim
that was lost in the meantime are fenced off by the number of the attempt, but a receipt always counts,
since what was destroyed is destroyed.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from time import monotonic
from typing import Any

from sqlalchemy import Boolean, Connection, and_, bindparam, case, exists, false, func, or_, select, update

from lifecycle.addressees import Addressees
from lifecycle.errors import InvalidInput, LedgerUnusable, LifecycleError
from lifecycle.handover import HandOver, People, takes_many
from lifecycle.instants import Instant
from lifecycle.ledger import Ledger
from lifecycle.outcomes import CONFIRMS, DATES, REMINDS, Claimed, Outcome, Outcomes
from lifecycle.policy import Policy
from lifecycle.requesting import RequestSettings
from lifecycle.restore import REMEMBERED, line_of
from lifecycle.rows import timer_of
from lifecycle.states import DESTRUCTIVE, Effect
from lifecycle.store import Store
from lifecycle.tables import ANSWERS, COLUMNS, RECEIPT_OF_TASK, Status, accounts, outbox, receipts
from lifecycle.task import SMALLEST, DeliverySettings, Handler
from lifecycle.terms import compile_term
from lifecycle.terms import now as now_term
from lifecycle.tokens import overtaken

#: Effects that undo each other: the latest of an account counts, and one waits for the one before it.
OPPOSITES = (Effect.STOP_BILLING, Effect.RESUME_BILLING)


_SECOND = timedelta(seconds=1)
#: Seconds for which the look of a claim holds where a handler takes many tasks at once.
_FRESH = 1.0


@dataclass
class DeliveryReport:
    """What a delivery did, counted by effect, and when the next attempt is due.

    ``withheld`` says why tasks that destroy were not handed over.
    """

    delivered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    withdrawn: int = 0
    next_due: datetime | None = None
    finished: bool = True
    withheld: str | None = None

    @property
    def handled(self) -> int:
        """How many tasks had an outcome."""
        return self.delivered.total() + self.failed.total() + self.parked.total() + self.withdrawn


_NOW = bindparam("now", type_=Instant)
#: Due, and not claimed by anybody who still holds the claim.
_OPEN = and_(
    outbox.c.status == Status.PENDING,
    outbox.c.due_at <= _NOW,
    or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= _NOW),
)


def _superseded() -> Any:
    """What is no longer true: reminders of a clock that stopped, the confirmation of a cancellation that was
    taken back, a request that can't be confirmed any more, and billing orders that a later one reversed.
    """
    later = outbox.alias("later")
    reversed_since = exists().where(
        later.c.account_id == outbox.c.account_id,
        later.c.number > outbox.c.number,
        later.c.effect.in_(OPPOSITES),
        later.c.effect != outbox.c.effect,
    )
    stopped = accounts.c.reminder.is_(None) | (accounts.c.reminder != outbox.c.number)
    return case(
        (outbox.c.effect == Effect.CONFIRM_CANCELLATION, accounts.c.cancelled_at.is_(None)),
        (outbox.c.effect == Effect.VERIFY_OWNER, overtaken(outbox.c.account_id, outbox.c.number)),
        (outbox.c.effect.in_(list(REMINDS)), stopped),
        (outbox.c.effect.in_(OPPOSITES), reversed_since),
        else_=false(),
    )


class Courier:
    """Delivers the outbox of one store with a registry of handlers.

    An effect without a handler is never claimed: it waits, and doctor says so.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        handlers: Mapping[Effect, Handler],
        settings: DeliverySettings,
        ledger: Ledger | None = None,
        requests: RequestSettings | None = None,
    ) -> None:
        self.store = store
        self.database = store.database
        self.policy = policy
        self.handlers = dict(handlers)
        self.settings = settings
        self.ledger = ledger
        self._size = min(SMALLEST, settings.batch)
        self._outcomes = Outcomes(store, self._after_failure)
        self._addressees = Addressees(store, policy, requests or RequestSettings())
        self._purged = False

    def deliver(
        self,
        clock: Callable[[], datetime],
        stop: Callable[[], bool] = lambda: False,
        barred: Callable[[], str | None] = lambda: None,
    ) -> DeliveryReport:
        """Deliver all that is due, until nothing is left or ``stop`` says so (read between tasks).

        ``barred`` is asked before each claim and each last look; while it says why, nothing is destroyed.
        """
        report = DeliveryReport()
        while not stop():
            report.withheld = report.withheld or barred()
            begun = clock()
            claimed, people = self._claim(begun, report)
            fresh_until = monotonic() + _FRESH
            if claimed is None:
                self._purged |= report.delivered[Effect.PURGE_BACKUPS] > 0
                with self.database.read() as connection:
                    report.next_due = self.next_due(connection, clock())
                return report
            if claimed:
                self._work(claimed, people, clock, stop, barred, report, fresh_until)
            self._resize(clock() - begun)
        report.finished = False
        return report

    def forget(self) -> None:
        """See to it that the database's files forget what this courier has purged; it takes a moment."""
        if self._purged:
            self._purged = False
            self.database.forget()

    def _resize(self, took: timedelta) -> None:
        """Claim more next time while a claim takes less than a second, and less when it takes much more."""
        if took < _SECOND:
            self._size = min(self._size * 4, self.settings.batch)
        elif took > 4 * _SECOND:
            self._size = max(self._size // 4, min(SMALLEST, self.settings.batch))

    def _work(
        self,
        claimed: list[Claimed],
        people: People,
        clock: Callable[[], datetime],
        stop: Callable[[], bool],
        barred: Callable[[], str | None],
        report: DeliveryReport,
        fresh_until: float = -math.inf,
    ) -> None:
        """Hand the tasks over; what the lease, the stop or a bar leaves undone is given back untouched."""
        patience = self.settings.lease / 2
        expires = clock() + patience
        work = HandOver(
            claimed,
            people,
            self.handlers,
            last_look=lambda group: self._cleared(group, clock, barred, report, fresh_until),
            clock=clock,
            go_on=lambda: not stop() and clock() <= expires,
            late=lambda outcomes: self._settle(outcomes, clock(), DeliveryReport()),
        )
        work.run(patience)
        if left := work.left:
            self._give_back(left)
        self._settle(work.outcomes, clock(), report)
        if work.error is not None:
            raise work.error

    def _cleared(
        self,
        claimed: Sequence[Claimed],
        clock: Callable[[], datetime],
        barred: Callable[[], str | None],
        report: DeliveryReport,
        fresh_until: float,
    ) -> Sequence[Claimed] | None:
        """Those that may be destroyed now; None where nothing may be, which the report then says."""
        report.withheld = report.withheld or barred()
        if report.withheld is not None:
            return None
        # The claim looked at the same, under the same locks. For many at once, a moment ago is the last moment.
        fresh = monotonic() < fresh_until and takes_many(self.handlers[claimed[0].effect])
        if fresh and self.ledger is None:
            return claimed
        try:
            return self._last_look(claimed, clock(), report)
        except LedgerUnusable as error:
            report.withheld = str(error)
            return None

    def _last_look(self, claimed: Sequence[Claimed], now: datetime, report: DeliveryReport) -> Sequence[Claimed]:
        """Those that may still be destroyed, looked at under lock right before their handler is called.

        A legal hold, say, may have come since they were claimed. The others are withdrawn, each with the reason. What
        may be destroyed is in the ledger when this returns.
        """
        with self.database.write() as connection:
            self.store.require_policy(connection, self.policy)
            if self.ledger is None and self._all_still_due(connection, claimed, now):
                return claimed
            rows = connection.execute(self._still_due, {"now": now, "ids": self.database.ids(o.id for o in claimed)})
            found = {(row["id"], row["attempts"]): row for row in rows.mappings()}
            late = [one for one in claimed if (one.id, one.attempt) not in found]
            report.withdrawn += sum(self._outcomes.withdraw(connection, one, now, self.policy) for one in late)
        cleared = [one for one in claimed if (one.id, one.attempt) in found]
        if self.ledger is not None and cleared:
            self.ledger.append(line_of(one, found[one.id, one.attempt], now) for one in cleared)
        return cleared

    def _all_still_due(self, connection: Connection, claimed: Sequence[Claimed], now: datetime) -> bool:
        """The usual case, without fetching rows: as many tasks as were claimed, at the attempts at which they were."""
        found = connection.execute(self._counted, {"now": now, "ids": self.database.ids(one.id for one in claimed)})
        return tuple(found.one()) == (len(claimed), sum(one.attempt for one in claimed))

    @cached_property
    def _counted(self) -> Any:
        locked = self._still_due.with_only_columns(outbox.c.attempts).subquery("locked")
        return select(func.count(), func.sum(locked.c.attempts))

    @cached_property
    def _still_due(self) -> Any:
        return (
            select(outbox.c.id, outbox.c.attempts, *(accounts.c[name] for name in REMEMBERED))
            .join(accounts, accounts.c.id == outbox.c.account_id)
            .where(self.database.among(outbox.c.id), outbox.c.status == Status.PENDING, self._may_destroy())
            .order_by(accounts.c.id)
            .with_for_update(of=accounts)
        )

    # --- Claims ------------------------------------------------------------------------------

    def _claim(self, now: datetime, report: DeliveryReport) -> tuple[list[Claimed] | None, People]:
        """The oldest tasks that are due, now this worker's, and whom they go to; None when there are none.

        What is no longer true is withdrawn instead.
        """
        with self.database.write() as connection:
            self.store.require_policy(connection, self.policy)
            destroys = report.withheld is None
            found = connection.execute(self._claimable, {"now": now, "size": self._size, "destroys": destroys})
            rows = [Claimed._make((*row[:7], row[7:])) for row in found.all()]
            withdrawn = [row.id for row in rows if row.superseded]
            if withdrawn:
                connection.execute(self._withdraw, {"now": now, "ids": self.database.ids(withdrawn)})
                report.withdrawn += len(withdrawn)
            taken = [row for row in rows if not row.superseded]
            if taken:
                ids = self.database.ids(row.id for row in taken)
                connection.execute(self._take, {"until": now + self.settings.lease, "ids": ids})
            sealed = self.store.sealed_of(connection, {row.account_id for row in taken})
            people = self._addressees.of(connection, taken, sealed, now)
        return (taken if rows else None), people

    @cached_property
    def _withdraw(self) -> Any:
        return (
            update(outbox)
            .where(self.database.among(outbox.c.id))
            .values(status=Status.WITHDRAWN, finished_at=_NOW, last_error="superseded by what happened since")
        )

    @cached_property
    def _take(self) -> Any:
        until = bindparam("until", type_=Instant)
        return (
            update(outbox)
            .where(self.database.among(outbox.c.id))
            .values(attempts=outbox.c.attempts + 1, claimed_until=until)
        )

    @cached_property
    def _claimable(self) -> Any:
        earlier = outbox.alias("earlier")
        waits_for = exists().where(
            earlier.c.account_id == outbox.c.account_id,
            earlier.c.number < outbox.c.number,
            earlier.c.finished_at.is_(None),  # pending; but said so, a planner would search all that is pending
            earlier.c.effect.in_(OPPOSITES),
        )
        superseded = _superseded()
        may_be_tried = and_(
            outbox.c.effect.in_(list(self.handlers)),
            outbox.c.effect.not_in(DESTRUCTIVE) | (bindparam("destroys", type_=Boolean) & self._may_destroy()),
            outbox.c.effect.not_in(OPPOSITES) | ~waits_for,
        )
        told = (outbox.c.id, outbox.c.account_id, outbox.c.number, outbox.c.effect, outbox.c.attempts + 1)
        dates = (outbox.c[name] for name in DATES)
        return (
            # As Claimed has them.
            select(*told, superseded.label("superseded"), outbox.c.receipt, *dates)
            .join(accounts, accounts.c.id == outbox.c.account_id)
            .where(_OPEN, or_(superseded, may_be_tried))
            .order_by(outbox.c.due_at, outbox.c.id)
            .limit(bindparam("size"))
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

    def _give_back(self, claimed: list[Claimed]) -> None:
        """Claims that no handler has seen: as if they had never been made."""
        with self.database.write() as connection:
            connection.execute(
                update(outbox)
                .where(outbox.c.id == bindparam("key"), outbox.c.attempts == bindparam("attempt"))
                .values(attempts=outbox.c.attempts - 1, claimed_until=None),
                [{"key": one.id, "attempt": one.attempt} for one in claimed],
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

    def _settle(self, outcomes: Sequence[Outcome], now: datetime, report: DeliveryReport) -> None:
        """Write all outcomes in one transaction; if one of them can't be written, the others still are."""
        try:
            with self.database.write() as connection:
                self.store.hold_policy(connection)
                # What a handler has done is written whatever policy came into force meanwhile.
                policy = self.store.policy_in_force(connection) or self.policy
                self._outcomes.write(connection, outcomes, now, policy)
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
            elif self._gives_up(outcome):
                report.parked[effect] += 1
            else:
                report.failed[effect] += 1

    def _settled_alone(self, outcome: Outcome, now: datetime, report: DeliveryReport) -> bool:
        try:
            self._settle([outcome], now, report)
        except LifecycleError:
            return False  # its claim lapses, and it is tried again
        return True

    def _gives_up(self, failure: Outcome) -> bool:
        return failure.hopeless or failure.claimed.attempt >= self.settings.attempts

    def _after_failure(self, failure: Outcome, now: datetime) -> dict[str, Any]:
        if self._gives_up(failure):
            return {"status": Status.PARKED, "finished_at": now}
        return {"due_at": now + self.backoff(failure.claimed.attempt)}

    def backoff(self, attempt: int) -> timedelta:
        """How long to wait after the ``attempt``-th failure (from 1): exponential, with jitter."""
        from tenacity import RetryCallState, wait_exponential_jitter

        first = self.settings.first_wait.total_seconds()
        wait = wait_exponential_jitter(multiplier=first, max=self.settings.longest_wait.total_seconds(), jitter=first)
        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = attempt
        return timedelta(seconds=wait(state))

    # --- For people --------------------------------------------------------------------------

    def rows(
        self,
        connection: Connection,
        status: Status | None = None,
        account_id: str | None = None,
        limit: int | None = None,
    ) -> list[Any]:
        """At most ``limit`` outbox rows as mappings, oldest first."""
        columns = [ANSWERS.label(c.name) if c is outbox.c.receipt else c for c in outbox.c]
        query = select(*columns).join_from(outbox, receipts, RECEIPT_OF_TASK, isouter=True)
        query = query.order_by(outbox.c.id).limit(limit)
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
