"""What becomes of requests for cancellation: they are matched with the accounts when nobody waits for an answer.

==========================================  ==========================================================
one account of the company, with the owner  its owner is asked to confirm (``verify_owner``)
several accounts of the same owner          all owners of each are contacted: which one was meant?
the company, but not the owner              all owners are contacted (clause unknown-owner)
nothing, too much, or over a limit          support looks at it
==========================================  ==========================================================

Whoever asked is told nothing, and messages go to the addresses on file only, never to the one that was stated.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog

from lifecycle.actor import Actor, Request, Role
from lifecycle.errors import Conflict, LifecycleError, Refused
from lifecycle.inbox import DAY, Inbox, Waiting
from lifecycle.reads import Snapshot
from lifecycle.requesting import RequestSettings
from lifecycle.states import LIVE, Event
from lifecycle.store import Store

#: As whom the engine acts upon requests.
INTAKE = Actor(Role.SYSTEM, "requests")
#: Owners of at most so many accounts are contacted upon one request; beyond that support looks at it.
MOST_ACCOUNTS = 5

NO_ACCOUNT = "no account of this company has this owner, nor others who could be asked"
CANCELLED = "the account is cancelled already"
MANY_ACCOUNTS = f"more than {MOST_ACCOUNTS} accounts of this company could be meant"
NO_CONFIRMER = "the owner is new, and no earlier owner is on file who could confirm"
REQUESTER_LIMIT = "too many requests that state this address"
ACCOUNT_LIMIT = "too many messages to the owners of this account"

_log = structlog.get_logger("lifecycle.requests")
#: Fires an event on an account in the caller's transaction.
Fire = Callable[[Any, str, Event, Request], object]


class Intake:
    """Acts upon the requests of one database."""

    def __init__(self, store: Store, settings: RequestSettings, fire: Fire) -> None:
        self.store = store
        self.settings = settings
        self.inbox = Inbox(store, settings)
        self._fire = fire

    def settle(self, ids: Sequence[int], clock: Callable[[], datetime]) -> int:
        """Look at these requests, each in a transaction of its own; how many were looked at.

        One that can't be settled now waits for the next time, and holds up no other.
        """
        settled = 0
        for id in ids:
            try:
                settled += self._settle(id, clock)
            except Conflict:
                continue
            except LifecycleError as error:
                _log.error("alarm", job="requests", request=id, error=type(error).__name__, advice=str(error))
        return settled

    def _settle(self, id: int, clock: Callable[[], datetime]) -> bool:
        with self.store.database.write() as connection:
            waiting = self.inbox.take(connection, id)
            if waiting is None:
                return False
            now = clock()
            if waiting.before < self.settings.per_requester:
                self._match(connection, waiting, now)
            elif waiting.before == self.settings.per_requester:
                self.inbox.leave_for_review(connection, id, REQUESTER_LIMIT)
            else:
                self.inbox.settle(connection, id, now)
            self.store.announce(connection)
        return True

    def _match(self, connection: Any, waiting: Waiting, now: datetime) -> None:
        company, email, _ = waiting.asked
        owned = self.store.load_many(connection, self.store.owned_by(connection, company, email))
        live = _live(owned)
        if len(live) == 1:
            self._ask_owner(connection, waiting, live[0], now)
        elif live:
            self._contact_owners(connection, waiting, live, now, "several accounts of the owner fit")
        elif owned:
            self.inbox.leave_for_review(connection, waiting.id, CANCELLED, owned[0].id)
        elif len(ids := self.store.of_company(connection, company)) > MOST_ACCOUNTS:
            self.inbox.leave_for_review(connection, waiting.id, MANY_ACCOUNTS)
        elif others := _live(self.store.load_many(connection, ids)):
            self._contact_owners(connection, waiting, others, now, "no owner fits")
        else:
            self.inbox.leave_for_review(connection, waiting.id, NO_ACCOUNT)

    def _ask_owner(self, connection: Any, waiting: Waiting, account: Snapshot, now: datetime) -> None:
        """Have the owner confirm. What can't be sent is never lost: it is an owner's wish."""
        if self._over_limit(connection, account, Event.REQUEST_CANCELLATION, now):
            self.inbox.leave_for_review(connection, waiting.id, ACCOUNT_LIMIT, account.id)
            return
        company, email, _ = waiting.asked
        asked = Request(INTAKE, reason=_words(waiting), company=company, email=email)
        try:
            self._fire(connection, account.id, Event.REQUEST_CANCELLATION, asked)
        except Refused:
            self.inbox.leave_for_review(connection, waiting.id, NO_CONFIRMER, account.id)
            return
        self.inbox.settle(connection, waiting.id, now)

    def _contact_owners(
        self, connection: Any, waiting: Waiting, found: Sequence[Snapshot], now: datetime, why: str
    ) -> None:
        """Contact all owners of these accounts; over a limit, one request for each account is left to support."""
        if len(found) > MOST_ACCOUNTS:
            self.inbox.leave_for_review(connection, waiting.id, MANY_ACCOUNTS)
            return
        over = [one for one in found if self._over_limit(connection, one, Event.CONTACT_OWNERS, now)]
        for account in found:
            if account not in over:
                reason = f"a cancellation was {_words(waiting)}, and {why}"
                self._fire(connection, account.id, Event.CONTACT_OWNERS, Request(INTAKE, reason=reason))
        unseen = [one for one in over if not self.inbox.is_under_review(connection, ACCOUNT_LIMIT, one.id)]
        if unseen:
            self.inbox.leave_for_review(connection, waiting.id, ACCOUNT_LIMIT, unseen[0].id)
        else:
            self.inbox.settle(connection, waiting.id, now)

    def _over_limit(self, connection: Any, account: Snapshot, event: Event, now: datetime) -> bool:
        """Whether so many messages of the kind were written upon requests in the past 24 hours.

        The account is locked first, so that two processes don't both take the last one for free.
        """
        self.store.load(connection, account.id, lock=True)
        actor = f"{INTAKE.role}:{INTAKE.id}"
        written = self.store.count_entries(connection, account.id, event, actor, since=now - DAY)
        return written >= self.settings.per_account


def _live(found: Sequence[Snapshot]) -> list[Snapshot]:
    """Those that can be cancelled, in the order in which everybody locks."""
    return sorted((one for one in found if one.state in LIVE), key=lambda one: one.id)


def _words(waiting: Waiting) -> str:
    """Where and when it was asked: all of it the engine's own words, fit for the history."""
    return f"requested by {waiting.asked.channel} on {waiting.received_at:%Y-%m-%d}"
