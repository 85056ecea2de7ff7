"""How much sooner or later a deadline comes under another policy, found by evaluating its own term under both.

Accounts are made up whose clocks all began at one instant, but for one clock that began later: a period that is paid
for a while, activity after the start of the free plan. Each is cancelled under both policies with the stamps of the
definition. A deadline is the latest of some clocks with durations added, so the extremes of what changes lie where
two clocks meet: at the durations of the policies and at the differences between these.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import product
from typing import Any

from lifecycle.deadlines import ACCESS_END, STAMPED, stamps
from lifecycle.diagrams.changes import Change
from lifecycle.machine import TIMERS
from lifecycle.policy import LONGEST, Policy, duration_words
from lifecycle.rows import Transition, timer_of
from lifecycle.states import Party, State, account
from lifecycle.terms import Term, evaluate

_START = datetime(2030, 1, 1, tzinfo=UTC)
_NOTHING = timedelta(0)
#: The clocks from which deadlines are counted, the stamped dates apart: those follow from the clocks.
_CLOCKS = sorted(
    {
        term.args[1]
        for counted in (ACCESS_END, *(timer_of(row).counted for row in TIMERS))
        for term in counted.walk()
        if term.op == "field" and term.args[0] == "account" and term.args[1].endswith(("_at", "_since"))
    }
    - set(STAMPED)
)


@dataclass(frozen=True)
class Shift:
    """By how much a deadline moves, over all accounts: from ``least`` to ``most``, negative for sooner."""

    least: timedelta
    most: timedelta

    @property
    def change(self) -> Change:
        if self.least < _NOTHING < self.most:
            return Change.CHANGED
        return Change.SOONER if self.least < _NOTHING else Change.LATER

    @property
    def words(self) -> str:
        """``"later by 15 days"``, or ``"later by up to 15 days"`` where that depends on the account."""
        if self.change is Change.CHANGED:
            return f"sooner by up to {duration_words(-self.least)}, or later by up to {duration_words(self.most)}"
        far = max(-self.least, self.most)
        return f"{self.change} by {'' if self.least == self.most else 'up to '}{duration_words(far)}"


@lru_cache(maxsize=256)
def shift_of(row: Transition, old: Policy, new: Policy) -> Shift | None:
    """How the deadline of the row moves from the old policy to the new; None without a timer, or where it stays."""
    if row.timer is None or old == new:
        return None
    moved = [
        evaluate(row.timer.counted, {"account": after, "policy": new})
        - evaluate(row.timer.counted, {"account": before, "policy": old})
        for before, after in zip(_cancelled(old, new, old), _cancelled(old, new, new), strict=True)
    ]
    return Shift(min(moved), max(moved)) if any(moved) else None


@lru_cache(maxsize=8)
def _cancelled(old: Policy, new: Policy, kept: Policy) -> tuple[Mapping[str, Any], ...]:
    """The made-up accounts, the same for both policies, cancelled as the policy ``kept`` has it."""
    found = []
    for clocks in _clocks(old, new):
        subject: dict[str, Any] = {**dict.fromkeys(account), **clocks, "state": State.ACTIVE}
        for name, value in stamps(Party.OWNER, ACCESS_END):
            assert isinstance(value, Term)
            subject[name] = evaluate(value, {"account": subject, "policy": kept, "now": _START})
        found.append(subject)
    return tuple(found)


def _clocks(old: Policy, new: Policy) -> Iterator[dict[str, datetime]]:
    """All clocks at one instant, then each of them later than the others."""
    lengths = {value for policy in (old, new) for value in asdict(policy).values() if isinstance(value, timedelta)}
    gaps = {_NOTHING, LONGEST, *lengths, *(a - b for a, b in product(lengths, lengths) if a > b)}
    yield dict.fromkeys(_CLOCKS, _START)
    for name, gap in product(_CLOCKS, sorted(gaps - {_NOTHING})):
        yield {**dict.fromkeys(_CLOCKS, _START), name: _START + gap}
