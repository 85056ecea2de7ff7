"""Commands on accounts: open, import, look at one or all, fire an event, cancel, place legal holds."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifecycle.authority import ACTING
from lifecycle.cli import output, parsing
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import AccountNotFound, InvalidInput, Refused

if TYPE_CHECKING:
    from lifecycle.actor import Actor
    from lifecycle.reads import HistoryEntry, Snapshot

COMMANDS: list[Command] = []
_PANEL = "Accounts"


def _events(incomplete: str) -> list[str]:
    from lifecycle.states import Event

    return [event for event in Event if event.startswith(incomplete)]


def _states(incomplete: str) -> list[str]:
    from lifecycle.states import State

    return [state for state in State if state.startswith(incomplete)]


EventArgument = Annotated[
    str, typer.Argument(metavar="EVENT", help="The event's name.", autocompletion=_events, show_default=False)
]
ActorOption = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="ROLE",
        show_default=False,
        help="The role in which you ask: support, billing or admin; owner:ADDRESS in a portal.",
    ),
]
StateOption = Annotated[
    str | None, typer.Option("--state", help="Only accounts in this state.", autocompletion=_states)
]
AccountId = Annotated[str, typer.Argument(metavar="ID", help="The account's id.", show_default=False)]
CompanyOption = Annotated[str | None, typer.Option("--company", help="The company's name on file.")]
EmailOption = Annotated[str | None, typer.Option("--email", help="The e-mail address of an owner.")]
PeriodOption = Annotated[
    str | None,
    typer.Option(
        "--period-ends-at", metavar="INSTANT", help="Paid until: ISO 8601 with a zone, or a date (00:00 UTC)."
    ),
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; it is kept in the history.")]
RequestOption = Annotated[
    str | None,
    typer.Option("--request-id", help="The same id again returns the first result and changes nothing."),
]
CaseOption = Annotated[str | None, typer.Option("--case", help="The case of a legal hold.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many rows.", show_default=False)]


# --- New accounts --------------------------------------------------------------------------------


@command(
    COMMANDS,
    "open",
    'lifecycle open acme --company "Acme Ltd" --owner ann@acme.test',
    panel=_PANEL,
    needs=ACTING,
)
def open_account(
    run: Run,
    id: AccountId,
    company: Annotated[str, typer.Option("--company", help="The company's name.", show_default=False)],
    owner: Annotated[list[str], typer.Option("--owner", help="An owner's e-mail address; may be repeated.")],
    plan: Annotated[str, typer.Option("--plan", help="trial, free or paid; paid needs --period-ends-at.")] = "trial",
    period_ends_at: PeriodOption = None,
) -> None:
    """Open an account with its owners."""
    from lifecycle.states import Plan

    parsing.nearest(plan, Plan, "plan")
    until = parsing.instant(period_ends_at, "--period-ends-at")
    account = run.engine.open_account(id, company=company, owners=owner, plan=plan, period_ends_at=until)
    if run.json:
        output.emit(as_data(account))
    else:
        output.say(f"Opened {account.id}: {account.state}, plan {account.plan}.")


# --- Looking -------------------------------------------------------------------------------------


@command(COMMANDS, "show", "lifecycle show acme", panel=_PANEL)
def show(run: Run, id: AccountId) -> None:
    """Show where an account is, what comes, what is possible, and what is refused and why."""
    from lifecycle.cli.show import render

    explanation, account = run.engine.explain(id), run.engine.get(id)
    if run.json:
        output.emit({**_fields(explanation), "account": as_data(account)})
    else:
        output.show(render(account, explanation, run.now))


@command(COMMANDS, "history", "lifecycle history acme", panel=_PANEL)
def history(run: Run, id: AccountId) -> None:
    """List what happened to an account: who did what, when, from where to where."""
    entries = run.engine.history(id)
    if run.json:
        output.emit(iter(entries))
        return
    rows = [(entry.number, entry.at, _what(entry), _way(entry), entry.actor, entry.reason or "") for entry in entries]
    output.show_rows(("#", "at (UTC)", "event", "state", "by", "reason"), rows, "No history.", len(rows))


@command(COMMANDS, "certificate", "lifecycle certificate acme", "lifecycle certificate acme --json", panel=_PANEL)
def certificate(run: Run, id: AccountId) -> None:
    """Certify what was destroyed of an account, what each store answered, and who was told before; nothing personal."""
    from lifecycle.cli.show import render_certificate

    issued = run.engine.certificate(id)
    if run.json:
        output.emit(_fields(issued))
    else:
        output.show(render_certificate(issued))


def _what(entry: "HistoryEntry") -> str:
    return entry.event if entry.step in ("fire", "open") else f"{entry.event} ({entry.step})"


def _way(entry: "HistoryEntry") -> str:
    return str(entry.dest) if entry.source in (None, entry.dest) else f"{entry.source} → {entry.dest}"


@command(
    COMMANDS,
    "accounts",
    "lifecycle accounts --state frozen",
    "lifecycle accounts --summary",
    panel=_PANEL,
)
def accounts(
    run: Run,
    state: StateOption = None,
    summary: Annotated[bool, typer.Option("--summary", help="Only how many accounts are in each state.")] = False,
    limit: LimitOption = None,
) -> None:
    """List accounts, or count them by state."""
    from itertools import islice

    from lifecycle.states import State

    wanted = None if state is None else State(parsing.nearest(state, State, "state"))
    if summary:
        counts = {key: count for key, count in run.engine.summary().items() if wanted in (None, key)}
        if run.json:
            output.emit(counts)
        else:
            output.show(output.table(("state", "accounts", "meaning"), [(s, n, s.text) for s, n in counts.items()]))
        return
    found = run.engine.accounts(wanted)
    if run.json:
        output.emit(as_data(account) for account in islice(found, limit))
        return
    rows = ((a.id, a.company, a.state, a.plan, a.due_at, "; ".join(a.owners)) for a in found)
    output.show_rows(("id", "company", "state", "plan", "next (UTC)", "owners"), rows, "No accounts.", limit)


# --- Events --------------------------------------------------------------------------------------


@command(
    COMMANDS,
    "fire",
    "lifecycle fire acme upgrade --as billing --period-ends-at 2031-01-31",
    'lifecycle fire acme suspend --as admin --reason "spam"',
    panel=_PANEL,
    fires="*",
)
def fire(
    run: Run,
    id: AccountId,
    event: EventArgument,
    actor: ActorOption,
    company: CompanyOption = None,
    email: EmailOption = None,
    period_ends_at: PeriodOption = None,
    case: CaseOption = None,
    reason: ReasonOption = None,
    request_id: RequestOption = None,
) -> None:
    """Fire an event on an account. What it needs, `lifecycle show ID` tells."""
    facts: dict[str, Any] = {
        "company": company,
        "email": email,
        "period_ends_at": parsing.instant(period_ends_at, "--period-ends-at"),
        "case": case,
    }
    _fire(run, id, event, run.actor(actor), reason, request_id, facts)


@command(
    COMMANDS,
    "cancel",
    'lifecycle cancel --company "Acme Ltd" --email ann@acme.test',
    panel=_PANEL,
    fires="cancel",
)
def cancel(
    run: Run,
    company: Annotated[str, typer.Option("--company", help="The company's name on file.", show_default=False)],
    email: Annotated[str, typer.Option("--email", help="The owner's e-mail address on file.", show_default=False)],
    id: Annotated[str | None, typer.Option("--id", help="Which account, when the company has several.")] = None,
    actor: Annotated[
        str | None,
        typer.Option("--as", metavar="ROLE", help="The role in which you ask; else support.", show_default=False),
    ] = None,
    reason: ReasonOption = None,
    request_id: RequestOption = None,
) -> None:
    """Cancel an account for its owner, found by company and the owner's e-mail address."""
    chosen = id or _only(run, company, email)
    facts = {"company": company, "email": email}
    _fire(run, chosen, "cancel", run.actor(actor, "support"), reason, request_id, facts)


def _only(run: Run, company: str, email: str) -> str:
    """The one account of the company with this owner."""
    found = run.engine.find(company, email)
    if not found:
        raise AccountNotFound(
            f"No account of {company!r} has the owner {email!r}. Check the spelling in `lifecycle accounts`; when "
            "nobody knows the owner, `lifecycle fire ID contact_owners` writes to the owners on file."
        )
    if len(found) > 1:
        states = ", ".join(f"{id} ({run.engine.get(id).state})" for id in found)
        raise InvalidInput(f"Several accounts match: {states}. Choose one with --id.")
    return found[0]


# --- Legal holds ---------------------------------------------------------------------------------

AdminOption = Annotated[
    str | None,
    typer.Option("--as", metavar="ROLE", help="The role in which you ask; else admin.", show_default=False),
]
HoldReason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the history.", show_default=False)]


@command(
    COMMANDS,
    "hold place",
    'lifecycle hold place acme --reason "court order" --case 2031-114',
    panel=_PANEL,
    fires="place_hold",
)
def place(
    run: Run,
    id: AccountId,
    reason: HoldReason,
    case: CaseOption = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="INSTANT", help="Released by itself then; needs --case.", show_default=False),
    ] = None,
    actor: AdminOption = None,
    request_id: RequestOption = None,
) -> None:
    """Place a legal hold: from now on nothing of the account is destroyed."""
    facts = {"case": case, "hold_ends_at": parsing.instant(until, "--until")}
    _fire(run, id, "place_hold", run.actor(actor, "admin"), reason, request_id, facts)


@command(COMMANDS, "hold list", "lifecycle hold list", "lifecycle hold list acme --all", panel=_PANEL)
def holds(
    run: Run,
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only of this account.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Released ones, too.")] = False,
    limit: LimitOption = None,
) -> None:
    """List legal holds, in force or all: the case, who placed them and why, since when and until when."""
    found = run.engine.holds(id, released=everything)
    if run.json:
        output.emit(iter(found))
        return
    rows = [
        (h["account_id"], h["case"] or "-", h["actor"] or "-", h["reason"] or "-", h["placed_at"], _end_of(h))
        for h in found
    ]
    columns = ("account", "case", "by", "reason", "placed (UTC)", "until (UTC)")
    output.show_rows(columns, rows, "There is no legal hold.", limit)


def _end_of(hold: dict[str, Any]) -> str:
    if hold["released_at"] is not None:
        return f"released {hold['released_at']:%Y-%m-%d %H:%M}"
    return "released by hand" if hold["ends_at"] is None else f"{hold['ends_at']:%Y-%m-%d %H:%M}"


@command(
    COMMANDS,
    "hold release",
    "lifecycle hold release acme --reason settled --case 2031-114",
    panel=_PANEL,
    fires="release_hold",
)
def release(
    run: Run,
    id: AccountId,
    reason: HoldReason,
    case: CaseOption = None,
    actor: AdminOption = None,
    request_id: RequestOption = None,
) -> None:
    """Release the holds of one case, or all of them without --case."""
    _fire(run, id, "release_hold", run.actor(actor, "admin"), reason, request_id, {"case": case})


def _fire(
    run: Run, id: str, event: str, actor: "Actor", reason: str | None, request_id: str | None, facts: dict[str, Any]
) -> None:
    stated = {name: value for name, value in facts.items() if value is not None}
    try:
        entry = run.engine.fire(id, event, actor=actor, reason=reason, request_id=request_id, **stated)
    except Refused as refusal:
        refusal.add_note(f"See what is possible, and by whom, with `lifecycle show {id}`.")
        raise
    if run.json:
        output.emit(entry)
        return
    output.say(f"{entry.account_id}: {entry.event} by {entry.actor}, {_way(entry)} (entry {entry.number}).")
    upcoming = [coming for coming in run.engine.explain(id).coming if coming.at - run.now > timedelta(0)]
    for date in upcoming:
        output.say(f"  {date.at:%Y-%m-%d %H:%M} UTC  {date.what}")


def as_data(account: "Snapshot") -> dict[str, Any]:
    """The account with its owners and the cases of its legal holds, for JSON."""
    return {**account.as_dict(), "legal_hold_cases": list(account.cases)}


def _fields(explanation: Any) -> dict[str, Any]:
    from dataclasses import fields

    return {field.name: getattr(explanation, field.name) for field in fields(explanation)}
