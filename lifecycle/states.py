"""The words of the lifecycle: states, events, effects, plans, and what an account and a request hold."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from lifecycle.policy import WordedEnum
from lifecycle.terms import Scope, holds, missing, now


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


class Event(StrEnum):
    """A named request to change an account."""

    EXPIRE_TRIAL = "expire_trial"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    RENEW = "renew"
    FREEZE = "freeze"
    THAW = "thaw"
    SUSPEND = "suspend"
    LIFT_SUSPENSION = "lift_suspension"
    RECORD_PAYMENT = "record_payment"
    RECORD_REFUND = "record_refund"
    CANCEL = "cancel"
    CANCEL_EXPIRED_TRIAL = "cancel_expired_trial"
    CANCEL_UNPAID = "cancel_unpaid"
    CANCEL_INACTIVE = "cancel_inactive"
    REVOKE_ACCESS = "revoke_access"
    TERMINATE = "terminate"
    REACTIVATE = "reactivate"
    DELETE_CONTENT = "delete_content"
    PURGE_BACKUPS = "purge_backups"
    PLACE_HOLD = "place_hold"
    RELEASE_HOLD = "release_hold"
    CONTACT_OWNERS = "contact_owners"
    REQUEST_CANCELLATION = "request_cancellation"
    ADD_OWNER = "add_owner"
    REMOVE_OWNER = "remove_owner"


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


class Effect(StrEnum):
    """Something owed to the outside world."""

    REMIND_TRIAL_END = "remind_trial_end"
    REMIND_COMPANY_CANCELLATION = "remind_company_cancellation"
    REMIND_ACCESS_END = "remind_access_end"
    REMIND_DELETION = "remind_deletion"
    CONFIRM_CANCELLATION = "confirm_cancellation"
    STOP_BILLING = "stop_billing"
    RESUME_BILLING = "resume_billing"
    REVIEW_REFUND = "review_refund"
    CONTACT_OWNERS = "contact_owners"
    VERIFY_OWNER = "verify_owner"
    TELL_OWNER_CHANGE = "tell_owner_change"
    DELETE_CONTENT = "delete_content"
    PURGE_BACKUPS = "purge_backups"


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


#: What each state grants. Three cases of :func:`entitlements` refine it.
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


def entitlements(subject: Any, instant: datetime) -> Entitlements:
    """What ``subject`` (an account) grants at ``instant``; section 4 of the policy decisions.

    Access is over from ``access_ends_at`` on, whether or not a sweep has come by.
    """
    sources = {"account": subject, "now": instant}
    granted = ENTITLEMENTS[subject.state]
    if subject.state is State.CANCEL_PENDING and holds(ACCESS_OVER, sources):
        return ENTITLEMENTS[State.ACCESS_REVOKED]
    if subject.state is State.FROZEN and holds(SUSPENDED, sources):
        return ENTITLEMENTS[State.ACCESS_REVOKED]
    if subject.state is State.ACTIVE:
        return replace(granted, billed=subject.plan is Plan.PAID)
    return granted
