"""The people of a simulation: who comes when, and what each of them wants to do on which day.

Everything is drawn from streams of chance that belong to one customer and one purpose, seeded by their number. So no
customer's luck depends on another's, and none of it on the policy: under two policies the same people come on the same
days and want the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import NamedTuple

from lifecycle.simulate.scenario import Scenario
from lifecycle.states import Plan

MONTHLY, ANNUAL = timedelta(days=30), timedelta(days=365)
_MONTH = 30


class Kind(StrEnum):
    """What somebody wants."""

    UPGRADE = "upgrade"
    CHOOSE_FREE = "choose the free plan"
    CHARGE = "charge for a period"
    PAY = "pay late"
    CANCEL = "cancel"
    COME_BACK = "come back"
    HEED = "heed a notice"
    SUSPEND = "suspend"
    LIFT = "lift a suspension"
    HOLD = "place a legal hold"
    RELEASE = "release a legal hold"


class Wish(NamedTuple):
    """Something that is wanted on a day, counted from the first.

    ``chance`` is between 0 and 1: where a rate depends on the account's plan, the wish counts below that rate.
    ``after`` is in how many days the next wish follows that comes of this one, if one does.
    """

    day: int
    kind: Kind
    chance: float = 0.0
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Customer:
    """One account and its owner. ``period`` is how long they pay for at a time, ``first`` what is left of the first."""

    number: int
    arrives: int
    plan: Plan
    period: timedelta
    first: timedelta | None
    #: From which day up to which the account is not used.
    sleeps: tuple[tuple[int, int], ...]

    @property
    def id(self) -> str:
        """The account's id."""
        return f"a{self.number:07}"

    @property
    def company(self) -> str:
        return f"Company {self.number} Ltd"

    @property
    def email(self) -> str:
        return f"owner@company-{self.number}.test"


def stream(scenario: Scenario, number: int, purpose: str) -> Random:
    """The customer's own stream of chance for one purpose."""
    return Random(f"{scenario.population.seed}:{number}:{purpose}")


def within(pick: Random, longest: timedelta) -> int:
    """A number of days from 1 on, at most ``longest``."""
    return 1 + int(pick.random() * max(longest.days, 1))


def customers(scenario: Scenario) -> list[Customer]:
    """Everybody, by the day on which they come."""
    numbers = range(1, scenario.population.accounts + 1)
    return sorted((_customer(scenario, number) for number in numbers), key=lambda one: (one.arrives, one.number))


def _customer(scenario: Scenario, number: int) -> Customer:
    pick, arrivals = stream(scenario, number, "arrival"), scenario.arrivals
    begins, chooses, pays, progress = (pick.random() for _ in range(4))
    at_start = begins < arrivals.at_start
    plan, period = _plan(scenario, chooses, pays, at_start)
    # Those of the first day are somewhere in their period, or they would all be charged on one day.
    left = timedelta(days=1 + int(progress * period.days)) if at_start else period
    span = (begins - arrivals.at_start) / max(1 - arrivals.at_start, 1e-9)
    arrives = 0 if at_start else min(int(span * scenario.days), scenario.days - 1)
    first = left if plan is Plan.PAID else None
    return Customer(number, arrives, plan, period, first, tuple(_sleeps(scenario, number, arrives)))


def _plan(scenario: Scenario, chooses: float, pays: float, at_start: bool) -> tuple[Plan, timedelta]:
    arrivals = scenario.arrivals
    paid = arrivals.monthly + arrivals.annual
    if at_start and paid + arrivals.free:
        chooses *= paid + arrivals.free  # nobody is on trial
    if chooses < paid:
        return Plan.PAID, MONTHLY if chooses < arrivals.monthly else ANNUAL
    period = ANNUAL if pays < scenario.trials.annual else MONTHLY
    return Plan.FREE if at_start or chooses < paid + arrivals.free else Plan.TRIAL, period


def _sleeps(scenario: Scenario, number: int, arrives: int) -> Iterator[tuple[int, int]]:
    pick, activity, day = stream(scenario, number, "use"), scenario.activity, float(arrives)
    while True:
        day += _wait(pick, activity.fade)
        wakes, after = pick.random() < activity.wake, within(pick, activity.within)
        if day >= scenario.days:
            return
        end = int(day) + after if wakes else scenario.days
        yield int(day), end
        day = end


def _wait(pick: Random, monthly: float) -> float:
    """Days until something happens that befalls this part of all in a month."""
    if monthly <= 0:
        pick.random()
        return math.inf
    rate = -math.log(1 - min(monthly, 1 - 1e-9)) / _MONTH
    return max(pick.expovariate(rate), 1.0)


# --- What time brings, whatever the policy --------------------------------------------------------


def wishes(scenario: Scenario, customer: Customer) -> Iterator[Wish]:
    """All that the customer, and support on their account, want of themselves, in no order."""
    if customer.plan is Plan.TRIAL:
        yield from _decision(scenario, customer)
    yield from _cancellations(scenario, customer)
    support = scenario.support
    for part, lasts, begin, end in (
        (support.holds, support.hold_lasts, Kind.HOLD, Kind.RELEASE),
        (support.suspensions, support.suspension_lasts, Kind.SUSPEND, Kind.LIFT),
    ):
        pick, day = stream(scenario, customer.number, begin), float(customer.arrives)
        while (day := day + _wait(pick, part)) < scenario.days:
            over = day + within(pick, 2 * lasts)
            yield Wish(int(day), begin)
            yield Wish(int(over), end)
            day = over


def _decision(scenario: Scenario, customer: Customer) -> Iterator[Wish]:
    pick, trials = stream(scenario, customer.number, "trial"), scenario.trials
    chosen, day = pick.random(), customer.arrives + within(pick, trials.within)
    if chosen < trials.upgrade:
        yield Wish(day, Kind.UPGRADE)
    elif chosen < trials.upgrade + trials.free:
        yield Wish(day, Kind.CHOOSE_FREE)


def _cancellations(scenario: Scenario, customer: Customer) -> Iterator[Wish]:
    """Candidates at the highest rate of all plans, each with the chance by which it counts on one and not another."""
    pick, often = stream(scenario, customer.number, "owner"), scenario.cancellations
    highest, day = max(often.paid, often.free, often.others), float(customer.arrives)
    while (day := day + _wait(pick, highest)) < scenario.days:
        chance, returns, after = pick.random() * highest, pick.random() < often.comeback, within(pick, often.within)
        yield Wish(int(day), Kind.CANCEL, chance, after if returns else None)
