"""The command that draws the definition: one policy, two beside each other, or with the numbers of a database."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.cli import output, parsing
from lifecycle.cli.policy import effective_policy, policy_named
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput

if TYPE_CHECKING:
    from lifecycle.diagrams import Counts

COMMANDS: list[Command] = []
_PANEL = "Definition"
#: Formats that a terminal can show.
_TEXTS = ("dot", "mermaid", "scxml")


def _pictures(incomplete: str) -> list[str]:
    from lifecycle.diagrams import pictures

    return [name for name in pictures() if name.startswith(incomplete)]


@command(
    COMMANDS,
    "diagram",
    "lifecycle diagram --format mermaid",
    "lifecycle diagram -o lifecycle.svg",
    "lifecycle diagram way-out --diff default -o changes.png",
    "lifecycle diagram --counts --since 2026-01-01 -o counts.svg",
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
            "--format",
            help="svg, png, pdf, dot, mermaid or scxml; else as the file ends, else dot.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The file; a folder with --all.")
    ] = None,
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff",
            metavar="OLD",
            help="Show what changes from this policy: a TOML file, default, database, or a version that it has kept.",
        ),
    ] = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="Show how many accounts are where, and how often each move was taken.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="INSTANT", help="With --counts: count moves from then on, else all."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every picture in every format but PDF, into a folder.")
    ] = False,
) -> None:
    """Draw the lifecycle from its definition, with the durations of the policy in force."""
    from lifecycle import diagrams
    from lifecycle.files import replacing

    policy, source = effective_policy(run)
    if since is not None and not counts:
        raise InvalidInput("--since says from when on moves are counted: add --counts.")
    old = None if diff is None else policy_named(run, diff)
    if everything and (picture is not None or format is not None):
        raise InvalidInput("--all draws every picture in its own formats; leave PICTURE and --format out.")
    names = diagrams.pictures()
    chosen = names[0] if picture is None else parsing.nearest(picture, names, "picture")
    kind = parsing.nearest(format or _kind(file), diagrams.FORMATS, "format")
    if file is None and not everything and kind not in _TEXTS and sys.stdout.isatty():
        raise InvalidInput(f"A terminal can't show {kind}: write it to a file with -o {chosen}.{kind}.")
    counted = _counts(run, since) if counts else None
    words = source if diff is None else f"{source}, beside {diff}"
    if everything:
        folder = file or Path("diagrams")
        written = diagrams.write_all(folder, policy, old=old, counts=counted)
        output.say(f"Drew {len(written)} files into {folder}, with {words}.")
        return
    if file is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(diagrams.render(chosen, policy, kind, old=old, counts=counted))
        return
    with replacing(file) as drawn:
        drawn.write(diagrams.render(chosen, policy, kind, old=old, counts=counted))
    output.say(f"Drew {chosen} into {file}, with {words}.")


def _counts(run: Run, since: str | None) -> "Counts":
    """What the database holds now; moves from the instant on, or all."""
    from lifecycle.diagrams import Counts

    begin = parsing.instant(since, "--since")
    engine = run.engine
    with output.console(stderr=True).status("Counting"):
        return Counts(engine.summary(), engine.taken(begin), run.now, begin)


def _kind(file: Path | None) -> str:
    """The format that a file's name asks for."""
    suffix = "" if file is None else file.suffix.removeprefix(".").lower()
    return {"": "dot", "gv": "dot", "mmd": "mermaid"}.get(suffix, suffix)
