"""Who may do what with which table on PostgreSQL: the grants of each role, as data.

``lifecycle init --roles`` makes them (:mod:`lifecycle.roles`). Every table has a line here.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple


class DatabaseRole(StrEnum):
    """The roles, from which the users that processes connect as take their rights."""

    OWNER = "owner"
    APP = "app"
    DESTROYER = "destroyer"
    AUDITOR = "auditor"

    @property
    def text(self) -> str:
        """Which process connects as a member of it."""
        return _MEMBERS[self]


_MEMBERS: Mapping[DatabaseRole, str] = {
    DatabaseRole.OWNER: "`lifecycle init` and `policy activate`: owns the tables, upgrades them, adopts policies",
    DatabaseRole.APP: "the daemon, the command line, your application: everything that can be undone",
    DatabaseRole.DESTROYER: "the daemon that holds the credentials of the stores, and whoever releases the brake",
    DatabaseRole.AUDITOR: "whoever reads the record, without personal data",
}


class Grants(NamedTuple):
    """What each role may do with one table, in SQL's words. ``destroyer`` comes beside what ``app`` may."""

    app: str
    destroyer: str = ""
    auditor: str = "SELECT"

    def of(self, role: DatabaseRole) -> tuple[str, ...]:
        """What to grant to a role; the owner needs no grant."""
        given = {
            DatabaseRole.OWNER: (),
            DatabaseRole.APP: (self.app,),
            DatabaseRole.DESTROYER: (self.app, self.destroyer),
            DatabaseRole.AUDITOR: (self.auditor,),
        }
        return tuple(one for one in given[role] if one)


#: The table whose rows are the keys of accounts: whoever may delete them may destroy, and nobody else.
KEYS = "personal_data"
#: By table. History is append-only to everybody, and an account's key can't be overwritten by what may not delete it.
GRANTS: Mapping[str, Grants] = {
    "account": Grants("SELECT, INSERT, UPDATE"),
    "personal_data": Grants("SELECT, INSERT, UPDATE (data, company_key)", "UPDATE, DELETE", auditor=""),
    "owner": Grants("SELECT, INSERT, DELETE", auditor=""),
    "legal_hold": Grants("SELECT, INSERT, UPDATE"),
    "history": Grants("SELECT, INSERT"),
    "stated_reason": Grants("SELECT, INSERT", "DELETE", auditor=""),
    "lookup_secret": Grants("SELECT", auditor=""),
    "owner_change": Grants("SELECT, INSERT, DELETE", auditor=""),
    "cancellation_request": Grants("SELECT, INSERT, UPDATE, DELETE", auditor=""),
    "cancellation_token": Grants("SELECT, INSERT, UPDATE, DELETE", auditor=""),
    "receipt": Grants("SELECT, INSERT"),
    "seal": Grants("SELECT, INSERT"),
    "outbox": Grants("SELECT, INSERT, UPDATE"),
    "refused_attempt": Grants("SELECT, INSERT, UPDATE (times)", "DELETE"),
    "approval": Grants("SELECT, INSERT, UPDATE", "DELETE"),
    "adopted_access": Grants("SELECT"),
    "brake_count": Grants("SELECT", "INSERT"),
    "brake_release": Grants("SELECT", "INSERT"),
    "clock_reading": Grants("SELECT, UPDATE"),
    "clock_acceptance": Grants("SELECT, INSERT"),
    "ledger_position": Grants("SELECT", "INSERT, UPDATE"),
    "adopted_policy": Grants("SELECT"),
    "schema_info": Grants("SELECT"),
    "heartbeat": Grants("SELECT, INSERT, UPDATE"),
}


def described() -> Iterator[tuple[str, ...]]:
    """A row of words per table: its name, what the app may, what the destroyer may beside that, and the auditor."""
    for table, grants in GRANTS.items():
        yield table, *grants
