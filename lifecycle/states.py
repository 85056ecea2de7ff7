"""The words of the lifecycle: states, events, effects, plans, and what an account and a request hold."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from lifecycle.policy import WordedEnum
from lifecycle.terms import Scope, Term, holds, missing, now


class State(WordedEnum):
    """Where an account is; exactly one of eight. ``text`` says it to a customer."""

    TRIAL = "trial", "trying the product"
    ON_HOLD = "on_hold", "trial ran out, data kept"
    ACTIVE = "active", "in use, free or paid"
    FROZEN = "frozen", "unpaid or suspended, data kept"
    CANCEL_PENDING = "cancel_pending", "cancelled, access until the paid period ends"
    ACCESS_REVOKED = "access_revoked", "no access, content awaits deletion"
    CONTENT_DELETED = "content_deleted", "content gone, backups remain"
    PURGED = "purged", "nothing left"


#: States that an account reaches only by a cancellation; each holds the stamped dates.
CANCELLED = (State.CANCEL_PENDING, State.ACCESS_REVOKED, State.CONTENT_DELETED, State.PURGED)
LIVE = tuple(state for state in State if state not in CANCELLED)
#: States that claim that content is gone.
DESTROYED = (State.CONTENT_DELETED, State.PURGED)
FINAL = State.PURGED


class Event(WordedEnum):
    """A named request to change an account; ``text`` says what happens when it is carried out."""

    EXPIRE_TRIAL = "expire_trial", "The trial is over, and the account is put on hold"
    UPGRADE = "upgrade", "A paid plan begins"
    DOWNGRADE = "downgrade", "The free plan begins"
    RENEW = "renew", "The paid plan is renewed"
    FREEZE = "freeze", "The account is frozen, since nothing was paid"
    THAW = "thaw", "The account is in use again, since it was paid"
    SUSPEND = "suspend", "The company suspends the account"
    LIFT_SUSPENSION = "lift_suspension", "The suspension is lifted"
    RECORD_PAYMENT = "record_payment", "A payment comes in"
    RECORD_REFUND = "record_refund", "The paid period is refunded"
    CANCEL = "cancel", "The account is cancelled"
    CANCEL_EXPIRED_TRIAL = "cancel_expired_trial", "The company cancels the account, whose trial ran out"
    CANCEL_UNPAID = "cancel_unpaid", "The company cancels the account, which stayed unpaid"
    CANCEL_INACTIVE = "cancel_inactive", "The company cancels the account, which nobody used"
    REVOKE_ACCESS = "revoke_access", "Access ends"
    TERMINATE = "terminate", "The company terminates the account"
    REACTIVATE = "reactivate", "The account comes back"
    DELETE_CONTENT = "delete_content", "Content is deleted from the servers"
    PURGE_BACKUPS = "purge_backups", "Content is gone from the backups, and nothing is left"
    PLACE_HOLD = "place_hold", "A legal hold begins"
    RELEASE_HOLD = "release_hold", "The legal hold ends"
    CONTACT_OWNERS = "contact_owners", "The owners on file are contacted"
    REQUEST_CANCELLATION = "request_cancellation", "The owner is asked to confirm a cancellation"
    ADD_OWNER = "add_owner", "An owner is added"
    REMOVE_OWNER = "remove_owner", "An owner is removed"


#: Events that change who may have the account cancelled.
OWNERS_CHANGE = (Event.ADD_OWNER, Event.REMOVE_OWNER)


class Opening(StrEnum):
    """How an account came into being."""

    OPEN_ACCOUNT = "open_account"
    IMPORT_ACCOUNT = "import_account"


class Step(StrEnum):
    """What one entry of the history records about its event."""

    OPEN = "open"  # the account came into being, or was imported
    FIRE = "fire"  # the event happened
    REMIND = "remind"  # its reminder was requested
    NOTICE = "notice"  # its reminder was delivered, or given up
    REQUEST = "request"  # the outside world was asked to do it
    VOID = "void"  # its notice was voided by a change of policy, or its request taken back at the last moment


class Effect(WordedEnum):
    """Something owed to the outside world; ``text`` says what then happens."""

    REMIND_TRIAL_END = "remind_trial_end", "the owners are told that the trial ends"
    REMIND_COMPANY_CANCELLATION = "remind_company_cancellation", "the owners are told that the company will cancel"
    REMIND_ACCESS_END = "remind_access_end", "the owners are told that access ends"
    REMIND_DELETION = "remind_deletion", "the owners are told that content will be deleted"
    CONFIRM_CANCELLATION = "confirm_cancellation", "the cancellation and its dates are confirmed to the owners"
    STOP_BILLING = "stop_billing", "billing stops"
    RESUME_BILLING = "resume_billing", "billing resumes"
    REVIEW_REFUND = "review_refund", "people look at a refund"
    CONTACT_OWNERS = "contact_owners", "the owners on file are contacted"
    VERIFY_OWNER = "verify_owner", "the owner is asked to confirm the cancellation"
    TELL_OWNER_CHANGE = "tell_owner_change", "the owners are told who is an owner now"
    DELETE_CONTENT = "delete_content", "the content is deleted from the servers"
    PURGE_BACKUPS = "purge_backups", "the content is deleted from the backups"


#: Effects that destroy: only a handler with a receipt confirms them.
DESTRUCTIVE = (Effect.DELETE_CONTENT, Effect.PURGE_BACKUPS)


#: Effects that tell the owners something.
NOTICES = (
    Effect.REMIND_TRIAL_END,
    Effect.REMIND_COMPANY_CANCELLATION,
    Effect.REMIND_ACCESS_END,
    Effect.REMIND_DELETION,
    Effect.CONFIRM_CANCELLATION,
    Effect.CONTACT_OWNERS,
    Effect.VERIFY_OWNER,
    Effect.TELL_OWNER_CHANGE,
)


class Plan(StrEnum):
    """What the customer pays for."""

    TRIAL = "trial"
    FREE = "free"
    PAID = "paid"


class Party(StrEnum):
    """By whom an account was cancelled."""

    OWNER = "owner"
    COMPANY = "company"


#: The columns of an account that the definition reads or writes, each with its words.
account = Scope(
    "account",
    {
        "state": "the state",
        "plan": "the plan",
        "version": "the version",
        "opened_at": "the opening",
        "trial_ends_at": "the end of the trial",
        "period_began_at": "the start of the paid period",
        "period_ends_at": "the end of the paid period",
        "held_at": "the start of the hold",
        "frozen_at": "the freeze",
        "suspended_from": "the state before the suspension",
        "free_since": "the start of the free plan",
        "last_active_at": "the last activity",
        "cancelled_at": "the cancellation",
        "cancelled_by": "who cancelled",
        "cancelled_from": "the state before the cancellation",
        "terminated_at": "the termination",
        "access_ends_at": "the end of access",
        "delete_content_at": "the deletion date",
        "purge_backups_by": "the purge deadline",
        "reminder": "the number of the reminder's history entry",
        "reminded_at": "the reminder",
        "not_before": "the earliest date that the notice promised",
        "erasure_requested_at": "the request for erasure",
        "content_deleted_at": "the deletion",
        "purge_requested_at": "the request for the purge",
        "purged_at": "the purge",
        "legal_holds": "the legal holds in force",
        "hold_released_at": "the release of the last legal hold",
        "due_at": "what comes next",
    },
)

#: The facts that a request may bring; the last three are for the engine alone to state. ``unclaimed``: a destructive
#: request that no handler has claimed yet exists and can be withdrawn.
request = Scope(
    "request",
    {
        "role": "the requester's role",
        "reason": "a reason",
        "company": "the company's name",
        "email": "the owner's e-mail address",
        "period_ends_at": "the end of the period that is paid",
        "case": "the case of the legal hold",
        "hold_ends_at": "the end of the legal hold",
        "owner": "the e-mail address of the owner to add or remove",
        "receipt": "the handler's receipt",
        "unclaimed": "an unclaimed destructive request",
        "confirmed_by": "the owner who confirmed",
    },
)

#: A frozen account that remembers where it came from is suspended; one that does not is unpaid. The
#: memory outlives a cancellation, so that a detour can't end a suspension.
SUSPENDED = ~missing(account.suspended_from)
UNDER_LEGAL_HOLD = ~(account.legal_holds == 0)
ACCESS_OVER = account.access_ends_at <= now


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What the customer has; ``content`` and ``backups`` say whether they still exist."""

    sign_in: bool
    use: bool
    export: bool
    billed: bool
    content: bool = True
    backups: bool = True


#: What each state grants; :data:`REFINED` has the cases in which an account has less.
ENTITLEMENTS = {
    #                                   sign in  use    export billed content backups
    State.TRIAL: Entitlements(True, True, True, False),
    State.ON_HOLD: Entitlements(True, False, True, False),
    State.ACTIVE: Entitlements(True, True, True, True),
    State.FROZEN: Entitlements(True, False, True, False),
    State.CANCEL_PENDING: Entitlements(True, True, True, False),
    State.ACCESS_REVOKED: Entitlements(False, False, False, False),
    State.CONTENT_DELETED: Entitlements(False, False, False, False, False, True),
    State.PURGED: Entitlements(False, False, False, False, False, False),
}

#: The state, the case, its words, and what is granted then. Access is over from ``access_ends_at`` on, whether or not a
#: sweep has come by.
REFINED: tuple[tuple[State, Term, str, Entitlements], ...] = (
    (State.CANCEL_PENDING, ACCESS_OVER, "access is over", ENTITLEMENTS[State.ACCESS_REVOKED]),
    (State.FROZEN, SUSPENDED, "suspended", ENTITLEMENTS[State.ACCESS_REVOKED]),
    (State.ACTIVE, ~(account.plan == Plan.PAID), "on the free plan", replace(ENTITLEMENTS[State.ACTIVE], billed=False)),
)


def entitlements(subject: Any, instant: datetime) -> Entitlements:
    """What ``subject`` (an account) grants at ``instant``; section 4 of the policy decisions."""
    sources = {"account": subject, "now": instant}
    for state, case, _, granted in REFINED:
        if subject.state is state and holds(case, sources):
            return granted
    return ENTITLEMENTS[subject.state]
