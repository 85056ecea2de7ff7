"""Who asks for a change."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lifecycle import inputs


class Role(StrEnum):
    """The kinds of actor. ``SYSTEM`` is for timers alone: no caller can claim it.

    ``AUDITOR`` reads and fires nothing. ``PORTAL`` is the program before which owners sign in: it speaks for them, as
    ``OWNER``, and fires nothing in its own name.
    """

    OWNER = "owner"
    SUPPORT = "support"
    ADMIN = "admin"
    BILLING = "billing"
    AUDITOR = "auditor"
    PORTAL = "portal"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """One who asks: a role, and the id that identifies them within it (an owner's id is their e-mail).

    Use the constructors below; timers act as :data:`SYSTEM`.
    """

    role: Role
    id: str

    def __str__(self) -> str:
        """As the history has it, except for owners, who stand there by their number."""
        return f"{self.role}:{self.id}"

    @classmethod
    def owner(cls, email: str) -> "Actor":
        return cls(Role.OWNER, email)

    @classmethod
    def support(cls, id: str) -> "Actor":
        return cls(Role.SUPPORT, id)

    @classmethod
    def admin(cls, id: str) -> "Actor":
        return cls(Role.ADMIN, id)

    @classmethod
    def billing(cls, id: str) -> "Actor":
        return cls(Role.BILLING, id)


SYSTEM = Actor(Role.SYSTEM, "timer")


def known(actor: Actor) -> Actor:
    """The actor with a well-formed id, an owner's e-mail address or else a reference, or :class:`InvalidInput`."""
    if actor.role is Role.OWNER:
        return Actor(actor.role, inputs.email(actor.id))
    return Actor(actor.role, inputs.reference(actor.id, f"The id of {actor.role}"))


#: Facts that no caller can give.
ENGINE_FACTS = frozenset(("receipt", "unclaimed", "confirmed_by"))


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks, and with which facts; :data:`ENGINE_FACTS` are for the engine alone to state.

    ``receipt`` is a handler's confirmation; ``unclaimed`` says that a destructive request exists which
    no handler has claimed yet; ``confirmed_by`` is the number of the owner who gave back the token of a mail.
    """

    actor: Actor
    reason: str | None = None
    company: str | None = None
    email: str | None = None
    period_ends_at: datetime | None = None
    case: str | None = None
    hold_ends_at: datetime | None = None
    owner: str | None = None
    receipt: str | None = None
    unclaimed: bool = False
    confirmed_by: int | None = None

    def __post_init__(self) -> None:
        for name in ("reason", "company", "email", "case", "owner", "receipt"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                object.__setattr__(self, name, None)  # blank is: not stated

    @property
    def role(self) -> Role:
        return self.actor.role
