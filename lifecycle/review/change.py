"""What a candidate would change, as tables: what differs, and what becomes of the accounts that there are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifecycle.comparison import Comparison, Deadline, Shift, day
from lifecycle.machine import TIMERS
from lifecycle.review.standing import notice_words
from lifecycle.rows import timer_of
from lifecycle.states import Event, Step

if TYPE_CHECKING:  # a page without a database needs none
    from lifecycle.impact import Impact, TimerImpact


@dataclass(frozen=True)
class Table:
    """A table with its caption; ``heads`` are the columns of ``rows``. Numbers are shown as such."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def differences(found: Comparison) -> Iterator[Table]:
    """What two policies do differently; nothing for what they do alike."""
    if found.edges:
        edges = ((one.event.text, ", ".join(one.sources), one.role, one.shift) for one in found.edges)
        yield Table("Who may do what", ("What", "Out of", "By", "Becomes possible"), tuple(edges))
    if found.timers:
        timers = ((one.event.text, one.old or "-", one.new or "-") for one in found.timers)
        yield Table("How dates are counted", ("What", "In force", "Candidate"), tuple(timers))
    if found.changed:
        events, kinds = found.calendar()
        rows = ((kind, *map(_days, deadlines)) for kind, deadlines in kinds)
        heads = ("Kind of account", *(event.text for event in events))
        yield Table("When it happens, if nobody does anything else, counted from the opening", heads, tuple(rows))


def _days(one: Deadline | None) -> str:
    if one is None or one.shift is Shift.SAME:
        return day(None if one is None else one.new)
    return f"{day(one.old)} → {'never' if one.new is None else day(one.new)}"


def reached(found: "Impact") -> Iterator[Table]:
    """What a candidate would do to the accounts that there are."""
    losses = ((one.what, one.days, one.before, one.after, one.only_after, one.only_before) for one in found.losses)
    yield Table(
        f"Who of the {found.accounts:,} accounts loses access or content, if nobody does anything",
        ("Loses", "Within days", "In force", "Candidate", "Only with the candidate", "Spared by it"),
        tuple(losses),
    )
    changed = [one for one in found.timers if one.changed]
    kinds = [kind for kind in _KINDS if any(getattr(one, kind) for one in changed)]
    if changed:
        timers = ((one.state, _step(one), *(getattr(one, kind) for kind in kinds)) for one in changed)
        heads = ("Now in state", "What lies ahead", *(_KINDS[kind] for kind in kinds))
        yield Table("Accounts for which something comes at another time", heads, tuple(timers))


#: What can become of a step, as the columns of an impact name it, with the words for it.
_KINDS = {"sooner": "Sooner", "later": "Later", "newly": "Newly", "no_more": "No more", "same": "As before"}


def _step(one: "TimerImpact") -> str:
    return one.event.text if one.step is Step.FIRE else _reminder(one.event)


def _reminder(event: Event) -> str:
    notice = next(timer_of(row).notice for row in TIMERS if row.event is event)
    return "" if notice is None else notice_words(notice)
