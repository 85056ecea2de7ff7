"""A database of an earlier version, as this version stores it: all in the one transaction that makes the new tables.

The old tables are set aside under other names, the new ones are made in their place, constraints, indexes and all, and
what the old ones hold is brought over. Until version 2 personal data was in clear: it is sealed on the way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Table,
    Text,
    case,
    cast,
    func,
    insert,
    inspect,
    literal,
    select,
    table,
    text,
    update,
)
from sqlalchemy import column as light_column

from lifecycle.actor import SYSTEM, Role
from lifecycle.columns import metadata
from lifecycle.operation_tables import heartbeats, refused_attempts, schema_info
from lifecycle.personal import Person, Personal, seal_reason
from lifecycle.reads import Reads
from lifecycle.states import Opening
from lifecycle.tables import (
    SCHEMA_VERSION,
    Status,
    adopted_policies,
    history,
    outbox,
    owners,
    receipts,
    stated_reasons,
)

#: Versions from which a database is brought up to this one, table by table.
EARLIER = (1, 2)
#: Versions that lack nothing but columns.
WIDENED = (3,)
#: Accounts whose people are in memory together.
_PAGE = 1000
_ASIDE = "earlier_"
#: Not brought over as they are: made anew, or written from what they say.
_APART = (schema_info, heartbeats, owners, history, refused_attempts)

PutPeople = Callable[[Connection, Sequence[str], Sequence[Personal]], None]


def found_version(connection: Connection) -> int | None:
    """The version of the schema that is there; None where there is none."""
    if not inspect(connection).has_table(schema_info.name):
        return None
    version: int | None = connection.scalar(select(schema_info.c.version))
    return version


def widen(connection: Connection) -> None:
    """Add the columns that are new since the earliest of :data:`WIDENED`; rows that there are have no value there."""
    for column in (adopted_policies.c.actor, adopted_policies.c.approved_by, adopted_policies.c.reason):
        kind = column.type.compile(connection.dialect)
        connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}"))
    connection.execute(update(schema_info).values(version=SCHEMA_VERSION))


def set_aside(reads: Reads, connection: Connection) -> None:
    """Give the tables other names, and their indexes and sequences as well, so that new ones can have theirs."""
    names = sorted(metadata.tables.keys() & set(inspect(connection).get_table_names()))
    if reads.database.is_postgresql:
        related = connection.scalars(_RELATED, {"tables": names}).all()
    else:
        for (name,) in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'view'")).all():
            if name.removesuffix("_readable") in names:
                connection.execute(text(f"DROP VIEW {name}"))
        indexes = text("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        for name, of in connection.execute(indexes).all():
            if of in names:
                connection.execute(text(f"DROP INDEX {name}"))
        related = names
    for name in related:
        connection.execute(text(f"ALTER TABLE {name} RENAME TO {_ASIDE}{name}"))


#: PostgreSQL: the tables with their indexes and sequences, all of which ALTER TABLE renames.
_RELATED = text(
    """
    WITH ours AS (SELECT to_regclass(name)::oid AS oid FROM unnest(CAST(:tables AS text[])) AS name)
    SELECT relname FROM pg_class WHERE oid IN (SELECT oid FROM ours)
    OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM ours))
    OR relkind = 'S' AND oid IN (SELECT objid FROM pg_depend WHERE refobjid IN (SELECT oid FROM ours))
    """
)


def bring_over(reads: Reads, connection: Connection, put_people: PutPeople) -> None:
    """Fill the new tables from those that were set aside, and drop these. ``put_people`` seals what was in clear."""
    aside = _aside(connection)
    for new in metadata.sorted_tables:  # an account comes before what refers to it
        if new.name in aside and new not in _APART:
            _copy(connection, aside[new.name], new)
    for page in _pages(connection, aside):
        _seal(reads, connection, aside, page, put_people)
    _rewrite_history(connection, aside[history.name])
    _move_receipts(connection)
    _rewrite_refusals(connection, aside[refused_attempts.name], aside[owners.name])
    for new in reversed(metadata.sorted_tables):
        if new.name in aside:
            connection.execute(text(f"DROP TABLE {_ASIDE}{new.name}"))
    if reads.database.is_postgresql:
        for new in metadata.tables.values():
            _go_on_counting(connection, new)


def _aside(connection: Connection) -> dict[str, Any]:
    """The tables that were set aside, by their former names, with the columns that they have."""
    inspector = inspect(connection)
    inspector.clear_cache()
    there = set(inspector.get_table_names())
    return {
        name: table(
            f"{_ASIDE}{name}", *(_typed(new, found["name"]) for found in inspector.get_columns(f"{_ASIDE}{name}"))
        )
        for name, new in metadata.tables.items()
        if f"{_ASIDE}{name}" in there
    }


def _typed(new: Table, name: str) -> Any:
    return light_column(name, new.c[name].type if name in new.c and name != "email_key" else Text())


def _copy(connection: Connection, old: Any, new: Table) -> None:
    names = [column.name for column in new.c if column.name in old.c]
    connection.execute(insert(new).from_select(names, select(*(old.c[name] for name in names)), include_defaults=False))


def _pages(connection: Connection, aside: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The companies of all accounts by id, a page at a time."""
    account = aside["account"]
    query = select(account.c.id, account.c.company).order_by(account.c.id).limit(_PAGE)
    page = {row.id: row.company for row in connection.execute(query)}
    while page:
        yield page
        page = {row.id: row.company for row in connection.execute(query.where(account.c.id > max(page)))}


def _seal(
    reads: Reads, connection: Connection, aside: Mapping[str, Any], page: Mapping[str, str], put_people: PutPeople
) -> None:
    """Personal data of a page of accounts: owners and companies, reasons, and what imports are known again by."""
    these = {"ids": reads.database.ids(page)}
    people: dict[str, list[Person]] = {}
    owner = aside["owner"]
    query = select(owner.c.account_id, owner.c.number, owner.c.email).where(reads.database.among(owner.c.account_id))
    for account_id, number, email in connection.execute(query.order_by(owner.c.account_id, owner.c.number), these):
        people.setdefault(account_id, []).append(Person(number, email))
    put_people(connection, list(page), [_personal(company, people.get(id, ())) for id, company in page.items()])

    entry = aside["history"]
    query = select(entry.c.account_id, entry.c.number, entry.c.reason).where(
        reads.database.among(entry.c.account_id), entry.c.reason.is_not(None), ~_ours(entry)
    )
    reasons = connection.execute(query, these).all()
    sealed = reads.sealed_of(connection, {account_id for account_id, _, _ in reasons}) if reasons else {}
    stated = [
        {"account_id": id, "number": n, "data": seal_reason(reads.vault, id, sealed[id].key, n, reason)}
        for id, n, reason in reasons
        if id in sealed  # of a purged account no reason is left
    ]
    if stated:
        connection.execute(insert(stated_reasons), stated)
    _hash_imports(reads, connection, entry, these)


def _personal(company: str, people: Sequence[Person]) -> Personal:
    return Personal(company, tuple(people), max((person.number for person in people), default=0) + 1)


def _ours(entry: Any) -> Any:
    """The entry is the engine's own, and so are the words of its reason."""
    return entry.c.actor.like(f"{SYSTEM.role}:%")


def _hash_imports(reads: Reads, connection: Connection, entry: Any, these: Mapping[str, Any]) -> None:
    """A plain digest of a row would tell its company and owners to whoever guesses them; a keyed one does not."""
    imported = (entry.c.number == 1) & (entry.c.event == Opening.IMPORT_ACCOUNT)
    query = select(entry.c.account_id, entry.c.request_id).where(
        reads.database.among(entry.c.account_id), imported, entry.c.request_id.like("import:%")
    )
    keyed = {
        account_id: f"import:{reads.lookup(connection, 'import', request_id.removeprefix('import:')).hex()}"
        for account_id, request_id in connection.execute(query, these)
    }
    if keyed:
        given = reads.database.given(keyed, Text(), Text())
        written = update(entry).where(entry.c.account_id == given.c.key, imported)
        connection.execute(written.values(request_id=given.c.value))


def _rewrite_history(connection: Connection, old: Any) -> None:
    """The entries in the order in which they were written, as far as that can be told, without people's reasons."""
    names = [column.name for column in history.c if column.name in old.c]
    words = case((_ours(old), old.c.reason)).label("reason")
    entries = select(*(words if name == "reason" else old.c[name] for name in names))
    ordered = entries.order_by(old.c["at"], old.c.account_id, old.c.number)
    connection.execute(insert(history).from_select(names, ordered, include_defaults=False))


def _move_receipts(connection: Connection) -> None:
    """What handlers have answered, from the outbox to where it can't be changed."""
    answered = (outbox.c.status == Status.DELIVERED) & outbox.c.receipt.is_not(None)
    columns = (outbox.c.account_id, outbox.c.number, outbox.c.effect, outbox.c.finished_at, outbox.c.receipt)
    found = select(*columns).where(answered).order_by(outbox.c.finished_at, outbox.c.id)
    names = ["account_id", "number", "effect", "at", "text"]
    connection.execute(insert(receipts).from_select(names, found, include_defaults=False))
    connection.execute(update(outbox).where(answered).values(receipt=None))


def _rewrite_refusals(connection: Connection, old: Any, owner: Any) -> None:
    """Attempts that were refused, with owners by their number, or a question mark, instead of by their address."""
    claimed = f"{Role.OWNER}:"
    address = func.lower(func.trim(func.substr(old.c.actor, len(claimed) + 1)))
    here = (owner.c.account_id == old.c.account_id) & (owner.c.email_key == address)
    number = func.coalesce(select(cast(owner.c.number, Text)).where(here).scalar_subquery(), "?")
    who = case((old.c.actor.like(f"{claimed}%"), literal(claimed) + number), else_=old.c.actor)
    rewritten = {
        **{name: old.c[name] for name in ("id", "account_id", "at", "reasons", "policy_version")},
        **{"what": old.c.event, "who": who, "times": literal(1)},
    }
    query = select(*rewritten.values()).order_by(old.c.id)
    connection.execute(insert(refused_attempts).from_select(list(rewritten), query, include_defaults=False))


def _go_on_counting(connection: Connection, new: Table) -> None:
    """PostgreSQL: what was copied with its number was not drawn, so the next draw must come after it."""
    key: Column[Any] | None = new.autoincrement_column
    if key is not None:
        drawn = f"setval(pg_get_serial_sequence('{new.name}', '{key.name}'), max({key.name}))"
        connection.execute(text(f"SELECT {drawn} FROM {new.name} HAVING max({key.name}) IS NOT NULL"))
