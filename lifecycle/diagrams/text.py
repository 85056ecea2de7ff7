"""The words of the pictures, and how each format escapes them."""

import html
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from lifecycle.actor import Role
from lifecycle.guards import Guard
from lifecycle.policy import Policy
from lifecycle.rows import Permission, Timer, Transition
from lifecycle.states import account
from lifecycle.terms import Term, describe, holds, simplify

INK, PALE = "#1f2933", "#66727f"
#: Pairs of colours and line styles that stay apart without colour vision (after Okabe and Ito).
ROLES: Mapping[Role, tuple[str, str, str]] = {
    Role.OWNER: ("#0062a8", "solid", "owner"),
    Role.SUPPORT: ("#1d87c9", "solid", "support"),
    Role.BILLING: ("#007a5a", "dashed", "billing"),
    Role.ADMIN: ("#93328e", "dotted", "admin"),
    Role.SYSTEM: (INK, "bold", "the engine"),
}
IRREVERSIBLE = "#c4161c"


# --- Escaping ------------------------------------------------------------------------------------


def dot_text(text: str) -> str:
    """Text as a quoted DOT string."""
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def html_text(text: str) -> str:
    """Text inside one of Graphviz's HTML-like labels."""
    return html.escape(printable(text))


def mermaid_text(text: str) -> str:
    """Text inside a Mermaid label; what Mermaid would read as syntax becomes ``#code;``."""
    return "".join(f"#{ord(c)};" if c in "#;:\"'<>&%{}`|\\~" else c for c in printable(text))


def printable(text: str) -> str:
    """Text without line breaks and control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


# --- Words ---------------------------------------------------------------------------------------


def deadline_words(timer: Timer, values: Policy) -> str:
    """``"30 days after the cancellation, not before the end of access"``."""
    term = simplify(_known(timer.counted), values)
    if term.op == "-":
        return f"{_words(term.args[0], values)}; started {_words(term.args[1], values)} early"
    return _words(term, values)


def _words(term: Term, values: Policy) -> str:
    if term.op == "field":
        return f"at {describe(term, values, account.words)}"
    if term.op == "+" and term.args[0].op == "latest":
        clocks = " or ".join(describe(clock, values, account.words) for clock in term.args[0].args)
        return f"{describe(term.args[1], values, account.words)} after {clocks}, the later"
    return describe(term, values, account.words).replace(", but not", ", not")


def _known(term: Term) -> Term:
    """Without the fallbacks for dates that are missing, which matter to a machine only."""
    if term.op == "default":
        return _known(term.args[0])
    return term if term.op in ("field", "literal") else Term(term.op, *map(_known, term.args))


def notice_words(timer: Timer, values: Policy) -> str:
    """``"with 7 days of notice"``, or nothing for a timer without one."""
    notice = timer.notice
    if notice is None:
        return ""
    if notice.binding:
        return f"with {describe(notice.lead, values, {})} of notice"
    return f"reminder {describe(notice.opens.args[1], values, {})} before"


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters; a bracket, and a dot with what follows it, stay together."""
    joined = re.sub(r"\[[^]]*\]|· \S+|→ \S+|\d+ days?", lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(joined, width, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def brackets(guards: Iterable[Guard]) -> str:
    """The names of guards, each in brackets."""
    return " ".join(f"[{guard.name}]" for guard in guards)


def timer_notes(timer: Timer, values: Policy, width: int) -> Iterator[str]:
    """What else there is to say of a timer: its notice, its two steps, what stops it."""
    yield from wrap(notice_words(timer, values), width)
    if timer.confirmation is not None:
        yield from wrap("two steps: asked of a handler, done upon its receipt", width)
    if timer.blocked.op != "literal":
        yield "rests under a legal hold"
    if holds(~simplify(timer.automatic, values), {}):
        yield "waits for an admin, once due"


def role_words(roles: Iterable[Role]) -> str:
    """The roles as they are written in pictures."""
    return " · ".join(ROLES[role][2] for role in roles)


def permitted(row: Transition, values: Policy) -> list[tuple[tuple[Role, ...], tuple[Guard, ...]]]:
    """Who may fire the row and under which guards, without what the policy decides one way or the other."""

    def decided(guard: Guard) -> bool | None:
        term = simplify(guard.test, values) if isinstance(guard.test, Term) else None
        return term.args[0] if term is not None and term.op == "literal" else None

    open_ways = [
        Permission(way.role, tuple(g for g in way.guards if decided(g) is None))
        for way in row.by
        if not any(decided(guard) is False for guard in way.guards)
    ]
    return [
        (tuple(dict.fromkeys(way.role for way in ways)), guards)
        for guards, ways in groupby(open_ways, key=lambda way: way.guards)
    ]
