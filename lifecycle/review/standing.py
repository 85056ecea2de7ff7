"""The accounts that there are, in numbers only: how many in each state, and what the coming weeks bring."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lifecycle.machine import TIMERS
from lifecycle.rows import Notice, Transition, timer_of
from lifecycle.states import UNDER_LEGAL_HOLD, State, account
from lifecycle.terms import Term, missing

if TYPE_CHECKING:
    from lifecycle.engine import Engine

#: The forecast looks so many weeks ahead.
WEEKS = 8
_WEEK = timedelta(weeks=1)
_OUT_OF_REACH = UNDER_LEGAL_HOLD | ~missing(account.erasure_requested_at)
#: What is promised to cancelled accounts, and which of them still have it before them.
_PROMISED: tuple[tuple[str, Term, Term], ...] = (
    ("Access ends", account.access_ends_at, account.state == State.CANCEL_PENDING),
    (
        "Content may be deleted from",
        account.delete_content_at,
        ((account.state == State.CANCEL_PENDING) | (account.state == State.ACCESS_REVOKED)) & ~_OUT_OF_REACH,
    ),
    (
        "Backups must be purged by",
        account.purge_backups_by,
        ~missing(account.cancelled_at) & ~(account.state == State.PURGED) & ~UNDER_LEGAL_HOLD,
    ),
)


@dataclass(frozen=True)
class Line:
    """One line of the forecast: what happens, to accounts in which state, and how many in each span."""

    what: str
    state: State | None
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Standing:
    """Counts as of ``at``. ``spans`` name what the counts of a line belong to: what is overdue, then the weeks."""

    at: datetime
    counts: tuple[tuple[State, int], ...]
    spans: tuple[str, ...]
    steps: tuple[Line, ...]
    dates: tuple[Line, ...]

    @property
    def total(self) -> int:
        """All accounts."""
        return sum(count for _, count in self.counts)


def standing(engine: "Engine") -> Standing:
    """How the accounts of the engine's database stand now. Reads only, by counting: four passes over the table."""
    at, policy = engine.clock.now(), engine.policy
    edges = [at + _WEEK * week for week in range(WEEKS + 1)]
    spans = ("overdue", *(f"{begin:%-d %b}" for begin in edges[:-1]))
    steps = [step for row in TIMERS for step in _steps(row)]
    with engine.database.read() as connection:

        def spread(kinds: list[Term], date: Term) -> list[tuple[int, ...]]:
            return engine.store.spread(connection, kinds, date, edges, at, policy)

        counts = engine.store.summary(connection)
        coming = spread([condition for _, _, condition in steps], account.due_at)
        dates = [Line(what, None, spread([whose], date)[0]) for what, date, whose in _PROMISED]
    lines = (Line(what, state, found) for (what, state, _), found in zip(steps, coming, strict=True))
    return Standing(at, tuple(counts.items()), spans, tuple(lines), tuple(dates))


def _steps(row: Transition) -> Iterator[tuple[str, State, Term]]:
    """What ``due_at`` can mean for the accounts of the row's timer, in the order in which it is to be asked."""
    timer, state = timer_of(row), row.sources[0]
    here = account.state == state
    mine = here if row.bracket is None else here & row.bracket.term
    done = row.event.text if timer.confirmation is None else f"Asked for: {timer.confirmation.effect.text}"
    if timer.notice is None:
        yield done, state, mine
        return
    yield done, state, mine & timer.notice.given
    yield notice_words(timer.notice), state, mine


def notice_words(notice: Notice) -> str:
    """How the page names the reminder before a date."""
    return f"Notice: {notice.effect.text}"
