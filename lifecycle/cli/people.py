"""Commands about people: who runs this, keys of programs, what takes two, and what was refused."""

from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.actor import Role
from lifecycle.authority import ACTING, HELD
from lifecycle.cli import output, parsing
from lifecycle.cli.accounts import LimitOption
from lifecycle.cli.run import Command, Run, command

if TYPE_CHECKING:
    from lifecycle.approvals import Approval

COMMANDS: list[Command] = []
_PANEL = "People"


@command(COMMANDS, "whoami", "lifecycle whoami", panel=_PANEL, database=False, needs=None)
def whoami(run: Run) -> None:
    """Say who runs this command, which roles they have, and where that is from."""
    who = run.authority
    roles = [role for role in HELD if role in who.roles]
    configured = run.config.access.roles is not None
    if run.json:
        output.emit(
            {"principal": str(who.principal), "roles": roles, "source": who.source, "roles_configured": configured}
        )
        return
    output.say(f"Principal  {who.principal}", f"Roles      {', '.join(roles) or 'none'}", f"From       {who.source}")


@command(
    COMMANDS,
    "api-key",
    "lifecycle api-key helpdesk",
    panel=_PANEL,
    database=False,
    needs=(Role.ADMIN,),
)
def api_key(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The program's name.", show_default=False)],
) -> None:
    """Make a key for a program: it is shown this once, and only its hash is kept."""
    from lifecycle.access import KEY_VARIABLE, new_key

    key, hashed = new_key(name)
    if run.json:
        output.emit({"name": name, "key": key, "hash": hashed})
        return
    output.say(
        f"Key   {key}",
        f"It is not shown again. The program gets it as {KEY_VARIABLE}.",
        "",
        "For the configuration, which `lifecycle init` adopts:",
        "",
        "[api_keys]",
        f'{name if name.replace("_", "").replace("-", "").isalnum() else repr(name)} = "{hashed}"',
    )


# --- Two people ----------------------------------------------------------------------------------


@command(COMMANDS, "approvals", "lifecycle approvals", "lifecycle approvals --all", panel=_PANEL)
def approvals(
    run: Run,
    everything: Annotated[bool, typer.Option("--all", help="Those that were used or expired, too.")] = False,
    limit: LimitOption = None,
) -> None:
    """List what waits for a second person: what is asked, by whom, and until when."""
    now = run.now
    found = run.engine.approvals(everything=everything)
    if run.json:
        output.emit(_data(one, one.status(now)) for one in found[:limit])
        return
    rows = (
        (a.number, a.status(now), a.summary, a.reason or "-", a.requested_by, a.approved_by or "-", a.expires_at)
        for a in found
    )
    columns = ("#", "status", "what", "reason", "asked by", "approved by", "until (UTC)")
    output.show_rows(columns, rows, "Nothing waits for a second person.", limit)


def _data(approval: "Approval", status: str) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(approval), "status": status}


@command(COMMANDS, "approve", "lifecycle approve 17", panel=_PANEL, needs=ACTING)
def approve(
    run: Run,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The request's number.", show_default=False)],
    reason: Annotated[str | None, typer.Option("--reason", help="Why; it is recorded.")] = None,
) -> None:
    """Approve what another person asked for; they then do it by the same command as before."""
    approval = run.engine.approve(number, reason=reason)
    if run.json:
        output.emit(_data(approval, approval.status(run.now)))
        return
    output.say(f"Approved request {number} of {approval.requested_by}: {approval.summary}")
    if approval.reason:
        output.say(f"Their reason: {approval.reason}")
    output.say(f"It counts until {approval.expires_at:%Y-%m-%d %H:%M} UTC, once, for exactly that.")


# --- Refused attempts ----------------------------------------------------------------------------


@command(COMMANDS, "refusals", "lifecycle refusals", "lifecycle refusals acme --since 2031-01-01", panel=_PANEL)
def refusals(
    run: Run,
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only of this account.", show_default=False)] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="INSTANT", help="Only from then on.")] = None,
    limit: LimitOption = None,
) -> None:
    """List attempts that were refused, the latest first: who, what, and why."""
    rows = output.ROWS + 1 if limit is None and not run.json else limit
    found = run.engine.refusals(id, parsing.instant(since, "--since"), rows)
    if run.json:
        output.emit(iter(found))
        return
    shown = (
        (r.at, r.who, r.principal or "-", r.what, r.account_id or "-", " ".join(r.reasons), r.times) for r in found
    )
    columns = ("at (UTC)", "who", "run by", "what", "account", "why", "times")
    output.show_rows(columns, shown, "Nothing was refused.", limit)
