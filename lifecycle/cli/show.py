"""The layout of ``lifecycle show`` and ``lifecycle certificate``: one account on one page of 80 columns or more."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lifecycle.cli.output import clean, relative, table

if TYPE_CHECKING:
    from lifecycle.answers import Explanation
    from lifecycle.certificate import Certificate, StoreOutcome
    from lifecycle.reads import Snapshot

#: What an operator reads first is green where the customer has it and red where not.
_COLOURS = {True: "green", False: "red"}


def render(account: "Snapshot", explanation: "Explanation", now: datetime) -> Group:
    """Everything that the explanation says, section by section."""
    parts: list[Any] = [_facts(account, explanation)]
    for title, section in _sections(explanation, now):
        parts += [Text(), Text(title, style="bold"), Padding(section, (0, 0, 0, 2))]
    return Group(*parts)


def _facts(account: "Snapshot", explanation: "Explanation") -> Table:
    state = Text.assemble((clean(account.state), "bold"), f": {account.state.text}")
    rows: list[tuple[str, object]] = [
        ("account", Text(clean(account.id), style="bold")),
        ("company", account.company or "(erased)"),
        ("owners", ", ".join(account.owners) or "(erased)"),
        ("state", state),
        ("because", explanation.because),
        ("plan", account.plan),
        ("customer has", _entitlements(explanation)),
    ]
    if account.freeze_reason is not None:
        rows.insert(4, ("frozen for", account.freeze_reason))
    if account.cases:
        rows.append(("legal holds", ", ".join(case or "without a case" for case in account.cases)))
    return table(("", ""), rows, heading=False)


def _entitlements(explanation: "Explanation") -> Text:
    granted = explanation.entitlements
    words = Text()
    for field in fields(granted):
        has = getattr(granted, field.name)
        words.append(f"{field.name.replace('_', ' ')} ")
        words.append(clean(has), style=_COLOURS[has]).append("   ")
    words.rstrip()
    return words


def _sections(explanation: "Explanation", now: datetime) -> Iterator[tuple[str, Any]]:
    dates = [(coming.at, relative(coming.at, now), coming.what) for coming in explanation.coming]
    yield "Coming dates (UTC)", table(("", "", ""), dates, heading=False) if dates else Text("none")
    possible = [
        (p.event, f"→ {p.dest}" if p.dest is not explanation.state else "(stays)", ", ".join(p.by), ", ".join(p.needs))
        for p in explanation.possible
    ]
    yield "Possible now", table(("event", "to", "by", "needs"), possible) if possible else Text("nothing")
    refused = [(r.event, " ".join(r.reasons)) for r in explanation.refused]
    yield "Refused now", table(("event", "why"), refused) if refused else Text("nothing")


def render_certificate(issued: "Certificate") -> Group:
    """Everything that the certificate says, section by section."""
    facts = [
        ("account", Text(clean(issued.account_id), style="bold")),
        ("issued (UTC)", issued.issued_at),
        ("state", f"{issued.state}: {issued.state.text}"),
        ("cancelled (UTC)", issued.cancelled_at or "-"),
        ("by", issued.cancelled_by or "-"),
        ("deletion promised (UTC)", issued.delete_content_at or "-"),
        ("content deleted (UTC)", issued.content_deleted_at or "-"),
        ("purge promised by (UTC)", issued.purge_backups_by or "-"),
        ("backups purged (UTC)", issued.purged_at or "-"),
    ]
    parts: list[Any] = [table(("", ""), facts, heading=False)]
    for title, columns, rows in _certified(issued):
        section = table(columns, rows) if rows else Text("none")
        parts += [Text(), Text(title, style="bold"), Padding(section, (0, 0, 0, 2))]
    return Group(*parts)


def _certified(issued: "Certificate") -> Iterator[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    asked = [(d.effect, d.requested_at, d.policy_version, d.status, d.confirmed_at or "-") for d in issued.destructions]
    yield "Asked to be destroyed", ("effect", "asked (UTC)", "policy", "status", "confirmed (UTC)"), asked
    answers = [
        (
            d.effect,
            store.store,
            store.outcome or "confirmed",
            _amount(store),
            store.confirmed_at,
            store.reason or store.text or "",
        )
        for d in issued.destructions
        for store in d.stores
    ]
    yield "What the stores answered", ("effect", "store", "outcome", "amount", "when (UTC)", "in its words"), answers
    notices = [(n.effect, n.requested_at, n.delivered_at or "-", n.given_up_at or "-") for n in issued.notices]
    yield "Notices", ("notice", "asked (UTC)", "delivered (UTC)", "given up (UTC)"), notices
    holds = [(h.case or "-", h.placed_at, h.placed_by, h.released_at or "in force") for h in issued.holds]
    yield "Legal holds", ("case", "placed (UTC)", "by", "released (UTC)"), holds


def _amount(store: "StoreOutcome") -> str:
    return "-" if store.count is None else f"{store.count:,} {store.unit}"
