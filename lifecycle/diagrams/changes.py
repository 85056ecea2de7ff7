"""What becomes of the lines of a picture under another policy: added, removed, sooner, later, or changed."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

from lifecycle.actor import Role
from lifecycle.diagrams.content import Line
from lifecycle.policy import WordedEnum

#: "30 days", "1 day 12 hours": the only part of a line that is shown as old → new; else two lines are.
_DURATION = re.compile(r"\d+ (?:day|hour|minute|second)s?(?: \d+ (?:hour|minute|second)s?)*")


#: What leads a line that is no longer said, and one that was not said before.
GONE, NEW = "\N{MINUS SIGN} ", "+ "


class Change(WordedEnum):
    """What may become of something that a picture says; ``text`` says it in the legend."""

    ADDED = "added", "added"
    REMOVED = "removed", "removed"
    SOONER = "sooner", "sooner"
    LATER = "later", "later"
    CHANGED = "changed", "changed otherwise"
    SAME = "same", "as before"


class Said(NamedTuple):
    """A line, and what became of it."""

    change: Change
    line: Line


def differences(before: Sequence[Line], after: Sequence[Line]) -> Iterator[Said]:
    """Every line of ``after`` in its order, and between them what was said ``before`` and no longer is.

    Lines that differ in durations alone are one line, with both: ``"30 days → 45 days after the cancellation"``.
    """
    each = [[one for line in lines for one in _for_each_role(line)] for lines in (before, after)]
    return _reunited(_differences(*each))


def _differences(before: Sequence[Line], after: Sequence[Line]) -> Iterator[Said]:
    matcher = SequenceMatcher(None, [*map(_key, before)], [*map(_key, after)], autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            for was, line in zip(before[a:b], after[c:d], strict=True):
                same = was.text == line.text
                yield Said(Change.SAME if same else Change.CHANGED, line._replace(text=inline(was.text, line.text)))
        else:
            yield from (Said(Change.REMOVED, line._replace(mark=GONE, struck=True)) for line in before[a:b])
            yield from (Said(Change.ADDED, line._replace(mark=NEW)) for line in after[c:d])


def _key(line: Line) -> tuple[str, tuple[Role, ...]]:
    """What lines have in common that differ in durations alone."""
    return _DURATION.sub("#", line.text), line.roles


def _for_each_role(line: Line) -> list[Line]:
    """What is said of several roles, said of each: one of them may come or go."""
    return [line._replace(roles=(role,)) for role in line.roles] or [line]


def _reunited(lines: Iterable[Said]) -> Iterator[Said]:
    """What became of several roles alike is one line again."""
    for (change, bare), alike in groupby(lines, key=lambda said: (said.change, said.line._replace(roles=()))):
        found = list(alike)
        roles = tuple(role for said in found for role in said.line.roles)
        yield from [Said(change, bare._replace(roles=roles))] if roles else found


def inline(was: str, text: str) -> str:
    """The text with its durations as old → new, where they are all that differs; else the text."""
    if _DURATION.sub("#", was) != _DURATION.sub("#", text):
        return text
    before = iter(_DURATION.findall(was))

    def both(found: re.Match[str]) -> str:
        old = next(before)
        return found[0] if found[0] == old else f"{old} → {found[0]}"

    return _DURATION.sub(both, text)


def overall(changes: Iterable[Change]) -> Change:
    """What becomes of a move whose lines become that: a line that comes or goes leaves the move a changed one.

    Sooner and later count more than what is changed otherwise, but not than who may.
    """
    kinds = set(changes) - {Change.SAME}
    if not kinds:
        return Change.SAME
    timed = kinds - {Change.CHANGED}
    return timed.pop() if len(timed) == 1 and timed <= {Change.SOONER, Change.LATER} else Change.CHANGED
