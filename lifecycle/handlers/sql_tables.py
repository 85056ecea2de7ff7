"""The customer's tables as their database has them: found, refused or taken, and their rows told apart.

Which rows are an account's is decided by exact comparison, whatever the column's collation takes for
equal: on PostgreSQL and SQLite within the statement; on every database once more in Python, on the very
rows that go, before the transaction is committed.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Enum,
    Inspector,
    String,
    Text,
    Uuid,
    and_,
    any_,
    cast,
    column,
    delete,
    func,
    quoted_name,
    select,
    table,
    tuple_,
)

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput
from lifecycle.task import Undeliverable

#: The engine's own tables; a schema that has the first three of them is the engine's.
MARKS = frozenset({"adopted_policy", "refused_attempt", "schema_info"})
OWN = MARKS | {
    *(
        "account",
        "adopted_access",
        "approval",
        "brake_count",
        "brake_release",
        "cancellation_request",
        "cancellation_token",
        "clock_acceptance",
    ),
    *("clock_reading", "heartbeat", "history", "ledger_position", "legal_hold", "lookup_secret", "outbox", "owner"),
    *("owner_change", "personal_data", "receipt", "seal", "stated_reason"),
}

#: ``table`` or ``schema.table``.
_TABLE_NAME = re.compile(r"([\w$-]+\.)?[\w$-]+")
#: By database: a column as it is compared byte by byte. Elsewhere the comparison in Python has to do.
_EXACT: Mapping[str, Callable[[Any], Any]] = {
    "postgresql": lambda column: cast(column, Text).collate("C"),
    "sqlite": lambda column: column.collate("BINARY"),
}


class SqlFailed(Exception):
    """The rows are not gone, or nobody can tell; the message holds nothing of what the rows hold."""


class Refusal(SqlFailed):
    """The database does not part with certain rows; other accounts' may still go."""


@dataclass(frozen=True, slots=True)
class Part:
    """One table to erase from. ``exact`` is the account's column, compared byte by byte; ``keys`` tell rows apart."""

    schema: str
    name: str
    table: Any
    account: Any
    exact: Any
    keys: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def of(self, ids: Sequence[str]) -> Any:
        """The rows of these accounts. The first condition is for the index, the second one decides."""
        return and_(self.account.in_(ids), self.exact.in_(ids))

    def can_hold(self, account_id: str) -> bool:
        """Whether a row could be found by this id: padding hides white space, and a UUID has one spelling only."""
        if not account_id or account_id != account_id.strip():
            return False
        if not isinstance(self.account.type, Uuid):
            return True
        with suppress(ValueError):
            return str(UUID(account_id)) == account_id
        return False

    def take(self, connection: Connection, ids: Sequence[str], limit: int) -> Sequence[str]:
        """Delete at most about ``limit`` rows of these accounts; whose rows they were, one by one."""
        dialect = connection.dialect
        if dialect.name in _EXACT and dialect.delete_returning:
            return self._take_returning(connection, ids, limit)
        return self._take_by_key(connection, ids, limit)

    def _take_returning(self, connection: Connection, ids: Sequence[str], limit: int) -> Sequence[str]:
        """One statement, which says whose rows it has deleted."""
        chosen = select(*self.keys).where(self.of(ids)).limit(limit).correlate(None)
        if connection.dialect.name == "postgresql":
            # An array is made once and its rows found by place; IN may be planned as a walk over the whole table.
            among = self.keys[0] == any_(func.array(chosen.scalar_subquery()))
        else:
            among = tuple_(*self.keys).in_(chosen)
        # The accounts again: in a table of several partitions two rows may lie at the same place.
        gone = connection.scalars(delete(self.table).where(among, self.of(ids)).returning(self.exact)).all()
        self._require_exact(gone, ids)
        return gone

    def _take_by_key(self, connection: Connection, ids: Sequence[str], limit: int) -> Sequence[str]:
        """Any other database: lock rows, look at them, delete them by primary key."""
        found = select(self.exact, *self.keys).where(self.of(ids)).limit(limit).with_for_update()
        rows = connection.execute(found).all()
        accounts = [row[0] for row in rows]
        self._require_exact(accounts, ids)
        if rows:
            among = tuple_(*self.keys).in_([tuple(row[1:]) for row in rows])
            connection.execute(delete(self.table).where(among, self.of(ids)))
        return accounts

    def _require_exact(self, accounts: Sequence[str], ids: Sequence[str]) -> None:
        if not set(accounts) <= set(ids):
            raise Refusal(
                f"{self} has rows whose {self.account.name} only resembles the account's id (in case, accents or "
                "white space); nothing more of it was erased. Correct these rows, or the column's collation."
            )


def checked(tables: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of a table and its account column, in the order of deletion; :class:`InvalidInput` if they are not."""
    pairs = list(tables.items()) if isinstance(tables, Mapping) else tables
    if not isinstance(pairs, list | tuple) or not pairs:
        raise InvalidInput(
            'Name the tables to erase from, each with its account column: {"shop.orders": "account_id"}.'
        )
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise InvalidInput(f"{ascii(pair)[:80]} is no pair of a table and its account column.")
        if not _TABLE_NAME.fullmatch(pair[0]) or not pair[1].strip():
            raise InvalidInput(
                f"{ascii(tuple(pair))[:80]} is malformed: give a table such as orders or shop.orders, and its column."
            )
    return tuple((name, account) for name, account in pairs)


def find(inspector: Inspector, full_name: str, account: str) -> Part:
    """The table as the database has it.

    Raises :class:`SqlFailed` where something is missing, which may come back, and :class:`Undeliverable`
    for what can't be erased from by an account's id.
    """
    given, _, name = full_name.rpartition(".")
    schema = given or inspector.default_schema_name or ""
    _require_table(inspector, schema, name)
    types = {one["name"]: one["type"] for one in inspector.get_columns(name, schema)}
    if account not in types:
        raise SqlFailed(f"{schema}.{name} has no column {shown(account)}; it has {_listed(types)}.")
    kind = _comparable(types[account], inspector.dialect.name)
    if kind is None:
        raise Undeliverable(
            f"{schema}.{name}.{account} is {types[account]!r}, which can't hold an account's id as it is written; "
            "name a column of text."
        )
    keys = _keys(inspector, schema, name, types)
    if not keys:
        raise Undeliverable(f"{schema}.{name} has no primary key, so its rows can't be told apart; give it one.")
    compared: Any = column(quoted_name(account, True), kind)
    as_table = table(quoted_name(name, True), compared, *keys, schema=quoted_name(schema, True))
    exact = _EXACT.get(inspector.dialect.name, lambda same: same)
    return Part(schema, name, as_table, compared, exact(compared), keys)


def referring(inspector: Inspector, part: Part) -> str:
    """The foreign keys that point at a table, for databases that don't say which of them refuses."""
    return ", ".join(
        f"{key['name'] or 'foreign key'} ({', '.join(key['constrained_columns'])}) of {other}"
        for (_, other), keys in inspector.get_multi_foreign_keys(schema=part.schema).items()
        for key in keys
        if key["referred_table"] == part.name
    )


def _require_table(inspector: Inspector, schema: str, name: str) -> None:
    """There is such a table; it is none of the engine's own, and no view."""
    schemas = inspector.get_schema_names()
    if schema not in schemas:
        raise SqlFailed(f"There is no schema {shown(schema)} in the database; it has {_listed(schemas)}.")
    tables = inspector.get_table_names(schema)
    if name in OWN and MARKS.issubset(tables):
        raise Undeliverable(f"{schema}.{name} is a table of the engine's own; name tables of the customer's.")
    if name in tables:
        return
    if inspector.has_table(name, schema):
        raise Undeliverable(f"{schema}.{name} is a view or a foreign table; name the tables behind it.")
    raise SqlFailed(f"There is no table {shown(name)} in {schema}; it has {_listed(tables)}.")


def _keys(inspector: Inspector, schema: str, name: str, types: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells rows apart: where they lie, if the database says so, else the primary key."""
    if inspector.dialect.name == "postgresql":
        return (column("ctid"),)
    if inspector.dialect.name == "sqlite":
        if inspector.get_table_options(name, schema).get("sqlite_with_rowid", True):
            return (column("_rowid_"),)
        types = {}  # SQLite keeps values of any type in any column: they go back as they came
    primary = inspector.get_pk_constraint(name, schema)["constrained_columns"]
    return tuple(column(quoted_name(one, True), types.get(one)) for one in primary)


def _comparable(kind: Any, dialect: str) -> Any:
    """The type to compare a column as; None if an account's id can't be told exactly in it."""
    kind = getattr(kind, "data_type", kind)  # what a domain is made of
    if isinstance(kind, Uuid) and dialect == "postgresql":
        return Uuid(as_uuid=False)
    return kind if isinstance(kind, String) and not isinstance(kind, Enum) else None


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
    return ", ".join(shown[:20]) + more or "none"
