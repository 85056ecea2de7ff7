"""The sweep: fires every due timer, thousands of accounts at a time, from the definition's own terms.

A pass goes through the timed states in the order of a life. Per state it picks a batch of due accounts
by the index on (state, due_at), sorts them into moves by a CASE over the exact conditions, and applies
each move with one UPDATE and one INSERT per table. What is picked and fits no move is re-armed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, bindparam, case, insert, literal, select, type_coerce, update

from lifecycle.actor import SYSTEM
from lifecycle.deadlines import VOID_NOTICE
from lifecycle.instants import Instant
from lifecycle.machine import DUE, MOVES, TIMERS
from lifecycle.policy import CompanyCancellation, Policy
from lifecycle.rows import Move, timer_of
from lifecycle.states import State, Step
from lifecycle.store import PROMISES, Store
from lifecycle.tables import COLUMNS, Status, accounts, history, outbox
from lifecycle.terms import Term, compile_term

BATCH = 10_000
#: The states in which something happens by itself, in the order of a life.
TIMED_STATES: tuple[State, ...] = tuple(dict.fromkeys(state for row in TIMERS for state in row.sources))
_NOW = bindparam("now", type_=Instant)
_REARM = -1


@dataclass
class SweepReport:
    """What a sweep did: ``moves`` counts accounts by (event, step), ``rearmed`` those that only got a new date.

    ``next_due`` is the next instant at which a sweep has something to do; ``finished`` is False when it
    was stopped before everything due was done.
    """

    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    rearmed: int = 0
    next_due: datetime | None = None
    finished: bool = True

    @property
    def moved(self) -> int:
        """How many history entries were written."""
        return sum(self.moves.values())


@dataclass(frozen=True)
class _Statements:
    """The SQL of one move out of one state."""

    update: Any
    inserts: tuple[Any, ...]


class Sweeper:
    """Sweeps one database under one policy; statements are built once and reused."""

    def __init__(self, store: Store, policy: Policy, batch: int = BATCH) -> None:
        self.store = store
        self.database = store.database
        self.policy = policy
        self.batch = batch

    def sweep(
        self,
        now: datetime,
        *,
        states: Iterable[State] = TIMED_STATES,
        stop: Callable[[], bool] = lambda: False,
        on_batch: Callable[[State, Mapping[tuple[str, str], int]], None] = lambda state, moves: None,
    ) -> SweepReport:
        """Fire all that is due at ``now``, follow-ups included, until nothing is left or ``stop`` says so."""
        report = SweepReport()
        wanted = tuple(states)
        while True:
            with self.database.read() as connection:
                due = self.store.next_due(connection)
            ready = [state for state in TIMED_STATES if state in due and due[state] <= now]
            # A move may make the next state due at once, so every later state is looked at again.
            chosen = [state for state in ready if state in wanted]
            if not chosen:
                report.next_due = min(due.values(), default=None)
                return report
            progress = 0
            for state in chosen:
                picked = self.batch
                while picked == self.batch:
                    if stop():
                        report.finished = False
                        return report
                    picked = self._one_batch(state, now, report, on_batch)
                    progress += picked
            if not progress:  # all that is due is being moved by somebody else
                report.next_due = min(due.values(), default=None)
                return report

    def _one_batch(self, state: State, now: datetime, report: SweepReport, on_batch: Any) -> int:
        counts: Counter[tuple[str, str]] = Counter()
        with self.database.write() as connection:
            self.store.require_policy(connection, self.policy)
            picked: dict[int, list[str]] = {}
            for account_id, kind in connection.execute(self._picks[state], {"now": now, "n": self.batch}):
                picked.setdefault(kind, []).append(account_id)
            for kind, ids in picked.items():
                if kind == _REARM:
                    self._rearm(connection, state, ids, now)
                else:
                    move = self._moves[state][kind]
                    self.apply(connection, move, state, ids, now)
                    counts[str(move.row.event), str(move.step)] += len(ids)
        report.moves.update(counts)
        report.rearmed += len(picked.get(_REARM, ()))
        on_batch(state, counts)
        return sum(map(len, picked.values()))

    def apply(self, connection: Connection, move: Move, state: State, ids: list[str], now: datetime) -> None:
        """Take a move with many accounts of one state: state, history and outbox from the same set."""
        key = (move.row, move.step, state)
        if key not in self._built:
            self._built[key] = self._statements(move, state)
        parameters = {"ids": self.database.ids(sorted(ids)), "now": now}
        statements = self._built[key]
        connection.execute(statements.update, parameters)
        for statement in statements.inserts:
            connection.execute(statement, parameters)

    def _rearm(self, connection: Connection, state: State, ids: list[str], now: datetime) -> None:
        connection.execute(self._rearms[state], {"ids": self.database.ids(sorted(ids)), "now": now})

    # --- Statements, built once ---------------------------------------------------------------

    @cached_property
    def _built(self) -> dict[Any, _Statements]:
        return {}

    @cached_property
    def _moves(self) -> dict[State, list[Move]]:
        """What may happen in each state, in the order of precedence."""
        return {state: [m for row in TIMERS if state in row.sources for m in MOVES[row]] for state in TIMED_STATES}

    @cached_property
    def _picks(self) -> dict[State, Any]:
        """Per state: the due accounts, each with the number of its move."""
        picks = {}
        for state in TIMED_STATES:
            conditions = []
            for number, move in enumerate(self._moves[state]):
                bracket = move.row.bracket
                condition = move.condition if bracket is None else bracket.term & move.condition
                conditions.append((self._sql(condition), literal(number)))
            picks[state] = (
                select(accounts.c.id, case(*conditions, else_=literal(_REARM)))
                .where(accounts.c.state == state, accounts.c.due_at <= _NOW)
                .order_by(accounts.c.due_at)
                .limit(bindparam("n"))
                .with_for_update(skip_locked=True)
            )
        return picks

    @cached_property
    def _rearms(self) -> dict[State, Any]:
        return {
            state: update(accounts).where(self.database.among(accounts.c.id)).values(due_at=self._sql(DUE[state]))
            for state in State
        }

    def _sql(self, term: Term, columns: Mapping[str, Any] = COLUMNS) -> Any:
        return compile_term(term, columns, self.policy, _NOW)

    def _statements(self, move: Move, state: State) -> _Statements:
        dest = move.row.enters(state) if move.moves else state
        changed = dict(COLUMNS)  # each assignment sees the earlier ones
        values: dict[str, Any] = {}
        for name, term in move.sets:
            values[name] = changed[name] = type_coerce(self._sql(term, changed), accounts.c[name].type)  # type: ignore[arg-type]
        changed |= {"state": literal(str(dest)), "version": accounts.c.version + 1}
        values |= {"state": dest, "version": changed["version"], "due_at": self._sql(DUE[dest], changed)}
        among = self.database.among(accounts.c.id)
        entry = {
            "account_id": accounts.c.id,
            "number": accounts.c.version,
            "event": literal(str(move.row.event)),
            "step": literal(str(move.step)),
            "source": literal(str(state)),
            "dest": literal(str(dest)),
            "at": _NOW,
            "actor": literal(f"{SYSTEM.role}:{SYSTEM.id}"),
            "policy_version": literal(self.policy.version),
        }
        inserts = [insert(history).from_select(list(entry), select(*entry.values()).where(among))]
        for owed in move.owes:
            owes = {
                "account_id": accounts.c.id,
                "number": accounts.c.version,
                "effect": literal(str(owed.effect)),
                "status": literal(str(Status.PENDING)),
                "attempts": literal(0),
                "created_at": _NOW,
                "due_at": _NOW,
                **{name: accounts.c[name] for name in PROMISES},
            }
            if move.promised is not None:
                owes["promised"] = self._sql(move.promised)
            chosen = select(*owes.values()).where(among)
            if owed.condition is not None:
                chosen = chosen.where(self._sql(owed.condition))
            inserts.append(insert(outbox).from_select(list(owes), chosen, include_defaults=False))
        return _Statements(update(accounts).where(among).values(values), tuple(inserts))

    # --- Every account at once ----------------------------------------------------------------

    def adopt(self, connection: Connection, old: Policy | None, now: datetime) -> None:
        """Make this sweeper's policy the database's: every account gets the date that it now has.

        Decision 4: when cancellations turn automatic, every notice of the company starts anew.
        """
        self.store.record_policy(connection, self.policy, now)
        automatic = CompanyCancellation.AUTOMATIC
        if old is not None and old.company_cancellation is not automatic is self.policy.company_cancellation:
            self._void_company_notices(connection, now)
        for state in TIMED_STATES:
            connection.execute(
                update(accounts).where(accounts.c.state == state).values(due_at=self._sql(DUE[state])), {"now": now}
            )

    def _void_company_notices(self, connection: Connection, now: datetime) -> None:
        for row in TIMERS:
            if timer_of(row).approvable:
                move = Move(row=row, step=Step.VOID, sets=VOID_NOTICE)
                for state in row.sources:
                    noticed = [accounts.c.state == state, accounts.c.reminded_at.is_not(None)]
                    ids = list(connection.scalars(select(accounts.c.id).where(*noticed)))
                    self.apply(connection, move, state, ids, now)
