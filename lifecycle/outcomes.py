"""What handlers answered, and what it means for the accounts: a notice counts from now, a receipt fires its event.

Successes are written together, as a sweep writes its moves; what fails, and the rare account of which
one batch carries back two things, is written one by one.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, literal, select, update

from lifecycle.actor import SYSTEM, Request
from lifecycle.errors import Refused
from lifecycle.machine import TIMERS, decide, give_notice, withdraw
from lifecycle.moves import Mover, Run
from lifecycle.policy import Policy
from lifecycle.reads import Snapshot
from lifecycle.rows import Move, Transition, timer_of
from lifecycle.states import Effect, State
from lifecycle.store import PROMISES, Entry, Store
from lifecycle.tables import Status, accounts, outbox, receipts
from lifecycle.task import Task, apart
from lifecycle.terms import holds

#: The reason in the history where a notice counts although it never arrived.
GIVEN_UP = "the notice was given up as undeliverable"
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


def reminded(effect: Effect, state: State) -> Transition:
    """The row whose timer a delivered reminder counts for, in an account that is in ``state`` by now."""
    rows = REMINDS[effect]
    return next((row for row in rows if state in row.sources), rows[0])


#: What a delivery moves, by the state that the account is in.
_CARRIED: Mapping[tuple[Effect, State], Move] = {
    **{(effect, state): Move.of_notice(reminded(effect, state)) for effect in REMINDS for state in State},
    **{(effect, state): Move.of_receipt(row) for effect, row in CONFIRMS.items() for state in row.sources},
}
#: What a task says of time.
DATES = ("promised", *PROMISES)
#: Effects whose delivery moves an account.
_MEANINGFUL = frozenset(effect for effect, _ in _CARRIED)


_NONE: Mapping[str, str] = {}


class Claimed(NamedTuple):
    """A row of the outbox in the hands of this worker; ``number`` is the history entry that owes it.

    ``superseded``: it is no longer true, and to be withdrawn. ``receipt`` is what some of its handlers have confirmed
    already, ``dates`` are those of :data:`DATES`. Thousands are held at a time, so this is kept small; the task is made
    when it is handed over.
    """

    id: int
    account_id: str
    number: int
    effect: Effect
    attempt: int
    superseded: bool
    receipt: str | None
    dates: tuple[datetime | None, ...]

    def task(self, people: Mapping[str, Any]) -> Task:
        """What the handler is given; ``people`` is what it is told of the account's people."""
        said = {name: _iso(at) for name, at in zip(DATES, self.dates, strict=True) if at is not None}
        return Task(
            id=self.id,
            account_id=self.account_id,
            effect=str(self.effect),
            payload={**people, **said},
            attempt=self.attempt,
            idempotency_key=f"{self.account_id}:{self.number}:{self.effect}",
            receipts=_NONE if self.receipt is None else (apart(self.receipt) or (_NONE,))[0],
        )


class Outcome(NamedTuple):
    """What became of it: a receipt or nothing, or else an error, which is ``hopeless`` if no attempt can mend it.

    With an error, ``receipt`` is what some of its handlers have confirmed all the same.
    """

    claimed: Claimed
    receipt: str | None = None
    error: str | None = None
    hopeless: bool = False


class Outcomes:
    """Writes outcomes to one store; ``after_failure`` gives what a failed outcome sets in its outbox row.

    Accounts are locked before outbox rows, and in the order of their ids, as everybody does.
    """

    def __init__(self, store: Store, after_failure: Callable[[Outcome, datetime], Mapping[str, Any]]) -> None:
        self.store = store
        self.database = store.database
        self._after_failure = after_failure
        self._mover: Mover | None = None
        self._runs: dict[tuple[Effect, State], Run] = {}

    def write(self, connection: Connection, outcomes: Sequence[Outcome], now: datetime, policy: Policy) -> None:
        """Write them all, in the caller's transaction."""
        successes = [outcome for outcome in outcomes if outcome.error is None]
        if successes:
            self._write_together(connection, successes, now, policy)
        for outcome in outcomes:
            if outcome.error is not None:
                self._write_failure(connection, outcome, now, policy)

    def _write_together(
        self, connection: Connection, successes: Sequence[Outcome], now: datetime, policy: Policy
    ) -> None:
        by_id = {outcome.claimed.id: outcome for outcome in successes}
        states = set(connection.scalars(self._locked_states, {"ids": self.database.ids(by_id)}))
        # A receipt counts whoever holds the claim by now: what was destroyed is destroyed.
        for counted_before in connection.scalars(self._delivered_before, {"ids": self.database.ids(by_id)}):
            del by_id[counted_before]
        self._mark_delivered(connection, {id: outcome.receipt for id, outcome in by_id.items()}, now)
        meaningful = [outcome for outcome in by_id.values() if outcome.claimed.effect in _MEANINGFUL]
        per_account = Counter(outcome.claimed.account_id for outcome in meaningful)
        together: dict[Effect, list[int]] = {}
        for outcome in meaningful:
            if per_account[outcome.claimed.account_id] == 1:
                together.setdefault(outcome.claimed.effect, []).append(outcome.claimed.id)
            else:
                self._carry_back(connection, outcome, now, policy)
        for effect, ids in together.items():
            for meaning in _CARRIED.keys() & {(effect, state) for state in states}:
                self._run(meaning, policy)(connection, {"now": now, "ids": self.database.ids(ids)})

    @cached_property
    def _locked_states(self) -> Any:
        """Locks the accounts of the tasks ``ids``, and gives the states that these are in."""
        concerned = select(outbox.c.account_id).where(self.database.among(outbox.c.id))
        locked = (
            select(accounts.c.id, accounts.c.state)
            .where(accounts.c.id.in_(concerned))
            .order_by(accounts.c.id)
            .with_for_update(of=accounts)
            .subquery("locked")
        )
        return select(locked.c.state).distinct()

    @cached_property
    def _delivered_before(self) -> Any:
        return select(outbox.c.id).where(self.database.among(outbox.c.id), outbox.c.status == Status.DELIVERED)

    def _mark_delivered(self, connection: Connection, answers: Mapping[int, str | None], now: datetime) -> None:
        """Note that the tasks were delivered, and keep the receipts among the handlers' ``answers``."""
        given = self.database.given(answers, outbox.c.id.type, receipts.c.text.type)
        # By the key alone: the planner knows how many there are, but not that all of them are still open.
        marked = update(outbox).values(
            status=Status.DELIVERED, receipt=None, finished_at=now, last_error=None, claimed_until=None
        )
        task = (outbox.c.account_id, outbox.c.number, outbox.c.effect)
        done: Any
        if self.database.is_postgresql:  # in one journey to the server
            done = marked.where(outbox.c.id == given.c.key).returning(*task, given.c.value).cte("delivered")
        else:
            connection.execute(marked.where(self.database.among(outbox.c.id)), {"ids": self.database.ids(answers)})
            if not any(answer is not None for answer in answers.values()):
                return
            done = select(*task, given.c.value).join(given, outbox.c.id == given.c.key).subquery("delivered")
        kept = select(*tuple(done.c)[:3], literal(now, receipts.c.at.type), done.c.value)
        names = ["account_id", "number", "effect", "at", "text"]
        connection.execute(insert(receipts).from_select(names, kept.where(done.c.value.is_not(None))))

    def _run(self, meaning: tuple[Effect, State], policy: Policy) -> Run:
        """What moves the accounts of the tasks ``ids``, all of one effect, where they are in that state."""
        if self._mover is None or self._mover.policy != policy:
            self._mover, self._runs = Mover(self.database, policy), {}
        if meaning not in self._runs:
            move, (effect, state) = _CARRIED[meaning], meaning
            pick = (
                select(self._mover.key, literal(0).label("move"))
                .join(outbox, outbox.c.account_id == accounts.c.id)
                .where(self.database.among(outbox.c.id), accounts.c.state == state, self._mover.sql(move.condition))
                .with_for_update(of=accounts)
            )
            if effect in REMINDS:
                pick = pick.where(accounts.c.reminder == outbox.c.number)
            self._runs[meaning] = self._mover.run(state, [move], pick)
        return self._runs[meaning]

    def _write_failure(self, connection: Connection, outcome: Outcome, now: datetime, policy: Policy) -> None:
        """Note the error, unless the claim was lost; a reminder that is given up starts to count all the same."""
        task = outcome.claimed
        self.store.load(connection, task.account_id, lock=True)
        values = {"last_error": outcome.error, "claimed_until": None, **self._after_failure(outcome, now)}
        if outcome.receipt is not None:
            values["receipt"] = outcome.receipt
        noted = connection.execute(
            update(outbox)
            .where(outbox.c.id == task.id, outbox.c.status == Status.PENDING, outbox.c.attempts == task.attempt)
            .values(values)
        )
        if noted.rowcount == 1 and "status" in values:
            self._carry_back(connection, outcome, now, policy)

    def withdraw(self, connection: Connection, claimed: Claimed, now: datetime, policy: Policy) -> bool:
        """Take a destructive task back from its handler at the last moment; whether it is withdrawn for good.

        What a handler has seen before may be half done: it waits until nothing blocks it, with its request in force.
        """
        snapshot = self.store.load(connection, claimed.account_id, lock=True)
        row = CONFIRMS[claimed.effect]
        why = _obstacle(row, snapshot, now, policy)
        requested = why in _PASSING
        values: dict[str, Any] = {"status": Status.WITHDRAWN, "last_error": why, "finished_at": now}
        if requested and claimed.attempt > 1:
            values = {"attempts": outbox.c.attempts - 1, "last_error": why}
        taken_back = connection.execute(
            update(outbox)
            .where(outbox.c.id == claimed.id, outbox.c.status == Status.PENDING, outbox.c.attempts == claimed.attempt)
            .values(claimed_until=None, **values)
        )
        if taken_back.rowcount != 1 or "status" not in values:
            return False
        if requested:
            self.store.write(connection, snapshot, withdraw(snapshot, row, now, policy), Entry(now, policy.version))
        return True

    def _carry_back(self, connection: Connection, outcome: Outcome, now: datetime, policy: Policy) -> None:
        """What one delivery means for its account, if anything: the same as for many, decided as a request is."""
        snapshot = self.store.load(connection, outcome.claimed.account_id, lock=True)
        effect = outcome.claimed.effect
        if not _carries(outcome, snapshot):
            return
        if effect in REMINDS:
            decision = give_notice(snapshot, reminded(effect, snapshot.state), now, policy)
        else:
            try:
                decision = decide(
                    snapshot, CONFIRMS[effect].event, Request(SYSTEM, receipt=outcome.receipt), now, policy
                )
            except Refused:
                return  # the receipt is kept; the account has gone where it no longer matters
        reason = None if outcome.error is None else GIVEN_UP
        self.store.write(connection, snapshot, decision, Entry(now, policy.version, reason=reason))


_GONE, _TAKEN_BACK = "the account has left the state of its request", "the request was taken back"
_HELD, _EARLY = "a legal hold is in force", "the date is not reached"
#: Obstacles to an account whose request stands: without them it would be carried out.
_PASSING = frozenset((_HELD, _EARLY))


def _obstacle(row: Transition, snapshot: Snapshot, now: datetime, policy: Policy) -> str:
    """Why an account that was to be destroyed is not, in the words of an outbox row."""
    timer = timer_of(row)
    sources = {"account": snapshot, "now": now, "policy": policy}
    if snapshot.state not in row.sources:
        return _GONE
    if timer.confirmation is None or getattr(snapshot, timer.confirmation.mark) is None:
        return _TAKEN_BACK
    return _HELD if holds(timer.blocked, sources) else _EARLY


@lru_cache(maxsize=10_000)
def _iso(at: datetime) -> str:
    """Many tasks of one claim say the same dates."""
    return at.isoformat()


def _carries(outcome: Outcome, account: Snapshot) -> bool:
    """Whether the outcome means something for the account: the reminder is its present one, or a receipt is due."""
    claimed = outcome.claimed
    if claimed.effect in REMINDS:
        return bool(account.reminder == claimed.number)
    return outcome.error is None and (claimed.effect, account.state) in _CARRIED
