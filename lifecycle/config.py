"""The configuration file: one TOML file with the policy, the handlers, the outbox, the brake, and who may do what.

::

    [policy]                        # every setting that `lifecycle policy show` names
    deletion_after = "45 days"

    [handlers.delete_content]       # an effect; what is not named here is logged, or waits if it destroys
    command = ["/usr/local/bin/erase", "--verbose"]
    timeout = "4 minutes"

    [delivery]
    attempts = 8

    [encryption]                    # under what accounts' keys are wrapped
    current = "2031-01"
    keys = { "2031-01" = "env:LIFECYCLE_KEY" }

    [safety]                        # what holds destruction back
    accounts_per_day = 50
    share_per_day = 0.01
    outage = "72 hours"

    [requests]                      # how cancellations are asked for
    per_requester = 5
    token_lifetime = "48 hours"

    [audit]
    seal_every = "5 minutes"

    [roles]                         # who may do what; see :mod:`lifecycle.access`
    admin = ["user:root"]

It is read strictly: whatever is unknown or malformed raises, and the message names the key.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lifecycle import inputs
from lifecycle.access import TABLES as ACCESS_TABLES
from lifecycle.access import Access, read_access
from lifecycle.errors import InvalidInput
from lifecycle.policy import ENVIRONMENT_PREFIX, Policy, duration_words
from lifecycle.registry import handlers_of
from lifecycle.requesting import RequestSettings
from lifecycle.safety import Safety
from lifecycle.seal import AuditSettings
from lifecycle.settings import read_limit, read_path, read_secret, read_settings, read_table, read_text, refuse_unknown
from lifecycle.states import Effect
from lifecycle.task import DeliverySettings
from lifecycle.vault import KeyRing

_TABLES = ("policy", "handlers", "delivery", "safety", "requests", "audit", "encryption", *ACCESS_TABLES)


#: A setting is stated by the configuration file.
FILE = "file"


@dataclass(frozen=True)
class Config:
    """What a configuration file says. ``policy`` is None where neither file nor environment states one:
    then the policy that the database keeps stays in force.
    """

    policy: Policy | None = None
    #: Where each setting of the policy is stated: ``file``, or the variable's name. What is not in it has its default.
    policy_origins: Mapping[str, str] = field(default_factory=dict)
    handlers: dict[Effect, Any] = field(default_factory=dict)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    safety: Safety = field(default_factory=Safety)
    keys: KeyRing = field(default_factory=KeyRing)
    requests: RequestSettings = field(default_factory=RequestSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    access: Access = field(default_factory=Access)


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in the file at ``path``, with the policy settings of ``environment`` over it.

    Programs with a relative path are looked up beside the file. Raises :class:`PolicyError` or
    :class:`InvalidInput` that name the file or the key.
    """
    environment = os.environ if environment is None else environment
    content = {} if path is None else _read(path)
    folder = Path() if path is None else path.parent
    refuse_unknown(content, _TABLES, "the configuration", "table")
    tables = {name: read_table(content.get(name, {}), name) for name in _TABLES}
    delivery = _delivery(tables["delivery"])
    return Config(
        _policy(tables["policy"] if "policy" in content else None, environment),
        {**dict.fromkeys(tables["policy"], FILE), **{name: variable for variable, name in _overrides(environment)}},
        handlers_of(tables["handlers"], folder, delivery),
        delivery,
        _safety(tables["safety"], folder),
        _keys(tables["encryption"]),
        read_settings(RequestSettings, tables["requests"], "requests"),
        read_settings(AuditSettings, tables["audit"], "audit"),
        read_access({name: content[name] for name in ACCESS_TABLES if name in content}),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"The configuration {path} can't be read: {error.strerror}; check --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The configuration {path} is not TOML: {error}; correct it there.") from error


def _policy(table: Mapping[str, Any] | None, environment: Mapping[str, str]) -> Policy | None:
    overrides = {name: environment[variable] for variable, name in _overrides(environment)}
    if table is None and not overrides:
        return None
    return Policy.from_mapping({**(table or {}), **overrides})


def _overrides(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables that state a setting of the policy, each with the setting's name."""
    for variable in environment:
        if variable.startswith(ENVIRONMENT_PREFIX):
            yield variable, variable.removeprefix(ENVIRONMENT_PREFIX).lower()


def _delivery(table: Mapping[str, Any]) -> DeliverySettings:
    settings = read_settings(DeliverySettings, table, "delivery")
    if settings.first_wait > settings.longest_wait:
        raise InvalidInput(
            f"delivery.first_wait ({duration_words(settings.first_wait)}) must not exceed "
            f"delivery.longest_wait ({duration_words(settings.longest_wait)}); change one of them."
        )
    return settings


def _safety(table: Mapping[str, Any], folder: Path) -> Safety:
    ledger = partial(read_path, folder=folder)
    return read_settings(
        Safety, table, "safety", accounts_per_hour=read_limit, accounts_per_day=read_limit, ledger=ledger
    )


def _keys(table: Mapping[str, Any]) -> KeyRing:
    refuse_unknown(table, ("current", "keys"), "[encryption]", "key")
    if not table:
        return KeyRing()
    keys = {}
    for name, value in read_table(table.get("keys", {}), "encryption.keys").items():
        where = f"encryption.keys.{inputs.reference(name, 'In encryption.keys the name')}"
        keys[name] = KeyRing.read_key(read_secret(value, where), where)
    return KeyRing(keys, read_text(table.get("current"), "encryption.current"))
