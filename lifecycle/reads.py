"""Reading accounts: snapshots of one, pages of many, counts; nothing here changes anything.

Every method that takes a connection works inside the caller's transaction; see
:class:`lifecycle.database.Database`.
"""

import json
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, case, exists, func, literal, null, select, text, union_all

from lifecycle.characters import shown
from lifecycle.database import Database
from lifecycle.errors import AccountNotFound, PolicyError, SchemaOutdated
from lifecycle.guards import normal
from lifecycle.inputs import email_key, is_account_id
from lifecycle.instants import Instant
from lifecycle.machine import TIMERS
from lifecycle.operation_tables import clock_readings, heartbeats, lookup_secrets, schema_info
from lifecycle.personal import NOTHING, Person, Personal, Sealed, open_reason
from lifecycle.policy import Policy
from lifecycle.privileges import KEYS
from lifecycle.statements import Statement
from lifecycle.states import DESTRUCTIVE, SUSPENDED, Effect, Event, State, Step
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
    stated_reasons,
)
from lifecycle.terms import Term, compile_term, holds
from lifecycle.vault import AccountKey, Vault, lookup_key

_PAGE = 1000
#: For what keyed hashes are: so that equal texts of different kinds have different ones.
LOOKUP, COMPANY, EMAIL = "look-ups", "company", "email"
#: A column of the account, how it is compared, and with what.
Test = tuple[str, str, Any]
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {"==": operator.eq, "<": operator.lt, ">=": operator.ge}
#: Destructive requests that no handler has claimed yet: these can be withdrawn.
UNCLAIMED = (outbox.c.effect.in_(DESTRUCTIVE), outbox.c.status == Status.PENDING, outbox.c.attempts == 0)


def _next_due(waits: Any) -> Any:
    """One look-up in the index per timed state, in one statement."""
    states = dict.fromkeys(state for row in TIMERS for state in row.sources)
    looks = (
        select(
            literal(state, accounts.c.state.type).label("state"), func.min(accounts.c.due_at).label("earliest")
        ).where(accounts.c.state == state, waits)
        for state in states
    )
    return union_all(*looks)


_NEXT_DUE = _next_due(accounts.c.due_at.is_not(None))
_NEXT_DUE_AFTER = _next_due(accounts.c.due_at > bindparam("after", type_=Instant))
_POLICY_VERSION = select(adopted_policies.c.version).order_by(adopted_policies.c.number.desc()).limit(1)
#: The account's row with what is sealed beside it.
_SEALED = (personal_data.c.key_id, personal_data.c.wrapped, personal_data.c.data)
_ACCOUNTS = select(accounts, *_SEALED).outerjoin(personal_data, personal_data.c.account_id == accounts.c.id)
#: The same for whoever may not read what is sealed: as of accounts that were purged.
_ACCOUNTS_ALONE = select(accounts, *(null().label(column.name) for column in _SEALED))
_ACCOUNT = _ACCOUNTS.where(accounts.c.id == bindparam("wanted"))
_KEPT = _POLICY_VERSION.scalar_subquery().label("kept")
_ONE, _ONE_LOCKED = Statement(_ACCOUNT), Statement(_ACCOUNT.with_for_update(of=accounts))
_ONE_ALONE = Statement(_ACCOUNTS_ALONE.where(accounts.c.id == bindparam("wanted")))
_SEEN_AT = select(clock_readings.c.seen_at).scalar_subquery().label("clock_seen_at")
_ONE_TO_CHANGE = Statement(_ACCOUNT.add_columns(_KEPT, _SEEN_AT).with_for_update(of=accounts))


def _reading_reasons(entries: Any) -> Any:
    stated_here = (stated_reasons.c.account_id == history.c.account_id) & (stated_reasons.c.number == history.c.number)
    return (
        entries.add_columns(stated_reasons.c.data.label("stated"), personal_data.c.key_id, personal_data.c.wrapped)
        .outerjoin(stated_reasons, stated_here)
        .outerjoin(personal_data, personal_data.c.account_id == stated_reasons.c.account_id)
    )


def _without_reasons(entries: Any) -> Any:
    return entries.add_columns(*(null().label(name) for name in ("stated", "key_id", "wrapped")))


_ENTRIES = select(*(column for column in history.c if column is not history.c.id))
_ENTRIES_WITH_REASONS, _ENTRIES_ALONE = _reading_reasons(_ENTRIES), _without_reasons(_ENTRIES)
_CASES = (
    select(legal_holds.c.account_id, legal_holds.c.case)
    .where(legal_holds.c.released_at.is_(None))
    .order_by(legal_holds.c.number)
)


class Snapshot:
    """An account as it was read: every column as an attribute, with its people and legal-hold ``cases``.

    ``cases`` are the case (or None) of each hold in force. What is ``sealed`` of its people is opened when it is
    asked for; of a purged account nothing is left.
    """

    __slots__ = ("_columns", "_personal", "_vault", "cases", "sealed")

    def __init__(
        self,
        columns: Mapping[str, Any],
        cases: tuple[str | None, ...] = (),
        sealed: Sealed | None = None,
        vault: Vault | None = None,
    ) -> None:
        self._columns = columns
        self._personal: Personal | None = None
        self._vault = vault or Vault()
        self.cases = cases
        self.sealed = sealed

    def __getattr__(self, name: str) -> Any:
        try:
            return self._columns[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return f"<account {self.id} in {self.state}, version {self.version}>"

    @property
    def personal(self) -> Personal:
        """What is known of the account's people. Raises :class:`lifecycle.errors.KeyMissing`."""
        if self._personal is None:
            self._personal = NOTHING if self.sealed is None else self.sealed.open(self._vault, self.id)
        return self._personal

    @property
    def company(self) -> str:
        """The company's name; blank once purged."""
        return self.personal.company

    @property
    def people(self) -> tuple[Person, ...]:
        """The owners on file."""
        return self.personal.people

    @property
    def owners(self) -> tuple[str, ...]:
        """The owners' e-mail addresses, in their order."""
        return self.personal.owners

    @property
    def freeze_reason(self) -> str | None:
        """``billing`` or ``suspension`` in a frozen account, else None."""
        if self.state is not State.FROZEN:
            return None
        return "suspension" if holds(SUSPENDED, {"account": self}) else "billing"

    def as_dict(self) -> dict[str, Any]:
        """Every column by name, with the company and the owners."""
        return {"id": self.id, "company": self.company, **self._columns, "owners": list(self.owners)}


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of an account's history; see :class:`lifecycle.tables.History`."""

    account_id: str
    number: int
    event: str
    step: str
    source: State | None
    dest: State
    at: datetime
    actor: str
    owner: int | None
    reason: str | None
    policy_version: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Adoption:
    """When a policy came into force, who wanted it and why; see :data:`lifecycle.tables.adopted_policies`."""

    number: int
    version: str
    policy: Policy
    adopted_at: datetime
    actor: str | None
    approved_by: str | None
    reason: str | None


class Reads:
    """Reads accounts of one :class:`Database`."""

    def __init__(self, database: Database, vault: Vault | None = None) -> None:
        self.database = database
        self.vault = vault or Vault()
        self._secret: bytes | None = None

    def lookup(self, connection: Connection, purpose: str, text: str) -> bytes:
        """What stands for ``text`` in this database's indexes: a keyed hash of 16 bytes."""
        if self._secret is None:
            row = connection.execute(select(lookup_secrets)).one()
            self._secret = self.vault.secret(LOOKUP, AccountKey(row.key_id, row.wrapped))
        return lookup_key(self._secret, purpose, text)

    def may_destroy(self, connection: Connection) -> bool:
        """Whether this database's user may delete accounts' keys, and so may purge."""
        return self.database.may(connection, "DELETE", KEYS)

    def opens_personal(self, connection: Connection) -> bool:
        """Whether this database's user may read what is sealed; to others it is as if it had been purged."""
        return self.database.may(connection, "SELECT", KEYS)

    def reading_reasons(self, connection: Connection, entries: Any) -> Any:
        """A query that reads entries of the history, reading also what :meth:`with_reason` needs."""
        return _reading_reasons(entries) if self.opens_personal(connection) else _without_reasons(entries)

    def _accounts(self, connection: Connection) -> Any:
        return _ACCOUNTS if self.opens_personal(connection) else _ACCOUNTS_ALONE

    def _entries(self, connection: Connection) -> Any:
        return _ENTRIES_WITH_REASONS if self.opens_personal(connection) else _ENTRIES_ALONE

    def check_schema(self, connection: Connection) -> None:
        """Raise :class:`SchemaOutdated` unless the schema is the one that this version of the package reads."""
        found = connection.scalar(select(schema_info.c.version))
        if found != SCHEMA_VERSION:
            newer = found is not None and found > SCHEMA_VERSION
            advice = "upgrade the account-lifecycle package." if newer else "run `lifecycle init`."
            raise SchemaOutdated(f"The schema has version {found}, this package reads {SCHEMA_VERSION}; {advice}")

    def hold_policy(self, connection: Connection) -> None:
        """Nobody can adopt another policy until this transaction ends: what it computes stays true.

        SQLite has one writer at a time; on PostgreSQL this lock conflicts with the one of an adoption only.
        """
        if self.database.is_postgresql:
            connection.execute(text("LOCK TABLE account IN ROW SHARE MODE"))

    def policy_in_force(self, connection: Connection) -> Policy | None:
        """The policy that this database keeps, or None before the first adoption."""
        settings = connection.scalar(
            select(adopted_policies.c.settings).order_by(adopted_policies.c.number.desc()).limit(1)
        )
        return None if settings is None else Policy.from_mapping(json.loads(settings))

    def adoptions(self, connection: Connection) -> list["Adoption"]:
        """Every policy that this database has kept, the latest first."""
        rows = connection.execute(select(adopted_policies).order_by(adopted_policies.c.number.desc())).mappings()
        return [
            Adoption(
                row["number"],
                row["version"],
                Policy.from_mapping(json.loads(row["settings"])),
                *(row[name] for name in ("adopted_at", "actor", "approved_by", "reason")),
            )
            for row in rows
        ]

    def keeps(self, connection: Connection, policy: Policy) -> bool:
        """Whether ``policy`` is in force under the version that it has today."""
        return connection.scalar(_POLICY_VERSION) == policy.version

    def require_policy(self, connection: Connection, policy: Policy) -> None:
        """Raise :class:`PolicyError` unless ``policy`` is in force, and stays so until the transaction ends."""
        self.hold_policy(connection)
        _check_policy(connection.scalar(_POLICY_VERSION), policy)

    def load(self, connection: Connection, account_id: str, *, lock: bool = False) -> Snapshot:
        """The account, locked for the transaction if ``lock``; raises :class:`AccountNotFound`."""
        check_id(account_id)
        one = _ONE_LOCKED if lock else _ONE if self.opens_personal(connection) else _ONE_ALONE
        rows = one.rows(connection, {"wanted": account_id})
        if not rows:
            raise _not_found(account_id)
        return self._snapshot(connection, rows[0])

    def load_to_change(
        self, connection: Connection, account_id: str, policy: Policy
    ) -> tuple[Snapshot, datetime | None]:
        """The account, locked, under :meth:`require_policy`, and when a clock was last seen, in one statement.

        To lock a row takes the lock on the table that keeps adoptions out, before anything is read.
        """
        check_id(account_id)
        rows = _ONE_TO_CHANGE.rows(connection, {"wanted": account_id})
        if not rows:
            self.require_policy(connection, policy)
            raise _not_found(account_id)
        _check_policy(rows[0].pop("kept"), policy)
        seen_at = rows[0].pop("clock_seen_at")
        return self._snapshot(connection, rows[0]), seen_at

    def _snapshot(self, connection: Connection, columns: dict[str, Any]) -> Snapshot:
        cases: tuple[str | None, ...] = ()
        if columns["legal_holds"]:
            held = _CASES.where(legal_holds.c.account_id == columns["id"])
            cases = tuple(row.case for row in connection.execute(held))
        return self._of_row(columns, cases)

    def _of_row(self, columns: dict[str, Any], cases: tuple[str | None, ...]) -> Snapshot:
        key_id, wrapped, data = (columns.pop(column.name) for column in _SEALED)
        sealed = None if data is None else Sealed(AccountKey(key_id, wrapped), data)
        return Snapshot(columns, cases, sealed, self.vault)

    def load_many(self, connection: Connection, ids: Sequence[str]) -> list[Snapshot]:
        """The accounts with these ids, unlocked; ids that do not exist are left out."""
        query = self._accounts(connection).where(self.database.among(accounts.c.id))
        rows = connection.execute(query, {"ids": self.database.ids(ids)})
        return self._snapshots(connection, rows.mappings().all())

    def sealed_of(self, connection: Connection, ids: Iterable[str]) -> dict[str, Sealed]:
        """What is sealed of the people of each of these accounts that has any."""
        rows = connection.execute(
            select(personal_data.c.account_id, *_SEALED).where(self.database.among(personal_data.c.account_id)),
            {"ids": self.database.ids(ids)},
        )
        return {id: Sealed(AccountKey(key_id, wrapped), data) for id, key_id, wrapped, data in rows.all()}

    def _snapshots(self, connection: Connection, rows: Sequence[Mapping[Any, Any]]) -> list[Snapshot]:
        cases: dict[str, list[str | None]] = {}
        held = [row["id"] for row in rows if row["legal_holds"]]
        if held:
            for account_id, case in connection.execute(_CASES.where(legal_holds.c.account_id.in_(held))):
                cases.setdefault(account_id, []).append(case)
        return [self._of_row(dict(row), tuple(cases.get(row["id"], ()))) for row in rows]

    def _entry(self, row: Mapping[Any, Any]) -> HistoryEntry:
        return HistoryEntry(**self.with_reason(row))

    def with_reason(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        """A row of :meth:`reading_reasons` with the reason that a person stated; None once its key was destroyed."""
        columns = dict(row)
        stated, key_id, wrapped = (columns.pop(name) for name in ("stated", "key_id", "wrapped"))
        if stated is not None and wrapped is not None:
            key = AccountKey(key_id, wrapped)
            columns["reason"] = open_reason(self.vault, columns["account_id"], key, columns["number"], stated)
        return columns

    def replayed(self, connection: Connection, account_id: str, request_id: str) -> HistoryEntry | None:
        """The entry that an earlier request with the same id made, if there was one."""
        row = (
            connection.execute(
                self._entries(connection).where(history.c.account_id == account_id, history.c.request_id == request_id)
            )
            .mappings()
            .one_or_none()
        )
        return None if row is None else self._entry(row)

    def history(self, connection: Connection, account_id: str) -> list[HistoryEntry]:
        """The account's entries, oldest first."""
        query = self._entries(connection).where(history.c.account_id == account_id)
        rows = connection.execute(query.order_by(history.c.number))
        return [self._entry(row) for row in rows.mappings()]

    def entry(self, connection: Connection, account_id: str, number: int) -> HistoryEntry:
        """One entry of the account's history, which must be there."""
        here = (history.c.account_id == account_id) & (history.c.number == number)
        return self._entry(connection.execute(self._entries(connection).where(here)).mappings().one())

    def count_entries(self, connection: Connection, account_id: str, event: Event, actor: str, since: datetime) -> int:
        """How often ``actor`` fired an event on the account after ``since``."""
        fired = select(func.count()).where(
            history.c.account_id == account_id,
            history.c.event == event,
            history.c.actor == actor,
            history.c.step == Step.FIRE,
            history.c.at > since,
        )
        return connection.scalar(fired) or 0

    def openings(self, connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
        """The ``request_id`` of the first history entry of each of these accounts that exists."""
        rows = connection.execute(
            select(history.c.account_id, history.c.request_id).where(
                history.c.number == 1, self.database.among(history.c.account_id)
            ),
            {"ids": self.database.ids(ids)},
        )
        return {row.account_id: row.request_id for row in rows}

    def withdrawable(
        self, connection: Connection, event: Event, ids: Collection[str], *, lock: bool = True
    ) -> frozenset[str]:
        """Those of the accounts of which ``event`` withdraws a destructive request; ``lock`` keeps it from claims.

        Only a new legal hold does, and only what no handler has claimed yet.
        """
        if event is not Event.PLACE_HOLD:
            return frozenset()
        query = select(outbox.c.account_id).where(outbox.c.account_id.in_(ids), *UNCLAIMED)
        return frozenset(connection.scalars(query.with_for_update() if lock else query))

    def owned_by(self, connection: Connection, company: str, email: str) -> list[str]:
        """Ids of the accounts of ``company`` with the owner ``email``, compared without case and extra spaces."""
        theirs = owners.c.email_key == self.lookup(connection, EMAIL, email_key(email))
        here = owners.c.account_id == personal_data.c.account_id
        return self._found(connection, company, exists().where(here, theirs))

    def of_company(self, connection: Connection, company: str) -> list[str]:
        """Ids of the accounts of ``company``, compared without case and extra spaces."""
        return self._found(connection, company)

    def _found(self, connection: Connection, company: str, *conditions: Any) -> list[str]:
        named = personal_data.c.company_key == self.lookup(connection, COMPANY, normal(company))
        return list(
            connection.scalars(
                select(personal_data.c.account_id).where(named, *conditions).order_by(personal_data.c.account_id)
            )
        )

    def pages(self, where: Sequence[Any], order: Sequence[Any]) -> Iterator[list[Snapshot]]:
        """The accounts that satisfy ``where``, a page of at most 1,000 at a time, each a short transaction.

        ``order`` must end in the account's id; pages go on from the last row seen.
        """
        last: Any = None
        while True:
            with self.database.read() as connection:
                query = self._accounts(connection).where(*where).order_by(*order).limit(_PAGE)
                if last is not None:
                    query = query.where(_after(order, last))
                rows = connection.execute(query).mappings().all()
                page = self._snapshots(connection, rows) if rows else []
            if page:
                yield page
            if len(rows) < _PAGE:
                return
            last = rows[-1]

    def page_that(
        self, connection: Connection, tests: Sequence[Test], after: str | None, limit: int, *, lock: bool
    ) -> list[Snapshot]:
        """The first ``limit`` accounts that pass all ``tests`` and come after the id ``after``, by id."""
        conditions = [_COMPARISONS[comparison](accounts.c[column], value) for column, comparison, value in tests]
        if after is not None:
            conditions.append(accounts.c.id > after)
        return self._page(connection, self._accounts(connection).where(*conditions).limit(limit), lock)

    def page_of(self, connection: Connection, ids: Sequence[str], *, lock: bool) -> list[Snapshot]:
        """The accounts with these ids, by id; ids that do not exist are left out."""
        return self._page(connection, self._accounts(connection).where(accounts.c.id.in_(ids)), lock)

    def _page(self, connection: Connection, query: Any, lock: bool) -> list[Snapshot]:
        # Whoever locks many accounts does it in the order of their ids, so that nobody waits in a circle.
        query = query.order_by(accounts.c.id)
        rows = connection.execute(query.with_for_update(of=accounts) if lock else query).mappings().all()
        return self._snapshots(connection, rows)

    def existing(self, connection: Connection, ids: Sequence[str]) -> list[str]:
        """Those of the ids that name an account, in the database's order."""
        query = select(accounts.c.id).where(self.database.among(accounts.c.id)).order_by(accounts.c.id)
        return list(connection.scalars(query, {"ids": self.database.ids(ids)}))

    def acted_upon(self, connection: Connection, ids: Collection[str], request_id: str) -> bool:
        """Whether a request with this id has changed any of the accounts."""
        found = select(history.c.account_id).where(history.c.account_id.in_(ids), history.c.request_id == request_id)
        return connection.scalar(found.limit(1)) is not None

    def requested(
        self, connection: Connection, request_id: str, limit: int
    ) -> Iterator[list[tuple[HistoryEntry, tuple[Effect, ...]]]]:
        """Every account's entry that a request of this id made, with what it owes: by account, in pages.

        Reads the whole index of request ids once, since that begins with the account.
        """
        query = self._entries(connection).where(history.c.request_id == request_id)
        query = query.order_by(history.c.account_id).limit(limit)
        page = connection.execute(query).mappings().all()
        while page:
            owes = self._owed_by(connection, {row["account_id"]: row["number"] for row in page})
            yield [(self._entry(row), tuple(owes.get(row["account_id"], ()))) for row in page]
            rest = query.where(history.c.account_id > page[-1]["account_id"])
            page = connection.execute(rest).mappings().all()

    def _owed_by(self, connection: Connection, numbers: Mapping[str, int]) -> dict[str, list[Effect]]:
        """The effects that one history entry of each account owes."""
        owes: dict[str, list[Effect]] = {}
        query = select(outbox.c.account_id, outbox.c.number, outbox.c.effect).where(outbox.c.account_id.in_(numbers))
        for account_id, number, effect in connection.execute(query.order_by(outbox.c.id)):
            if number == numbers[account_id]:
                owes.setdefault(account_id, []).append(effect)
        return owes

    def stream_accounts(
        self, connection: Connection, state: State | None, account_id: str | None
    ) -> Iterator[list[Snapshot]]:
        """All accounts, or those of a state or an id, by id: a page at a time as the database hands them out."""
        conditions: list[Any] = [] if state is None else [accounts.c.state == state]
        conditions += [] if account_id is None else [accounts.c.id == account_id]
        query = self._accounts(connection).where(*conditions).order_by(accounts.c.id)
        for rows in connection.execute(query.execution_options(yield_per=_PAGE)).mappings().partitions():
            yield self._snapshots(connection, rows)

    def stream_history(
        self, connection: Connection, state: State | None, account_id: str | None
    ) -> Iterator[list[HistoryEntry]]:
        """The history of all accounts, or of those of a state or an id, as :meth:`stream_accounts` reads accounts."""
        inside = select(accounts.c.id).where(accounts.c.state == state)
        conditions: list[Any] = [] if state is None else [history.c.account_id.in_(inside)]
        conditions += [] if account_id is None else [history.c.account_id == account_id]
        query = self._entries(connection).where(*conditions).order_by(history.c.account_id, history.c.number)
        for rows in connection.execute(query.execution_options(yield_per=_PAGE)).mappings().partitions():
            yield [self._entry(row) for row in rows]

    def where(self, conditions: Sequence[Any]) -> Iterator[Snapshot]:
        """The accounts that satisfy all ``conditions``, in the order of their ids."""
        for page in self.pages(conditions, [accounts.c.id]):
            yield from page

    def matching(self, term: Term, now: datetime, policy: Policy) -> Iterator[Snapshot]:
        """The accounts on which a term holds, in the order of their ids."""
        return self.where([compile_term(term, COLUMNS, policy, literal(now, Instant))])

    def count(self, connection: Connection, term: Term, now: datetime, policy: Policy) -> int:
        """How many accounts a term holds on."""
        condition = compile_term(term, COLUMNS, policy, literal(now, Instant))
        return connection.scalar(select(func.count()).select_from(accounts).where(condition)) or 0

    def spread(
        self,
        connection: Connection,
        kinds: Sequence[Term],
        date: Term,
        edges: Sequence[datetime],
        now: datetime,
        policy: Policy,
    ) -> list[tuple[int, ...]]:
        """How many accounts have a date where: a row for each kind, a number for each span that ends at an edge.

        An account counts for the first kind that holds on it. The first span has no beginning; what lies at the last
        edge or after it is not counted. One pass over the table.
        """
        at = literal(now, Instant)
        when = compile_term(date, COLUMNS, policy, at)
        kind = case(*((compile_term(one, COLUMNS, policy, at), literal(n)) for n, one in enumerate(kinds)))
        span = case(*((when < literal(edge, Instant), literal(n)) for n, edge in enumerate(edges)))
        found = select(kind.label("kind"), span.label("span")).where(when < literal(edges[-1], Instant)).subquery()
        counts = connection.execute(
            select(found.c.kind, found.c.span, func.count())
            .where(found.c.kind.is_not(None))
            .group_by(found.c.kind, found.c.span)
        )
        by_place = {(row[0], row[1]): row[2] for row in counts}
        return [tuple(by_place.get((k, s), 0) for s in range(len(edges))) for k in range(len(kinds))]

    def accounts(self, state: State | None = None) -> Iterator[Snapshot]:
        """All accounts, or those in one state, in the order of their ids."""
        return self.where([] if state is None else [accounts.c.state == state])

    def due(self, until: datetime) -> Iterator[Snapshot]:
        """Accounts with something to do until then, the earliest first."""
        where = [accounts.c.due_at.is_not(None), accounts.c.due_at <= until]
        for page in self.pages(where, [accounts.c.due_at, accounts.c.id]):
            yield from page

    def summary(self, connection: Connection) -> dict[State, int]:
        """How many accounts are in each state; every state is named."""
        rows = connection.execute(select(accounts.c.state, func.count()).group_by(accounts.c.state))
        return {state: 0 for state in State} | {row[0]: row[1] for row in rows}

    def taken(self, connection: Connection, since: datetime | None = None) -> dict[tuple[Event, State, State], int]:
        """How often each event led from which state to which, in all of history or from an instant on."""
        what = (history.c.event, history.c.source, history.c.dest)
        query = select(*what, func.count()).where(history.c.step == Step.FIRE).group_by(*what)
        rows = connection.execute(query if since is None else query.where(history.c.at >= since))
        return {(Event(event), source, dest): times for event, source, dest, times in rows}

    def next_due(self, connection: Connection, after: datetime | None = None) -> dict[State, datetime]:
        """The earliest ``due_at`` of each state that has one (later than ``after``): seven look-ups in the index."""
        rows = connection.execute(_NEXT_DUE if after is None else _NEXT_DUE_AFTER, {"after": after} if after else {})
        return {row.state: row.earliest for row in rows if row.earliest is not None}

    def waiting(self, connection: Connection, now: datetime) -> dict[State, tuple[int, int]]:
        """Per state: how many accounts wait for a timer, and how many of these are overdue."""
        overdue = func.count().filter(accounts.c.due_at <= now)
        rows = connection.execute(
            select(accounts.c.state, func.count(), overdue)
            .where(accounts.c.due_at.is_not(None))
            .group_by(accounts.c.state)
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def heartbeats(self, connection: Connection) -> list[dict[str, Any]]:
        """Every daemon's last sign of life, as columns of :class:`lifecycle.tables.Heartbeat`."""
        return [dict(row) for row in connection.execute(select(heartbeats)).mappings()]


def _after(order: Sequence[Any], last: Mapping[str, Any]) -> Any:
    """Rows that come after ``last`` in ``order``."""
    if len(order) == 1:
        return order[0] > last[order[0].name]
    first, rest = order[0], order[1:]
    return (first > last[first.name]) | ((first == last[first.name]) & _after(rest, last))


def _check_policy(found: str | None, policy: Policy) -> None:
    if found is None:
        raise SchemaOutdated("The database keeps no policy yet; run `lifecycle init`.")
    if found != policy.version:
        raise PolicyError(
            f"This database keeps policy {found}, this process was started with {policy.version}; "
            "start it with the policy in force, or put the new one in force with `lifecycle policy activate FILE`."
        )


def check_id(account_id: str) -> None:
    """What no account can have as its id does not reach the database, some of which it could not even be asked for."""
    if not is_account_id(account_id):
        raise _not_found(account_id)


def _not_found(account_id: str) -> AccountNotFound:
    return AccountNotFound(f"There is no account {shown(account_id)}; look it up with `lifecycle accounts`.")
