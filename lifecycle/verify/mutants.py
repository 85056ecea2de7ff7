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
from lifecycle.rows import Owed, Permission, Transition, timer_of
from lifecycle.states import SUSPENDED, Effect, Event, Party, State, account
from lifecycle.terms import default, latest, literal, missing, now, policy, when
from lifecycle.verify.explorer import DEPTH, Explorer
from lifecycle.verify.nodes import Violation
from lifecycle.verify.planting import (
    Rows,
    adding,
    backwards,
    counts_when,
    forgetting,
    like,
    setting,
    where,
    with_notice,
    with_role,
    with_timer,
    without_effect,
    without_guard,
    without_role,
    without_source,
)

E, S = Event, State


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
       "no-early-deletion", where(E.DELETE_CONTENT, with_timer(
           deadline=account.access_ends_at, notice=like(d.ACCESS_TIMER, effect=Effect.REMIND_DELETION,
                                                           binding=True)))),
    _M("deletion-a-day-early", "Content goes a day before its date where the reminder of access's end counts for it.",
       "no-early-deletion", where(E.DELETE_CONTENT, with_timer(
           deadline=d.after_hold(account.delete_content_at) - policy.purge_lead)),
       kind="a monthly plan, some days old"),
    _M("deletion-counts-from-opening", "The days until deletion count from the opening of the account.",
       "dates-are-stamped", where(E.CANCEL, setting(
           delete_content_at=latest(account.opened_at + policy.deletion_after, account.access_ends_at)))),
    _M("purge-counts-from-deletion", "The days until the purge count from the deletion alone.",
       "dates-are-stamped", where(E.CANCEL, setting(
           purge_backups_by=account.delete_content_at + policy.purge_after_deletion))),
    _M("stamp-missing", "A cancellation for unpaid bills does not note when it was.",
       "dates-are-stamped", where(E.CANCEL_UNPAID, forgetting("cancelled_at"))),
    _M("wrong-party", "A cancellation by the company is noted as the owner's.",
       "dates-are-stamped", where(E.CANCEL_EXPIRED_TRIAL, setting(cancelled_by=literal(Party.OWNER)))),
    _M("payment-shortens", "A late payment leaves the deletion where it was, instead of moving it with the access.",
       "dates-never-shorten", where(E.RECORD_PAYMENT, forgetting("delete_content_at"), source=S.CANCEL_PENDING)),
    _M("termination-restamps", "Terminating a cancelled account has its content go at once.",
       "dates-never-shorten", where(E.TERMINATE, setting(delete_content_at=now), source=S.CANCEL_PENDING)),
    _M("deletion-after-the-date", "Deletion is due after its date, not on it (`>=` became `>`).",
       "timers-never-circle", where(E.DELETE_CONTENT, with_timer(
           lambda t: {"ready": t.automatic & ~t.resting & (t.fires_at < now)}))),
    _M("access-ends-after-the-date", "Access ends after its date, not on it (`>=` became `>`).",
       "timers-never-circle", where(E.REVOKE_ACCESS, with_timer(
           lambda t: {"ready": t.automatic & ~t.resting & (t.fires_at < now)}))),
    _M("deletion-a-day-late", "Deletion is requested a day after its date.",
       "deletion-on-time", where(E.DELETE_CONTENT, with_timer(deadline=account.delete_content_at + policy.purge_lead))),
    _M("purge-without-lead", "The purge is started a lead time after its deadline, not before.",
       "purge-on-time", where(E.PURGE_BACKUPS, with_timer(deadline=account.purge_backups_by + policy.purge_lead))),
    # Destruction
    _M("effect-before-request", "A trial that runs out has its content deleted.",
       "only-cancelled-is-deleted", where(E.EXPIRE_TRIAL, lambda row: replace(
           row, owes=(Owed(Effect.DELETE_CONTENT),)))),
    _M("deletion-while-access", "Content of whoever paid for long goes after 30 days, and access goes on.",
       "no-deletion-while-access", where(E.DELETE_CONTENT, lambda row: replace(
           row, sources=(S.CANCEL_PENDING,), timer=replace(
               timer_of(row), deadline=_CANCELLED_LONG_AGO,
               notice=like(timer_of(row), opens=_CANCELLED_LONG_AGO - policy.deletion_notice)))),
       kind="a yearly plan"),
    _M("purge-before-deletion", "Backups are purged from the account that still has its content.",
       "deletion-before-purge", where(E.PURGE_BACKUPS, lambda row: replace(row, sources=(S.ACCESS_REVOKED,)))),
    _M("purge-a-day-early", "The purge is started a day before its lead time.",
       "deletion-before-purge", where(E.PURGE_BACKUPS, with_timer(
           deadline=account.purge_backups_by - policy.purge_lead - policy.purge_lead))),
    _M("deletion-without-receipt", "Content counts as deleted although no handler has confirmed it.",
       "destroyed-after-request", where(E.DELETE_CONTENT, without_guard(g.erasure_confirmed))),
    _M("purge-without-receipt", "Backups count as purged although no handler has confirmed it.",
       "destroyed-after-request", where(E.PURGE_BACKUPS, without_guard(g.purge_confirmed))),
    _M("requested-again", "A request for deletion does not rest until it is confirmed.",
       "one-live-request", where(E.DELETE_CONTENT, with_timer(
           lambda t: {"resting": t.blocked, "ready": ~t.blocked & (t.fires_at <= now), "next": t.fires_at})),
       kind="an account that the company cancelled"),
    _M("hold-ignored-by-deletion", "A legal hold does not stop the deletion.",
       "no-destruction-under-hold", where(E.DELETE_CONTENT, with_timer(blocked=literal(False)))),
    _M("hold-ignored-by-purge", "A legal hold does not stop the purge.",
       "no-destruction-under-hold", where(E.PURGE_BACKUPS, with_timer(blocked=literal(False)))),
    _M("hold-leaves-requests", "A legal hold does not take back what no handler has claimed.",
       "no-destruction-under-hold", where(E.PLACE_HOLD, forgetting("erasure_requested_at"))),
    _M("hold-not-counted", "A legal hold is noted, and not in force.",
       "no-destruction-under-hold", where(E.PLACE_HOLD, forgetting("legal_holds"))),
    _M("no-wait-after-hold", "Deletion goes on as soon as a legal hold is released.",
       "wait-after-hold", where(E.DELETE_CONTENT, with_timer(
           deadline=account.delete_content_at,
           notice=like(d.DELETION_TIMER, opens=account.delete_content_at - policy.deletion_notice))),
       kind="an account that the company cancelled"),
    _M("release-forgotten", "The release of a legal hold is not noted.",
       "wait-after-hold", where(E.RELEASE_HOLD, forgetting("hold_released_at")),
       kind="an account that the company cancelled"),
    _M("no-purge", "No row leads to purged.",
       "cancelled-ends-in-purged", where(E.PURGE_BACKUPS, lambda row: None)),
    _M("no-revocation", "No row ends access.",
       "cancelled-ends-in-purged", where(E.REVOKE_ACCESS, lambda row: None)),
    _M("purge-keeps-people", "Purging an account leaves its people's data on file.",
       "purged-is-scrubbed", where(E.PURGE_BACKUPS, lambda row: replace(row, scrubs=False))),
    # The way back
    _M("reactivate-too-late", "An account comes back although its deletion was requested.",
       "no-return-after-request", where(E.REACTIVATE, without_guard(g.erasure_not_requested))),
    _M("return-keeps-dates", "An account that came back keeps its deletion date.",
       "return-clears-all", where(E.REACTIVATE, forgetting("delete_content_at"))),
    _M("no-return-without-access", "An account comes back only while there is access.",
       "owner-can-return", where(E.REACTIVATE, without_source(S.ACCESS_REVOKED))),
    _M("return-rows-in-wrong-order", "The rows of the way back are tried in the opposite order.",
       "right-way-back", backwards(E.REACTIVATE)),
    _M("lift-rows-in-wrong-order", "The rows of the end of a suspension are tried in the opposite order.",
       "right-way-back", backwards(E.LIFT_SUSPENSION)),
    _M("no-limit-on-hold", "An expired trial comes back without a payment, however long ago it was.",
       "right-way-back", where(E.REACTIVATE, without_guard(g.held_in_time))),
    _M("limit-reached-too-late", "An unpaid account comes back at the very end of its time (`<` became `<=`).",
       "right-way-back", where(E.REACTIVATE, lambda row: replace(row, guards=(*row.guards[:-1], _UNPAID_TOO_LONG)),
                                bracket=g.paid)),
    # Money and access
    _M("billing-goes-on", "A cancellation does not stop billing.",
       "billing-stops", where(E.CANCEL, without_effect(Effect.STOP_BILLING))),
    _M("termination-is-billed", "A termination does not stop billing.",
       "billing-stops", where(E.TERMINATE, without_effect(Effect.STOP_BILLING))),
    _M("billing-stays-off", "A paid plan that comes back is not billed.",
       "billing-resumes", where(E.REACTIVATE, without_effect(Effect.RESUME_BILLING))),
    _M("silent-cancellation", "Owners are not told that an unused account was cancelled.",
       "cancellation-is-confirmed", where(E.CANCEL_INACTIVE, without_effect(Effect.CONFIRM_CANCELLATION))),
    _M("no-refund-for-new-periods", "Nobody looks at the refund of a period that has just begun.",
       "refund-is-reviewed", where(E.CANCEL, lambda row: replace(row, owes=(
           *d.CANCELLATION_OWES[:2], Owed(Effect.REVIEW_REFUND, d.REFUND_REASONS[0][0]))))),
    _M("late-money-unseen", "Nobody looks at a refund of what is paid after a cancellation.",
       "refund-is-reviewed", where(E.RECORD_PAYMENT, without_effect(Effect.REVIEW_REFUND))),
    _M("access-ends-at-once", "A cancellation ends access at once, whatever is paid.",
       "access-while-paid", where(E.CANCEL, setting(access_ends_at=now))),
    _M("trial-lost", "Who cancels in a trial loses the rest of it.",
       "access-while-paid", where(E.CANCEL, setting(access_ends_at=when(SUSPENDED, now, _PAID_ONLY)))),
    _M("payment-without-access", "A late payment does not lengthen access.",
       "access-while-paid", where(E.RECORD_PAYMENT, forgetting("access_ends_at"), source=S.CANCEL_PENDING)),
    _M("suspended-access", "Who cancels while suspended has access again.",
       "access-ends", where(E.CANCEL, setting(access_ends_at=_ALWAYS))),
    _M("termination-keeps-access", "The termination of a cancelled account leaves its access.",
       "access-ends", where(E.TERMINATE, forgetting("access_ends_at"), source=S.CANCEL_PENDING)),
    _M("trial-cut-short", "A trial ends when its reminder is due.",
       "trial-lasts", where(E.EXPIRE_TRIAL, with_timer(deadline=account.trial_ends_at - policy.trial_reminder))),
    _M("frozen-though-paid", "An account is frozen on a stale message of billing.",
       "not-frozen-while-paid", where(E.FREEZE, without_guard(g.period_over))),
    _M("renewal-shortens", "A renewal may move the end of the paid period back.",
       "period-by-those-who-know", where(E.RENEW, without_guard(g.period_forward))),
    _M("anyone-states-periods", "An admin states what is paid without a reason.",
       "period-by-those-who-know", where(E.UPGRADE, without_guard(g.period_from_billing))),
    _M("upgrade-not-on-file", "Who upgrades stays on the trial's plan.",
       "file-is-true", where(E.UPGRADE, forgetting("plan"))),
    _M("payment-undated", "A renewal does not note when the period began.",
       "file-is-true", where(E.RENEW, forgetting("period_began_at"))),
    _M("deletion-undated", "Content is deleted, and nothing says when.",
       "file-is-true", where(E.DELETE_CONTENT, forgetting("content_deleted_at"))),
    # Who
    _M("billing-cancels", "Billing cancels accounts.",
       "only-owners-cancel", where(E.CANCEL, with_role(Role.BILLING))),
    _M("support-for-anybody", "Support cancels without naming an owner on file.",
       "only-owners-cancel", where(E.CANCEL, without_guard(g.requester_is_owner))),
    _M("new-owners-cancel", "An owner who was added a moment ago cancels alone.",
       "only-owners-cancel", where(E.CANCEL, without_guard(g.owner_decides))),
    _M("hold-counts-from-trial-end", "The company's time counts from the end of the trial, not from the hold.",
       "company-by-its-clauses", where(E.CANCEL_EXPIRED_TRIAL, with_timer(
           deadline=_COMPANY_LATE,
           notice=like(d.EXPIRED_TRIAL_TIMER, opens=_COMPANY_LATE - policy.company_notice))),
       kind="a new trial"),
    _M("suspended-for-unpaid", "The clause for unpaid bills takes suspended accounts, too.",
       "company-by-its-clauses", where(E.CANCEL_UNPAID, lambda row: replace(row, bracket=None))),
    _M("activity-ignored", "A free account is cancelled however much it is used.",
       "company-by-its-clauses", where(E.CANCEL_INACTIVE, lambda row: replace(row, timer=d.company_timer(
           account.free_since, policy.inactive_cancellation_after)))),
    _M("approval-ignored", "The company's cancellations fire although an admin must approve them.",
       "company-by-its-clauses", where(E.CANCEL_EXPIRED_TRIAL, with_timer(automatic=literal(True))),
       {"company_cancellation": "approval"}),
    _M("terminated-returns", "An owner undoes a termination.",
       "return-by-those-entitled", where(E.REACTIVATE, without_guard(g.not_terminated)),
       kind="a new monthly plan"),
    _M("support-suspends", "Support suspends accounts.",
       "only-the-permitted", where(E.SUSPEND, with_role(Role.SUPPORT))),
    _M("termination-without-reason", "A termination needs no reason.",
       "only-the-permitted", where(E.TERMINATE, without_guard(g.reason_given))),
    _M("owners-changed-without-reason", "An admin adds an owner without a reason.",
       "only-the-permitted", where(E.ADD_OWNER, without_guard(g.reason_given))),
    _M("support-cannot-cancel", "Support can't cancel for an owner.",
       "permitted-are-heard", where(E.CANCEL, without_role(Role.SUPPORT))),
    _M("approval-impossible", "No admin can approve a cancellation for unpaid bills.",
       "permitted-are-heard", where(E.CANCEL_UNPAID, without_role(Role.ADMIN)),
       {"company_cancellation": "approval"}),
    _M("no-refund-without-access", "A refund can't be recorded once access is over.",
       "permitted-are-heard", where(E.RECORD_REFUND, without_source(S.ACCESS_REVOKED))),
    _M("no-freezing", "No row freezes who does not pay.",
       "permitted-are-heard", where(E.FREEZE, lambda row: None)),
    _M("renewal-of-free-plans", "A free account is renewed.",
       "nothing-out-of-place", where(E.RENEW, lambda row: replace(row, bracket=None))),
    _M("payment-of-nothing", "A payment is recorded that states no period.",
       "nothing-out-of-place", where(E.RECORD_PAYMENT, without_guard(g.period_forward))),
    _M("unused-lose-access", "An unused account skips the state in which access lasts.",
       "events-lead-where-they-should", where(E.CANCEL_INACTIVE, lambda row: replace(row, dest=S.ACCESS_REVOKED)),
       kind="a free account, long unused"),
    _M("owners-terminate", "An owner with a reason terminates.",
       "only-the-permitted", where(E.TERMINATE, with_role(Role.OWNER))),
    _M("period-that-is-over", "An account comes back with a paid period that is over.",
       "nothing-out-of-place", where(E.REACTIVATE, without_guard(g.period_not_past))),
    _M("same-owner-twice", "An owner who is on file already is added once more.",
       "nothing-out-of-place", where(E.ADD_OWNER, without_guard(g.owner_is_new))),
    _M("owners-by-strangers", "An admin changes owners in a stranger's name.",
       "only-the-permitted", where(E.REMOVE_OWNER, without_guard(g.owner_if_named))),
    _M("silent-new-owner", "Nobody is told that an owner was added.",
       "owners-are-written-to", where(E.ADD_OWNER, without_effect(Effect.TELL_OWNER_CHANGE))),
    _M("no-cancelling-on-hold", "Who is on hold can't cancel.",
       "owner-can-cancel", where(E.CANCEL, without_source(S.ON_HOLD))),
    _M("no-upgrade-on-hold", "Who is on hold can't upgrade.",
       "payment-upgrades", where(E.UPGRADE, without_source(S.ON_HOLD))),
    _M("billing-cannot-thaw", "A payment does not thaw an unpaid account.",
       "payment-thaws", where(E.THAW, lambda row: replace(row, by=(Permission(Role.ADMIN),)))),
    _M("frozen-not-terminated", "A frozen account can't be terminated.",
       "company-can-act", where(E.TERMINATE, without_source(S.FROZEN))),
    # Clocks, notices and order
    _M("looks-too-late", "The next look at a trial comes a week after its end.",
       "due-in-time", where(E.EXPIRE_TRIAL, with_timer(lambda t: {"next": t.deadline + policy.trial_reminder}))),
    _M("never-looks-again", "Nobody looks at an account on hold again.",
       "nothing-is-forgotten", where(E.CANCEL_EXPIRED_TRIAL, with_timer(lambda t: {"next": literal(None)}))),
    _M("two-ways", "Freezing leads to two states, and nothing says which is tried first.",
       "rows-do-not-conflict", adding(Transition(
           event=E.FREEZE, sources=(S.ACTIVE,), dest=S.ON_HOLD, by=(Permission(Role.BILLING),), clauses=(),
           guards=(g.period_over,)))),
    _M("cancelling-ends-suspension", "Who cancels and comes back is not suspended any more.",
       "suspension-ends-by-admin", where(E.CANCEL, setting(suspended_from=literal(None)))),
    _M("payment-ends-suspension", "A payment thaws suspended accounts.",
       "suspension-ends-by-admin", where(E.THAW, lambda row: replace(row, bracket=None))),
    _M("suspension-restarts-hold", "A suspension starts the hold anew.",
       "clocks-never-restart", where(E.LIFT_SUSPENSION, setting(held_at=now), bracket=g.from_hold)),
    _M("return-restarts-freeze", "Cancelling and coming back starts the time for unpaid bills anew.",
       "clocks-never-restart", where(E.REACTIVATE, setting(frozen_at=now), bracket=g.paid)),
    _M("hold-backdated", "After an outage the hold counts from when it should have begun.",
       "clocks-never-restart", where(E.EXPIRE_TRIAL, setting(held_at=default(account.held_at, account.trial_ends_at)))),
    _M("notice-too-short", "The company cancels a day after its reminder was delivered.",
       "notice-before-company-cancels", where(E.CANCEL_EXPIRED_TRIAL, with_notice(lead=policy.purge_lead)),
       kind="a trial on hold"),
    _M("notice-not-awaited", "The company cancels although its reminder was not delivered.",
       "notice-before-company-cancels", where(E.CANCEL_UNPAID, with_notice(binding=False))),
    _M("notice-of-another-clock", "A notice counts although the customer was active after it.",
       "notice-before-company-cancels", where(E.CANCEL_INACTIVE, counts_when(~missing(account.reminded_at))),
       kind="a free account, long unused"),
    _M("return-keeps-notice", "Who comes back keeps the notice of the deletion, and it counts as the company's.",
       "notice-before-company-cancels", where(E.REACTIVATE, forgetting(*dict(d.VOID_NOTICE))),
       kind="an unpaid account"),
    _M("notice-not-voided", "Lifting a suspension or setting one keeps the notice from before.",
       "notice-before-company-cancels", lambda rows: where(E.LIFT_SUSPENSION, forgetting(*dict(d.VOID_NOTICE)))(
           where(E.SUSPEND, forgetting(*dict(d.VOID_NOTICE)))(rows)),
       kind="a trial on hold"),
    _M("deletion-notice-too-short", "Content goes a day after the reminder was delivered.",
       "notice-before-deletion", where(E.DELETE_CONTENT, with_notice(lead=policy.purge_lead)),
       kind="an account that the company cancelled"),
    _M("access-reminder-always-counts", "The reminder before access ended counts however long ago it was.",
       "notice-before-deletion", where(E.DELETE_CONTENT, with_notice(
           opens=account.access_ends_at - policy.access_reminder))),
    _M("no-trial-reminder", "Trials end without a reminder.",
       "customers-are-reminded", where(E.EXPIRE_TRIAL, with_timer(notice=None))),
    _M("trial-reminder-too-early", "The reminder of the trial's end comes a day early.",
       "customers-are-reminded", where(E.EXPIRE_TRIAL, with_notice(
           opens=account.trial_ends_at - policy.trial_reminder - policy.purge_lead))),
    _M("trial-reminder-too-late", "The reminder of the trial's end comes a day late.",
       "due-in-time", where(E.EXPIRE_TRIAL, with_notice(
           opens=account.trial_ends_at - policy.trial_reminder + policy.purge_lead))),
    _M("suspension-keeps-reminder", "A suspended account keeps the number of an old reminder.",
       "old-notices-are-void", where(E.SUSPEND, forgetting("reminder"))),
    _M("access-notice-too-short", "The reminder before access ends holds the deletion for a day only.",
       "notices-last-in-full", where(E.REVOKE_ACCESS, with_notice(lead=policy.purge_lead))),
    _M("reminder-without-notice", "A late reminder names the deadline, and not the end of its notice.",
       "reminders-name-the-date", where(E.CANCEL_UNPAID, with_timer(lambda t: {"promised": t.deadline}))),
    _M("no-access-reminder", "Access ends without a reminder.",
       "customers-are-reminded", where(E.REVOKE_ACCESS, with_timer(notice=None)),
       kind="a yearly plan"),
)
# fmt: on
