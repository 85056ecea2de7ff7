"""The record only grows: triggers on both databases refuse to change or remove a row of history, receipt or seal.

They stop mistakes, and whoever has no right to take triggers away. What somebody does who has, the seals show
(:mod:`lifecycle.audit`). Adding rows fires none of them and costs nothing.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from lifecycle.tables import RECORD

#: How a trigger is called: what it refuses, after the name of its table.
_NAME = "refuses_{}"
_REFUSED = ("update", "delete")
_FUNCTION = "lifecycle_append_only"
_ADVICE = (
    "is append-only: nothing in it is ever changed or removed. Leave it as it is, and set a mistake right by a new "
    "event with its reason. `lifecycle audit verify` tells whether all is as it was sealed."
)


def protect(connection: Connection) -> None:
    """Put up whatever is missing. Repeating it changes nothing, and locks nothing where all is there."""
    missing = unprotected(connection)
    if connection.dialect.name == "postgresql":
        if missing:
            connection.execute(
                text(f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $${_BODY}$$")
            )
        statements = (statement for one in missing for statement in _postgresql(*one))
    else:
        statements = (statement for one in missing for statement in _sqlite(*one))
    for statement in statements:
        connection.execute(text(statement))


def unprotected(connection: Connection) -> list[tuple[str, str]]:
    """The tables of the record, and what each of them does not refuse at this moment."""
    if connection.dialect.name == "postgresql":
        found = {tuple(row) for row in connection.execute(text(_LOOK), {"body": _BODY})}
        return [
            (table, what) for table, what in _wanted(*_REFUSED, "truncate") if (table, _NAME.format(what)) not in found
        ]
    there = set(connection.scalars(text("SELECT sql FROM sqlite_master WHERE type = 'trigger'")))
    return [(table, what) for table, what in _wanted(*_REFUSED) if tuple(_sqlite(table, what))[-1] not in there]


def _wanted(*refused: str) -> Iterator[tuple[str, str]]:
    yield from ((table.name, what) for table in RECORD for what in refused)


def _sqlite(table: str, operation: str) -> Iterator[str]:
    """SQLite has one space for the names of all triggers, and no TRUNCATE."""
    name = f"{table}_{_NAME.format(operation)}"
    yield f"DROP TRIGGER IF EXISTS {name}"
    yield (
        f"CREATE TRIGGER {name} BEFORE {operation.upper()} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} {_ADVICE}'); END"
    )


#: Triggers that are as they should be, and that nothing switches off (``ENABLE ALWAYS``), by table and name.
_LOOK = """
    SELECT relname, tgname
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE pg_table_is_visible(tgrelid) AND tgenabled = 'A' AND tgqual IS NULL AND prosrc = :body
"""
_BODY = f" BEGIN RAISE EXCEPTION '% {_ADVICE}', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END "


def _postgresql(table: str, operation: str) -> Iterator[str]:
    name = _NAME.format(operation)
    each = "STATEMENT" if operation == "truncate" else "ROW"
    yield f"DROP TRIGGER IF EXISTS {name} ON {table}"
    yield f"CREATE TRIGGER {name} BEFORE {operation.upper()} ON {table} FOR EACH {each} EXECUTE FUNCTION {_FUNCTION}()"
    yield f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"  # in a session of a replica, too
