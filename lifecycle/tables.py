"""The schema: SQLModel tables whose constraints are derived from the definition.

Instants are ``timestamptz`` on PostgreSQL and integer microseconds since 1970 on SQLite; in Python
they are aware datetimes in UTC. Rows are written by SQL statements, never through a session, and
table models are never validated: input goes through the engine or the importer first.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    DDL,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
    func,
)
from sqlalchemy import literal as sql_literal
from sqlmodel import Field, SQLModel

from lifecycle.columns import DRAWN, SEALED, drawn, given, key, metadata, reference, sealed, words
from lifecycle.errors import DefinitionError
from lifecycle.instants import Instant
from lifecycle.invariants import INVARIANTS
from lifecycle.operation_tables import cancellation_requests, refused_attempts, seals
from lifecycle.policy import Policy
from lifecycle.states import DESTRUCTIVE, Effect, Event, Opening, Party, Plan, State, Step
from lifecycle.states import account as account_scope
from lifecycle.terms import compile_term

#: Raised with every change of the schema.
SCHEMA_VERSION = 4


class Base(SQLModel):
    """The common root: one MetaData, apart from the application's own."""

    metadata = metadata
    # What would validate rows is never used, and takes longer to make than all the tables.
    model_config = {"defer_build": True}


def _text(**kw: Any) -> Any:
    return Field(sa_type=Text, **kw)


def _bytes(**kw: Any) -> Any:
    return Field(sa_type=LargeBinary, **kw)


def _instant(**kw: Any) -> Any:
    return Field(default=None, sa_type=Instant, **kw)


def _number() -> Any:
    return Field(default=None, primary_key=True, sa_type=DRAWN)


def _reference(**kw: Any) -> Any:
    return Field(sa_column_args=(ForeignKey("account.id"),), sa_type=Text, **kw)


class Account(Base, table=True):
    """One account. The dates are those of :data:`lifecycle.states.account`."""

    id: str = _text(primary_key=True)
    state: State = Field(sa_type=words("state", State)())
    plan: Plan = Field(sa_type=words("plan", Plan)())
    version: int = Field(default=1, sa_type=Integer)
    due_at: datetime | None = _instant()
    opened_at: datetime = _instant(nullable=False)
    trial_ends_at: datetime | None = _instant()
    period_began_at: datetime | None = _instant()
    period_ends_at: datetime | None = _instant()
    held_at: datetime | None = _instant()
    frozen_at: datetime | None = _instant()
    suspended_from: State | None = Field(default=None, sa_type=words("suspended_from", State)())
    free_since: datetime | None = _instant()
    last_active_at: datetime | None = _instant()
    cancelled_at: datetime | None = _instant()
    cancelled_by: Party | None = Field(default=None, sa_type=words("cancelled_by", Party)())
    cancelled_from: State | None = Field(default=None, sa_type=words("cancelled_from", State)())
    terminated_at: datetime | None = _instant()
    access_ends_at: datetime | None = _instant()
    delete_content_at: datetime | None = _instant()
    purge_backups_by: datetime | None = _instant()
    reminder: int | None = Field(default=None, sa_type=Integer)
    reminded_at: datetime | None = _instant()
    not_before: datetime | None = _instant()
    erasure_requested_at: datetime | None = _instant()
    content_deleted_at: datetime | None = _instant()
    purge_requested_at: datetime | None = _instant()
    purged_at: datetime | None = _instant()
    legal_holds: int = Field(default=0, sa_type=Integer)
    hold_released_at: datetime | None = _instant()


class Owner(Base, table=True):
    """By what an owner is found: ``email_key`` is a keyed hash of the address as it is compared."""

    account_id: str = _reference(primary_key=True)
    number: int = Field(primary_key=True, sa_type=Integer)
    email_key: bytes = _bytes(index=True)

    __table_args__ = (UniqueConstraint("account_id", "email_key"),)


class History(Base, table=True):
    """Append-only: who did what, when, from where to where, numbered per account without a gap.

    ``actor`` is ``role:id``, an owner's id being the number of the owner; ``owner`` is the owner in
    whose name support or an admin acted. ``reason`` has words of the engine alone; what people state is sealed
    (:data:`stated_reasons`). ``id`` tells about in which order entries were written.
    """

    id: int | None = _number()
    account_id: str = _reference()
    number: int = Field(sa_type=Integer)
    event: str = Field(sa_type=words("event", Event, Opening)())
    step: Step = Field(sa_type=words("step", Step)())
    source: State | None = Field(default=None, sa_type=words("source", State)())
    dest: State = Field(sa_type=words("dest", State)())
    at: datetime = _instant(nullable=False)
    actor: str = _text()
    owner: int | None = Field(default=None, sa_type=Integer)
    reason: str | None = _text(default=None)
    policy_version: str = _text()
    request_id: str | None = _text(default=None)

    __table_args__ = (UniqueConstraint("account_id", "number"),)


class Status(StrEnum):
    """Where an outbox row is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    PARKED = "parked"
    WITHDRAWN = "withdrawn"


class Outbox(Base, table=True):
    """An effect owed to the outside world, written with the change that owes it.

    ``attempts`` counts claims and fences them: an outcome counts only for the claim it comes from.
    The dates are those that the account was promised when the effect was owed. ``receipt`` is what some of its handlers
    have confirmed while others have not: once it is delivered, the answers are in :data:`receipts`.
    """

    id: int | None = _number()
    account_id: str = _reference()
    number: int = Field(sa_type=Integer)
    effect: Effect = Field(sa_type=words("effect", Effect)())
    status: Status = Field(default=Status.PENDING, sa_type=words("status", Status)())
    attempts: int = Field(default=0, sa_type=Integer)
    created_at: datetime = _instant(nullable=False)
    due_at: datetime = _instant(nullable=False)
    claimed_until: datetime | None = _instant()
    promised: datetime | None = _instant()
    access_ends_at: datetime | None = _instant()
    delete_content_at: datetime | None = _instant()
    purge_backups_by: datetime | None = _instant()
    finished_at: datetime | None = _instant()
    last_error: str | None = _text(default=None)
    receipt: str | None = _text(default=None)

    __table_args__ = (UniqueConstraint("account_id", "number", "effect"),)


def table(model: type[SQLModel]) -> Table:
    """The SQLAlchemy table behind a model."""
    result: Table = model.__table__  # type: ignore[attr-defined]
    return result


accounts, owners, history, outbox = table(Account), table(Owner), table(History), table(Outbox)

# As in operation_tables: nothing reads these rows as models.

#: What the engine knows of an account's people, sealed (:mod:`lifecycle.vault`). Purging deletes the row. ``wrapped``
#: is the account's key under the key-encryption key ``key_id``, ``data`` a sealed
#: :class:`lifecycle.personal.Personal`. Companies are found by ``company_key``, a keyed hash.
personal_data = Table(
    "personal_data",
    metadata,
    reference(primary_key=True),
    given("key_id", Text),
    sealed("wrapped"),
    sealed("data"),
    given("company_key", LargeBinary, index=True),
)

#: A legal hold; in force until it is released, by somebody or at its end. Numbered by the entry that placed it.
legal_holds = Table(
    "legal_hold",
    metadata,
    reference(primary_key=True),
    key("number", Integer),
    Column("case", Text),
    given("placed_at", Instant),
    Column("ends_at", Instant),
    Column("released_at", Instant),
)

#: Why somebody asked for an entry of the history, in their words, sealed under the account's key.
stated_reasons = Table("stated_reason", metadata, reference(primary_key=True), key("number", Integer), sealed("data"))

#: Append-only: what the handlers of a delivered task answered, where they did.
receipts = Table(
    "receipt",
    metadata,
    drawn(),
    reference(),
    given("number", Integer),
    given("effect", words("effect", Effect)()),
    given("at", Instant),
    given("text", Text),
    UniqueConstraint("account_id", "number", "effect"),
)

#: Every policy that this database has kept; the one with the latest ``number`` is in force. ``actor`` is ``role:id``;
#: nobody knows who adopted what was adopted before version 4 of the schema, or why.
adopted_policies = Table(
    "adopted_policy",
    metadata,
    key("number", Integer),
    given("version", Text),
    given("settings", Text),
    given("adopted_at", Instant),
    Column("actor", Text),
    Column("approved_by", Text),
    Column("reason", Text),
)

#: What is append-only: the history, the receipts, and the seals of both.
RECORD = (history, receipts, seals)
#: A request that destroys and is not settled; of each effect an account has one at most.
LIVE_REQUEST = outbox.c.effect.in_(DESTRUCTIVE) & outbox.c.status.in_((Status.PENDING, Status.PARKED))
#: The receipt of a delivered task; until then the task keeps what some of its handlers have said.
RECEIPT_OF_TASK = (
    (receipts.c.account_id == outbox.c.account_id)
    & (receipts.c.number == outbox.c.number)
    & (receipts.c.effect == outbox.c.effect)
)
ANSWERS = func.coalesce(receipts.c.text, outbox.c.receipt)
#: The account's columns by name, as terms are compiled over them.
COLUMNS: Mapping[str, Any] = dict(accounts.c)


_UNKNOWN = set(account_scope) - set(COLUMNS)
if _UNKNOWN:
    raise DefinitionError(f"The definition names columns that the account table lacks: {sorted(_UNKNOWN)}.")


@cache
def schema() -> MetaData:
    """The whole schema, with the constraints and indexes that the definition asks for.

    They are derived on demand: whoever only reads and writes rows need not wait for that.
    """
    # Activity is written again and again. An update that finds room on its page makes no new entry in any index; with
    # this room 97 % of them do when all accounts are recorded (`activity.HANDS` at a time), without it 80 %. It is said
    # here, since saying it imports the dialect, which a short command has no time for.
    accounts.dialect_options["postgresql"]["with"] = {"fillfactor": 85}
    for column in (column for found in metadata.tables.values() for column in found.c if column.info.get(SEALED)):
        without = DDL(f"ALTER TABLE {column.table.name} ALTER COLUMN {column.name} SET STATISTICS 0")  # type: ignore[no-untyped-call]
        event.listen(column.table, "after_create", without.execute_if(dialect="postgresql"))
    for invariant in INVARIANTS:
        condition = compile_term(invariant.test, COLUMNS, Policy(), sql_literal(None))
        accounts.append_constraint(CheckConstraint(condition, name=invariant.name))
    waiting = accounts.c.due_at.is_not(None)
    Index("account_due", accounts.c.state, accounts.c.due_at, postgresql_where=waiting, sqlite_where=waiting)
    ending = legal_holds.c.released_at.is_(None) & legal_holds.c.ends_at.is_not(None)
    Index("legal_hold_ending", legal_holds.c.ends_at, postgresql_where=ending, sqlite_where=ending)
    pending = outbox.c.status == Status.PENDING
    Index("outbox_pending", outbox.c.due_at, outbox.c.id, postgresql_where=pending, sqlite_where=pending)
    Index(
        "outbox_one_live_request",
        outbox.c.account_id,
        outbox.c.effect,
        unique=True,
        postgresql_where=LIVE_REQUEST,
        sqlite_where=LIVE_REQUEST,
    )
    waiting = cancellation_requests.c.settled_at.is_(None)
    Index("cancellation_request_open", cancellation_requests.c.id, postgresql_where=waiting, sqlite_where=waiting)
    Index("refused_attempt_principal", refused_attempts.c.principal, refused_attempts.c.at)
    asked = history.c.request_id.is_not(None)
    Index(
        "history_request",
        history.c.account_id,
        history.c.request_id,
        unique=True,
        postgresql_where=asked,
        sqlite_where=asked,
    )
    return metadata


def readable_view(model: Table) -> str:
    """SQLite only: a view ``<table>_readable`` that shows instants as ISO 8601 text."""
    shown = [
        f"strftime('%Y-%m-%dT%H:%M:%S', {c.name}/1000000, 'unixepoch')"
        f" || printf('.%06dZ', {c.name}%1000000) AS {c.name}"
        if isinstance(c.type, Instant)
        else f'"{c.name}"'
        for c in model.columns
    ]
    return f"CREATE VIEW IF NOT EXISTS {model.name}_readable AS SELECT {', '.join(shown)} FROM {model.name}"
