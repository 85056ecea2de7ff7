"""Exports accounts or history, as CSV or as lines of JSON: of any size, and all as of one instant.

A file appears when it is complete, or not at all. An import takes the CSV of accounts as it is.
"""

import csv
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from lifecycle.engine import Engine
from lifecycle.files import PRIVATE, replacing
from lifecycle.filters import word
from lifecycle.import_rows import COLUMNS, SEPARATOR
from lifecycle.importer import EXPORT_COLUMN, neutral
from lifecycle.reads import HistoryEntry, Reads, Snapshot
from lifecycle.states import State

#: What stands in :data:`lifecycle.importer.EXPORT_COLUMN`; raised when the cells are written in another manner.
FORMAT = "1"
#: How a legal hold without a case is called in a CSV file, so that an import places it again.
NO_CASE = "no-case"


class What(StrEnum):
    """What can be exported."""

    ACCOUNTS = "accounts"
    HISTORY = "history"


class Format(StrEnum):
    """How it is written: CSV for people and imports, a JSON object a line for programs."""

    CSV = "csv"
    JSONL = "jsonl"


def export_file(engine: Engine, path: Path | str, what: str, format: str = Format.CSV, **options: Any) -> int:
    """Write a file that only the user can read, and return its number of rows; takes what :func:`export` takes.

    A file of that name is replaced once the new one is complete and on the disk. Raises
    :class:`InvalidInput` when it can't be written.
    """
    path, count = Path(path), 0
    on_progress: Callable[[int], None] = options.pop("on_progress", lambda rows: None)

    def counted(rows: int) -> None:
        nonlocal count
        count = rows
        on_progress(rows)

    with closing(export(engine, what, format, **options, on_progress=counted)) as lines:
        write_file(path, lines)
    return count


def write_file(path: Path, lines: Iterable[str]) -> None:
    """A file that only the user can read, with these lines; it takes the place of another once it is complete."""
    with replacing(path, PRIVATE) as file:
        file.writelines(line.encode() for line in lines)


def export(
    engine: Engine,
    what: str,
    format: str = Format.CSV,
    *,
    state: State | str | None = None,
    account_id: str | None = None,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Generator[str]:
    """The lines of an export, with their ends: everything, or what concerns the accounts of a state or an id.

    All is read in one transaction that lasts until the last line is taken, or the generator closed.
    ``on_progress`` hears how many rows were read.

    Raises :class:`InvalidInput` for words that are unknown and :class:`AccountNotFound` for an unknown id.
    """
    wanted, written = word(What, what, "export"), word(Format, format, "format")
    chosen = None if state is None else word(State, state, "state")
    return _lines(engine, wanted, written, chosen, account_id, on_progress)


def _lines(
    engine: Engine,
    what: What,
    format: Format,
    state: State | None,
    account_id: str | None,
    on_progress: Callable[[int], None],
) -> Generator[str]:
    store, done = engine.store, 0
    with engine.database.read() as connection:
        store.check_schema(connection)
        if account_id is not None:
            store.load(connection, account_id)
        kind = _KINDS[what]
        if format is Format.CSV:
            yield _csv(kind.columns)
        for page in kind.stream(store, connection, state, account_id):
            for item in page:
                yield _csv(kind.cells(item)) if format is Format.CSV else _json(kind.data(item))
            done += len(page)
            on_progress(done)


# --- Rows ----------------------------------------------------------------------------------------

_ENTRY = tuple(field.name for field in fields(HistoryEntry))


def _account_cells(account: Snapshot) -> list[str]:
    """The account in the columns that an import reads."""
    cases = dict.fromkeys(case or NO_CASE for case in account.cases)
    listed = {"owners": SEPARATOR.join(account.owners), "legal_holds": SEPARATOR.join(cases)}
    return [listed[name] if name in listed else _text(getattr(account, name)) for name in COLUMNS] + [FORMAT]


def _account_data(account: Snapshot) -> dict[str, Any]:
    return {**account.as_dict(), "legal_hold_cases": account.cases}


def _entry_cells(entry: HistoryEntry) -> list[str]:
    return [_text(getattr(entry, name)) for name in _ENTRY]


def _entry_data(entry: HistoryEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _ENTRY}


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of rows is read and written."""

    stream: Callable[..., Iterator[Sequence[Any]]]
    columns: Sequence[str]
    cells: Callable[[Any], Sequence[str]]
    data: Callable[[Any], Mapping[str, Any]]


_KINDS: Mapping[What, _Kind] = {
    What.ACCOUNTS: _Kind(Reads.stream_accounts, (*COLUMNS, EXPORT_COLUMN), _account_cells, _account_data),
    What.HISTORY: _Kind(Reads.stream_history, _ENTRY, _entry_cells, _entry_data),
}


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return _instant(value)
    return "" if value is None else str(value)


def _instant(value: datetime) -> str:
    """ISO 8601, in UTC."""
    return value.isoformat().replace("+00:00", "Z")


class _Echo:
    """A file for the writer of CSV that hands the line back."""

    def write(self, line: str) -> str:
        return line


_WRITER = csv.writer(_Echo(), lineterminator="\n")


def _csv(cells: Sequence[str]) -> str:
    line: Any = _WRITER.writerow([neutral(cell) for cell in cells])  # what the echo returned, whatever its type says
    return str(line)


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, default=_instant) + "\n"
