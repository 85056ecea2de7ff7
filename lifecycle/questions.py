"""The questions that the engine answers. Nothing here changes anything."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from lifecycle import holds, inputs
from lifecycle.actor import Actor, Request
from lifecycle.answers import Due, Explanation, RefundAssessment, TimerStatus, Verdict, assess_refund, coming, explain
from lifecycle.authority import Authority, vouched
from lifecycle.characters import shown
from lifecycle.clock import Clock, in_utc
from lifecycle.database import Database
from lifecycle.errors import InvalidInput, Refused
from lifecycle.filters import word
from lifecycle.machine import AWAITING_APPROVAL, FACTS, TIMERS, decide, event_named
from lifecycle.policy import Policy
from lifecycle.reads import HistoryEntry, Snapshot
from lifecycle.risks import RISKS, Risk
from lifecycle.states import Entitlements, Event, State, entitlements
from lifecycle.store import Store

if TYPE_CHECKING:
    from lifecycle.certificate import Certificate
    from lifecycle.outbox import Courier


class Questions:
    """What can be asked of an engine; :class:`lifecycle.engine.Engine` adds what can be done."""

    database: Database
    store: Store
    clock: Clock
    authority: Authority | None

    @property
    def policy(self) -> Policy:
        """The policy that this engine keeps."""
        raise NotImplementedError

    @property
    def courier(self) -> "Courier":
        """Delivers this engine's outbox."""
        raise NotImplementedError

    def get(self, account_id: str) -> Snapshot:
        """The account: state, plan, every date, version, owners. Raises :class:`AccountNotFound`."""
        with self.database.read() as connection:
            return self.store.load(connection, account_id)

    def may(self, account_id: str, event: str, *, actor: Actor, reason: str | None = None, **facts: Any) -> Verdict:
        """Whether :meth:`fire` would do it now, and every reason if not. Changes nothing."""
        name = event_named(event)
        try:
            asked = request_of(name, vouched(self.authority, actor), reason, facts)
            decide(self.get(account_id), name, asked, self.clock.now(), self.policy)
        except Refused as refusal:
            return Verdict(False, refusal.reasons)
        return Verdict(True)

    def entitlements(self, account_id: str) -> Entitlements:
        """What the customer has now: sign_in, use, export, billed, content, backups."""
        return entitlements(self.get(account_id), self.clock.now())

    def explain(self, account_id: str) -> Explanation:
        """The state and why, coming dates, events possible, events refused and why."""
        with self.database.read() as connection:
            snapshot = self.store.load(connection, account_id)
            entries = self.store.history(connection, account_id)
        last = next(entry for entry in reversed(entries) if entry.source is not entry.dest)
        because = f"{last.event} by {last.actor} at {last.at:%Y-%m-%d %H:%M} UTC"
        return explain(snapshot, because, self.clock.now(), self.policy)

    def history(self, account_id: str) -> list[HistoryEntry]:
        """The account's entries, oldest first."""
        with self.database.read() as connection:
            self.store.load(connection, account_id)
            return self.store.history(connection, account_id)

    def certificate(self, account_id: str) -> "Certificate":
        """What was asked to be destroyed of the account, what came of it, and who was told before; nothing personal."""
        from lifecycle.certificate import certificate

        now = self.clock.now()
        with self.database.read() as connection:
            return certificate(self.store, connection, account_id, now)

    def refund_assessment(self, account_id: str) -> RefundAssessment:
        """Whether people should look at a refund, and why."""
        return assess_refund(self.get(account_id), self.clock.now(), self.policy)

    def summary(self) -> dict[State, int]:
        """How many accounts are in each state."""
        with self.database.read() as connection:
            return self.store.summary(connection)

    def taken(self, since: datetime | None = None) -> dict[tuple[Event, State, State], int]:
        """How often each event led from which state to which, in all of history or from ``since`` on; one statement."""
        with self.database.read() as connection:
            return self.store.taken(connection, None if since is None else in_utc(since, "since"))

    def accounts(self, state: State | str | None = None) -> Iterator[Snapshot]:
        """All accounts, or those in one state, streamed in the order of their ids."""
        return self.store.accounts(None if state is None else word(State, state, "state"))

    def due(self, within: timedelta = timedelta(0)) -> Iterator[Due]:
        """What sweeps will do within that time, the earliest first; what is overdue comes first of all."""
        now = self.clock.now()
        for snapshot in self.store.due(now + within):
            upcoming = coming(snapshot, now, self.policy)
            if upcoming is not None:
                yield upcoming

    def awaiting_approval(self) -> Iterator[Snapshot]:
        """Accounts whose cancellation by the company is due and waits for an admin (decision 4)."""
        return self.store.matching(AWAITING_APPROVAL, self.clock.now(), self.policy)

    def at_risk(self) -> list[tuple[Risk, int]]:
        """What endangers a promise now, and how many accounts it concerns; nothing else is listed."""
        now, policy = self.clock.now(), self.policy
        with self.database.read() as connection:
            counts = [(risk, self.store.count(connection, risk.test, now, policy)) for risk in RISKS]
        return [(risk, count) for risk, count in counts if count]

    def outbox_counts(self) -> dict[str, int]:
        """How many outbox rows there are per status."""
        courier = self.courier
        with self.database.read() as connection:
            return courier.counts(connection)

    def heartbeats(self) -> list[dict[str, Any]]:
        """When each daemon was last seen."""
        with self.database.read() as connection:
            return self.store.heartbeats(connection)

    def timers(self) -> list[TimerStatus]:
        """Each timer: its next instant, how many accounts wait for it, how many are overdue."""
        with self.database.read() as connection:
            earliest = self.store.next_due(connection)
            counts = self.store.waiting(connection, self.clock.now())
        return [
            TimerStatus(row.event, state, earliest.get(state), *counts.get(state, (0, 0)))
            for row in TIMERS
            for state in row.sources
        ]

    def holds(self, account_id: str | None = None, *, released: bool = False) -> list[dict[str, Any]]:
        """Legal holds in force (with ``released``, all): account, case, who, why, since when, until when."""
        if account_id is not None:
            inputs.account_id(account_id)
        with self.database.read() as connection:
            return holds.listed(self.store, connection, account_id, released=released)

    def key_counts(self) -> dict[str, int]:
        """How many accounts' keys are wrapped under each key-encryption key, by its name; blank is: not wrapped."""
        from lifecycle import keys

        with self.database.read() as connection:
            return keys.counts(connection)

    def find(self, company: str, email: str) -> list[str]:
        """Ids of the accounts of a company with this owner, compared without case and extra spaces."""
        name, address = inputs.required(company, "company"), inputs.email(email)
        with self.database.read() as connection:
            return self.store.owned_by(connection, name, address)


def request_of(event: Event, actor: Actor, reason: str | None, facts: Mapping[str, Any]) -> Request:
    """The request with its facts checked: their names against the event, their form against their kind."""
    taken = FACTS[event] - {"reason"}
    for name in facts:
        if name not in taken:
            near = get_close_matches(name, taken, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(taken | {'reason'}))}."
            raise InvalidInput(f"{event} takes no {shown(name)}: {hint}")
    cleaned: dict[str, Any] = {name: None if value is None else _FACTS[name](value) for name, value in facts.items()}
    return Request(actor, reason=inputs.text(reason, "reason"), **cleaned)


#: How each fact of a request is read.
_FACTS: Mapping[str, Callable[[Any], Any]] = {
    "company": partial(inputs.text, name="company"),
    "email": inputs.email,
    "owner": inputs.email,
    "case": inputs.case,
    **{name: partial(in_utc, name=name) for name in ("period_ends_at", "hold_ends_at")},
}
