"""Random lives of accounts, and what the engine's own decisions make of them when mails and handlers answer at once."""

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from lifecycle import Actor, Effect, Engine, ManualClock, Refused
from lifecycle.actor import SYSTEM, Request, Role
from lifecycle.deadlines import ACTIVITY_COUNTS, BEGINNINGS, OPENED
from lifecycle.instants import EPOCH, MICROSECOND
from lifecycle.machine import FACTS, Decision, decide, due, give_notice, tick
from lifecycle.outcomes import CONFIRMS, REMINDS
from lifecycle.personal import Person
from lifecycle.policy import Policy
from lifecycle.review.tables import askable
from lifecycle.states import Event, Plan, account, entitlements
from lifecycle.terms import evaluate, holds

COMPANY, ANN = "Acme Ltd", "ann@acme.test"
UNTIL = datetime(2040, 1, 1, tzinfo=UTC)
POLICIES = (
    Policy(),
    Policy.from_mapping({"company_cancellation": "approval"}),
    Policy.from_mapping({"deletion_clock": "end_of_access", "activity_resolution": "1 day"}),
    Policy.from_mapping({"deletion_after": "45 days", "purge_after": "70 days", "company_notice": "6 days"}),
)
#: Days on which something is due under one of the policies, and some between.
_DAYS = (0, 1, 3, 7, 10, 16, 23, 24, 29, 30, 31, 37, 45, 53, 60, 75, 90, 166, 180, 210, 351, 365, 366, 395, 420, 600)
_SOON = _DAYS[:11]
_EDGES = (timedelta(microseconds=-1), timedelta(0), timedelta(0), timedelta(microseconds=1), timedelta(hours=7))
_PERIODS = (1, 28, 30, 31, 90, 365)
_COMMON = (
    "cancel",
    "reactivate",
    "used",
    "suspend",
    "lift_suspension",
    "place_hold",
    "release_hold",
    "freeze",
    "renew",
)


def micros(at: datetime | None) -> int | None:
    return None if at is None else (at - EPOCH) // MICROSECOND


def scenarios(count: int, seed: int, *, whole_days: bool = False) -> Iterator[dict[str, Any]]:
    """Accounts and what is asked of them, in the order in which it is asked; instants are datetimes.

    With ``whole_days`` all begin in one fortnight, at midnight, so that many of them move at the same instants.
    """
    chance = random.Random(seed)
    asked = [(str(event), str(role)) for event, role in askable()]
    common = [*(way for way in asked if way[0] in _COMMON), ("used", "owner")]
    for _ in range(count):
        opened = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(
            days=chance.randrange(500), microseconds=chance.randrange(9)
        )
        plan = chance.choice(tuple(Plan))
        at, moments = opened, []
        for _ in range(chance.randrange(7)):
            at += timedelta(days=chance.choice(_SOON if chance.random() < 0.6 else _DAYS))
            at += timedelta(0) if whole_days else chance.choice(_EDGES)
            at = max(at, opened)
            event, role = chance.choice(common if chance.random() < 0.7 else asked)
            period = None
            if event != "used" and role in ("billing", "admin") and "period_ends_at" in FACTS[Event(event)]:
                period = chance.choice((None, *(at + timedelta(days=days) for days in (*_PERIODS, -5))))
            moments.append({"at": at, "event": event, "role": role, "period": period})
        until = opened + timedelta(days=chance.choice(_PERIODS)) if plan is Plan.PAID else None
        yield {"plan": str(plan), "opened": opened, "paidUntil": until, "moments": moments}


def as_json(scenario: dict[str, Any]) -> dict[str, Any]:
    moments = [{**m, "at": micros(m["at"]), "period": micros(m["period"])} for m in scenario["moments"]]
    dates = {name: micros(scenario[name]) for name in ("opened", "paidUntil")}
    return {**scenario, **dates, "moments": moments}


def request_of(moment: dict[str, Any]) -> Request:
    role = Role(moment["role"])
    named = {} if role is Role.BILLING else {"company": COMPANY, "email": ANN}
    return Request(
        Actor(role, ANN if role is Role.OWNER else "somebody"),
        reason="a reason",
        period_ends_at=moment["period"],
        **named,
    )


class Life:
    """One account as `decide` and `tick` move it; every entry as the page has it."""

    def __init__(self, scenario: dict[str, Any], policy: Policy) -> None:
        self.policy, self.now = policy, scenario["opened"]
        state, begins = BEGINNINGS[Plan(scenario["plan"])]
        sources = {"request": {"period_ends_at": scenario["paidUntil"]}, "policy": policy, "now": self.now}
        columns = {name: evaluate(term, sources) for name, term in (*OPENED, *begins)}
        base = {**dict.fromkeys(account), **columns, "state": state, "plan": Plan(scenario["plan"])}
        people = {"company": COMPANY, "owners": (ANN,), "people": (Person(1, ANN),), "cases": ()}
        self.subject = SimpleNamespace(**base, **people)
        self.subject.due_at = due(self.subject, self.now, policy)
        self.entries: list[tuple[Any, ...]] = []
        self.owed: list[tuple[Effect, int]] = []
        self._note(None, "open", None, state, None, ())
        for moment in scenario["moments"]:
            self._happen(moment)
        self._live_until(UNTIL)

    def _note(self, event: Any, step: Any, source: Any, dest: Any, promised: Any, owes: Any) -> None:
        granted = entitlements(self.subject, self.now)
        has = (granted.sign_in, granted.use, granted.export, granted.billed, granted.content, granted.backups)
        self.entries.append((micros(self.now), event, step, source, dest, micros(promised), list(owes), list(has)))

    def _take(self, decision: Decision) -> None:
        vars(self.subject).update(decision.changes)
        self.subject.cases = (None,) * self.subject.legal_holds
        if decision.step is None:
            return
        self._note(decision.event, decision.step, decision.source, decision.dest, decision.promised, decision.owes)
        self.owed += [(effect, self.subject.version) for effect in decision.owes]

    def _settle(self) -> None:
        while True:
            while (decision := tick(self.subject, self.now, self.policy)) is not None:
                self._take(decision)
            owed, self.owed = self.owed, []
            for effect, number in owed:
                self._deliver(effect, number)
            if not owed:
                return

    def _deliver(self, effect: Effect, number: int) -> None:
        rows = [row for row in REMINDS.get(effect, ()) if self.subject.state in row.sources]
        if rows and self.subject.reminder == number:
            self._take(give_notice(self.subject, rows[0], self.now, self.policy))
        elif effect in CONFIRMS:
            receipt = Request(SYSTEM, receipt="a receipt")
            self._take(decide(self.subject, CONFIRMS[effect].event, receipt, self.now, self.policy))

    def _live_until(self, end: datetime) -> None:
        self._settle()
        while self.subject.due_at is not None and self.subject.due_at <= end:
            self.now = max(self.now, self.subject.due_at)
            self._settle()
        self.now = max(self.now, end)
        self._settle()

    def _happen(self, moment: dict[str, Any]) -> None:
        self._live_until(moment["at"])
        if moment["event"] == "used":
            if holds(ACTIVITY_COUNTS, {"account": self.subject, "now": self.now, "policy": self.policy}):
                self.subject.last_active_at = self.now
                if self.subject.due_at is None and self.subject.reminded_at is not None:  # as the store arms it again
                    self.subject.due_at = due(self.subject, self.now, self.policy)
            return
        try:
            self._take(decide(self.subject, moment["event"], request_of(moment), self.now, self.policy))
        except Refused:
            state = self.subject.state
            self._note(moment["event"], "refused", state, state, None, ())


def lived_by_an_engine(scenarios: Sequence[dict[str, Any]], policy: Policy) -> dict[str, list[tuple[Any, ...]]]:
    """What an engine writes into the history of each account: instant, event, step, source, destination.

    All accounts live in one database, which is quicker, and no different for any of them.
    """
    clock = ManualClock(min(scenario["opened"] for scenario in scenarios))
    engine = Engine("sqlite://", policy=policy, clock=clock, handlers=dict.fromkeys(Effect, lambda task: "done"))
    engine.migrate()
    for at, account_id, moment in _calendar(scenarios):
        engine.run_until(at)
        if "plan" in moment:
            paid = moment["paidUntil"]
            engine.open_account(account_id, company=COMPANY, owners=[ANN], plan=moment["plan"], period_ends_at=paid)
        elif moment["event"] == "used":
            engine.record_activity(account_id)
        else:
            _fire(engine, account_id, moment)
    engine.run_until(UNTIL)
    found = {str(number): engine.history(str(number)) for number in range(len(scenarios))}
    engine.close()
    return {
        name: [(micros(e.at), None if e.step == "open" else e.event, e.step, e.source, e.dest) for e in entries]
        for name, entries in found.items()
    }


def _calendar(scenarios: Sequence[dict[str, Any]]) -> list[tuple[datetime, str, dict[str, Any]]]:
    """What is done to which account, in the order of time; an account is opened before anything else."""
    calendar = []
    for number, scenario in enumerate(scenarios):
        calendar.append((scenario["opened"], str(number), scenario))
        calendar += [(moment["at"], str(number), moment) for moment in scenario["moments"]]
    return sorted(calendar, key=lambda entry: entry[0])


def _fire(engine: Engine, account_id: str, moment: dict[str, Any]) -> None:
    asked = request_of(moment)
    taken = {name: getattr(asked, name) for name in ("company", "email", "period_ends_at")}
    facts = {name: v for name, v in taken.items() if v is not None and name in FACTS[Event(moment["event"])]}
    with suppress(Refused):
        engine.fire(account_id, moment["event"], actor=asked.actor, reason=asked.reason, **facts)
