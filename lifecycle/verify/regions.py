"""Time as regions: the instants that matter to an account, and which accounts are alike.

Nothing in the definition reads a date otherwise than by comparing it, or it plus a duration of the policy, with
``now`` or with another such date. So between two of an account's *landmarks* nothing happens by itself, and what does
depends on the order of its landmarks and ``now``, not on how far apart they lie.

Accounts are taken for alike when that order, and every column that is no date, is the same. The order takes in the
dates that a request made now would set (now plus each duration), and time stops wherever one of those passes a
landmark: a span in which the order stays the same is met at its first instant. So the order is known after one request
more, too. Where two accounts that are alike in this come apart only after several requests, the one that was met first
is followed.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from lifecycle.policy import Policy
from lifecycle.states import FINAL, LIVE, Plan, State
from lifecycle.verify.facts import Facts
from lifecycle.verify.world import Subject

#: Dates that stand in both, in the account and in the facts: alike unless the definition is wrong.
_TWICE = (
    ("held_at", "held_since"),
    ("frozen_at", "frozen_since"),
    ("suspended_from", "suspended_from"),
    ("cancelled_at", "cancelled_at"),
    ("access_ends_at", "access_until"),
    ("delete_content_at", "delete_at"),
    ("purge_backups_by", "purge_by"),
    ("period_ends_at", "paid_through"),
)
_Marks = list[tuple[datetime, int]]
Key = tuple[Any, ...]


class Regions:
    """Landmarks and likeness under one policy."""

    def __init__(self, values: Policy) -> None:
        p = values
        leaving = {p.deletion_after, p.deletion_notice, p.purge_after, p.access_reminder, p.hold_release_notice}
        living = {p.expired_trial_cancellation_after, p.unpaid_cancellation_after, p.company_notice}
        #: What a request may add to ``now``, by state.
        self._ahead: dict[State, list[timedelta]] = {
            state: [] if state is FINAL else sorted(leaving | living if state in LIVE else leaving) for state in State
        }
        self.values = values

    def next(self, s: Subject, f: Facts, now: datetime) -> tuple[datetime, bool] | None:
        """When something changes, and whether that is a landmark.

        Else a date that a request sets from then on falls on the other side of one.
        """
        ahead = self._ahead[s.state]
        marks = [at for at, _ in self.landmarks(s, f) if at > now]
        if not marks:
            return None
        landmark = min(marks)
        at = min((at - d for at in marks for d in ahead if at - d > now), default=landmark)
        return min(at, landmark), landmark <= at

    def landmarks(self, s: Subject, f: Facts) -> _Marks:
        """The instants at which something changes for the account by itself, each with a number that tells which."""
        found: _Marks = []

        def mark(number: int, at: datetime | None, *offsets: timedelta) -> None:
            if at is not None:
                found.append((at, number))
                found.extend((at + offset, number + n) for n, offset in enumerate(offsets, start=1))

        p = self.values
        if s.state is FINAL:
            return found
        mark(0, s.due_at)
        if s.content_deleted_at is None:
            mark(10, s.period_ends_at)
            mark(
                20, s.held_at, p.expired_trial_cancellation_after, p.expired_trial_cancellation_after - p.company_notice
            )
            mark(30, s.frozen_at, p.unpaid_cancellation_after, p.unpaid_cancellation_after - p.company_notice)
            if s.plan is Plan.TRIAL:
                mark(40, s.trial_ends_at, -p.trial_reminder)
        if s.state in LIVE:
            self._living(mark, s)
        else:
            mark(70, s.access_ends_at, -p.access_reminder)
            mark(80, s.delete_content_at, -p.deletion_notice)
            mark(90, s.purge_backups_by, -p.purge_lead)
            if (
                f.access_until != s.access_ends_at
                or f.delete_at != s.delete_content_at
                or f.purge_by != s.purge_backups_by
            ):
                mark(120, f.access_until)
                mark(130, f.delete_at)
                mark(140, f.purge_by)
        mark(100, s.hold_released_at, p.hold_release_notice)
        mark(110, s.not_before)
        return found

    def _living(self, mark: Callable[..., None], s: Subject) -> None:
        p = self.values
        if s.state is State.ACTIVE and s.plan is Plan.FREE:
            since = s.free_since if s.last_active_at is None else max(s.last_active_at, s.free_since)
            deadline = p.inactive_cancellation_after + p.activity_resolution
            mark(50, since, deadline, deadline - p.company_notice)
        if s.period_ends_at is not None:
            mark(60, s.period_began_at, p.refund_new_period)
            mark(65, s.last_active_at, p.refund_unused)

    def likeness(self, s: Subject, f: Facts, now: datetime, mail: object) -> Key:
        """What two accounts have in common that are taken for alike."""
        marks = self.landmarks(s, f)
        reminded = s.reminded_at
        past, future = [], []
        for at, number in marks:
            if at > now:
                future.append((at, number))
            else:
                past.append(number if reminded is None or at > reminded else -number)
        future += [(now + duration, 1000 + n) for n, duration in enumerate(self._ahead[s.state])]
        if reminded is not None:
            future += [(at, -number) for at, number in future if at <= reminded]
        future.sort()
        order, previous = [], None
        for at, number in future:
            order += [number] if at != previous else [-1, number]
            previous = at
        told = tuple((column, getattr(s, column), fact) for column, name in _TWICE
                     if getattr(s, column) != (fact := getattr(f, name)))  # fmt: skip
        return (
            *(s.state, s.plan, s.suspended_from, s.cancelled_by, s.cancelled_from, s.legal_holds, f.holds),
            *(s.terminated_at is None, s.erasure_requested_at is None, s.purge_requested_at is None),
            *(f.erasure_asked is None, f.purge_asked is None, f.terminated, f.cancelled_by, f.ordinary),
            *(s.reminder is None, s.not_before is None, s.due_at is None, mail),
            *(f.reminder and (f.reminder.event, f.reminder.delivered is None), told),
            *(frozenset(past), tuple(order)),
        )
