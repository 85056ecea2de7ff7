"""Reads the whole record again and tells the first row of each seal that does not fit; exports it for others to check.

What the database itself can't tell is that the end of the record was cut off, together with its seals, or that all of
it was written anew: a head that was written down elsewhere tells, for it is no longer in the chain.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection, cast, func, null, select, union_all

from lifecycle.chain import LOWEST, TABLES, Row, each_seal, ends, pages
from lifecycle.database import Database
from lifecycle.seal import GENESIS, SEALED, Head, Kind, Misfit, Seal, Stream, digests, misfit
from lifecycle.states import DESTRUCTIVE
from lifecycle.tables import RECEIPT_OF_TASK, Status, accounts, history, outbox, receipts

#: Findings that are kept; all are counted.
KEPT = 100
#: Beyond every id.
HIGHEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something that is not as it was sealed: a row of a stream (``kind`` says what happened to it), a seal, or a head.

    The ``id`` of a missing row is not known; its ``account_id`` and ``number`` follow from what accounts lack, where
    that can be told.
    """

    message: str
    seal: int
    kind: Kind | None = None
    stream: Stream | None = None
    id: int | None = None
    account_id: str | None = None
    number: int | None = None


@dataclass
class AuditReport:
    """What was read, and what does not fit, in the order of the chain: at most :data:`KEPT`, but all are counted."""

    head: Head = GENESIS
    seals: int = 0
    rows: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    unsealed: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    count: int = 0
    discrepancies: list[Discrepancy] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is as it was sealed."""
        return self.count == 0

    def add(self, found: Discrepancy) -> None:
        """Count it, and keep it while there are not too many."""
        self.count += 1
        if len(self.discrepancies) < KEPT:
            self.discrepancies.append(found)


class Audit:
    """One reading of the record of one database, in one transaction, a seal at a time."""

    def __init__(self, connection: Connection, on_progress: Callable[[int], None]) -> None:
        self.connection = connection
        self._on_progress = on_progress
        self._ends = dict.fromkeys(Stream, LOWEST)
        #: Streams of whose next seal it is not known where it begins, since a seal before it is gone or altered.
        self._unsure: set[Stream] = set()
        self._lacks: dict[Stream, list[Any]] = {}
        self.report = AuditReport()

    def run(self, heads: Sequence[Head]) -> AuditReport:
        """Compare everything with the chain, and the chain with the heads that were written down."""
        report, before = self.report, GENESIS
        wanted = set(heads) - {GENESIS}
        for seal in each_seal(self.connection):
            flaw = seal.flaw(before)
            if flaw is not None:
                report.add(Discrepancy(_sentence(flaw), seal.number))
                self._unsure = set(Stream)
            elsewhere = [head for head in wanted if head.number == seal.number]
            for head in elsewhere:
                if head != seal.head:
                    report.add(Discrepancy(f"Seal {seal.number} is another than the head {head} says.", seal.number))
                wanted.remove(head)
            self._compare(seal)
            before = seal.head
            report.seals += 1
        report.head = before
        for head in sorted(wanted):
            why = f"The chain ends with seal {before.number}, and there was a seal {head.number} (the head {head}): "
            report.add(Discrepancy(f"{why}the end of the record was cut off.", head.number))
        for stream, upto in ends(self.connection).items():
            table = TABLES[stream]
            report.unsealed[stream] = self.connection.scalar(select(func.count()).where(table.c.id > upto)) or 0
        return report

    def _compare(self, seal: Seal) -> None:
        """The rows of one seal with what it says of them."""
        if seal.stream not in set(Stream):
            return  # an altered seal, which is said already
        stream = Stream(seal.stream)
        after, self._ends[stream] = self._ends[stream], seal.to_id
        if stream in self._unsure:
            self._unsure.discard(stream)
            return
        # So many that what was slipped in among the rows of one seal does not fill the memory.
        rows = [row for page in islice(pages(self.connection, stream, after, seal.to_id), 2) for row in page]
        self.report.rows[stream] += len(rows)
        self._on_progress(len(rows))
        found = misfit(seal.each_digest(), digests(stream, rows))
        if found is not None:
            self.report.add(self._named(seal.number, stream, rows, found))

    def _named(self, seal: int, stream: Stream, rows: Sequence[Row], found: Misfit) -> Discrepancy:
        made = partial(Discrepancy, seal=seal, kind=found.kind, stream=stream)
        if found.kind is not Kind.MISSING:
            id, account_id, number = rows[found.place][:3]
            row = f"{_ROW[stream]} {number} of account {account_id} (id {id})"
            return made(f"{row} {_HAPPENED[found.kind]}.", id=id, account_id=account_id, number=number)
        low = rows[found.place - 1][0] if found.place else LOWEST
        high = rows[found.place][0] if found.place < len(rows) else HIGHEST
        sides = [f"{word} id {id}" for word, id in (("after", low), ("before", high)) if id not in (LOWEST, HIGHEST)]
        where = " ".join(("missing", " and ".join(sides))) if sides else "missing"
        for account_id, number, earlier, later in self._lacking(stream):
            if max(low, earlier or LOWEST) + 1 < min(high, later or HIGHEST):
                told = f"{_ROW[stream]} {number} of account {account_id} is {where}."
                return made(told, account_id=account_id, number=number)
        return made(f"{_ROW[stream]}, of an account that can't be told, is {where}.")

    def _lacking(self, stream: Stream) -> list[Any]:
        """Rows that must be there by what else is, and are not: the first of them, read once."""
        if stream not in self._lacks:
            self._lacks[stream] = list(self.connection.execute(_lacking(stream).limit(KEPT)))
        return self._lacks[stream]


_ROW = {Stream.HISTORY: "History entry", Stream.RECEIPT: "The receipt for entry"}
_HAPPENED = {Kind.CHANGED: "is not as it was sealed", Kind.INSERTED: "was not there when it was sealed"}


def _lacking(stream: Stream) -> Any:
    """Account, number, and the ids between which the row must have stood, as far as the account tells them."""
    if stream is Stream.RECEIPT:
        unanswered = select(outbox.c.account_id, outbox.c.number, null(), null())
        unanswered = unanswered.outerjoin(receipts, RECEIPT_OF_TASK)
        delivered = (outbox.c.status == Status.DELIVERED) & outbox.c.effect.in_(DESTRUCTIVE)
        return unanswered.where(delivered, receipts.c.id.is_(None))
    gone, before, after = history.alias("gone"), history.alias("before"), history.alias("after")

    def entries(account: Any, number: Any, later: Any) -> Any:
        """Those with these numbers that are not there; an account has every number up to its version."""
        here = (gone.c.account_id == account) & (gone.c.number == number)
        earlier = (before.c.account_id == account) & (before.c.number == number - 1)
        found = select(account, number, before.c.id, later).outerjoin(gone, here).outerjoin(before, earlier)
        return found.where(number > 0, gone.c.id.is_(None))

    within = entries(after.c.account_id, after.c.number - 1, after.c.id)
    at_the_end = entries(accounts.c.id, accounts.c.version, cast(null(), after.c.id.type))
    return union_all(within, at_the_end)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


# --- Of a whole database -------------------------------------------------------------------------


def verify(
    database: Database, heads: Sequence[Head] = (), on_progress: Callable[[int], None] = lambda rows: None
) -> AuditReport:
    """Read all of history and receipts again; what does not fit the seals, and what the ``heads`` say beyond them.

    ``on_progress`` hears of every page of rows how many there were. Nobody who writes waits for it.
    """
    with database.read() as connection:
        return Audit(connection, on_progress).run(heads)


def export(database: Database, on_progress: Callable[[int], None] = lambda rows: None) -> Generator[str]:
    """Lines of JSON, each an object: the rows of a seal and then that seal, one after the other; then what is unsealed.

    The values of an object, in their order, are what is hashed (:func:`lifecycle.seal.hashed`). All is read in one
    transaction that lasts until the last line is taken, or the generator closed. ``on_progress`` hears how many rows
    were read.
    """
    done = 0

    def lines(stream: Stream, after: int, upto: int) -> Iterator[str]:
        nonlocal done
        names = ("stream", *SEALED[stream])
        for page in pages(connection, stream, after, upto):
            yield from (json.dumps(dict(zip(names, (stream, *row), strict=True))) + "\n" for row in page)
            done += len(page)
            on_progress(done)

    with database.read() as connection:
        covered = dict.fromkeys(Stream, LOWEST)
        for seal in each_seal(connection):
            if seal.stream in covered:
                stream = Stream(seal.stream)
                yield from lines(stream, covered[stream], seal.to_id)
                covered[stream] = seal.to_id
            yield json.dumps(seal.line()) + "\n"
        for stream, after in covered.items():
            yield from lines(stream, after, HIGHEST)
