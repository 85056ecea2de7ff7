"""Two policies compared: values, what may happen by whom, the words of timers, and when things happen to accounts.

Pure: nothing is asked but the machine. When something happens is found by living through it (:func:`live`), with every
notice delivered and every request confirmed at once; no formula is written a second time.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

from lifecycle.actor import SYSTEM, Actor, Request, Role
from lifecycle.deadlines import BEGINNINGS, OPENED
from lifecycle.diagrams.text import deadline_words, permitted, timer_notes
from lifecycle.errors import Refused
from lifecycle.machine import TIMERS, TRANSITIONS, Decision, decide, due, give_notice, tick
from lifecycle.personal import Person
from lifecycle.policy import Policy, duration_words, setting_words, shortened
from lifecycle.rows import Transition, timer_of
from lifecycle.states import Event, Plan, Step, account
from lifecycle.terms import evaluate

_DAY = timedelta(days=1)


class Shift(StrEnum):
    """What a change of an instant, or of a setting, means for customers."""

    SAME = "same"
    SOONER = "sooner"
    LATER = "later"
    NEWLY = "newly"
    NO_MORE = "no more"
    OTHER = "other"


@dataclass(frozen=True)
class Value:
    """A setting that differs; ``shift`` is sooner where customers get less time, or fewer people look."""

    setting: str
    old: str
    new: str
    shift: Shift
    clause: str
    doc: str


@dataclass(frozen=True)
class Edge:
    """A way that appears or vanishes: who may fire an event, out of which states, by themselves or not at all."""

    event: Event
    sources: tuple[str, ...]
    dest: str | None
    role: Role
    shift: Shift


@dataclass(frozen=True)
class Timer:
    """A timer whose words differ: what no longer is said of it, and what is; either may be empty."""

    event: Event
    old: str
    new: str


@dataclass(frozen=True)
class Deadline:
    """When something happens to a kind of account, counted from its opening; None where it does not."""

    kind: str
    event: Event
    old: timedelta | None
    new: timedelta | None

    @property
    def shift(self) -> Shift:
        if self.old is None or self.new is None:
            return Shift.SAME if self.old is self.new else Shift.NEWLY if self.old is None else Shift.NO_MORE
        return Shift.SAME if self.old == self.new else Shift.SOONER if self.new < self.old else Shift.LATER


@dataclass(frozen=True)
class Comparison:
    """What differs between two policies. ``deadlines`` also has what stays the same."""

    old: Policy
    new: Policy
    values: tuple[Value, ...]
    edges: tuple[Edge, ...]
    timers: tuple[Timer, ...]
    deadlines: tuple[Deadline, ...]

    @property
    def changed(self) -> tuple[Deadline, ...]:
        """The deadlines that differ."""
        return tuple(one for one in self.deadlines if one.shift is not Shift.SAME)

    def calendar(self) -> tuple[tuple[Event, ...], list[tuple[str, tuple[Deadline | None, ...]]]]:
        """The events for which a deadline differs, and a row with all of these for each kind that it differs for."""
        events = tuple(row.event for row in TIMERS if any(one.event is row.event for one in self.changed))
        cells = {(one.kind, one.event): one for one in self.deadlines}
        kinds = dict.fromkeys(one.kind for one in self.changed)
        return events, [(kind, tuple(cells.get((kind, event)) for event in events)) for kind in kinds]

    def as_json(self) -> dict[str, Any]:
        """All of it, in the types of JSON but for durations."""
        return {
            "old": self.old.version,
            "new": self.new.version,
            "values": [vars(one) for one in self.values],
            "edges": [vars(one) for one in self.edges],
            "timers": [vars(one) for one in self.timers],
            "deadlines": [{**vars(one), "shift": one.shift} for one in self.deadlines],
        }


def compare(old: Policy, new: Policy) -> Comparison:
    """What differs between ``old`` and ``new``."""
    return Comparison(
        old,
        new,
        compare_values(old, new),
        tuple(_edges(old, new)),
        tuple(_timers(old, new)),
        tuple(_deadlines(old, new)),
    )


def compare_values(old: Policy, new: Policy) -> tuple[Value, ...]:
    """The settings that differ."""
    return tuple(_values(old, new))


def day(after: timedelta | None) -> str:
    """``day 30``, as a deadline is written; a hyphen where there is none."""
    if after is None:
        return "-"
    rest = after % _DAY
    return f"day {after.days}" + (f" + {duration_words(rest)}" if rest else "")


def _values(old: Policy, new: Policy) -> Iterator[Value]:
    sooner, later = shortened(old, new), shortened(new, old)
    for setting in fields(Policy):
        was, will_be = getattr(old, setting.name), getattr(new, setting.name)
        if was != will_be:
            name = setting.name
            shift = Shift.SOONER if name in sooner else Shift.LATER if name in later else Shift.OTHER
            clause, doc = str(setting.metadata["clause"]), setting.metadata["doc"]
            yield Value(name, setting_words(was), setting_words(will_be), shift, clause, doc)


def _edges(old: Policy, new: Policy) -> Iterator[Edge]:
    for row in TRANSITIONS:
        was, will_be = _roles(row, old), _roles(row, new)
        for role in (role for role in Role if (role in was) != (role in will_be)):
            shift = Shift.NEWLY if role in will_be else Shift.NO_MORE
            yield Edge(row.event, tuple(map(str, row.sources)), row.dest and str(row.dest), role, shift)


def _roles(row: Transition, policy: Policy) -> set[Role]:
    return {role for roles, _ in permitted(row, policy) for role in roles}


def _timers(old: Policy, new: Policy) -> Iterator[Timer]:
    for row in TIMERS:
        was, will_be = _words(row, old), _words(row, new)
        if was != will_be:
            gone = [words for words in was if words not in will_be]
            added = [words for words in will_be if words not in was]
            yield Timer(row.event, "; ".join(gone), "; ".join(added))


def _words(row: Transition, policy: Policy) -> tuple[str, ...]:
    timer = timer_of(row)
    return deadline_words(timer, policy), *timer_notes(timer, policy, 200)


# --- Kinds of accounts ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of account: how it is opened, and what people do to it on which day."""

    name: str
    plan: Plan
    period: int | None = None
    story: tuple[tuple[int, Event, Role], ...] = ()


_CANCEL, _ADMIN, _OWNER, _BILLING = Event.CANCEL, Role.ADMIN, Role.OWNER, Role.BILLING
KINDS: tuple[Kind, ...] = (
    Kind("trial, not upgraded", Plan.TRIAL),
    Kind("trial, cancelled on day 10", Plan.TRIAL, story=((10, _CANCEL, _OWNER),)),
    Kind("trial, cancelled on day 40", Plan.TRIAL, story=((40, _CANCEL, _OWNER),)),
    Kind("free, not used", Plan.FREE),
    Kind("free, cancelled on day 10", Plan.FREE, story=((10, _CANCEL, _OWNER),)),
    Kind("monthly, cancelled on day 1", Plan.PAID, 31, ((1, _CANCEL, _OWNER),)),
    Kind("monthly, cancelled on day 20", Plan.PAID, 31, ((20, _CANCEL, _OWNER),)),
    Kind("annual, cancelled on day 60", Plan.PAID, 365, ((60, _CANCEL, _OWNER),)),
    Kind("annual, cancelled on day 350", Plan.PAID, 365, ((350, _CANCEL, _OWNER),)),
    Kind("monthly, unpaid", Plan.PAID, 31, ((31, Event.FREEZE, _BILLING),)),
    Kind("monthly, unpaid, cancelled on day 40", Plan.PAID, 31, ((31, Event.FREEZE, _BILLING), (40, _CANCEL, _OWNER))),
    Kind("monthly, suspended on day 5", Plan.PAID, 31, ((5, Event.SUSPEND, _ADMIN),)),
    Kind(
        "monthly, suspended on day 5, cancelled on day 10",
        Plan.PAID,
        31,
        ((5, Event.SUSPEND, _ADMIN), (10, _CANCEL, _OWNER)),
    ),
    Kind("monthly, terminated on day 5", Plan.PAID, 31, ((5, Event.TERMINATE, _ADMIN),)),
)


def _deadlines(old: Policy, new: Policy) -> Iterator[Deadline]:
    for kind in KINDS:
        was, will_be = _milestones(kind, old), _milestones(kind, new)
        for event in (row.event for row in TIMERS if row.event in was.keys() | will_be.keys()):
            yield Deadline(kind.name, event, was.get(event), will_be.get(event))


def _milestones(kind: Kind, policy: Policy) -> dict[Event, timedelta]:
    """What timers do to the account in the end, by when after its opening."""
    return {entry.event: entry.at - OPENING for entry in live(kind, policy) if entry.step is Step.FIRE and entry.timed}


# --- A life ---------------------------------------------------------------------------------------

OPENING = datetime(2027, 1, 1, tzinfo=UTC)
_OWNER_ON_FILE = Person(1, "ann@acme.test")
_ACTORS = {
    Role.OWNER: Actor.owner(_OWNER_ON_FILE.email),
    Role.ADMIN: Actor.admin("admin"),
    Role.BILLING: Actor.billing("billing"),
}


@dataclass(frozen=True)
class Entry:
    """One entry of a life: what happened when, and whether a timer did it."""

    at: datetime
    event: Event
    step: Step
    timed: bool


def live(kind: Kind, policy: Policy) -> list[Entry]:
    """The life of such an account under one policy, decided by the machine itself, to its end."""
    life = _Life(kind, policy)
    for day, event, role in kind.story:
        life.until(OPENING + day * _DAY)
        life.fire(event, Request(_ACTORS[role], reason="as in the story"))
    life.until(None)
    return life.entries


class _Life:
    def __init__(self, kind: Kind, policy: Policy) -> None:
        self.policy = policy
        self.now = OPENING
        self.entries: list[Entry] = []
        state, begins = BEGINNINGS[kind.plan]
        period = None if kind.period is None else OPENING + kind.period * _DAY
        sources = {"request": {"period_ends_at": period}, "policy": policy, "now": OPENING}
        opened = {name: evaluate(term, sources) for name, term in (*OPENED, *begins)}
        people = {"people": (_OWNER_ON_FILE,), "owners": (_OWNER_ON_FILE.email,), "cases": (), "company": "Acme Ltd"}
        columns: Mapping[str, Any] = {**dict.fromkeys(account), **opened, "state": state, "plan": kind.plan, **people}
        self.subject = SimpleNamespace(**columns)
        self.subject.due_at = due(self.subject, OPENING, policy)

    def fire(self, event: Event, asked: Request) -> None:
        """Somebody asks for an event; a refusal is part of the story."""
        with suppress(Refused):
            self._apply(decide(self.subject, event, asked, self.now, self.policy), timed=False)

    def until(self, end: datetime | None) -> None:
        """Let timers do what is due until then; to the end of the account's life without one."""
        while True:
            self._tick()
            due = self.subject.due_at
            if due is None or (end is not None and due >= end):
                break
            self.now = due
        self.now = end or self.now
        self._tick()

    def _tick(self) -> None:
        while (decision := tick(self.subject, self.now, self.policy)) is not None:
            self._apply(decision, timed=True)
            row = next((row for row in TIMERS if row.event is decision.event), None)
            if row is None:
                continue
            if decision.step is Step.REMIND:
                self._apply(give_notice(self.subject, row, self.now, self.policy), timed=True)
            elif decision.step is Step.REQUEST:
                receipt = Request(SYSTEM, receipt="a receipt")
                self._apply(decide(self.subject, row.event, receipt, self.now, self.policy), timed=True)

    def _apply(self, decision: Decision, *, timed: bool) -> None:
        self.subject = SimpleNamespace(**{**vars(self.subject), **decision.changes})
        if decision.event is not None and decision.step is not None:
            self.entries.append(Entry(self.now, decision.event, decision.step, timed))
