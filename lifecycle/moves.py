"""Moves for whole sets of accounts: state, history and outbox written from one set, from the definition's terms.

A set is *picked* once, locked, each account with the number of its move. PostgreSQL then writes everything
in the same statement (data-modifying CTEs, each reading what the one before returns); SQLite, which has
none, keeps what was picked in a temporary table of row ids, and a few statements read it. Either way no
account's id travels to Python and back.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    type_coerce,
    update,
)

from lifecycle.actor import SYSTEM
from lifecycle.database import Database
from lifecycle.instants import Instant
from lifecycle.machine import DUE
from lifecycle.policy import Policy
from lifecycle.rows import Move
from lifecycle.states import State
from lifecycle.store import PROMISES, scrubbing
from lifecycle.tables import COLUMNS, Status, accounts, history, outbox
from lifecycle.terms import Term, compile_term

NOW = bindparam("now", type_=Instant)
#: The number of those picked accounts that take no move and only get a new date.
REARM = -1

_PICKED = Table(
    "picked",
    MetaData(),
    Column("key", Integer, primary_key=True),
    Column("move", Integer, nullable=False),
    prefixes=["TEMP"],
)
_CREATE_PICKED = text("CREATE TEMP TABLE IF NOT EXISTS picked (key INTEGER PRIMARY KEY, move INTEGER NOT NULL)")

#: Runs a picked set through its moves with the parameters of its pick; returns how many took each.
Run = Callable[[Connection, Mapping[str, Any]], Mapping[int, int]]


class Mover:
    """Builds what moves sets of accounts of one database under one policy."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self.database = database
        self.policy = policy
        #: What a pick selects beside the number of the move, to tell the accounts.
        self.key = accounts.c.id if database.is_postgresql else literal_column("account.rowid", Integer).label("key")

    def sql(self, term: Term, columns: Mapping[str, Any] = COLUMNS) -> Any:
        """A term as SQL, under the policy and at the parameter ``now``."""
        return compile_term(term, columns, self.policy, NOW)

    def run(self, state: State, moves: Sequence[Move], pick: Select[Any]) -> Run:
        """What moves the accounts of ``state`` that ``pick`` selects: :attr:`key`, and which of ``moves`` they take.

        The number of a move is its place in ``moves``, or :data:`REARM`. What is picked must be locked.
        """
        writes = [_Write(self, state, number, move) for number, move in enumerate(moves)]
        rearm = update(accounts).values(due_at=self.sql(DUE[state]))
        return self._at_once(pick, writes, rearm) if self.database.is_postgresql else self._in_turn(pick, writes, rearm)

    def _at_once(self, pick: Select[Any], writes: "list[_Write]", rearm: Any) -> Run:
        """PostgreSQL: one statement."""
        picked = pick.cte("picked")

        def taking(number: int) -> Any:
            return (accounts.c.id == picked.c.id) & (picked.c.move == number)

        statement = select(picked.c.move, func.count()).group_by(picked.c.move)
        parts = [rearm.where(taking(REARM)).cte("rearmed")]
        for write in writes:
            update_, read = write.update.where(taking(write.number)), write.returning()
            moved = update_.returning(*(column.label(name) for name, column in read.items())).cte(f"m{write.number}")
            inserts = write.inserts(dict(moved.c), lambda query: query)
            erases = write.scrubs(select(moved.c.account_id))
            parts += [s.cte(f"m{write.number}_{n}") for n, s in enumerate((*inserts, *erases))]
        statement = statement.add_cte(*parts)

        def run(connection: Connection, parameters: Mapping[str, Any]) -> Mapping[int, int]:
            return {number: count for number, count in connection.execute(statement, parameters)}

        return run

    def _in_turn(self, pick: Select[Any], writes: "list[_Write]", rearm: Any) -> Run:
        """SQLite: one statement after another over a temporary table."""
        # No bound name may be a column's: SQLAlchemy would take it for a value to be set.
        chosen = select(_PICKED.c.key).where(_PICKED.c.move == bindparam("move_number"))
        among = literal_column("account.rowid").in_(chosen)
        empty = delete(_PICKED)
        fill = insert(_PICKED).from_select(["key", "move"], pick)
        count = select(_PICKED.c.move, func.count()).group_by(_PICKED.c.move)
        steps: dict[int, list[Any]] = {REARM: [rearm.where(among)]}
        for write in writes:
            steps[write.number] = [
                write.update.where(among),
                *write.inserts(write.returning(), lambda query: query.where(among)),
                *write.scrubs(select(accounts.c.id).where(among)),
            ]

        def run(connection: Connection, parameters: Mapping[str, Any]) -> Mapping[int, int]:
            connection.execute(_CREATE_PICKED)
            connection.execute(empty)
            connection.execute(fill, parameters)
            counts = {number: taken for number, taken in connection.execute(count)}
            for number in counts:
                for step in steps[number]:
                    connection.execute(step, {**parameters, "move_number": number})
            return counts

        return run


class _Write:
    """What one move out of one state writes. The inserts read the account as the update has left it."""

    def __init__(self, mover: Mover, state: State, number: int, move: Move) -> None:
        self.mover, self.state, self.number, self.move = mover, state, number, move
        self.dest = move.row.enters(state) if move.moves else state
        self.update = update(accounts).values(self._values())

    def _values(self) -> dict[str, Any]:
        changed = dict(COLUMNS)  # each assignment sees the earlier ones
        values: dict[str, Any] = {}
        for name, term in self.move.sets:
            value = self.mover.sql(term, changed)  # type: ignore[arg-type]
            values[name] = changed[name] = type_coerce(value, accounts.c[name].type)
        changed |= {"state": literal(str(self.dest)), "version": accounts.c.version + 1}
        values |= {"state": self.dest, "version": changed["version"]}
        values["due_at"] = self.mover.sql(DUE[self.dest], changed)
        return values

    @property
    def _scrubs(self) -> bool:
        return self.move.moves and self.move.row.scrubs

    def scrubs(self, ids: Select[Any]) -> list[Any]:
        """Erases personal data of the accounts with these ids, where the move asks for it."""
        return scrubbing(lambda column: column.in_(ids)) if self._scrubs else []

    def returning(self) -> dict[str, Any]:
        """What the inserts read of the moved account, by name."""
        read = {"account_id": accounts.c.id, "number": accounts.c.version}
        if self.move.owes:
            read |= {name: accounts.c[name] for name in PROMISES}
            if self.move.promised is not None:
                read["promised"] = self.mover.sql(self.move.promised)
            read |= {
                f"owes_{n}": self.mover.sql(owed.condition)
                for n, owed in enumerate(self.move.owes)
                if owed.condition is not None
            }
        return read

    def inserts(self, read: Mapping[str, Any], restrict: Callable[[Select[Any]], Select[Any]]) -> list[Any]:
        """The history entry, and a row of the outbox for each effect that is owed."""
        entry = {
            "account_id": read["account_id"],
            "number": read["number"],
            "event": literal(str(self.move.row.event)),
            "step": literal(str(self.move.step)),
            "source": literal(str(self.state)),
            "dest": literal(str(self.dest)),
            "at": NOW,
            "actor": literal(str(SYSTEM)),
            "policy_version": literal(self.mover.policy.version),
        }
        inserts = [insert(history).from_select(list(entry), restrict(select(*entry.values())))]
        for n, owed in enumerate(self.move.owes):
            owes = {
                **{name: column for name, column in read.items() if not name.startswith("owes_")},
                "effect": literal(str(owed.effect)),
                "status": literal(str(Status.PENDING)),
                "attempts": literal(0),
                "created_at": NOW,
                "due_at": NOW,
            }
            rows = restrict(select(*owes.values()))
            if owed.condition is not None:
                rows = rows.where(read[f"owes_{n}"])
            inserts.append(insert(outbox).from_select(list(owes), rows, include_defaults=False))
        return inserts
