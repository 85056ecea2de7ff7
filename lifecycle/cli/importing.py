"""Commands that read CSV files, accounts and activity, and how they report bad rows."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.actor import Role
from lifecycle.authority import ACTING
from lifecycle.cli import output
from lifecycle.cli.errors import USAGE
from lifecycle.cli.operate import progress
from lifecycle.cli.run import Command, Run, command

if TYPE_CHECKING:
    from lifecycle.activity_file import ActivityFileReport
    from lifecycle.importer import BadCell, ImportReport

COMMANDS: list[Command] = []
#: More bad cells than this are counted, not shown.
_SHOWN = 20


@command(
    COMMANDS,
    "import",
    "lifecycle import accounts.csv --dry-run",
    "lifecycle import accounts.csv --skip-bad rejects.csv",
    panel="Accounts",
    needs=(Role.ADMIN,),
)
def import_(
    run: Run,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="The file; - for standard input.", show_default=False)
    ],
    skip_bad: Annotated[
        Path | None,
        typer.Option("--skip-bad", metavar="REJECTS.csv", help="Import the good rows, write the bad ones here."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row, import nothing.")] = False,
) -> None:
    """Import accounts in any state of their life, with their owners: all rows, or none if one is bad."""
    from lifecycle.importer import import_accounts

    with _read(file, "Importing") as (source, upto):
        report = import_accounts(
            run.engine, source, skip_bad=skip_bad is not None, rejects=skip_bad, dry_run=dry_run, on_progress=upto
        )
    if run.json:
        output.emit(report)
    else:
        _tell(report, skipped=skip_bad is not None)
    if report.bad_rows and skip_bad is None:
        output.complain("Nothing was imported. Correct these rows, or import the others with --skip-bad REJECTS.csv.")
        raise typer.Exit(USAGE)


@command(
    COMMANDS, "activity", "lifecycle activity activity.csv", "lifecycle activity -", panel="Accounts", needs=ACTING
)
def activity(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="account_id,at; - for standard input.")],
) -> None:
    """Record when accounts were used, from a CSV file with the columns account_id and at."""
    from lifecycle.activity_file import record_file

    with _read(file, "Recording") as (source, upto):
        report = record_file(run.engine, source, upto)
    if run.json:
        output.emit(report)
    else:
        _tell_activity(report)
    if report.bad_rows:
        _complain_of(report.bad, report.bad_rows)
        what = "Nothing" if report.rows == 0 else f"Only what comes before line {report.stopped_at:,}"
        output.complain(f"{what} was recorded. Correct these lines and record the whole file again.")
        raise typer.Exit(USAGE)


def _tell_activity(report: "ActivityFileReport") -> None:
    from lifecycle.activity import NAMED

    if report.rows or not report.bad_rows:
        counts = f"{report.written:,} recorded, {report.unchanged:,} without effect, {report.unknown:,} unknown"
        output.say(f"Rows: {counts}.")
    if report.unknown_ids:
        first = "among them " if len(report.unknown_ids) == NAMED else ""
        output.say(f"No such account: {first}{', '.join(report.unknown_ids)}")


@contextmanager
def _read(file: Path, label: str) -> "Iterator[tuple[Path | Iterable[str], Callable[[int], None]]]":
    """The file, or the lines of standard input, with a bar; and the function that says how many rows are done."""
    from_stdin = str(file) == "-"
    # Whatever the locale says, a CSV is UTF-8; bytes that are not are reported with their line.
    source: Path | Iterable[str] = file
    if from_stdin:
        source = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape", newline="")
    with progress(label, None if from_stdin else _rows(file)) as advance:
        done = 0

        def upto(rows: int) -> None:
            nonlocal done
            advance(rows - done)
            done = rows

        yield source, upto


def _rows(file: Path) -> int | None:
    """About how many rows the file has: a quoted line break counts as one too many."""
    try:
        with file.open("rb") as stream:
            return max(sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b"")) - 1, 0)
    except OSError:
        return None  # the import itself says what is wrong with the file


def _tell(report: "ImportReport", *, skipped: bool) -> None:
    _complain_of(report.bad, report.problems)
    if report.bad_rows and not skipped:
        return
    verb = "Would import" if report.dry_run else "Imported"
    output.say(f"{verb} {report.imported:,} accounts; {report.unchanged:,} were there already.")
    if report.bad_rows:
        where = f" They are in {report.rejects}: correct them there and import that file." if report.rejects else ""
        output.say(f"Skipped {report.bad_rows:,} bad rows.{where}")


def _complain_of(bad: "Sequence[BadCell]", problems: int) -> None:
    for cell in bad[:_SHOWN]:
        words = str(cell)
        output.complain(words[:1].upper() + words[1:])
    if problems > _SHOWN:
        output.complain(f"... and {problems - _SHOWN:,} more problems; --json lists more of them.")
