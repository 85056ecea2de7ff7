"""Commands of the record: seal what is new, write the head down, check everything, export it for an auditor."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.cli import output
from lifecycle.cli.errors import REFUSED
from lifecycle.cli.exporting import OutputOption, send
from lifecycle.cli.operate import progress
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput

if TYPE_CHECKING:
    from lifecycle.audit import AuditReport
    from lifecycle.chain import ChainState
    from lifecycle.seal import Head, Stream

COMMANDS: list[Command] = []
_PANEL = "Record"


@command(COMMANDS, "audit seal", "lifecycle audit seal", panel=_PANEL)
def audit_seal(run: Run) -> None:
    """Seal what is new in history and receipts, once. The daemon does it by itself."""
    report = run.engine.seal()
    if run.json:
        output.emit({"head": str(report.head), "seals": report.seals, "rows": report.rows, "waiting": report.waiting})
        return
    if report.waiting:
        output.complain("Nothing was sealed: a transaction that may still add rows is open. Try again when it is over.")
    output.say(f"Sealed  {_counted(report.rows)}", f"Head    {report.head}")


@command(
    COMMANDS,
    "audit head",
    "lifecycle audit head",
    "lifecycle audit head --json",
    panel=_PANEL,
)
def audit_head(run: Run) -> None:
    """Print where the chain of seals ends. Keep it elsewhere: with it `audit verify` sees that the end was cut off."""
    state = run.engine.chain.state()
    if run.json:
        output.emit(_as_data(state))
        return
    output.say(
        f"Head        {state.head}",
        f"Sealed at   {'-' if state.sealed_at is None else f'{state.sealed_at:%Y-%m-%d %H:%M:%S} UTC'}",
        f"Sealed      {_counted(state.sealed)}",
        f"Not yet     {_counted(state.unsealed)}",
    )


def _as_data(state: "ChainState") -> dict[str, object]:
    return {
        "head": str(state.head),
        "number": state.head.number,
        "hash": state.head.hash.hex(),
        "sealed_at": state.sealed_at,
        "sealed": state.sealed,
        "unsealed": state.unsealed,
        "unsealed_since": state.unsealed_since,
    }


@command(
    COMMANDS,
    "audit verify",
    "lifecycle audit verify",
    "lifecycle audit verify --head head-of-today.json",
    panel=_PANEL,
)
def audit_verify(
    run: Run,
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            metavar="FILE|NUMBER:HASH",
            help="A head that was kept elsewhere, or a file that names some, such as a log. May be given again.",
        ),
    ] = None,
) -> None:
    """Read all of history and receipts again; name what was changed since it was sealed. Exit code 1 if anything."""
    heads = [one for named in head or () for one in _heads(named)]
    with progress("Verifying", sum(run.engine.chain.state().sealed.values())) as advance:
        report = run.engine.verify(heads, advance)
    if run.json:
        output.emit(
            {
                "ok": report.ok,
                "head": str(report.head),
                "seals": report.seals,
                "rows": report.rows,
                "unsealed": report.unsealed,
                "heads_checked": len(heads),
                "count": report.count,
                "discrepancies": iter(report.discrepancies),
            }
        )
    else:
        _tell(report, len(heads))
    if not report.ok:
        raise typer.Exit(REFUSED)


def _tell(report: "AuditReport", heads: int) -> None:
    for found in report.discrepancies:
        output.say(f"Seal {found.seal}: {found.message}")
    if report.count > len(report.discrepancies):
        output.say(f"… and {report.count - len(report.discrepancies):,} more.")
    output.say(f"Read        {_counted(report.rows)}, under {report.seals:,} seals", f"Head        {report.head}")
    output.say(f"Not sealed  {_counted(report.unsealed)}")
    if report.count:
        output.say(f"Not as it was sealed: {report.count:,}. docs/audit.md says what to do now.")
        return
    beyond = "" if heads else " A head that was kept elsewhere (--head) would also tell whether its end was cut off."
    output.say(f"Everything is as it was sealed.{beyond}")


def _heads(named: str) -> "list[Head]":
    """The heads that an argument names, or that stand in the file which it names."""
    from lifecycle.seal import heads_in

    found = heads_in(named)
    if not found:
        try:
            found = heads_in(Path(named).read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            raise InvalidInput(
                f"--head must be NUMBER:HASH as `lifecycle audit head` prints it, or a file, not {named!r}."
            ) from None
    if not found:
        raise InvalidInput(f"{named} names no head: it must have NUMBER:HASH as `lifecycle audit head` prints it.")
    return found


@command(
    COMMANDS,
    "audit export",
    "lifecycle audit export --output record.jsonl",
    panel=_PANEL,
    json=False,
)
def audit_export(run: Run, output: OutputOption = None) -> None:
    """Export history, receipts and seals as lines of JSON, by which anybody can check the chain without a database."""
    _export(run, output)


def _export(run: Run, file: Path | None) -> None:
    from lifecycle.audit import export

    rows = send(lambda upto: export(run.engine.database, upto), file)
    if file is not None:
        output.say(f"Wrote {rows:,} rows with their seals to {file}.")


def _counted(rows: "Mapping[Stream, int]") -> str:
    return ", ".join(f"{count:,} rows of {stream}" for stream, count in rows.items())
