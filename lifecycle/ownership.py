"""What an engine does about who may have an account cancelled: requests, their confirmation, and the owners on file."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from lifecycle import inputs
from lifecycle.actor import Actor, Request, Role
from lifecycle.characters import shown
from lifecycle.errors import InvalidInput, NotAuthorised, Refused, TokenRefused
from lifecycle.personal import Person
from lifecycle.precautions import Precautions
from lifecycle.reads import HistoryEntry
from lifecycle.requesting import RECEIVED, CancellationRequestReceived, Channel, RequestSettings
from lifecycle.states import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifecycle.inbox import Inbox, ReviewItem
    from lifecycle.intake import Intake

#: Who stands in the record of refusals where a token was given back: it may have been anybody.
_CONFIRMATION = Actor(Role.SYSTEM, "confirmation")
_LONGEST_TOKEN = 100


class Ownership(Precautions):
    """The part of :class:`lifecycle.engine.Engine` that finds out whether an owner really asks (clause owner-only)."""

    requests: RequestSettings

    def fire(
        self,
        account_id: str,
        event: str,
        *,
        actor: Actor,
        reason: str | None = None,
        request_id: str | None = None,
        **facts: Any,
    ) -> HistoryEntry:
        """Fire an event and return its history entry."""
        raise NotImplementedError

    def fire_within(
        self, connection: Any, account_id: str, event: Event, asked: Request, request_id: str | None = None
    ) -> HistoryEntry:
        """Fire an event in the caller's transaction."""
        raise NotImplementedError

    def _retrying(self, attempt: "Callable[[], HistoryEntry]") -> HistoryEntry:
        """Try again after a :class:`Conflict`."""
        raise NotImplementedError

    # --- Requests ----------------------------------------------------------------------------

    @cached_property
    def inbox(self) -> "Inbox":
        """The requests of this engine's database."""
        from lifecycle.inbox import Inbox

        return Inbox(self.store, self.requests)

    @cached_property
    def intake(self) -> "Intake":
        """Acts upon these requests."""
        from lifecycle.intake import Intake

        return Intake(self.store, self.requests, self.fire_within)

    def request_cancellation(self, company: str, email: str, channel: str) -> CancellationRequestReceived:
        """Take a request for cancellation from whoever they are; what it is about is looked at with the next delivery.

        ``channel`` is one of :class:`lifecycle.requesting.Channel`. The answer and the work are the same whatever
        matches, so neither words nor time tell whether there is such an account. Raises :class:`InvalidInput` for
        malformed text, and for nothing else that depends on what is stated.
        """
        from lifecycle.inbox import Asked

        if channel not in set(Channel):
            raise InvalidInput(f"Unknown channel {shown(channel)}; the channels are {', '.join(Channel)}.")
        asked = Asked(inputs.required(company, "company"), inputs.email(email), str(channel))
        with self.database.write() as connection:
            self.inbox.receive(connection, asked, self.clock.now())
            self.store.announce(connection)
        return RECEIVED

    def settle_requests(self) -> int:
        """Act upon all requests that wait, and forget what was kept long enough; how many were looked at.

        Every delivery begins with it.
        """
        now = self.clock.now()
        with self.database.read() as connection:
            waiting, stale = self.inbox.waiting(connection), self.inbox.holds_stale(connection, now)
        if stale:
            with self.database.write() as connection:
                self.inbox.forget(connection, now)
        if not waiting:
            return 0
        self.barred()  # a clock that can't be right would send and limit at the wrong time
        return self.intake.settle(waiting, self.clock.now)

    def confirm_cancellation(self, token: str) -> HistoryEntry:
        """Cancel the account whose owner was sent this token, as that owner asked; returns the entry of the history.

        Whatever is wrong with a token (unknown, used, expired, void), :class:`TokenRefused` says the same. Where
        the account is known, the attempt is recorded.
        """
        given = token.strip() if isinstance(token, str) else ""
        if not given or len(given) > _LONGEST_TOKEN or not given.isascii():
            raise TokenRefused
        about: list[str] = []
        try:
            return self._retrying(lambda: self._confirm(given, about))
        except Refused as refusal:
            if about:
                self.record_refusal(Event.CANCEL, _CONFIRMATION, refusal, account_id=about[0])
            raise TokenRefused from None

    def _confirm(self, token: str, about: list[str]) -> HistoryEntry:
        from lifecycle import tokens

        _ = self.policy  # before a connection is held
        with self.database.write() as connection:
            issued = tokens.find(connection, token)
            if issued is None:
                raise TokenRefused
            about[:] = [issued.account_id]
            snapshot = self.store.load(connection, issued.account_id, lock=True)
            asked = self.store.entry(connection, issued.account_id, issued.number)
            requester = next((person for person in snapshot.people if person.number == asked.owner), None)
            if requester is None or not tokens.counts(connection, issued, self.clock.now()):
                raise TokenRefused
            reason = f"{asked.reason}, confirmed by owner {issued.owner}"
            owner = Actor.owner(requester.email)
            request = Request(owner, reason=reason, company=snapshot.company, confirmed_by=issued.owner)
            return self.fire_within(connection, issued.account_id, Event.CANCEL, request)

    # --- Review by support -------------------------------------------------------------------

    def reviews(self, *, settled: bool = False) -> "list[ReviewItem]":
        """Requests that support must look at (``settled``: what somebody has looked at, too), the oldest first."""
        with self.database.read() as connection:
            return self.inbox.listed(connection, settled=settled)

    def count_reviews(self) -> int:
        """How many requests wait for support."""
        with self.database.read() as connection:
            return self.inbox.count_reviews(connection)

    def settle_review(self, request: int, *, actor: Actor, reason: str) -> None:
        """Note that somebody of support, or an admin, has looked at a request, and what came of it."""
        with self.acting(actor, "settle_review") as named:
            if named.role not in (Role.SUPPORT, Role.ADMIN):
                raise NotAuthorised(
                    "The request is not settled:", (f"Only support or an admin may do that, not {named.role}.",)
                )
            why = inputs.required(reason, "reason")
            with self.database.write() as connection:
                self.inbox.review_settled(connection, request, named, why, self.clock.now())

    # --- Owners ------------------------------------------------------------------------------

    def owners(self, account_id: str) -> tuple[Person, ...]:
        """The owners on file: number, address, and since when (None: from the account's beginning)."""
        return self.get(account_id).people

    def add_owner(
        self,
        account_id: str,
        owner: str,
        *,
        actor: Actor,
        reason: str | None = None,
        company: str | None = None,
        email: str | None = None,
        request_id: str | None = None,
    ) -> HistoryEntry:
        """Put another owner on file; the owners before the change are told.

        An owner does it signed in, support in the name of one (``company`` and ``email``), an admin with a ``reason``.
        For the policy's ``new_owner_wait`` the new owner decides nothing without an earlier one.
        """
        facts = {"owner": owner, "company": company, "email": email}
        return self.fire(account_id, Event.ADD_OWNER, actor=actor, reason=reason, request_id=request_id, **facts)

    def remove_owner(
        self,
        account_id: str,
        owner: str,
        *,
        actor: Actor,
        reason: str | None = None,
        company: str | None = None,
        email: str | None = None,
        request_id: str | None = None,
    ) -> HistoryEntry:
        """Take an owner off file; the owners before the change, who include this one, are told. The last one stays.

        Who may, is as with :meth:`add_owner`.
        """
        facts = {"owner": owner, "company": company, "email": email}
        return self.fire(account_id, Event.REMOVE_OWNER, actor=actor, reason=reason, request_id=request_id, **facts)
