"""Who is written to where it is not simply every owner on file, and what each of them is told besides.

``verify_owner`` goes to those who can confirm the cancellation, each with a token of their own; ``tell_owner_change``
goes to the owners before the change, so that nobody joins or leaves unheard.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from lifecycle import owner_change, tokens
from lifecycle.guards import confirmers
from lifecycle.outcomes import Claimed
from lifecycle.personal import NOTHING, Sealed
from lifecycle.policy import Policy
from lifecycle.requesting import RequestSettings
from lifecycle.states import Effect
from lifecycle.store import Store


class Addressees:
    """Answers for one store, under one policy."""

    def __init__(self, store: Store, policy: Policy, settings: RequestSettings) -> None:
        self.store = store
        self.policy = policy
        self.settings = settings
        #: Effects of which the addressees are others than all owners on file, or are told something alone.
        self._alone = {Effect.VERIFY_OWNER: self._confirmations, Effect.TELL_OWNER_CHANGE: self._change}

    def of(
        self, connection: Any, claimed: Sequence[Claimed], sealed: Mapping[str, Sealed], now: datetime
    ) -> Callable[[Claimed], Mapping[str, Any]]:
        """What gives, for each of the tasks, what its payload says of people; to be asked when it is handed over.

        Makes the tokens of the attempt that is about to be made, and keeps their hashes.
        """
        alone = {
            one.id: self._alone[one.effect](connection, one, sealed[one.account_id], now)
            for one in claimed
            if one.effect in self._alone and one.account_id in sealed
        }

        def said(one: Claimed) -> Mapping[str, Any]:
            here = sealed.get(one.account_id)
            personal = NOTHING if here is None else here.open(self.store.vault, one.account_id)
            return {"company": personal.company, "owners": list(personal.owners), **alone.get(one.id, {})}

        return said

    def _change(self, connection: Any, one: Claimed, here: Sealed, now: datetime) -> dict[str, Any]:
        return owner_change.told(self.store, connection, one.account_id, one.number, here)

    def _confirmations(self, connection: Any, one: Claimed, here: Sealed, now: datetime) -> dict[str, Any]:
        personal = here.open(self.store.vault, one.account_id)
        number = self.store.entry(connection, one.account_id, one.number).owner
        requester = next((person for person in personal.people if person.number == number), None)
        sources = {"now": now, "policy": self.policy}
        asked = () if requester is None else confirmers(personal, requester, sources)
        lifetime = self.settings.token_lifetime
        confirmations = []
        for person in asked:
            token = tokens.issue(connection, one.account_id, one.number, person.number, now, lifetime)
            confirmations.append({"owner": person.email, "token": token, "confirm_url": self.settings.url_of(token)})
        return {
            "owners": [person.email for person in asked],
            "confirmations": confirmations,
            "confirm_until": (now + lifetime).isoformat(),
            # Earlier owners are told whom they answer for.
            "requester": None if requester in asked or requester is None else requester.email,
        }
