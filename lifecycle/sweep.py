"""The sweep: fires every due timer, thousands of accounts at a time, from the definition's own terms.

A pass goes through the timed states in the order of a life. Per state it picks a batch of due accounts
by the index on (state, due_at), sorted into moves by a CASE over the exact conditions, and has them
moved (:mod:`lifecycle.moves`). What is picked and fits no move is re-armed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Select, bindparam, case, literal, select, update

from lifecycle.brake import REQUESTS, Brake
from lifecycle.deadlines import VOID_NOTICE
from lifecycle.machine import DUE, MOVES, TIMERS
from lifecycle.moves import NOW, REARM, Mover, Run
from lifecycle.policy import CompanyCancellation, Policy
from lifecycle.rows import Move, Transition, timer_of
from lifecycle.safety import Safety
from lifecycle.states import State, Step
from lifecycle.store import Store
from lifecycle.tables import accounts

BATCH = 10_000
#: Why destruction that is due was not requested, where it was the brake.
BRAKED = "The brake lets no more destruction through for now; see `lifecycle brake status`."
#: The states in which something happens by itself, in the order of a life.
TIMED_STATES: tuple[State, ...] = tuple(dict.fromkeys(state for row in TIMERS for state in row.sources))


#: The states whose notices are voided where :func:`voids_notices` says so, each with the row that they were given for.
VOIDED: Mapping[State, Transition] = {state: row for row in TIMERS if timer_of(row).approvable for state in row.sources}


def voids_notices(old: Policy, new: Policy) -> bool:
    """Decision 4: when cancellations turn automatic, every notice of the company starts anew."""
    automatic = CompanyCancellation.AUTOMATIC
    return old.company_cancellation is not automatic is new.company_cancellation


@dataclass
class SweepReport:
    """What a sweep did: ``moves`` counts accounts by (event, step), ``rearmed`` those that only got a new date.

    ``next_due`` is the next instant at which a sweep has something to do; ``finished`` is False when it
    was stopped before everything due was done. ``withheld`` says why destruction that is due was not requested.
    """

    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    rearmed: int = 0
    next_due: datetime | None = None
    finished: bool = True
    withheld: str | None = None

    @property
    def moved(self) -> int:
        """How many history entries were written."""
        return sum(self.moves.values())


class Sweeper:
    """Sweeps one database under one policy; statements are built once and reused."""

    def __init__(self, store: Store, policy: Policy, batch: int = BATCH, safety: Safety | None = None) -> None:
        self.store = store
        self.database = store.database
        self.policy = policy
        self.batch = batch
        self.brake = Brake(store, safety or Safety())
        self._mover = Mover(self.database, policy)

    def sweep(
        self,
        now: datetime,
        *,
        states: Iterable[State] = TIMED_STATES,
        stop: Callable[[], bool] = lambda: False,
        on_batch: Callable[[State, Mapping[tuple[str, str], int]], None] = lambda state, moves: None,
        barred: str | None = None,
    ) -> SweepReport:
        """Fire all that is due at ``now``, follow-ups included, until nothing is left or ``stop`` says so.

        Destruction is requested as far as the brake allows it, and not at all where ``barred`` says why not.
        """
        report = SweepReport()
        wanted = tuple(states)
        while True:
            with self.database.read() as connection:
                due = self.store.next_due(connection)
            ready = [state for state in TIMED_STATES if state in due and due[state] <= now]
            # A move may make the next state due at once, so every later state is looked at again.
            chosen = [state for state in ready if state in wanted]
            if not chosen:
                return self._ended(report, due, now)
            progress = 0
            for state in chosen:
                picked = self.batch
                while picked == self.batch:
                    if stop():
                        report.finished = False
                        return report
                    picked = self._one_batch(state, now, report, on_batch, barred)
                    progress += picked
            if not progress:  # all that is due is being moved by somebody else, or withheld
                return self._ended(report, due, now)

    def _ended(self, report: SweepReport, due: Mapping[State, datetime], now: datetime) -> SweepReport:
        instants = [at for state, at in due.items() if at > now or state not in REQUESTS or not report.withheld]
        if report.withheld == BRAKED:
            with self.database.read() as connection:
                opens_at = self.brake.opens_at(connection, now)
            instants += [] if opens_at is None else [opens_at]
        report.next_due = min(instants, default=None)
        return report

    def _one_batch(self, state: State, now: datetime, report: SweepReport, on_batch: Any, barred: str | None) -> int:
        with self.database.write() as connection:
            self.store.require_policy(connection, self.policy)
            if state in REQUESTS:
                taken = self._held_back(connection, state, now, report, barred)
            else:
                taken = self._runs[state](connection, {"now": now, "n": self.batch})
        moves = self._moves[state]
        counts = Counter(
            {(str(moves[n].row.event), str(moves[n].step)): count for n, count in taken.items() if n != REARM}
        )
        report.moves.update(counts)
        report.rearmed += taken.get(REARM, 0)
        on_batch(state, counts)
        return sum(taken.values())

    def _held_back(
        self, connection: Connection, state: State, now: datetime, report: SweepReport, barred: str | None
    ) -> Mapping[int, int]:
        """A batch of a state in which destruction is requested: as much of it as is allowed now, and all the rest."""
        if not self.brake.has_turn(connection):
            return {}
        allowed = 0 if barred else self.brake.allowance(connection, now, self.batch)
        request = self._moves[state].index(REQUESTS[state])
        if allowed == self.batch:
            taken = self._runs[state](connection, {"now": now, "n": self.batch})
        else:
            requests, others = self._apart[state]
            taken = {
                **others(connection, {"now": now, "n": self.batch}),
                **requests(connection, {"now": now, "n": allowed}),
            }
            if connection.execute(self._left[state], {"now": now, "n": 1}).first() is not None:
                report.withheld = barred or BRAKED
        self.brake.count(connection, now, REQUESTS[state].owes[0].effect, taken.get(request, 0))
        return taken

    @cached_property
    def _moves(self) -> dict[State, list[Move]]:
        """What may happen in each state, in the order of precedence."""
        return {state: [m for row in TIMERS if state in row.sources for m in MOVES[row]] for state in TIMED_STATES}

    @cached_property
    def _runs(self) -> dict[State, Run]:
        """Per state: picks the due accounts, each with the number of its move, and moves them."""
        return {state: self._mover.run(state, moves, self._pick(state)) for state, moves in self._moves.items()}

    @cached_property
    def _apart(self) -> dict[State, tuple[Run, Run]]:
        """Per state in which destruction is requested: what does only that, and what does everything else."""
        runs = {}
        for state, request in REQUESTS.items():
            number = self._moves[state].index(request)
            picks = self._pick(state, only=number), self._pick(state, without=number)
            runs[state] = tuple(self._mover.run(state, self._moves[state], pick) for pick in picks)
        return runs  # type: ignore[return-value]

    @cached_property
    def _left(self) -> dict[State, Select[Any]]:
        """Per state in which destruction is requested: picks what waits for that alone."""
        return {state: self._pick(state, only=self._moves[state].index(move)) for state, move in REQUESTS.items()}

    def _pick(self, state: State, only: int | None = None, without: int | None = None) -> Select[Any]:
        conditions = [(self._mover.sql(move.taken), literal(n)) for n, move in enumerate(self._moves[state])]
        sorted_into = case(*conditions, else_=literal(REARM))
        pick = (
            select(self._mover.key, sorted_into.label("move"))
            .where(accounts.c.state == state, accounts.c.due_at <= NOW)
            .order_by(accounts.c.due_at)
            .limit(bindparam("n"))
            .with_for_update(skip_locked=True)
        )
        if only is not None:
            return pick.where(sorted_into == only)
        return pick if without is None else pick.where(sorted_into != without)

    # --- Every account at once ----------------------------------------------------------------

    def adopt(self, connection: Connection, old: Policy | None, now: datetime, **by: str | None) -> None:
        """Make this sweeper's policy the database's: every account gets the date that it now has.

        ``by`` says who wanted it, and why; see :meth:`lifecycle.store.Store.record_policy`.
        """
        self.store.record_policy(connection, self.policy, now, **by)
        if old is not None and voids_notices(old, self.policy):
            self._void_company_notices(connection, now)
        for state in TIMED_STATES:
            rearmed = update(accounts).where(accounts.c.state == state).values(due_at=self._mover.sql(DUE[state]))
            connection.execute(rearmed, {"now": now})

    def _void_company_notices(self, connection: Connection, now: datetime) -> None:
        for state, row in VOIDED.items():
            move = Move(row=row, step=Step.VOID, sets=VOID_NOTICE)
            noticed = select(self._mover.key, literal(0).label("move")).where(
                accounts.c.state == state, accounts.c.reminded_at.is_not(None)
            )
            self._mover.run(state, [move], noticed)(connection, {"now": now})
