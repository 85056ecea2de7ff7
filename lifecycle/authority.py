"""Who runs this process, which roles they have, and whether an actor that code names is them."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta

from lifecycle.actor import Actor, Role, known
from lifecycle.characters import shown
from lifecycle.errors import InvalidInput, NotAuthorised

#: The roles that settings give.
HELD = (Role.SUPPORT, Role.ADMIN, Role.BILLING, Role.AUDITOR, Role.PORTAL)
#: Those of them that may change something.
ACTING = (Role.SUPPORT, Role.ADMIN, Role.BILLING, Role.PORTAL)
#: Kinds of principal: a user of the operating system, or the holder of an API key.
USER, KEY = "user", "key"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who runs a process: ``user:sue`` by the operating system, ``key:helpdesk`` by an API key."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True)
class TwoPerson:
    """What takes two people: one asks, another approves within ``expires_after``.

    ``fire_many_from`` is the number of accounts from which on a bulk change does, 0 for never. ``change_access`` is
    for changes of these very rules, of the roles and of the keys, wherever somebody else is there to approve them.
    """

    brake_release: bool = True
    shorten_policy: bool = True
    change_access: bool = True
    fire_many_from: int = 100
    expires_after: timedelta = timedelta(hours=24)


@dataclass(frozen=True)
class Authority:
    """What an engine was opened with: a principal, their ``roles``, the two-person ``rules``, and where it is from.

    ``settings`` is the text of the settings that it was derived from, which the database must keep; None where the
    code that opened the engine states it, and is believed.
    """

    principal: Principal
    roles: frozenset[Role]
    rules: TwoPerson = field(default_factory=TwoPerson)
    source: str = "the code that opened the engine"
    settings: str | None = None

    def actor(self, role: Role) -> Actor:
        """The principal in one of their roles; :class:`NotAuthorised` for a role that they don't have."""
        actor = Actor(role, self.principal.name)
        self.check(actor)
        return actor

    def acting(self, roles: Collection[Role]) -> Actor:
        """The principal in the first of ``roles`` that they have; :class:`NotAuthorised` if it is none of them."""
        self.require(roles)
        return self.actor(next(role for role in roles if role in self.roles))

    def require(self, roles: Collection[Role]) -> None:
        """Raise :class:`NotAuthorised` unless the principal has one of ``roles``."""
        if self.roles.isdisjoint(roles):
            wanted = " or ".join(roles)
            raise NotAuthorised(f"{self.principal} is refused:", (f"This takes the role {wanted}; {self._has()}.",))

    def check(self, actor: Actor) -> None:
        """Raise :class:`NotAuthorised` unless ``actor`` is the principal, in a role that they have.

        Whoever has the role ``portal`` may name any owner.
        """
        needed = Role.PORTAL if actor.role is Role.OWNER else actor.role
        if needed not in self.roles:
            who = "owners who are signed in" if actor.role is Role.OWNER else actor.role
            speaks = f"To act as {who} takes the role {needed}; {self._has()}."
            raise NotAuthorised(f"{self.principal} is refused:", (speaks,))
        if actor.role is not Role.OWNER and actor.id != self.principal.name:
            raise NotAuthorised(
                f"{self.principal} is refused:", (f"The actor named is somebody else than {self.principal}.",)
            )

    def _has(self) -> str:
        held = [role for role in HELD if role in self.roles]
        return f"{self.principal} has {', '.join(held) if held else 'no role'}"


def vouched(authority: Authority | None, actor: Actor) -> Actor:
    """The actor that code names, if it may: nobody may be the system, and with an authority only its principal.

    Every actor that a caller gives goes through here.
    """
    try:
        role = Role(actor.role)  # a bare word must not slip past a comparison with the member
    except ValueError:
        raise InvalidInput(f"Unknown role {shown(actor.role)}; the roles are {', '.join(Role)}.") from None
    if role is Role.SYSTEM:
        raise NotAuthorised("The actor is refused:", ("Nobody can act as the system: only timers do.",))
    named = known(replace(actor, role=role))
    if authority is not None:
        authority.check(named)
    return named
