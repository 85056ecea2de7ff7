"""The world around the engine in the demo: customers, billing, admins and an outage, from seeded chance.

Everything here goes through the engine's public methods, as a company's own systems would.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush

from lifecycle.actor import Actor
from lifecycle.clock import ManualClock
from lifecycle.engine import Engine
from lifecycle.errors import Refused
from lifecycle.reads import Snapshot
from lifecycle.states import Event, Plan, State

START = datetime(2026, 1, 1, tzinfo=UTC)
#: Everybody acts on every fourth day at ten; the engine's deadlines fall where they fall.
_STEP, _OFFICE = 4, timedelta(hours=10)
#: Between these days nobody sweeps or delivers.
OUTAGE = (200, 214)
_HOLD_PLACED, _HOLD_RELEASED = 120, 216
HERO = "lighthouse"
_HERO_COMPANY, _HERO_OWNER = "Lighthouse Books Ltd", "ada@lighthouse.test"
BILLING, SUPPORT, ADMIN = Actor.billing("stripe"), Actor.support("sue"), Actor.admin("root")


class World:
    """Lives through the days: the engine's sweeps and deliveries, and what people do."""

    def __init__(self, engine: Engine, clock: ManualClock, seed: int) -> None:
        self.engine = engine
        self.clock = clock
        self.pick = random.Random(seed)
        self.refused: Counter[Event] = Counter()
        self.overdue = 0
        self.caught_up_at: datetime | None = None
        self._agenda: list[tuple[int, str]] = []
        self._today = 0
        self._opened = 0
        self._held: str | None = None
        self._changed = False
        for account in engine.accounts():
            self._plan_visit(account.id, self._soon(account))

    def live(self, days: int, on_day: Callable[[datetime], None]) -> None:
        """Go on for that many days; ``on_day`` hears how far it has come."""
        for self._today in range(0, days, _STEP):
            instant = _office(self._today)
            if OUTAGE[0] < self._today < OUTAGE[1]:
                self.clock.set(instant)  # customers go on, but no daemon runs
            else:
                if self._today > OUTAGE[1] and self.caught_up_at is None:
                    self._after_outage()
                self.engine.run_until(instant)
            self._events()
            on_day(instant)
        self.engine.run_until(START + timedelta(days=days))

    def _after_outage(self) -> None:
        """The daemon is started again: for it, the time between has passed in one leap."""
        self.caught_up_at = _office(OUTAGE[1])
        self.clock.set(self.caught_up_at)
        self.overdue = sum(status.overdue for status in self.engine.timers())

    def _events(self) -> None:
        act = _STORY.get(self._today)
        if act is not None:
            act(self.engine, self.clock.now())
        if self._today % 8 == 0:
            self._open()
        if self._today in (_HOLD_PLACED, _HOLD_RELEASED):
            self._legal_hold()
        while self._agenda and self._agenda[0][0] <= self._today:
            account = self.engine.get(heappop(self._agenda)[1])
            self._changed = False
            with suppress(Refused):  # counted where it was tried
                _VISITS[account.state](self, account)
            if self._changed:
                account = self.engine.get(account.id)
            if account.state is not State.PURGED:
                self._plan_visit(account.id, self._soon(account))

    def _plan_visit(self, account_id: str, days: int) -> None:
        heappush(self._agenda, (self._today + max(days, 1), account_id))

    def _soon(self, account: Snapshot) -> int:
        """Days until somebody does something with the account again; billing comes at the period's end."""
        if account.state is State.ACTIVE and account.plan is Plan.PAID:
            left = (account.period_ends_at - self.clock.now()).days + 1
            return self.pick.randrange(1, left + 1) if left > 1 and self.pick.random() < 0.25 else left
        return self.pick.randrange(*_PACE[account.state])

    # --- What people do ----------------------------------------------------------------------

    def _chance(self, probability: float) -> bool:
        return self.pick.random() < probability

    def _fire(self, account: Snapshot, event: Event, actor: Actor, **facts: object) -> None:
        self._changed = True
        try:
            self.engine.fire(account.id, event, actor=actor, **facts)  # type: ignore[arg-type]
        except Refused:
            self.refused[event] += 1
            raise

    def _pay(self, account: Snapshot, event: Event, actor: Actor = BILLING) -> None:
        yearly = account.period_began_at and account.period_ends_at - account.period_began_at > timedelta(days=40)
        begins = max(self.clock.now(), account.period_ends_at or self.clock.now())
        self._fire(account, event, actor, period_ends_at=begins + timedelta(days=365 if yearly else 30))

    def _cancel(self, account: Snapshot) -> None:
        """By an owner, or by support for one; now and then somebody asks who is no owner."""
        email = self.pick.choice(account.owners)
        why = self.pick.choice(("too expensive", "project is over", "moved to another tool", None))
        if self._chance(0.15):
            self.engine.contact_owners(account.id, actor=SUPPORT, reason="someone else asked to cancel")
            self._fire(account, Event.CANCEL, SUPPORT, company=account.company, email="stranger@elsewhere.test")
        elif self._chance(0.5):
            self._fire(account, Event.CANCEL, SUPPORT, company=account.company, email=email, reason=why)
        else:
            self._fire(account, Event.CANCEL, Actor.owner(email), reason=why)

    def _trial(self, account: Snapshot) -> None:
        if self._chance(0.22):
            self._pay(account, Event.UPGRADE)
        elif self._chance(0.08) and account.state is State.TRIAL:
            self._fire(account, Event.DOWNGRADE, Actor.owner(account.owners[0]))
        elif self._chance(0.05):
            self._cancel(account)

    def _active(self, account: Snapshot) -> None:
        if self._chance(0.004):
            self._fire(account, Event.SUSPEND, ADMIN, reason="terms of service")
        elif account.plan is Plan.PAID:
            self._paid(account)
        elif self._chance(0.05):
            self._pay(account, Event.UPGRADE)
        elif self._chance(0.02):
            self._cancel(account)
        elif sum(account.id.encode()) % 4:  # the others never come back
            self.engine.record_activity(account.id)

    def _paid(self, account: Snapshot) -> None:
        if account.period_ends_at > self.clock.now():
            if self._chance(0.25):
                self._cancel(account)
        elif self._chance(0.92):
            self._pay(account, Event.RENEW)
        else:
            self._fire(account, Event.FREEZE, BILLING)

    def _frozen(self, account: Snapshot) -> None:
        if account.freeze_reason == "suspension":
            if self._chance(0.4):
                self._fire(account, Event.LIFT_SUSPENSION, ADMIN)
        elif self._chance(0.25):
            self._pay(account, Event.THAW)
        elif self._chance(0.05):
            self._cancel(account)

    def _cancelled(self, account: Snapshot) -> None:
        if self._chance(0.12):
            self._fire(account, Event.REACTIVATE, Actor.owner(account.owners[0]))

    def _purged(self, account: Snapshot) -> None:
        """Nothing is left to act on."""

    def _open(self) -> None:
        self._opened += 1
        plan = self.pick.choices((Plan.TRIAL, Plan.FREE, Plan.PAID), (6, 2, 2))[0]
        ends = self.clock.now() + timedelta(days=30) if plan is Plan.PAID else None
        name = f"n{self._opened:03}"
        self.engine.open_account(
            name,
            company=f"Newcomer {self._opened} Ltd",
            owners=[f"pat@newcomer-{self._opened}.test"],
            plan=plan,
            period_ends_at=ends,
        )
        self._plan_visit(name, self._soon(self.engine.get(name)))

    def _legal_hold(self) -> None:
        """Placed on some account that awaits deletion, released three months later."""
        if self._held is not None:
            self.engine.release_hold(self._held, actor=ADMIN, reason="the case is settled")
            return
        waiting = next((a for a in self.engine.accounts(State.ACCESS_REVOKED) if not a.legal_holds), None)
        if waiting is not None and waiting.erasure_requested_at is None:
            self._held = waiting.id
            self.engine.place_hold(waiting.id, actor=ADMIN, reason="court order", case="2026-31")


def _office(day: int) -> datetime:
    return START + timedelta(days=day) + _OFFICE


_VISITS: Mapping[State, Callable[[World, Snapshot], None]] = {
    State.TRIAL: World._trial,
    State.ON_HOLD: World._trial,
    State.ACTIVE: World._active,
    State.FROZEN: World._frozen,
    State.CANCEL_PENDING: World._cancelled,
    State.ACCESS_REVOKED: World._cancelled,
    State.CONTENT_DELETED: World._cancelled,
    State.PURGED: World._purged,
}
#: Days between two visits: from, up to.
_PACE: Mapping[State, tuple[int, int]] = {
    State.TRIAL: (4, 14),
    State.ON_HOLD: (5, 16),
    State.ACTIVE: (14, 45),
    State.FROZEN: (8, 30),
    State.CANCEL_PENDING: (3, 12),
    State.ACCESS_REVOKED: (3, 12),
    State.CONTENT_DELETED: (5, 30),
    State.PURGED: (1, 2),
}

# --- One life, written by hand -------------------------------------------------------------------

_Act = Callable[[Engine, datetime], object]


def _opens(engine: Engine, now: datetime) -> object:
    return engine.open_account(HERO, company=_HERO_COMPANY, owners=[_HERO_OWNER])


def _billing(event: Event) -> _Act:
    def act(engine: Engine, now: datetime) -> object:
        until = None if event is Event.FREEZE else {"period_ends_at": now + timedelta(days=30)}
        return engine.fire(HERO, event, actor=BILLING, **(until or {}))  # type: ignore[arg-type]

    return act


def _support_cancels(engine: Engine, now: datetime) -> object:
    facts = {"company": _HERO_COMPANY, "email": _HERO_OWNER}
    return engine.fire(HERO, Event.CANCEL, actor=SUPPORT, reason="too expensive", request_id="ticket-42", **facts)


def _owner(event: Event, reason: str) -> _Act:
    return lambda engine, now: engine.fire(HERO, event, actor=Actor.owner(_HERO_OWNER), reason=reason)


#: By day, in multiples of the step: what people do with the account whose story the demo tells.
_STORY: Mapping[int, _Act] = {
    4: _opens,
    44: _billing(Event.UPGRADE),
    72: _billing(Event.RENEW),
    104: _billing(Event.FREEZE),
    116: _billing(Event.THAW),
    128: _support_cancels,
    136: _owner(Event.REACTIVATE, "we talked it over"),
    144: _billing(Event.RENEW),
    172: _billing(Event.RENEW),
    200: _billing(Event.RENEW),
    228: _billing(Event.RENEW),
    248: _owner(Event.CANCEL, "the shop closes"),
}
