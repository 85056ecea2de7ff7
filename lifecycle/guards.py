"""Guards: the named yes/no questions of the definition, each with the sentence that refuses.

A guard's test is a term, or, where a request is read in ways that SQL need not know, a function of
``sources`` (account, request, policy, now) that returns a bool.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lifecycle.actor import Role
from lifecycle.errors import DefinitionError
from lifecycle.inputs import email_key
from lifecycle.policy import CompanyCancellation
from lifecycle.states import SUSPENDED, Party, Plan, State, account, request
from lifecycle.terms import Term, holds, missing, now, policy

Sources = Mapping[str, Any]
#: Every owner is written to: a bound, so that nobody floods through an account.
MOST_OWNERS = 100


@dataclass(frozen=True, eq=False)
class Guard:
    """A condition with a name (for diagrams) and a sentence (for the refusal).

    ``reads`` names the request's facts that a function looks at; a term tells by itself.
    """

    name: str
    test: Term | Callable[[Sources], bool]
    sentence: str
    reads: tuple[str, ...] = ()

    @property
    def term(self) -> Term:
        """The test as a term; a function, which SQL can't read, raises :class:`DefinitionError`."""
        if not isinstance(self.test, Term):
            raise DefinitionError(f"Guard {self.name} is a function; a timer needs a term.")
        return self.test

    def __call__(self, sources: Sources) -> bool:
        """Whether the guard holds; an answer that is not a bool raises :class:`DefinitionError`."""
        if isinstance(self.test, Term):
            return holds(self.test, sources)
        answer = self.test(sources)
        if type(answer) is not bool:
            raise DefinitionError(f"Guard {self.name} must return a bool, not {answer!r}.")
        return answer

    def facts(self) -> frozenset[str]:
        """The facts of the request that the guard reads."""
        return frozenset(self.reads) | (facts_of(self.test) if isinstance(self.test, Term) else frozenset())


def facts_of(term: Term) -> frozenset[str]:
    """The request's facts that a term reads."""
    return frozenset(t.args[1] for t in term.walk() if t.op == "field" and t.args[0] == "request")


def normal(text: str | None) -> str:
    """A name as it is compared: without regard to case, to how letters are composed, and to how wide spaces are."""
    words = " ".join((text or "").split())
    if words.isascii():
        return words.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", words).casefold())


def _is_owner(sources: Sources) -> bool:
    """Company and e-mail match an owner on file; one who signed in as owner needs no company."""
    subject, asked = sources["account"], sources["request"]
    signed_in = asked.actor.id if asked.role is Role.OWNER else None
    if signed_in and asked.email and email_key(signed_in) != email_key(asked.email):
        return False
    if asked.company is None and signed_in is None:
        return False
    if asked.company is not None and normal(asked.company) != normal(subject.company):
        return False
    named = signed_in or asked.email
    return named is not None and email_key(named) in {email_key(email) for email in subject.owners}


def _named(sources: Sources) -> Any:
    """The owner on file in whose name the request is made, or None."""
    asked = sources["request"]
    return on_file(sources["account"], asked.actor.id if asked.role is Role.OWNER else asked.email)


def on_file(subject: Any, email: str | None) -> Any:
    """The person on file with this address (:class:`lifecycle.personal.Person`), or None."""
    if not email:
        return None  # nobody's data need be opened for that
    key = email_key(email)
    return next((person for person in subject.people if email_key(person.email) == key), None)


def settled(person: Any, sources: Sources) -> bool:
    """Whether an owner is on file for as long as the policy wants of one who decides alone."""
    return person.since is None or sources["now"] >= person.since + sources["policy"].new_owner_wait


def confirmers(subject: Any, requester: Any, sources: Sources) -> tuple[Any, ...]:
    """The owners who can confirm a cancellation by ``requester``: the requester, or the earlier owners while too new.

    An owner who is new himself confirms for nobody: whoever adds one owner could add two.
    """
    if settled(requester, sources):
        return (requester,)
    return tuple(person for person in subject.people if settled(person, sources))


def _decides(sources: Sources) -> bool:
    """The owner in whose name the request is made (if one on file is named) is no new one, or was confirmed."""
    requester, by = _named(sources), sources["request"].confirmed_by
    if requester is None or settled(requester, sources):
        return True
    return by in {person.number for person in confirmers(sources["account"], requester, sources)}


def _can_be_confirmed(sources: Sources) -> bool:
    requester = _named(sources)
    return requester is None or bool(confirmers(sources["account"], requester, sources))


def _owner_if_named(sources: Sources) -> bool:
    asked = sources["request"]
    return (asked.company is None and asked.email is None) or _is_owner(sources)


def _hold_in_force(sources: Sources) -> bool:
    cases, case = sources["account"].cases, sources["request"].case
    return bool(cases) if case is None else case in cases


def holds_left(sources: Sources) -> int:
    """How many legal holds remain once those of the request's case (all, without one) are released."""
    cases, case = sources["account"].cases, sources["request"].case
    return 0 if case is None else sum(other != case for other in cases)


# --- Brackets: they route, and stay silent -------------------------------------------------------

free = Guard("free", account.plan == Plan.FREE, "The account is not on the free plan.")
paid = Guard("paid", account.plan == Plan.PAID, "The account is not on a paid plan.")
suspended = Guard("suspension", SUSPENDED, "The account is not suspended.")
unpaid = Guard("unpaid", ~SUSPENDED, "The account is frozen by a suspension, not for billing.")
_PERIOD_RUNS = (account.period_ends_at > now) | (request.period_ends_at > now)
period_runs = Guard("paid period", _PERIOD_RUNS, "No paid period runs.")
trial_runs = Guard("trial runs", (account.plan == Plan.TRIAL) & (account.trial_ends_at > now), "The trial is over.")
trial_over = Guard("trial over", account.plan == Plan.TRIAL, "The account is not on trial.")


def came_from(state: State) -> Term:
    """Whether the suspension began in ``state``."""
    return account.suspended_from == state


_ON_TRIAL = SUSPENDED & (account.plan == Plan.TRIAL)
_NOTHING_PAID = missing(account.period_ends_at) | (account.period_ends_at <= now)
from_trial = Guard(
    "from trial", _ON_TRIAL & came_from(State.TRIAL) & (account.trial_ends_at > now), "It was not on trial."
)
from_hold = Guard("from hold", _ON_TRIAL, "It was not on hold.")
from_unpaid = Guard(
    "nothing paid",
    SUSPENDED & _NOTHING_PAID & ((account.plan == Plan.PAID) | came_from(State.FROZEN)),
    "A period is paid.",
)
from_active = Guard("from active", SUSPENDED, "It was not active.")
#: Whoever has paid meanwhile goes on as a paying customer, wherever the suspension began.
paid_meanwhile = Guard(
    "paid meanwhile", SUSPENDED & (account.plan != Plan.FREE) & (account.period_ends_at > now), "No paid period runs."
)

# --- Guards: they refuse, and say why ------------------------------------------------------------

requester_is_owner = Guard(
    "owner on file",
    _is_owner,
    "The company and e-mail of the request match no owner on file; contact the owners on file instead "
    "(contact_owners).",
    reads=("company", "email"),
)
owner_if_named = Guard(
    "owner on file, if named",
    _owner_if_named,
    "The company and e-mail of the request match no owner on file; correct them, or leave both out.",
    reads=("company", "email"),
)
owner_decides = Guard(
    "no new owner",
    _decides,
    "This owner was added a short time ago: until the policy's new_owner_wait is over, an earlier owner must confirm "
    "it (`lifecycle request-cancellation`), or ask instead.",
    reads=("email",),
)
can_be_confirmed = Guard(
    "can be confirmed",
    _can_be_confirmed,
    "This owner was added a short time ago, and no earlier owner is on file who could confirm it; wait until the "
    "policy's new_owner_wait is over.",
    reads=("email",),
)
direct_way = Guard(
    "confirmation not required",
    ~policy.cancellation_requires_confirmation,
    "The policy wants the owner to confirm it: use `lifecycle request-cancellation`, which writes to the address on "
    "file; an owner who is signed in, or an admin, may cancel at once.",
)
owner_is_new = Guard(
    "not yet an owner",
    lambda sources: bool(sources["request"].owner) and on_file(sources["account"], sources["request"].owner) is None,
    "The address to add is missing, or on file already; addresses are compared without case and extra spaces.",
    reads=("owner",),
)
owner_is_on_file = Guard(
    "is an owner",
    lambda sources: on_file(sources["account"], sources["request"].owner) is not None,
    "The address to remove is missing, or that of no owner on file; see `lifecycle owners list`.",
    reads=("owner",),
)
another_owner_stays = Guard(
    "another owner stays",
    lambda sources: len(sources["account"].people) > 1,
    "The last owner can't be removed: add another one first.",
)
room_for_owner = Guard(
    "room for an owner",
    lambda sources: len(sources["account"].people) < MOST_OWNERS,
    f"An account has at most {MOST_OWNERS} owners; remove one first.",
)
reason_given = Guard("reason", ~missing(request.reason), "A reason is required; add one.")
brings_period = Guard(
    "brings paid period",
    request.period_ends_at > now,
    "A paid period must be brought along: give period_ends_at, in the future.",
)
period_not_past = Guard(
    "period not past",
    missing(request.period_ends_at) | (request.period_ends_at > now),
    "The period_ends_at that is brought along must lie in the future.",
)
period_forward = Guard(
    "period forward",
    ~missing(request.period_ends_at)
    & (missing(account.period_ends_at) | (request.period_ends_at > account.period_ends_at)),
    "period_ends_at is needed, and must be later than the one on file.",
)
period_not_back = Guard(
    "period not back",
    missing(request.period_ends_at)
    | missing(account.period_ends_at)
    | (request.period_ends_at >= account.period_ends_at),
    "period_ends_at only moves forward; the one on file is later.",
)
period_from_billing = Guard(
    "period from billing",
    missing(request.period_ends_at)
    | (request.role == Role.BILLING)
    | ((request.role == Role.ADMIN) & ~missing(request.reason)),
    "Only billing, or an admin with a reason, may state period_ends_at.",
)
period_over = Guard(
    "paid period over",
    account.period_ends_at <= now,
    "The paid period is still running: one who has paid is not frozen.",
)
period_paid = Guard(
    "period paid",
    _PERIOD_RUNS,
    "No period is paid through: give period_ends_at, in the future.",
)
erasure_not_requested = Guard(
    "erasure not requested",
    missing(account.erasure_requested_at),
    "The erasure of the content was requested already; it can't be taken back.",
)
not_terminated = Guard(
    "not terminated", missing(account.terminated_at), "The company terminated the account; only an admin can act."
)
unpaid_in_time = Guard(
    "unpaid in time",
    missing(account.frozen_at) | (now < account.frozen_at + policy.unpaid_cancellation_after),
    "The account was frozen for billing too long ago: only a payment brings it back.",
)
held_in_time = Guard(
    "hold in time",
    missing(account.held_at) | (now < account.held_at + policy.expired_trial_cancellation_after),
    "The trial ran out too long ago: only a payment brings it back.",
)
automatic = Guard(
    "automatic",
    policy.company_cancellation == CompanyCancellation.AUTOMATIC,
    "The policy has the company's cancellations wait for an admin.",
)
approval = Guard(
    "approval",
    policy.company_cancellation == CompanyCancellation.APPROVAL,
    "The policy lets this cancellation fire by itself; an admin fires it only in approval mode.",
)
company_cancelled = Guard(
    "company cancelled",
    (account.cancelled_by == Party.COMPANY) | ~missing(account.terminated_at),
    "An owner cancelled the account, so an owner must ask for its return.",
)
hold_end_ahead = Guard(
    "hold end ahead",
    missing(request.hold_ends_at) | ((request.hold_ends_at > now) & ~missing(request.case)),
    "A legal hold that ends by itself needs a case, and an end in the future.",
)
hold_in_force = Guard("hold in force", _hold_in_force, "No legal hold of this case is in force.", reads=("case",))
erasure_confirmed = Guard(
    "erasure confirmed",
    ~missing(account.erasure_requested_at) & ~missing(request.receipt),
    "Erasure is confirmed only by the receipt of a handler, after it was requested.",
)
purge_confirmed = Guard(
    "purge confirmed",
    ~missing(account.purge_requested_at) & ~missing(request.receipt),
    "The purge is confirmed only by the receipt of a handler, after it was requested.",
)
