"""The tables of the engine's own operation: seals, requests, approvals, the brake, the clock, daemons.

Nothing reads their rows as models, so that they are plain tables: a short command starts in less time.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text
from sqlalchemy import UniqueConstraint as Unique

from lifecycle.columns import DRAWN, SEALED, metadata, words
from lifecycle.instants import Instant
from lifecycle.seal import Stream
from lifecycle.states import Effect


def _given(name: str, type: Any, **kw: Any) -> "Column[Any]":
    """A column that is never NULL."""
    return Column(name, type, nullable=False, **kw)


def _drawn(name: str = "id") -> "Column[int]":
    return Column(name, DRAWN, primary_key=True)


def _key(name: str, type: Any, **kw: Any) -> "Column[Any]":
    return Column(name, type, primary_key=True, **kw)


def _reference(nullable: bool = False, **kw: Any) -> "Column[str]":
    return Column("account_id", Text, ForeignKey("account.id"), nullable=nullable, **kw)


def _sealed(name: str, nullable: bool = False) -> "Column[bytes]":
    return Column(name, LargeBinary, nullable=nullable, info={SEALED: True})


_ONE_ROW = 1

# --- The record, and who may change what ----------------------------------------------------------

#: One row: what makes keyed hashes of addresses and names, wrapped as accounts' keys are.
lookup_secrets = Table(
    "lookup_secret",
    metadata,
    _key("id", Integer, default=_ONE_ROW),
    _given("key_id", Text),
    _sealed("wrapped"),
)

#: Append-only: a link of the chain over history and receipts (:class:`lifecycle.seal.Seal`).
seals = Table(
    "seal",
    metadata,
    _key("number", Integer, autoincrement=False),
    _given("stream", words("stream", Stream)()),
    _given("rows", Integer),
    _given("to_id", BigInteger),
    _given("sealed_at", Instant),
    _given("previous", LargeBinary),
    _given("digests", LargeBinary),
    _given("hash", LargeBinary),
    Unique("stream", "to_id"),
)

#: An attempt that was refused, apart from history: who, what, why, and when. ``who`` is ``role:id``, an owner's id
#: being their number on file, or ``?``; ``principal`` is who ran the process, where that is known. ``account_id`` is
#: what was asked for, whether or not there is such an account. ``times`` is how many attempts the row stands for.
refused_attempts = Table(
    "refused_attempt",
    metadata,
    _drawn(),
    _given("at", Instant, index=True),
    _given("what", Text),
    Column("account_id", Text, index=True),
    _given("who", Text),
    Column("principal", Text),
    _given("reasons", Text),
    _given("times", Integer, default=1),
    _given("policy_version", Text),
)

#: What one person asked for and another approves: bound to the ``digest`` of exactly that, and used up once. ``roles``
#: are those of which the second person needs one.
approvals = Table(
    "approval",
    metadata,
    _drawn("number"),
    _given("action", Text),
    _given("digest", Text, index=True),
    _given("summary", Text),
    _given("roles", Text),
    _given("requested_by", Text),
    _given("requested_at", Instant),
    Column("reason", Text),
    _given("expires_at", Instant),
    Column("approved_by", Text),
    Column("approved_at", Instant),
    Column("approval_reason", Text),
    Column("used_at", Instant),
)

#: Every set of roles, keys and two-person rules that this database has kept; the latest is in force.
adopted_access = Table(
    "adopted_access",
    metadata,
    _drawn("number"),
    _given("settings", Text),
    _given("adopted_at", Instant),
    _given("adopted_by", Text),
    Column("approved_by", Text),
)

# --- Requests for cancellation --------------------------------------------------------------------

#: A request for cancellation as it came in: waiting, left for review because of ``why``, or settled. ``requester`` is a
#: keyed hash of the address that it states, by which limits count. What was asked is sealed in ``data`` under a key of
#: its own, which is ``wrapped`` as accounts' keys are, and erased when nobody needs it.
cancellation_requests = Table(
    "cancellation_request",
    metadata,
    _drawn(),
    _given("received_at", Instant, index=True),
    _given("requester", LargeBinary),
    Column("key_id", Text),
    _sealed("wrapped", nullable=True),
    _sealed("data", nullable=True),
    Column("why", Text),
    _reference(nullable=True, index=True),
    Column("settled_at", Instant),
    Column("settled_by", Text),
    Index("cancellation_request_requester", "requester", "received_at"),
)

#: A token that was sent to ``owner`` to confirm the request of history entry ``number``; only its hash is kept.
cancellation_tokens = Table(
    "cancellation_token",
    metadata,
    _key("hash", LargeBinary),
    _reference(index=True),
    _given("number", Integer),
    _given("owner", Integer),
    _given("issued_at", Instant),
    _given("expires_at", Instant, index=True),
)

#: The addresses before a change of owners, until they are told; sealed under the account's key.
owner_changes = Table(
    "owner_change",
    metadata,
    _reference(primary_key=True),
    _key("number", Integer),
    _sealed("data"),
)

# --- The brake, the clock, the ledger, the daemons -------------------------------------------------

#: How many accounts were asked to be destroyed at one instant: what the brake adds up.
brake_counts = Table(
    "brake_count",
    metadata,
    _drawn(),
    _given("at", Instant, index=True),
    _given("effect", words("effect", Effect)()),
    _given("accounts", Integer),
)

#: How many requests beyond its limits the brake was told to let through, by whom, and why.
brake_releases = Table(
    "brake_release",
    metadata,
    _drawn(),
    _given("at", Instant, index=True),
    _given("accounts", Integer),
    _given("actor", Text),
    Column("approved_by", Text),
    _given("reason", Text),
)

#: One row: the latest instant at which a sweep or a delivery took the host's clock for right.
clock_readings = Table("clock_reading", metadata, _key("id", Integer, default=_ONE_ROW), Column("seen_at", Instant))

#: A clock in doubt that somebody took for right: what it said, and when it was seen before.
clock_acceptances = Table(
    "clock_acceptance",
    metadata,
    _drawn(),
    _given("at", Instant),
    Column("seen_at", Instant),
    _given("actor", Text),
)

#: How many lines of a ledger this database has been found to agree with.
ledger_positions = Table(
    "ledger_position",
    metadata,
    _key("ledger", Text),
    _given("lines", Integer),
    _given("checked_at", Instant),
)

#: One row: the version of the schema.
schema_info = Table("schema_info", metadata, _key("id", Integer, default=_ONE_ROW), _given("version", Integer))

#: When each daemon was last alive, whether its database user may destroy, and what troubles it.
heartbeats = Table(
    "heartbeat",
    metadata,
    _key("daemon", Text),
    _given("started_at", Instant),
    _given("seen_at", Instant),
    _given("policy_version", Text),
    _given("destroys", Boolean),
    Column("trouble", Text),
)
