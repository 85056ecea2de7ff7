"""How many accounts are where, and how often each move was taken: as numbers, and as the width of arrows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import log1p

from lifecycle.diagrams.compare import Compared
from lifecycle.diagrams.content import Card, Line, cards, stays
from lifecycle.diagrams.look import Look, Stroke
from lifecycle.diagrams.places import LIVE_BOX, Picture
from lifecycle.diagrams.text import INK, PALE, wrap
from lifecycle.policy import Policy
from lifecycle.states import LIVE, Entitlements, Event, State

_THINNEST, _WIDEST = 0.8, 5.0  # points


@dataclass(frozen=True)
class Counts:
    """What a database holds: accounts per state, and per event, source and destination how often it happened.

    ``at`` is when it was counted; moves count from ``since`` on, or all of them.
    """

    accounts: Mapping[State, int]
    moves: Mapping[tuple[Event, State, State], int]
    at: datetime
    since: datetime | None = None

    def by_source(self, card: Card) -> dict[State, int]:
        """How often the card's moves were taken, from each of its sources."""
        return {state: sum(self._of(card, source=state)) for state in card.sources}

    def by_dest(self, card: Card) -> dict[State, int]:
        """How often the card's moves were taken, to each of its destinations."""
        return {state: sum(self._of(card, dest=state)) for state in card.dests}

    def staying(self, events: Iterable[Event]) -> dict[Event, int]:
        """How often what leaves the state as it is happened, where it did."""
        counted = {
            row.event: sum(self.moves.get((row.event, state, state), 0) for state in State) for row, _ in stays(events)
        }
        return {event: times for event, times in counted.items() if times}

    def _of(self, card: Card, source: State | None = None, dest: State | None = None) -> Iterable[int]:
        for event, start, end in {(row.event, start, end) for start, end, row in card.moves()}:
            if source in (None, start) and dest in (None, end):
                yield self.moves.get((event, start, end), 0)


class Weighed(Look):
    """Another look, with the numbers of a database."""

    room, spread = 1.4, 1.1

    def __init__(self, within: Look, counts: Counts) -> None:
        super().__init__(within.values, within.picture)
        self.within, self.counts = within, counts
        self.legend = within.legend

    @cached_property
    def _most(self) -> int:
        return max(sum(self.counts.by_source(card).values()) for card in cards(self.picture.events))

    def title(self) -> list[Line]:
        return self.within.title()

    def state(self, state: State) -> list[Line]:
        name, *rest = self.within.state(state)
        return [name, Line(things(self.counts.accounts.get(state, 0), "account"), 10, INK, bold=True), *rest]

    def live(self) -> list[Line]:
        name, *_ = self.within.live()
        counted = [(state, self.counts.accounts.get(state, 0)) for state in LIVE]
        total = Line(things(sum(count for _, count in counted), "account"), 10, bold=True)
        return [name, total, *(Line(f"{state}: {count:,}") for state, count in counted)]

    def card(self, card: Card, width: int) -> list[Line]:
        name, *rest = self.within.card(card, width)
        sources, dests = self.counts.by_source(card), self.counts.by_dest(card)
        times = sum(sources.values())
        lines = [Line(things(times, "time"), 9, INK if times else PALE, bold=True)]
        for word, counted in (("from", sources), ("to", dests)):
            if len(counted) > 1 and any(counted.values()):
                shares = " · ".join(f"{state}\0{short(count)}" for state, count in counted.items() if count)
                lines += [Line(text.removeprefix("· "), 8.5, PALE) for text in wrap(f"{word} {shares}", width)]
        return [name, *lines, *rest]

    def stays(self, shown: Iterable[str], width: int) -> list[Line]:
        return self.within.stays(shown, width)

    def footer(self) -> list[Line]:
        counts, staying = self.counts, self.counts.staying(self.picture.events)
        span = "all moves on record" if counts.since is None else f"moves since {_instant(counts.since)}"
        moved = sum(n for (event, source, dest), n in counts.moves.items() if source is not dest)
        words = f"Counted {_instant(counts.at)}: {things(sum(counts.accounts.values()), 'account')}; {span}: {moved:,}"
        left = " · ".join(f"{event} {times:,}" for event, times in staying.items())
        lines = [Line(words, 9, bold=True)]
        if left:
            width = int((self.picture.size[0] - 60) / (8.5 * 0.53))
            lines += [Line(text) for text in wrap(f"Changes that left the state as it is: {left}", width)]
        return lines + self.within.footer()

    def tint(self, group: Entitlements) -> tuple[str, str]:
        return self.within.tint(group)

    def state_box(self, state: State) -> dict[str, str]:
        return self.within.state_box(state)

    def card_box(self, card: Card) -> dict[str, str]:
        return self.within.card_box(card)

    def arrow(self, card: Card, end: str, headed: bool) -> Stroke:
        counted = self.counts.by_dest(card) if headed else self.counts.by_source(card)
        ends = LIVE if end == LIVE_BOX else (State(end),)
        share = log1p(sum(counted.get(state, 0) for state in ends)) / (log1p(self._most) or 1)
        return self.within.arrow(card, end, headed)._replace(width=round(_THINNEST + share * (_WIDEST - _THINNEST), 2))

    def samples(self) -> tuple[tuple[str, Stroke], ...]:
        return (*self.within.samples(), ("thicker: more often", Stroke(INK, "solid", _WIDEST)))


def look_of(policy: Policy, picture: Picture, old: Policy | None = None, counts: Counts | None = None) -> Look:
    """The look of a picture of one policy, beside an old one if there is one, with counts if there are any."""
    look = Look(policy, picture) if old is None else Compared(policy, picture, old)
    return look if counts is None else Weighed(look, counts)


def things(count: int, what: str) -> str:
    """``"1 account"``, ``"1,234 accounts"``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def short(count: int) -> str:
    """A share beside its exact total: ``"9,999"``, ``"12k"``, ``"1.2M"``."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= max(unit, 10_000):
            return f"{count / unit:.1f}{name}" if count < 10 * unit else f"{count / unit:,.0f}{name}"
    return f"{count:,}"


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
