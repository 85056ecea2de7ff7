"""Random lives: whatever people, billing, outages and failing handlers do, the promises hold."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from lifecycle import Actor, Effect, Engine, InvalidInput, ManualClock, Refused, Role, Task
from lifecycle.columns import metadata
from lifecycle.operation_tables import lookup_secrets, schema_info
from lifecycle.states import OWNERS_CHANGE, Event
from lifecycle.tables import adopted_policies
from tests.conftest import SOAK, START
from tests.promises import Destruction, check
from tests.tampering import unguarded

IDS = ("ada", "bob")
OWNER = "owner@example.test"
ACTORS = (
    Actor.owner(OWNER),
    Actor.owner("stranger@example.test"),
    Actor.support("sue"),
    Actor.admin("root"),
    Actor.billing("psp"),
)
HOLDS = (Event.PLACE_HOLD, Event.RELEASE_HOLD)
EVENTS = tuple(event for event in Event if event not in HOLDS)
#: What support does in the name of an owner.
FOR_AN_OWNER = (Event.CANCEL, Event.DOWNGRADE, Event.REACTIVATE, *OWNERS_CHANGE)
#: Steps of time: within a day, around the policy's durations, and outages of months.
STEPS = st.sampled_from([0.5, 1, 6.9, 7, 8, 13, 14, 23, 29, 30, 31, 60, 170, 200, 400]).map(lambda d: timedelta(days=d))


class Lives(RuleBasedStateMachine):
    """Two accounts and everybody who can do something to them."""

    url: str

    @initialize(plan=st.sampled_from(["trial", "free", "paid"]))
    def open(self, plan: str) -> None:
        self.clock = ManualClock(START)
        self.destructions: list[Destruction] = []
        self.broken = False
        handlers = dict.fromkeys((Effect.DELETE_CONTENT, Effect.PURGE_BACKUPS, Effect.REMIND_DELETION), self.handle)
        self.engine = Engine(self.url, clock=self.clock, handlers=handlers)
        self.engine.migrate()
        # The database of the last example serves again.
        with self.engine.database.write() as connection, unguarded(connection):
            for table in reversed(metadata.sorted_tables):
                if table not in (schema_info, adopted_policies, lookup_secrets):
                    connection.execute(table.delete())
        for name in IDS:
            period = START + timedelta(days=31) if plan == "paid" else None
            self.engine.open_account(name, company="Acme", owners=[OWNER], plan=plan, period_ends_at=period)

    def handle(self, task: Task) -> str:
        if task.effect in (Effect.DELETE_CONTENT, Effect.PURGE_BACKUPS):
            account = self.engine.get(task.account_id)
            self.destructions.append(Destruction(task, account, self.clock.now()))
        if self.broken:
            raise RuntimeError("the storage is down")
        return f"done {task.idempotency_key}"

    @rule(
        who=st.sampled_from((0, 1)),
        event=st.sampled_from(EVENTS),
        actor=st.sampled_from(ACTORS),
        stated=st.sets(st.sampled_from(["reason", "owner", "period"])),
        days=st.sampled_from([-5, 1, 31, 366]),
    )
    def somebody_asks(self, who: int, event: Event, actor: Actor, stated: set[str], days: int) -> None:
        facts: dict[str, Any] = {}
        if "reason" in stated:
            facts["reason"] = "because"
        if "owner" in stated:
            facts |= {"company": "ACME", "email": OWNER.upper()}
        if "period" in stated:
            facts["period_ends_at"] = self.clock.now() + timedelta(days=days)
        name = IDS[who]
        before = self.engine.get(name)
        try:
            allowed = self.engine.may(name, event, actor=actor, **facts).allowed
            self.engine.fire(name, event, actor=actor, **facts)
            assert allowed
        except InvalidInput:
            pass  # a fact that this event does not take
        except Refused:
            assert not allowed
            assert self.engine.get(name).version == before.version

    @rule(who=st.sampled_from((0, 1)), choice=st.integers(0, 99), days=st.sampled_from([1, 31, 366]))
    def somebody_does_what_is_possible(self, who: int, choice: int, days: int) -> None:
        possible = [p for p in self.engine.explain(IDS[who]).possible if p.event not in HOLDS]
        if not possible:
            return
        chosen = possible[choice % len(possible)]
        role = chosen.by[choice % len(chosen.by)]
        latest = max(self.clock.now(), self.engine.get(IDS[who]).period_ends_at or START)
        offered = {
            "reason": "because",
            "company": "Acme",
            "email": OWNER,
            "period_ends_at": latest + timedelta(days=days),
            "owner": f"owner{choice % 3}@acme.test",
        }
        facts = {name: offered[name] for name in chosen.needs}
        if role is Role.SUPPORT and chosen.event in FOR_AN_OWNER:
            facts |= {"company": "Acme", "email": OWNER}
        actor = Actor(role, OWNER if role is Role.OWNER else "somebody")
        with suppress(Refused):  # what one role needs, another may not state
            self.engine.fire(IDS[who], chosen.event, actor=actor, **facts)

    @rule(who=st.sampled_from((0, 1)), place=st.booleans(), case=st.sampled_from([None, "2027-114"]))
    def a_court_orders(self, who: int, place: bool, case: str | None) -> None:
        order = self.engine.place_hold if place else self.engine.release_hold
        try:
            order(IDS[who], actor=Actor.admin("root"), reason="court order", case=case)
        except Refused:
            assert not place or self.engine.get(IDS[who]).state == "purged"

    @rule(who=st.sampled_from((0, 1)))
    def the_courts_are_satisfied(self, who: int) -> None:
        with suppress(Refused):
            self.engine.release_hold(IDS[who], actor=Actor.admin("root"), reason="settled")

    @rule(who=st.sampled_from((0, 1)))
    def somebody_uses_it(self, who: int) -> None:
        self.engine.record_activity(IDS[who])

    @rule(days=st.integers(1, 31))
    def days_pass(self, days: int) -> None:
        self.engine.run_until(self.clock.now() + timedelta(days=days))

    @rule(step=STEPS)
    def time_passes(self, step: timedelta) -> None:
        self.engine.run_until(self.clock.now() + step)

    @rule(step=STEPS)
    def the_machine_is_down(self, step: timedelta) -> None:
        self.clock.set(self.clock.now() + step)

    @rule()
    def only_the_sweep_runs(self) -> None:
        self.engine.sweep()

    @rule(broken=st.booleans())
    def the_storage_breaks_or_is_mended(self, broken: bool) -> None:
        self.broken = broken

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "engine"):
            check(self.engine, self.destructions)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()


@pytest.mark.timeout(300 * SOAK)
def test_random_lives_keep_every_promise(url: str) -> None:
    class Here(Lives):
        pass

    Here.url = url
    run_state_machine_as_test(Here, settings=settings(max_examples=18 * SOAK, stateful_step_count=40))
