"""The command that lives through years: a population on a manual clock, under one policy or two."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.cli import output
from lifecycle.cli.errors import REFUSED
from lifecycle.cli.operate import progress
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifecycle.policy import Policy
    from lifecycle.simulate.results import Outcome
    from lifecycle.simulate.scenario import Scenario

COMMANDS: list[Command] = []
_FOLDER = Path("simulation")


@command(
    COMMANDS,
    "simulate",
    "lifecycle simulate",
    "lifecycle simulate --print-scenario",
    "lifecycle simulate ours.toml --accounts 20000 --seed 7",
    "lifecycle simulate --policy now.toml --policy candidate.toml -o comparison",
    panel="Definition",
    needs=None,
)
def simulate(
    run: Run,
    scenario: Annotated[
        Path | None, typer.Argument(metavar="SCENARIO", help="TOML; else the default scenario.", show_default=False)
    ] = None,
    policy: Annotated[
        list[Path] | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="TOML with a policy; twice to compare two. Else that of --config, or the defaults.",
        ),
    ] = None,
    accounts: Annotated[int | None, typer.Option("--accounts", help="How many accounts there ever are.")] = None,
    years: Annotated[float | None, typer.Option("--years", help="How long they are looked at.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another number gives other accounts.")] = None,
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where tables and pictures go.")
    ] = _FOLDER,
    print_scenario: Annotated[
        bool, typer.Option("--print-scenario", help="Print the scenario, with what each setting means, and end.")
    ] = False,
) -> None:
    """Live through years of a population, and show what comes of it: accounts, destructive load, time in state.

    Works on a database in memory, or on the empty one that --database names; never on that of the environment.
    """
    from lifecycle.simulate.scenario import as_toml, read_scenario

    chosen = read_scenario(scenario, accounts=accounts, years=years, seed=seed)
    if print_scenario:
        typer.echo(as_toml(chosen), nl=False)
        return
    policies = _policies(run, policy or [])
    outcomes = _live(run, chosen, policies)
    written = _write(folder, chosen, outcomes)
    if run.json:
        output.emit(
            {
                "folder": str(folder),
                "files": [path.name for path in written],
                "outcomes": [one.as_json() for one in outcomes],
            }
        )
    else:
        _show(outcomes, folder, written)
    if not all(one.kept for one in outcomes):
        raise typer.Exit(REFUSED)


def _policies(run: Run, files: "Sequence[Path]") -> "dict[str, Policy]":
    """The policies to live under, by the names that they have in what is written."""
    from lifecycle.policy import Policy

    if len(files) > 2:
        raise InvalidInput(f"Two policies can be compared, not {len(files)}; leave some of --policy out.")
    if len(files) == 2 and run.given.database:
        raise InvalidInput("A database keeps one policy: with --database give --policy once.")
    if not files:
        return {"configured": run.config.policy} if run.config.policy is not None else {"default": Policy()}
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        names = [str(file) for file in files]
    if len(set(names)) < len(names):
        raise InvalidInput(f"--policy names {files[0]} twice; give two files to compare.")
    return {name: Policy.load(file, {}) for name, file in zip(names, files, strict=True)}


def _live(run: Run, scenario: "Scenario", policies: "dict[str, Policy]") -> "list[Outcome]":
    from lifecycle.simulate import IN_MEMORY
    from lifecycle.simulate import simulate as live

    database, safety = run.given.database or IN_MEMORY, run.config.safety
    with progress("Days", scenario.days * len(policies)) as advance:
        return [
            live(scenario, policy, name=name, safety=safety, database=database, on_day=advance)
            for name, policy in policies.items()
        ]


def _write(folder: Path, scenario: "Scenario", outcomes: "Sequence[Outcome]") -> list[Path]:
    """Tables, pictures where they can be drawn, and the scenario that gives the same again."""
    from lifecycle.simulate.results import write_csv
    from lifecycle.simulate.scenario import as_toml

    try:
        folder.mkdir(parents=True, exist_ok=True)
        said = folder / "scenario.toml"
        said.write_text(as_toml(scenario), encoding="utf-8")
        return [*write_csv(folder, outcomes), *_draw(folder, outcomes), said]
    except OSError as error:
        raise InvalidInput(f"{folder} can't be written: {error.strerror}; name another folder with -o.") from error


def _draw(folder: Path, outcomes: "Sequence[Outcome]") -> list[Path]:
    try:
        from lifecycle.simulate.plots import write_plots
    except ModuleNotFoundError:
        output.complain(
            "Pictures need their library: pip install 'account-lifecycle[simulation]'. The tables are there."
        )
        return []
    return write_plots(folder, outcomes)


# --- What is shown -------------------------------------------------------------------------------


def _show(outcomes: "Sequence[Outcome]", folder: Path, written: "Sequence[Path]") -> None:
    names = [one.name for one in outcomes]
    days = outcomes[0].days
    output.say(f"{outcomes[0].opened:,} accounts, {days[0].at:%Y-%m-%d} to {days[-1].at:%Y-%m-%d}", "")
    output.show(output.table(("state at the end", *names), _states(outcomes)))
    output.say("")
    output.show(output.table(("over all days", *names), _figures(outcomes)))
    for one in outcomes:
        output.say("", "Was anybody harmed?" if len(outcomes) == 1 else f"Was anybody harmed under {one.name}?", "")
        rows = [
            (
                "kept" if not promise.broken else f"{promise.broken:,} broken",
                promise.sentence,
                f"{promise.tested:,} times",
            )
            for promise in one.promises
        ]
        output.show(output.table(("", "", ""), rows, heading=False))
    output.say("", f"{len(written)} files in {folder}: {', '.join(path.name for path in written)}")


def _states(outcomes: "Sequence[Outcome]") -> list[tuple[object, ...]]:
    from lifecycle.states import State

    return [(state, *(one.days[-1].states[state] for one in outcomes)) for state in State]


def _figures(outcomes: "Sequence[Outcome]") -> list[tuple[object, ...]]:
    from lifecycle.simulate.customers import Kind
    from lifecycle.simulate.results import DESTROYING

    totals = {
        event: [sum(day.requested.get(event, 0) for day in one.days) for one in outcomes]
        for event in DESTROYING.values()
    }
    return [
        *((f"{event} requested", *counts) for event, counts in totals.items()),
        ("busiest day, accounts destroyed", *(sum(one.busiest.requested.values()) for one in outcomes)),
        ("the brake's limit on that day", *(one.busiest.limit for one in outcomes)),
        ("days on which the brake held back", *(one.braked_days for one in outcomes)),
        ("cancelled by their owners", *(one.granted.get(Kind.CANCEL, 0) for one in outcomes)),
        ("came back", *(one.granted.get(Kind.COME_BACK, 0) for one in outcomes)),
        ("wanted to come back, and could not", *(one.refused.get(Kind.COME_BACK, 0) for one in outcomes)),
    ]
