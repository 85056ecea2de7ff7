"""Commands on who may have an account cancelled: requests, their confirmation, and the owners on file."""

import getpass
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.actor import Role
from lifecycle.authority import ACTING
from lifecycle.cli import output, parsing
from lifecycle.cli.accounts import AccountId, CompanyOption, EmailOption, LimitOption, ReasonOption, RequestOption
from lifecycle.cli.run import Command, Run, command
from lifecycle.errors import Refused

if TYPE_CHECKING:
    from lifecycle.inbox import ReviewItem
    from lifecycle.reads import HistoryEntry

COMMANDS: list[Command] = []
_PANEL = "Accounts"

SupportOption = Annotated[
    str | None,
    typer.Option("--as", metavar="ROLE", help="The role in which you ask; else support.", show_default=False),
]
OwnerArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="The owner's e-mail address.", show_default=False)]


def _channels(incomplete: str) -> list[str]:
    from lifecycle.requesting import Channel

    return [channel for channel in Channel if channel.startswith(incomplete)]


# --- Requests ------------------------------------------------------------------------------------


@command(
    COMMANDS,
    "request-cancellation",
    'lifecycle request-cancellation --company "Acme Ltd" --email ann@acme.test --channel phone',
    panel=_PANEL,
    needs=ACTING,
)
def request_cancellation(
    run: Run,
    company: Annotated[str, typer.Option("--company", help="The company's name, as stated.", show_default=False)],
    email: Annotated[str, typer.Option("--email", help="The owner's address, as stated.", show_default=False)],
    channel: Annotated[
        str,
        typer.Option("--channel", help="Where it came in: email, phone, chat, form, letter or other.",
                     autocompletion=_channels, show_default=False),
    ],
) -> None:  # fmt: skip
    """Take a request for cancellation: the answer is the same whatever matches, and the owner on file is asked."""
    from lifecycle.requesting import Channel

    parsing.nearest(channel, Channel, "channel")
    answer = run.engine.request_cancellation(company, email, channel)
    if run.json:
        output.emit(answer)
    else:
        output.say(answer.message)


@command(
    COMMANDS,
    "confirm-cancellation",
    "lifecycle confirm-cancellation --token-file token.txt",
    panel=_PANEL,
    needs=ACTING,
)
def confirm_cancellation(
    run: Run,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Holds the token; else standard input.", show_default=False),
    ] = None,
) -> None:
    """Cancel the account whose owner gives back the token of the mail. It is no argument: those are seen by others."""
    entry = run.engine.confirm_cancellation(_token(token_file))
    _tell(run, entry)


def _token(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8", errors="replace")
    return getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()


@command(COMMANDS, "requests list", "lifecycle requests list", "lifecycle requests list --all", panel=_PANEL)
def list_requests(
    run: Run,
    everything: Annotated[bool, typer.Option("--all", help="Settled ones, too.")] = False,
    limit: LimitOption = None,
) -> None:
    """List requests for cancellation that support must look at, with what was stated and why they wait."""
    found = run.engine.reviews(settled=everything)
    if run.json:
        output.emit(islice(found, limit))
        return
    rows = (
        (
            one.id,
            one.received_at,
            one.company,
            _address(one.email),
            one.channel,
            one.account_id or "-",
            one.why,
            _end(one),
        )
        for one in found
    )
    heads = ("#", "received (UTC)", "company", "email", "channel", "account", "why it waits", "settled")
    output.show_rows(heads, rows, "No request waits.", limit)


def _end(item: "ReviewItem") -> str:
    return "-" if item.settled_by is None else f"by {item.settled_by}: {item.reason}"


def _address(email: str) -> str:
    """Letters that look like others are shown as what they are, too."""
    return email if email.isascii() else f"{email} ({ascii(email)[1:-1]})"


@command(
    COMMANDS,
    "requests settle",
    'lifecycle requests settle 7 --reason "called back, was a mistake"',
    panel=_PANEL,
    needs=(Role.SUPPORT, Role.ADMIN),
)
def settle_request(
    run: Run,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The request's number.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="What came of it.", show_default=False)],
    actor: SupportOption = None,
) -> None:
    """Note that a request was looked at, and what came of it."""
    run.engine.settle_review(number, actor=run.actor(actor, "support"), reason=reason)
    if run.json:
        output.emit({"request": number, "settled": True})
    else:
        output.say(f"Request {number} is settled.")


# --- Owners --------------------------------------------------------------------------------------


@command(COMMANDS, "owners list", "lifecycle owners list acme", panel=_PANEL)
def owners(run: Run, id: AccountId) -> None:
    """List the owners on file: their numbers, which stand for them in the history, and since when."""
    found = run.engine.owners(id)
    if run.json:
        output.emit({"number": one.number, "email": one.email, "since": one.since} for one in found)
        return
    rows = [(one.number, _address(one.email), one.since or "from the beginning") for one in found]
    output.show_rows(("#", "email", "since (UTC)"), rows, "No owner is on file: the account was purged.", len(rows))


@command(
    COMMANDS,
    "owners add",
    'lifecycle owners add acme eve@acme.test --as admin --reason "contract of 2 May"',
    'lifecycle owners add acme eve@acme.test --company "Acme Ltd" --email ann@acme.test',
    panel=_PANEL,
    fires="add_owner",
)
def add_owner(
    run: Run,
    id: AccountId,
    owner: OwnerArgument,
    company: CompanyOption = None,
    email: EmailOption = None,
    reason: ReasonOption = None,
    actor: SupportOption = None,
    request_id: RequestOption = None,
) -> None:
    """Put another owner on file. Those before are told; the new one decides nothing alone for a while."""
    _change(run, "add_owner", id, owner, company, email, reason, actor, request_id)


@command(
    COMMANDS,
    "owners remove",
    'lifecycle owners remove acme bob@acme.test --as admin --reason "left the company"',
    panel=_PANEL,
    fires="remove_owner",
)
def remove_owner(
    run: Run,
    id: AccountId,
    owner: OwnerArgument,
    company: CompanyOption = None,
    email: EmailOption = None,
    reason: ReasonOption = None,
    actor: SupportOption = None,
    request_id: RequestOption = None,
) -> None:
    """Take an owner off file. All owners before are told, this one too; the last one can't be removed."""
    _change(run, "remove_owner", id, owner, company, email, reason, actor, request_id)


def _change(
    run: Run,
    event: str,
    id: str,
    owner: str,
    company: str | None,
    email: str | None,
    reason: str | None,
    actor: str | None,
    request_id: str | None,
) -> None:
    facts = {"owner": owner, "company": company, "email": email}
    asked = run.actor(actor, "support")
    try:
        entry = run.engine.fire(id, event, actor=asked, reason=reason, request_id=request_id, **facts)
    except Refused as refusal:
        refusal.add_note(f"See who is on file with `lifecycle owners list {id}`.")
        raise
    _tell(run, entry)


def _tell(run: Run, entry: "HistoryEntry") -> None:
    if run.json:
        output.emit(entry)
    else:
        output.say(f"{entry.account_id}: {entry.event} by {entry.actor} (entry {entry.number}).")
