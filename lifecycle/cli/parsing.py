"""Words on the command line to values; what can't be understood raises InvalidInput with an example."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput

if TYPE_CHECKING:
    from lifecycle.actor import Actor
    from lifecycle.authority import Authority


def instant(value: str | None, option: str) -> datetime | None:
    """ISO 8601 with a zone, or a date, which is 00:00 UTC; None stays None."""
    if value is None:
        return None
    text = value.strip()
    try:
        if len(text) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is not None:
            return parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{option} must be an instant such as 2026-01-31T12:00:00Z or a date such as 2026-01-31, "
            f"not {shown(value)}."
        ) from None
    raise InvalidInput(f"{option} has no time zone: add Z for UTC or an offset such as +02:00 to {shown(value)}.")


def nearest(value: str, options: Iterable[str], what: str) -> str:
    """``value`` if it is one of ``options``; else InvalidInput that proposes the nearest."""
    known = [str(option) for option in options]
    if value in known:
        return value
    near = get_close_matches(value, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}."
    raise InvalidInput(f"Unknown {what} {shown(value)}: {hint}")


def host_and_port(value: str, option: str) -> tuple[str, int]:
    """``127.0.0.1:9200`` as an address and a port."""
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65_536):
        raise InvalidInput(f"{option} must be HOST:PORT such as 127.0.0.1:9200, not {shown(value)}.")
    return host, int(port)


def actor(value: str, authority: "Authority") -> "Actor":
    """``support``: whoever runs the command, in that role; ``owner:ann@acme.test``: who is signed in at a portal."""
    from lifecycle.actor import Actor, Role

    word, colon, address = value.partition(":")
    role = Role(nearest(word.strip().lower(), Role, "role"))
    if role is Role.OWNER:
        if not address.strip():
            raise InvalidInput("--as owner needs the address of the owner who is signed in: --as owner:ann@acme.test.")
        return Actor.owner(address)
    if colon and role is not Role.SYSTEM:
        raise InvalidInput(
            f"--as takes a role and no id, since the id comes from who runs the command, {authority.principal}: "
            f"write --as {role}."
        )
    return Actor(role, authority.principal.name)
