"""The world around the engine in a simulation: day by day customers, billing and support ask, and the daemon works.

Everybody acts at noon, and the daemon comes by after them; where the brake holds something back it comes again as soon
as that opens. All of it goes through the real store: requests are decided by the definition, timers fired by the sweep,
effects delivered through the outbox.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random

from lifecycle.actor import Actor, Request
from lifecycle.clock import ManualClock
from lifecycle.engine import Engine
from lifecycle.reads import Snapshot
from lifecycle.simulate.crowd import Answer, Deed, NewAccount, fire_all, open_all
from lifecycle.simulate.customers import Customer, Kind, Wish, customers, stream, wishes, within
from lifecycle.simulate.scenario import Scenario
from lifecycle.states import CANCELLED, FINAL, LIVE, Effect, Event, Plan, State, Step

BILLING, SUPPORT = Actor.billing("billing"), Actor.admin("support")
_DAY = timedelta(days=1)
#: Events after which a period is paid, and the next charge comes at its end.
_PAID = (Event.UPGRADE, Event.RENEW, Event.THAW)


@dataclass(frozen=True, slots=True)
class Day:
    """What is seen at the end of a day.

    ``states``: accounts by state. ``requested``: how many accounts were asked to be destroyed that day, by event.
    ``limit``: how many the brake lets through in a day at this number of accounts; ``waiting`` is what it holds back.
    """

    at: datetime
    states: Mapping[State, int]
    requested: Mapping[str, int]
    limit: int
    waiting: int


class World:
    """Lives through the days of a scenario on one engine, whose clock it moves and whose letters it hears."""

    def __init__(self, engine: Engine, clock: ManualClock, scenario: Scenario) -> None:
        self.engine, self.clock, self.scenario = engine, clock, scenario
        #: What became of the wishes of each kind, but for those that had lost their point by the time that they came.
        self.granted: Counter[Kind] = Counter()
        self.refused: Counter[Kind] = Counter()
        self.opened = 0
        self._today = 0
        self._order = count()
        self._agenda: list[tuple[int, str, int, Wish]] = []
        self._customers: dict[str, Customer] = {}
        self._uses: list[list[Customer]] = [[] for _ in range(max(scenario.activity.every.days, 1))]
        #: Who was woken by a notice, out of the sleep that began on that day.
        self._woken: dict[int, int] = {}
        self._woken_today: list[str] = []
        self._paid_until: dict[int, int] = {}
        self._cancelled_by_owner: set[str] = set()
        self._gone: set[str] = set()
        self._streams: dict[tuple[int, str], Random] = {}

    def live(self, on_day: Callable[[int], None]) -> list[Day]:
        """Live through all days; ``on_day`` hears of each that is over."""
        arriving = customers(self.scenario)[::-1]
        days = []
        for day in range(self.scenario.days):
            self._today = day
            self.clock.set(self._noon(self._today))
            here = []
            while arriving and arriving[-1].arrives == day:
                here.append(arriving.pop())
            self._welcome(here)
            self._act()
            self.engine.record_activities(self._use())
            days.append(self._daemon())
            on_day(1)
        return days

    def _noon(self, day: int) -> datetime:
        return self.scenario.start + day * _DAY

    def _plan(self, customer: Customer, wish: Wish) -> None:
        """Put a wish on the agenda; none of a day that is over, or beyond the last."""
        if self._today <= wish.day < self.scenario.days:
            heappush(self._agenda, (wish.day, customer.id, next(self._order), wish))

    def _chance(self, customer: Customer, purpose: str) -> Random:
        """The customer's stream for what they answer; each answer takes as many draws as any other."""
        key = (customer.number, purpose)
        if key not in self._streams:
            self._streams[key] = stream(self.scenario, *key)
        return self._streams[key]

    # --- Arrivals and use ----------------------------------------------------------------------

    def _welcome(self, here: Sequence[Customer]) -> None:
        """Open the accounts of those who come today, and put on the agenda what they will want."""
        now = self.clock.now()
        ends = [None if one.first is None else now + one.first for one in here]
        open_all(
            self.engine,
            [NewAccount(one.id, one.company, one.email, one.plan, at) for one, at in zip(here, ends, strict=True)],
        )
        self.opened += len(here)
        for customer, at in zip(here, ends, strict=True):
            self._customers[customer.id] = customer
            self._uses[customer.number % len(self._uses)].append(customer)
            for wish in wishes(self.scenario, customer):
                self._plan(customer, wish)
            if at is not None:
                self._charge_at(customer, at)

    def _use(self) -> list[tuple[str, datetime]]:
        """Who uses their account today: those whose turn it is, unless they sleep or it is gone, and who was woken."""
        turn, now = self._today % len(self._uses), self.clock.now()
        self._uses[turn] = [one for one in self._uses[turn] if one.id not in self._gone]
        awake = [one.id for one in self._uses[turn] if self._asleep_since(one) is None]
        awake += self._woken_today
        self._woken_today = []
        return [(account_id, now) for account_id in awake]

    def _asleep_since(self, customer: Customer) -> int | None:
        for begin, end in customer.sleeps:
            if begin <= self._today < end and self._woken.get(customer.number) != begin:
                return begin
        return None

    # --- Wishes ----------------------------------------------------------------------------------

    def _act(self) -> None:
        """Have today's wishes asked for, in rounds: each account gets one of its wishes a round."""
        while self._agenda and self._agenda[0][0] <= self._today:
            turn: dict[str, Wish] = {}
            later = []
            while self._agenda and self._agenda[0][0] <= self._today:
                item = heappop(self._agenda)
                if turn.setdefault(item[1], item[3]) is not item[3]:
                    later.append(item)
            for item in later:
                heappush(self._agenda, item)
            self._round(turn)

    def _round(self, turn: Mapping[str, Wish]) -> None:
        def choose(snapshot: Snapshot) -> Deed | None:
            wish = turn[snapshot.id]
            return _DEEDS[wish.kind](self, self._customers[snapshot.id], snapshot, wish)

        for answer in fire_all(self.engine, sorted(turn), choose):
            wish = turn[answer.account_id]
            if answer.deed is not None and answer.decision is None:
                self.refused[wish.kind] += 1
            elif answer.deed is not None:
                self.granted[wish.kind] += 1
                self._follow(self._customers[answer.account_id], wish, answer)

    def _follow(self, customer: Customer, wish: Wish, answer: Answer) -> None:
        """What comes of a wish that was granted."""
        assert answer.deed is not None and answer.decision is not None
        if answer.deed.event in _PAID:
            self._charge_at(customer, answer.decision.changes["period_ends_at"])
        if answer.deed.event is Event.CANCEL:
            self._cancelled_by_owner.add(customer.id)
            if wish.after is not None:
                self._plan(customer, Wish(self._today + wish.after, Kind.COME_BACK))
        if answer.deed.then is not None:
            self._plan(customer, answer.deed.then)

    def _charge_at(self, customer: Customer, ends: datetime) -> None:
        day = -((self.scenario.start - ends) // _DAY)
        self._paid_until[customer.number] = day
        self._plan(customer, Wish(day, Kind.CHARGE))

    # --- What each kind of wish asks for ---------------------------------------------------------

    def _pays(self, event: Event, customer: Customer) -> Deed:
        return Deed(event, Request(BILLING, period_ends_at=self.clock.now() + customer.period))

    def _upgrade(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        unpaid = snapshot.state in (State.TRIAL, State.ON_HOLD) or snapshot.plan is Plan.FREE
        return self._pays(Event.UPGRADE, customer) if snapshot.state in LIVE and unpaid else None

    def _choose_free(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        asks = Deed(Event.DOWNGRADE, Request(Actor.owner(customer.email)))
        return asks if snapshot.state is State.TRIAL else None

    def _charge(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        """The period is over: it is renewed, or the account frozen, to be paid for later or never."""
        frozen = snapshot.state is State.FROZEN and snapshot.freeze_reason == "billing"
        active = snapshot.state is State.ACTIVE and snapshot.plan is Plan.PAID
        if not (frozen or active) or snapshot.period_ends_at > self.clock.now():
            return None
        pick, payments = self._chance(customer, "payments"), self.scenario.payments
        fails, recovers = pick.random() < payments.failure, pick.random() < payments.recovery
        later = Wish(self._today + within(pick, payments.within), Kind.PAY) if recovers else None
        if not fails:
            return self._pays(Event.THAW if frozen else Event.RENEW, customer)
        if active:
            return Deed(Event.FREEZE, Request(BILLING), later)
        if later is not None:
            self._plan(customer, later)
        return None

    def _pay(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        frozen = snapshot.state is State.FROZEN and snapshot.freeze_reason == "billing"
        return self._pays(Event.THAW, customer) if frozen else None

    def _heed(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        asleep = self._asleep_since(customer)
        if snapshot.state is State.ACTIVE and snapshot.plan is Plan.FREE and asleep is not None:
            self._woken[customer.number] = asleep
            self._woken_today.append(customer.id)
            self.granted[wish.kind] += 1
            return None
        if snapshot.state is State.ON_HOLD:
            return self._upgrade(customer, snapshot, wish)
        return self._pay(customer, snapshot, wish)

    def _cancel(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        often = self.scenario.cancellations
        rates = {Plan.PAID: often.paid, Plan.FREE: often.free}
        rate = rates.get(snapshot.plan, often.others) if snapshot.state is State.ACTIVE else often.others
        wanted = snapshot.state in LIVE and wish.chance < rate
        return Deed(Event.CANCEL, Request(Actor.owner(customer.email))) if wanted else None

    def _come_back(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        asks = Deed(Event.REACTIVATE, Request(Actor.owner(customer.email)))
        return asks if snapshot.state in CANCELLED else None

    def _suspend(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        possible = snapshot.state in LIVE and snapshot.suspended_from is None
        return Deed(Event.SUSPEND, Request(SUPPORT, reason="under review")) if possible else None

    def _lift(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        possible = snapshot.state is State.FROZEN and snapshot.suspended_from is not None
        return Deed(Event.LIFT_SUSPENSION, Request(SUPPORT, reason="reviewed")) if possible else None

    def _hold(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        asks = Deed(Event.PLACE_HOLD, Request(SUPPORT, reason="a court's order", case=f"case-{customer.number}"))
        return asks if snapshot.state is not FINAL else None

    def _release(self, customer: Customer, snapshot: Snapshot, wish: Wish) -> Deed | None:
        return Deed(Event.RELEASE_HOLD, Request(SUPPORT, reason="settled")) if snapshot.legal_holds else None

    # --- The daemon, and what it delivers ---------------------------------------------------------

    def _daemon(self) -> Day:
        """Sweep and deliver until nothing more is due; where the brake holds back, again as soon as it opens."""
        requested: Counter[str] = Counter()
        end, owed = self._noon(self._today + 1), True  # by what was asked for today
        while True:
            swept = self.engine.sweep()
            requested.update({event: n for (event, step), n in swept.moves.items() if step == Step.REQUEST})
            if (swept.moved or owed) and self.engine.deliver().handled:
                owed = False
                continue
            if swept.withheld is None or swept.next_due is None or not self.clock.now() < swept.next_due < end:
                break
            self.clock.set(swept.next_due)
        states = self.engine.summary()
        waiting = 0 if swept.withheld is None else sum(self.engine.brake().waiting.values())
        limit = self.engine.safety.windows[-1].limit(sum(states.values()) - states[FINAL])
        return Day(self._noon(self._today), states, requested, limit, waiting)

    def hear(self, effect: Effect, account_id: str) -> None:
        """What was delivered, to customers and to billing, and what they make of it."""
        answer = _ANSWERS.get(effect)
        if answer is not None:
            answer(self, self._customers[account_id])

    def _noticed(self, customer: Customer) -> None:
        pick, company = self._chance(customer, "notices"), self.scenario.company
        heeds, day = pick.random() < company.heed, self._today + within(pick, self.engine.policy.company_notice)
        if heeds:
            self._plan(customer, Wish(day, Kind.HEED))

    def _cancelled(self, customer: Customer) -> None:
        if customer.id in self._cancelled_by_owner:
            self._cancelled_by_owner.discard(customer.id)
            return
        pick, company = self._chance(customer, "company"), self.scenario.company
        returns, day = pick.random() < company.comeback, self._today + within(pick, company.within)
        if returns:
            self._plan(customer, Wish(day, Kind.COME_BACK))

    def _billed_again(self, customer: Customer) -> None:
        day = max(self._paid_until.get(customer.number, 0), self._today + 1)
        self._plan(customer, Wish(day, Kind.CHARGE))

    def _purged(self, customer: Customer) -> None:
        self._gone.add(customer.id)


_DEEDS: Mapping[Kind, Callable[[World, Customer, Snapshot, Wish], Deed | None]] = {
    Kind.UPGRADE: World._upgrade,
    Kind.CHOOSE_FREE: World._choose_free,
    Kind.CHARGE: World._charge,
    Kind.PAY: World._pay,
    Kind.CANCEL: World._cancel,
    Kind.COME_BACK: World._come_back,
    Kind.HEED: World._heed,
    Kind.SUSPEND: World._suspend,
    Kind.LIFT: World._lift,
    Kind.HOLD: World._hold,
    Kind.RELEASE: World._release,
}
_ANSWERS: Mapping[Effect, Callable[[World, Customer], None]] = {
    Effect.REMIND_COMPANY_CANCELLATION: World._noticed,
    Effect.CONFIRM_CANCELLATION: World._cancelled,
    Effect.RESUME_BILLING: World._billed_again,
    Effect.PURGE_BACKUPS: World._purged,
}
