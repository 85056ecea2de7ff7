"""Many requests of one instant, each of its own kind, decided and written together; and many accounts opened at once.

What :meth:`lifecycle.engine.Engine.fire` does for one account, at a tenth of its time: the definition decides each by
itself, and the store writes a page in a few statements.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from lifecycle.actor import Request
from lifecycle.engine import Engine, new_row
from lifecycle.errors import Refused
from lifecycle.machine import Decision, decide
from lifecycle.reads import Snapshot
from lifecycle.states import Event, Opening, Plan
from lifecycle.store import Entry

#: Accounts that are read, decided and written at a time.
PAGE = 500


class Deed(NamedTuple):
    """An event that somebody asks for; ``then`` is whatever the caller wants to know of it afterwards."""

    event: Event
    asked: Request
    then: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: no deed where nothing was asked, and no decision where the definition refused."""

    account_id: str
    deed: Deed | None
    decision: Decision | None


class NewAccount(NamedTuple):
    """An account to open; ``period_ends_at`` belongs to the plan paid."""

    id: str
    company: str
    owner: str
    plan: Plan
    period_ends_at: datetime | None


def open_all(engine: Engine, new: Sequence[NewAccount]) -> None:
    """What :meth:`lifecycle.engine.Engine.open_account` does for each, in one transaction."""
    if not new:
        return
    now, policy = engine.clock.now(), engine.policy
    rows = [new_row(one.id, one.plan, one.period_ends_at, now, policy) for one in new]
    with engine.database.write() as connection:
        engine.store.require_policy(connection, policy)
        engine.store.insert(
            connection,
            rows,
            [one.company for one in new],
            [[one.owner] for one in new],
            Opening.OPEN_ACCOUNT,
            Entry(now, policy.version),
        )
        engine.store.announce(connection)


def fire_all(engine: Engine, ids: Sequence[str], choose: Callable[[Snapshot], Deed | None]) -> Iterator[Answer]:
    """Ask of each account what ``choose`` makes of it, a transaction a page; gives the answers of committed pages."""
    for start in range(0, len(ids), PAGE):
        with engine.database.write() as connection:
            engine.store.require_policy(connection, engine.policy)
            page = engine.store.page_of(connection, ids[start : start + PAGE], lock=True)
            answers = [_answer(engine, connection, snapshot, choose(snapshot)) for snapshot in page]
            _write(engine, connection, page, answers)
        yield from answers


def _answer(engine: Engine, connection: Any, snapshot: Snapshot, deed: Deed | None) -> Answer:
    if deed is None:
        return Answer(snapshot.id, None, None)
    unclaimed = snapshot.id in engine.store.withdrawable(connection, deed.event, [snapshot.id])
    deed = deed._replace(asked=replace(deed.asked, unclaimed=unclaimed))
    try:
        decision = decide(snapshot, deed.event, deed.asked, engine.clock.now(), engine.policy)
    except Refused:
        return Answer(snapshot.id, deed, None)
    return Answer(snapshot.id, deed, decision)


def _write(engine: Engine, connection: Any, page: Sequence[Snapshot], answers: Sequence[Answer]) -> None:
    now, version, changes = engine.clock.now(), engine.policy.version, []
    for snapshot, answer in zip(page, answers, strict=True):
        if answer.deed is not None and answer.decision is not None:
            entry = Entry.of_request(snapshot, answer.deed.asked, now, version, None)
            changes.append((snapshot, answer.decision, entry))
    engine.store.write_many(connection, changes)
    for answer in answers:
        if answer.deed is not None and answer.decision is not None:
            number = answer.decision.changes["version"]
            engine.store.follow_hold(connection, answer.deed.event, {answer.account_id: number}, answer.deed.asked, now)
    engine.store.announce(connection)
