"""Which policy is in force: who put it there and why, what another one would do, and putting that in force.

A policy is a promise, so a change of it is recorded like one: with an actor, a reason, and a second person where it
gives customers less time. Dates that an account was promised are never touched.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lifecycle import inputs
from lifecycle.actor import Actor
from lifecycle.characters import shown
from lifecycle.errors import Conflict, InvalidInput, Refused
from lifecycle.ownership import Ownership
from lifecycle.policy import Policy
from lifecycle.precautions import an_admin
from lifecycle.reads import Adoption

if TYPE_CHECKING:  # what only some callers use is imported when it is used
    from lifecycle.impact import Choice, Foretold, Impact


class Activation(Ownership):
    """The part of :class:`lifecycle.engine.Engine` that knows and changes the policy in force."""

    @abstractmethod
    def changed_policy(self, policy: Policy) -> None:
        """From now on this engine keeps ``policy``."""

    def kept_policy(self) -> Policy:
        """The policy that is in force in the database, whatever this engine was opened with."""
        with self.database.read() as connection:
            self.store.check_schema(connection)
            return self.store.policy_in_force(connection) or Policy()

    def policy_history(self) -> list[Adoption]:
        """Every policy that was in force, the latest first."""
        with self.database.read() as connection:
            self.store.check_schema(connection)
            return self.store.adoptions(connection)

    def recorded_policy(self, version: str) -> Policy:
        """The policy that was in force whose version begins so; :class:`InvalidInput` unless it is exactly one."""
        found = {one.version: one.policy for one in self.policy_history() if one.version.startswith(version)}
        if len(found) != 1:
            which = f"{len(found)} policies have" if found else "no policy of this database has"
            raise InvalidInput(f"{which} a version that begins with {shown(version)}; see `lifecycle policy history`.")
        return next(iter(found.values()))

    def activate(self, policy: Policy, *, actor: Actor, reason: str, instead_of: Policy | None = None) -> Adoption:
        """Put ``policy`` in force, from this moment on. Every account gets the next date that it has under it.

        ``instead_of`` is what the decision was made against: where another is in force by now, nothing is changed.
        Daemons that run under another policy stop by themselves. Raises :class:`Refused` where it is in force already,
        :class:`Conflict` where ``instead_of`` is not, :class:`NotAuthorised` for anybody but an admin, and
        :class:`ApprovalNeeded` where it takes two people.
        """
        with self.acting(actor, "activate_policy") as named:
            who, why = an_admin(named, "The policy is not activated:"), inputs.required(reason, "reason")
            with self.database.write() as connection:
                self.store.check_schema(connection)
                self.store.keep_writers_out(connection)  # before what is in force is read
                kept = self.store.policy_in_force(connection)
                if kept == policy:
                    raise Refused("The policy is not activated:", (f"Policy {policy.version} is in force already.",))
                if kept is not None and instead_of not in (None, kept):
                    raise Conflict(
                        f"Meanwhile policy {kept.version} came in force, and {policy.version} was not compared with "
                        "it: nothing is changed. Look at `lifecycle policy history`, and activate it again."
                    )
                second = self.approve_policy(connection, kept, policy, why)
                self.adopt(connection, kept, policy, actor=who, approved_by=second, reason=why)
                done = self.store.adoptions(connection)[0]  # another may follow at once
        self.changed_policy(policy)
        return done

    def adopt(self, connection: Any, kept: Policy | None, policy: Policy, **by: str | None) -> None:
        """Have the database keep ``policy`` instead of ``kept``, in the caller's transaction."""
        from lifecycle.sweep import Sweeper

        Sweeper(self.store, policy).adopt(connection, kept, self.clock.now(), **by)

    def impact(self, candidate: Policy) -> "Impact":
        """What activating ``candidate`` now would do to the accounts that there are. Read only."""
        from lifecycle.impact import impact

        return impact(self, candidate)

    def foretold(self, candidate: Policy, choice: "Choice | None" = None) -> "Iterator[Foretold]":
        """The accounts behind :meth:`impact`: steps of timers under both policies; read while it is consumed."""
        from lifecycle.impact import Choice, Forecast

        return Forecast(self.store, self.kept_policy(), candidate).listed(self.clock.now(), choice or Choice())
