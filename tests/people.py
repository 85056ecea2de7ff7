"""People for the tests: programs with keys of their own, since a test can't become another user of the system."""

import os
import pwd
from collections.abc import Iterable, Mapping
from pathlib import Path

from typer.testing import CliRunner, Result

from lifecycle.access import hash_of
from lifecycle.actor import Role
from lifecycle.authority import HELD, Authority, Principal, TwoPerson
from lifecycle.cli import app

#: The user of the operating system who runs the tests.
ME = pwd.getpwuid(os.geteuid()).pw_name
#: Who has which role wherever :func:`settings` is used; eve has none.
ROLES = {"sue": ("support",), "ada": ("admin",), "bob": ("admin",), "amy": ("auditor",), "web": ("portal",), "eve": ()}


def key_of(name: str) -> str:
    return f"lifecycle_the-key-of-{name}"


def settings(extra: str = "", roles: Mapping[str, Iterable[str]] = ROLES) -> str:
    """TOML in which each of them has a key and their roles."""
    keys = "".join(f'{name} = "{hash_of(key_of(name))}"\n' for name in roles)
    held = {role: [f"key:{name}" for name, has in roles.items() if role in has] for role in HELD}
    lines = "".join(f"{role} = {names}\n".replace("'", '"') for role, names in held.items() if names)
    return f"[api_keys]\n{keys}\n[roles]\n{lines}\n{extra}"


def run(name: str | None, *arguments: str, config: Path, url: str, code: int = 0) -> Result:
    """A command as one of them, or as the user who runs the tests."""
    environment = {"LIFECYCLE_API_KEY": None if name is None else key_of(name)}
    given = [*arguments, "--config", str(config)]
    given += [] if arguments[0] in ("whoami", "api-key", "version") else ["--database", url]
    result = CliRunner(env=environment).invoke(app, given, prog_name="lifecycle")
    assert result.exit_code == code, result.output
    return result


def authority(name: str, *roles: Role, rules: TwoPerson | None = None) -> Authority:
    """An authority as code states it."""
    return Authority(Principal("user", name), frozenset(roles), rules or TwoPerson())
