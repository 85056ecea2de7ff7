"""What holds destruction back, as an operator sets it: how much at a time, under which clock, after which restore."""

from dataclasses import dataclass
from datetime import timedelta
from math import floor
from pathlib import Path
from typing import NamedTuple

from lifecycle.errors import InvalidInput
from lifecycle.policy import duration_words

#: A host's clock and the database's may differ by as much, and a clock may step back by as much.
TOLERANCE = timedelta(minutes=5)
#: A jump beyond this is no outage but a wrong clock: nothing moves by itself any more.
IMPLAUSIBLE = timedelta(days=30)


class Window(NamedTuple):
    """So many accounts may be asked to be destroyed within ``length``: ``accounts``, or ``share`` of all if more."""

    name: str
    length: timedelta
    accounts: int
    share: float

    def limit(self, population: int) -> int:
        """The limit among so many accounts."""
        return max(self.accounts, floor(self.share * population))


@dataclass(frozen=True)
class Safety:
    """Limits on requests that destroy, the longest outage that needs no confirmation, where the ledger is, and how long
    refused attempts are kept.

    Shares are parts of all accounts that are not purged, from 0 to 1. Out of bounds raises :class:`InvalidInput`.
    """

    accounts_per_hour: int = 50
    share_per_hour: float = 0.0025
    accounts_per_day: int = 50
    share_per_day: float = 0.01
    outage: timedelta = timedelta(hours=72)
    ledger: Path | None = None
    refusals_kept: timedelta = timedelta(days=365)

    def __post_init__(self) -> None:
        for window in self.windows:
            if window.accounts < 0 or not 0 <= window.share <= 1:
                raise InvalidInput(
                    f"The limits per {window.name} must be a number of accounts from 0 and a share from 0 to 1, "
                    f"not {window.accounts} and {window.share}."
                )
        if not TOLERANCE < self.outage <= IMPLAUSIBLE:
            raise InvalidInput(
                f"The longest outage must lie between {duration_words(TOLERANCE)} and {duration_words(IMPLAUSIBLE)}, "
                f"not {duration_words(self.outage)}."
            )

    @property
    def windows(self) -> tuple[Window, Window]:
        """The limits, the shorter first."""
        return (
            Window("hour", timedelta(hours=1), self.accounts_per_hour, self.share_per_hour),
            Window("day", timedelta(days=1), self.accounts_per_day, self.share_per_day),
        )
