"""The command that fires one event on many accounts: first the plan, then exactly that plan by its digest."""

import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.cli import output, parsing
from lifecycle.cli.accounts import (
    ActorOption,
    CaseOption,
    CompanyOption,
    EmailOption,
    EventArgument,
    PeriodOption,
    ReasonOption,
    StateOption,
)
from lifecycle.cli.errors import REFUSED
from lifecycle.cli.operate import progress
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import InvalidInput

if TYPE_CHECKING:
    from lifecycle.bulk import BulkPlan
    from lifecycle.filters import Filter

COMMANDS: list[Command] = []
#: A reason is shown with so many of the ids that it refuses.
_IDS = 3
#: Options whose name is not that of their value.
_FLAGS = {"actor": "--as", "everything": "--all"}


def _bound(when: str) -> Any:
    return typer.Option(metavar="INSTANT", help=f"Only accounts {when}.")


@command(
    COMMANDS,
    "fire-many",
    "lifecycle fire-many suspend --as admin --reason spam --state trial",
    "lifecycle fire-many place_hold --as admin --reason lawsuit --ids ids.txt",
    panel="Accounts",
    fires="*",
)
def fire_many(
    run: Run,
    event: EventArgument,
    actor: ActorOption,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", metavar="FILE", help="Account ids, one a line; - for standard input."),
    ] = None,
    state: StateOption = None,
    plan: Annotated[str | None, typer.Option("--plan", help="Only accounts on this plan: trial, free or paid.")] = None,
    opened_before: Annotated[str | None, _bound("opened before then")] = None,
    opened_after: Annotated[str | None, _bound("opened then or later")] = None,
    last_active_before: Annotated[str | None, _bound("last active before then")] = None,
    last_active_after: Annotated[str | None, _bound("last active then or later")] = None,
    cancelled_before: Annotated[str | None, _bound("cancelled before then")] = None,
    cancelled_after: Annotated[str | None, _bound("cancelled then or later")] = None,
    due_before: Annotated[str | None, _bound("due before then")] = None,
    due_after: Annotated[str | None, _bound("due then or later")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every account; instead of a choice.")] = False,
    company: CompanyOption = None,
    email: EmailOption = None,
    period_ends_at: PeriodOption = None,
    case: CaseOption = None,
    reason: ReasonOption = None,
    request_id: Annotated[
        str | None,
        typer.Option("--request-id", help="Names this change: once applied, the same call returns what was done then."),
    ] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="The digest of the plan to apply.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply the plan with this --digest; else it is shown.")
    ] = False,
) -> None:
    """Fire an event on many accounts: shows the plan, and applies exactly it when its digest is given back."""
    given = {name: value for name, value in locals().items() if name != "run" and value not in (None, False)}
    if apply is (digest is None):
        raise InvalidInput("To apply a plan give its --digest and --apply; to see the plan, neither.")
    chosen = _chosen(given)
    facts: dict[str, Any] = {name: given[name] for name in ("company", "email", "case") if name in given}
    if period_ends_at is not None:
        facts["period_ends_at"] = parsing.instant(period_ends_at, "--period-ends-at")
    if apply:
        from lifecycle.log import configure

        configure()
    total = len(chosen) if isinstance(chosen, frozenset) else None
    with progress("Applying" if apply else "Deciding", total) as advance:
        made = run.engine.fire_many(
            event,
            chosen,
            actor=run.actor(actor),
            reason=reason,
            dry_run=not apply,
            digest=digest,
            request_id=request_id,
            on_page=advance,
            **facts,
        )
    _tell(run, made, None if made.applied else _again(run, given, made.digest))
    if made.refused and not made.count:
        raise typer.Exit(REFUSED)


def _chosen(given: Mapping[str, Any]) -> "frozenset[str] | Filter":
    """The accounts by id, or by what they are."""
    from lifecycle.filters import BOUNDS, Filter

    conditions = {name: given[name] for name in ("state", "plan", "everything") if name in given}
    for name in BOUNDS:
        if name in given:
            conditions[name] = parsing.instant(given[name], _flag(name))
    if "ids" in given:
        if conditions:
            raise InvalidInput(f"{_flag(next(iter(conditions)))} can't be combined with --ids; choose one of them.")
        return _ids(given["ids"])
    if not conditions:
        raise InvalidInput(
            "Say which accounts: --ids FILE, or what they have in common, for example --state frozen; --all means all."
        )
    return Filter(**conditions)


def _ids(file: Path) -> frozenset[str]:
    """One id a line; blank lines are skipped. What is no UTF-8 is no id either, and is refused as one."""
    if str(file) == "-":
        opened = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", errors="backslashreplace")
    else:
        opened = file.open(encoding="utf-8-sig", errors="backslashreplace")
    with opened as lines:
        return frozenset(stripped for line in lines if (stripped := line.strip()))


# --- What is shown -------------------------------------------------------------------------------


def _flag(name: str) -> str:
    return _FLAGS.get(name) or f"--{name.replace('_', '-')}"


def _again(run: Run, given: Mapping[str, Any], digest: str) -> str:
    """The command that applies the plan: the same words, and the digest."""
    words = ["lifecycle", "fire-many", given["event"]]
    if run.given.database is not None:
        words += ["--database", str(run.engine.database)]  # without its password
    if run.given.config is not None:
        words += ["--config", str(run.given.config)]
    for name, value in given.items():
        if name != "event":
            words += [_flag(name)] if value is True else [_flag(name), str(value)]
    return shlex.join([*words, "--digest", digest, "--apply"])


def _tell(run: Run, plan: "BulkPlan", again: str | None) -> None:
    moves = [
        {"source": source, "dest": dest, "accounts": count} for (source, dest), count in sorted(plan.moves.items())
    ]
    refusals = [(reason, count, plan.refused_sample[reason]) for reason, count in plan.refusals.most_common()]
    if run.json:
        reasons = [{"reason": reason, "accounts": count, "sample": ids} for reason, count, ids in refusals]
        shown = {**vars(plan), "moves": moves, "refusals": reasons, "command": again}
        del shown["refused_sample"]  # each reason has its own
        output.emit(shown)
        return
    verb = "moved" if plan.applied else "would move"
    accounts = f"{plan.count:,} account{'' if plan.count == 1 else 's'}"
    output.say(f"{plan.event} {verb} {accounts} and is refused for {plan.refused:,}.")
    if plan.count:
        output.say("")
        output.show(output.table(("from", "to", "accounts"), [tuple(move.values()) for move in moves]))
        _show_sample(plan)
    if refusals:
        output.say("", "Refused:")
        rows = [(count, reason, _some(ids, count)) for reason, count, ids in refusals]
        output.show(output.table(("accounts", "reason", "ids"), rows))
    output.say("", f"Digest  {plan.digest}")
    if again is not None and plan.count:
        output.say("Nothing was changed. Exactly this is done by:", f"  {again}")


def _show_sample(plan: "BulkPlan") -> None:
    rest = plan.count - len(plan.sample)
    output.say("", f"The first {len(plan.sample)} of them:" if rest else "These are:")
    columns = ("account", "from", "to", "access ends (UTC)", "deletion (UTC)", "backups (UTC)")
    rows = (
        (m.account_id, m.source, m.dest, m.access_ends_at, m.delete_content_at, m.purge_backups_by) for m in plan.sample
    )
    output.show(output.table(columns, rows))


def _some(ids: Sequence[str], count: int) -> str:
    return ", ".join(ids[:_IDS]) + (", …" if count > _IDS else "")
