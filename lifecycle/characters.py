"""Characters that are not what a reader sees, and how they are shown."""

import unicodedata

#: General categories of what steers instead of showing: controls and terminal escapes, marks of direction and
#: other formats without a shape, halves of surrogate pairs, ends of lines and paragraphs; and of what everybody sees
#: differently: private use, and what this version of Unicode does not know.
_STEERING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"))
#: Letters, marks and one symbol without a shape.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_NONSPACING = ("Mn", "Me")
#: Marks on one letter that a line has room for, after Unicode's UTS 39, section 5.4. No language needs more.
MARKS = 4
#: The longest quotation of a value in a message, in characters.
_SHOWN = 80


def is_plain(text: str) -> bool:
    """Whether it is ASCII that can be printed: nearly all text is, and has nothing below to fear."""
    return text.isascii() and text.isprintable()


def is_harmful(character: str) -> bool:
    """Whether a reader does not see the character, or sees the others differently for it."""
    return unicodedata.category(character) in _STEERING or character in _BLANK


def is_piled(text: str) -> bool:
    """Whether more than :data:`MARKS` marks stand on one letter, and so on the lines above and below."""
    run = 0
    for character in unicodedata.normalize("NFD", text):
        run = run + 1 if _is_mark(character) else 0
        if run > MARKS:
            return True
    return False


def escaped(text: str) -> str:
    r"""The text with everything harmful, and marks in piles, written as escapes such as ``\x1b`` or ``\u202e``."""
    if is_plain(text):
        return text
    piled = is_piled(text)
    return "".join(_written(c) if is_harmful(c) or (piled and _is_mark(c)) else c for c in text)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in _NONSPACING


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(value: object) -> str:
    """A value from outside as a message quotes it: in ASCII, with everything else as escapes, and short."""
    # Cut before it is escaped as well, since a megabyte would be escaped for the sake of its beginning.
    text = ascii(value[: _SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
