"""Commands that show the definition itself: pictures, the policy, the demo, the version."""

import sys
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli import output, parsing
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput, SchemaOutdated

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


# --- Pictures ------------------------------------------------------------------------------------


def _pictures(incomplete: str) -> list[str]:
    from lifecycle.diagrams import pictures

    return [name for name in pictures() if name.startswith(incomplete)]


@command(
    COMMANDS,
    "diagram",
    "lifecycle diagram --format mermaid",
    "lifecycle diagram -o lifecycle.svg",
    "lifecycle diagram --all -o diagrams",
    panel=_PANEL,
    json=False,
)
def diagram(
    run: Run,
    picture: Annotated[
        str | None,
        typer.Argument(
            metavar="PICTURE", help="Which picture; else the first.", autocompletion=_pictures, show_default=False
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", help="svg, png, pdf, dot or mermaid; else as the file ends, else dot.", show_default=False
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The file; a folder with --all.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every picture as DOT, Mermaid, SVG and PNG, into a folder.")
    ] = False,
) -> None:
    """Draw the lifecycle from its definition, with the durations of the policy in force."""
    from lifecycle import diagrams

    policy, source = effective_policy(run)
    if everything:
        if picture is not None or format is not None:
            raise InvalidInput("--all draws every picture in its own formats; leave PICTURE and --format out.")
        folder = file or Path("diagrams")
        written = diagrams.write_all(folder, policy)
        output.say(f"Drew {len(written)} files into {folder}, with {source}.")
        return
    names = diagrams.pictures()
    chosen = names[0] if picture is None else parsing.nearest(picture, names, "picture")
    kind = parsing.nearest(format or _kind(file), diagrams.FORMATS, "format")
    if file is None and kind not in ("dot", "mermaid") and sys.stdout.isatty():
        raise InvalidInput(f"A terminal can't show {kind}: write it to a file with -o {chosen}.{kind}.")
    drawn = diagrams.render(chosen, policy, kind)
    if file is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(drawn)
    else:
        file.write_bytes(drawn)
        output.say(f"Drew {chosen} into {file}, with {source}.")


def _kind(file: Path | None) -> str:
    """The format that a file's name asks for."""
    suffix = "" if file is None else file.suffix.removeprefix(".").lower()
    return {"": "dot", "gv": "dot", "mmd": "mermaid"}.get(suffix, suffix)


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
