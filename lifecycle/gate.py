"""The clock gate: nothing is destroyed by a clock in doubt, and nothing moves by one that can't be right.

A clock is in doubt when it differs from the database's, runs backwards, or has leapt past the instant at which it
was last taken for right by more than an outage. It watches the host's clock; a manual clock is its own authority.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from lifecycle.database import Database
from lifecycle.errors import ClockInDoubt
from lifecycle.operation_tables import clock_acceptances, clock_readings
from lifecycle.policy import duration_words
from lifecycle.safety import IMPLAUSIBLE, TOLERANCE, Safety

#: A reading is written when it is later than the last one by this: looks may come every 20 ms.
_APART = TOLERANCE / 30
_ACCEPT = "If the clock is right, say so: `lifecycle doctor --accept-clock`."
_CORRECT = "Correct the clock of the one that is wrong."


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a clock is in doubt, and what to do; ``stops`` says whether nothing at all moves by it."""

    reason: str
    advice: str
    stops: bool

    def __str__(self) -> str:
        return f"{self.reason} {self.advice}"


class ClockGate:
    """Watches the clock of this host over one database."""

    def __init__(self, database: Database, safety: Safety) -> None:
        self.database = database
        self.safety = safety

    def look(self, now: datetime) -> Doubt | None:
        """What is doubtful about ``now``; if nothing is, it counts as seen from here on."""
        with self.database.read() as connection:
            seen_at, theirs = self._seen_at(connection), self._theirs(connection)
        doubt = self._doubt(now, seen_at, theirs)
        if doubt is None and (seen_at is None or now - seen_at >= _APART):
            with self.database.write() as connection:
                if self.database.may(connection, "UPDATE", clock_readings.name):  # an auditor only looks
                    self._note(connection, now)
        return doubt

    def accept(self, now: datetime, actor: str) -> None:
        """Take the clock for right from here on; :class:`ClockInDoubt` where the database's own says otherwise."""
        with self.database.write() as connection:
            seen_at = self._seen_at(connection)
            doubt = self._doubt(now, None, self._theirs(connection))
            if doubt is not None:
                raise ClockInDoubt(str(doubt))
            connection.execute(insert(clock_acceptances).values(at=now, seen_at=seen_at, actor=actor))
            self._note(connection, now, back=True)

    def refuse_backwards(self, now: datetime, seen_at: datetime | None) -> None:
        """Raise :class:`ClockInDoubt` for a request under a clock that ran back: its dates would come too early."""
        if seen_at is not None and now < seen_at - TOLERANCE:
            raise ClockInDoubt(str(self._doubt(now, seen_at, None)))

    def _doubt(self, now: datetime, seen_at: datetime | None, theirs: datetime | None) -> Doubt | None:
        if theirs is not None and abs(now - theirs) > TOLERANCE:
            ahead = now > theirs
            said = f"{_said(now)}, the database's {duration_words(abs(now - theirs))} {'less' if ahead else 'more'}."
            return Doubt(said, _CORRECT, stops=not ahead or now > theirs + IMPLAUSIBLE)
        if seen_at is None:
            return None
        if now < seen_at - TOLERANCE:
            return Doubt(f"{_said(now)}, {duration_words(seen_at - now)} less than before.", _ACCEPT, stops=True)
        if now > seen_at + self.safety.outage:
            leapt = f"{_said(now)}, and was last seen {duration_words(now - seen_at)} before that."
            return Doubt(leapt, _ACCEPT, stops=now > seen_at + IMPLAUSIBLE)
        return None

    def _seen_at(self, connection: Connection) -> datetime | None:
        seen: datetime | None = connection.scalar(select(clock_readings.c.seen_at))
        return seen

    def _theirs(self, connection: Connection) -> datetime | None:
        """The database's clock, where it has one of its own."""
        if not self.database.is_postgresql:
            return None
        theirs: datetime = connection.scalar(select(func.clock_timestamp()))  # type: ignore[assignment]
        return theirs

    def _note(self, connection: Connection, now: datetime, *, back: bool = False) -> None:
        seen = clock_readings.c.seen_at
        written = update(clock_readings).values(seen_at=now)
        connection.execute(written if back else written.where(seen.is_(None) | (seen < now)))


def _said(now: datetime) -> str:
    return f"This host's clock says {now:%Y-%m-%d %H:%M:%S} UTC"
