"""Values of a configuration file: what is malformed raises, and the message names the key."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput
from lifecycle.policy import Policy, parse_duration

#: A secret that begins so is read from the environment.
ENVIRONMENT = "env:"


def read_text(value: Any, name: str) -> str:
    """Text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{name} must be text, not {shown(value)}.")
    return value


def read_secret(value: Any, name: str) -> str:
    """Text, or what the environment's variable ``env:NAME`` says."""
    said = read_text(value, name)
    if not said.startswith(ENVIRONMENT):
        return said
    variable = said.removeprefix(ENVIRONMENT)
    found = os.environ.get(variable)
    if not found:
        raise InvalidInput(f"{name} is to be read from {variable}, which the environment does not have; set it.")
    return found


def read_switch(value: Any, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be true or false, not {shown(value)}.")
    return value


def read_duration(value: Any, name: str) -> timedelta:
    """A duration in words, between a second and a year."""
    duration = parse_duration(value, name)
    if not timedelta(0) < duration <= timedelta(days=365):
        raise InvalidInput(f"{name} must lie between 1 second and 365 days, not {shown(value)}.")
    return duration


def read_count(value: Any, name: str, least: int = 1, most: int = 100_000) -> int:
    """A whole number."""
    if type(value) is not int or not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number between {least} and {most:,}, not {shown(value)}.")
    return value


def read_limit(value: Any, name: str) -> int:
    """A whole number of accounts, 0 among them."""
    return read_count(value, name, least=0, most=1_000_000_000)


def read_share(value: Any, name: str) -> float:
    """A part of a whole, from 0 to 1."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise InvalidInput(f"{name} must be a part of all accounts between 0 and 1, such as 0.01, not {shown(value)}.")
    return float(value)


def read_path(value: Any, name: str, folder: Path) -> Path:
    """A path; a relative one starts at ``folder``."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{name} must be a path, not {shown(value)}.")
    return (folder / value).absolute()


def read_table(value: Any, name: str) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must be a table: [{name}].")
    return value


Read = Callable[[Any, str], Any]
T = TypeVar("T")
#: How a setting is read, by the type of its default.
_BY_TYPE: Mapping[type, Read] = {
    bool: read_switch,
    int: read_count,
    float: read_share,
    timedelta: read_duration,
    type(None): read_text,
}


def read_settings(kind: type[T], table: Mapping[str, Any], name: str, **others: Read) -> T:
    """The settings of a dataclass as ``[name]`` states them, read by the types of their defaults, or by ``others``.

    What the table does not state keeps its default.
    """
    defaults = {setting.name: setting.default for setting in fields(kind)}  # type: ignore[arg-type]
    refuse_unknown(table, defaults, f"[{name}]", "key")
    readers = {key: others.get(key) or _BY_TYPE[type(default)] for key, default in defaults.items()}
    return kind(**{key: readers[key](value, f"{name}.{key}") for key, value in table.items()})


def refuse_unknown(content: Mapping[str, Any], known: Iterable[str], where: str, what: str) -> None:
    """Refuse names that are not ``known``, with the nearest that is."""
    names = [str(name) for name in known]
    for name in content:
        if name not in names:
            raise InvalidInput(f"Unknown {what} {shown(name)} in {where}: {_hint(name, names)}")


def _hint(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    if name in {setting.name for setting in fields(Policy)}:
        return "it is a policy setting; put it below [policy]."
    return f"choose from {', '.join(names)}."
