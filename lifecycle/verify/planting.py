"""How a fault is planted: changes of rows, and of a table of transitions, as data."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lifecycle.actor import Role
from lifecycle.guards import Guard
from lifecycle.rows import Assignment, Notice, Permission, Timer, Transition, timer_of
from lifecycle.states import Effect, Event, State
from lifecycle.terms import Term

Rows = tuple[Transition, ...]
Change = Callable[[Transition], Transition | None]


def where(
    event: Event, change: Change, bracket: Guard | None = None, source: State | None = None
) -> Callable[[Rows], Rows]:
    """Changes the rows of an event (with this bracket, from this source); None takes a row out."""

    def plant(rows: Rows) -> Rows:
        changed: list[Transition | None] = []
        for row in rows:
            hit = row.event is event and bracket in (None, row.bracket) and (source is None or source in row.sources)
            changed.append(change(row) if hit else row)
        return tuple(row for row in changed if row is not None)

    return plant


def without_guard(*guards: Guard) -> Change:
    """The rows, and their permissions, without these guards."""
    return lambda row: replace(
        row,
        guards=tuple(one for one in row.guards if one not in guards),
        by=tuple(replace(p, guards=tuple(one for one in p.guards if one not in guards)) for p in row.by),
    )


def without_source(source: State) -> Change:
    """The row does not leave this state."""
    return lambda row: replace(row, sources=tuple(one for one in row.sources if one is not source))


def without_role(role: Role) -> Change:
    """The role may not fire the event."""
    return lambda row: replace(row, by=tuple(one for one in row.by if one.role is not role))


def with_role(role: Role) -> Change:
    """The role may fire the event, too."""
    return lambda row: replace(row, by=(*row.by, Permission(role)))


def setting(**columns: Term) -> Change:
    """Columns are set to something else, or besides."""

    def change(row: Transition) -> Transition:
        kept: list[Assignment] = [(name, columns.get(name, value)) for name, value in row.sets]
        more = [(name, value) for name, value in columns.items() if name not in dict(row.sets)]
        return replace(row, sets=(*kept, *more))

    return change


def forgetting(*columns: str) -> Change:
    """These columns are not set."""
    return lambda row: replace(row, sets=tuple((name, value) for name, value in row.sets if name not in columns))


def without_effect(effect: Effect) -> Change:
    """The effect is not owed."""
    return lambda row: replace(row, owes=tuple(owed for owed in row.owes if owed.effect is not effect))


def with_timer(derived: Callable[[Timer], dict[str, Term]] = lambda timer: {}, **fields: Any) -> Change:
    """Fields of the timer, or what it derives from them, are something else."""

    def change(row: Transition) -> Transition:
        timer = replace(timer_of(row), **fields)
        vars(timer).update(derived(timer))  # where its cached properties lie
        return replace(row, timer=timer)

    return change


def like(timer: Timer, **fields: Any) -> Notice:
    """The timer's notice, with some of it changed."""
    assert timer.notice is not None
    return replace(timer.notice, **fields)


def with_notice(**fields: Any) -> Change:
    """Fields of the timer's notice are something else."""
    return lambda row: replace(row, timer=replace(timer_of(row), notice=like(timer_of(row), **fields)))


def counts_when(term: Term) -> Change:
    """The notice counts when ``term`` holds."""

    def change(row: Transition) -> Transition:
        notice = like(timer_of(row))
        vars(notice)["given"] = term
        return replace(row, timer=replace(timer_of(row), notice=notice))

    return change


def adding(row: Transition) -> Callable[[Rows], Rows]:
    """One more row."""
    return lambda rows: (*rows, row)


def backwards(event: Event) -> Callable[[Rows], Rows]:
    """The event's rows in the opposite order."""

    def plant(rows: Rows) -> Rows:
        turned = [row for row in rows if row.event is event][::-1]
        return tuple(turned.pop(0) if row.event is event else row for row in rows)

    return plant
