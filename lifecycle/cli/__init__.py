"""The command line: one command is parse, one call, print.

``app`` is the Typer application, ``main`` what the console script runs. Modules, from the bottom up::

    parsing     words on the command line to values
    output      values to the terminal or to JSON; everything shown is escaped here
    pages       help pages
    errors      every error to one message and one exit code
    run         what each command is given: options shared by all, the engine, the consoles
    show        the layout of ``lifecycle show``
    accounts, asking, bulk, importing, exporting, operate, audit, keys, people, policy, candidate,
    simulating, documents, pictures, proving, review            the commands
    rights      who may run which command, as a table

Only Typer is imported at start-up: what needs the database imports it when it runs.
"""

import gc
import sys
import traceback
from copy import copy

import typer

from lifecycle.cli import (
    accounts,
    asking,
    audit,
    bulk,
    candidate,
    documents,
    exporting,
    importing,
    keys,
    operate,
    people,
    pictures,
    policy,
    proving,
    review,
    simulating,
)
from lifecycle.cli.errors import DEFECT, Root
from lifecycle.cli.output import WIDTH, complain
from lifecycle.cli.run import ConfigOption, DatabaseOption, Given, JsonOption, register
from lifecycle.redaction import masked

#: New objects; the imports of a command make a hundred thousand. The daemon, which lives on, collects sooner.
_COLLECT_AFTER = 200_000

app = typer.Typer(
    name="lifecycle",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
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


_MODULES = (
    *(importing, exporting, accounts, asking, bulk, operate, audit, keys, people),
    *(policy, candidate, proving, review, simulating, documents, pictures),
)
COMMANDS = [one for module in _MODULES for one in module.COMMANDS]
register(app, COMMANDS)


def only_named(first: str) -> typer.Typer:
    """The application without all other commands, where the ``first`` word names one or a group.

    To make all sixty takes longer than many a command does.
    """
    commands = [one for one in app.registered_commands if one.name == first]
    groups = [one for one in app.registered_groups if one.name == first]
    if not commands and not groups:
        return app  # help, completion, or a word that wants a suggestion
    small = copy(app)
    small.registered_commands, small.registered_groups = commands, groups
    return small


def main() -> int:
    """Run the command line; returns the exit code."""
    # Imports make many objects and no garbage: to look for some every 700 objects takes a fifth of a short command.
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
    try:
        only_named("".join(sys.argv[1:2]))(prog_name="lifecycle")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        complain(masked(traceback.format_exc()))
        complain("This is a defect of lifecycle itself; please report it with the lines above.")
        return DEFECT
    finally:
        gc.freeze()  # nor does the interpreter's last collection find any in what was imported
    return 0
