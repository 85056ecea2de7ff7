"""Text that comes from outside: a grammar each for ids, references, addresses and free text, refused with the reason.

An id names an account. A reference names what is neither an account nor a person's own words: whoever works
for us, a program, a ticket, a case. Both stand in clear in history and logs for ever, so neither has room for an
address or a sentence. Only addresses and free text are personal.
"""

import re
import unicodedata
from functools import cache

from lifecycle.characters import MARKS, is_harmful, is_piled, is_plain, shown
from lifecycle.errors import InvalidInput

#: Letters, digits, ``. _ : -``; begins with a letter or digit; at most 64 characters.
ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
#: Letters, digits, ``. _ : / + - \ #``; begins with a letter or digit.
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+\\#-]*")
LONGEST_REFERENCE = 64
#: Programs make the ids of requests, and join several of their own for it.
LONGEST_REQUEST_ID = 128
_ATOM, _LABEL = r"[\w!#$%&'*+/=?^`{|}~\x80-\U0010ffff-]+", r"[\w\x80-\U0010ffff-]+"
LONGEST_TEXT = 1000
LONGEST_EMAIL = 254


@cache
def _address() -> re.Pattern[str]:
    """A bare address (RFC 5322's dot-atoms, RFC 6531's letters): no quotes, comments, names or lists.

    Compiled when it is needed: with all of Unicode in it that takes longer than a short command has time for.
    """
    return re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


def account_id(value: object) -> str:
    """A well-formed account id, or :class:`InvalidInput`."""
    if not is_account_id(value):
        raise InvalidInput(
            f"The account id {shown(value)} is malformed: use up to 64 letters, digits and . _ : - "
            "that begin with a letter or digit."
        )
    return str(value)


def is_account_id(value: object) -> bool:
    """Whether an account can have this id."""
    return isinstance(value, str) and ACCOUNT_ID.fullmatch(value) is not None


def reference(value: object, name: str, longest: int = LONGEST_REFERENCE) -> str:
    """A reference without surrounding white space, or :class:`InvalidInput`; ``name`` says of what."""
    found = value.strip() if isinstance(value, str) else ""
    if len(found) > longest or not REFERENCE.fullmatch(found):
        raise InvalidInput(
            f"{name} {shown(value)} is malformed: use up to {longest} letters, digits and . _ : / + - \\ # that begin "
            "with a letter or digit. It stands in clear in history and logs, so it is no address and no sentence."
        )
    return found


def case(value: object) -> str | None:
    """The case of a legal hold, a reference; blank is None."""
    return None if _is_blank(value) else reference(value, "The case")


def request_id(value: object) -> str | None:
    """The id of a request, a reference; blank is None."""
    return None if _is_blank(value) else reference(value, "The request_id", LONGEST_REQUEST_ID)


def email(value: object) -> str:
    """An e-mail address without surrounding white space, or :class:`InvalidInput`."""
    address = value.strip() if isinstance(value, str) else ""
    if not is_email(address):
        raise InvalidInput(f"The e-mail address {shown(value)} is malformed: use one such as ann@example.com.")
    return address


def is_email(text: str) -> bool:
    """Whether the text is one bare address, all of whose characters are what they seem."""
    if len(text) > LONGEST_EMAIL or not _address().fullmatch(text):
        return False
    return is_plain(text) or not (any(map(_is_double, text)) or is_piled(text))


def _is_double(character: str) -> bool:
    """Whether Unicode takes the character for another one, or for white space, or nobody sees it.

    A full-width letter, a ligature, a long s, the sign of the kelvin: in an address they only serve to deceive.
    """
    canonical = unicodedata.normalize("NFD", character)
    alone = len(canonical) == 1 and canonical != character
    compatible = unicodedata.normalize("NFKD", character) != canonical
    return alone or compatible or is_harmful(character) or character.isspace()


def email_key(address: str) -> str:
    """An address as it is compared: without regard to case, and never the same for two that readers tell apart.

    Beyond ASCII only letters count as one whose cases lead to each other and back: ß is not ss.
    """
    bare = address.strip()
    if bare.isascii():
        return bare.lower()
    return "".join(map(_lowered, unicodedata.normalize("NFC", bare)))


def _lowered(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 and lower.upper() == character else character


def text(value: object, name: str) -> str | None:
    """Free text in any language, as it was written but for surrounding white space; blank is None.

    What a reader does not see as what it is is refused: control characters and terminal escapes, marks of direction,
    characters without a shape, of private use, or unknown to Unicode; letters under more than four marks;
    text longer than 1,000 characters.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be text, not {shown(value)}.")
    if len(value) > LONGEST_TEXT:
        raise InvalidInput(f"{name} is longer than {LONGEST_TEXT} characters; shorten it.")
    stripped = value.strip()
    if is_plain(stripped):
        return stripped or None
    for character in stripped:
        if is_harmful(character):
            kind = _KINDS.get(unicodedata.category(character), "invisible")
            raise InvalidInput(f"{name} holds the {kind} character U+{ord(character):04X}; remove it and try again.")
    if is_piled(stripped):
        raise InvalidInput(f"{name} piles more than {MARKS} marks on one letter; remove them and try again.")
    return stripped


_KINDS = {**dict.fromkeys(("Cc", "Cf", "Cs", "Zl", "Zp"), "control"), "Co": "private", "Cn": "unassigned"}


def required(value: object, name: str) -> str:
    """Free text that must not be blank."""
    result = text(value, name)
    if result is None:
        raise InvalidInput(f"{name} must not be blank.")
    return result


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
