"""Values to the terminal or to JSON. Everything that comes from outside is escaped here.

What a customer typed long ago must not move the cursor, colour the screen or hide a line of whoever reads
it: control characters and marks that turn the direction of writing are shown as escapes, and rich's
own markup is off.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from itertools import islice
from os import environ
from typing import TYPE_CHECKING, Any

from lifecycle.characters import escaped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Columns where the output is no terminal and COLUMNS does not say otherwise.
WIDTH = 100
#: A table longer than this is hard to read and slow to lay out; ``--limit`` or ``--json`` gives more.
ROWS = 1000
#: The longest word that keeps its place in a table, in characters.
WORD = 32
#: The longest line of a message, in characters.
_LONGEST_LINE = 4000

# --- Escaping ------------------------------------------------------------------------------------


def clean(value: object) -> str:
    """The value as one line of text that does nothing to a terminal."""
    return escaped(_words(value))


def _words(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value)


# --- Consoles ------------------------------------------------------------------------------------


def console(*, stderr: bool = False) -> "Console":
    """A console that reads no markup and leaves a broken pipe to the caller."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in environ else WIDTH
    return Plain(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def say(*lines: str) -> None:
    """Lines for people on standard output."""
    for line in lines:
        print(clean(line))


def complain(message: str) -> None:
    """A message on standard error; its line breaks are kept, and lines without end are cut."""
    print("\n".join(clean(line[:_LONGEST_LINE]) for line in message.split("\n")), file=sys.stderr, flush=True)


# --- Tables --------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, heading: bool = True) -> "Table":
    """A table of escaped cells; whole numbers are aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=heading, header_style="bold")
    cells = list(rows)
    for number, column in enumerate(columns):
        numeric = bool(cells) and all(type(row[number]) is int for row in cells)
        # A word is not broken while it fits at all; what has spaces gives way first.
        longest = max((len(word) for row in cells for word in _words(row[number]).split()), default=0)
        made.add_column(
            Text(column), justify="right" if numeric else "left", overflow="fold", min_width=min(longest, WORD)
        )
    for row in cells:
        made.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    return made


def show(renderable: Any) -> None:
    """Print something of rich's on standard output, without the blanks that pad its lines."""
    screen = console()
    if screen.is_terminal:
        screen.print(renderable)
        return
    with screen.capture() as captured:
        screen.print(renderable)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def show_rows(columns: Sequence[str], rows: Iterable[Sequence[object]], nothing: str, limit: int | None = None) -> None:
    """A table of at most ``limit`` rows; ``nothing`` is said on standard error where there are none."""
    shown = ROWS if limit is None else limit
    remaining = iter(rows)
    first = list(islice(remaining, shown))
    if not first:
        complain(nothing)
        return
    show(table(columns, first))
    if next(remaining, None) is not None:
        complain(f"Only the first {shown:,} are shown; see more with --limit, or all with --json.")


def relative(at: datetime | None, now: datetime) -> str:
    """``in 30 days``, ``5 hours ago``, ``now``: the largest unit only, and 23 h 40 min are a day."""
    if at is None:
        return "-"
    seconds = abs(int((at - now).total_seconds()))
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count = (seconds + length // 24) // length
        if count:
            words = f"{count:,} {unit}{'s' if count != 1 else ''}"
            return f"in {words}" if at > now else f"{words} ago"
    return "now"


# --- JSON ----------------------------------------------------------------------------------------


def emit(value: Any) -> None:
    """``value`` as JSON on standard output. Iterators are streamed as lists, also as values of a mapping."""
    for piece in _pieces(value):
        sys.stdout.write(piece)
    sys.stdout.write("\n")


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Iterator):
        yield from _list_pieces(value)
    elif isinstance(value, Mapping) and any(isinstance(item, Iterator) for item in value.values()):
        opening = "{"
        for key, item in value.items():
            yield f"{opening}{_json(str(key))}: "
            yield from _pieces(item)
            opening = ",\n "
        yield "}"
    else:
        yield _json(value)


def _list_pieces(items: Iterator[Any]) -> Iterator[str]:
    opening = "["
    for item in items:
        yield opening + _json(item)
        opening = ",\n "
    yield "[]" if opening == "[" else "]"


def _json(value: Any) -> str:
    # ASCII only, so that JSON on a terminal is as harmless as a table; DEL is the one control left.
    return json.dumps(_plain(value)).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    """The value in JSON's own types: instants in ISO 8601 and UTC, durations as people write them."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        from lifecycle.policy import duration_words

        return duration_words(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return value
