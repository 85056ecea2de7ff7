"""The chain of seals in the database: adds a link for whatever is new in the record, and tells how far it reaches.

Nobody waits for it. It never forks, however many seal at once, since a number is there once; and it passes over no row
that is committed late. SQLite has one writer at a time. On PostgreSQL an id is drawn before its row is committed: so
rows are sealed up to an id that was visible once, after every transaction that had begun to write then has ended. Who
draws an id has a transaction id by then, for it has locked its account, and one drawn for that moment is greater.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, sleep
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, func, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

from lifecycle import append_only
from lifecycle.database import Database
from lifecycle.instants import EPOCH, MICROSECOND, Instant, micros
from lifecycle.operation_tables import seals
from lifecycle.seal import GENESIS, MOST, SEALED, Head, Seal, Stream, digests
from lifecycle.statements import Statement
from lifecycle.tables import history, receipts

TABLES = {Stream.HISTORY: history, Stream.RECEIPT: receipts}
#: Before every id.
LOWEST = -(2**63)
#: Seals that are read at a time.
_AT_ONCE = 20
#: Seconds that one run waits for open transactions, at most, and between two looks.
PATIENCE, _PAUSE = 10.0, 0.02

Row = tuple[Any, ...]
# Not the snapshot's xmax: that is one more than the last transaction that has ended, and greater ones may be open.
_DRAWN: Any = literal_column("pg_current_xact_id()::text::bigint")
_XMIN: Any = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")


def _in_micros(columns: Any) -> list[Any]:
    return [micros(column) if isinstance(column.type, Instant) else column for column in columns]


def _between(stream: Stream) -> Statement:
    """The next rows of a stream, as they are hashed."""
    table = TABLES[stream]
    after, upto, most = (bindparam(name, type_=BigInteger) for name in ("after", "upto", "most"))
    columns = _in_micros(table.c[name] for name in SEALED[stream])
    return Statement(select(*columns).where(table.c.id > after, table.c.id <= upto).order_by(table.c.id).limit(most))


_ROWS = {stream: _between(stream) for stream in Stream}
_SEALS = Statement(
    select(*_in_micros(seals.c))
    .where(seals.c.number >= bindparam("least", type_=BigInteger))
    .order_by(seals.c.number)
    .limit(_AT_ONCE)
)
_ADDED = {
    "postgresql": postgresql.insert(seals).on_conflict_do_nothing().returning(seals.c.number),
    "sqlite": sqlite.insert(seals).on_conflict_do_nothing().returning(seals.c.number),
}


def pages(connection: Connection, stream: Stream, after: int, upto: int) -> Iterator[list[Row]]:
    """The rows of a stream beyond one id up to another, :data:`lifecycle.seal.MOST` at a time, by id."""
    while page := _ROWS[stream].tuples(connection, {"after": after, "upto": upto, "most": MOST}):
        yield page
        if len(page) < MOST:
            return
        after = page[-1][0]


class _Horizon(NamedTuple):
    """Ids that were visible at one moment, and a transaction id that was drawn after it (PostgreSQL only)."""

    upto: Mapping[Stream, int]
    drawn: int


@dataclass
class SealReport:
    """What a run has sealed: how many seals, how many rows of each stream, and the head since.

    ``waiting``: it sealed nothing, because a transaction that may still add rows has not ended.
    """

    head: Head = GENESIS
    seals: int = 0
    rows: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class ChainState:
    """How far the chain reaches: rows that it covers and does not yet cover, and since when the oldest of these is."""

    head: Head
    sealed_at: datetime | None
    sealed: Mapping[Stream, int]
    unsealed: Mapping[Stream, int]
    unsealed_since: datetime | None


class Chain:
    """The seals of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._pending: _Horizon | None = None

    # --- Sealing -----------------------------------------------------------------------------

    def seal(self, at: datetime, stop: Callable[[], bool] = lambda: False, patience: float = PATIENCE) -> SealReport:
        """Seal all that is decided, in seals of at most :data:`lifecycle.seal.MOST` rows, until ``stop`` says so.

        Who finds that somebody else is sealing leaves it to them.
        """
        report = SealReport()
        upto = self._decided(stop, patience)
        report.waiting = upto is None
        while upto is not None and not stop():
            seal = self._next(upto, at)
            if seal is None or not self._add(seal, at):
                break
            report.seals += 1
            report.rows[Stream(seal.stream)] += seal.rows
        with self.database.read() as connection:
            report.head = head(connection)
        return report

    def _decided(self, stop: Callable[[], bool], patience: float) -> Mapping[Stream, int] | None:
        """Ids up to which every row is committed, or will never be; None when that takes longer than ``patience``.

        The next run then goes on waiting for the same moment, so that it comes, whatever has begun since.
        """
        horizon = self._pending or self._look()
        deadline = monotonic() + patience
        while not self._over(horizon):
            if stop() or monotonic() >= deadline:
                self._pending = horizon
                return None
            sleep(_PAUSE)
        self._pending = None
        return horizon.upto

    def _look(self) -> _Horizon:
        with self.database.read() as connection:  # all of it sees one moment, and the transaction id is drawn last
            upto = {stream: connection.scalar(select(func.max(table.c.id))) for stream, table in TABLES.items()}
            drawn = connection.scalar(select(_DRAWN)) if self.database.is_postgresql else None
        return _Horizon({stream: LOWEST if last is None else last for stream, last in upto.items()}, drawn or 0)

    def _over(self, horizon: _Horizon) -> bool:
        """Whether every transaction that had begun to write at that moment has ended."""
        if not self.database.is_postgresql:
            return True
        with self.database.read() as connection:
            xmin = connection.scalar(select(_XMIN))
        return xmin is not None and xmin >= horizon.drawn

    def _next(self, upto: Mapping[Stream, int], at: datetime) -> Seal | None:
        """The seal that comes next, if there is anything for it to cover."""
        with self.database.read() as connection:
            last, covered = head(connection), ends(connection)
            for stream in Stream:
                for rows in pages(connection, stream, covered[stream], upto[stream]):
                    return Seal.after(last, stream, rows[-1][0], digests(stream, rows), (at - EPOCH) // MICROSECOND)
        return None

    def _add(self, seal: Seal, at: datetime) -> bool:
        """Put it at the end of the chain, unless somebody else has put another there."""
        values = {column.name: getattr(seal, column.name) for column in seals.c}
        with self.database.write() as connection:
            added = _ADDED[connection.dialect.name].values({**values, "sealed_at": at})
            return connection.scalar(added) is not None

    # --- Looking -----------------------------------------------------------------------------

    def state(self) -> ChainState:
        """How far the chain reaches."""
        with self.database.read() as connection:
            last = head(connection)
            sealed_at = connection.scalar(select(seals.c.sealed_at).where(seals.c.number == last.number))
            sums = connection.execute(select(seals.c.stream, func.sum(seals.c.rows)).group_by(seals.c.stream))
            sealed = {stream: 0 for stream in Stream} | {Stream(stream): int(rows) for stream, rows in sums}
            beyond = {stream: self._beyond(connection, stream, upto) for stream, upto in ends(connection).items()}
        return ChainState(
            head=last,
            sealed_at=sealed_at,
            sealed=sealed,
            unsealed={stream: count for stream, (count, _) in beyond.items()},
            unsealed_since=min((since for _, since in beyond.values() if since is not None), default=None),
        )

    def _beyond(self, connection: Connection, stream: Stream, upto: int) -> tuple[int, datetime | None]:
        table = TABLES[stream]
        count, since = connection.execute(select(func.count(), func.min(table.c.at)).where(table.c.id > upto)).one()
        return count, since

    def unprotected(self) -> list[tuple[str, str]]:
        """What the database does not refuse to do to the record's tables, though it should."""
        with self.database.read() as connection:
            return append_only.unprotected(connection)

    def flaw(self) -> str | None:
        """What is wrong with the last seals, if anything is: a glance, which :mod:`lifecycle.audit` is not."""
        with self.database.read() as connection:
            last = list(each_seal(connection, head(connection).number - 1))
        before = GENESIS if last and last[0].number == 1 else None
        for seal in last:
            flaw = None if before is None else seal.flaw(before)
            if flaw is not None:
                return flaw
            before = seal.head
        return None


def each_seal(connection: Connection, least: int = LOWEST) -> Iterator[Seal]:
    """The seals from a number on, in their order."""
    while page := [Seal(*row) for row in _SEALS.tuples(connection, {"least": least})]:
        yield from page
        if len(page) < _AT_ONCE:
            return
        least = page[-1].number + 1


def head(connection: Connection) -> Head:
    """Where the chain ends."""
    last = connection.execute(select(seals.c.number, seals.c.hash).order_by(seals.c.number.desc()).limit(1))
    row = last.one_or_none()
    return GENESIS if row is None else Head(row.number, row.hash)


def ends(connection: Connection) -> dict[Stream, int]:
    """The last id of each stream that is sealed."""
    return {
        stream: LOWEST if last is None else last
        for stream in Stream
        for last in [connection.scalar(select(func.max(seals.c.to_id)).where(seals.c.stream == stream))]
    }
