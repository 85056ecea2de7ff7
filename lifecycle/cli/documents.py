"""Commands that show the policy, the demo, the version."""

from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lifecycle.cli import output
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import SchemaOutdated

if TYPE_CHECKING:
    from lifecycle.policy import Policy

COMMANDS: list[Command] = []
_PANEL = "Definition"


# --- Policy --------------------------------------------------------------------------------------


def effective_policy(run: Run) -> "tuple[Policy, str]":
    """The policy that applies here, and where it comes from.

    What a configuration states comes first; then what a database keeps, if there is one; then the defaults.
    """
    from lifecycle.policy import Policy

    if run.config.policy is not None:
        return run.config.policy, "the policy of the configuration"
    try:
        return run.engine.policy, f"the policy of {run.engine.database}"
    except SchemaOutdated:
        if not run.database_is_default:
            raise
        return Policy(), "the default policy"


@command(COMMANDS, "policy show", "lifecycle policy show", panel=_PANEL)
def policy_show(run: Run) -> None:
    """Show every setting in force: its value, its floor and the promise that it belongs to."""
    from lifecycle.policy import LONGEST, duration_words

    policy, source = effective_policy(run)
    settings = [_setting(policy, setting) for setting in fields(policy)]
    if run.json:
        output.emit({"version": policy.version, "source": source, "settings": settings})
        return
    output.say(f"Version {policy.version}, {source}", "")
    rows = [(s["name"], s["value"], s["at_least"] or " | ".join(s["one_of"]), s["clause"], s["doc"]) for s in settings]
    output.show(output.table(("setting", "value", "at least", "clause", "meaning"), rows))
    output.say("", f"No duration may exceed {duration_words(LONGEST)}.")


def _setting(policy: "Policy", setting: Any) -> dict[str, Any]:
    from lifecycle.policy import LONGEST, duration_words, options_of

    floor: timedelta | None = setting.metadata["at_least"]
    return {
        "name": setting.name,
        "value": policy.as_text()[setting.name],
        "default": type(policy)().as_text()[setting.name],
        "at_least": None if floor is None else duration_words(floor),
        "at_most": None if floor is None else duration_words(LONGEST),
        "one_of": list(options_of(setting)),
        "clause": str(setting.metadata["clause"]),
        "doc": setting.metadata["doc"],
    }


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
