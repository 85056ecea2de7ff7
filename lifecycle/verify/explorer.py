"""Follows every kind of account through everything that can happen to it, breadth first.

From each account, at each instant that matters to it (:mod:`lifecycle.verify.regions`), two things are followed. Its
*course*: what happens by itself when everything works (a sweep as soon as one is due, a reminder delivered, a receipt
at once, else time passes to the next such instant). And what somebody or something may do besides: a request by those
who may make it, activity, a machine that is down for days or for a year, a reminder or a receipt that is late. Up to
:data:`DEPTH` of these follow each other, in any order, each from every point of the course that the others have left.

What is left out, and why nothing is lost by it:

* Who asks is not followed but tried, by everybody, in every situation that tells them apart: no assignment reads the
  requester's role (a test holds that).
* A legal hold is followed where something could be destroyed, else only tried: elsewhere nothing reads it.
* The microsecond before an instant that matters is tried, and not followed: a request there changes what it would have
  changed since the instant before.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta

from lifecycle.definition import Definition
from lifecycle.policy import Policy
from lifecycle.states import CANCELLED, Event, Plan, State
from lifecycle.verify.facts import Facts
from lifecycle.verify.happening import Kind
from lifecycle.verify.nodes import Found, Node
from lifecycle.verify.promises import promise
from lifecycle.verify.regions import Key
from lifecycle.verify.situations import Situations
from lifecycle.verify.stepping import Stepper
from lifecycle.verify.world import BEGINNING, Attempt, attempts, everybody, kinds

#: So many requests, outages and delays are followed in a row.
DEPTH = 2
#: How long the machine is down.
_OUTAGES = (timedelta(days=10), timedelta(days=400))
_HOLDS = (Event.PLACE_HOLD, Event.RELEASE_HOLD)
#: States in which something could be destroyed.
_DESTRUCTIBLE = (State.ACCESS_REVOKED, State.CONTENT_DELETED)
#: The policy names the order of these events' rows.
_ORDERED = (Event.LIFT_SUSPENSION, Event.REACTIVATE)


class Explorer(Stepper):
    """One exploration of a definition under a policy.

    ``only`` ends it at the first violation of that promise; ``kind`` has it begin with that kind of account alone.
    """

    def __init__(
        self,
        definition: Definition,
        values: Policy,
        depth: int = DEPTH,
        only: str | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(definition, values, only)
        self.depth, self.kind = depth, kind
        self.nodes: dict[Key, Node] = {}
        self._course: dict[Key, Key] = {}
        self._followed: set[Key] = set()
        self._situations = Situations(definition)
        self._everybody = only is None or promise(only).who

    def run(self, on_progress: Callable[[int], None] = lambda more: None) -> None:
        """Explore; violations, nodes, and the rows that were covered are attributes then.

        ``on_progress`` hears of each account that is done.
        """
        with contextlib.suppress(Found):
            self._explore(on_progress)

    def _explore(self, on_progress: Callable[[int], None]) -> None:
        level: list[Node] = []
        for kind, subject in kinds(self.values).items():
            if self.kind not in (None, kind):
                continue
            begun = subject.after({"due_at": self.definition.due(subject, BEGINNING, self.values)})
            self._reach(Node(begun, Facts.of(begun), BEGINNING, kind=kind), level)
        for used in range(self.depth + 1):
            queue, level = deque(level), []
            while queue:
                node = queue.popleft()
                self._take_course(node, queue)
                if self._everybody:
                    self._try_everybody(node)
                if used < self.depth:
                    for other in self._besides(node):
                        self._reach(other, level)
                on_progress(1)
            if self.only is None or promise(self.only).check is None:
                self._judge_courses()

    def _take_course(self, node: Node, queue: "deque[Node]") -> None:
        following = self.follow(node)
        self._followed.add(node.key)
        if following is not None:
            self._reach(following, queue)
            self._course[node.key] = following.key

    def _reach(self, node: Node, queue: "list[Node] | deque[Node]") -> None:
        node.key = self.regions.likeness(node.subject, node.facts, node.now, node.mail)
        if node.key not in self.nodes:
            self.nodes[node.key] = node
            queue.append(node)

    def _besides(self, node: Node) -> Iterator[Node]:
        """What may happen besides the course."""
        subject = node.subject
        if node.is_due:
            for outage in _OUTAGES:
                yield self.let_pass(node, node.now + outage, Kind.DOWN)
        elif self.in_the_mail(node) or self.at_the_handler(subject):
            late = self.wait(node, Kind.LATE)
            if late is not None:
                yield late
        if subject.state is State.ACTIVE and subject.plan is Plan.FREE:
            yield self.use(node)
        for event in self._situations.events[subject.state]:
            for attempt in attempts(event, subject, node.now):
                following = self.ask(node, attempt)
                if following is None:
                    continue
                if event in _HOLDS and subject.state not in _DESTRUCTIBLE:
                    if self._everybody:
                        self._try_everybody(following)
                else:
                    yield following

    # --- What is tried, and not followed ---------------------------------------------------------

    def _try_everybody(self, node: Node) -> None:
        """Every event by everybody, once in every situation that tells them apart."""
        subject, now = node.subject, node.now
        if not self._situations.is_new(node):
            return
        self._check_timers(node)
        for event in self._situations.open_events(node):
            for attempt in everybody(event, subject, now):
                if self.ask(node, attempt) is not None:
                    self._check_rows(node, attempt)
        for event in self._situations.missing_events(subject.state):
            for attempt in everybody(event, subject, now):
                self.ask(node, attempt)

    def _check_rows(self, node: Node, attempt: Attempt) -> None:
        rows = self.definition.admitting(node.subject, attempt.event, attempt.request, node.now, self.values)
        state = node.subject.state
        self.covered.add((rows[0], state))
        dests = dict.fromkeys(row.enters(state) for row in rows)
        if len(dests) > 1 and attempt.event not in _ORDERED:
            self.broken("rows-do-not-conflict", f"{attempt.event} leads to {' and to '.join(dests)}.", node)

    def _check_timers(self, node: Node) -> None:
        sources = {"account": node.subject, "now": node.now, "policy": self.values, "request": None}
        here = [row for row in self.definition.timers if node.subject.state in row.sources]
        running = [row.event for row in here if row.bracket is None or row.bracket(sources)]
        if len(running) > 1:
            self.broken("rows-do-not-conflict", f"The timers {' and '.join(running)} both run.", node)

    # --- The courses as a whole ------------------------------------------------------------------

    def _judge_courses(self) -> None:
        """Where courses end, and whether time stands still on one."""
        for key in list(self.nodes):
            node = self.nodes[key]
            if key not in self._followed:
                continue
            if self._circles(key):
                self.broken("timers-never-circle", "The engine looks at the account again and again, at once.", node)
            if node.subject.state in CANCELLED and not node.facts.holds:
                last = self._end(key)
                if last.key in self._followed and last.subject.state is not State.PURGED:
                    self.broken("cancelled-ends-in-purged", f"The account stays {last.subject.state} for ever.", last)

    def _circles(self, key: Key) -> bool:
        """Whether sweeps alone, at one instant, lead back to an account that was there."""
        seen = {key}
        while self.nodes[key].is_due and (ahead := self._course.get(key)) is not None:
            if ahead in seen:
                return True
            seen.add(ahead)
            key = ahead
        return False

    def _end(self, key: Key) -> Node:
        seen = {key}
        while (ahead := self._course.get(key)) is not None and ahead not in seen:
            key = ahead
            seen.add(key)
        return self.nodes[key]
