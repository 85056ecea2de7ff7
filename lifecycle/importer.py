"""Imports accounts in any state of their life from CSV: all of a file, or nothing of it.

A file is read as a stream and written in one transaction, a batch at a time, so that its size does
not matter. What a row may say is in :mod:`lifecycle.import_rows` and in docs/import.md.
"""

import csv
import gc
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lifecycle.actor import Role
from lifecycle.characters import shown
from lifecycle.engine import Engine
from lifecycle.errors import InvalidInput
from lifecycle.import_rows import COLUMNS, OURS, REQUIRED, Row, RowReader
from lifecycle.states import Opening
from lifecycle.store import Entry

BATCH = 1000
#: Problems that a report holds; it counts the others.
REPORTED = 1000
#: Bytes of one line: a file without line ends must not fill the memory.
LONGEST_LINE = 1_000_000
#: Columns that a file of rejects adds; an import skips them, so that a mended file can be imported.
REJECT_COLUMNS = ("rejected_line", "rejected_because")
#: The last column of an export; an import skips it, too. In a file with one of these, cells are :func:`neutral`.
EXPORT_COLUMN = "export_format"
_SKIPPED = frozenset((*REJECT_COLUMNS, EXPORT_COLUMN))
#: With these a cell begins that a spreadsheet takes for a formula.
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b")  # also full-width, and small ones
#: What a spreadsheet may drop before it looks at a cell.
_DROPPED = "' \u00a0\u3000\ufeff"


@dataclass(frozen=True, slots=True)
class BadCell:
    """A problem of one row; ``line`` is where the row begins, ``column`` None when it is the row as a whole."""

    line: int
    column: str | None
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}{f', {self.column}' if self.column else ''}: {self.reason}"


@dataclass
class ImportReport:
    """What an import did; after a dry run, what it would have done.

    ``imported`` counts accounts, ``unchanged`` rows that an earlier import (or an earlier line) had
    brought already. ``bad`` holds the first 1,000 of ``problems`` problems in ``bad_rows`` rows.
    ``rejects`` is the file to which bad rows went, if there were any.
    """

    imported: int = 0
    unchanged: int = 0
    rows: int = 0
    bad_rows: int = 0
    problems: int = 0
    bad: list[BadCell] = field(default_factory=list)
    rejects: Path | None = None
    dry_run: bool = False


def import_accounts(
    engine: Engine,
    source: Path | str | Iterable[str],
    *,
    skip_bad: bool = False,
    rejects: Path | None = None,
    dry_run: bool = False,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> ImportReport:
    """Import accounts from a CSV file, or from its lines.

    When a row is bad nothing is written, unless ``skip_bad`` asks for the good ones. ``rejects`` is a
    file for the bad rows with their reasons; with ``skip_bad`` it is ``NAME.rejects.csv`` beside the
    source unless given. ``dry_run`` does everything and takes it back. ``on_progress`` hears how
    many rows were read, after each batch.

    Raises :class:`InvalidInput` when the file can't be read or its header is wrong.
    """
    source = Path(source) if isinstance(source, str) else source
    if isinstance(source, Path):
        if skip_bad and rejects is None and not dry_run:
            rejects = source.with_suffix(".rejects.csv")
        if rejects is not None and rejects.resolve() == source.resolve():
            raise InvalidInput(f"The rejects would overwrite {source}; name another file for them.")
    lines = lines_of(source) if isinstance(source, Path) else source
    with closing(records_of(lines)) as records:
        columns = _header(next(records, None))
        with closing(Rejects(rejects, columns)) as out:
            job = _Import(engine, columns, out, ImportReport(dry_run=dry_run))
            report = job.report
            with suppress(_TakeBack), engine.database.write() as connection:
                job.run(connection, records, on_progress)
                if report.bad_rows and not skip_bad:
                    report.imported = report.unchanged = 0
                    raise _TakeBack
                if dry_run:
                    raise _TakeBack
    return report


@contextmanager
def _without_collector() -> Iterator[None]:
    """No search for garbage in cycles: a batch makes none, and its thousands of objects would set one off each time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _TakeBack(Exception):
    """Leaves a transaction without committing it."""


class _Import:
    """One import within one transaction. Even rows that will be taken back are written, to find duplicates."""

    def __init__(self, engine: Engine, columns: Sequence[str], rejects: "Rejects", report: ImportReport) -> None:
        self.store, self.policy, self.now = engine.store, engine.policy, engine.clock.now()
        importer = engine.itself("import", (Role.ADMIN,))
        self.who = str(importer)
        self.columns, self.rejects, self.report = columns, rejects, report
        self.reader = RowReader(self.policy, self.now)
        self.neutral = _is_neutral(columns)

    def run(self, connection: Any, records: Iterator["Record"], on_progress: Callable[[int], None]) -> None:
        self.store.require_policy(connection, self.policy)
        while read := self._one_batch(connection, records):
            self.report.rows += read
            on_progress(self.report.rows)
        self.store.announce(connection)

    def _one_batch(self, connection: Any, records: Iterator["Record"]) -> int:
        """How many rows were read and written."""
        with _without_collector():
            batch = [(record, self._read(record)) for record in islice(records, BATCH)]
            self._write(connection, batch)
            return len(batch)

    def _read(self, record: "Record") -> Row:
        problem = record.problem
        if problem is None and len(record.cells) != len(self.columns):
            problem = f"has {len(record.cells)} cells, the header has {len(self.columns)}."
        if problem is not None:
            return Row(problems=[(None, problem)])
        cells = dict(zip(self.columns, record.cells, strict=True))
        if self.neutral:
            cells = {name: as_written(text) for name, text in cells.items() if name not in _SKIPPED}
        return self.reader.read(cells)

    def _write(self, connection: Any, batch: list[tuple["Record", Row]]) -> None:
        ids = [row.columns["id"] for _, row in batch if not row.problems]
        known = self.store.openings(connection, ids)
        fresh: list[Row] = []
        for record, row in batch:
            account_id = str(row.columns.get("id"))
            exists = not row.problems and account_id in known
            opening = None if row.problems else self._opening(connection, row)
            if exists and known[account_id] != opening:
                row.problems.append(("id", "exists already with other facts; an import changes no account."))
            if row.problems:
                self._reject(record, row)
            elif exists:
                self.report.unchanged += 1
            else:
                known[account_id] = opening
                fresh.append(row)
        if fresh:
            self._insert(connection, fresh, [known[row.columns["id"]] for row in fresh])
        self.report.imported += len(fresh)

    def _opening(self, connection: Any, row: Row) -> str:
        """What the first entry of an imported account remembers of its row, to know it again: a keyed hash."""
        return f"import:{self.store.lookup(connection, 'import', row.digest).hex()}"

    def _insert(self, connection: Any, fresh: list[Row], openings: list[str | None]) -> None:
        self.store.insert(
            connection,
            [row.columns for row in fresh],
            [row.company for row in fresh],
            [row.owners for row in fresh],
            Opening.IMPORT_ACCOUNT,
            Entry(self.now, self.policy.version, self.who),
            request_ids=openings,
        )
        for row in fresh:
            # A hold has the number of the entry that placed it. The first entry placed them all, and the
            # numbers of later entries are taken, so further holds count down from it.
            for offset, case in enumerate(row.cases):
                self.store.add_hold(connection, row.columns["id"], 1 - offset, case, self.now)

    def _reject(self, record: "Record", row: Row) -> None:
        found = [BadCell(record.line, column, reason) for column, reason in row.problems]
        self.report.bad_rows += 1
        self.report.problems += len(found)
        self.report.bad += found[: REPORTED - len(self.report.bad)]
        self.rejects.write(record, found)
        self.report.rejects = self.rejects.path


# --- Reading -------------------------------------------------------------------------------------


class Record(NamedTuple):
    """The cells of one row, which begins at ``line``; ``problem`` says why there are none."""

    line: int
    cells: list[str]
    problem: str | None = None


def lines_of(path: Path) -> Iterator[str]:
    """The file's lines. Bytes that are not UTF-8 come through as surrogates, so that their cell can be named."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    raise InvalidInput(
                        f"{path}, line {number}, has more than {LONGEST_LINE:,} bytes; is it a CSV file, "
                        "with lines that end in LF or CRLF?"
                    )
                yield line.decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InvalidInput(
            f"{path} can't be read: {error.strerror}. Check the path, and that you may read it."
        ) from error


def records_of(lines: Iterable[str]) -> Generator[Record]:
    """The rows that are not blank, the header among them."""
    stream = iter(lines)
    first = next(stream, "").removeprefix("\ufeff")

    def all_lines() -> Iterator[str]:
        yield first
        yield from stream

    reader = csv.reader(all_lines(), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(line, [], f"is not CSV: {error}; look for a quote that is not closed or not doubled.")
            continue
        if cells:
            yield Record(line, cells)


def _header(record: Record | None) -> list[str]:
    """The file's columns; :class:`InvalidInput` names everything that is wrong with them."""
    if record is None:
        raise InvalidInput(f"The file is empty; its first line names the columns, among them {', '.join(REQUIRED)}.")
    names = [name.strip() for name in record.cells]
    known = (*COLUMNS, *REJECT_COLUMNS, EXPORT_COLUMN)
    problems = [] if record.problem is None else [record.problem]
    problems += [_unknown(name) for name in names if name not in known]
    problems += [f"The column {name} is there twice." for name in known if names.count(name) > 1]
    missing = [name for name in REQUIRED if name not in names]
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        problems = ["The columns must be separated by commas."]
    elif missing:
        problems.append(f"The first line must name the columns; {', '.join(missing)} missing.")
    if problems:
        raise InvalidInput(f"line {record.line}: {' '.join(problems)}")
    return names


def _unknown(name: str) -> str:
    if name in OURS:
        return f"The column {name} can't be imported: {OURS[name]}."
    if "\x00" in name or any("\udc80" <= character <= "\udcff" for character in name):
        return f"The column {shown(name)} is not UTF-8 text; save the file as CSV in UTF-8."
    near = get_close_matches(name.casefold(), COLUMNS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the columns are {', '.join(COLUMNS)}."
    return f"Unknown column {shown(name)}: {hint}"


# --- Rejects -------------------------------------------------------------------------------------


def neutral(cell: str) -> str:
    """The cell as text that no spreadsheet takes for a formula."""
    return f"'{cell}" if _is_formula(cell) else cell


def as_written(cell: str) -> str:
    """What :func:`neutral` was given."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    return cell.lstrip(_DROPPED).startswith(FORMULA)


def _is_neutral(columns: Sequence[str]) -> bool:
    """Whether the cells of a file with these columns went through :func:`neutral`."""
    return not _SKIPPED.isdisjoint(columns)


class Rejects:
    """A CSV file of bad rows: their cells, their line and every reason. Made when the first one comes."""

    def __init__(self, path: Path | None, columns: Sequence[str]) -> None:
        self.path = path
        self._columns = [name for name in columns if name not in REJECT_COLUMNS]
        self._keep = [index for index, name in enumerate(columns) if name not in REJECT_COLUMNS]
        self._neutral = _is_neutral(columns)
        self._file: TextIO | None = None

    def write(self, record: Record, problems: Sequence[BadCell]) -> None:
        """Add a row; nothing happens where there is no file for it."""
        if self.path is None:
            return
        if self._file is None:
            self._file = self._create(self.path)
            self._write([*self._columns, *REJECT_COLUMNS])
        cells = [record.cells[index] if index < len(record.cells) else "" for index in self._keep]
        if self._neutral:
            cells = [as_written(cell) for cell in cells]
        reasons = " | ".join(f"{problem.column or 'the row'}: {problem.reason}" for problem in problems)
        self._write([*map(neutral, cells), str(record.line), reasons])

    def _create(self, path: Path) -> TextIO:
        """The rows are personal data, so only the user may read them."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise InvalidInput(f"The rejects can't be written to {path}: {error.strerror}.") from error
        return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")

    def _write(self, cells: list[str]) -> None:
        if self._file is not None:
            csv.writer(self._file).writerow(cells)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
