"""Who may ask for what, by the policy: written by hand, so that a wrong permission of the definition shows."""

from datetime import datetime

from lifecycle.actor import Request, Role
from lifecycle.policy import CompanyCancellation, Policy
from lifecycle.states import Event, Party
from lifecycle.verify.facts import Facts
from lifecycle.verify.world import Asker

E, R = Event, Role
_WITH_REASON = (E.SUSPEND, E.LIFT_SUSPENSION, E.TERMINATE, E.PLACE_HOLD, E.RELEASE_HOLD, E.CONTACT_OWNERS)
#: Roles that may on their own account.
_ALONE: dict[Event, tuple[Role, ...]] = {
    **dict.fromkeys((E.UPGRADE, E.THAW), (R.BILLING, R.ADMIN)),
    **dict.fromkeys((E.RENEW, E.FREEZE, E.RECORD_PAYMENT, E.RECORD_REFUND, E.DOWNGRADE), (R.BILLING,)),
    **dict.fromkeys((E.SUSPEND, E.LIFT_SUSPENSION, E.TERMINATE, E.PLACE_HOLD), (R.ADMIN,)),
    E.RELEASE_HOLD: (R.ADMIN, R.SYSTEM),
    E.CONTACT_OWNERS: (R.SUPPORT, R.ADMIN, R.SYSTEM),
    **dict.fromkeys((E.EXPIRE_TRIAL, E.REVOKE_ACCESS, E.DELETE_CONTENT, E.PURGE_BACKUPS), (R.SYSTEM,)),
}
#: Roles that may for an owner on file.
_FOR_OWNER: dict[Event, tuple[Role, ...]] = {
    E.DOWNGRADE: (R.OWNER, R.SUPPORT),
    **dict.fromkeys((E.CANCEL, E.REACTIVATE, E.ADD_OWNER, E.REMOVE_OWNER), (R.OWNER, R.SUPPORT, R.ADMIN)),
    E.REQUEST_CANCELLATION: (R.SYSTEM,),
}
_NOT_BY_NEW_OWNERS = (E.CANCEL, E.ADD_OWNER, E.REMOVE_OWNER)
_COMPANY = (E.CANCEL_EXPIRED_TRIAL, E.CANCEL_UNPAID, E.CANCEL_INACTIVE)
#: Events whose permission has no promise of its own.
OTHERS = tuple(e for e in E if e not in (*_COMPANY, E.CANCEL, E.REQUEST_CANCELLATION, E.REACTIVATE))


def states_period(asker: Asker) -> bool:
    """Whether one may state until when is paid."""
    return asker.role is R.BILLING or (asker.role is R.ADMIN and asker.reason is not None)


def may(event: Event, asker: Asker, asked: Request, facts: Facts, now: datetime, values: Policy) -> bool:
    """Whether the policy lets this asker have the event, if the account is where it can happen at all."""
    if event in _COMPANY:
        approval = values.company_cancellation is CompanyCancellation.APPROVAL
        return asker.role is (R.ADMIN if approval else R.SYSTEM)
    if event in _NOT_BY_NEW_OWNERS and not asker.decides:
        return False
    if event is E.CANCEL and asker.role is R.SUPPORT and values.cancellation_requires_confirmation:
        return False
    if event in _WITH_REASON and asker.reason is None:
        return False
    if asked.period_ends_at is not None and not states_period(asker):
        return False
    if event is E.REACTIVATE:
        return _may_bring_back(asker, asked, facts)
    if event in (E.ADD_OWNER, E.REMOVE_OWNER) and asker.role is R.ADMIN:
        return asker.reason is not None and (asker.stands_for is None or asker.for_owner)
    alone = asker.role in _ALONE.get(event, ())
    return alone or (asker.role in _FOR_OWNER.get(event, ()) and asker.for_owner)


def _may_bring_back(asker: Asker, asked: Request, facts: Facts) -> bool:
    """Owners and those who act for them, billing with a payment; after a termination only an admin."""
    if asker.role is R.ADMIN:
        by_company = facts.cancelled_by is Party.COMPANY or facts.terminated
        return by_company or asker.for_owner
    if facts.terminated:
        return False
    if asker.role is R.BILLING:
        return asked.period_ends_at is not None
    return asker.role in _FOR_OWNER[E.REACTIVATE] and asker.for_owner
