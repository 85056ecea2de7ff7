"""Records activity from CSV: a file of any size, in batches, of which one with a bad line is left out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from lifecycle.activity import BATCH, NAMED, ActivityReport, Pair
from lifecycle.engine import Engine
from lifecycle.errors import InvalidInput
from lifecycle.import_rows import read_instant
from lifecycle.importer import REPORTED, BadCell, Record, lines_of, records_of

#: The columns of a file, in any order.
COLUMNS = ("account_id", "at")


@dataclass
class ActivityFileReport:
    """What became of the rows: the numbers of :class:`lifecycle.activity.ActivityReport`, over the whole file.

    Where lines are ``bad``, recording ended before the batch that they belong to: nothing from line
    ``stopped_at`` on was written. ``bad_rows`` counts them, ``bad`` holds the first 1,000.
    """

    written: int = 0
    unchanged: int = 0
    unknown: int = 0
    unknown_ids: list[str] = field(default_factory=list)
    rows: int = 0
    stopped_at: int | None = None
    bad_rows: int = 0
    bad: list[BadCell] = field(default_factory=list)

    def add(self, report: ActivityReport) -> None:
        """Count one batch more."""
        self.written += report.written
        self.unchanged += report.unchanged
        self.unknown += report.unknown
        self.unknown_ids = list(dict.fromkeys([*self.unknown_ids, *report.unknown_ids]))[:NAMED]


def record_file(
    engine: Engine, source: Path | str | Iterable[str], on_progress: Callable[[int], None] = lambda rows: None
) -> ActivityFileReport:
    """Record the activity in a CSV file, or in its lines: ``account_id,at``, see docs/cli.md.

    Unknown ids are reported and do no harm. ``on_progress`` hears how many rows were recorded, after
    each batch. Recording a file again changes nothing, so a corrected one is simply recorded whole.

    Raises :class:`InvalidInput` when the file can't be read or its header is wrong.
    """
    source = Path(source) if isinstance(source, str) else source
    report = ActivityFileReport()
    with closing(records_of(lines_of(source) if isinstance(source, Path) else source)) as records:
        columns = _header(next(records, None))
        while batch := list(islice(records, BATCH)):
            pairs = list(_pairs(batch, columns, engine.clock.now(), report))
            if report.bad_rows:
                report.stopped_at = batch[0].line
                break
            report.add(engine.record_activities(pairs))
            report.rows += len(batch)
            on_progress(report.rows)
    return report


def _header(record: Record | None) -> Sequence[str]:
    names = [name.strip() for name in record.cells] if record else []
    if sorted(names) != sorted(COLUMNS):
        found = ",".join(names)[:80]
        raise InvalidInput(f"The first line must name the columns {','.join(COLUMNS)}; it is {found!a}.")
    return names


def _pairs(
    batch: Iterable[Record], columns: Sequence[str], now: datetime, report: ActivityFileReport
) -> Iterator[Pair]:
    """The batch's pairs; what is wrong with the other rows goes into the report."""
    for record in batch:
        try:
            yield _pair(record, columns, now)
        except _Bad as problem:
            report.bad_rows += 1
            if len(report.bad) < REPORTED:
                report.bad.append(BadCell(record.line, problem.column, problem.reason))


class _Bad(Exception):
    """What is wrong with a row, and with which of its cells."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column, self.reason = column, reason


def _pair(record: Record, columns: Sequence[str], now: datetime) -> Pair:
    if record.problem is not None:
        raise _Bad(None, record.problem)
    if len(record.cells) != len(columns):
        raise _Bad(None, f"has {len(record.cells)} cells, the header has {len(columns)}.")
    cells = dict(zip(columns, (cell.strip() for cell in record.cells), strict=True))
    for column, text in cells.items():
        if not text:
            raise _Bad(column, "must not be blank.")
    try:
        at = read_instant(cells["at"])
    except InvalidInput as error:
        raise _Bad("at", str(error)) from None
    if at > now:
        raise _Bad("at", "lies in the future.")
    return cells["account_id"], at
