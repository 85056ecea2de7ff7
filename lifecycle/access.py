"""The settings about who may do what, and the principal that runs this process.

::

    [roles]                         # who has which role; without this table whoever runs a command has all
    support = ["user:sue", "key:helpdesk"]
    admin = ["user:root"]

    [api_keys]                      # made by `lifecycle api-key helpdesk`
    helpdesk = "sha256:…"

    [two_person]                    # what one asks for and another approves; these are the defaults
    brake_release = true
    shorten_policy = true
    change_access = true
    fire_many_from = 100
    expires_after = "24 hours"

Nobody states who they are: a user is whom the operating system says, a program is whose key it holds.
"""

import hashlib
import hmac
import json
import os
import pwd
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from lifecycle.actor import Role
from lifecycle.authority import HELD, KEY, USER, Authority, Principal, TwoPerson
from lifecycle.characters import shown
from lifecycle.errors import InvalidInput, NotAuthorised
from lifecycle.policy import duration_words
from lifecycle.settings import read_limit, read_settings, read_table, read_text, refuse_unknown

TABLES = ("roles", "api_keys", "two_person")
#: The variable of the environment that holds a program's key.
KEY_VARIABLE = "LIFECYCLE_API_KEY"
_PREFIX = "lifecycle_"  # by which those who search for leaked secrets know a key
_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: A user by their name, where it can stand in the history; others go by their number.
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
EVERYBODY = "no [roles] are configured, so whoever can open the database and its configuration has every role"


@dataclass(frozen=True)
class Access:
    """Who has which role (``roles`` None: everybody has all), the hashes of keys by name, and the two-person rules."""

    roles: Mapping[Role, frozenset[Principal]] | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    rules: TwoPerson = field(default_factory=TwoPerson)

    def as_text(self) -> str:
        """The same text for the same settings; :func:`read_access` takes it as JSON."""
        rules = {n: duration_words(v) if isinstance(v, timedelta) else v for n, v in asdict(self.rules).items()}
        tables: dict[str, Any] = {"api_keys": dict(self.keys), "two_person": rules}
        if self.roles is not None:
            tables["roles"] = {role: sorted(map(str, held)) for role, held in self.roles.items()}
        return json.dumps(tables, sort_keys=True)

    @classmethod
    def from_text(cls, text: str | None) -> "Access":
        """What :meth:`as_text` wrote; None stands for no settings."""
        return cls() if text is None else read_access(json.loads(text))

    def authority(self, principal: Principal, source: str = "[roles] of the configuration") -> Authority:
        """What the principal may do under these settings."""
        text = self.as_text()
        if self.roles is None:
            return Authority(principal, frozenset(HELD), self.rules, EVERYBODY, text)
        roles = frozenset(role for role, held in self.roles.items() if principal in held)
        return Authority(principal, roles, self.rules, source, text)

    def admins(self) -> frozenset[Principal]:
        """Who is known to have the role admin."""
        return (self.roles or {}).get(Role.ADMIN, frozenset())

    def principal(self, environment: Mapping[str, str]) -> Principal:
        """Who runs this process: the holder of the key in the environment, or the operating system's user.

        A key that nobody has raises :class:`NotAuthorised`. Names of users that the environment states are not read.
        """
        key = environment.get(KEY_VARIABLE)
        if key is None:
            return _user()
        digest = hash_of(key)
        # All are compared, so that the time tells nothing.
        found = [name for name, known in self.keys.items() if hmac.compare_digest(known, digest)]
        if not found:
            raise NotAuthorised(
                "The API key is refused:",
                (f"The key in {KEY_VARIABLE} is not among [api_keys]; correct it, or unset it to be yourself.",),
            )
        return Principal(KEY, found[0])


def _user() -> Principal:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # in a container, as often as not
        name = ""
    return Principal(USER, name if _USER.fullmatch(name) else f"uid-{uid}")


def changed(kept: Access, wanted: Access) -> str:
    """What differs, entry by entry, for whoever is to approve it; of keys only the names."""
    before, after = json.loads(kept.as_text()), json.loads(wanted.as_text())
    words = []
    for table in TABLES:
        old, new = before.get(table, {}), after.get(table, {})
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                values = "" if table == "api_keys" else f" from {_shown(old.get(key))} to {_shown(new.get(key))}"
                words.append(f"{table}.{key}{values}")
    return "; ".join(words)


def _shown(value: Any) -> str:
    return ", ".join(value) or "nobody" if isinstance(value, list) else "nobody" if value is None else str(value)


# --- Keys ----------------------------------------------------------------------------------------


def new_key(name: str) -> tuple[str, str]:
    """A key of 256 random bits for a program of this name, and the hash of it that settings hold."""
    if not _NAME.fullmatch(name):
        raise _no_name(name)
    key = _PREFIX + secrets.token_urlsafe(_BYTES)
    return key, hash_of(key)


def _no_name(name: str) -> InvalidInput:
    return InvalidInput(f"{shown(name)} is no name for a key: use up to 64 letters, digits and . _ -")


def hash_of(key: str) -> str:
    """The hash of a key. It is random, so that no slow hash is needed."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


# --- Reading -------------------------------------------------------------------------------------


def read_access(tables: Mapping[str, Any]) -> Access:
    """The settings in the tables of a configuration; what is malformed raises :class:`InvalidInput`."""
    keys = _keys(read_table(tables.get("api_keys", {}), "api_keys"))
    roles = _roles(read_table(tables["roles"], "roles"), keys) if "roles" in tables else None
    stated = read_table(tables.get("two_person", {}), "two_person")
    return Access(roles, keys, read_settings(TwoPerson, stated, "two_person", fire_many_from=read_limit))


def _keys(table: Mapping[str, Any]) -> dict[str, str]:
    for name, value in table.items():
        if not _NAME.fullmatch(name):
            raise _no_name(name)
        if not _HASH.fullmatch(read_text(value, f"api_keys.{name}")):
            raise InvalidInput(
                f'api_keys.{name} must be the hash of a key, "sha256:…"; `lifecycle api-key {name}` makes both.'
            )
    if len(set(table.values())) < len(table):
        raise InvalidInput("Two names of [api_keys] have the same key; make a key for each.")
    return dict(table)


def _roles(table: Mapping[str, Any], keys: Mapping[str, str]) -> dict[Role, frozenset[Principal]]:
    refuse_unknown(table, HELD, "[roles]", "role")
    roles = {Role(role): frozenset(_principals(value, f"roles.{role}", keys)) for role, value in table.items()}
    if not roles.get(Role.ADMIN):
        raise InvalidInput("[roles] names no admin, and nobody could change it again; name one.")
    everybody = frozenset().union(*roles.values())
    twice = sorted(one.name for one in everybody if one.kind == USER and one.name in keys)
    if twice:
        raise InvalidInput(f"{twice[0]!r} is a user and a key, and the history could not tell which; rename the key.")
    return roles


def _principals(value: Any, name: str, keys: Mapping[str, str]) -> list[Principal]:
    if not isinstance(value, list):
        raise InvalidInput(f'{name} must be a list such as ["user:sue", "key:helpdesk"], not {shown(value)}.')
    found = []
    for said in value:
        kind, _, who = read_text(said, name).partition(":")
        if kind not in (USER, KEY) or not (_USER if kind == USER else _NAME).fullmatch(who):
            raise InvalidInput(f"{name} names {shown(said)}; write user:NAME or key:NAME.")
        if kind == KEY and who not in keys:
            raise InvalidInput(f"{name} names {said}, which has no key in [api_keys]; `lifecycle api-key {who}`.")
        found.append(Principal(kind, who))
    return found
