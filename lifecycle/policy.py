"""The policy: every duration and switch that the lifecycle reads, with bounds, and the clauses it keeps.

A setting is written once, as a field of :class:`Policy`: its default, its bounds, the clause it
belongs to and the sentence that documents it. TOML files, environment variables, the reference and
the symbolic terms of the machine all read these fields.
"""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from lifecycle.characters import shown
from lifecycle.errors import PolicyError

#: ``LIFECYCLE_POLICY_DELETION_AFTER="45 days"`` sets ``deletion_after``.
ENVIRONMENT_PREFIX = "LIFECYCLE_POLICY_"

_UNITS = {"week": 604_800, "day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_DURATION = re.compile(r"(\d+)\s*(week|day|hour|minute|second)s?", re.IGNORECASE)


class WordedEnum(StrEnum):
    """Members with an id, which is their value, and a ``text`` for people."""

    text: str

    def __new__(cls, id: str, text: str = "") -> Self:
        member = str.__new__(cls, id)
        member._value_ = id
        member.text = text
        return member


class Clause(WordedEnum):
    """The promises of the published cancellation policy, by id; ``text`` paraphrases each."""

    OWNER_ONLY = "owner-only", "Only an account owner can have an account cancelled."
    UNKNOWN_OWNER = "unknown-owner", "When the owner is not known, the owners on file are contacted."
    ACCESS_TO_PERIOD_END = "access-to-period-end", "Access lasts to the end of the period that is paid."
    ACCESS_ENDS = "access-ends", "Once that period is over, there is no access."
    DELETE_30 = "delete-30", "Content leaves the servers 30 days after cancellation."
    PURGE_60 = "purge-60", "Content leaves the backups within 60 days."
    UNDO_30 = "undo-30", "A change of mind is possible in the first 30 days only."
    IRREVERSIBLE = "irreversible", "What was deleted cannot be brought back."
    NO_BILLING = "no-billing", "Nothing is billed after a cancellation; the running period stays owed."
    FAIR_REFUND = "fair-refund", "People look at a refund for long-unused accounts and just-begun periods."
    TRIAL_HOLD = "trial-hold", "A trial that is not upgraded in its 30 days is put on hold."
    HOLD_KEEPS_DATA = "hold-keeps-data", "Nothing is deleted while an account is on hold."
    HOLD_EXITS = "hold-exits", "On hold, the customer can upgrade or cancel at any time."
    COMPANY_TRIAL = "company-trial", "The company may cancel 30 days after a trial ran out."
    COMPANY_FROZEN = "company-frozen", "The company may cancel 180 days after a freeze for unpaid bills."
    COMPANY_FREE = "company-free", "The company may cancel a free account after 365 days without activity."
    COMPANY_ANY = "company-any", "The company may suspend or terminate any account at any time."
    EXPORT_FIRST = "export-first", "Customers can export their data before it is too late."


class DeletionClock(StrEnum):
    """From when the days until deletion are counted."""

    CANCELLATION = "cancellation"
    END_OF_ACCESS = "end_of_access"


class CompanyCancellation(StrEnum):
    """Whether the company's own cancellations fire by themselves or wait for an admin."""

    AUTOMATIC = "automatic"
    APPROVAL = "approval"


def _setting(default: Any, clause: Clause, doc: str, *, at_least: timedelta | None = None) -> Any:
    return field(default=default, metadata={"clause": clause, "doc": doc, "at_least": at_least})


def _days(count: int) -> timedelta:
    return timedelta(days=count)


_HOUR, _DAY, _WEEK = timedelta(hours=1), _days(1), _days(7)
#: No duration may exceed this: a slip of the keyboard must not put a deadline past every calendar.
LONGEST = _days(3650)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Durations and switches, checked on construction; out of bounds raises :class:`PolicyError`.

    Durations are :class:`~datetime.timedelta` or text such as ``"30 days"`` or ``"1 week 12 hours"``,
    switches are true or false, or these words.
    A day is 24 hours. ``version`` identifies the values.
    """

    trial_length: timedelta = _setting(_days(30), Clause.TRIAL_HOLD, "How long a trial lasts.", at_least=_DAY)
    trial_reminder: timedelta = _setting(
        _WEEK, Clause.TRIAL_HOLD, "How long before its end a trial is reminded.", at_least=_HOUR
    )
    expired_trial_cancellation_after: timedelta = _setting(
        _days(30), Clause.COMPANY_TRIAL, "Time on hold before the company cancels.", at_least=_WEEK
    )
    unpaid_cancellation_after: timedelta = _setting(
        _days(180), Clause.COMPANY_FROZEN, "Time frozen for billing before the company cancels.", at_least=_WEEK
    )
    inactive_cancellation_after: timedelta = _setting(
        _days(365), Clause.COMPANY_FREE, "Inactivity of a free account before the company cancels.", at_least=_WEEK
    )
    company_notice: timedelta = _setting(
        _days(14), Clause.EXPORT_FIRST, "Notice before a cancellation by the company.", at_least=_DAY
    )
    company_cancellation: CompanyCancellation = _setting(
        CompanyCancellation.AUTOMATIC, Clause.COMPANY_ANY, "Do company cancellations fire, or wait for an admin?"
    )
    access_reminder: timedelta = _setting(
        _WEEK, Clause.EXPORT_FIRST, "How long before its end access is reminded.", at_least=_HOUR
    )
    deletion_clock: DeletionClock = _setting(
        DeletionClock.CANCELLATION, Clause.DELETE_30, "Where the days until deletion start to count."
    )
    deletion_after: timedelta = _setting(
        _days(30), Clause.DELETE_30, "Time from the clock's start to deletion.", at_least=_WEEK
    )
    deletion_notice: timedelta = _setting(
        _WEEK, Clause.EXPORT_FIRST, "Notice before content is deleted.", at_least=_DAY
    )
    purge_after: timedelta = _setting(
        _days(60), Clause.PURGE_60, "Time from cancellation until backups are purged.", at_least=_WEEK
    )
    purge_after_deletion: timedelta = _setting(
        _days(29), Clause.PURGE_60, "Time that the backups are given after a late deletion.", at_least=_DAY
    )
    purge_lead: timedelta = _setting(
        _DAY, Clause.PURGE_60, "How long before its deadline the purge is requested.", at_least=_HOUR
    )
    hold_release_notice: timedelta = _setting(
        _WEEK, Clause.EXPORT_FIRST, "Wait between the release of a legal hold and destruction.", at_least=_DAY
    )
    activity_resolution: timedelta = _setting(
        timedelta(0),
        Clause.COMPANY_FREE,
        "Activity closer together than this is not written; the deadline is later by as much.",
        at_least=timedelta(0),
    )
    billing_silence: timedelta = _setting(
        _days(3),
        Clause.ACCESS_TO_PERIOD_END,
        "Silence of billing after a period before doctor reports.",
        at_least=_HOUR,
    )
    refund_unused: timedelta = _setting(
        _days(60), Clause.FAIR_REFUND, "Time without activity after which a refund is looked at.", at_least=_DAY
    )
    refund_new_period: timedelta = _setting(
        _days(3), Clause.FAIR_REFUND, "Age of a period up to which a refund is looked at.", at_least=_HOUR
    )
    cancellation_requires_confirmation: bool = _setting(
        False, Clause.OWNER_ONLY, "Must a cancellation asked of support be confirmed by an owner's mail?"
    )
    new_owner_wait: timedelta = _setting(
        _days(3),
        Clause.OWNER_ONLY,
        "How long a new owner needs an earlier one to confirm a cancellation.",
        at_least=_DAY,
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            object.__setattr__(self, setting.name, _checked(setting, getattr(self, setting.name)))
        for problem in _conflicts(vars(self)):
            raise PolicyError(problem)

    @cached_property
    def version(self) -> str:
        """Twelve hexadecimal digits that identify the values, the same on every machine."""
        return hashlib.sha256(json.dumps(self.as_text(), sort_keys=True).encode()).hexdigest()[:12]

    def as_text(self) -> dict[str, str]:
        """Every setting as people write it; ``Policy(**policy.as_text()) == policy``."""
        return {name: setting_words(value) for name, value in asdict(self).items()}

    @classmethod
    def load(cls, path: Path | str | None = None, environment: Mapping[str, str] | None = None) -> "Policy":
        """Defaults, overridden by the TOML file at ``path``, overridden by the environment.

        The file holds the settings at its top level or in a table ``[policy]``. Raises
        :class:`PolicyError` on an unreadable file, an unknown setting or a value out of bounds.
        """
        values = cls.stated(path) if path is not None else {}
        for name, value in (os.environ if environment is None else environment).items():
            if name.startswith(ENVIRONMENT_PREFIX):
                values[name.removeprefix(ENVIRONMENT_PREFIX).lower()] = value
        return cls.from_mapping(values)

    @staticmethod
    def stated(path: Path | str) -> dict[str, Any]:
        """What the TOML file at ``path`` states, unchecked: at its top level or in a table ``[policy]``."""
        return _read_toml(Path(path))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Policy":
        """A policy from names and values; raises :class:`PolicyError` with everything that is wrong with them."""
        if problems := cls.problems(values):
            raise PolicyError(*problems)
        return cls(**values)

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        """All that :meth:`from_mapping` could raise for these values, one sentence each; nothing for a policy.

        Settings are held against each other as far as each is right by itself; a wrong one counts as its default.
        """
        found = [*_unknown(values)]
        right: dict[str, Any] = {}
        for setting in fields(cls):
            right[setting.name] = setting.default
            try:
                right[setting.name] = _checked(setting, values.get(setting.name, setting.default))
            except PolicyError as error:
                found.append(str(error))
        return [*found, *_conflicts(right)]


#: A notice must fit into the time that it gives notice of, and the purge's lead into the time it has.
MUST_BE_SHORTER = (
    ("trial_reminder", "trial_length"),
    ("company_notice", "expired_trial_cancellation_after"),
    ("company_notice", "unpaid_cancellation_after"),
    ("company_notice", "inactive_cancellation_after"),
    ("deletion_notice", "deletion_after"),
    ("purge_lead", "purge_after_deletion"),
    ("deletion_after", "purge_after"),
)


def _unknown(values: Mapping[str, Any]) -> Iterator[str]:
    """The names that are no settings, each with the nearest that is."""
    known = [setting.name for setting in fields(Policy)]
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}."
            yield f"Unknown policy setting {shown(name)}: {hint}"


def _conflicts(values: Mapping[str, Any]) -> Iterator[str]:
    """What can't be together, of settings that are right each by itself."""
    words = {name: duration_words(value) for name, value in values.items() if isinstance(value, timedelta)}
    if values["access_reminder"] < values["deletion_notice"]:
        yield (
            f"access_reminder ({words['access_reminder']}) must not be shorter than deletion_notice "
            f"({words['deletion_notice']}): it serves as the notice where deletion follows closely."
        )
    for shorter, longer in MUST_BE_SHORTER:
        if values[shorter] >= values[longer]:
            yield f"{shorter} ({words[shorter]}) must be shorter than {longer} ({words[longer]}); change one of them."


def shortened(before: Policy, after: Policy) -> list[str]:
    """The settings by which ``after`` gives customers less time than ``before``, or has fewer people look."""
    hurried = {
        "deletion_clock": (DeletionClock.END_OF_ACCESS, DeletionClock.CANCELLATION),
        "company_cancellation": (CompanyCancellation.APPROVAL, CompanyCancellation.AUTOMATIC),
    }
    found = []
    for name in (setting.name for setting in fields(Policy)):
        was, will_be = getattr(before, name), getattr(after, name)
        if (was, will_be) == hurried[name] if name in hurried else will_be < was:
            found.append(name)
    return found


def _checked(setting: "Field[Any]", value: Any) -> Any:
    """The value as its setting's type, or :class:`PolicyError` that names the setting."""
    options = options_of(setting)
    if options:
        said = setting_words(value) if isinstance(value, bool) else value
        if said not in options:
            raise PolicyError(f"{setting.name} must be one of {', '.join(options)}, not {shown(value)}.")
        return options[said]
    value = parse_duration(value, setting.name)
    if value.microseconds:
        raise PolicyError(f"{setting.name} must be whole seconds, not {value}.")
    floor = setting.metadata["at_least"]
    if not floor <= value <= LONGEST:
        raise PolicyError(
            f"{setting.name} must lie between {duration_words(floor)} and {duration_words(LONGEST)}, "
            f"not {duration_words(value)}."
        )
    return value


def options_of(setting: "Field[Any]") -> dict[str, Any]:
    """What a switch may be, by the words for it; nothing for a duration."""
    if isinstance(setting.default, bool):
        return {setting_words(value): value for value in (False, True)}
    return {str(one): one for one in type(setting.default)} if isinstance(setting.default, StrEnum) else {}


def setting_words(value: Any) -> str:
    """The value of a setting as people write it: ``"30 days"``, ``"true"``, ``"automatic"``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return duration_words(value) if isinstance(value, timedelta) else str(value)


def parse_duration(value: Any, name: str) -> timedelta:
    """``"30 days"``, ``"1 week 12 hours"`` or a timedelta; else :class:`PolicyError` that names ``name``."""
    if isinstance(value, timedelta):
        return value
    text = value.strip() if isinstance(value, str) else ""
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise PolicyError(
            f"{name} must be a duration such as '30 days' or '1 week 12 hours', not {shown(value)}; "
            f"the units are {', '.join(_UNITS)}."
        )
    return timedelta(seconds=min(sum(int(n) * _UNITS[unit.lower()] for n, unit in parts), 10**11))


def duration_words(value: timedelta) -> str:
    """``timedelta(days=30)`` → ``"30 days"``, ``timedelta(hours=36)`` → ``"1 day 12 hours"``."""
    if value < timedelta(0):
        return f"minus {duration_words(-value)}"
    words = []
    rest = int(value.total_seconds())
    for unit in ("day", "hour", "minute", "second"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            words.append(f"{count} {unit}{'s' if count != 1 else ''}")
    return " ".join(words) or "0 days"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"The policy file {path} can't be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"The policy file {path} is not TOML: {error}.") from error
    table = content.get("policy", content)
    if not isinstance(table, dict):
        raise PolicyError(f"In {path}, policy must be a table: [policy].")
    return dict(table)
