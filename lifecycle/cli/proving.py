"""`lifecycle verify`: the model checker on the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.cli import output, parsing
from lifecycle.cli.errors import REFUSED
from lifecycle.cli.operate import progress
from lifecycle.cli.policy import effective_policy
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput

if TYPE_CHECKING:
    from lifecycle.policy import Policy
    from lifecycle.verify import Judged, Verification
    from lifecycle.verify.mutants import Mutant

COMMANDS: list[Command] = []


def _mutants(incomplete: str) -> list[str]:
    from lifecycle.verify.mutants import MUTANTS

    return [mutant.name for mutant in MUTANTS if mutant.name.startswith(incomplete)]


@command(
    COMMANDS,
    "verify",
    "lifecycle verify",
    "lifecycle verify --policy candidate.toml",
    "lifecycle verify --mutant reactivate-too-late -o counterexample.svg",
    "lifecycle verify --mutants",
    panel="Definition",
)
def verify(
    run: Run,
    file: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="A policy as TOML; else the one in force.", show_default=False),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth", min=0, max=5, help="How many requests, outages and delays follow each other; else 2.",
            show_default=False,
        ),
    ] = None,
    mutant: Annotated[
        str | None,
        typer.Option("--mutant", metavar="NAME", help="Plant this fault first.", autocompletion=_mutants),
    ] = None,
    mutants: Annotated[bool, typer.Option("--mutants", help="Plant each fault, and see that it is noticed.")] = False,
    picture: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Draw the first broken promise: .svg, .png, .pdf or .dot."),
    ] = None,
) -> None:  # fmt: skip
    """Explore the definition exhaustively, and say which promises it keeps.

    A broken promise is shown as the shortest life that leads to it. Exit code 1 if one is broken.
    """
    from lifecycle.verify import DEPTH

    if mutants:
        if mutant is not None or file is not None or picture is not None:
            raise InvalidInput("--mutants plants every fault under its own policy; leave the other options out.")
        _show_mutants(run, DEPTH if depth is None else depth)
        return
    planted = None if mutant is None else _named(mutant)
    policy, source = _policy(run, file, planted)
    found = _verified(policy, planted, DEPTH if depth is None else depth)
    if run.json:
        output.emit({**found.as_json(), "policy": policy.version, "source": source})
    else:
        _show(found, f"policy {policy.version}, {source}", planted)
    if picture is not None:
        _draw(found, picture, quiet=run.json)
    if not found.held:
        raise typer.Exit(REFUSED)


def _named(name: str) -> "Mutant":
    from lifecycle.verify.mutants import MUTANTS

    by_name = {one.name: one for one in MUTANTS}
    return by_name[parsing.nearest(name, by_name, "fault")]


def _policy(run: Run, file: Path | None, planted: "Mutant | None") -> "tuple[Policy, str]":
    from lifecycle.policy import Policy

    if file is not None:
        return Policy.load(file, {}), f"the policy of {file}"
    if planted is not None and planted.settings:
        return Policy.from_mapping(planted.settings), "the policy under which the fault shows"
    return effective_policy(run)


def _verified(policy: "Policy", planted: "Mutant | None", depth: int) -> "Verification":
    from lifecycle.machine import DEFINITION
    from lifecycle.verify import verify

    definition = DEFINITION if planted is None else planted.definition()
    with progress("Exploring", None) as advance:
        return verify(policy, definition, depth=depth, on_progress=advance)


def _show(found: "Verification", source: str, planted: "Mutant | None") -> None:
    if planted is not None:
        output.say(f"With a planted fault: {planted.text}", "")
    rows = [("held" if one.held else "BROKEN", one.number, one.name, one.text) for one in found.promises]
    output.show(output.table(("", "no.", "promise", "what it says"), rows))
    for one in found.broken:
        _show_counterexample(one)
    output.say(
        "",
        f"Explored {found.explored:,} accounts at instants, {found.decisions:,} decisions, under {source}, "
        f"in {found.seconds:.1f} s.",
        f"{len(found.covered)} of {len(found.covered) + len(found.uncovered)} transitions were seen to act.",
        *(f"never: {words}" for words in found.uncovered),
        "All promises of the definition are kept."
        if found.held
        else f"Broken: {len(found.broken)} of {len(found.promises)} promises.",
        "Not checked here, and where they are tested: docs/verify.md.",
    )


def _show_counterexample(one: "Judged") -> None:
    assert one.counterexample is not None
    output.say("", f"{one.name} is broken. {one.text}", *(f"  {entry}" for entry in one.counterexample.entries))


def _draw(found: "Verification", file: Path, *, quiet: bool) -> None:
    from lifecycle.files import replacing
    from lifecycle.verify.picture import draw

    if found.held:
        output.complain(f"No promise is broken, so {file} was not drawn.")
        return
    first = found.broken[0]
    assert first.counterexample is not None
    with replacing(file) as drawn:
        drawn.write(draw(first.counterexample, file.suffix.removeprefix(".").lower()))
    if not quiet:
        output.say(f"Drew the life that breaks {first.name} into {file}.")


def _show_mutants(run: Run, depth: int) -> None:
    from lifecycle.verify.mutants import MUTANTS

    results = []
    with progress("Planting faults", len(MUTANTS)) as advance:
        for one in MUTANTS:
            caught = one.caught(depth)
            results.append((one, None if caught is None else caught.words))
            advance(1)
    missed = [one.name for one, words in results if words is None]
    if run.json:
        output.emit([
            {"name": one.name, "text": one.text, "promise": one.promise, "caught": words is not None, "words": words}
            for one, words in results
        ])  # fmt: skip
    else:
        rows = [("caught" if words else "MISSED", one.name, one.text, one.promise) for one, words in results]
        output.show(output.table(("", "fault", "what it does", "promise that notices"), rows))
        output.say("", f"{len(results) - len(missed)} of {len(results)} planted faults are noticed by their promise.")
    if missed:
        raise typer.Exit(REFUSED)
