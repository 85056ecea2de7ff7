"""The brake: requests that destroy are limited over sliding windows, counted in the database for all daemons.

What it holds back is not requested, so the account can still be reactivated. Everything reversible goes on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import Connection, Table, bindparam, func, insert, literal, select

from lifecycle.errors import InvalidInput
from lifecycle.instants import Instant
from lifecycle.invariants import among
from lifecycle.machine import MOVES, TIMERS
from lifecycle.operation_tables import brake_counts, brake_releases
from lifecycle.policy import Policy
from lifecycle.reads import Reads
from lifecycle.rows import Move, timer_of
from lifecycle.safety import Safety, Window
from lifecycle.states import CANCELLED, FINAL, Effect, State, Step
from lifecycle.tables import COLUMNS, accounts
from lifecycle.terms import Term, compile_term

#: Per state: the move that asks for destruction.
REQUESTS: Mapping[State, Move] = {
    state: move for row in TIMERS for move in MOVES[row] if move.step is Step.REQUEST for state in row.sources
}
_NOW = bindparam("now", type_=Instant)
#: Any number, the same for every process: one sweep at a time asks for destruction on PostgreSQL.
_TURN = 7_230_452
#: How many releases the state of the brake shows.
_RELEASES = 10
#: How long the number of all accounts is remembered: it is counted one by one, and changes slowly.
_REMEMBERED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class WindowState:
    """One window now: ``used`` of ``limit``, releases apart; ``opens_at`` is when the oldest request leaves it."""

    name: str
    limit: int
    used: int
    released: int
    opens_at: datetime | None

    @property
    def free(self) -> int:
        """How many more requests the window lets through."""
        return max(0, self.limit + self.released - self.used)


@dataclass(frozen=True, slots=True)
class Release:
    """So many more accounts that somebody let through; ``approved_by`` is the second person, where it took one."""

    at: datetime
    accounts: int
    actor: str
    reason: str
    approved_by: str | None

    def __post_init__(self) -> None:
        if self.accounts < 1:
            raise InvalidInput(f"A release needs a number of accounts from 1 on, not {self.accounts}.")


@dataclass(frozen=True, slots=True)
class BrakeState:
    """What the brake lets through now, how many accounts ``waiting`` are due to be destroyed, by effect, and the latest
    ``releases``.
    """

    windows: tuple[WindowState, ...]
    waiting: Mapping[Effect, int]
    releases: tuple[Release, ...]

    @property
    def free(self) -> int:
        """How many more requests may be made now."""
        return min(window.free for window in self.windows)

    @property
    def tripped(self) -> bool:
        """Whether more is due than is let through."""
        return sum(self.waiting.values()) > self.free

    @property
    def opens_at(self) -> datetime | None:
        """When the brake lets more through by itself."""
        return max((w.opens_at for w in self.windows if not w.free and w.opens_at), default=None)


class Brake:
    """The brake of one database. Its methods work inside the caller's transaction."""

    def __init__(self, reads: Reads, safety: Safety) -> None:
        self.reads = reads
        self.database = reads.database
        self.safety = safety
        self._population: tuple[datetime, int] | None = None

    def has_turn(self, connection: Connection) -> bool:
        """Whether this transaction alone may ask for destruction until it ends; nobody waits for another."""
        if not self.database.is_postgresql:
            return True  # a writer is alone
        return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_TURN))))

    def allowance(self, connection: Connection, now: datetime, wanted: int) -> int:
        """How many of ``wanted`` requests may be made at ``now``."""
        free = wanted
        for window in self.safety.windows:
            balance = self._used(connection, now, window) - self._released(connection, now, window)
            # Counting all accounts takes a while among millions: it is done only when it matters.
            enough = window.accounts - balance >= free
            limit = window.accounts if enough else window.limit(self._count_accounts(connection, now))
            free = min(free, limit - balance)
        return max(0, free)

    def count(self, connection: Connection, now: datetime, effect: Effect, requested: int) -> None:
        """Note that so many accounts were asked to be destroyed."""
        if requested:
            connection.execute(insert(brake_counts).values(at=now, effect=effect, accounts=requested))

    def release(self, connection: Connection, release: Release) -> None:
        """Let so many more requests through; it counts for as long as each window is."""
        connection.execute(insert(brake_releases).values(asdict(release)))

    def state(self, connection: Connection, now: datetime, policy: Policy) -> BrakeState:
        """Where the brake stands, and what waits for it."""
        self._population = None
        population = self._count_accounts(connection, now)
        windows = tuple(
            WindowState(
                window.name,
                window.limit(population),
                self._used(connection, now, window),
                self._released(connection, now, window),
                self._opens_at(connection, now, window),
            )
            for window in self.safety.windows
        )
        waiting = {
            move.owes[0].effect: self.reads.count(connection, _due(move), now, policy) for move in REQUESTS.values()
        }
        latest = select(brake_releases).order_by(brake_releases.c.id.desc()).limit(_RELEASES)
        rows = connection.execute(latest)
        releases = (Release(row.at, row.accounts, row.actor, row.reason, row.approved_by) for row in rows)
        return BrakeState(windows, waiting, tuple(releases))

    def opens_at(self, connection: Connection, now: datetime) -> datetime | None:
        """When one of the requests that fill a window leaves it; None where none does."""
        instants = (self._opens_at(connection, now, window) for window in self.safety.windows)
        return min((at for at in instants if at), default=None)

    def forecast(self, connection: Connection, now: datetime, policy: Policy, days: int) -> list[int]:
        """How many requests that destroy come in each of the coming ``days`` of 24 hours, as far as dates tell today.

        What is due already counts for the first. Deletions and purges are added up, as the brake does; accounts under
        a legal hold are left out.
        """
        total = [0] * days
        ends = [now + timedelta(days=day) for day in range(1, days + 1)]
        for move in REQUESTS.values():
            date = compile_term(timer_of(move.row).deadline, COLUMNS, policy, _NOW)
            waits = compile_term(_coming(move), COLUMNS, policy, _NOW)
            reached = (func.count().filter(date < literal(end, Instant())) for end in ends)
            counts = list(connection.execute(select(*reached).where(waits), {"now": now}).one())
            total = [sum(pair) for pair in zip(total, counts, strict=True)]
        return [total[0], *(later - earlier for earlier, later in pairwise(total))]

    # What lies in the future was counted under a clock that was ahead: it counts, too.

    def _used(self, connection: Connection, now: datetime, window: Window) -> int:
        return _sum(connection, brake_counts, now - window.length)

    def _released(self, connection: Connection, now: datetime, window: Window) -> int:
        return _sum(connection, brake_releases, now - window.length)

    def _opens_at(self, connection: Connection, now: datetime, window: Window) -> datetime | None:
        oldest = select(func.min(brake_counts.c.at)).where(brake_counts.c.at > now - window.length)
        at: datetime | None = connection.scalar(oldest)
        return None if at is None else at + window.length

    def _count_accounts(self, connection: Connection, now: datetime) -> int:
        if self._population is None or not timedelta(0) <= now - self._population[0] < _REMEMBERED:
            number = connection.scalar(select(func.count()).where(accounts.c.state != FINAL)) or 0
            self._population = now, number
        return self._population[1]


def _sum(connection: Connection, counts: Table, since: datetime) -> int:
    return int(connection.scalar(select(func.coalesce(func.sum(counts.c.accounts), 0)).where(counts.c.at > since)) or 0)


def _coming(move: Move) -> Term:
    """Whether an account is on its way to be asked for by this move, and nothing blocks it today."""
    timer = timer_of(move.row)
    before = CANCELLED[: CANCELLED.index(move.row.sources[0]) + 1]
    return among(*before) & ~timer.resting


def _due(move: Move) -> Term:
    """Whether an account would be asked to be destroyed, but for the brake."""
    return among(*move.row.sources) & move.taken
