"""The command that imports accounts from a CSV file, and how it reports bad rows."""

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.cli import output
from lifecycle.cli.errors import USAGE
from lifecycle.cli.operate import progress
from lifecycle.cli.run import Command, Run, command

if TYPE_CHECKING:
    from lifecycle.importer import ImportReport

COMMANDS: list[Command] = []
#: More bad cells than this are counted, not shown.
_SHOWN = 20


@command(
    COMMANDS,
    "import",
    "lifecycle import accounts.csv --dry-run",
    "lifecycle import accounts.csv --skip-bad rejects.csv",
    panel="Accounts",
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

    from_stdin = str(file) == "-"
    # Whatever the locale says, a CSV is UTF-8; bytes that are not are reported with their line.
    source: Path | Iterable[str] = file
    if from_stdin:
        source = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape", newline="")
    with progress("Importing", None if from_stdin else _rows(file)) as advance:
        done = 0

        def upto(rows: int) -> None:
            nonlocal done
            advance(rows - done)
            done = rows

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


def _rows(file: Path) -> int | None:
    """About how many rows the file has: a quoted line break counts as one too many."""
    try:
        with file.open("rb") as stream:
            return max(sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b"")) - 1, 0)
    except OSError:
        return None  # the import itself says what is wrong with the file


def _tell(report: "ImportReport", *, skipped: bool) -> None:
    for cell in report.bad[:_SHOWN]:
        words = str(cell)
        output.complain(words[:1].upper() + words[1:])
    if report.problems > _SHOWN:
        output.complain(f"... and {report.problems - _SHOWN:,} more problems; --json lists more of them.")
    if report.bad_rows and not skipped:
        return
    verb = "Would import" if report.dry_run else "Imported"
    output.say(f"{verb} {report.imported:,} accounts; {report.unchanged:,} were there already.")
    if report.bad_rows:
        where = f" They are in {report.rejects}: correct them there and import that file." if report.rejects else ""
        output.say(f"Skipped {report.bad_rows:,} bad rows.{where}")
