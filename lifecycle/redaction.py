"""Personal data taken out of what is kept or logged: fields by their names, addresses wherever they stand.

The last line of defence, for text that others wrote: a handler's answer, an error of a library. What the
engine itself writes holds ids in the first place.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from typing import Any

#: What stands in the place of what was taken out.
REMOVED = "[removed]"
#: Names of fields that hold personal data or secrets, whatever is in them; ``-`` and case make no difference.
PERSONAL = frozenset(
    (
        *("company", "email", "email_key", "emails", "owners", "people", "address", "addresses", "recipients"),
        *("reason", "stated_reason", "payload", "phone", "ip", "user_agent"),
        *("key", "api_key", "token", "secret", "secrets", "password", "authorization", "cookie"),
    )
)
#: A word around an ``@`` (or how URLs write it). Begins where a word does, so that no text takes long to search. An
#: id of 32 hexadecimal digits is a machine's, as in a Message-ID.
_WORD = r"[\w.!#$%&'*+/=?^`{|}~-]"
_ADDRESS = re.compile(rf"(?<!{_WORD})(?![0-9a-f]{{32}}@){_WORD}+(?:(?:@|%40){_WORD}+)+", re.IGNORECASE)


def masked(text: str) -> str:
    """The text with a mark in the place of everything that looks like an e-mail address."""
    return _ADDRESS.sub(REMOVED, text) if "@" in text or "%40" in text else text


def without(values: Iterable[object], text: str) -> str:
    """The text with a mark in the place of each of these values, as it is and as JSON writes it, in any case."""
    forms = {form for value in values if isinstance(value, str) and value for form in _forms(value)}
    low = text.lower()
    forms = {form for form in forms if form.lower() in low}  # nearly always none: to compile a pattern takes longer
    if not forms:
        return text
    longest_first = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{longest_first})(?!\w)", REMOVED, text, flags=re.IGNORECASE)


def _forms(value: str) -> tuple[str, ...]:
    """A text as it is, and as JSON writes it."""
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return (value,)  # nearly always: the two are the same
    return value, json.dumps(value)[1:-1]


def redacted(value: Any) -> Any:
    """The value without personal data: fields of :data:`PERSONAL` names at any depth, and addresses in all text."""
    if isinstance(value, str):
        return masked(value)
    if value is None or isinstance(value, int | float | date | timedelta):
        return value
    if isinstance(value, Mapping):
        return {_masked_name(name): redacted_field(name, item) for name, item in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray):
        return [redacted(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: redacted_field(field.name, getattr(value, field.name)) for field in fields(value)}
    return masked(str(value))


def redacted_field(name: object, value: Any) -> Any:
    """What stands under a name, without personal data."""
    if value is not None and isinstance(name, str) and name.lower().replace("-", "_") in PERSONAL:
        return REMOVED
    return redacted(value)


def _masked_name(name: object) -> object:
    return masked(name) if isinstance(name, str) else name
