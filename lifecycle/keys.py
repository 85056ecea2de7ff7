"""The keys under which accounts' keys are wrapped: which are in use, and how they are replaced."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, func, select, update

from lifecycle.inbox import SEALING
from lifecycle.operation_tables import cancellation_requests, lookup_secrets
from lifecycle.reads import LOOKUP
from lifecycle.store import Store
from lifecycle.tables import personal_data
from lifecycle.vault import AccountKey

#: Keys that one transaction wraps anew.
PAGE = 1000


class _Wrapped(NamedTuple):
    """A table that holds wrapped keys: by which column its rows are told apart, and whose key a row holds."""

    table: Table
    row: Any
    owner: Callable[[Any], str]


_TABLES = (
    _Wrapped(personal_data, personal_data.c.account_id, str),
    _Wrapped(lookup_secrets, lookup_secrets.c.id, lambda _: LOOKUP),
    _Wrapped(cancellation_requests, cancellation_requests.c.id, lambda _: SEALING),
)


def counts(connection: Connection) -> dict[str, int]:
    """How many keys are wrapped under each key-encryption key, by its name; blank is: not wrapped."""
    found: dict[str, int] = {}
    for one in _TABLES:
        key_id = one.table.c.key_id
        per_key = select(key_id, func.count()).where(key_id.is_not(None)).group_by(key_id)
        for name, count in connection.execute(per_key):
            found[name] = found.get(name, 0) + count
    return found


def rotate(store: Store, on_progress: Callable[[int], None]) -> int:
    """Wrap every key under the current key-encryption key that is under another; how many were.

    Each page is a transaction of its own, and rows that others hold are left to the next call, so that nobody waits.
    Raises :class:`lifecycle.errors.KeyMissing` where a key is under one that the settings don't have.
    """
    wrapped = 0
    for one in _TABLES:
        while page := _rotate_page(store, one):
            wrapped += page
            on_progress(page)
    return wrapped


def _rotate_page(store: Store, one: _Wrapped) -> int:
    with store.database.write() as connection:
        query = select(one.row, one.table.c.key_id, one.table.c.wrapped).where(
            one.table.c.key_id != store.vault.ring.current
        )
        rows = connection.execute(query.limit(PAGE).with_for_update(skip_locked=True)).all()
        if rows:
            again = [(row, store.vault.rewrap(one.owner(row), AccountKey(*key))) for row, *key in rows]
            connection.execute(
                update(one.table)
                .where(one.row == bindparam("row"))
                .values(key_id=bindparam("new_id"), wrapped=bindparam("new_key")),
                [{"row": row, "new_id": key.key_id, "new_key": key.wrapped} for row, key in again],
            )
        return len(rows)
