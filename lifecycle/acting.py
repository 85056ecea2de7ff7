"""For whom an engine works: actors that are named are checked here, refusals are kept, and two people agree.

Whatever changes something goes through :meth:`Acting.acting` with the actor that its caller named.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lifecycle import approvals, refusals
from lifecycle.actor import Actor, Request, Role
from lifecycle.approvals import Action, Approval, Ask
from lifecycle.authority import ACTING, HELD, KEY, vouched
from lifecycle.errors import AccountNotFound, ApprovalNeeded, InvalidInput, LifecycleError, NotAuthorised, Refused
from lifecycle.machine import may_fire
from lifecycle.policy import Policy, shortened
from lifecycle.questions import Questions
from lifecycle.refusals import RefusedAttempt
from lifecycle.safety import Safety

if TYPE_CHECKING:  # what only some callers use is imported when it is used
    from lifecycle.access import Access
    from lifecycle.bulk import Bulk, BulkPlan

_MISSING = "There is no account with this id."


class Acting(Questions):
    """The part of :class:`lifecycle.engine.Engine` that knows for whom it works."""

    safety: Safety
    _access_agrees = False

    @contextmanager
    def acting(self, actor: Actor, what: str, account_id: str | None = None) -> Iterator[Actor]:
        """The actor, if it may be named here, for the time of one attempt; a refusal of it is recorded.

        What nobody has approved yet is asked for, once its transaction is undone: :class:`ApprovalNeeded`.
        """
        with self.recording(what, actor, account_id):
            named = vouched(self.authority, actor)
            if self.authority is not None:
                self.check_access()
            with self.asking():
                yield named

    @contextmanager
    def opening(self, actor: Actor | None, account_id: str) -> Iterator[Actor]:
        """Who opens an account: the ``actor`` that is named, or :meth:`itself`."""
        if actor is None:
            with self.recording("open_account", self._principal(), account_id):
                yield self.itself("engine", ACTING)
            return
        with self.acting(actor, "open_account", account_id) as named:
            if named.role is Role.AUDITOR:
                raise NotAuthorised("The account is not opened:", ("An auditor only reads.",))
            yield named

    def itself(self, program: str, roles: Collection[Role]) -> Actor:
        """Who acts where code names nobody: whom the engine works for, in one of ``roles``; else its own program."""
        if self.authority is None:
            return Actor(Role.SYSTEM, program)
        self.check_access()
        return self.authority.acting(roles)

    def _principal(self) -> str:
        return "?" if self.authority is None else str(self.authority.principal)

    # --- Refused attempts --------------------------------------------------------------------

    @contextmanager
    def recording(self, what: str, who: Actor | str, account_id: str | None = None) -> Iterator[None]:
        """Keep a refusal among the refused attempts, in a transaction of its own, and pass it on."""
        try:
            yield
        except ApprovalNeeded:
            raise  # it is on record as a request
        except (Refused, AccountNotFound) as refusal:
            try:
                self.record_refusal(what, who, refusal, account_id=account_id)
            except LifecycleError as error:  # it stays refused
                import structlog  # which only this needs, and a short command has no time for

                log = structlog.get_logger("lifecycle.acting")
                log.error("refusal not recorded", what=what, error=type(error).__name__)
            raise

    def record_refusal(
        self,
        what: str,
        who: Actor | str,
        refusal: Refused | AccountNotFound,
        *,
        account_id: str | None = None,
        principal: str | None = None,
    ) -> None:
        """Keep an attempt that was refused; ``principal`` where it is not the one that the engine works for."""
        if principal is None and self.authority is not None:
            principal = str(self.authority.principal)
        reasons = refusal.reasons if isinstance(refusal, Refused) else (_MISSING,)
        version = self.policy.version
        with self.database.write() as connection:
            refusals.record(
                self.store,
                connection,
                self.clock.now(),
                what,
                who,
                reasons,
                account_id=account_id,
                principal=principal,
                policy_version=version,
            )

    def refusals(
        self, account_id: str | None = None, since: datetime | None = None, limit: int | None = None
    ) -> list[RefusedAttempt]:
        """Refused attempts, the latest first: of one account, from ``since`` on, at most ``limit``."""
        with self.database.read() as connection:
            return list(refusals.listed(connection, account_id, since, limit))

    def prune(self) -> int:
        """Forget refused attempts, and requests for approval that came to nothing, older than ``safety.refusals_kept``.

        Returns how many attempts. The daemon does it once an hour.
        """
        before, total = self.clock.now() - self.safety.refusals_kept, 0
        with self.database.write() as connection:
            approvals.prune(connection, before)
        while True:
            with self.database.write() as connection:
                pruned = refusals.prune(connection, before)
            total += pruned
            if not pruned:
                return total

    # --- Two people --------------------------------------------------------------------------

    @contextmanager
    def asking(self) -> Iterator[None]:
        """What nobody has approved yet becomes a request, and :class:`ApprovalNeeded`."""
        try:
            yield
        except approvals.Unapproved as missing:
            assert self.authority is not None
            ask, principal = missing.ask, self.authority.principal
            lasts = ask.expires_after or self.authority.rules.expires_after
            with self.database.write() as connection:
                number = approvals.request(connection, ask, principal, self.clock.now(), lasts)
            roles = " or ".join(ask.roles)
            advice = f"Another person with the role {roles} runs `lifecycle approve {number}`; then do the same again."
            summary = f"It takes a second person, and is now request {number}: {ask.summary}"
            raise ApprovalNeeded(summary, (advice,), number) from None

    def second_person(self, connection: Any, ask: Ask | None) -> str | None:
        """Who has approved this, which is used up by it; None where it takes nobody.

        Raises what :meth:`asking` turns into a request, so that the transaction is undone.
        """
        if ask is None or self.authority is None:
            return None
        return approvals.use(connection, ask, self.authority.principal, self.clock.now())

    def approvals(self, *, everything: bool = False) -> list[Approval]:
        """Requests that wait for a second person, or for their use; all of them with ``everything``."""
        with self.database.read() as connection:
            return approvals.listed(connection, self.clock.now(), everything=everything)

    def approve(self, number: int, *, reason: str | None = None) -> Approval:
        """Approve what another person asked for, as the principal that this engine works for.

        Raises :class:`Refused` for one's own request, one that is expired or used, and without a role that it needs;
        :class:`InvalidInput` for an unknown number and an engine without an authority.
        """
        authority = self.authority
        if authority is None:
            raise InvalidInput("An engine without an authority knows nobody who could approve; open it with one.")
        with self.recording("approve", str(authority.principal)):
            self.check_access()
            with self.database.write() as connection:
                return approvals.approve(connection, number, authority, self.clock.now(), reason)

    def approve_policy(
        self, connection: Any, kept: Policy | None, wanted: Policy, reason: str | None = None
    ) -> str | None:
        """Let ``wanted`` come into force: by an admin, and by two people where it gives customers less time.

        Returns who has approved it, where it takes two.
        """
        if self.authority is None:
            return None
        self.authority.require((Role.ADMIN,))
        names = [] if kept is None else shortened(kept, wanted)
        if kept is None or not names or not self.authority.rules.shorten_policy:
            return None
        if not self.store.page_that(connection, (), None, 1, lock=False):
            return None  # nobody was promised anything yet
        was, will_be = kept.as_text(), wanted.as_text()
        changes = ", ".join(f"{name} from {was[name]} to {will_be[name]}" for name in names)
        summary = f"adopt policy {wanted.version} instead of {kept.version}, which shortens {changes}."
        ask = Ask(Action.SHORTEN_POLICY, {"from": was, "to": will_be}, summary, reason=reason)
        return self.second_person(connection, ask)

    def approve_bulk(self, connection: Any, plan: "BulkPlan", asked: Request) -> str | None:
        """Who has approved that so many accounts move; None where it takes nobody."""
        return self.second_person(connection, self._bulk(plan, asked))

    def foresee_bulk(self, bulk: "Bulk", digest: str) -> None:
        """Ask for a large change before it is carried out, rather than undo all of it for want of an approval."""
        if self.authority is None or not self.authority.rules.fire_many_from:
            return
        now, principal = self.clock.now(), self.authority.principal
        with self.database.read() as connection:
            if approvals.approved(connection, approvals.Ask.of_plan(digest), principal, now):
                return
        plan = bulk.plan(self.clock.now)
        ask = None if plan.applied or plan.digest != digest else self._bulk(plan, bulk.asked)
        if ask is not None:
            raise approvals.Unapproved(ask)

    def _bulk(self, plan: "BulkPlan", asked: Request) -> Ask | None:
        many = 0 if self.authority is None else self.authority.rules.fire_many_from
        if not many or plan.count < many:
            return None
        moves = ", ".join(f"{count:,} from {source} to {dest}" for (source, dest), count in sorted(plan.moves.items()))
        roles = tuple(role for role in HELD if role in may_fire(plan.event))
        summary = f"{plan.event} for {plan.count:,} accounts: {moves}."
        return Ask.of_plan(plan.digest, summary, roles, asked.reason)

    # --- The settings about who may do what --------------------------------------------------

    @contextmanager
    def adopting(self) -> Iterator[None]:
        """The time of one adoption, with an authority: refusals are recorded, and approvals asked for."""
        with self.recording("init", self._principal()), self.asking():
            yield

    def kept_access(self) -> "Access":
        """The roles, keys and two-person rules that this database keeps."""
        from lifecycle.access import Access

        with self.database.read() as connection:
            self.store.check_schema(connection)
            return Access.from_text(approvals.kept_access(connection))

    def check_access(self) -> None:
        """Raise :class:`NotAuthorised` where the settings of the authority are not those that the database keeps.

        Otherwise whoever brings a configuration of their own would choose their own roles.
        """
        if self._access_agrees or self.authority is None or self.authority.settings is None:
            return
        if self.kept_access().as_text() != self.authority.settings:
            raise NotAuthorised(
                f"{self.authority.principal} is refused:",
                (
                    "The configuration states other roles, keys or two-person rules than the database keeps. Name the "
                    "right one with --config; an admin adopts a new one with `lifecycle init`.",
                ),
            )
        self._access_agrees = True

    def _adopt_access(self) -> None:
        """Have the database keep the settings of the authority; takes an admin by those that it keeps so far."""
        authority = self.authority
        if authority is None or authority.settings is None:
            return
        from lifecycle.access import Access, changed

        wanted = Access.from_text(authority.settings)
        with self.adopting(), self.database.write() as connection:
            kept = Access.from_text(approvals.kept_access(connection))
            if kept == wanted:
                return
            principal = authority.principal
            same_key = principal.kind != KEY or kept.keys.get(principal.name) == wanted.keys.get(principal.name)
            if kept.roles is not None and not same_key:
                # Whoever holds the key of the new settings need not be who held the old one.
                raise NotAuthorised(
                    f"{principal} is refused:", ("The settings change the key that they are used with.",)
                )
            admin = kept.authority(principal).actor(Role.ADMIN)
            ask = None
            if kept.rules.change_access and kept.admins() - {principal}:
                texts = {"from": kept.as_text(), "to": wanted.as_text()}
                summary = f"adopt other roles, keys or rules: {changed(kept, wanted)}."
                ask = Ask(Action.CHANGE_ACCESS, texts, summary, expires_after=kept.rules.expires_after)
            second = self.second_person(connection, ask)
            approvals.adopt_access(connection, wanted.as_text(), str(admin), second, self.clock.now())
