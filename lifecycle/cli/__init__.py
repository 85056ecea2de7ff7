"""The command line: one command is parse, one call, print.

``app`` is the Typer application, ``main`` what the console script runs. Modules, from the bottom up::

    parsing     words on the command line to values
    output      values to the terminal or to JSON; everything shown is escaped here
    errors      every error to one message and one exit code
    run         what each command is given: options shared by all, the engine, the consoles
    show        the layout of ``lifecycle show``
    accounts, bulk, importing, exporting, operate, documents     the commands

Only Typer is imported at start-up: what needs the database imports it when it runs.
"""

import sys
import traceback

import typer

from lifecycle.cli import accounts, bulk, documents, exporting, importing, operate
from lifecycle.cli.errors import DEFECT, Root
from lifecycle.cli.run import ConfigOption, DatabaseOption, Given, JsonOption, register

app = typer.Typer(
    name="lifecycle",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused, 2 usage or bad input, 3 conflict or database not reachable.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(documents.version_line())
        raise typer.Exit


@app.callback()
def _lifecycle(
    context: typer.Context,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Keeps the life cycle of customer accounts: trials, cancellations, deletion, and the promises made."""
    context.obj = Given(database, config, json)


for _module in (importing, exporting, accounts, bulk, operate, documents):
    register(app, _module.COMMANDS)


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        app(prog_name="lifecycle")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        print("\nThis is a defect of lifecycle itself; please report it with the lines above.", file=sys.stderr)
        return DEFECT
    return 0
