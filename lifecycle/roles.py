"""Roles on PostgreSQL: makes them, makes the tables over to their owner, and grants :mod:`lifecycle.privileges`.

Grants tell tables apart, not rows. So triggers guard the rest: whoever may not delete keys can't claim either that an
account was destroyed, nor ask for it, nor touch a request that destroys but to take it back.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, text

from lifecycle.columns import metadata
from lifecycle.database import Database
from lifecycle.errors import InvalidInput, PrivilegeMissing
from lifecycle.machine import TIMERS
from lifecycle.privileges import GRANTS, KEYS, DatabaseRole
from lifecycle.rows import timer_of
from lifecycle.states import DESTROYED, DESTRUCTIVE
from lifecycle.tables import Status

PREFIX = "lifecycle"
#: Names that need no quotes and leave room for the longest role's.
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_GUARD = "lifecycle_may_destroy"


class DatabaseUser(NamedTuple):
    """Whom a process is to PostgreSQL; ``owner`` says whether the tables are this user's to alter."""

    name: str
    superuser: bool
    owner: bool


def database_user(connection: Connection) -> DatabaseUser:
    """The user of this connection."""
    asked = text(
        "SELECT rolname, rolsuper, pg_has_role(relowner, 'USAGE') FROM pg_roles, pg_class "
        "WHERE rolname = current_user AND pg_class.oid = to_regclass('account')"
    )
    return DatabaseUser(*connection.execute(asked).one())


def named(database: Database, prefix: str) -> Mapping[DatabaseRole, str]:
    """The roles' names. Raises :class:`InvalidInput` for SQLite, which has none, and for a malformed prefix."""
    if not database.is_postgresql:
        raise InvalidInput(
            "Only PostgreSQL has roles. An SQLite file is fenced by its permissions: let only the daemon's user read "
            "and write it and its folder, as with `chmod 700`."
        )
    if not _PREFIX.fullmatch(prefix):
        raise InvalidInput(
            f"The prefix {prefix!a} is malformed: up to 48 lower-case letters, digits and underscores, no digit first."
        )
    return {role: f"{prefix}_{role}" for role in DatabaseRole}


def establish(connection: Connection, roles: Mapping[DatabaseRole, str]) -> None:
    """Make the roles that are not there, and give each exactly its rights; what else was granted on the tables goes.

    Raises :class:`PrivilegeMissing` where the user may not do that.
    """
    _create(connection, roles)
    schema = _quoted(connection, str(connection.scalar(text("SELECT current_schema()"))))
    everybody = ", ".join(roles.values())
    _run(connection, f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC")
    _run(connection, f"GRANT USAGE ON SCHEMA {schema} TO {everybody}")
    _run(connection, f"GRANT CREATE ON SCHEMA {schema} TO {roles[DatabaseRole.OWNER]}")
    for statement in _guards():
        _run(connection, statement)
    _make_over(connection, roles[DatabaseRole.OWNER])
    for statement in _grants(connection, roles):
        _run(connection, statement)


def _create(connection: Connection, roles: Mapping[DatabaseRole, str]) -> None:
    here = "SELECT rolsuper, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    superuser, creates = connection.execute(text(here)).one()
    there = set(connection.scalars(text("SELECT rolname FROM pg_roles")))
    owner = roles[DatabaseRole.OWNER]
    missing = [name for name in roles.values() if name not in there]
    if missing and not creates:
        raise PrivilegeMissing(
            f"The roles {', '.join(missing)} are not there, and this database user may not create them; "
            "run `lifecycle init --roles` as a superuser, or as a user with CREATEROLE who owns the tables."
        )
    for name in missing:
        _run(connection, f"CREATE ROLE {name} NOLOGIN")
    if owner in missing and not superuser:
        _run(connection, f"GRANT {owner} TO CURRENT_USER")  # or the tables could not be made over
    if not connection.scalar(text("SELECT pg_has_role(:owner, 'MEMBER')"), {"owner": owner}):
        raise PrivilegeMissing(
            f"This database user is no member of {owner}, to which the tables are made over; "
            f"run `lifecycle init --roles` as a superuser or as a member of {owner}."
        )


def _make_over(connection: Connection, owner: str) -> None:
    """Tables, with their sequences and indexes, and the functions of their triggers."""
    foreign = "relowner <> (SELECT oid FROM pg_roles WHERE rolname = :owner)"
    tables = text(f"SELECT relname FROM pg_class WHERE oid = ANY({_OURS}) AND {foreign}")
    for name in connection.scalars(tables, {"owner": owner, "tables": list(metadata.tables)}).all():
        _run(connection, f"ALTER TABLE {_quoted(connection, name)} OWNER TO {owner}")
    functions = text(
        f"SELECT DISTINCT tgfoid::regprocedure::text FROM pg_trigger WHERE tgrelid = ANY({_OURS}) AND NOT tgisinternal"
    )
    for signature in connection.scalars(functions, {"tables": list(metadata.tables)}).all():
        _run(connection, f"ALTER FUNCTION {signature} OWNER TO {owner}")


#: The oids of the package's tables.
_OURS = "ARRAY(SELECT to_regclass(quote_ident(name)) FROM unnest(CAST(:tables AS text[])) AS name)"


def _grants(connection: Connection, roles: Mapping[DatabaseRole, str]) -> Iterator[str]:
    """Statements that take everything and give what is due: within a transaction nobody is without a right."""
    granted = ", ".join(name for role, name in roles.items() if role is not DatabaseRole.OWNER)
    sequence_of = text(
        "SELECT pg_get_serial_sequence(:table, column_name) FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = :name AND column_default LIKE 'nextval%'"
    )
    for name in metadata.tables:
        table = _quoted(connection, name)
        yield f"REVOKE ALL ON {table} FROM PUBLIC, {granted}"
        sequences = connection.scalars(sequence_of, {"table": table, "name": name}).all()
        for sequence in sequences:
            yield f"REVOKE ALL ON SEQUENCE {sequence} FROM PUBLIC, {granted}"
        for role in DatabaseRole:
            privileges = GRANTS[name].of(role) if name in GRANTS else ()
            for privilege in privileges:
                yield f"GRANT {privilege} ON {table} TO {roles[role]}"
            if any("INSERT" in privilege for privilege in privileges):
                yield from (f"GRANT USAGE ON SEQUENCE {sequence} TO {roles[role]}" for sequence in sequences)


# --- Guards ----------------------------------------------------------------------------------------


def _guards() -> Iterator[str]:
    """The function names its table with its schema, or a temporary table of that name could stand in for it."""
    yield f"""
        CREATE OR REPLACE FUNCTION {_GUARD}() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF NOT has_table_privilege(current_user, format('%I.%I', TG_TABLE_SCHEMA, '{KEYS}'), 'DELETE') THEN
                RAISE EXCEPTION '% may not destroy', current_user USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NULL;
        END $$"""
    for table, event, condition in _GUARDED:
        trigger = f"{table}_{event.lower()}_destroys"
        yield f"DROP TRIGGER IF EXISTS {trigger} ON {table}"
        # After the row: a trigger before it would have PostgreSQL lock each row that is updated once more.
        yield (
            f"CREATE TRIGGER {trigger} AFTER {event} ON {table} FOR EACH ROW WHEN ({condition}) "
            f"EXECUTE FUNCTION {_GUARD}()"
        )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _claims() -> str:
    """An account that enters a state which only destruction leads to, or gets the mark of a request for it."""
    destroyed = f"(NEW.state IN ({_listed(DESTROYED)}) AND NEW.state <> OLD.state)"
    marks = [confirmation.mark for row in TIMERS if (confirmation := timer_of(row).confirmation)]
    marked = (f"(NEW.{mark} IS NOT NULL AND NEW.{mark} IS DISTINCT FROM OLD.{mark})" for mark in marks)
    return " OR ".join((destroyed, *marked))


def _tampers() -> str:
    """A request that destroys is changed in any way but two: it is withdrawn, or a parked one is tried again."""
    destroys = _listed(DESTRUCTIVE)
    same = (
        "NEW.effect = OLD.effect AND NEW.account_id = OLD.account_id AND NEW.receipt IS NOT DISTINCT FROM OLD.receipt"
    )
    withdrawn = f"OLD.status = '{Status.PENDING}' AND NEW.status = '{Status.WITHDRAWN}'"
    retried = f"OLD.status = '{Status.PARKED}' AND NEW.status = '{Status.PENDING}'"
    allowed = f"{same} AND ({withdrawn} OR {retried})"
    return f"(OLD.effect IN ({destroys}) OR NEW.effect IN ({destroys})) AND NOT ({allowed})"


#: What is guarded: the table, what is done to it, and when that destroys.
_GUARDED = (
    ("account", "UPDATE", _claims()),
    ("outbox", "INSERT", f"NEW.effect IN ({_listed(DESTRUCTIVE)})"),
    ("outbox", "UPDATE", _tampers()),
)


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement.replace("%", "%%"))


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)
