"""One step of an account: the definition decides, the facts are told, the promises are checked."""

from dataclasses import replace
from datetime import datetime, timedelta

from lifecycle.definition import Decision, Definition
from lifecycle.errors import Refused
from lifecycle.policy import Policy
from lifecycle.rows import Transition, timer_of
from lifecycle.states import Event, State, Step
from lifecycle.verify.facts import told
from lifecycle.verify.happening import Happening, Kind
from lifecycle.verify.judging import Check
from lifecycle.verify.nodes import Found, Node, Violation
from lifecycle.verify.promises import PROMISES, Promise, promise
from lifecycle.verify.regions import Regions
from lifecycle.verify.world import Attempt, Subject, attempts

_BEFORE = timedelta(microseconds=1)
#: Events without a timer whose acceptance depends on time.
_IN_TIME = (Event.REACTIVATE, Event.FREEZE, Event.LIFT_SUSPENSION)


class Stepper:
    """Takes accounts from one instant to the next; ``only`` ends it at the first violation of that promise."""

    def __init__(self, definition: Definition, values: Policy, only: str | None = None) -> None:
        self.definition, self.values, self.only = definition, values, only
        self.regions = Regions(values)
        self.violations: dict[str, Violation] = {}
        self.decisions = 0
        #: Rows and sources that were seen to act.
        self.covered: set[tuple[Transition, State]] = set()
        self._checks: dict[Kind, list[tuple[Promise, Check]]] = {
            kind: [(one, one.check) for one in PROMISES if one.check and kind in one.kinds and only in (None, one.name)]
            for kind in Kind
        }
        timed = {*_IN_TIME, *(row.event for row in definition.timers)}
        self._in_time = {
            state: tuple({row.event for row in definition.rows if state in row.sources} & timed) for state in State
        }

    # --- By itself -------------------------------------------------------------------------------

    def follow(self, node: Node) -> Node | None:
        """What happens by itself when everything works; None where nothing ever does."""
        if node.is_due:
            return self.sweep(node)
        if self.in_the_mail(node):
            return self._deliver(node)
        if (asked := self.at_the_handler(node.subject)) is not None:
            return self.ask(node, next(iter(attempts(asked, node.subject, node.now))))
        return self.wait(node, Kind.WAITED)

    def in_the_mail(self, node: Node) -> bool:
        """Whether a reminder is on its way."""
        return node.mail is not None and node.subject.reminder is not None and node.subject.not_before is None

    def at_the_handler(self, subject: Subject) -> Event | None:
        """What a handler has been asked to do, and has not confirmed."""
        if subject.state is State.ACCESS_REVOKED and subject.erasure_requested_at is not None:
            return Event.DELETE_CONTENT
        if subject.state is State.CONTENT_DELETED and subject.purge_requested_at is not None:
            return Event.PURGE_BACKUPS
        return None

    def sweep(self, node: Node) -> Node | None:
        """What a sweep does now."""
        decision = self.definition.tick(node.subject, node.now, self.values)
        self.decisions += 1
        return None if decision is None else self._done(node, Kind.SWEPT, decision)

    def _deliver(self, node: Node) -> Node:
        decision = self.definition.give_notice(node.subject, self._reminded(node), node.now, self.values)
        self.decisions += 1
        return self._done(node, Kind.DELIVERED, decision)

    def _reminded(self, node: Node) -> Transition:
        """The row whose timer the reminder counts for, as the outbox finds it."""
        rows = [row for row in self.definition.timers if (n := timer_of(row).notice) and n.effect is node.mail]
        return next((row for row in rows if node.subject.state in row.sources), rows[0])

    def wait(self, node: Node, kind: Kind) -> Node | None:
        """Time passes until something changes; right before a landmark, all that could come too early is tried."""
        ahead = self.regions.next(node.subject, node.facts, node.now)
        if ahead is None:
            return None
        until, is_landmark = ahead
        if kind is Kind.WAITED and is_landmark:
            self._try_early(node, until - _BEFORE)
        return self.let_pass(node, until, kind)

    def let_pass(self, node: Node, until: datetime, kind: Kind) -> Node:
        """Time passes, and nothing happens."""
        facts, same = node.facts, node.subject
        then = facts if kind is Kind.WAITED or not facts.ordinary else replace(facts, ordinary=False)
        happening = Happening(kind, node.now, same, same, facts, then, until=until)
        self._check(node, happening)
        return Node(same, then, until, node.mail, node, happening)

    def _try_early(self, node: Node, instant: datetime) -> None:
        if instant <= node.now:
            return
        early = Node(node.subject.after({"due_at": instant}), node.facts, instant, node.mail, node.parent, node.last)
        self.sweep(early)
        early.subject = node.subject
        for event in self._in_time[node.subject.state]:
            for attempt in attempts(event, node.subject, instant):
                self.ask(early, attempt)

    # --- By somebody -----------------------------------------------------------------------------

    def use(self, node: Node) -> Node:
        """The customer is active: cheap on purpose, ``due_at`` stays unless a notice had put it to rest."""
        subject, now = node.subject, node.now
        active = subject.after({"last_active_at": now})
        if subject.due_at is None and subject.reminded_at is not None:
            active = active.after({"due_at": self.definition.due(active, now, self.values)})
        then = replace(node.facts, inactive_since=now)
        happening = Happening(Kind.ACTIVE, now, subject, active, node.facts, then)
        self._check(node, happening)
        return Node(active, then, now, node.mail, node, happening)

    def ask(self, node: Node, attempt: Attempt) -> Node | None:
        """A request; None if it is refused."""
        self.decisions += 1
        subject, facts, now = node.subject, node.facts, node.now
        try:
            decision = self.definition.decide(subject, attempt.event, attempt.request, now, self.values)
        except Refused:
            refused = Happening(Kind.REFUSED, now, subject, subject, facts, facts, attempt.event, attempt=attempt)
            self._check(node, refused)
            return None
        return self._done(node, Kind.ASKED, decision, attempt)

    def _done(self, node: Node, kind: Kind, decision: Decision, attempt: Attempt | None = None) -> Node:
        subject, facts, now = node.subject, node.facts, node.now
        after, then, mail = subject.after(decision.changes), facts, node.mail
        if decision.event is not None and decision.step is not None:
            asked = None if attempt is None else attempt.request
            then = told(facts, decision.event, decision.step, asked, now, subject, decision.dest, self.values)
            if decision.step is Step.REMIND:
                mail = next(iter(decision.owes), None)
        if after.reminder is None:
            mail = None
        happening = Happening(kind, now, subject, after, facts, then, decision.event, decision, attempt)
        self._check(node, happening)
        if kind is Kind.SWEPT and decision.step is Step.FIRE:
            row = next(row for row in self.definition.timers if row.event is decision.event)
            self.covered.add((row, subject.state))
        return Node(after, then, now, mail, node, happening)

    # --- Broken promises -------------------------------------------------------------------------

    def _check(self, node: Node, happening: Happening) -> None:
        for one, check in self._checks[happening.kind]:
            words = check(happening, self.values)
            if words is not None:
                self._note(Violation(one, words, node, happening))

    def broken(self, name: str, words: str, node: Node) -> None:
        """Note that a promise is broken that is judged on more than one happening."""
        if self.only in (None, name):
            self._note(Violation(promise(name), words, node))

    def _note(self, violation: Violation) -> None:
        self.violations.setdefault(violation.promise.name, violation)
        if self.only == violation.promise.name:
            raise Found
