"""One event on many accounts: first shown as a plan, then applied exactly as it was shown.

A plan is made by deciding every account as :meth:`lifecycle.engine.Engine.fire` would, a page at a time,
so that a million accounts take no more memory than a thousand. Applying decides again with the
accounts locked, in one transaction: whoever comes to another digest than the one shown changes nothing.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import Any

import structlog

from lifecycle import inputs
from lifecycle.actor import Request
from lifecycle.characters import shown
from lifecycle.errors import InvalidInput, PlanChanged, Refused
from lifecycle.filters import Filter
from lifecycle.machine import FACTS, Decision, decide
from lifecycle.policy import Policy
from lifecycle.reads import HistoryEntry, Snapshot
from lifecycle.states import Effect, Event, State
from lifecycle.store import PROMISES, Entry, Store

#: Accounts that are read, decided and written at a time.
PAGE = 1000
#: Accounts that a plan shows, and ids that it shows for each reason of refusal.
SAMPLE = 20
UNKNOWN = "There is no account with this id; look ids up with `lifecycle accounts`."
_DIGEST = re.compile("[0-9a-f]{64}")
_log = structlog.get_logger("lifecycle.bulk")


# --- Plans ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """What happens to one account, and the dates that it is promised then (each may be None)."""

    account_id: str
    source: State
    dest: State
    access_ends_at: datetime | None
    delete_content_at: datetime | None
    purge_backups_by: datetime | None


@dataclass(frozen=True)
class BulkPlan:
    """What an event does to many accounts; ``applied`` says whether it has been done.

    ``count`` accounts move: ``moves`` counts them by (source, dest), ``sample`` shows the first 20 by id.
    ``refused`` accounts stay as they are: ``refusals`` counts them by reason, and one account may
    have several; ``refused_sample`` shows the first 20 ids of each reason.

    ``digest`` stands for exactly the moves: the event, who may ask for it (the role), the reason, the
    facts and the policy, and for every account that moves its id, version, source, destination and
    effects. Two things are left out of it. Dates that are counted from now, since a plan is applied
    later than it is shown. And refused accounts, since they stay as they are in any case: one more
    of them is no other change, and one that is refused no longer is an account that moves.
    """

    event: Event
    digest: str
    count: int
    moves: Mapping[tuple[State, State], int]
    sample: tuple[PlannedMove, ...]
    refused: int
    refusals: Counter[str]
    refused_sample: Mapping[str, tuple[str, ...]]
    applied: bool = False


@dataclass
class _Tally:
    """A plan in the making: what it counts does not grow with the number of accounts."""

    event: Event
    asked: Request
    policy_version: str
    moves: Counter[tuple[State, State]] = field(default_factory=Counter)
    sample: list[PlannedMove] = field(default_factory=list)
    refused: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    refused_sample: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        facts = {name: getattr(self.asked, name) for name in sorted(FACTS[self.event])}
        self._hash = sha256(_line([self.event, self.asked.role, self.policy_version, facts]))

    def move(
        self, account_id: str, seen: int, source: State, dest: State, owes: Sequence[Effect], date: Callable[[str], Any]
    ) -> None:
        """Count an account of version ``seen`` that moves; ``date`` gives what it is promised, by column."""
        self._hash.update(_line([account_id, seen, source, dest, owes]))
        self.moves[source, dest] += 1
        if len(self.sample) < SAMPLE:
            self.sample.append(PlannedMove(account_id, source, dest, *map(date, PROMISES)))

    def refuse(self, account_id: str, reasons: Iterable[str]) -> None:
        self.refused += 1
        for reason in reasons:
            self.refusals[reason] += 1
            shown = self.refused_sample.setdefault(reason, [])
            if len(shown) < SAMPLE:
                shown.append(account_id)

    def plan(self, *, applied: bool = False) -> BulkPlan:
        return BulkPlan(
            self.event,
            self._hash.hexdigest(),
            self.moves.total(),
            self.moves,
            tuple(self.sample),
            self.refused,
            self.refusals,
            {reason: tuple(ids) for reason, ids in self.refused_sample.items()},
            applied,
        )


def _afterwards(snapshot: Snapshot, decision: Decision, column: str) -> Any:
    """What the column holds once the decision is carried out."""
    return decision.changes.get(column, getattr(snapshot, column))


def _line(values: list[Any]) -> bytes:
    """One line that no other values give: JSON keeps apart what lies in different places."""
    return (json.dumps(values, default=datetime.isoformat) + "\n").encode()


# --- Making and applying them --------------------------------------------------------------------


def selected(accounts: Iterable[str] | Filter) -> Filter | frozenset[str]:
    """The accounts that a caller names: a filter, or ids, each of which counts once.

    The ids are kept in memory, of the accounts never more than a page.
    """
    if isinstance(accounts, Filter):
        return accounts
    if isinstance(accounts, str) or not isinstance(accounts, Iterable):
        raise InvalidInput(f"Give account ids as a list, or a Filter, not {shown(accounts)}.")
    ids = frozenset(accounts)
    if not all(isinstance(one, str) for one in ids):
        raise InvalidInput("Account ids are text; at least one of those that were given is not.")
    return ids


@dataclass(frozen=True)
class Bulk:
    """One event asked for many accounts.

    ``request_id`` names this one change as a whole: once entries with it are in the history, both
    :meth:`plan` and :meth:`apply` return what was done then, and do nothing. So a script that died
    after the commit is simply run again. ``on_page`` hears how many accounts were looked at, page by page.
    """

    store: Store
    policy: Policy
    event: Event
    asked: Request
    accounts: Filter | frozenset[str]
    request_id: str | None = None
    on_page: Callable[[int], None] = lambda looked_at: None
    #: Asked before a plan is committed: says who else has approved it, or raises.
    approve: Callable[[Any, BulkPlan, Request], str | None] = lambda connection, plan, asked: None

    def plan(self, clock: Callable[[], datetime]) -> BulkPlan:
        """What would happen now. Changes nothing and locks nobody out."""
        earlier = self._earlier()
        if earlier is not None:
            return earlier
        with self.store.database.read() as connection:
            self.store.require_policy(connection, self.policy)
        tally = _Tally(self.event, self.asked, self.policy.version)
        with self.store.database.read() as connection:
            for _ in self._decided(connection, clock(), tally, lock=False):
                pass
        return tally.plan()

    def apply(self, digest: str, clock: Callable[[], datetime]) -> BulkPlan:
        """Do what the plan with this digest showed, all of it or nothing.

        Raises :class:`PlanChanged` when the same request would now do something else.
        """
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput(f"{shown(digest)} is no digest of a plan; copy all 64 characters of it.")
        earlier = self._earlier(digest)
        if earlier is not None:
            return earlier
        try:
            plan, second = self._applied(digest, clock)
        except PlanChanged:
            earlier = self._earlier(digest)  # the same request may have been waiting for us, or we for it
            if earlier is None:
                raise
            return earlier
        # Refusals of one account are recorded one by one; here the plan has shown them all before.
        _log.info(
            "bulk event",
            fired=self.event,
            actor=str(self.asked.actor),
            approved_by=second,
            digest=plan.digest,
            moved=plan.count,
            refused=plan.refused,
        )
        return plan

    def _applied(self, digest: str, clock: Callable[[], datetime]) -> tuple[BulkPlan, str | None]:
        """Write page by page, and take all of it back when the digest is another one in the end, or not approved.

        Returns what was done, and who else has approved it.
        """
        tally = _Tally(self.event, self.asked, self.policy.version)
        with self.store.database.write() as connection:
            self.store.require_policy(connection, self.policy)
            now = clock()
            for page in self._decided(connection, now, tally, lock=True):
                if page:
                    self._write(connection, page, now)
            plan = tally.plan(applied=True)
            if plan.digest != digest:
                raise self._changed()
            second = self.approve(connection, plan, self.asked)
            self.store.announce(connection)
        return plan, second

    def _changed(self) -> PlanChanged:
        return PlanChanged(
            f"{self.event} would now do something else than the plan with this digest showed: an account has changed, "
            "or the request is another. Nothing was changed; make the plan again, look at it, and apply that."
        )

    def _decided(
        self, connection: Any, now: datetime, tally: _Tally, *, lock: bool
    ) -> Iterator[list[tuple[Snapshot, Decision]]]:
        """The accounts that move, with what becomes of them, a page at a time; those that don't are tallied."""
        withdraws = replace(self.asked, unclaimed=True)
        for page in self._pages(connection, tally, lock):
            withdrawable = self.store.withdrawable(connection, self.event, [one.id for one in page], lock=lock)
            moving = []
            for snapshot in page:
                asked = withdraws if snapshot.id in withdrawable else self.asked
                try:
                    decision = decide(snapshot, self.event, asked, now, self.policy)
                except Refused as refusal:
                    tally.refuse(snapshot.id, refusal.reasons)
                    continue
                moving.append((snapshot, decision))
                date = partial(_afterwards, snapshot, decision)
                tally.move(snapshot.id, snapshot.version, decision.source, decision.dest, decision.owes, date)
            yield moving
            self.on_page(len(page))

    def _pages(self, connection: Any, tally: _Tally, lock: bool) -> Iterator[list[Snapshot]]:
        """The chosen accounts in the order of their ids; ids without an account are refused."""
        if isinstance(self.accounts, Filter):
            last, tests = None, self.accounts.tests()
            while page := self.store.page_that(connection, tests, last, PAGE, lock=lock):
                yield page
                last = page[-1].id
            return
        known = self.store.existing(connection, [one for one in self.accounts if inputs.is_account_id(one)])
        for missing in sorted(self.accounts.difference(known)):
            tally.refuse(missing, (UNKNOWN,))
        for start in range(0, len(known), PAGE):
            yield self.store.page_of(connection, known[start : start + PAGE], lock=lock)

    def _write(self, connection: Any, page: list[tuple[Snapshot, Decision]], now: datetime) -> None:
        if self.request_id and self.store.acted_upon(connection, [one.id for one, _ in page], self.request_id):
            raise self._changed()  # by another process that applied the same since we looked for it
        version = self.policy.version
        self.store.write_many(
            connection,
            [
                (snapshot, decision, Entry.of_request(snapshot, self.asked, now, version, self.request_id))
                for snapshot, decision in page
            ],
        )
        numbers = {snapshot.id: decision.changes["version"] for snapshot, decision in page}
        self.store.follow_hold(connection, self.event, numbers, self.asked, now)

    # --- Repetitions -----------------------------------------------------------------------------

    def _earlier(self, digest: str | None = None) -> BulkPlan | None:
        """What an earlier request with this id did, read back from history and outbox; its refusals are not kept.

        The sample's dates are those that the accounts have now.
        """
        if self.request_id is None:
            return None
        with self.store.database.read() as connection:
            pages = self.store.requested(connection, self.request_id, PAGE)
            page = next(pages, None)
            if page is None:
                return None
            first = page[0][0]
            tally = _Tally(self.event, self.asked, first.policy_version)
            for entry, owes in chain(page, chain.from_iterable(pages)):
                if self._kind(entry) != (self.event, self.asked.role, first.at):
                    raise self._used()
                source = entry.source or entry.dest
                tally.move(entry.account_id, entry.number - 1, source, entry.dest, owes, lambda column: None)
            shown = self.store.load_many(connection, [move.account_id for move in tally.sample])
        now = {snapshot.id: {name: getattr(snapshot, name) for name in PROMISES} for snapshot in shown}
        tally.sample = [replace(move, **now[move.account_id]) for move in tally.sample]
        plan = tally.plan(applied=True)
        if digest not in (None, plan.digest):
            raise self._used()
        return plan

    def _kind(self, entry: HistoryEntry) -> tuple[str, str, datetime]:
        """What all entries of one bulk change have in common."""
        return entry.event, entry.actor.partition(":")[0], entry.at

    def _used(self) -> InvalidInput:
        return InvalidInput(
            f"request_id {self.request_id} was used already for another change than this one; choose another."
        )
