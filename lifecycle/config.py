"""The configuration file: one TOML file with the policy, the handlers and how hard the outbox tries.

::

    [policy]                        # every setting that `lifecycle policy show` names
    deletion_after = "45 days"

    [handlers.delete_content]       # an effect; what is not named here is logged, or waits if it destroys
    command = ["/usr/local/bin/erase", "--verbose"]
    timeout = "4 minutes"

    [delivery]
    attempts = 8

It is read strictly: whatever is unknown or malformed raises, and the message names the key.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lifecycle.errors import InvalidInput
from lifecycle.policy import ENVIRONMENT_PREFIX, Policy, duration_words, parse_duration
from lifecycle.states import Effect
from lifecycle.task import DeliverySettings, Handler

_TABLES = ("policy", "handlers", "delivery")
_HANDLER_KEYS = ("command", "timeout")


@dataclass(frozen=True)
class Config:
    """What a configuration file says. ``policy`` is None where neither file nor environment states one:
    then the policy that the database keeps stays in force.
    """

    policy: Policy | None = None
    handlers: dict[Effect, Handler] = field(default_factory=dict)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in the file at ``path``, with the policy settings of ``environment`` over it.

    Programs with a relative path are looked up beside the file. Raises :class:`PolicyError` or
    :class:`InvalidInput` that name the file or the key.
    """
    environment = os.environ if environment is None else environment
    content = {} if path is None else _read(path)
    folder = Path() if path is None else path.parent
    _known(content, _TABLES, "the configuration", "table")
    delivery = _delivery(_table(content, "delivery"))
    return Config(
        _policy(_table(content, "policy") if "policy" in content else None, environment),
        _handlers(_table(content, "handlers"), folder, delivery),
        delivery,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"The configuration {path} can't be read: {error.strerror}; check --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The configuration {path} is not TOML: {error}; correct it there.") from error


def _policy(table: Mapping[str, Any] | None, environment: Mapping[str, str]) -> Policy | None:
    overrides = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    if table is None and not overrides:
        return None
    return Policy.from_mapping({**(table or {}), **overrides})


def _handlers(table: Mapping[str, Any], folder: Path, delivery: DeliverySettings) -> dict[Effect, Handler]:
    _known(table, Effect, "[handlers]", "effect")
    return {Effect(name): _handler(_table(table, name, "handlers."), name, folder, delivery) for name in table}


def _handler(table: Mapping[str, Any], effect: str, folder: Path, delivery: DeliverySettings) -> Handler:
    where = f"handlers.{effect}"
    _known(table, _HANDLER_KEYS, f"[{where}]", "key")
    command = table.get("command")
    if not isinstance(command, list) or not command or not all(isinstance(word, str) and word for word in command):
        raise InvalidInput(f'{where}.command must be a list such as ["/path/program", "argument"], not {command!r}.')
    program, *arguments = command
    if "/" in program:
        program = str((folder / program).absolute())
    timeout = _duration(table.get("timeout", "60 seconds"), f"{where}.timeout")
    # A claim that lapses while its handler still works would hand the same task to a second one.
    if timeout > delivery.lease / 2:
        raise InvalidInput(
            f"{where}.timeout ({duration_words(timeout)}) must be at most half of delivery.lease "
            f"({duration_words(delivery.lease)}); lengthen the lease."
        )
    from lifecycle.handlers.command import Command

    return Command([program, *arguments], timeout)


def _delivery(table: Mapping[str, Any]) -> DeliverySettings:
    defaults = {setting.name: setting.default for setting in fields(DeliverySettings)}
    _known(table, defaults, "[delivery]", "key")
    values: dict[str, Any] = {}
    for name, value in table.items():
        parse = _duration if isinstance(defaults[name], timedelta) else _count
        values[name] = parse(value, f"delivery.{name}")
    settings = DeliverySettings(**values)
    if settings.first_wait > settings.longest_wait:
        raise InvalidInput(
            f"delivery.first_wait ({duration_words(settings.first_wait)}) must not exceed "
            f"delivery.longest_wait ({duration_words(settings.longest_wait)}); change one of them."
        )
    return settings


def _duration(value: Any, name: str) -> timedelta:
    duration = parse_duration(value, name)
    if not timedelta(0) < duration <= timedelta(days=365):
        raise InvalidInput(f"{name} must lie between 1 second and 365 days, not {value!r}.")
    return duration


def _count(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= 100_000:
        raise InvalidInput(f"{name} must be a whole number between 1 and 100,000, not {value!r}.")
    return value


def _table(content: Mapping[str, Any], name: str, prefix: str = "") -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise InvalidInput(f"{prefix}{name} must be a table: [{prefix}{name}].")
    return table


def _known(content: Mapping[str, Any], known: Iterable[str], where: str, what: str) -> None:
    """Refuse names that are not ``known``, with the nearest that is."""
    names = [str(name) for name in known]
    for name in content:
        if name not in names:
            raise InvalidInput(f"Unknown {what} {name!r} in {where}: {_hint(name, names)}")


def _hint(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    if name in {setting.name for setting in fields(Policy)}:
        return "it is a policy setting; put it below [policy]."
    return f"choose from {', '.join(names)}."
