"""The engine: the one class that scripts, the command line and the daemon use.

It knows the time (through its clock), opens transactions, asks the definition for a decision and has
the store carry it out. See the README for a tour.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle import holds, inputs
from lifecycle.activation import Activation
from lifecycle.actor import SYSTEM, Actor, Request, Role
from lifecycle.authority import Authority
from lifecycle.characters import shown
from lifecycle.clock import Clock, ManualClock, SystemClock, in_utc
from lifecycle.database import Database
from lifecycle.deadlines import BEGINNINGS, OPENED
from lifecycle.errors import Conflict, InvalidInput, PolicyError, Refused
from lifecycle.filters import Filter
from lifecycle.handlers.log import log
from lifecycle.handlers.several import Several, tell
from lifecycle.machine import decide, due, event_named
from lifecycle.owner_change import carry_out
from lifecycle.policy import Policy
from lifecycle.questions import request_of
from lifecycle.reads import HistoryEntry, Snapshot
from lifecycle.requesting import RequestSettings
from lifecycle.safety import Safety
from lifecycle.seal import AuditSettings, Head
from lifecycle.states import DESTRUCTIVE, OWNERS_CHANGE, Effect, Event, Opening, Plan
from lifecycle.store import Entry, Store
from lifecycle.task import DeliverySettings, Handler
from lifecycle.terms import evaluate
from lifecycle.vault import KeyRing, Vault

if TYPE_CHECKING:  # what only some callers use is imported when it is used: `lifecycle show` shall answer at once
    from lifecycle.activity import ActivityReport
    from lifecycle.audit import AuditReport
    from lifecycle.bulk import BulkPlan
    from lifecycle.chain import Chain, SealReport
    from lifecycle.outbox import Courier, DeliveryReport
    from lifecycle.privileges import DatabaseRole
    from lifecycle.sweep import Sweeper, SweepReport

T = TypeVar("T")


class Engine(Activation):
    """Opens a database and keeps one policy on it.

    ``url`` is ``sqlite:///accounts.db`` or ``postgresql://…``. Without ``policy`` the one that the
    database keeps is used (the defaults, before the first :meth:`migrate`); with another than that,
    every change is refused with ``PolicyError`` until :meth:`migrate` adopts it. ``handlers``
    deliver effects, one each, or several by their names; those that destroy have none unless one is given, the
    others are logged. ``safety`` says what holds destruction back, ``keys`` under which keys personal data is sealed,
    ``requests`` within which limits cancellations are asked for, ``audit`` how often a daemon seals the record.
    ``authority`` says for whom the engine works: every actor that is named must be them. Without one it believes the
    code that opened it.

    Changes raise :class:`Refused` when the definition says no or the actor may not be named, :class:`Conflict`
    when another process won several times in a row, :class:`InvalidInput` for malformed arguments.
    """

    def __init__(
        self,
        url: str,
        *,
        policy: Policy | None = None,
        clock: Clock | None = None,
        handlers: Mapping[Effect, Handler | Mapping[str, Handler]] | None = None,
        delivery: DeliverySettings | None = None,
        safety: Safety | None = None,
        keys: KeyRing | None = None,
        requests: RequestSettings | None = None,
        audit: AuditSettings | None = None,
        authority: Authority | None = None,
        batch: int | None = None,
    ) -> None:
        self.database = Database(url)
        self.store = Store(self.database, Vault(keys))
        self.clock = clock or SystemClock()
        self.handlers: dict[Effect, Handler] = {
            **{effect: log for effect in Effect if effect not in DESTRUCTIVE},
            **{effect: Several(one) if isinstance(one, Mapping) else one for effect, one in (handlers or {}).items()},
        }
        self._given_policy = policy
        self._policy: Policy | None = None
        self._delivery = delivery or DeliverySettings()
        self.safety = safety or Safety()
        self.requests = requests or RequestSettings()
        self.audit = audit or AuditSettings()
        self.authority = authority
        self._batch = batch
        self._sweeper: Sweeper | None = None
        self._courier: Courier | None = None

    # --- Set-up ------------------------------------------------------------------------------

    def migrate(self, *, role_prefix: str | None = None, change_policy: bool = True) -> None:
        """Create or upgrade the schema, and adopt this engine's policy where the database keeps another.

        Adoption moves every account's next date; dates that were stamped stay. With an authority it takes an admin,
        and a second person where it gives customers less time: :class:`ApprovalNeeded`. Without ``change_policy`` a
        database that keeps another policy goes on keeping it, and :class:`PolicyError` says so; :meth:`activate`
        changes it with a reason on record.

        With ``role_prefix``, PostgreSQL's roles of these names are made, the tables are made over to the owner among
        them, and each gets its grants.
        """
        roles = None if role_prefix is None else self.database_roles(role_prefix)
        self.store.migrate()
        if self.ledger is not None:
            self.ledger.create()
        self._adopt_access()
        with self.adopting(), self.database.write() as connection:
            kept = self.store.policy_in_force(connection)
            wanted = self._given_policy or kept or Policy()
            if kept != wanted:
                if kept is not None and not change_policy:
                    raise PolicyError(
                        f"This database keeps policy {kept.version}, and the configuration states {wanted.version}; "
                        "see what would change with `lifecycle policy impact`, and put it in force with "
                        "`lifecycle policy activate`. The schema is up to date."
                    )
                second = self.approve_policy(connection, kept, wanted)
                self.adopt(connection, kept, wanted, actor=self._adopter(), approved_by=second)
            elif not self.store.keeps(connection, wanted):  # the same, as a release with fewer settings recorded it
                self.store.record_policy(connection, wanted, self.clock.now())
            if roles is not None:
                from lifecycle.roles import establish

                establish(connection, roles)
        self._policy = wanted

    def _adopter(self) -> str:
        """Who adopts a policy along with the schema."""
        return str(Actor(Role.SYSTEM, "engine") if self.authority is None else self.authority.actor(Role.ADMIN))

    def database_roles(self, prefix: str) -> "Mapping[DatabaseRole, str]":
        """The names of PostgreSQL's roles with this prefix; raises :class:`InvalidInput` on SQLite, which has none."""
        from lifecycle.roles import named

        return named(self.database, prefix)

    @property
    def policy(self) -> Policy:
        """The policy that this engine keeps.

        To find it out may take a connection, the first time. So it is asked for before a transaction begins: where
        connections are few, all would hold one and wait for a second.
        """
        if self._policy is None:
            self._policy = self._given_policy or self.kept_policy()
        return self._policy

    def changed_policy(self, policy: Policy) -> None:
        """From now on this engine keeps ``policy``."""
        self._policy, self._sweeper, self._courier = policy, None, None

    @property
    def sweeper(self) -> "Sweeper":
        """Sweeps this engine's database."""
        if self._sweeper is None:
            from lifecycle.sweep import BATCH, Sweeper

            self._sweeper = Sweeper(self.store, self.policy, self._batch or BATCH, self.safety)
        return self._sweeper

    @property
    def courier(self) -> "Courier":
        """Delivers this engine's outbox."""
        if self._courier is None:
            from lifecycle.outbox import Courier

            tell(self.handlers, "quote", self.policy.as_text())  # a mail quotes the policy that is kept
            self._courier = Courier(self.store, self.policy, self.handlers, self._delivery, self.ledger, self.requests)
        return self._courier

    def forget_purged(self) -> None:
        """See to it that SQLite's files forget what this engine has purged. The daemon does it once an hour.

        Raises nothing while others write: then the next time will do. PostgreSQL forgets as it vacuums.
        """
        if self._courier is not None:
            self._courier.forget()

    def rotate_keys(self, on_progress: Callable[[int], None] = lambda keys: None) -> int:
        """Wrap every account's key under the current key-encryption key; how many were under another.

        Raises :class:`KeyMissing`. Keys that another process holds just then are left to the next call.
        """
        from lifecycle import keys

        return keys.rotate(self.store, on_progress)

    def close(self) -> None:
        """Close handlers that can be closed, and all connections; purged accounts are forgotten before."""
        self.forget_purged()
        tell(self.handlers, "close")
        self.database.close()

    # --- Changes -----------------------------------------------------------------------------

    def open_account(
        self,
        account_id: str,
        *,
        company: str,
        owners: Sequence[str],
        plan: str = Plan.TRIAL,
        period_ends_at: datetime | None = None,
        actor: Actor | None = None,
    ) -> Snapshot:
        """A new account with at least one owner; ``plan="paid"`` needs ``period_ends_at`` in the future.

        ``actor`` is for the history; without one it is whom the engine works for, or else the engine itself.

        Raises :class:`AccountExists`, :class:`InvalidInput` or :class:`NotAuthorised`.
        """
        now = self.clock.now()
        row = new_row(account_id, plan, period_ends_at, now, self.policy)
        name = inputs.required(company, "company")
        addresses = _addresses(owners)
        with self.opening(actor, account_id) as opener:
            entry = Entry(now, self.policy.version, _opener(opener, addresses))
            with self.database.write() as connection:
                self.store.require_policy(connection, self.policy)
                self.store.insert(connection, [row], [name], [addresses], Opening.OPEN_ACCOUNT, entry)
                self.store.announce(connection)
        return self.get(account_id)

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
        """Fire an event and return its history entry, or raise :class:`Refused` with every reason.

        ``facts`` are those that the event takes (``period_ends_at``, ``company``, ``email``, ``case``).
        With a ``request_id`` that this account has seen, nothing happens and the first entry returns.
        """
        name = event_named(event)
        wanted = inputs.request_id(request_id)
        with self.acting(actor, name, account_id) as named:
            asked = request_of(name, named, reason, facts)
            return self._retrying(lambda: self._fire(account_id, name, asked, wanted))

    def _fire(self, account_id: str, event: Event, asked: Request, request_id: str | None) -> HistoryEntry:
        _ = self.policy  # before a connection is held
        with self.database.write() as connection:
            return self.fire_within(connection, account_id, event, asked, request_id)

    def fire_within(
        self, connection: Any, account_id: str, event: Event, asked: Request, request_id: str | None = None
    ) -> HistoryEntry:
        """Fire an event in the caller's transaction; ``asked`` is taken as it is."""
        policy = self.policy
        snapshot, seen_at = self.store.load_to_change(connection, account_id, policy)
        now = self.clock.now()
        if self.gate is not None:
            self.gate.refuse_backwards(now, seen_at)
        if request_id is not None:
            earlier = self.store.replayed(connection, account_id, request_id)
            if earlier is not None:
                if earlier.event != event:
                    raise InvalidInput(f"request_id {request_id} was used for {earlier.event} already; choose another.")
                return earlier
        if self.store.withdrawable(connection, event, [account_id]):
            asked = replace(asked, unclaimed=True)
        decision = decide(snapshot, event, asked, now, policy)
        entry = Entry.of_request(snapshot, asked, now, policy.version, request_id)
        written = self.store.write(connection, snapshot, decision, entry)
        self.store.follow_hold(connection, event, {account_id: written.number}, asked, now)
        if event in OWNERS_CHANGE:
            carry_out(self.store, connection, snapshot, event, asked, written.number, now)
        return written

    def fire_many(
        self,
        event: str,
        accounts: Iterable[str] | Filter,
        *,
        actor: Actor,
        reason: str | None = None,
        dry_run: bool = True,
        digest: str | None = None,
        request_id: str | None = None,
        on_page: Callable[[int], None] = lambda looked_at: None,
        **facts: Any,
    ) -> "BulkPlan":
        """Fire an event on many accounts: show the plan first, then apply exactly it by its ``digest``.

        ``accounts`` are ids, or a :class:`Filter`. The dry run changes nothing; each account is decided
        as :meth:`fire` would, and what would be refused is counted by reason, ids without an account too.
        With ``dry_run=False`` and the ``digest`` of a plan all of it is done, in one transaction, or
        nothing: :class:`PlanChanged` when the same call would now do something else. ``request_id``
        names the change as a whole; once it was applied, the same call returns what was done then.
        ``on_page`` hears how many accounts were looked at, page by page. Where it takes two people to move so many,
        applying raises :class:`ApprovalNeeded` first.
        """
        name = event_named(event)
        if name in OWNERS_CHANGE:
            raise InvalidInput(f"{name} is about one account's people: fire it on each account by itself.")
        wanted = inputs.request_id(request_id)
        if dry_run is (digest is not None):
            raise InvalidInput(
                "A dry run takes no digest, and applying needs one: show the plan with dry_run=True, look at it, then "
                "give dry_run=False and the plan's digest."
            )
        from lifecycle.bulk import Bulk, selected  # a command that fires nothing need not wait for it

        self.barred()
        chosen, applied = selected(accounts), None if digest is None else digest.strip().lower()
        with self.acting(actor, f"fire_many {name}") as named:
            asked = request_of(name, named, reason, facts)
            bulk = Bulk(self.store, self.policy, name, asked, chosen, wanted, on_page, self.approve_bulk)
            if applied is None:
                return bulk.plan(self.clock.now)
            self.foresee_bulk(bulk, applied)
            return self._retrying(partial(bulk.apply, applied, self.clock.now))

    def _retrying(self, attempt: Callable[[], T]) -> T:
        try:
            return attempt()
        except Conflict:
            from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

            again = Retrying(
                retry=retry_if_exception_type(Conflict),
                stop=stop_after_attempt(4),
                wait=wait_random_exponential(multiplier=0.02, max=0.5),
                reraise=True,
            )
            return again(attempt)

    def place_hold(
        self,
        account_id: str,
        *,
        actor: Actor,
        reason: str,
        case: str | None = None,
        ends_at: datetime | None = None,
        request_id: str | None = None,
    ) -> HistoryEntry:
        """Place a legal hold: nothing of the account is destroyed while one is in force.

        With ``ends_at``, which needs a ``case``, it is released by itself then.
        """
        facts = {"case": case, "hold_ends_at": ends_at}
        return self.fire(account_id, Event.PLACE_HOLD, actor=actor, reason=reason, request_id=request_id, **facts)

    def release_hold(
        self,
        account_id: str,
        *,
        actor: Actor,
        reason: str,
        case: str | None = None,
        request_id: str | None = None,
    ) -> HistoryEntry:
        """Release the holds of one case; all of them, without a case."""
        return self.fire(account_id, Event.RELEASE_HOLD, actor=actor, reason=reason, case=case, request_id=request_id)

    def release_ended_holds(self) -> int:
        """Release the cases all of whose holds have come to their end; how many. Every sweep does it."""
        with self.database.read() as connection:
            ended = holds.ended(connection, self.clock.now())
        for account_id, case in ended:
            asked = Request(SYSTEM, reason="the hold has come to its end", case=case)
            with suppress(Refused):  # somebody has just released it
                self._retrying(partial(self._fire, account_id, Event.RELEASE_HOLD, asked, None))
        return len(ended)

    def contact_owners(self, account_id: str, *, actor: Actor, reason: str) -> HistoryEntry:
        """Write to every owner at the addresses on file (clause unknown-owner)."""
        return self.fire(account_id, Event.CONTACT_OWNERS, actor=actor, reason=reason)

    def record_activity(self, account_id: str, at: datetime | None = None) -> bool:
        """Note that the account was used, now or at an earlier instant; True if it was written.

        Cheap: no index and no history is touched. What is not later than the activity on file, or
        closer to it than the policy's ``activity_resolution``, is not written.
        """
        now = self.clock.now()
        at = now if at is None else in_utc(at, "at")
        if at > now:
            raise InvalidInput(f"Activity can't lie in the future: {at} is after {now}.")
        policy = self.policy
        with self.database.write() as connection:
            self.store.require_policy(connection, policy)
            written = self.store.record_activity(connection, account_id, at, now, policy)
            if not written:
                self.store.load(connection, account_id)
            return written

    def record_activities(
        self, pairs: Iterable[tuple[str, datetime]], on_progress: Callable[[int], None] = lambda pairs: None
    ) -> "ActivityReport":
        """Note the activity of many accounts, as :meth:`record_activity` does, from any number of (id, instant).

        They are read as a stream and written in batches; of one account's in a batch the latest counts.
        Unknown ids are reported. An instant in the future raises :class:`InvalidInput`; nothing of its
        batch is written, all before it is.
        """
        from lifecycle.activity import record

        return record(self.store, self.policy, pairs, self.clock.now, on_progress)

    # --- The record --------------------------------------------------------------------------

    @cached_property
    def chain(self) -> "Chain":
        """The seals over this engine's history and receipts."""
        from lifecycle.chain import Chain

        return Chain(self.database)

    def seal(self, stop: Callable[[], bool] = lambda: False) -> "SealReport":
        """Seal what is new in history and receipts; ``stop`` is asked between two seals. The daemon does it by itself.

        Rows whose transactions are still open are left to the next time.
        """
        return self.chain.seal(self.clock.now(), stop)

    def verify(
        self, heads: Sequence[Head] = (), on_progress: Callable[[int], None] = lambda rows: None
    ) -> "AuditReport":
        """Read all of history and receipts again, and say what is not as it was sealed.

        ``heads`` are those that were kept elsewhere (:func:`lifecycle.seal.heads_in`): each must be in the chain.
        """
        from lifecycle.audit import verify

        return verify(self.database, heads, on_progress)

    # --- Time --------------------------------------------------------------------------------

    def sweep(self, **options: Any) -> "SweepReport":
        """Fire all that is due now; ``options`` as :meth:`lifecycle.sweep.Sweeper.sweep` takes them.

        Raises :class:`ClockInDoubt` when this host's clock can't be right.
        """
        barred = self.barred()
        self.release_ended_holds()
        return self.sweeper.sweep(self.clock.now(), barred=barred, **options)

    def deliver(self, stop: Callable[[], bool] = lambda: False) -> "DeliveryReport":
        """Look at requests for cancellation, hand all due effects to their handlers, and carry their answers back.

        Raises :class:`ClockInDoubt` when this host's clock can't be right.
        """
        self.settle_requests()
        return self.courier.deliver(self.clock.now, stop, self.barred)

    def run_until(self, instant: datetime) -> None:
        """Live from due instant to due instant until ``instant``; needs a :class:`ManualClock`."""
        clock = self.clock
        if not isinstance(clock, ManualClock):
            raise InvalidInput("run_until leaps through time, so it needs a ManualClock.")
        end = in_utc(instant, "instant")
        while True:
            swept = self.sweep()
            if swept.moved + self.deliver().handled:
                continue  # a delivered notice or a receipt may have made more due at this instant
            upcoming = [at for at in self._next_instants(braked=swept.withheld is not None) if clock.now() < at < end]
            if not upcoming:
                break
            clock.set(min(upcoming))
        if clock.now() < end:
            clock.set(end)
            while self.sweep().moved + self.deliver().handled:
                pass

    def _next_instants(self, braked: bool) -> list[datetime]:
        now = self.clock.now()
        with self.database.read() as connection:
            delivery = self.courier.next_due(connection, now)
            opens_at = self.sweeper.brake.opens_at(connection, now) if braked else None
            hold_ends_at = holds.next_end(connection, now)
            instants = [*self.store.next_due(connection, after=now).values(), delivery, opens_at, hold_ends_at]
        return [at for at in instants if at is not None]


def new_row(
    account_id: str, plan: str, period_ends_at: datetime | None, now: datetime, policy: Policy
) -> dict[str, Any]:
    """The columns of an account that is opened ``now``; raises :class:`InvalidInput` for what can't be one."""
    try:
        chosen = Plan(plan)
    except ValueError:
        raise InvalidInput(f"Unknown plan {shown(plan)}; the plans are {', '.join(Plan)}.") from None
    if (period_ends_at is not None) != (chosen is Plan.PAID):
        raise InvalidInput("period_ends_at belongs to the plan paid, and the plan paid needs it.")
    if period_ends_at is not None:
        period_ends_at = in_utc(period_ends_at, "period_ends_at")
        if period_ends_at <= now:
            raise InvalidInput("period_ends_at must lie in the future; import accounts with a past instead.")
    state, begins = BEGINNINGS[chosen]
    clocks = {name: None for _, started in BEGINNINGS.values() for name, _ in started}
    sources = {"request": {"period_ends_at": period_ends_at}, "policy": policy, "now": now}
    row = {
        "id": inputs.account_id(account_id),
        "state": state,
        "plan": chosen,
        **clocks,
        **{name: evaluate(term, sources) for name, term in (*OPENED, *begins)},
    }
    return {**row, "due_at": due(_Columns(row), now, policy)}


class _Columns:
    """A row that is not in the database yet, read as the definition reads accounts."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return self._row.get(name)


def _opener(actor: Actor, addresses: Sequence[str]) -> str:
    """Who opens an account, for its history: an owner by number, never by address."""
    if actor.role is not Role.OWNER:
        return str(actor)
    keys = [*map(inputs.email_key, addresses)]
    if inputs.email_key(actor.id) not in keys:
        raise InvalidInput("An owner who opens an account must be among its owners; add the address to them.")
    return f"{actor.role}:{keys.index(inputs.email_key(actor.id)) + 1}"


def _addresses(owners: Sequence[str]) -> list[str]:
    if isinstance(owners, str) or not owners:
        raise InvalidInput("An account needs at least one owner: give a list of e-mail addresses.")
    addresses = list(dict.fromkeys(inputs.email(owner) for owner in owners))
    if len({*map(inputs.email_key, addresses)}) != len(addresses):
        raise InvalidInput("The same owner is given twice; e-mail addresses are compared without case.")
    return addresses
