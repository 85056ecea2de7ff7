"""The outbox: hands every owed effect to its handler, at least once, and carries the answer back.

A claim is a lease: a worker that dies loses it, and another takes the task up. Outcomes of a claim
that was lost in the meantime are fenced off by the number of the attempt, but a receipt always counts,
since what was destroyed is destroyed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, exists, false, func, or_, select, update

from lifecycle.errors import InvalidInput, LifecycleError
from lifecycle.instants import Instant
from lifecycle.outcomes import CONFIRMS, DATES, REMINDS, Claimed, Outcome, Outcomes
from lifecycle.policy import Policy
from lifecycle.rows import timer_of
from lifecycle.states import DESTRUCTIVE, Effect
from lifecycle.store import Store
from lifecycle.tables import COLUMNS, Status, accounts, outbox
from lifecycle.task import SMALLEST, DeliverySettings, Handler
from lifecycle.terms import compile_term
from lifecycle.terms import now as now_term

#: Effects that undo each other: the latest of an account counts, and one waits for the one before it.
OPPOSITES = (Effect.STOP_BILLING, Effect.RESUME_BILLING)


_SECOND = timedelta(seconds=1)


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


_NOW = bindparam("now", type_=Instant)
#: Due, and not claimed by anybody who still holds the claim.
_OPEN = and_(
    outbox.c.status == Status.PENDING,
    outbox.c.due_at <= _NOW,
    or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= _NOW),
)


def _superseded() -> Any:
    """What is no longer true: reminders of a clock that stopped, the confirmation of a cancellation that was
    taken back, and billing orders that a later one reversed.
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
        (outbox.c.effect.in_(list(REMINDS)), stopped),
        (outbox.c.effect.in_(OPPOSITES), reversed_since),
        else_=false(),
    )


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
        self._size = min(SMALLEST, settings.batch)
        self._outcomes = Outcomes(store, self._after_failure)

    def deliver(self, clock: Callable[[], datetime], stop: Callable[[], bool] = lambda: False) -> DeliveryReport:
        """Deliver all that is due, until nothing is left or ``stop`` says so (read between tasks)."""
        report = DeliveryReport()
        while not stop():
            begun = clock()
            claimed, owners = self._claim(begun, report)
            if claimed is None:
                with self.database.read() as connection:
                    report.next_due = self.next_due(connection, clock())
                return report
            if claimed:
                self._work(claimed, owners, clock, stop, report)
            self._resize(clock() - begun)
        report.finished = False
        return report

    def _resize(self, took: timedelta) -> None:
        """Claim more next time while a claim takes less than a second, and less when it takes much more."""
        if took < _SECOND:
            self._size = min(self._size * 4, self.settings.batch)
        elif took > 4 * _SECOND:
            self._size = max(self._size // 4, min(SMALLEST, self.settings.batch))

    def _work(
        self,
        claimed: list[Claimed],
        owners: Mapping[str, Sequence[str]],
        clock: Callable[[], datetime],
        stop: Callable[[], bool],
        report: DeliveryReport,
    ) -> None:
        """Hand the tasks over; what the lease or the stop leaves undone is given back untouched."""
        expires = clock() + self.settings.lease / 2
        outcomes: list[Outcome] = []
        for position, one in enumerate(claimed):
            if stop() or clock() > expires:
                self._give_back(claimed[position:])
                break
            outcomes.append(self._attempt(one, owners.get(one.account_id, ())))
        self._settle(outcomes, clock(), report)

    def _attempt(self, claimed: Claimed, owners: Sequence[str]) -> Outcome:
        try:
            receipt = self.handlers[claimed.effect](claimed.task(owners))
        except Exception as error:  # whatever a handler raises means: try again
            return Outcome(claimed, error=_storable(f"{type(error).__name__}: {error}"[:2000]))
        if receipt is not None and not isinstance(receipt, str):
            return Outcome(claimed, error=f"The handler returned {ascii(receipt)[:2000]}; a receipt is text, or None.")
        if claimed.effect in DESTRUCTIVE and not (receipt and receipt.strip()):
            return Outcome(claimed, error="The handler returned no receipt; destruction is confirmed by one only.")
        return Outcome(claimed, receipt=receipt and _storable(receipt))

    # --- Claims ------------------------------------------------------------------------------

    def _claim(self, now: datetime, report: DeliveryReport) -> tuple[list[Claimed] | None, Mapping[str, Sequence[str]]]:
        """The oldest tasks that are due, now this worker's, and their accounts' owners; None when there are none.

        What is no longer true is withdrawn instead.
        """
        with self.database.write() as connection:
            self.store.require_policy(connection, self.policy)
            found = connection.execute(self._claimable, {"now": now, "size": self._size})
            rows = [Claimed._make((*row[:7], row[7:])) for row in found]
            withdrawn = [row.id for row in rows if row.superseded]
            if withdrawn:
                connection.execute(self._withdraw, {"now": now, "ids": self.database.ids(withdrawn)})
                report.withdrawn += len(withdrawn)
            taken = [row for row in rows if not row.superseded]
            if taken:
                ids = self.database.ids(row.id for row in taken)
                connection.execute(self._take, {"until": now + self.settings.lease, "ids": ids})
            owners = self.store.owners_of(connection, {row.account_id for row in taken})
        return (taken if rows else None), owners

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
            outbox.c.effect.not_in(DESTRUCTIVE) | self._may_destroy(),
            outbox.c.effect.not_in(OPPOSITES) | ~waits_for,
        )
        told = (outbox.c.id, outbox.c.account_id, outbox.c.number, outbox.c.effect, outbox.c.attempts + 1)
        dates = (outbox.c[name] for name in DATES)
        return (
            select(*told, superseded.label("superseded"), accounts.c.company, *dates)  # as Claimed has them
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

    def _settle(self, outcomes: list[Outcome], now: datetime, report: DeliveryReport) -> None:
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
            elif outcome.claimed.attempt >= self.settings.attempts:
                report.parked[effect] += 1
            else:
                report.failed[effect] += 1

    def _settled_alone(self, outcome: Outcome, now: datetime, report: DeliveryReport) -> bool:
        try:
            self._settle([outcome], now, report)
        except LifecycleError:
            return False  # its claim lapses, and it is tried again
        return True

    def _after_failure(self, attempt: int, now: datetime) -> dict[str, Any]:
        if attempt >= self.settings.attempts:
            return {"status": Status.PARKED, "finished_at": now}
        return {"due_at": now + self.backoff(attempt)}

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


def _storable(text: str) -> str:
    """Text from outside without what a database can't keep: a NUL, or half of a surrogate pair.

    One such receipt must not hold up the thousands that are written together with it.
    """
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
