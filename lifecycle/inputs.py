"""Text that comes from outside: one grammar for ids, addresses and free text, refused with the reason."""

import re
import unicodedata

from lifecycle.errors import InvalidInput

#: Letters, digits, ``. _ : -``; begins with a letter or digit; at most 64 characters.
ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
#: One ``@`` with something on both sides and no white space: whether it exists, only a mail can tell.
EMAIL = re.compile(r"[^@\s<>\"',;]+@[^@\s<>\"',;]+")
LONGEST_TEXT = 1000
LONGEST_EMAIL = 254


def account_id(value: object) -> str:
    """A well-formed account id, or :class:`InvalidInput`."""
    if not isinstance(value, str) or not ACCOUNT_ID.fullmatch(value):
        raise InvalidInput(
            f"The account id {_shown(value)} is malformed: use up to 64 letters, digits and . _ : - "
            "that begin with a letter or digit."
        )
    return value


def email(value: object) -> str:
    """An e-mail address without surrounding white space, or :class:`InvalidInput`."""
    address = text(value, "email") or ""
    if len(address) > LONGEST_EMAIL or not EMAIL.fullmatch(address):
        raise InvalidInput(f"The e-mail address {_shown(value)} is malformed: use one such as ann@example.com.")
    return address


def text(value: object, name: str) -> str | None:
    """Free text without surrounding white space; blank is None.

    Control characters and marks that turn the direction of writing are refused, since they change
    what a reader sees; so is text longer than 1,000 characters.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be text, not {_shown(value)}.")
    if len(value) > LONGEST_TEXT:
        raise InvalidInput(f"{name} is longer than {LONGEST_TEXT} characters; shorten it.")
    stripped = value.strip()
    if stripped.isascii() and stripped.isprintable():
        return stripped or None
    for character in stripped:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise InvalidInput(f"{name} holds the control character U+{ord(character):04X}; remove it and try again.")
    return stripped or None


def required(value: object, name: str) -> str:
    """Free text that must not be blank."""
    result = text(value, name)
    if result is None:
        raise InvalidInput(f"{name} must not be blank.")
    return result


def _shown(value: object) -> str:
    """At most 80 characters of the value, with everything unprintable escaped."""
    shown = ascii(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
