"""What a comparison and an impact found out, made ready for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lifecycle.policy import duration_words


@dataclass(frozen=True)
class Block:
    """A heading with lines of text, a table, or both; ``heads`` are the columns of ``rows``."""

    title: str
    lines: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()


#: Titles of what a comparison or an impact consists of, by where it stands in it.
_TITLES = {
    "deadlines": "When what happens, counted from the opening of the account",
    "edges": "Ways that appear or vanish",
    "losses": "Who loses access or content, within so many days",
    "timers": "Timers that differ",
}
#: Columns by other names than their keys, and those that the page shows elsewhere or not at all.
_HEADS = {
    "kind": "Kind of account",
    "old": "In force",
    "new": "Candidate",
    "shift": "For customers",
    "before": "In force",
    "after": "Candidate",
    "only_before": "Only in force",
    "only_after": "Only candidate",
}
_LEFT_OUT = ("changed", "values", "doc", "clause", "seconds")
#: What the page says in its head.
_SAID = ("at", "old", "new", "in_force", "candidate")


def blocks(title: str, found: Any) -> list[Block]:
    """Plain data as blocks: a list of mappings is a table, a mapping of plain values too, anything else is lines.

    Rows that say that nothing changes are left out, and so is what is empty.
    """
    if isinstance(found, Mapping):
        shown = {key: value for key, value in found.items() if key not in _LEFT_OUT}
        nested = [(key, value) for key, value in shown.items() if isinstance(value, Mapping | list | tuple)]
        plain = [(k, v) for k, v in shown.items() if (k, v) not in nested and k not in _SAID]
        made = [Block(title, heads=("What", "Value"), rows=tuple((words(k), cell(v)) for k, v in plain))]
        return (made if plain else []) + [one for key, value in nested for one in blocks(_titled(key), value)]
    if not isinstance(found, Sequence) or isinstance(found, str):
        return [Block(title, lines=(str(found),))]
    if not found or not all(isinstance(one, Mapping) for one in found):
        return [Block(title, lines=tuple(map(str, found)))] if found else []
    if {"kind", "event", "old", "new"} <= set(found[0]):
        return [_calendar(title, found)]
    rows = [one for one in found if one.get("shift") != "same" and one.get("changed", 1)]
    keys = tuple(key for key in dict.fromkeys(key for one in found for key in one) if key not in _LEFT_OUT)
    heads = tuple(_HEADS.get(key, words(key).capitalize()) for key in keys)
    cells = tuple(tuple(cell(one.get(key)) for key in keys) for one in rows)
    return [Block(title, heads=heads, rows=cells) if cells else Block(title, lines=("Nothing changes.",))]


def _calendar(title: str, found: Sequence[Mapping[str, Any]]) -> Block:
    """A row for each kind of account for which something changes, a column for each event."""
    changed = [one for one in found if one["old"] != one["new"]]
    kinds, events = (tuple(dict.fromkeys(one[key] for one in changed)) for key in ("kind", "event"))
    cells = {(one["kind"], one["event"]): one for one in found}

    def said(kind: str, event: str) -> str | None:
        one = cells.get((kind, event))
        if one is None or one["old"] is one["new"] is None:
            return None
        old, new = ("never" if at is None else str(cell(at)) for at in (one["old"], one["new"]))
        return old if old == new else f"{old} → {new}"

    rows = tuple((kind, *(said(kind, event) for event in events)) for kind in kinds)
    return Block(title, heads=("Kind of account", *events), rows=rows)


def _titled(key: str) -> str:
    return _TITLES.get(key, words(key))


def cell(value: Any) -> Any:
    """A value as a cell shows it; numbers stay numbers."""
    if isinstance(value, timedelta):
        return duration_words(value)
    if isinstance(value, datetime):
        return f"{value:%-d %b %Y, %H:%M} UTC"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value


def words(key: object) -> str:
    """A key of JSON as people write it."""
    return str(key).replace("_", " ")
