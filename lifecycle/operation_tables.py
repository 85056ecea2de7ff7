"""The tables of the engine's own operation: seals, requests, approvals, the brake, the clock, daemons.

Nothing reads their rows as models, so that they are plain tables: a short command starts in less time.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text
from sqlalchemy import UniqueConstraint as Unique

from lifecycle.columns import drawn, given, key, metadata, reference, sealed, words
from lifecycle.instants import Instant
from lifecycle.seal import Stream
from lifecycle.states import Effect

_ONE_ROW = 1

# --- The record, and who may change what ----------------------------------------------------------

#: One row: what makes keyed hashes of addresses and names, wrapped as accounts' keys are.
lookup_secrets = Table(
    "lookup_secret",
    metadata,
    key("id", Integer, default=_ONE_ROW),
    given("key_id", Text),
    sealed("wrapped"),
)

#: Append-only: a link of the chain over history and receipts (:class:`lifecycle.seal.Seal`).
seals = Table(
    "seal",
    metadata,
    key("number", Integer, autoincrement=False),
    given("stream", words("stream", Stream)()),
    given("rows", Integer),
    given("to_id", BigInteger),
    given("sealed_at", Instant),
    given("previous", LargeBinary),
    given("digests", LargeBinary),
    given("hash", LargeBinary),
    Unique("stream", "to_id"),
)

#: An attempt that was refused, apart from history: who, what, why, and when. ``who`` is ``role:id``, an owner's id
#: being their number on file, or ``?``; ``principal`` is who ran the process, where that is known. ``account_id`` is
#: what was asked for, whether or not there is such an account. ``times`` is how many attempts the row stands for.
refused_attempts = Table(
    "refused_attempt",
    metadata,
    drawn(),
    given("at", Instant, index=True),
    given("what", Text),
    Column("account_id", Text, index=True),
    given("who", Text),
    Column("principal", Text),
    given("reasons", Text),
    given("times", Integer, default=1),
    given("policy_version", Text),
)

#: What one person asked for and another approves: bound to the ``digest`` of exactly that, and used up once. ``roles``
#: are those of which the second person needs one.
approvals = Table(
    "approval",
    metadata,
    drawn("number"),
    given("action", Text),
    given("digest", Text, index=True),
    given("summary", Text),
    given("roles", Text),
    given("requested_by", Text),
    given("requested_at", Instant),
    Column("reason", Text),
    given("expires_at", Instant),
    Column("approved_by", Text),
    Column("approved_at", Instant),
    Column("approval_reason", Text),
    Column("used_at", Instant),
)

#: Every set of roles, keys and two-person rules that this database has kept; the latest is in force.
adopted_access = Table(
    "adopted_access",
    metadata,
    drawn("number"),
    given("settings", Text),
    given("adopted_at", Instant),
    given("adopted_by", Text),
    Column("approved_by", Text),
)

# --- Requests for cancellation --------------------------------------------------------------------

#: A request for cancellation as it came in: waiting, left for review because of ``why``, or settled. ``requester`` is a
#: keyed hash of the address that it states, by which limits count. What was asked is sealed in ``data`` under a key of
#: its own, which is ``wrapped`` as accounts' keys are, and erased when nobody needs it.
cancellation_requests = Table(
    "cancellation_request",
    metadata,
    drawn(),
    given("received_at", Instant, index=True),
    given("requester", LargeBinary),
    Column("key_id", Text),
    sealed("wrapped", nullable=True),
    sealed("data", nullable=True),
    Column("why", Text),
    reference(nullable=True, index=True),
    Column("settled_at", Instant),
    Column("settled_by", Text),
    Index("cancellation_request_requester", "requester", "received_at"),
)

#: A token that was sent to ``owner`` to confirm the request of history entry ``number``; only its hash is kept.
cancellation_tokens = Table(
    "cancellation_token",
    metadata,
    key("hash", LargeBinary),
    reference(index=True),
    given("number", Integer),
    given("owner", Integer),
    given("issued_at", Instant),
    given("expires_at", Instant, index=True),
)

#: The addresses before a change of owners, until they are told; sealed under the account's key.
owner_changes = Table(
    "owner_change",
    metadata,
    reference(primary_key=True),
    key("number", Integer),
    sealed("data"),
)

# --- The brake, the clock, the ledger, the daemons -------------------------------------------------

#: How many accounts were asked to be destroyed at one instant: what the brake adds up.
brake_counts = Table(
    "brake_count",
    metadata,
    drawn(),
    given("at", Instant, index=True),
    given("effect", words("effect", Effect)()),
    given("accounts", Integer),
)

#: How many requests beyond its limits the brake was told to let through, by whom, and why.
brake_releases = Table(
    "brake_release",
    metadata,
    drawn(),
    given("at", Instant, index=True),
    given("accounts", Integer),
    given("actor", Text),
    Column("approved_by", Text),
    given("reason", Text),
)

#: One row: the latest instant at which a sweep or a delivery took the host's clock for right.
clock_readings = Table("clock_reading", metadata, key("id", Integer, default=_ONE_ROW), Column("seen_at", Instant))

#: A clock in doubt that somebody took for right: what it said, and when it was seen before.
clock_acceptances = Table(
    "clock_acceptance",
    metadata,
    drawn(),
    given("at", Instant),
    Column("seen_at", Instant),
    given("actor", Text),
)

#: How many lines of a ledger this database has been found to agree with.
ledger_positions = Table(
    "ledger_position",
    metadata,
    key("ledger", Text),
    given("lines", Integer),
    given("checked_at", Instant),
)

#: One row: the version of the schema.
schema_info = Table("schema_info", metadata, key("id", Integer, default=_ONE_ROW), given("version", Integer))

#: When each daemon was last alive, whether its database user may destroy, and what troubles it.
heartbeats = Table(
    "heartbeat",
    metadata,
    key("daemon", Text),
    given("started_at", Instant),
    given("seen_at", Instant),
    given("policy_version", Text),
    given("destroys", Boolean),
    Column("trouble", Text),
)
