"""Definitions with one planted fault each, and the promise that must notice it.

They hold the model checker to account: a promise that no fault can break proves nothing. Each is a change of
:data:`lifecycle.machine.TRANSITIONS`, as data; none passes as the definition of anything but a test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from lifecycle import deadlines as d
from lifecycle import guards as g
from lifecycle.actor import Role
from lifecycle.definition import Definition
from lifecycle.guards import Guard
from lifecycle.machine import TRANSITIONS
from lifecycle.policy import Policy
from lifecycle.rows import Assignment, Notice, Owed, Permission, Timer, Transition, timer_of
from lifecycle.states import SUSPENDED, Effect, Event, Party, State, account
from lifecycle.terms import Term, default, latest, literal, missing, now, policy, when
from lifecycle.verify.explorer import DEPTH, Explorer
from lifecycle.verify.nodes import Violation

E, S = Event, State
Rows = tuple[Transition, ...]
Change = Callable[[Transition], Transition | None]


@dataclass(frozen=True)
class Mutant:
    """A fault: its name, what it does, the promise that it breaks, and how it is planted.

    ``settings`` are those of the policy under which it shows. ``kind`` is the kind of account on which it is looked for
    where it shows only after several steps; without one, on all.
    """

    name: str
    text: str
    promise: str
    plant: Callable[[Rows], Rows]
    settings: dict[str, Any] = field(default_factory=dict)
    kind: str | None = None

    def definition(self) -> Definition:
        """The definition with the fault in it."""
        return Definition(self.plant(TRANSITIONS))

    def caught(self, depth: int = DEPTH) -> Violation | None:
        """How the model checker notices the fault by its promise; None if it does not."""
        explorer = Explorer(self.definition(), Policy.from_mapping(self.settings), depth, self.promise, self.kind)
        explorer.run()
        return explorer.violations.get(self.promise)


# --- How a fault is planted ----------------------------------------------------------------------


def _where(
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


def _without_guard(*guards: Guard) -> Change:
    return lambda row: replace(
        row,
        guards=tuple(one for one in row.guards if one not in guards),
        by=tuple(replace(p, guards=tuple(one for one in p.guards if one not in guards)) for p in row.by),
    )


def _without_source(source: State) -> Change:
    return lambda row: replace(row, sources=tuple(one for one in row.sources if one is not source))


def _with_role(role: Role) -> Change:
    return lambda row: replace(row, by=(*row.by, Permission(role)))


def _sets(**columns: Term) -> Change:
    """Columns are set to something else, or besides."""

    def change(row: Transition) -> Transition:
        kept: list[Assignment] = [(name, columns.get(name, value)) for name, value in row.sets]
        more = [(name, value) for name, value in columns.items() if name not in dict(row.sets)]
        return replace(row, sets=(*kept, *more))

    return change


def _forgets(*columns: str) -> Change:
    return lambda row: replace(row, sets=tuple((name, value) for name, value in row.sets if name not in columns))


def _owes_no(effect: Effect) -> Change:
    return lambda row: replace(row, owes=tuple(owed for owed in row.owes if owed.effect is not effect))


def _timer(derived: Callable[[Timer], dict[str, Term]] = lambda timer: {}, **fields: Any) -> Change:
    """Fields of the timer, or what it derives from them, are something else."""

    def change(row: Transition) -> Transition:
        timer = replace(timer_of(row), **fields)
        vars(timer).update(derived(timer))  # where its cached properties lie
        return replace(row, timer=timer)

    return change


def _like(timer: Timer, **fields: Any) -> Notice:
    assert timer.notice is not None
    return replace(timer.notice, **fields)


def _notice(**fields: Any) -> Change:
    return lambda row: replace(row, timer=replace(timer_of(row), notice=_like(timer_of(row), **fields)))


def _given(term: Term) -> Change:
    """The notice counts when ``term`` holds."""

    def change(row: Transition) -> Transition:
        notice = _like(timer_of(row))
        vars(notice)["given"] = term
        return replace(row, timer=replace(timer_of(row), notice=notice))

    return change


def _add(row: Transition) -> Callable[[Rows], Rows]:
    return lambda rows: (*rows, row)


def _reversed(event: Event) -> Callable[[Rows], Rows]:
    """The event's rows in the opposite order."""

    def plant(rows: Rows) -> Rows:
        turned = [row for row in rows if row.event is event][::-1]
        return tuple(turned.pop(0) if row.event is event else row for row in rows)

    return plant


# --- The faults ----------------------------------------------------------------------------------

_PAID_ONLY = latest(now, default(account.period_ends_at, now))
_ALWAYS = latest(_PAID_ONLY, when(account.state == S.TRIAL, default(account.trial_ends_at, now), now))
_COMPANY_LATE = account.trial_ends_at + policy.expired_trial_cancellation_after
_CANCELLED_LONG_AGO = account.cancelled_at + policy.deletion_after
_UNPAID_TOO_LONG = Guard(
    "unpaid", missing(account.frozen_at) | (now <= account.frozen_at + policy.unpaid_cancellation_after), "Too late."
)
_M = Mutant
# fmt: off
MUTANTS: tuple[Mutant, ...] = (
    # Dates
    _M("deletion-from-access-end", "Content goes a notice after access ended, whatever was promised.",
       "no-early-deletion", _where(E.DELETE_CONTENT, _timer(
           deadline=account.access_ends_at, notice=_like(d.ACCESS_TIMER, effect=Effect.REMIND_DELETION,
                                                           binding=True)))),
    _M("deletion-counts-from-opening", "The days until deletion count from the opening of the account.",
       "dates-are-stamped", _where(E.CANCEL, _sets(
           delete_content_at=latest(account.opened_at + policy.deletion_after, account.access_ends_at)))),
    _M("purge-counts-from-deletion", "The days until the purge count from the deletion alone.",
       "dates-are-stamped", _where(E.CANCEL, _sets(
           purge_backups_by=account.delete_content_at + policy.purge_after_deletion))),
    _M("stamp-missing", "A cancellation for unpaid bills does not note when it was.",
       "dates-are-stamped", _where(E.CANCEL_UNPAID, _forgets("cancelled_at"))),
    _M("wrong-party", "A cancellation by the company is noted as the owner's.",
       "dates-are-stamped", _where(E.CANCEL_EXPIRED_TRIAL, _sets(cancelled_by=literal(Party.OWNER)))),
    _M("payment-shortens", "A late payment leaves the deletion where it was, instead of moving it with the access.",
       "dates-never-shorten", _where(E.RECORD_PAYMENT, _forgets("delete_content_at"), source=S.CANCEL_PENDING)),
    _M("termination-restamps", "Terminating a cancelled account has its content go at once.",
       "dates-never-shorten", _where(E.TERMINATE, _sets(delete_content_at=now), source=S.CANCEL_PENDING)),
    _M("deletion-after-the-date", "Deletion is due after its date, not on it (`>=` became `>`).",
       "timers-never-circle", _where(E.DELETE_CONTENT, _timer(
           lambda t: {"ready": t.automatic & ~t.resting & (t.fires_at < now)}))),
    _M("access-ends-after-the-date", "Access ends after its date, not on it (`>=` became `>`).",
       "timers-never-circle", _where(E.REVOKE_ACCESS, _timer(
           lambda t: {"ready": t.automatic & ~t.resting & (t.fires_at < now)}))),
    _M("deletion-a-day-late", "Deletion is requested a day after its date.",
       "deletion-on-time", _where(E.DELETE_CONTENT, _timer(deadline=account.delete_content_at + policy.purge_lead))),
    _M("purge-without-lead", "The purge is started a lead time after its deadline, not before.",
       "purge-on-time", _where(E.PURGE_BACKUPS, _timer(deadline=account.purge_backups_by + policy.purge_lead))),
    # Destruction
    _M("effect-before-request", "A trial that runs out has its content deleted.",
       "only-cancelled-is-deleted", _where(E.EXPIRE_TRIAL, lambda row: replace(
           row, owes=(Owed(Effect.DELETE_CONTENT),)))),
    _M("deletion-while-access", "Content of whoever paid for long goes after 30 days, and access goes on.",
       "no-deletion-while-access", _where(E.DELETE_CONTENT, lambda row: replace(
           row, sources=(S.CANCEL_PENDING,), timer=replace(
               timer_of(row), deadline=_CANCELLED_LONG_AGO,
               notice=_like(timer_of(row), opens=_CANCELLED_LONG_AGO - policy.deletion_notice)))),
       kind="a yearly plan"),
    _M("purge-before-deletion", "Backups are purged from the account that still has its content.",
       "deletion-before-purge", _where(E.PURGE_BACKUPS, lambda row: replace(row, sources=(S.ACCESS_REVOKED,)))),
    _M("deletion-without-receipt", "Content counts as deleted although no handler has confirmed it.",
       "destroyed-after-request", _where(E.DELETE_CONTENT, _without_guard(g.erasure_confirmed))),
    _M("purge-without-receipt", "Backups count as purged although no handler has confirmed it.",
       "destroyed-after-request", _where(E.PURGE_BACKUPS, _without_guard(g.purge_confirmed))),
    _M("requested-again", "A request for deletion does not rest until it is confirmed.",
       "one-live-request", _where(E.DELETE_CONTENT, _timer(
           lambda t: {"resting": t.blocked, "ready": ~t.blocked & (t.fires_at <= now), "next": t.fires_at})),
       kind="an account that the company cancelled"),
    _M("hold-ignored-by-deletion", "A legal hold does not stop the deletion.",
       "no-destruction-under-hold", _where(E.DELETE_CONTENT, _timer(blocked=literal(False)))),
    _M("hold-ignored-by-purge", "A legal hold does not stop the purge.",
       "no-destruction-under-hold", _where(E.PURGE_BACKUPS, _timer(blocked=literal(False)))),
    _M("hold-leaves-requests", "A legal hold does not take back what no handler has claimed.",
       "no-destruction-under-hold", _where(E.PLACE_HOLD, _forgets("erasure_requested_at"))),
    _M("hold-not-counted", "A legal hold is noted, and not in force.",
       "no-destruction-under-hold", _where(E.PLACE_HOLD, _forgets("legal_holds"))),
    _M("no-wait-after-hold", "Deletion goes on as soon as a legal hold is released.",
       "wait-after-hold", _where(E.DELETE_CONTENT, _timer(
           deadline=account.delete_content_at,
           notice=_like(d.DELETION_TIMER, opens=account.delete_content_at - policy.deletion_notice))),
       kind="an account that the company cancelled"),
    _M("release-forgotten", "The release of a legal hold is not noted.",
       "wait-after-hold", _where(E.RELEASE_HOLD, _forgets("hold_released_at")),
       kind="an account that the company cancelled"),
    _M("no-purge", "No row leads to purged.",
       "cancelled-ends-in-purged", _where(E.PURGE_BACKUPS, lambda row: None)),
    _M("no-revocation", "No row ends access.",
       "cancelled-ends-in-purged", _where(E.REVOKE_ACCESS, lambda row: None)),
    # The way back
    _M("reactivate-too-late", "An account comes back although its deletion was requested.",
       "no-return-after-request", _where(E.REACTIVATE, _without_guard(g.erasure_not_requested))),
    _M("return-keeps-dates", "An account that came back keeps its deletion date.",
       "return-clears-all", _where(E.REACTIVATE, _forgets("delete_content_at"))),
    _M("no-return-without-access", "An account comes back only while there is access.",
       "owner-can-return", _where(E.REACTIVATE, _without_source(S.ACCESS_REVOKED))),
    _M("return-rows-in-wrong-order", "The rows of the way back are tried in the opposite order.",
       "right-way-back", _reversed(E.REACTIVATE)),
    _M("lift-rows-in-wrong-order", "The rows of the end of a suspension are tried in the opposite order.",
       "right-way-back", _reversed(E.LIFT_SUSPENSION)),
    _M("no-limit-on-hold", "An expired trial comes back without a payment, however long ago it was.",
       "right-way-back", _where(E.REACTIVATE, _without_guard(g.held_in_time))),
    _M("limit-reached-too-late", "An unpaid account comes back at the very end of its time (`<` became `<=`).",
       "right-way-back", _where(E.REACTIVATE, lambda row: replace(row, guards=(*row.guards[:-1], _UNPAID_TOO_LONG)),
                                bracket=g.paid)),
    # Money and access
    _M("billing-goes-on", "A cancellation does not stop billing.",
       "billing-stops", _where(E.CANCEL, _owes_no(Effect.STOP_BILLING))),
    _M("termination-is-billed", "A termination does not stop billing.",
       "billing-stops", _where(E.TERMINATE, _owes_no(Effect.STOP_BILLING))),
    _M("billing-stays-off", "A paid plan that comes back is not billed.",
       "billing-resumes", _where(E.REACTIVATE, _owes_no(Effect.RESUME_BILLING))),
    _M("silent-cancellation", "Owners are not told that an unused account was cancelled.",
       "cancellation-is-confirmed", _where(E.CANCEL_INACTIVE, _owes_no(Effect.CONFIRM_CANCELLATION))),
    _M("no-refund-for-new-periods", "Nobody looks at the refund of a period that has just begun.",
       "refund-is-reviewed", _where(E.CANCEL, lambda row: replace(row, owes=(
           *d.CANCELLATION_OWES[:2], Owed(Effect.REVIEW_REFUND, d.REFUND_REASONS[0][0]))))),
    _M("access-ends-at-once", "A cancellation ends access at once, whatever is paid.",
       "access-while-paid", _where(E.CANCEL, _sets(access_ends_at=now))),
    _M("trial-lost", "Who cancels in a trial loses the rest of it.",
       "access-while-paid", _where(E.CANCEL, _sets(access_ends_at=when(SUSPENDED, now, _PAID_ONLY)))),
    _M("payment-without-access", "A late payment does not lengthen access.",
       "access-while-paid", _where(E.RECORD_PAYMENT, _forgets("access_ends_at"), source=S.CANCEL_PENDING)),
    _M("suspended-access", "Who cancels while suspended has access again.",
       "access-ends", _where(E.CANCEL, _sets(access_ends_at=_ALWAYS))),
    _M("termination-keeps-access", "The termination of a cancelled account leaves its access.",
       "access-ends", _where(E.TERMINATE, _forgets("access_ends_at"), source=S.CANCEL_PENDING)),
    _M("trial-cut-short", "A trial ends when its reminder is due.",
       "trial-lasts", _where(E.EXPIRE_TRIAL, _timer(deadline=account.trial_ends_at - policy.trial_reminder))),
    _M("frozen-though-paid", "An account is frozen on a stale message of billing.",
       "not-frozen-while-paid", _where(E.FREEZE, _without_guard(g.period_over))),
    _M("renewal-shortens", "A renewal may move the end of the paid period back.",
       "period-by-those-who-know", _where(E.RENEW, _without_guard(g.period_forward))),
    _M("anyone-states-periods", "An admin states what is paid without a reason.",
       "period-by-those-who-know", _where(E.UPGRADE, _without_guard(g.period_from_billing))),
    # Who
    _M("billing-cancels", "Billing cancels accounts.",
       "only-owners-cancel", _where(E.CANCEL, _with_role(Role.BILLING))),
    _M("support-for-anybody", "Support cancels without naming an owner on file.",
       "only-owners-cancel", _where(E.CANCEL, _without_guard(g.requester_is_owner))),
    _M("new-owners-cancel", "An owner who was added a moment ago cancels alone.",
       "only-owners-cancel", _where(E.CANCEL, _without_guard(g.owner_decides))),
    _M("hold-counts-from-trial-end", "The company's time counts from the end of the trial, not from the hold.",
       "company-by-its-clauses", _where(E.CANCEL_EXPIRED_TRIAL, _timer(
           deadline=_COMPANY_LATE,
           notice=_like(d.EXPIRED_TRIAL_TIMER, opens=_COMPANY_LATE - policy.company_notice))),
       kind="a new trial"),
    _M("suspended-for-unpaid", "The clause for unpaid bills takes suspended accounts, too.",
       "company-by-its-clauses", _where(E.CANCEL_UNPAID, lambda row: replace(row, bracket=None))),
    _M("activity-ignored", "A free account is cancelled however much it is used.",
       "company-by-its-clauses", _where(E.CANCEL_INACTIVE, lambda row: replace(row, timer=d.company_timer(
           account.free_since, policy.inactive_cancellation_after)))),
    _M("approval-ignored", "The company's cancellations fire although an admin must approve them.",
       "company-by-its-clauses", _where(E.CANCEL_EXPIRED_TRIAL, _timer(automatic=literal(True))),
       {"company_cancellation": "approval"}),
    _M("terminated-returns", "An owner undoes a termination.",
       "return-by-those-entitled", _where(E.REACTIVATE, _without_guard(g.not_terminated)),
       kind="a new monthly plan"),
    _M("support-suspends", "Support suspends accounts.",
       "only-the-permitted", _where(E.SUSPEND, _with_role(Role.SUPPORT))),
    _M("termination-without-reason", "A termination needs no reason.",
       "only-the-permitted", _where(E.TERMINATE, _without_guard(g.reason_given))),
    _M("no-cancelling-on-hold", "Who is on hold can't cancel.",
       "owner-can-cancel", _where(E.CANCEL, _without_source(S.ON_HOLD))),
    _M("no-upgrade-on-hold", "Who is on hold can't upgrade.",
       "payment-upgrades", _where(E.UPGRADE, _without_source(S.ON_HOLD))),
    _M("billing-cannot-thaw", "A payment does not thaw an unpaid account.",
       "payment-thaws", _where(E.THAW, lambda row: replace(row, by=(Permission(Role.ADMIN),)))),
    _M("frozen-not-terminated", "A frozen account can't be terminated.",
       "company-can-act", _where(E.TERMINATE, _without_source(S.FROZEN))),
    # Clocks, notices and order
    _M("looks-too-late", "The next look at a trial comes a week after its end.",
       "due-in-time", _where(E.EXPIRE_TRIAL, _timer(lambda t: {"next": t.deadline + policy.trial_reminder}))),
    _M("never-looks-again", "Nobody looks at an account on hold again.",
       "nothing-is-forgotten", _where(E.CANCEL_EXPIRED_TRIAL, _timer(lambda t: {"next": literal(None)}))),
    _M("two-ways", "Freezing leads to two states, and nothing says which is tried first.",
       "rows-do-not-conflict", _add(Transition(
           event=E.FREEZE, sources=(S.ACTIVE,), dest=S.ON_HOLD, by=(Permission(Role.BILLING),), clauses=(),
           guards=(g.period_over,)))),
    _M("cancelling-ends-suspension", "Who cancels and comes back is not suspended any more.",
       "suspension-ends-by-admin", _where(E.CANCEL, _sets(suspended_from=literal(None)))),
    _M("payment-ends-suspension", "A payment thaws suspended accounts.",
       "suspension-ends-by-admin", _where(E.THAW, lambda row: replace(row, bracket=None))),
    _M("suspension-restarts-hold", "A suspension starts the hold anew.",
       "clocks-never-restart", _where(E.LIFT_SUSPENSION, _sets(held_at=now), bracket=g.from_hold)),
    _M("return-restarts-freeze", "Cancelling and coming back starts the time for unpaid bills anew.",
       "clocks-never-restart", _where(E.REACTIVATE, _sets(frozen_at=now), bracket=g.paid)),
    _M("hold-backdated", "After an outage the hold counts from when it should have begun.",
       "clocks-never-restart", _where(E.EXPIRE_TRIAL, _sets(held_at=default(account.held_at, account.trial_ends_at)))),
    _M("notice-too-short", "The company cancels a day after its reminder was delivered.",
       "notice-before-company-cancels", _where(E.CANCEL_EXPIRED_TRIAL, _notice(lead=policy.purge_lead)),
       kind="a trial on hold"),
    _M("notice-not-awaited", "The company cancels although its reminder was not delivered.",
       "notice-before-company-cancels", _where(E.CANCEL_UNPAID, _notice(binding=False))),
    _M("notice-of-another-clock", "A notice counts although the customer was active after it.",
       "notice-before-company-cancels", _where(E.CANCEL_INACTIVE, _given(~missing(account.reminded_at))),
       kind="a free account, long unused"),
    _M("return-keeps-notice", "Who comes back keeps the notice of the deletion, and it counts as the company's.",
       "notice-before-company-cancels", _where(E.REACTIVATE, _forgets(*dict(d.VOID_NOTICE))),
       kind="an unpaid account"),
    _M("notice-not-voided", "Lifting a suspension or setting one keeps the notice from before.",
       "notice-before-company-cancels", lambda rows: _where(E.LIFT_SUSPENSION, _forgets(*dict(d.VOID_NOTICE)))(
           _where(E.SUSPEND, _forgets(*dict(d.VOID_NOTICE)))(rows)),
       kind="a trial on hold"),
    _M("deletion-notice-too-short", "Content goes a day after the reminder was delivered.",
       "notice-before-deletion", _where(E.DELETE_CONTENT, _notice(lead=policy.purge_lead)),
       kind="an account that the company cancelled"),
    _M("access-reminder-always-counts", "The reminder before access ended counts however long ago it was.",
       "notice-before-deletion", _where(E.DELETE_CONTENT, _notice(
           opens=account.access_ends_at - policy.access_reminder))),
    _M("no-trial-reminder", "Trials end without a reminder.",
       "customers-are-reminded", _where(E.EXPIRE_TRIAL, _timer(notice=None))),
    _M("no-access-reminder", "Access ends without a reminder.",
       "customers-are-reminded", _where(E.REVOKE_ACCESS, _timer(notice=None)),
       kind="a yearly plan"),
)
# fmt: on
