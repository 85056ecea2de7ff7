"""What can happen to an account where it is, by the policy: written by hand, so that a missing or a wrong row shows."""

from collections.abc import Callable
from datetime import datetime

from lifecycle.actor import Request
from lifecycle.policy import Policy
from lifecycle.states import LIVE, Event, Plan, State
from lifecycle.verify.expected import way_back
from lifecycle.verify.facts import Facts, company_deadline, company_event
from lifecycle.verify.world import Subject

E, S = Event, State
_LEAVING = (S.CANCEL_PENDING, S.ACCESS_REVOKED)
_KEPT = tuple(state for state in S if state is not S.PURGED)
#: The states in which the policy has each event that somebody asks for.
WHERE: dict[Event, tuple[State, ...]] = {
    E.UPGRADE: (S.TRIAL, S.ON_HOLD, S.ACTIVE),
    E.DOWNGRADE: (S.TRIAL, S.ACTIVE),
    **dict.fromkeys((E.RENEW, E.FREEZE, E.CANCEL_INACTIVE), (S.ACTIVE,)),
    **dict.fromkeys((E.THAW, E.LIFT_SUSPENSION, E.CANCEL_UNPAID), (S.FROZEN,)),
    E.CANCEL_EXPIRED_TRIAL: (S.ON_HOLD,),
    **dict.fromkeys((E.SUSPEND, E.TERMINATE), (*LIVE, *_LEAVING)),
    E.RECORD_PAYMENT: (S.FROZEN, *_LEAVING),
    **dict.fromkeys((E.RECORD_REFUND, E.REACTIVATE), _LEAVING),
    **dict.fromkeys((E.CANCEL, E.REQUEST_CANCELLATION), LIVE),
    **dict.fromkeys((E.PLACE_HOLD, E.RELEASE_HOLD, E.CONTACT_OWNERS, E.ADD_OWNER, E.REMOVE_OWNER), _KEPT),
}


#: The state that an event leads to, where it leads away; two have an order of their own (``way_back``, ``way_up``).
_LEADS_TO: dict[Event, State] = {
    E.EXPIRE_TRIAL: S.ON_HOLD,
    **dict.fromkeys((E.UPGRADE, E.DOWNGRADE, E.THAW), S.ACTIVE),
    E.FREEZE: S.FROZEN,
    **dict.fromkeys((E.CANCEL, E.CANCEL_EXPIRED_TRIAL, E.CANCEL_UNPAID, E.CANCEL_INACTIVE), S.CANCEL_PENDING),
    **dict.fromkeys((E.TERMINATE, E.REVOKE_ACCESS), S.ACCESS_REVOKED),
    E.DELETE_CONTENT: S.CONTENT_DELETED,
    E.PURGE_BACKUPS: S.PURGED,
}


def leads_to(event: Event, state: State) -> State:
    """Where the event takes an account in this state; it stays where it is if nothing is said."""
    if event is E.SUSPEND:
        return S.ACCESS_REVOKED if state in _LEAVING else S.FROZEN
    return _LEADS_TO.get(event, state)


def can_happen(event: Event, subject: Subject, facts: Facts, now: datetime, asked: Request, values: Policy) -> bool:
    """Whether the event can happen to the account now, if it is asked for by one who may."""
    if event not in WHERE or subject.state not in WHERE[event]:
        return False
    if event in (E.CANCEL_EXPIRED_TRIAL, E.CANCEL_UNPAID, E.CANCEL_INACTIVE):
        return _company_may_cancel(event, subject, facts, now, values)
    if event is E.REACTIVATE:
        back = way_back(subject, facts, now, values, asked.period_ends_at)
        return facts.erasure_asked is None and back is not None and _states_no_less(facts, now, asked)
    condition = _CONDITIONS.get(event)
    return condition is None or condition(subject, facts, now, asked)


def _company_may_cancel(event: Event, subject: Subject, facts: Facts, now: datetime, values: Policy) -> bool:
    deadline, reminder = company_deadline(event, facts, values), facts.reminder
    if company_event(subject, facts) is not event or deadline is None or reminder is None:
        return False
    if reminder.event is not event or reminder.asked < deadline - values.company_notice or reminder.delivered is None:
        return False
    return now >= max(deadline, reminder.delivered + values.company_notice)


def _states_no_less(facts: Facts, now: datetime, asked: Request) -> bool:
    """The request states no period, or one that runs and is not shorter than what is paid."""
    brought, paid = asked.period_ends_at, facts.paid_through
    return brought is None or (brought > now and (paid is None or brought >= paid))


def _pays(facts: Facts, now: datetime, asked: Request) -> bool:
    return asked.period_ends_at is not None and _states_no_less(facts, now, asked)


def _lengthens(facts: Facts, asked: Request) -> bool:
    brought, paid = asked.period_ends_at, facts.paid_through
    return brought is not None and (paid is None or brought > paid)


def _on_paid_plan(subject: Subject) -> bool:
    return subject.state is S.ACTIVE and subject.plan is Plan.PAID


def _over(facts: Facts, now: datetime) -> bool:
    return facts.paid_through is not None and facts.paid_through <= now


def _thaws(facts: Facts, now: datetime, asked: Request) -> bool:
    if asked.period_ends_at is None:
        return facts.paid_through is not None and facts.paid_through > now
    return _pays(facts, now, asked)


_Condition = Callable[[Subject, Facts, datetime, Request], bool]
_CONDITIONS: dict[Event, _Condition] = {
    E.UPGRADE: lambda s, f, now, asked: _pays(f, now, asked) and not _on_paid_plan(s),
    E.DOWNGRADE: lambda s, f, now, asked: s.state is S.TRIAL or _on_paid_plan(s),
    E.RENEW: lambda s, f, now, asked: _on_paid_plan(s) and _lengthens(f, asked),
    E.FREEZE: lambda s, f, now, asked: _on_paid_plan(s) and _over(f, now),
    E.THAW: lambda s, f, now, asked: f.suspended_from is None and _thaws(f, now, asked),
    E.SUSPEND: lambda s, f, now, asked: s.state is not S.FROZEN or f.suspended_from is None,
    E.LIFT_SUSPENSION: lambda s, f, now, asked: f.suspended_from is not None,
    E.RECORD_PAYMENT: lambda s, f, now, asked: (
        _lengthens(f, asked) and (s.state is not S.FROZEN or f.suspended_from is not None)
    ),
    E.ADD_OWNER: lambda s, f, now, asked: asked.owner not in s.owners,
    E.REMOVE_OWNER: lambda s, f, now, asked: asked.owner in s.owners and len(s.owners) > 1,
    E.RELEASE_HOLD: lambda s, f, now, asked: f.holds > 0,
}
