"""Every error that the product raises on purpose.

::

    LifecycleError
    ├── DefinitionError        the machine's definition contradicts itself (raised at import)
    ├── PolicyError            a policy setting is missing, malformed or out of bounds
    ├── InvalidInput           a request, a row or an argument is malformed
    ├── AccountNotFound        no account has this id
    ├── AccountExists          an account with this id is there already
    ├── Conflict               another process changed the account at the same moment
    ├── PlanChanged            a bulk change would no longer be the one that was shown
    ├── DatabaseUnavailable    the database can't be reached, or stays locked
    ├── ClockInDoubt           the clock can't be right, so nothing moves by it
    ├── LedgerUnusable         the ledger can't be read or written, or is shorter than it was
    ├── KeyMissing             personal data is sealed under a key that the settings don't have
    ├── PrivilegeMissing       the database user lacks a right
    ├── SchemaOutdated         the database has no schema, or one of another version
    └── Refused                the definition says no; ``reasons`` lists every reason
        ├── NoSuchTransition   the event does not leave the account's present state
        ├── GuardRefused       the event exists here, but a condition does not hold
        ├── NotAuthorised      this kind of actor may not fire the event here, or is not who they say
        ├── ApprovalNeeded     a second person must approve it first; ``number`` is the request's
        └── TokenRefused       the token confirms nothing (any more)

A message says what happened, why, and what to do next.
"""

from collections.abc import Iterable


class LifecycleError(Exception):
    """Root of all errors of this package."""


class DefinitionError(LifecycleError):
    """The definition in ``machine.py`` is inconsistent; the message names the culprits."""


class PolicyError(LifecycleError):
    """Policy settings are unknown, malformed or out of bounds; the message names them, ``problems`` has each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__(" ".join(problems))


class InvalidInput(LifecycleError):
    """Input that can't be understood. Nothing was changed."""


class AccountNotFound(LifecycleError):
    """No account has this id. Nothing was changed."""


class AccountExists(LifecycleError):
    """An account with this id exists already. Nothing was changed."""


class Conflict(LifecycleError):
    """Another process changed the account at the same moment. Nothing was changed; try again."""


class PlanChanged(LifecycleError):
    """A bulk change would no longer be the one that was shown. Nothing was changed; look at the new plan."""


class DatabaseUnavailable(LifecycleError):
    """The database can't be reached, or another process keeps it locked. Nothing was changed."""


class ClockInDoubt(LifecycleError):
    """The clock of this host can't be right. Nothing was changed; correct it, or say that it is right."""


class KeyMissing(LifecycleError):
    """Personal data can't be opened with the keys of the settings. Nothing was changed."""


class PrivilegeMissing(LifecycleError):
    """The database user lacks a right that this takes. Nothing was changed; connect as another."""


class LedgerUnusable(LifecycleError):
    """The ledger of what was destroyed can't be read or written, or lacks lines. Nothing is destroyed until then."""


class SchemaOutdated(LifecycleError):
    """The database has no schema, or one of another version; ``lifecycle init`` brings it up to date."""


class Refused(LifecycleError):
    """A request that the definition does not allow.

    ``reasons`` is a tuple of plain sentences, one per reason and never empty.
    """

    def __init__(self, summary: str, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(" ".join((summary, *self.reasons)))


class NoSuchTransition(Refused):
    """The event does not leave the account's present state."""


class GuardRefused(Refused):
    """The event exists in this state, but at least one of its conditions does not hold."""


class NotAuthorised(Refused):
    """The event exists in this state, but not for this kind of actor; or the actor is not who the engine works for."""


class ApprovalNeeded(Refused):
    """Nothing was changed: it was asked for as request ``number``, which another person must approve first."""

    def __init__(self, summary: str, reasons: Iterable[str], number: int) -> None:
        self.number = number
        super().__init__(summary, reasons)


class TokenRefused(Refused):
    """The token confirms nothing. Nobody is told whether it is unknown, used, expired or void."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing is confirmed:", ("The token is not, or no longer, valid; ask for the cancellation again.",)
        )
