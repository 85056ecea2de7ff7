"""A population over years on a manual clock, through the real store: arrivals, churn, unpaid bills, second thoughts.

::

    scenario        how many accounts, and how often what befalls them: a TOML file
    customers       who comes when and wants what, drawn for each by themselves, whatever the policy
    crowd           many requests of one instant, decided and written together
    post            where effects arrive
    world           the days: requests, activity, sweeps, deliveries
    results         what was found, and CSV of it
    plots           the same as pictures; needs matplotlib

Under two policies the same people come on the same days and want the same, so what differs is the policies' doing.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lifecycle.clock import ManualClock
from lifecycle.engine import Engine
from lifecycle.errors import InvalidInput, SchemaOutdated
from lifecycle.policy import Policy
from lifecycle.safety import Safety

if TYPE_CHECKING:
    from lifecycle.histories import Promise
    from lifecycle.simulate.post import PostOffice
    from lifecycle.simulate.results import Outcome
    from lifecycle.simulate.scenario import Scenario
    from lifecycle.simulate.world import Day, World

#: A database that is gone when its simulation is over, and that nobody waits for to reach a disk.
IN_MEMORY = "sqlite://"


def require_empty(engine: Engine, what: str) -> None:
    """Raise :class:`InvalidInput` where the database has accounts: what is in use gets no policy of a ``what``'s."""
    with suppress(SchemaOutdated):  # there is none yet
        if any(engine.summary().values()):
            raise InvalidInput(f"The database of a {what} must be empty; name one that does not exist yet.")


def simulate(
    scenario: "Scenario",
    policy: Policy,
    *,
    name: str = "policy",
    safety: Safety | None = None,
    database: str = IN_MEMORY,
    on_day: Callable[[int], None] = lambda days: None,
) -> "Outcome":
    """Live through the scenario under ``policy``, and check at the end what was promised.

    ``name`` is how the policy is called in what is written. ``safety`` sets the brake; its ledger is left alone.
    ``database`` must be empty, or :class:`InvalidInput` is raised, and stays as it is at the end. ``on_day`` hears of
    each day that is over. The same scenario and policy give the same outcome, on every machine.
    """
    from lifecycle.simulate.post import PostOffice
    from lifecycle.simulate.world import World

    clock, post = ManualClock(scenario.start), PostOffice()
    braked = replace(safety or Safety(), ledger=None)
    with closing(Engine(database, policy=policy, clock=clock, handlers=post.handlers(), safety=braked)) as engine:
        require_empty(engine, "simulation")
        engine.migrate()
        world = World(engine, clock, scenario)
        post.hear = world.hear
        days = world.live(on_day)
        return _outcome(name, world, days, post)


def _outcome(name: str, world: "World", days: "list[Day]", post: "PostOffice") -> "Outcome":
    from lifecycle.histories import check_promises, lives
    from lifecycle.simulate.results import Outcome, Stays, count_stays
    from lifecycle.states import FINAL, State

    engine = world.engine
    stays = {state: Stays({}, {}) for state in State if state is not FINAL}
    looked_at = count_stays(lives(engine), world.clock.now(), stays)
    promises = [*check_promises(looked_at, engine.policy, world.clock.now()), *_accounted(world, days)]
    return Outcome(
        name, engine.policy, world.opened, days, stays, world.granted, world.refused, post.delivered, promises
    )


def _accounted(world: "World", days: "list[Day]") -> "list[Promise]":
    """That nobody was lost on the way, and nothing forgotten."""
    from lifecycle.histories import Promise
    from lifecycle.tables import Status

    engine, last = world.engine, days[-1]
    found = sum(last.states.values())
    overdue = max(sum(status.overdue for status in engine.timers()) - last.waiting, 0)
    owed = engine.outbox_counts()
    undone = owed.get(Status.PENDING, 0) + owed.get(Status.PARKED, 0)
    return [
        Promise("Every account that was opened is in exactly one state", world.opened, abs(world.opened - found)),
        Promise("No timer is overdue but for the brake", found, overdue),
        Promise("Everything owed to the outside was delivered", sum(owed.values()), undone),
    ]
