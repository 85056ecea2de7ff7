"""The schema: SQLModel tables whose constraints are derived from the definition.

Instants are ``timestamptz`` on PostgreSQL and integer microseconds since 1970 on SQLite; in Python
they are aware datetimes in UTC. Rows are written by SQL statements, never through a session, and
table models are never validated: input goes through the engine or the importer first.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Enum,
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

from lifecycle.errors import DefinitionError
from lifecycle.instants import Instant
from lifecycle.invariants import INVARIANTS
from lifecycle.policy import Policy
from lifecycle.seal import Stream
from lifecycle.states import DESTRUCTIVE, Effect, Event, Opening, Party, Plan, State, Step
from lifecycle.states import account as account_scope
from lifecycle.terms import compile_term

#: Raised with every change of the schema.
SCHEMA_VERSION = 3


def words(name: str, *enums: type[StrEnum]) -> Callable[[], Any]:
    """A text column with a CHECK: only the values of ``enums``, stored as they are written."""
    if len(enums) == 1:
        return lambda: Enum(
            enums[0],
            name=name,
            native_enum=False,
            create_constraint=True,
            length=40,
            values_callable=lambda members: [member.value for member in members],
        )
    values = [member.value for enum in enums for member in enum]
    return lambda: Enum(*values, name=name, native_enum=False, create_constraint=True, length=40)


#: Marks the columns of which nothing may stay anywhere.
SEALED = "sealed"

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s",
        "pk": "%(table_name)s_pk",
    }
)


class Base(SQLModel):
    """The common root: one MetaData, apart from the application's own."""

    metadata = metadata
    # What would validate rows is never used, and takes longer to make than all the tables.
    model_config = {"defer_build": True}


def _text(**kw: Any) -> Any:
    return Field(sa_type=Text, **kw)


def _bytes(**kw: Any) -> Any:
    return Field(sa_type=LargeBinary, **kw)


def _sealed(**kw: Any) -> Any:
    """What a key opens, or a key. PostgreSQL's statistics would keep samples of it beyond a purge: they have none."""
    return _bytes(sa_column_kwargs={"info": {SEALED: True}}, **kw)


def _instant(**kw: Any) -> Any:
    return Field(default=None, sa_type=Instant, **kw)


def _number() -> Any:
    """A key that the database draws."""
    return Field(default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer, "sqlite"))


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


class PersonalData(Base, table=True):
    """What the engine knows of an account's people, sealed (:mod:`lifecycle.vault`). Purging deletes the row.

    ``wrapped`` is the account's key under the key-encryption key ``key_id``, ``data`` a sealed
    :class:`lifecycle.personal.Personal`. Companies are found by ``company_key``, a keyed hash.
    """

    __tablename__ = "personal_data"
    account_id: str = _reference(primary_key=True)
    key_id: str = _text()
    wrapped: bytes = _sealed()
    data: bytes = _sealed()
    company_key: bytes = _bytes(index=True)


class Owner(Base, table=True):
    """By what an owner is found: ``email_key`` is a keyed hash of the address as it is compared."""

    account_id: str = _reference(primary_key=True)
    number: int = Field(primary_key=True, sa_type=Integer)
    email_key: bytes = _bytes(index=True)

    __table_args__ = (UniqueConstraint("account_id", "email_key"),)


class LegalHold(Base, table=True):
    """A legal hold; in force until it is released, by somebody or at its end. Numbered by the entry that placed it."""

    __tablename__ = "legal_hold"
    account_id: str = _reference(primary_key=True)
    number: int = Field(primary_key=True, sa_type=Integer)
    case: str | None = _text(default=None)
    placed_at: datetime = _instant(nullable=False)
    ends_at: datetime | None = _instant()
    released_at: datetime | None = _instant()


class History(Base, table=True):
    """Append-only: who did what, when, from where to where, numbered per account without a gap.

    ``actor`` is ``role:id``, an owner's id being the number of the owner; ``owner`` is the owner in
    whose name support or an admin acted. ``reason`` has words of the engine alone; what people state is sealed
    (:class:`StatedReason`). ``id`` tells about in which order entries were written.
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


class StatedReason(Base, table=True):
    """Why somebody asked for an entry of the history, in their words, sealed under the account's key."""

    __tablename__ = "stated_reason"
    account_id: str = _reference(primary_key=True)
    number: int = Field(primary_key=True, sa_type=Integer)
    data: bytes = _sealed()


class LookupSecret(Base, table=True):
    """One row: what makes keyed hashes of addresses and names, wrapped as accounts' keys are."""

    __tablename__ = "lookup_secret"
    id: int = Field(default=1, primary_key=True, sa_type=Integer)
    key_id: str = _text()
    wrapped: bytes = _sealed()


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
    have confirmed while others have not: once it is delivered, the answers are in :class:`ReceiptGiven`.
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


class ReceiptGiven(Base, table=True):
    """Append-only: what the handlers of a delivered task answered, where they did."""

    __tablename__ = "receipt"
    id: int | None = _number()
    account_id: str = _reference()
    number: int = Field(sa_type=Integer)
    effect: Effect = Field(sa_type=words("effect", Effect)())
    at: datetime = _instant(nullable=False)
    text: str = _text()

    __table_args__ = (UniqueConstraint("account_id", "number", "effect"),)


class SealMade(Base, table=True):
    """Append-only: a link of the chain over history and receipts (:class:`lifecycle.seal.Seal`)."""

    __tablename__ = "seal"
    number: int = Field(primary_key=True, sa_type=Integer, sa_column_kwargs={"autoincrement": False})
    stream: Stream = Field(sa_type=words("stream", Stream)())
    rows: int = Field(sa_type=Integer)
    to_id: int = Field(sa_type=BigInteger)
    sealed_at: datetime = _instant(nullable=False)
    previous: bytes = Field(sa_type=LargeBinary)
    digests: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)

    __table_args__ = (UniqueConstraint("stream", "to_id"),)


class RefusedAttempt(Base, table=True):
    """An attempt that was refused, apart from history: who, what, why, and when.

    ``who`` is ``role:id``, an owner's id being their number on file, or ``?``; ``principal`` is who ran the process,
    where that is known. ``account_id`` is what was asked for, whether or not there is such an account. ``times`` is how
    many attempts the row stands for.
    """

    __tablename__ = "refused_attempt"
    id: int | None = _number()
    at: datetime = _instant(nullable=False, index=True)
    what: str = _text()
    account_id: str | None = _text(default=None, index=True)
    who: str = _text()
    principal: str | None = _text(default=None)
    reasons: str = _text()
    times: int = Field(default=1, sa_type=Integer)
    policy_version: str = _text()


class CancellationRequest(Base, table=True):
    """A request for cancellation as it came in: waiting, left for review because of ``why``, or settled.

    ``requester`` is a keyed hash of the address that it states, by which limits count. What was asked is sealed in
    ``data`` under a key of its own, which is ``wrapped`` as accounts' keys are, and erased when nobody needs it.
    """

    __tablename__ = "cancellation_request"
    id: int | None = _number()
    received_at: datetime = _instant(nullable=False, index=True)
    requester: bytes = _bytes()
    key_id: str | None = _text(default=None)
    wrapped: bytes | None = _sealed(default=None)
    data: bytes | None = _sealed(default=None)
    why: str | None = _text(default=None)
    account_id: str | None = _reference(default=None, index=True)
    settled_at: datetime | None = _instant()
    settled_by: str | None = _text(default=None)

    __table_args__ = (Index("cancellation_request_requester", "requester", "received_at"),)


class CancellationToken(Base, table=True):
    """A token that was sent to ``owner`` to confirm the request of history entry ``number``; only its hash is kept."""

    __tablename__ = "cancellation_token"
    hash: bytes = _bytes(primary_key=True)
    account_id: str = _reference(index=True)
    number: int = Field(sa_type=Integer)
    owner: int = Field(sa_type=Integer)
    issued_at: datetime = _instant(nullable=False)
    expires_at: datetime = _instant(nullable=False, index=True)


class OwnerChange(Base, table=True):
    """The addresses before a change of owners, until they are told; sealed under the account's key."""

    __tablename__ = "owner_change"
    account_id: str = _reference(primary_key=True)
    number: int = Field(primary_key=True, sa_type=Integer)
    data: bytes = _sealed()


class Approval(Base, table=True):
    """What one person asked for and another approves: bound to the ``digest`` of exactly that, and used up once.

    ``roles`` are those of which the second person needs one.
    """

    number: int | None = _number()
    action: str = _text()
    digest: str = _text(index=True)
    summary: str = _text()
    roles: str = _text()
    requested_by: str = _text()
    requested_at: datetime = _instant(nullable=False)
    reason: str | None = _text(default=None)
    expires_at: datetime = _instant(nullable=False)
    approved_by: str | None = _text(default=None)
    approved_at: datetime | None = _instant()
    approval_reason: str | None = _text(default=None)
    used_at: datetime | None = _instant()


class AdoptedAccess(Base, table=True):
    """Every set of roles, keys and two-person rules that this database has kept; the latest is in force."""

    __tablename__ = "adopted_access"
    number: int | None = _number()
    settings: str = _text()
    adopted_at: datetime = _instant(nullable=False)
    adopted_by: str = _text()
    approved_by: str | None = _text(default=None)


class BrakeCount(Base, table=True):
    """How many accounts were asked to be destroyed at one instant: what the brake adds up."""

    __tablename__ = "brake_count"
    id: int | None = _number()
    at: datetime = _instant(nullable=False, index=True)
    effect: Effect = Field(sa_type=words("effect", Effect)())
    accounts: int = Field(sa_type=Integer)


class BrakeRelease(Base, table=True):
    """How many requests beyond its limits the brake was told to let through, by whom, and why."""

    __tablename__ = "brake_release"
    id: int | None = _number()
    at: datetime = _instant(nullable=False, index=True)
    accounts: int = Field(sa_type=Integer)
    actor: str = _text()
    approved_by: str | None = _text(default=None)
    reason: str = _text()


class ClockReading(Base, table=True):
    """One row: the latest instant at which a sweep or a delivery took the host's clock for right."""

    __tablename__ = "clock_reading"
    id: int = Field(default=1, primary_key=True, sa_type=Integer)
    seen_at: datetime | None = _instant()


class ClockAcceptance(Base, table=True):
    """A clock in doubt that somebody took for right: what it said, and when it was seen before."""

    __tablename__ = "clock_acceptance"
    id: int | None = _number()
    at: datetime = _instant(nullable=False)
    seen_at: datetime | None = _instant()
    actor: str = _text()


class LedgerPosition(Base, table=True):
    """How many lines of a ledger this database has been found to agree with."""

    __tablename__ = "ledger_position"
    ledger: str = _text(primary_key=True)
    lines: int = Field(sa_type=Integer)
    checked_at: datetime = _instant(nullable=False)


class AdoptedPolicy(Base, table=True):
    """Every policy that this database has kept; the one with the latest ``number`` is in force."""

    __tablename__ = "adopted_policy"
    number: int = Field(primary_key=True, sa_type=Integer)
    version: str = _text()
    settings: str = _text()
    adopted_at: datetime = _instant(nullable=False)


class SchemaInfo(Base, table=True):
    """One row: the version of the schema."""

    __tablename__ = "schema_info"
    id: int = Field(default=1, primary_key=True, sa_type=Integer)
    version: int = Field(sa_type=Integer)


class Heartbeat(Base, table=True):
    """When each daemon was last alive, whether its database user may destroy, and what troubles it."""

    daemon: str = _text(primary_key=True)
    started_at: datetime = _instant(nullable=False)
    seen_at: datetime = _instant(nullable=False)
    policy_version: str = _text()
    destroys: bool = Field(sa_type=Boolean)
    trouble: str | None = _text(default=None)


def table(model: type[SQLModel]) -> Table:
    """The SQLAlchemy table behind a model."""
    result: Table = model.__table__  # type: ignore[attr-defined]
    return result


accounts, owners, legal_holds = table(Account), table(Owner), table(LegalHold)
personal_data, stated_reasons, lookup_secrets = table(PersonalData), table(StatedReason), table(LookupSecret)
history, outbox, refused_attempts = table(History), table(Outbox), table(RefusedAttempt)
receipts, seals = table(ReceiptGiven), table(SealMade)
adopted_policies, schema_info, heartbeats = table(AdoptedPolicy), table(SchemaInfo), table(Heartbeat)
cancellation_requests, cancellation_tokens = table(CancellationRequest), table(CancellationToken)
owner_changes = table(OwnerChange)
brake_counts, brake_releases = table(BrakeCount), table(BrakeRelease)
clock_readings, clock_acceptances = table(ClockReading), table(ClockAcceptance)
ledger_positions = table(LedgerPosition)
approvals, adopted_access = table(Approval), table(AdoptedAccess)

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
    for sealed in (column for found in metadata.tables.values() for column in found.c if column.info.get(SEALED)):
        without = DDL(f"ALTER TABLE {sealed.table.name} ALTER COLUMN {sealed.name} SET STATISTICS 0")  # type: ignore[no-untyped-call]
        event.listen(sealed.table, "after_create", without.execute_if(dialect="postgresql"))
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
