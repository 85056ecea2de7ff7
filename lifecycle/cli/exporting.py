"""The commands that export accounts and history."""

import sys
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from lifecycle.cli import output, parsing
from lifecycle.cli.accounts import StateOption
from lifecycle.cli.operate import progress
from lifecycle.cli.run import Command, Run, command

COMMANDS: list[Command] = []


def _formats(incomplete: str) -> list[str]:
    return [format for format in ("csv", "jsonl") if format.startswith(incomplete)]


FormatOption = Annotated[
    str, typer.Option("--format", help="csv, or jsonl: a JSON object a line.", autocompletion=_formats)
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The file to write or replace; else standard output."),
]
AccountOption = Annotated[str | None, typer.Option("--account", metavar="ID", help="Only this account.")]


@command(
    COMMANDS,
    "export accounts",
    "lifecycle export accounts --output accounts.csv",
    "lifecycle export accounts --state frozen --format jsonl",
    panel="Accounts",
    json=False,
)
def export_accounts(
    run: Run,
    format: FormatOption = "csv",
    output: OutputOption = None,
    state: StateOption = None,
    account: AccountOption = None,
) -> None:
    """Export accounts with their owners, all as of one instant. An import takes the CSV as it is."""
    _export(run, "accounts", format, output, state, account)


@command(
    COMMANDS,
    "export history",
    "lifecycle export history --format jsonl --output history.jsonl",
    "lifecycle export history --account acme",
    panel="Accounts",
    json=False,
)
def export_history(
    run: Run,
    format: FormatOption = "csv",
    output: OutputOption = None,
    state: StateOption = None,
    account: AccountOption = None,
) -> None:
    """Export what happened to accounts: every entry of their history, all as of one instant."""
    _export(run, "history", format, output, state, account)


def _export(run: Run, what: str, format: str, file: Path | None, state: str | None, account: str | None) -> None:
    from lifecycle.exporter import Format, export
    from lifecycle.states import State

    parsing.nearest(format, Format, "format")
    if state is not None:
        parsing.nearest(state, State, "state")
    chosen: dict[str, Any] = {"state": state, "account_id": account}
    done = send(lambda upto: export(run.engine, what, format, **chosen, on_progress=upto), file)
    if file is not None:
        output.say(f"Wrote {done:,} {'accounts' if what == 'accounts' else 'entries'} to {file}.")


def send(export: Callable[[Callable[[int], None]], Generator[str]], file: Path | None) -> int:
    """Write an export to a file, once it is complete, or to standard output; how many rows it had.

    ``export`` is given what wants to hear how many rows were read, and gives the lines.
    """
    from lifecycle.exporter import write_file

    to_terminal = file is None and sys.stdout.isatty()
    with nullcontext(lambda count: None) if to_terminal else progress("Exporting", None) as advance:
        done = 0

        def upto(rows: int) -> None:
            nonlocal done
            advance(rows - done)
            done = rows

        with closing(export(upto)) as lines:
            if file is not None:
                write_file(file, lines)
                return done
            for line in lines:
                if to_terminal:
                    output.say(line.removesuffix("\n"))
                else:
                    sys.stdout.buffer.write(line.encode())  # whatever the locale says, it is UTF-8
    return done
