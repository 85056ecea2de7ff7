"""What `impact` foretells is what happens: instant by instant, once the policy is activated and the clock runs."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from lifecycle import Actor, Effect, Engine, ManualClock, Policy, Safety, State
from lifecycle.impact import Change, Choice, Forecast
from lifecycle.states import Event, Step
from lifecycle.tables import accounts, history, legal_holds, metadata
from tests.conftest import SOAK
from tests.strategies import NOW, POLICIES, populations
from tests.tampering import unguard
from tests.test_equivalence import fill

HORIZON = NOW + timedelta(days=100)
Steps = dict[tuple[str, Event, Step], datetime]
NO_BRAKE = Safety(accounts_per_hour=1000, accounts_per_day=1000, share_per_day=1.0)
SHORTER = {
    "expired_trial_cancellation_after": "20 days",
    "unpaid_cancellation_after": "90 days",
    "company_notice": "10 days",
    "deletion_after": "20 days",
    "access_reminder": "3 days",
    "deletion_notice": "2 days",
    "trial_reminder": "3 days",
    "hold_release_notice": "1 day",
    "purge_lead": "12 hours",
    "purge_after": "40 days",
}
LONGER = {
    "company_cancellation": "approval",
    "deletion_clock": "end_of_access",
    "deletion_after": "45 days",
    "company_notice": "20 days",
    "deletion_notice": "10 days",
    "access_reminder": "12 days",
}
#: Each policy is once in force, and once the candidate.
CHANGES = {
    "shorter, and by themselves": (POLICIES[1], Policy.from_mapping(SHORTER)),
    "longer, and upon approval": (
        Policy.from_mapping(SHORTER),
        Policy.from_mapping(LONGER),
    ),
}


def opened(url: str, policy: Policy) -> Engine:
    handlers = dict.fromkeys((Effect.DELETE_CONTENT, Effect.PURGE_BACKUPS), lambda task: "gone")
    return Engine(url, policy=policy, clock=ManualClock(NOW), handlers=handlers, safety=NO_BRAKE, batch=1000)


def adopted(url: str, policy: Policy) -> Engine:
    engine = opened(url, policy)
    engine.migrate()
    return engine


def saved(engine: Engine) -> dict[Any, list[dict[str, Any]]]:
    with engine.database.read() as connection:
        mine = (one for one in metadata.sorted_tables if one is accounts or "account_id" in one.c)
        return {one: [dict(row) for row in connection.execute(select(one)).mappings()] for one in mine}


def put_back(engine: Engine, content: dict[Any, list[dict[str, Any]]]) -> None:
    with engine.database.write() as connection:
        for table in reversed(list(content)):
            connection.execute(delete(table))
        for table, rows in content.items():
            if rows:
                connection.execute(insert(table), rows)


def happened(engine: Engine, expected: Steps) -> Steps:
    """Lives on until the horizon, and says what timers did meanwhile.

    A daemon looks twice a minute whether a request may be delivered by now; ``run_until`` does so when something is
    due, and so it is woken where a destruction is expected.
    """
    with engine.database.read() as connection:
        before = connection.scalars(select(history.c.id)).all()
    destroys = (Event.DELETE_CONTENT, Event.PURGE_BACKUPS)
    for at in sorted({at for (_, event, step), at in expected.items() if event in destroys and step is Step.FIRE}):
        engine.run_until(at)
    engine.run_until(HORIZON)
    query = select(history.c.account_id, history.c.event, history.c.step, history.c.at).where(
        history.c.step.in_((Step.REMIND, Step.FIRE)), history.c.event != Event.RELEASE_HOLD, history.c.id.not_in(before)
    )
    with engine.database.read() as connection:
        return {(id, Event(event), Step(step)): at for id, event, step, at in connection.execute(query)}


def foretold(forecast: Forecast) -> tuple[Steps, Steps]:
    """What comes until the horizon: under the policy in force, and under the candidate."""
    rows = list(forecast.listed(NOW, Choice(changes=tuple(Change))))
    before = {(one.account_id, one.event, one.step): one.before for one in rows}
    after = {(one.account_id, one.event, one.step): one.after for one in rows}
    assert len(before) == len(rows), "each step is listed once"
    return soon(before), soon(after)


def soon(steps: dict[tuple[str, Event, Step], datetime | None]) -> Steps:
    return {key: at for key, at in steps.items() if at is not None and at <= HORIZON}


def differing(found: Steps, expected: Steps) -> dict[Any, tuple[datetime | None, datetime | None]]:
    """What was found and what was expected, where these differ."""
    keys = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
    return {key: (found.get(key), expected.get(key)) for key in keys}


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest) -> tuple[Policy, Policy]:
    return CHANGES[request.param]


def test_what_impact_foretells_is_what_happens(url: str, change: tuple[Policy, Policy]) -> None:
    old, new = change

    # The first example is the simplest there is. To shrink would take long, and a difference says enough.
    @settings(max_examples=1 + SOAK, phases=[Phase.generate])
    @given(populations(old, size=20, least=20), st.booleans())
    def compare(rows: list[dict[str, Any]], swept: bool) -> None:
        engine = adopted(url, old)
        with engine.database.write() as connection:
            unguard(connection)
        fill(engine, rows)
        if swept:  # notices and requests wait in the outbox
            engine.sweep()
        end_holds(engine)
        content = saved(engine)
        before, after = foretold(Forecast(engine.store, old, new))
        assert saved(engine) == content, "to foretell changes nothing"
        assert differing(happened(engine, before), before) == {}
        put_back(engine, content)
        engine.clock = ManualClock(NOW)
        engine.activate(new, actor=Actor.admin("ada"), reason="as foretold")
        assert differing(happened(engine, after), after) == {}
        engine.close()

    compare()


def end_holds(engine: Engine) -> None:
    """Every other hold comes to its end by itself."""
    with engine.database.write() as connection:
        held = connection.scalars(select(accounts.c.id).where(accounts.c.legal_holds > 0).order_by(accounts.c.id)).all()
        for number, id in enumerate(held):
            ends_at = NOW + timedelta(days=number) if number % 2 else None
            values = {"account_id": id, "number": 1, "case": "c", "placed_at": NOW, "ends_at": ends_at}
            connection.execute(insert(legal_holds).values(values))


# --- Numbers and lists -----------------------------------------------------------------------------

OWNER = "ann@acme.test"
KINDER = Policy.from_mapping({"deletion_after": "45 days", "purge_after": "80 days"})


@pytest.fixture
def cancelled(engine: Engine) -> Engine:
    """Two trials, and a paid account that is cancelled, with its dates stamped."""
    for number in range(2):
        engine.open_account(f"trial{number}", company="Acme", owners=[OWNER])
    ends_at = engine.clock.now() + timedelta(days=20)
    engine.open_account("paid", company="Acme", owners=[OWNER], plan="paid", period_ends_at=ends_at)
    engine.fire("paid", "cancel", actor=Actor.owner(OWNER))
    return engine


def test_impact_counts_accounts_per_state_and_timer(cancelled: Engine) -> None:
    found = cancelled.impact(KINDER)
    assert (found.accounts, found.candidate) == (3, KINDER.version)
    moved = {(one.state, one.event, one.step): one.later for one in found.timers if one.changed}
    assert moved == {
        (State.TRIAL, Event.DELETE_CONTENT, Step.REMIND): 2,
        (State.TRIAL, Event.DELETE_CONTENT, Step.FIRE): 2,
        (State.TRIAL, Event.PURGE_BACKUPS, Step.FIRE): 2,
    }
    kept = [one for one in found.timers if one.state is State.CANCEL_PENDING and one.same]
    assert {one.event for one in kept} >= {Event.REVOKE_ACCESS, Event.DELETE_CONTENT}, "what was promised stays"


def test_impact_counts_who_loses_what_within_which_time(cancelled: Engine) -> None:
    losses = {(one.what, one.days): one for one in cancelled.impact(KINDER).losses}
    assert [losses["access", days].before for days in (7, 30, 90)] == [0, 1, 3]
    within = losses["content", 90]
    assert (within.before, within.after, within.only_before, within.only_after) == (3, 1, 2, 0)


def test_accounts_are_listed_by_what_becomes_of_them(cancelled: Engine) -> None:
    def ids(**chosen: Any) -> set[str]:
        return {one.account_id for one in cancelled.foretold(KINDER, Choice(**chosen))}

    assert ids() == {"trial0", "trial1"}
    assert ids(changes=(Change.SAME,)) == {"trial0", "trial1", "paid"}
    assert ids(changes=(Change.SAME,), loses="content") == {"paid"}
    assert ids(event=Event.EXPIRE_TRIAL) == ids(state=State.FROZEN) == set()
    assert ids(within=timedelta(days=89)) == {"trial0", "trial1"}, "the reminder comes sooner"
    assert ids(within=timedelta(days=89), event=Event.PURGE_BACKUPS) == set()


def test_a_policy_is_foretold_against_the_one_in_force_whatever_the_engine_was_opened_with(
    url: str, cancelled: Engine
) -> None:
    other = Engine(url, policy=KINDER, clock=cancelled.clock)
    assert other.impact(KINDER).in_force == Policy().version
    assert not any(one.changed for one in other.impact(Policy()).timers)
    other.close()
