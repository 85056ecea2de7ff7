"""The shapes of the definition: permissions, timers, what is owed, and the row that joins them.

A timer's terms (is it ready, is its reminder due, what comes next) are derived here, once, from its
deadline and its notice; the decision on one account and the sweep over a million read the same terms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lifecycle.actor import ENGINE_FACTS, Role
from lifecycle.errors import DefinitionError
from lifecycle.guards import Guard, Sources, facts_of
from lifecycle.policy import Clause
from lifecycle.states import Effect, Event, State, Step, account
from lifecycle.terms import Term, assume, earliest, latest, literal, missing, now, when

#: A column of the account and what it becomes. Functions serve requests only; timers need terms.
Assignment = tuple[str, Term | Callable[[Sources], Any]]


@dataclass(frozen=True)
class Permission:
    """A role that may fire an event, provided that all of ``guards`` hold."""

    role: Role
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True, eq=False)
class Owed:
    """An effect that a row owes, where ``condition`` holds on the changed account."""

    effect: Effect
    condition: Term | None = None


@dataclass(frozen=True, eq=False)
class Notice:
    """The reminder before a deadline.

    It is requested from ``opens`` on, and counts only for a clock under which it was not requested
    earlier than that: whoever moves the deadline voids the notice. Delivered, it promises that
    nothing happens for another ``lead``. A ``binding`` notice holds the timer until then.
    """

    effect: Effect
    opens: Term
    lead: Term
    binding: bool = True

    @cached_property
    def given(self) -> Term:
        """Whether a reminder was requested that counts for the present deadline."""
        return ~missing(account.reminded_at) & (account.reminded_at >= self.opens)


@dataclass(frozen=True, eq=False)
class Confirmation:
    """A timer in two steps: ``mark`` records when ``effect`` was requested; a receipt fires the event."""

    mark: str
    effect: Effect


@dataclass(frozen=True, eq=False)
class Timer:
    """A deadline at which a row's event fires by itself.

    ``counted`` is the term that explains the deadline in words, where the deadline itself is a date
    that was stamped earlier. While ``blocked`` the timer rests: it has no next instant. ``automatic``
    says whether it fires without an admin.
    """

    deadline: Term
    counted: Term
    notice: Notice | None = None
    confirmation: Confirmation | None = None
    blocked: Term = literal(False)
    automatic: Term = literal(True)

    @cached_property
    def approvable(self) -> bool:
        """Whether the policy may have the event wait for an admin."""
        return self.automatic.op != "literal"

    @cached_property
    def resting(self) -> Term:
        """Nothing to do for now: blocked, or requested and not yet confirmed."""
        if self.confirmation is None:
            return self.blocked
        return self.blocked | ~missing(Term("field", "account", self.confirmation.mark))

    @cached_property
    def fires_at(self) -> Term:
        """The instant from which the timer may fire; NULL while a binding notice is under way."""
        if self.notice is None or not self.notice.binding:
            return self.deadline
        return when(self.notice.given, latest(self.deadline, account.not_before), None)

    @cached_property
    def reached(self) -> Term:
        """Whether the event's time has come, whoever fires it."""
        return ~self.blocked & (self.fires_at <= now)

    @cached_property
    def ready(self) -> Term:
        """Whether a sweep fires the event now (or requests it, for a confirmed timer)."""
        return self.automatic & ~self.resting & (self.fires_at <= now)

    @cached_property
    def reminds(self) -> Term:
        """Whether a sweep requests the reminder now."""
        if self.notice is None:
            return literal(False)
        due = ~self.resting & ~self.notice.given & (self.notice.opens <= now)
        return due if self.notice.binding else due & (now < self.deadline)

    @cached_property
    def promised(self) -> Term:
        """The earliest instant of the event that a reminder requested now can name."""
        if self.notice is None or not self.notice.binding:
            return self.deadline
        return latest(self.deadline, now + self.notice.lead)

    @cached_property
    def next(self) -> Term:
        """What ``due_at`` must be: the next instant at which a sweep has something to do, or NULL."""
        fires = when(self.automatic, self.fires_at, None)
        if self.notice is None:
            return when(self.resting, None, fires)
        opens = self.notice.opens if self.notice.binding else earliest(self.notice.opens, self.deadline)
        return when(self.resting, None, when(self.notice.given, fires, opens))


@dataclass(frozen=True, eq=False, kw_only=True)
class Transition:
    """One row of the table: from ``sources``, upon ``event``, if ``guards`` hold, enter ``dest``.

    ``bracket`` is the condition that routes between rows of the same event and source. ``sets`` are
    applied in order, each seeing the earlier ones. ``dest`` None means: stay in the source.
    """

    event: Event
    sources: tuple[State, ...]
    dest: State | None
    by: tuple[Permission, ...]
    clauses: tuple[Clause, ...]
    bracket: Guard | None = None
    guards: tuple[Guard, ...] = ()
    sets: tuple[Assignment, ...] = ()
    owes: tuple[Owed, ...] = ()
    timer: Timer | None = None
    #: Facts that the row takes beside those that its guards and assignments read.
    takes: tuple[str, ...] = ()
    #: Entering ``dest`` erases personal data from the engine's own tables.
    scrubs: bool = False

    def enters(self, source: State) -> State:
        return source if self.dest is None else self.dest

    def conditions(self) -> tuple[Guard, ...]:
        """Every guard of the row: its bracket, its own and those of its permissions."""
        bracket = () if self.bracket is None else (self.bracket,)
        return (*bracket, *self.guards, *(guard for permission in self.by for guard in permission.guards))

    def facts(self) -> frozenset[str]:
        """The facts of a request that the row reads; a caller may give these and no others."""
        read = {fact for guard in self.conditions() for fact in guard.facts()}
        read |= {fact for _, value in self.sets if isinstance(value, Term) for fact in facts_of(value)}
        return frozenset(read | {"reason", *self.takes}) - {"role"} - ENGINE_FACTS

    def __repr__(self) -> str:
        bracket = f"[{self.bracket.name}]" if self.bracket else ""
        sources = ", ".join(self.sources)
        return f"{self.event}: {sources}{bracket} → {self.dest or 'same'}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Move:
    """One step that a row's event takes: what is set and owed, and the condition under which a sweep takes it.

    ``moves`` says whether the account enters the row's destination. One account and a whole set are
    moved by reading the same object.
    """

    row: Transition
    step: Step
    moves: bool = False
    condition: Term = literal(True)
    sets: tuple[Assignment, ...] = ()
    owes: tuple[Owed, ...] = ()
    promised: Term | None = None

    @cached_property
    def taken(self) -> Term:
        """Whether a sweep takes this step with an account of the row's source: the bracket routes, too."""
        bracket = self.row.bracket
        return self.condition if bracket is None else bracket.term & self.condition

    @classmethod
    def of_row(cls, row: Transition, condition: Term = literal(True)) -> "Move":
        """The event itself."""
        return cls(row=row, step=Step.FIRE, moves=True, condition=condition, sets=row.sets, owes=row.owes)

    @classmethod
    def of_notice(cls, row: Transition) -> "Move":
        """The reminder was delivered, or given up: the notice starts to count."""
        lead = timer_of(row).notice
        promise = () if lead is None else (("not_before", now + lead.lead),)
        return cls(row=row, step=Step.NOTICE, sets=promise)

    @classmethod
    def of_withdrawal(cls, row: Transition) -> "Move":
        """The request of a confirmed timer is taken back: as if it had not been made yet."""
        confirmation = timer_of(row).confirmation
        return cls(row=row, step=Step.VOID, sets=() if confirmation is None else ((confirmation.mark, literal(None)),))

    @classmethod
    def of_receipt(cls, row: Transition) -> "Move":
        """The event of a confirmed timer, upon the receipt of what was requested."""
        condition = literal(True)
        for guard in row.guards:
            condition = condition & assume(guard.term, {"receipt": "a receipt"})
        return cls.of_row(row, condition)

    @classmethod
    def of_timer(cls, row: Transition) -> tuple["Move", ...]:
        """What a sweep may do with the row, in this order: fire or request, else remind."""
        timer = timer_of(row)
        if timer.confirmation is None:
            main = cls.of_row(row, timer.ready)
        else:
            main = cls(
                row=row,
                step=Step.REQUEST,
                condition=timer.ready,
                sets=((timer.confirmation.mark, now),),
                owes=(Owed(timer.confirmation.effect),),
                promised=timer.deadline,
            )
        if timer.notice is None:
            return (main,)
        remind = cls(
            row=row,
            step=Step.REMIND,
            condition=timer.reminds,
            sets=(("reminder", account.version + 1), ("reminded_at", now), ("not_before", literal(None))),
            owes=(Owed(timer.notice.effect),),
            promised=timer.promised,
        )
        return (main, remind)


def timer_of(row: Transition) -> Timer:
    """The row's timer; rows without one have no moves by themselves."""
    if row.timer is None:
        raise DefinitionError(f"{row!r} has no timer.")
    return row.timer
