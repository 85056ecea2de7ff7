"""What an engine asks before it destroys anything: of the clock, of the ledger and of the brake."""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from lifecycle import inputs
from lifecycle.acting import Acting
from lifecycle.actor import Actor, Role
from lifecycle.approvals import Action, Ask
from lifecycle.clock import SystemClock
from lifecycle.errors import ClockInDoubt, InvalidInput, LedgerUnusable, NotAuthorised, PrivilegeMissing
from lifecycle.safety import Safety

if TYPE_CHECKING:  # what only some callers use is imported when it is used
    from lifecycle.brake import BrakeState, Release
    from lifecycle.gate import ClockGate, Doubt
    from lifecycle.ledger import Ledger
    from lifecycle.restore import LedgerReport
    from lifecycle.roles import DatabaseUser


#: Why nothing is destroyed by a process whose database user may not.
LEFT_TO_OTHERS = (
    "This database user may not destroy; that is left to a daemon of the role destroyer (`lifecycle init --roles`)."
)


class Precautions(Acting):
    """The part of :class:`lifecycle.engine.Engine` that holds destruction back."""

    safety: Safety
    _agrees_with_ledger = False

    def barred(self) -> str | None:
        """Why nothing may be destroyed now, if so; raises :class:`ClockInDoubt` where nothing may move at all."""
        doubt = self.clock_doubt()
        if doubt is not None and doubt.stops:
            raise ClockInDoubt(str(doubt))
        if doubt is not None:
            return str(doubt)
        return self._forgotten() if self.may_destroy else LEFT_TO_OTHERS

    @cached_property
    def may_destroy(self) -> bool:
        """Whether this engine's database user may destroy; asked once. On SQLite everybody may."""
        with self.database.read() as connection:
            return self.store.may_destroy(connection)

    def database_user(self) -> "DatabaseUser | None":
        """Whom this engine is to PostgreSQL; None on SQLite, which has no users."""
        if not self.database.is_postgresql:
            return None
        from lifecycle.roles import database_user

        with self.database.read() as connection:
            return database_user(connection)

    # --- The clock ---------------------------------------------------------------------------

    @cached_property
    def gate(self) -> "ClockGate | None":
        """Watches the host's clock; a clock that was given to this engine is its own authority."""
        if not isinstance(self.clock, SystemClock):
            return None
        from lifecycle.gate import ClockGate

        return ClockGate(self.database, self.safety)

    def clock_doubt(self) -> "Doubt | None":
        """Why this host's clock is in doubt, if it is; None for a clock that was given to this engine."""
        return None if self.gate is None else self.gate.look(self.clock.now())

    def accept_clock(self, actor: Actor) -> None:
        """Take this host's clock for right; :class:`ClockInDoubt` where the database's own says otherwise."""
        with self.acting(actor, "accept_clock") as named:
            who = an_admin(named, "The clock is not accepted:")
            if self.gate is not None:
                self.gate.accept(self.clock.now(), who)

    # --- The brake ---------------------------------------------------------------------------

    def brake(self) -> "BrakeState":
        """What the brake lets through now, and what waits to be destroyed."""
        from lifecycle.brake import Brake

        now, policy = self.clock.now(), self.policy
        with self.database.read() as connection:
            return Brake(self.store, self.safety).state(connection, now, policy)

    def destruction_forecast(self, days: int = 60) -> list[int]:
        """How many requests that destroy come in each of the coming days of 24 hours, as far as dates tell today."""
        from lifecycle.brake import Brake

        if not 1 <= days <= 366:
            raise InvalidInput(f"A forecast covers 1 to 366 days, not {days}.")
        now, policy = self.clock.now(), self.policy
        with self.database.read() as connection:
            return Brake(self.store, self.safety).forecast(connection, now, policy, days)

    def release_brake(self, accounts: int, *, actor: Actor, reason: str) -> None:
        """Have the brake let so many more accounts through; it is recorded, and counts for as long as each window is.

        Raises :class:`NotAuthorised` for anybody but an admin, and :class:`ApprovalNeeded` where it takes two people.
        """
        from lifecycle.brake import Brake, Release

        with self.acting(actor, Action.RELEASE_BRAKE) as named:
            who, why = an_admin(named, "The brake is not released:"), inputs.required(reason, "reason")
            release = Release(self.clock.now(), accounts, who, why, None)
            with self.database.write() as connection:
                second = self.second_person(connection, self._release(release))
                Brake(self.store, self.safety).release(connection, replace(release, approved_by=second))
                self.store.announce(connection)

    def _release(self, release: "Release") -> Ask | None:
        if self.authority is None or not self.authority.rules.brake_release:
            return None
        asked = {"accounts": release.accounts, "reason": release.reason}
        summary = f"let {release.accounts:,} more accounts be destroyed than the limits say."
        return Ask(Action.RELEASE_BRAKE, asked, summary, reason=release.reason)

    # --- The ledger, after a restore ----------------------------------------------------------

    @cached_property
    def ledger(self) -> "Ledger | None":
        """Where it is written what is about to be destroyed, outside of the database."""
        if self.safety.ledger is None:
            return None
        from lifecycle.ledger import Ledger

        return Ledger(self.safety.ledger)

    def check_restore(self) -> "LedgerReport | None":
        """What the ledger knows and the database does not, after a restore; None without a ledger.

        Raises :class:`LedgerUnusable` where the ledger can't be read, or lacks lines.
        """
        if self.ledger is None:
            return None
        from lifecycle.restore import Restore

        report = Restore(self.store, self.ledger).check(self.clock.now(), note=self.may_destroy)
        self._agrees_with_ledger = not report.behind
        return report

    def apply_restore(self, *, actor: Actor) -> "LedgerReport | None":
        """Bring every account that the database has forgotten to be destroyed to where it was, to be destroyed anew.

        Returns what was found; None without a ledger. Raises :class:`NotAuthorised` for anybody but an admin.
        """
        with self.acting(actor, "apply_restore") as named:
            who = an_admin(named, "Nothing is brought forward:")
            if self.ledger is None:
                return None
            if not self.may_destroy:
                raise PrivilegeMissing(f"Nothing is brought forward, since that asks for destruction. {LEFT_TO_OTHERS}")
            from lifecycle.restore import Restore

            return Restore(self.store, self.ledger).apply(self.clock.now(), self.policy, who)

    def _forgotten(self) -> str | None:
        """Why nothing may be destroyed, where the database is behind its ledger, or nobody can tell."""
        try:
            report = None if self._agrees_with_ledger else self.check_restore()
        except LedgerUnusable as error:
            return str(error)
        if report is None or not report.behind:
            return None
        return (
            f"The ledger knows of {len(report.behind):,} accounts whose destruction this database has forgotten, "
            "as after a restore; see `lifecycle restore check`."
        )


def an_admin(actor: Actor, refusal: str) -> str:
    """``role:id`` of an admin; :class:`NotAuthorised` for anybody else."""
    if actor.role is not Role.ADMIN:
        raise NotAuthorised(refusal, (f"Only an admin may do that, not {actor.role}.",))
    return str(actor)
