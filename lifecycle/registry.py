"""The handlers that a configuration names: which kinds there are, and how a table of it becomes one of them.

A table names its kind by the kind's own key: ``command = […]``, ``storage = "s3://bucket/customers"``. Several tables
for one effect are several handlers, each with a name; ``notices`` stands for every effect that tells the owners
something.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from lifecycle import inputs
from lifecycle.characters import shown
from lifecycle.errors import InvalidInput
from lifecycle.policy import Policy, duration_words
from lifecycle.settings import (
    read_count,
    read_duration,
    read_path,
    read_secret,
    read_switch,
    read_table,
    read_text,
    refuse_unknown,
)
from lifecycle.states import DESTRUCTIVE, NOTICES, Effect
from lifecycle.task import DeliverySettings, Handler

#: Reads a value of the configuration; is given its name and the folder of the file.
Reader = Callable[[Any, str, Path], Any]
#: A table of this name is for all of :data:`NOTICES` that have none of their own.
GROUP = "notices"


def _program(value: Any, name: str, folder: Path) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise InvalidInput(f'{name} must be a list such as ["/path/program", "argument"], not {shown(value)}.')
    program, *arguments = value
    return [str((folder / program).absolute()) if "/" in program else program, *arguments]


def _secrets(value: Any, name: str, folder: Path) -> list[str]:
    return [read_secret(one, name) for one in (value if isinstance(value, list) else [value])]


def _tables(value: Any, name: str, folder: Path) -> dict[str, str]:
    """Tables and the columns that hold the account's id, in the order in which they are erased."""
    if not isinstance(value, dict) or not value:
        raise InvalidInput(f'{name} must name tables and their columns, such as {{ "orders" = "account_id" }}.')
    return {read_text(key, name): read_text(column, f"{name}.{key}") for key, column in value.items()}


def _options(value: Any, name: str, folder: Path) -> dict[str, Any]:
    return {
        key: read_secret(one, f"{name}.{key}") if isinstance(one, str) else one
        for key, one in read_table(value, name).items()
    }


def _anywhere(read: Callable[[Any, str], Any]) -> Reader:
    """A reader of what does not depend on where the file is."""
    return lambda value, name, folder: read(value, name)


_TEXT, _COUNT = _anywhere(read_text), _anywhere(read_count)
_DURATION, _SWITCH, _SECRET = _anywhere(read_duration), _anywhere(read_switch), _anywhere(read_secret)


@dataclass(frozen=True)
class Kind:
    """A kind of handler: the class that does it, how its own key and its other keys are read, and what it is for."""

    module: str
    factory: str
    main: Reader
    settings: Mapping[str, Reader]
    required: tuple[str, ...] = ()
    extra: str | None = None
    #: Effects that it may be named for.
    effects: tuple[Effect, ...] = tuple(Effect)
    #: It calls itself by the table's name in its receipts.
    named: bool = False
    #: What it is made with besides.
    given: Mapping[str, Any] = field(default_factory=dict)


_MAIL = tuple(effect for effect in Effect if effect not in DESTRUCTIVE)
KINDS: Mapping[str, Kind] = {
    "command": Kind("command", "Command", _program, {"timeout": _DURATION}),
    "storage": Kind(
        "storage", "Storage", _TEXT,
        {"prefix": _TEXT, "options": _options, "batch": _COUNT, "timeout": _DURATION},
        required=("prefix",), extra="storage", effects=DESTRUCTIVE, named=True,
    ),
    "sql": Kind(
        "sql", "Sql", _SECRET, {"tables": _tables, "chunk": _COUNT, "pause": _DURATION},
        required=("tables",), effects=DESTRUCTIVE, named=True,
    ),
    "webhook": Kind(
        "webhook", "Webhook", _TEXT,
        {
            "secrets": _secrets, "timeout": _DURATION, "allow_http": _SWITCH, "allow_private": _SWITCH,
            "ca_file": read_path,
        },
        required=("secrets",), extra="webhook",
    ),
    "email": Kind(
        "email", "Email", _TEXT,
        {
            "sender": _TEXT, "product": _TEXT, "port": _COUNT, "user": _TEXT, "password": _SECRET, "tls": _TEXT,
            "templates": read_path, "staff": _TEXT, "support": _TEXT,
            "timeout": _DURATION, "ca_file": read_path,
        },
        required=("sender", "product"), extra="email", effects=_MAIL,
        given={"policy": Policy().as_text()},  # so that templates are tried at once; the engine brings the one it keeps
    ),
}  # fmt: skip


def handlers_of(content: Mapping[str, Any], folder: Path, delivery: DeliverySettings) -> dict[Effect, Any]:
    """What ``[handlers]`` says: per effect a handler, or several by their names."""
    refuse_unknown(content, (*Effect, GROUP), "[handlers]", "effect")
    said = {Effect(name): value for name, value in content.items() if name != GROUP}
    if GROUP in content:
        said = {**dict.fromkeys(NOTICES, content[GROUP]), **said}
    made: dict[int, Any] = {}  # a table for several effects is one handler: it may keep a connection
    for effect, value in said.items():
        if id(value) not in made:
            where = f"handlers.{GROUP if value is content.get(GROUP) else effect}"
            made[id(value)] = _several(value, where, effect, folder, delivery)
    return {effect: made[id(value)] for effect, value in said.items()}


def _several(value: Any, where: str, effect: Effect, folder: Path, delivery: DeliverySettings) -> Any:
    if not isinstance(value, list):
        return _handler(read_table(value, where), where, effect, folder, delivery)
    several: dict[str, Handler] = {}
    for number, one in enumerate(value, start=1):
        here = f"{where}[{number}]"
        name = inputs.reference(read_text(read_table(one, here).get("name"), f"{here}.name"), f"{here}.name")
        if name in several:
            raise InvalidInput(f"{here}.name: {name} is taken; receipts are kept by these names.")
        several[name] = _handler(one, here, effect, folder, delivery)
    if not several:
        raise InvalidInput(f"{where} names no handler; leave it out, or name one.")
    return several


def _handler(said: Mapping[str, Any], where: str, effect: Effect, folder: Path, delivery: DeliverySettings) -> Handler:
    kinds = [kind for kind in KINDS if kind in said]
    if not kinds:
        refuse_unknown(said, (*KINDS, "name"), f"[{where}]", "key")
    if len(kinds) != 1:
        raise InvalidInput(f"[{where}] must say by one of these keys what it is: {', '.join(KINDS)}.")
    (name,) = kinds
    kind = KINDS[name]
    refuse_unknown(said, (name, "name", *kind.settings), f"[{where}]", "key")
    if effect not in kind.effects:
        raise InvalidInput(f"[{where}]: {name} is not for {effect}; it is for {', '.join(kind.effects)}.")
    missing = [setting for setting in kind.required if setting not in said]
    if missing:
        raise InvalidInput(f"[{where}] lacks {' and '.join(missing)}.")
    settings = {key: read(said[key], f"{where}.{key}", folder) for key, read in kind.settings.items() if key in said}
    if kind.named and "name" in said:
        settings["name"] = read_text(said["name"], f"{where}.name")
    return _made(kind, kind.main(said[name], f"{where}.{name}", folder), settings, where, delivery)


def _made(kind: Kind, main: Any, settings: dict[str, Any], where: str, delivery: DeliverySettings) -> Handler:
    try:
        factory = getattr(import_module(f"lifecycle.handlers.{kind.module}"), kind.factory)
    except ModuleNotFoundError as error:
        raise InvalidInput(f"[{where}] needs its libraries: pip install 'account-lifecycle[{kind.extra}]'.") from error
    try:
        handler: Handler = factory(main, **kind.given, **settings)
    except InvalidInput as error:
        raise InvalidInput(f"[{where}]: {error}") from error
    timeout = getattr(handler, "timeout", timedelta(0))
    # A claim that lapses while its handler still works would hand the same task to a second one.
    if timeout > delivery.lease / 2:
        raise InvalidInput(
            f"{where}.timeout ({duration_words(timeout)}) must be at most half of delivery.lease "
            f"({duration_words(delivery.lease)}); lengthen the lease."
        )
    return handler
