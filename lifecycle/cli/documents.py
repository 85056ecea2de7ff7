"""Commands that show the demo and the version."""

from lifecycle.cli import output
from lifecycle.cli.run import Command, Run, command

COMMANDS: list[Command] = []
_PANEL = "Definition"


# --- Demo and version ----------------------------------------------------------------------------


@command(COMMANDS, "demo", "lifecycle demo", panel=_PANEL, json=False, needs=None)
def demo(run: Run) -> None:
    """Live through fourteen months of a company's accounts in under a minute.

    Uses a database of its own, or the one that --database names; never the one in the environment.
    """
    from lifecycle.demo import run as play

    play(run.given.database, output.console())


@command(COMMANDS, "version", "lifecycle version", panel=_PANEL, database=False, needs=None)
def version(run: Run) -> None:
    """Print the version of lifecycle and of what it runs on."""
    if run.json:
        output.emit(_versions())
    else:
        output.say(version_line())


def _versions() -> dict[str, str]:
    import platform
    import sqlite3
    from importlib.metadata import version as installed

    return {
        "account-lifecycle": installed("account-lifecycle"),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }


def version_line() -> str:
    """One line: the package's version, Python's and SQLite's."""
    return ", ".join(f"{name} {number}" for name, number in _versions().items())
