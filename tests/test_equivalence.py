"""One definition, two readers: what the sweep does to a million is what `tick` decides for each one."""

from typing import Any

import pytest
from hypothesis import given, settings
from sqlalchemy import delete, insert, select

from lifecycle import Effect, Engine, ManualClock, Refused
from lifecycle.actor import SYSTEM, Request
from lifecycle.columns import metadata
from lifecycle.machine import decide, give_notice, tick
from lifecycle.outcomes import CONFIRMS, REMINDS
from lifecycle.personal import Personal
from lifecycle.policy import Policy
from lifecycle.reads import Snapshot
from lifecycle.store import PROMISES
from lifecycle.tables import Status, accounts, history, outbox
from tests.conftest import SOAK
from tests.strategies import NOW, POLICIES, populations
from tests.tampering import unguard

Row = dict[str, Any]
ENTRY = ("account_id", "number", "event", "step", "source", "dest", "at", "actor", "policy_version")
OWED = ("account_id", "number", "effect", "status", "attempts", "created_at", "due_at", "promised", *PROMISES)


def fill(engine: Engine, rows: list[Row]) -> None:
    """Replace whatever is in the database by these accounts."""
    with engine.database.write() as connection:
        for table in (one for one in reversed(metadata.sorted_tables) if one is accounts or "account_id" in one.c):
            connection.execute(delete(table))
        connection.execute(insert(accounts), rows)
        people = [Personal.of_new("Acme Ltd", ["a@b.test"])] * len(rows)
        engine.store.put_people(connection, [row["id"] for row in rows], people)


def one_by_one(rows: list[Row], policy: Policy) -> tuple[dict[str, Row], set[Any], set[Any]]:
    """What the accounts, the history and the outbox must be once `tick` has nothing more to say."""
    final, entries, owed = {}, set(), set()
    for row in rows:
        subject = dict(row)
        for _ in range(10):
            decision = tick(Snapshot(subject), NOW, policy)
            if decision is None:
                break
            subject |= decision.changes
            if decision.step is None:
                continue
            number = subject["version"]
            entries.add(
                (row["id"], number, decision.event, decision.step, decision.source, decision.dest, NOW,
                 "system:timer", policy.version)
            )  # fmt: skip
            for effect in decision.owes:
                dates = tuple(subject[name] for name in PROMISES)
                owed.add((row["id"], number, effect, "pending", 0, NOW, NOW, decision.promised, *dates))
        else:
            pytest.fail(f"timers never come to rest: {row}")
        final[row["id"]] = subject
    return final, entries, owed


def read(engine: Engine, table: Any, columns: tuple[str, ...]) -> set[Any]:
    with engine.database.read() as connection:
        return {tuple(row) for row in connection.execute(select(*(table.c[name] for name in columns)))}


def engine_on(url: str, policy: Policy) -> Engine:
    engine = Engine(url, policy=policy, clock=ManualClock(NOW), batch=7)
    engine.migrate()
    with engine.database.write() as connection:
        unguard(connection)  # `fill` begins anew
    return engine


@pytest.fixture(params=range(len(POLICIES)), ids=["default", "approval", "end of access", "longer"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return POLICIES[request.param]


def test_a_sweep_does_to_every_account_what_tick_decides_for_it(url: str, policy: Policy) -> None:
    engine = engine_on(url, policy)

    @settings(max_examples=25 * SOAK)
    @given(populations(policy))
    def compare(rows: list[Row]) -> None:
        fill(engine, rows)
        report = engine.sweep()
        final, entries, owed = one_by_one(rows, policy)
        with engine.database.read() as connection:
            swept = {row["id"]: dict(row) for row in connection.execute(select(accounts)).mappings()}
        assert swept == final
        assert read(engine, history, ENTRY) == entries
        assert read(engine, outbox, OWED) == owed
        assert report.finished and report.moved == len(entries)

    compare()
    engine.close()


def carried_back_one_by_one(rows: list[Row], owed: list[Row], policy: Policy) -> tuple[dict[str, Row], set[Any]]:
    """What the accounts and the history become when every one of the owed effects is delivered with a receipt."""
    subjects, entries = {row["id"]: dict(row) for row in rows}, set()
    for task in owed:
        subject, effect = subjects[task["account_id"]], task["effect"]
        try:
            if effect in REMINDS and subject["reminder"] == task["number"]:
                reminds = [row for row in REMINDS[effect] if subject["state"] in row.sources]
                decision = give_notice(Snapshot(subject), (reminds or REMINDS[effect])[0], NOW, policy)
            elif effect in CONFIRMS:
                asked = Request(SYSTEM, receipt="gone")
                decision = decide(Snapshot(subject), CONFIRMS[effect].event, asked, NOW, policy)
            else:
                continue
        except Refused:
            continue
        subject |= decision.changes
        entries.add(
            (subject["id"], subject["version"], decision.event, decision.step, decision.source, decision.dest, NOW,
             "system:timer", policy.version)
        )  # fmt: skip
    return subjects, entries


def test_what_deliveries_mean_for_many_is_what_each_means_alone(url: str, policy: Policy) -> None:
    engine = engine_on(url, policy)
    engine.courier.handlers |= dict.fromkeys(Effect, lambda task: "gone")

    @settings(max_examples=25 * SOAK)
    @given(populations(policy))
    def compare(rows: list[Row]) -> None:
        fill(engine, rows)
        engine.sweep()
        with engine.database.read() as connection:
            swept = [dict(row) for row in connection.execute(select(accounts)).mappings()]
            before = read(engine, history, ENTRY)
        engine.deliver()
        with engine.database.read() as connection:
            done = select(outbox).where(outbox.c.status == Status.DELIVERED).order_by(outbox.c.due_at, outbox.c.id)
            delivered = [dict(row) for row in connection.execute(done).mappings()]
            found = {row["id"]: dict(row) for row in connection.execute(select(accounts)).mappings()}
        subjects, entries = carried_back_one_by_one(swept, delivered, policy)
        assert found == subjects
        assert read(engine, history, ENTRY) == before | entries

    compare()
    engine.close()


def test_after_a_sweep_nothing_is_due_and_no_date_is_later_than_its_timer(url: str, policy: Policy) -> None:
    engine = engine_on(url, policy)

    @settings(max_examples=10 * SOAK)
    @given(populations(policy))
    def nothing_left(rows: list[Row]) -> None:
        fill(engine, rows)
        engine.sweep()
        with engine.database.read() as connection:
            assert not connection.execute(select(accounts.c.id).where(accounts.c.due_at <= NOW)).all()
        assert engine.sweep().moved == 0

    nothing_left()
    engine.close()
