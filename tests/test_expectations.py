"""Exhaustive: every kind of account, every event, everybody who may ask, and the facts they bring.

The expectations are written by hand in ``tests/expectations.py``; here is the product that they are
held against.
"""

from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.actor import SYSTEM, Actor, Request
from lifecycle.errors import GuardRefused, NoSuchTransition, NotAuthorised, Refused
from lifecycle.invariants import INVARIANTS
from lifecycle.machine import decide
from lifecycle.policy import CompanyCancellation, Policy
from lifecycle.states import Event, Party, State
from lifecycle.terms import evaluate
from tests.builders import (
    ADMIN,
    ANN,
    BILLING,
    COMPANY,
    NOW,
    OWNER,
    SUPPORT,
    ago,
    ahead,
    armed,
    cancelled,
    changed,
    free,
    on_hold,
    paid,
    suspended,
    trial,
    unpaid,
)
from tests.expectations import KINDS, REFUSED, SAME, TABLE, Line, selects

# --- The accounts --------------------------------------------------------------------------------

#: The reminder of a company cancellation whose deadline was yesterday, so that its notice opened 15 days ago.
NOTICES: dict[str, dict[str, Any]] = {
    "unnoticed": {},
    "undelivered": {"reminder": 5, "reminded_at": ago(15)},
    "promised": {"reminder": 5, "reminded_at": ago(5), "not_before": ahead(9)},
    "of_an_older_clock": {"reminder": 5, "reminded_at": ago(40), "not_before": ago(26)},
    "noticed": {"reminder": 5, "reminded_at": ago(15), "not_before": ago(1)},
}
#: Where an account is before it is suspended or cancelled, by the words that describe it.
ORIGINS = {
    "from_trial trial_runs": trial(ahead(10)),
    "from_trial trial_over": trial(ago(1)),
    "from_hold": on_hold(ago(10)),
    "from_free": free(ago(100)),
    "from_paid prepaid": paid(ahead(20)),
    "from_paid lapsed": paid(ago(1)),
    "from_unpaid lapsed": unpaid(ago(10)),
}
GONE_TOO_LONG = {"from_hold old": on_hold(ago(31)), "from_unpaid lapsed old": unpaid(ago(181))}
PREPAID = {"period_began_at": ago(10), "period_ends_at": ahead(20)}


def live_accounts() -> dict[str, SimpleNamespace]:
    found = {
        "trial trial_runs": trial(ahead(10)),
        "trial trial_over": trial(ago(1)),
        "on_hold early": on_hold(ago(10)),
        "active free early": free(ago(10)),
        "active free early prepaid": free(ago(10), **PREPAID),
        "active paid prepaid": paid(ahead(20)),
        "active paid lapsed": paid(ago(1)),
        "frozen billing early lapsed": unpaid(ago(10)),
        "frozen billing early prepaid": unpaid(ago(10), **PREPAID),
        "frozen suspension from_unpaid prepaid": suspended(unpaid(ago(10), **PREPAID)),
        "frozen suspension from_free prepaid": suspended(free(ago(10), **PREPAID)),
        "frozen suspension from_trial trial_runs prepaid": suspended(trial(ahead(10), **PREPAID)),
        "frozen suspension from_hold prepaid": suspended(on_hold(ago(10), **PREPAID)),
    }
    for notice, columns in NOTICES.items():
        found[f"on_hold {notice}"] = on_hold(ago(31), **columns)
        found[f"active free {notice}"] = free(ago(366), **columns)
        found[f"frozen billing lapsed {notice}"] = unpaid(ago(181), **columns)
    for origin, before in {**ORIGINS, **GONE_TOO_LONG}.items():
        found[f"frozen suspension {origin}"] = suspended(before)
    return found


def cancelled_accounts() -> dict[str, SimpleNamespace]:
    found = {}
    origins = {
        **ORIGINS,
        **GONE_TOO_LONG,
        "from_free prepaid": free(ago(100), **PREPAID),
        "from_suspension prepaid": suspended(paid(ahead(20))),
        "from_suspension lapsed": suspended(unpaid(ago(181))),
    }
    terminated, erasing = {"terminated_at": ago(1)}, {"erasure_requested_at": ago(1)}
    for origin, before in origins.items():
        for by in Party:
            pending, revoked = f"cancel_pending {origin} {by}", f"access_revoked {origin} {by}"
            party = {"cancelled_by": by}
            found[f"{pending} access_runs"] = cancelled(before, access_ends_at=ahead(20), **party)
            found[f"{pending} access_over"] = cancelled(before, **party)
            found[revoked] = cancelled(before, State.ACCESS_REVOKED, **party)
            found[f"{revoked} terminated"] = cancelled(before, State.ACCESS_REVOKED, **party, **terminated)
            for words, columns in (("erasing", erasing), ("erasing terminated", {**erasing, **terminated})):
                found[f"{revoked} {words}"] = cancelled(before, State.ACCESS_REVOKED, at=ago(40), **party, **columns)
    return found


def destroyed_accounts() -> dict[str, SimpleNamespace]:
    gone = {"erasure_requested_at": ago(40), "content_deleted_at": ago(39)}
    purging = {"purge_requested_at": ago(11)}

    def destroyed(state: State, **columns: Any) -> SimpleNamespace:
        return cancelled(paid(ago(70)), state, at=ago(70), **gone, **columns)

    return {
        "content_deleted owner": destroyed(State.CONTENT_DELETED),
        "content_deleted owner purging": destroyed(State.CONTENT_DELETED, **purging),
        "purged owner": destroyed(State.PURGED, **purging, purged_at=ago(10)),
    }


def all_accounts() -> dict[frozenset[str], SimpleNamespace]:
    """By the words that describe them; where a legal hold could matter, also with one in force."""
    found = {}
    for words, unarmed in {**live_accounts(), **cancelled_accounts(), **destroyed_accounts()}.items():
        subject = armed(unarmed)
        found[frozenset(words.split())] = subject
        if subject.state is not State.CANCEL_PENDING and "company" not in words:
            held = SimpleNamespace(**{**vars(subject), "legal_holds": 1, "cases": ("2027-114",)})
            found[frozenset((*words.split(), "held"))] = armed(held)
    return found


# --- The requests --------------------------------------------------------------------------------

FOR_AN_OWNER = {"company": COMPANY, "email": ANN}
ACTORS: dict[str, tuple[Actor, dict[str, str]]] = {
    "owner": (OWNER, {}),
    "stranger": (Actor.owner("eve@acme.test"), {}),
    "support": (SUPPORT, {}),
    "support for owner": (SUPPORT, FOR_AN_OWNER),
    "support for stranger": (SUPPORT, {**FOR_AN_OWNER, "email": "eve@acme.test"}),
    "support for another company": (SUPPORT, {**FOR_AN_OWNER, "company": "Ajax Ltd"}),
    "admin": (ADMIN, {}),
    "admin for owner": (ADMIN, FOR_AN_OWNER),
    "billing": (BILLING, {}),
    "system": (SYSTEM, {}),
    "system for owner": (SYSTEM, FOR_AN_OWNER),
}
REASON = {"reason": "asked by phone"}
BROUGHT: dict[str, dict[str, Any]] = {
    "": {},
    "reason": REASON,
    "period later": {"period_ends_at": ahead(60)},
    "period later reason": {"period_ends_at": ahead(60), **REASON},
    "period soon reason": {"period_ends_at": ahead(1), **REASON},
    "period past reason": {"period_ends_at": ago(400), **REASON},
    "receipt": {"receipt": "42 files erased"},
    "another reason": {"owner": "cy@acme.test", **REASON},
    "one": {"owner": "Bob@acme.test"},
    "one reason": {"owner": "bob@acme.test", **REASON},
}
POLICIES = {mode: Policy(company_cancellation=mode) for mode in CompanyCancellation}
#: Approval makes a difference to three events; the others are tried with it once, without facts and with a reason.
FACTS = [
    (frozenset((*words.split(), mode)), facts, POLICIES[mode])
    for mode in CompanyCancellation
    for words, facts in BROUGHT.items()
    if mode is CompanyCancellation.AUTOMATIC or words in ("", "reason")
]
ACCOUNTS = all_accounts()


def lines_for(event: Event, words: frozenset[str]) -> list[Line]:
    return [line for line in TABLE[event] if selects(line.where, words)]


def expected(lines: list[Line], actor: str, facts: frozenset[str]) -> str:
    """The destination, or the name of the error, as the lines for the account have it."""
    for line in lines:
        if line.admits(actor, facts):
            return line.outcome
    if not lines:
        return NoSuchTransition.__name__
    return (GuardRefused if any(line.names_kind(actor) for line in lines) else NotAuthorised).__name__


def outcome(event: Event, subject: SimpleNamespace, asked: Request, policy: Policy) -> str:
    try:
        decision = decide(subject, event, asked, NOW, policy)
    except Refused as refusal:
        assert refusal.reasons and all(reason.endswith(".") for reason in refusal.reasons), refusal
        return type(refusal).__name__
    assert decision.changes["state"] is decision.dest and decision.source is subject.state
    return str(decision.dest)


def requests() -> list[tuple[str, frozenset[str], Request, Policy]]:
    return [
        (name, words, Request(actor, **identity, **facts), policy)
        for name, (actor, identity) in ACTORS.items()
        for words, facts, policy in FACTS
    ]


REQUESTS = requests()


@pytest.mark.parametrize("event", list(Event))
def test_every_request_to_every_account_ends_as_the_table_says(event: Event) -> None:
    wrong = []
    for words, subject in ACCOUNTS.items():
        lines = lines_for(event, words)
        for actor, facts, asked, policy in REQUESTS:
            wanted = expected(lines, actor, facts)
            got = outcome(event, subject, asked, policy)
            if got != (subject.state if wanted == SAME else wanted):
                wrong.append(
                    f"{event} by {actor} [{' '.join(sorted(facts))}] on {' '.join(sorted(words))}: {got}, not {wanted}"
                )
    assert not wrong, f"{len(wrong)} differ from the table, among them:\n" + "\n".join(wrong[:: len(wrong) // 20 + 1])


def test_the_table_has_every_event_and_the_accounts_every_state() -> None:
    assert set(TABLE) == set(Event)
    assert {subject.state for subject in ACCOUNTS.values()} == set(State)
    assert set(ACTORS) == set(KINDS)


@pytest.mark.parametrize("event", list(Event))
def test_every_line_of_the_table_is_put_to_the_test(event: Event) -> None:
    for line in TABLE[event]:
        covered = [words for words in ACCOUNTS if selects(line.where, words)]
        assert covered, f"{line} selects no account"
        if line.outcome != REFUSED:
            assert any(line.admits(actor, facts) for actor, facts, _, _ in REQUESTS), f"{line} admits nobody"


DESTINATIONS = frozenset((SAME, *State))


def violations(subject: SimpleNamespace) -> list[str]:
    return [rule.name for rule in INVARIANTS if evaluate(rule.test, {"account": subject}) is False]


@pytest.mark.parametrize("state", list(State))
def test_every_allowed_change_leaves_a_sound_account_and_only_reads_the_old_one(state: State) -> None:
    wrong = []
    subjects = [(words, subject) for words, subject in ACCOUNTS.items() if subject.state is state]
    for words, subject in subjects:
        assert not violations(subject), f"{words} is no sound account to begin with"
        before = dict(vars(subject))
        for event in Event:
            lines = lines_for(event, words)
            for actor, facts, asked, policy in REQUESTS:
                if expected(lines, actor, facts) not in DESTINATIONS:
                    continue
                try:
                    decision = decide(subject, event, asked, NOW, policy)
                except Refused:
                    continue  # the comparison with the table reports it
                assert vars(subject) == before, f"{event} wrote on the account"
                broken = violations(changed(subject, decision))
                if broken:
                    wrong.append(f"{event} by {actor} on {' '.join(sorted(words))} breaks {', '.join(broken)}")
    assert not wrong, "\n".join(dict.fromkeys(wrong))


def test_a_suspended_trial_that_billing_brings_back_is_still_sound_when_the_suspension_ends() -> None:
    subject = cancelled(suspended(trial(ahead(10))))
    paid_back = Request(BILLING, period_ends_at=ahead(60))
    back = changed(subject, decide(subject, Event.REACTIVATE, paid_back, NOW, Policy()))
    lifted = changed(back, decide(back, Event.LIFT_SUSPENSION, Request(ADMIN, **REASON), NOW, Policy()))
    assert not violations(lifted), f"in {lifted.state} on the plan {lifted.plan}"
