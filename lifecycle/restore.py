"""After a restore from backup: what the ledger knows and the database has forgotten, and how the two agree again.

Nothing is destroyed while the database is behind its ledger. To agree again, every account that a handler was told to
destroy goes forward to where it was then, and is destroyed anew: a restore may have brought its content back, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from lifecycle.deadlines import STAMPED, VOID_NOTICE
from lifecycle.errors import LedgerUnusable
from lifecycle.instants import Instant
from lifecycle.ledger import Ledger
from lifecycle.machine import Decision, due
from lifecycle.operation_tables import ledger_positions
from lifecycle.outcomes import CONFIRMS, Claimed
from lifecycle.policy import Policy
from lifecycle.reads import Snapshot
from lifecycle.states import CANCELLED, DESTRUCTIVE, Effect, Step
from lifecycle.store import Entry, Store
from lifecycle.tables import LIVE_REQUEST, Status, accounts, outbox

#: Lines that are compared with the database at a time, and accounts that go forward in one transaction.
PAGE = 1000
#: What a line keeps of its account, so that it can be brought to where it was: dates, and words.
REMEMBERED = (*STAMPED, "terminated_at", "erasure_requested_at", "content_deleted_at", "purge_requested_at")
_DATES = tuple(name for name in REMEMBERED if isinstance(accounts.c[name].type, Instant))
_WORDS = tuple(name for name in REMEMBERED if name not in _DATES)
_WHY = "The ledger says that this was asked for before the database was restored from a backup."


def line_of(claimed: Claimed, account: Mapping[Any, Any], at: datetime) -> dict[str, Any]:
    """What the ledger says of a task right before its handler is called; ``account`` has :data:`REMEMBERED`."""
    facts = {name: value for name in REMEMBERED if (value := account[name]) is not None}
    return {
        "at": at.isoformat(),
        "account": claimed.account_id,
        "number": claimed.number,
        "effect": str(claimed.effect),
        "attempt": claimed.attempt,
        **{name: value.isoformat() if name in _DATES else str(value) for name, value in facts.items()},
    }


@dataclass
class LedgerReport:
    """What a comparison found: ``behind`` maps accounts to the last line that the database does not know.

    ``unknown`` are ids in such lines without an account in the database. ``lines`` is how long the ledger is.
    """

    identity: str
    lines: int = 0
    behind: dict[str, dict[str, Any]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


class Restore:
    """Compares one database with one ledger, and brings its accounts forward."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self.store = store
        self.database = store.database
        self.ledger = ledger

    def check(self, now: datetime, *, note: bool = True) -> LedgerReport:
        """What the database has forgotten. If that is nothing, ``note`` how far the two agree.

        Raises :class:`LedgerUnusable` when the ledger is shorter than it was, or can't be read.
        """
        report = LedgerReport(self.ledger.identity)
        with self.database.read() as connection:
            report.lines = agreed = self._agreed(connection, report.identity)
            lines = self.ledger.lines(after=agreed)
            while page := list(islice(lines, PAGE)):
                report.lines = page[-1][0]
                self._compare(connection, [said for _, said in page if "account" in said], report)
        if agreed and not any(True for _ in self.ledger.lines(after=agreed - 1)):
            raise LedgerUnusable(
                f"The ledger {self.ledger.path} is shorter than the {agreed:,} lines that this database has seen; "
                "restore it from a backup. Nothing is destroyed until then."
            )
        if note and not report.behind:
            self._agree(report, now)
        return report

    def apply(self, now: datetime, policy: Policy, actor: str) -> LedgerReport:
        """Bring every account that is behind to where the ledger says it was; returns what was found."""
        report = self.check(now)
        waiting = iter(report.behind.items())
        while page := list(islice(waiting, PAGE)):
            with self.database.write() as connection:
                self.store.require_policy(connection, policy)
                for account_id, said in page:
                    self._forward(connection, account_id, said, now, policy, actor)
                self.store.announce(connection)
        self._agree(report, now)
        return report

    def _compare(self, connection: Connection, page: list[dict[str, Any]], report: LedgerReport) -> None:
        ids = {said["account"] for said in page}
        parameters = {"ids": self.database.ids(ids)}
        known = connection.execute(
            select(outbox.c.account_id, outbox.c.number, outbox.c.effect, outbox.c.attempts).where(
                self.database.among(outbox.c.account_id), outbox.c.effect.in_(DESTRUCTIVE)
            ),
            parameters,
        )
        attempts = {(row.account_id, row.number, str(row.effect)): row.attempts for row in known}
        there = set(connection.scalars(select(accounts.c.id).where(self.database.among(accounts.c.id)), parameters))
        for said in page:
            if attempts.get((said["account"], said["number"], said["effect"]), 0) >= said["attempt"]:
                continue
            if said["account"] in there:
                report.behind[said["account"]] = said
            elif said["account"] not in report.unknown:
                report.unknown.append(said["account"])

    def _forward(
        self,
        connection: Connection,
        account_id: str,
        said: Mapping[str, Any],
        now: datetime,
        policy: Policy,
        actor: str,
    ) -> None:
        snapshot = self.store.load(connection, account_id, lock=True)
        effect = Effect(said["effect"])
        decision = _decision(snapshot, effect, said, now, policy)
        if decision is not None:
            self._withdraw_others(connection, account_id, now)
            self.store.write(connection, snapshot, decision, Entry(now, policy.version, actor, reason=_WHY))

    def _withdraw_others(self, connection: Connection, account_id: str, now: datetime) -> None:
        """What the restored database still owes of destruction is owed anew."""
        connection.execute(
            update(outbox)
            .where(outbox.c.account_id == account_id, LIVE_REQUEST)
            .values(status=Status.WITHDRAWN, last_error=_WHY, finished_at=now, claimed_until=None)
        )

    def _agreed(self, connection: Connection, identity: str) -> int:
        lines = select(ledger_positions.c.lines).where(ledger_positions.c.ledger == identity)
        return connection.scalar(lines) or 0

    def _agree(self, report: LedgerReport, now: datetime) -> None:
        values = {"lines": report.lines, "checked_at": now}
        with self.database.write() as connection:
            here = ledger_positions.c.ledger == report.identity
            if connection.execute(update(ledger_positions).where(here).values(values)).rowcount == 0:
                connection.execute(insert(ledger_positions).values(ledger=report.identity, **values))


def _decision(
    snapshot: Snapshot, effect: Effect, said: Mapping[str, Any], now: datetime, policy: Policy
) -> Decision | None:
    """The account as it was when its handler was called; None where it is there already, or beyond."""
    row = CONFIRMS[effect]
    (dest,) = row.sources
    if snapshot.state in CANCELLED and CANCELLED.index(snapshot.state) > CANCELLED.index(dest):
        return None
    changes: dict[str, Any] = {name: None for name, _ in VOID_NOTICE}
    changes |= {name: datetime.fromisoformat(said[name]) if name in said else None for name in _DATES}
    changes |= {name: said.get(name) for name in _WORDS}
    changes |= {"state": dest, "version": snapshot.version + 1}
    moved = SimpleNamespace(**{**{c.name: getattr(snapshot, c.name) for c in accounts.c}, **changes})
    changes["due_at"] = due(moved, now, policy)
    promised = changes["delete_content_at"] if effect is Effect.DELETE_CONTENT else changes["purge_backups_by"]
    return Decision(row.event, Step.REQUEST, snapshot.state, dest, changes, (effect,), promised)
