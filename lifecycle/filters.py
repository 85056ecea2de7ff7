"""Which accounts: those that a caller chooses by their state, their plan and their dates."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

from lifecycle.characters import shown
from lifecycle.clock import in_utc
from lifecycle.errors import InvalidInput
from lifecycle.states import Plan, State


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Accounts chosen by what they are: those that satisfy all fields that are given.

    ``…_before`` is earlier than the instant, ``…_after`` is at the instant or later; an account without
    the date (one that was never cancelled has no ``cancelled_at``) satisfies neither. All accounts
    have to be asked for by ``everything=True``, alone. Raises :class:`InvalidInput` for an unknown
    state or plan, an instant without a zone, and a filter that says nothing.
    """

    state: State | str | None = None
    plan: Plan | str | None = None
    opened_before: datetime | None = None
    opened_after: datetime | None = None
    last_active_before: datetime | None = None
    last_active_after: datetime | None = None
    cancelled_before: datetime | None = None
    cancelled_after: datetime | None = None
    due_before: datetime | None = None
    due_after: datetime | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        for name, words in (("state", State), ("plan", Plan)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, word(words, getattr(self, name), name))
        for name in BOUNDS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, in_utc(getattr(self, name), name))
        if self.everything is bool(self.tests()):
            raise InvalidInput(
                "A filter says either which accounts, for example state='frozen', or everything=True, which means all."
            )

    def tests(self) -> list[tuple[str, str, Any]]:
        """The filter as comparisons of columns."""
        equal = [(name, "==", getattr(self, name)) for name in ("state", "plan")]
        bounds = [(column, comparison, getattr(self, name)) for name, (column, comparison) in BOUNDS.items()]
        return [test for test in (*equal, *bounds) if test[2] is not None]


#: The fields of a filter that bound a date, each with the column and its comparison.
BOUNDS: Mapping[str, tuple[str, str]] = {
    one.name: (f"{one.name.removesuffix(ending)}_at", comparison)
    for one in fields(Filter)
    for ending, comparison in (("_before", "<"), ("_after", ">="))
    if one.name.endswith(ending)
}


W = TypeVar("W", bound=StrEnum)


def word(words: type[W], value: str, name: str) -> W:
    """The one of ``words`` that ``value`` says; :class:`InvalidInput` with the nearest where there is none."""
    try:
        return words(value)
    except ValueError:
        near = get_close_matches(str(value), list(words), n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(words)}."
        raise InvalidInput(f"Unknown {name} {shown(value)}: {hint}") from None
