"""Accounts in the database: one change is one transaction of state, history entry and outbox rows.

Every method that takes a connection works inside the caller's transaction; see
:class:`lifecycle.database.Database`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    Dialect,
    LargeBinary,
    Table,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from lifecycle.actor import SYSTEM, Request, Role
from lifecycle.append_only import protect
from lifecycle.database import CHANNEL
from lifecycle.deadlines import ACTIVITY_COUNTS
from lifecycle.errors import AccountExists, Conflict
from lifecycle.guards import normal, on_file
from lifecycle.inputs import email_key
from lifecycle.instants import Instant
from lifecycle.machine import Decision, due
from lifecycle.operation_tables import (
    cancellation_requests,
    cancellation_tokens,
    clock_readings,
    heartbeats,
    lookup_secrets,
    owner_changes,
    schema_info,
)
from lifecycle.personal import NOTHING, Personal, Sealed, seal_reason
from lifecycle.policy import Policy
from lifecycle.reads import COMPANY, EMAIL, LOOKUP, UNCLAIMED, HistoryEntry, Reads, Snapshot, check_id
from lifecycle.statements import Statement, driver_cursor
from lifecycle.states import Event, Step
from lifecycle.tables import (
    COLUMNS,
    SCHEMA_VERSION,
    Status,
    accounts,
    adopted_policies,
    history,
    legal_holds,
    outbox,
    owners,
    personal_data,
    readable_view,
    receipts,
    schema,
    stated_reasons,
)
from lifecycle.terms import compile_term

#: Columns of the account that an outbox row copies, so that a message says what was promised when it was owed.
PROMISES = ("access_ends_at", "delete_content_at", "purge_backups_by")
_ANNOUNCE = func.pg_notify(CHANNEL, "")


def _adding_to(table: Table) -> Any:
    """Adds a row of which every column is given but a number that the database draws."""
    return insert(table).values({c.name: bindparam(c.name) for c in table.c if c.name != "id"}).inline()


_APPEND, _OWE = Statement(_adding_to(history)), Statement(_adding_to(outbox))
_STATE = Statement(_adding_to(stated_reasons))
_APPEND_AND_ANNOUNCE = Statement(_adding_to(history).returning(_ANNOUNCE))  # one journey to the server, not two
_OWNER = tuple(column.name for column in owners.c)
#: Any number, the same for every process: serialises schema changes on PostgreSQL.
_MIGRATION_LOCK = 7_230_451


@dataclass(frozen=True, slots=True)
class Entry:
    """Who writes a change, when, why and under which policy.

    ``reason`` is in words of the engine's own; what a person has ``stated`` is sealed.
    """

    at: datetime
    policy_version: str
    actor: str = str(SYSTEM)
    owner: int | None = None
    reason: str | None = None
    request_id: str | None = None
    stated: str | None = None

    @classmethod
    def of_request(
        cls, snapshot: Snapshot, asked: Request, at: datetime, version: str, request_id: str | None
    ) -> "Entry":
        """The entry of a request: owners appear by number, never by their address."""
        named = asked.actor.id if asked.role is Role.OWNER else asked.email
        person = on_file(snapshot, named)
        number = None if person is None else person.number
        actor = f"{asked.role}:{number}" if asked.role is Role.OWNER else str(asked.actor)
        # What is confirmed by a token was put into words by the engine, whoever asked.
        ours_alone = asked.role is Role.SYSTEM or asked.confirmed_by is not None
        ours, theirs = (asked.reason, None) if ours_alone else (None, asked.reason)
        return cls(at, version, actor, number, ours, request_id, theirs)


class Store(Reads):
    """Writes accounts, beside reading them."""

    def migrate(self) -> None:
        """Create the schema, or upgrade an earlier version's; a newer version raises :class:`SchemaOutdated`."""
        from lifecycle import upgrade  # which only this needs

        with self.database.write() as connection:
            if self.database.is_postgresql:
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            found = upgrade.found_version(connection)
            upgrades = found in upgrade.EARLIER
            if upgrades:
                upgrade.set_aside(self, connection)
            elif found in upgrade.WIDENED:
                upgrade.widen(connection)
            schema().create_all(connection)
            if connection.scalar(select(lookup_secrets.c.id)) is None:
                secret = self.vault.new_secret(LOOKUP)
                connection.execute(insert(lookup_secrets).values(id=1, **secret._asdict()))
            if upgrades:
                upgrade.bring_over(self, connection, self.put_people)
            if connection.scalar(select(schema_info.c.id)) is None:
                connection.execute(insert(schema_info).values(id=1, version=SCHEMA_VERSION))
            if connection.scalar(select(clock_readings.c.id)) is None:
                connection.execute(insert(clock_readings).values(id=1))
            protect(connection)
            if not self.database.is_postgresql:
                for model in (accounts, history, receipts, outbox):
                    connection.execute(text(readable_view(model)))
            self.check_schema(connection)
        if upgrades:
            self.database.forget()  # what was in clear

    def keep_writers_out(self, connection: Connection) -> None:
        """Nobody else writes until the transaction ends."""
        if self.database.is_postgresql:
            connection.execute(text("LOCK TABLE account IN EXCLUSIVE MODE"))

    def record_policy(self, connection: Connection, policy: Policy, at: datetime, **by: str | None) -> None:
        """From now on this database keeps ``policy``; ``by`` says who wanted it and why, as the table's columns.

        Blocks every writer until the transaction ends.
        """
        self.keep_writers_out(connection)
        last = connection.scalar(select(func.max(adopted_policies.c.number))) or 0
        connection.execute(
            insert(adopted_policies).values(
                number=last + 1,
                version=policy.version,
                settings=json.dumps(policy.as_text(), sort_keys=True),
                adopted_at=at,
                **by,
            )
        )
        self.announce(connection)

    def insert(
        self,
        connection: Connection,
        rows: Sequence[Mapping[str, Any]],
        companies: Sequence[str],
        emails: Sequence[Sequence[str]],
        event: str,
        entry: Entry,
        request_ids: Sequence[str | None] | None = None,
    ) -> None:
        """New accounts with their owners and their first history entry; raises :class:`AccountExists`.

        ``rows``, ``companies`` and owners' ``emails`` go together, and so do ``request_ids``, by which an import knows
        its rows again.
        """
        ids = [row["id"] for row in rows]
        try:
            self._put(connection, accounts, {name: [row[name] for row in rows] for name in rows[0]})
        except IntegrityError as error:
            if "account.id" in str(error.orig) or "account_pk" in str(error.orig):
                raise AccountExists("An account with this id exists already; choose another id.") from None
            raise
        self.put_people(connection, ids, [Personal.of_new(*one) for one in zip(companies, emails, strict=True)])
        alike = {**_entry(entry), "number": 1, "event": event, "step": Step.OPEN, "source": None}
        entries = {
            **{name: [value] * len(ids) for name, value in alike.items()},
            "account_id": ids,
            "dest": [row["state"] for row in rows],
            "request_id": request_ids or [None] * len(ids),
        }
        self._put(connection, history, entries)

    def put_people(self, connection: Connection, ids: Sequence[str], people: Sequence[Personal]) -> None:
        """Seal what is known of the people of new accounts, and add by what it is found."""
        known = [one for one in zip(ids, people, strict=True) if one[1] != NOTHING]
        if not known:
            return
        sealed = [Sealed.new(self.vault, account_id, personal) for account_id, personal in known]
        columns: dict[str, Sequence[Any]] = {
            "account_id": [account_id for account_id, _ in known],
            "key_id": [one.key.key_id for one in sealed],
            "wrapped": [one.key.wrapped for one in sealed],
            "data": [one.data for one in sealed],
            "company_key": [self.lookup(connection, COMPANY, normal(personal.company)) for _, personal in known],
        }
        self._put(connection, personal_data, columns)
        found_by = [
            (account_id, person.number, self.lookup(connection, EMAIL, email_key(person.email)))
            for account_id, personal in known
            for person in personal.people
        ]
        if found_by:
            self._put(connection, owners, dict(zip(_OWNER, zip(*found_by, strict=True), strict=True)))

    def write_personal(self, connection: Connection, snapshot: Snapshot, personal: Personal) -> None:
        """Replace what is known of the account's people, which :class:`Snapshot` has locked."""
        here = snapshot.id
        if snapshot.sealed is None:
            self.put_people(connection, [here], [personal])
            return
        connection.execute(
            update(personal_data)
            .where(personal_data.c.account_id == here)
            .values(
                data=snapshot.sealed.again(self.vault, here, personal),
                company_key=self.lookup(connection, COMPANY, normal(personal.company)),
            )
        )
        connection.execute(delete(owners).where(owners.c.account_id == here))
        connection.execute(
            insert(owners),
            [
                dict(zip(_OWNER, (here, p.number, self.lookup(connection, EMAIL, email_key(p.email))), strict=True))
                for p in personal.people
            ],
        )

    def _put(self, connection: Connection, into: Table, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows, given by columns, at the speed of the driver: SQLAlchemy takes longer than the database.

        Columns without a value are left to the database. None of them has a default.
        """
        dialect = connection.dialect
        columns = {name: values for name, values in columns.items() if values.count(None) < len(values)}
        target = f"{into.name} ({', '.join(map(dialect.identifier_preparer.quote, columns))})"
        rows = zip(*(_bound(into.c[name], values, dialect) for name, values in columns.items()), strict=True)
        if self.database.is_postgresql:
            _copy(connection, f"COPY {target} FROM STDIN", rows)
        else:
            marks = ", ".join("?" * len(columns))
            connection.exec_driver_sql(f"INSERT INTO {target} VALUES ({marks})", list(rows))

    def write(self, connection: Connection, snapshot: Snapshot, decision: Decision, entry: Entry) -> HistoryEntry:
        """Carry a decision out: compare and swap the account, append to history, owe the effects.

        Raises :class:`Conflict` when the account changed since it was read.
        """
        seen = {"seen_id": snapshot.id, "seen_version": snapshot.version, "seen_state": snapshot.state}
        values = decision.changes
        if _swap(frozenset(values)).run(connection, {**values, **seen}) != 1:
            raise Conflict(f"Account {snapshot.id} was changed by another process; try again.")
        row = _history_row(snapshot, decision, entry)
        (_APPEND_AND_ANNOUNCE if self.database.is_postgresql else _APPEND).run(connection, row)
        if decision.owes:
            _OWE.run_many(connection, _outbox_rows(snapshot, decision, entry))
        if decision.scrubs:
            for erasure in scrubbing(lambda column: column == snapshot.id):
                connection.execute(erasure)
        if entry.stated is not None:
            _STATE.run(connection, self._stated(snapshot, decision, entry.stated))
        said = {"event": str(decision.event), "step": str(decision.step), "reason": entry.stated or entry.reason}
        return HistoryEntry(**{**row, **said})

    def _stated(self, snapshot: Snapshot, decision: Decision, reason: str) -> dict[str, Any]:
        """The row that keeps a person's reason."""
        number = decision.changes["version"]
        if snapshot.sealed is None:
            raise Conflict(f"Account {snapshot.id} has no key to seal a reason with; it was purged meanwhile.")
        data = seal_reason(self.vault, snapshot.id, snapshot.sealed.key, number, reason)
        return {"account_id": snapshot.id, "number": number, "data": data}

    def write_many(self, connection: Connection, changes: Sequence[tuple[Snapshot, Decision, Entry]]) -> None:
        """What :meth:`write` does, for many accounts in a few statements; :meth:`announce` is left to the caller."""
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for snapshot, decision, _ in changes:
            seen = {"id": snapshot.id, "seen_version": snapshot.version, "seen_state": snapshot.state}
            values = decision.changes
            alike.setdefault(tuple(values), []).append({**values, **seen})
        for rows in alike.values():
            if self._swap(connection, rows) != len(rows):
                raise Conflict("One of the accounts was changed by another process; try again.")
        self._append(connection, history, [_history_row(*change) for change in changes])
        self._append(connection, outbox, [row for change in changes for row in _outbox_rows(*change)])
        stated = [self._stated(one, what, entry.stated) for one, what, entry in changes if entry.stated is not None]
        self._append(connection, stated_reasons, stated)
        purged = [snapshot.id for snapshot, decision, _ in changes if decision.scrubs]
        if purged:
            for erasure in scrubbing(lambda column: column.in_(purged)):
                connection.execute(erasure)

    def _swap(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write the same columns of many accounts, where these are as they were seen; returns how many were."""
        types = {name: accounts.c[name.removeprefix("seen_")].type for name in rows[0]}
        given, parameters = self._given(types, rows)
        swap = update(accounts).where(
            accounts.c.id == given["id"],
            accounts.c.version == given["seen_version"],
            accounts.c.state == given["seen_state"],
        )
        written = {name: value for name, value in given.items() if name in accounts.c and name != "id"}
        return connection.execute(swap.values(written), parameters).rowcount

    def _append(self, connection: Connection, into: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, all with the same columns."""
        if not rows:
            return
        given, parameters = self._given({name: into.c[name].type for name in rows[0]}, rows)
        if self.database.is_postgresql:
            connection.execute(insert(into).from_select(list(given), select(*given.values())), parameters)
        else:
            connection.execute(insert(into).values(given), parameters)

    def _given(self, types: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], Any]:
        """Rows as expressions by their names, and as the parameters of a statement that is made of these.

        SQLite runs the statement once per row. On PostgreSQL that would take three times as long, so
        there the rows are one table, bound as an array per column.
        """
        if not self.database.is_postgresql:
            binds = {name: bindparam(f"given_{name}", type_=kind) for name, kind in types.items()}
            return binds, [{f"given_{name}": row[name] for name in types} for row in rows]
        arrays = [bindparam(f"given_{name}", type_=ARRAY(kind)) for name, kind in types.items()]
        columns = [column(name, kind) for name, kind in types.items()]
        table = func.unnest(*arrays).table_valued(*columns, name="given").render_derived()
        return dict(table.c), {f"given_{name}": [row[name] for row in rows] for name in types}

    def announce(self, connection: Connection) -> None:
        """Wake the daemons that listen, at commit; the others see the change at their next look."""
        if self.database.is_postgresql:
            connection.execute(select(_ANNOUNCE))

    def record_activity(
        self, connection: Connection, account_id: str, at: datetime, now: datetime, policy: Policy
    ) -> bool:
        """Move ``last_active_at`` to ``at`` unless the one on file is as late; True if it was written.

        Touches no history, and no index but in one case: where a notice of the old clock has put the
        timer to rest, it is armed again.
        """
        check_id(account_id)
        counts = compile_term(ACTIVITY_COUNTS, COLUMNS, policy, literal(at, Instant))
        row = connection.execute(
            update(accounts)
            .where(accounts.c.id == account_id, counts)
            .values(last_active_at=at)
            .returning(accounts.c.due_at, accounts.c.reminded_at)
        ).one_or_none()
        if row is not None and row.due_at is None and row.reminded_at is not None:
            snapshot = self.load(connection, account_id, lock=True)
            armed = update(accounts).where(accounts.c.id == account_id).values(due_at=due(snapshot, now, policy))
            connection.execute(armed)
        return row is not None

    def add_hold(self, connection: Connection, account_id: str, number: int, case: str | None, at: datetime) -> None:
        """Note a legal hold, placed by history entry ``number``."""
        connection.execute(insert(legal_holds).values(account_id=account_id, number=number, case=case, placed_at=at))

    def follow_hold(
        self, connection: Connection, event: Event, numbers: Mapping[str, int], asked: Request, at: datetime
    ) -> None:
        """What ``event`` changes beside the accounts: only one that places or releases legal holds does.

        ``numbers`` maps each account to its new history entry. A new hold withdraws what
        :meth:`withdrawable` found; a release ends the holds of the case that was ``asked``, or all without one.
        """
        if event is Event.PLACE_HOLD:
            placed = [{"account_id": id, "number": number} for id, number in numbers.items()]
            connection.execute(
                insert(legal_holds).values(case=asked.case, ends_at=asked.hold_ends_at, placed_at=at), placed
            )
            withdrawn = update(outbox).where(outbox.c.account_id.in_(numbers), *UNCLAIMED)
            why = "a legal hold was placed"
            connection.execute(withdrawn.values(status=Status.WITHDRAWN, last_error=why, finished_at=at))
        elif event is Event.RELEASE_HOLD:
            ended = update(legal_holds).where(
                legal_holds.c.account_id.in_(numbers), legal_holds.c.released_at.is_(None)
            )
            if asked.case is not None:
                ended = ended.where(legal_holds.c.case == asked.case)
            connection.execute(ended.values(released_at=at))

    def beat(self, daemon: str, started_at: datetime, at: datetime, version: str, trouble: str | None) -> None:
        """Note that a daemon is alive, and whether it may destroy."""
        values: dict[str, Any] = {"started_at": started_at, "seen_at": at, "policy_version": version}
        with self.database.write() as connection:
            values |= {"trouble": trouble, "destroys": self.may_destroy(connection)}
            known = connection.execute(update(heartbeats).where(heartbeats.c.daemon == daemon).values(**values))
            if known.rowcount == 0:
                connection.execute(insert(heartbeats).values(daemon=daemon, **values))


#: Tables of which nothing is left of a purged account.
_ABOUT_PEOPLE = (
    owners,
    owner_changes,
    stated_reasons,
    personal_data,
    cancellation_tokens,
    cancellation_requests,
)


def scrubbing(chosen: Callable[[Any], Any]) -> list[Any]:
    """What erases personal data of purged accounts from the engine's own tables; ids, dates and our own words remain.

    With the account's key goes all that it sealed, also where copies lie. ``chosen`` makes the condition from a column
    that holds the account's id.
    """
    return [
        *(delete(table).where(chosen(table.c.account_id)) for table in _ABOUT_PEOPLE),
        update(outbox).where(chosen(outbox.c.account_id), outbox.c.last_error.is_not(None)).values(last_error=None),
    ]


#: What an entry says in columns of the history.
_OF_ENTRY = tuple(field.name for field in fields(Entry) if field.name in history.c)


def _entry(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _OF_ENTRY}


@cache
def _swap(columns: frozenset[str]) -> Statement:
    """Sets these columns of an account, where it is as it was seen."""
    return Statement(
        update(accounts)
        .where(
            accounts.c.id == bindparam("seen_id"),
            accounts.c.version == bindparam("seen_version"),
            accounts.c.state == bindparam("seen_state"),
        )
        .values({name: bindparam(name) for name in sorted(columns)})
    )


def _history_row(snapshot: Snapshot, decision: Decision, entry: Entry) -> dict[str, Any]:
    """The history entry of one change."""
    return {
        "account_id": snapshot.id,
        "number": decision.changes["version"],
        "event": decision.event,
        "step": decision.step,
        "source": decision.source,
        "dest": decision.dest,
        **_entry(entry),
    }


def _outbox_rows(snapshot: Snapshot, decision: Decision, entry: Entry) -> list[dict[str, Any]]:
    """What one change owes."""
    dates = {name: decision.changes.get(name, getattr(snapshot, name)) for name in PROMISES}
    return [
        {
            "account_id": snapshot.id,
            "number": decision.changes["version"],
            "effect": effect,
            "created_at": entry.at,
            "due_at": entry.at,
            "status": Status.PENDING,
            "attempts": 0,
            "promised": decision.promised,
            **dates,
        }
        for effect in decision.owes
    ]


def _bound(column: Column[Any], values: Sequence[Any], dialect: Dialect) -> Iterable[Any]:
    """Values of a column as the driver takes them. Many rows have few different words and dates."""
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    if process is None or isinstance(column.type, LargeBinary):  # which drivers take as they are
        return values
    wire = {value: process(value) for value in set(values)}
    if dialect.name == "postgresql":  # to COPY they are text, which the driver would write anew for each row
        wire = {value: None if value is None else str(bound) for value, bound in wire.items()}
    return map(wire.__getitem__, values)


def _copy(connection: Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    """PostgreSQL's COPY, of which SQLAlchemy knows nothing."""
    with driver_cursor(connection, statement) as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
