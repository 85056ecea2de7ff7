"""The command that writes the policy review page."""

from pathlib import Path
from typing import Annotated

import typer

from lifecycle.cli import output
from lifecycle.cli.operate import progress
from lifecycle.cli.policy import effective_policy
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput

COMMANDS: list[Command] = []


@command(
    COMMANDS,
    "review",
    "lifecycle review -o review.html",
    "lifecycle review --candidate longer.toml -o review.html",
    panel="Definition",
    json=False,
)
def review(
    run: Run,
    file: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")] = Path(
        "review.html"
    ),
    candidate: Annotated[
        Path | None,
        typer.Option(
            "--candidate", metavar="FILE", help="A TOML file with the policy to compare with.", show_default=False
        ),
    ] = None,
    proofs: Annotated[
        bool, typer.Option("--proofs/--no-proofs", help="Verify the promises for the page; takes seconds.")
    ] = True,
) -> None:
    """Write the policy review page: one file of HTML with diagrams, clauses, timelines and proofs.

    It loads nothing and names nobody. Accounts of the database are counted, if there is one.
    """
    from lifecycle.policy import Policy
    from lifecycle.review import write

    other = None if candidate is None else Policy.load(candidate, {})
    engine = run.engine if run.has_database else None
    policy, source = effective_policy(run)
    if engine is not None and policy != (kept := engine.kept_policy()):
        raise InvalidInput(
            f"{engine.database} keeps policy {kept.version}, and the configuration states {policy.version}, which is "
            "not in force there: leave --config out, and compare the two by giving its file as --candidate."
        )
    with progress("Verifying", None) as advance:
        write(file, policy, source=source, candidate=other, engine=engine, prove=proofs, on_progress=advance)
    output.say(f"Wrote {file}, with {source}.")
