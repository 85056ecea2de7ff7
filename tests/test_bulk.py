"""One event on many accounts: what is shown is what is done, and it is what `fire` does to each of them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select
from structlog.testing import capture_logs

from lifecycle import (
    Actor,
    BulkPlan,
    Effect,
    Engine,
    Filter,
    InvalidInput,
    ManualClock,
    NotAuthorised,
    PlanChanged,
    Policy,
    PolicyError,
    Refused,
    Role,
    State,
    bulk,
)
from lifecycle.columns import metadata
from lifecycle.operation_tables import refused_attempts
from lifecycle.personal import Personal
from lifecycle.states import DESTRUCTIVE
from lifecycle.tables import accounts, history, legal_holds, outbox
from tests.conftest import SOAK, START
from tests.strategies import NOW, populations
from tests.tampering import unguard

ANN, ADMIN = "ann@acme.test", Actor.admin("root")
DAY = timedelta(days=1)
SPAM: dict[str, Any] = {"actor": ADMIN, "reason": "spam"}
EVERYTHING = Filter(everything=True)
TABLES = (accounts, history, outbox, legal_holds)


@pytest.fixture
def crowd(engine: Engine) -> Engine:
    """Three trials, two free accounts, and a suspended one."""
    for name in ("t1", "t2", "t3"):
        engine.open_account(name, company="Acme Ltd", owners=[ANN])
    for name in ("f1", "f2", "s1"):
        engine.open_account(name, company="Acme Ltd", owners=[ANN], plan="free")
    engine.fire("s1", "suspend", **SPAM)
    return engine


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PAGE", 2)


def rows(engine: Engine, *tables: Any) -> dict[str, list[Any]]:
    """Everything in the tables but the numbers that the database draws, in an order of its own."""
    drawn = (outbox.c.id, history.c.id)
    with engine.database.read() as connection:
        return {
            table.name: sorted(
                (tuple(row) for row in connection.execute(select(*(c for c in table.c if c not in set(drawn))))),
                key=repr,
            )
            for table in tables
        }


def apply(engine: Engine, event: str, chosen: Any, **asked: Any) -> BulkPlan:
    """Show the plan, then apply it."""
    plan = engine.fire_many(event, chosen, **asked)
    return engine.fire_many(event, chosen, dry_run=False, digest=plan.digest, **asked)


# --- The same as one by one ----------------------------------------------------------------------

OWNED = {"company": "Acme Ltd", "email": ANN}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "suspend": ("suspend", SPAM),
    "suspend by support": ("suspend", {"actor": Actor.support("sue"), "reason": "spam"}),
    "lift_suspension": ("lift_suspension", SPAM),
    "terminate": ("terminate", SPAM),
    "place_hold": ("place_hold", {"case": "2027-114", **SPAM}),
    "release_hold of a case": ("release_hold", {"case": "2027-114", **SPAM}),
    "release_hold of all": ("release_hold", SPAM),
    "cancel by support": ("cancel", {"actor": Actor.support("sue"), **OWNED}),
    "cancel by an owner": ("cancel", {"actor": Actor.owner(ANN)}),
    "reactivate": ("reactivate", {"actor": Actor.billing("psp"), "period_ends_at": NOW + 900 * DAY}),
    "contact_owners": ("contact_owners", SPAM),
}


def fill(engine: Engine, population: list[dict[str, Any]]) -> None:
    """Replace whatever is in the database by these accounts, with their holds and what was requested for them."""
    held = [row for row in population if row["legal_holds"]]
    asked = [
        (row, effect)
        for row in population
        for effect, mark, state in (
            (Effect.DELETE_CONTENT, "erasure_requested_at", State.ACCESS_REVOKED),
            (Effect.PURGE_BACKUPS, "purge_requested_at", State.CONTENT_DELETED),
        )
        if row["state"] is state and row[mark] is not None
    ]
    with engine.database.write() as connection:
        for table in (one for one in reversed(metadata.sorted_tables) if one is accounts or "account_id" in one.c):
            connection.execute(delete(table))
        connection.execute(insert(accounts), population)
        people = [Personal.of_new("Acme Ltd", [ANN])] * len(population)
        engine.store.put_people(connection, [row["id"] for row in population], people)
        for number, row in enumerate(held):
            case = "2027-114" if number % 2 else None
            connection.execute(insert(legal_holds).values(account_id=row["id"], number=0, case=case, placed_at=NOW))
        for number, (row, effect) in enumerate(asked):  # every other request is claimed already
            request = {"account_id": row["id"], "number": 0, "effect": effect, "attempts": number % 2}
            connection.execute(insert(outbox).values(created_at=NOW, due_at=NOW, **request))


def test_many_accounts_end_as_if_each_had_been_fired_alone(url: str, small_pages: None) -> None:
    engine = Engine(url, policy=Policy(), clock=ManualClock(NOW))
    engine.migrate()
    with engine.database.write() as connection:
        unguard(connection)  # `fill` begins anew

    @settings(max_examples=40 * SOAK)
    @given(populations(Policy(), 12), st.sampled_from(sorted(REQUESTS)))
    def compare(population: list[dict[str, Any]], name: str) -> None:
        event, asked = REQUESTS[name]
        fill(engine, population)
        moved, reasons = 0, []
        for row in population:
            try:
                engine.fire(row["id"], event, **asked)
                moved += 1
            except Refused as refusal:
                reasons += refusal.reasons
        alone = rows(engine, *TABLES)
        fill(engine, population)
        before = rows(engine, *TABLES)
        plan = engine.fire_many(event, EVERYTHING, **asked)
        assert rows(engine, *TABLES) == before, "a dry run changes nothing"
        done = engine.fire_many(event, EVERYTHING, dry_run=False, digest=plan.digest, **asked)
        assert rows(engine, *TABLES) == alone
        assert (done.count, done.refused) == (moved, len(population) - moved)
        assert sorted(done.refusals.elements()) == sorted(reasons)

    compare()
    engine.close()


def test_the_history_of_every_account_goes_on_without_a_gap(crowd: Engine, small_pages: None) -> None:
    apply(crowd, "suspend", EVERYTHING, **SPAM)
    apply(crowd, "terminate", EVERYTHING, **SPAM)
    for account in crowd.accounts():
        entries = crowd.history(account.id)
        assert [entry.number for entry in entries] == list(range(1, account.version + 1))
        assert [entry.source for entry in entries[1:]] == [entry.dest for entry in entries[:-1]]
        assert entries[-1].dest is account.state is State.ACCESS_REVOKED
        assert (entries[-1].actor, entries[-1].reason, entries[-1].at) == ("admin:root", "spam", START)


# --- The plan ------------------------------------------------------------------------------------


def test_a_plan_counts_moves_shows_a_sample_and_refusals_by_reason(crowd: Engine) -> None:
    plan = crowd.fire_many("suspend", EVERYTHING, **SPAM)
    assert plan.moves == {(State.TRIAL, State.FROZEN): 3, (State.ACTIVE, State.FROZEN): 2}
    assert (plan.count, plan.refused, plan.applied) == (5, 1, False)
    assert [move.account_id for move in plan.sample] == ["f1", "f2", "t1", "t2", "t3"]
    ((reason, count),) = plan.refusals.items()
    assert (count, plan.refused_sample[reason]) == (1, ("s1",))
    assert reason.startswith("No suspend leaves the account's state frozen")


def test_the_sample_names_the_dates_that_are_promised(crowd: Engine) -> None:
    (move, *_) = crowd.fire_many("terminate", ["t1"], **SPAM).sample
    assert (move.access_ends_at, move.delete_content_at) == (START, START + 30 * DAY)
    assert move.purge_backups_by == START + 60 * DAY


def test_a_sample_has_at_most_twenty_accounts(engine: Engine) -> None:
    for number in range(25):
        engine.open_account(f"a{number:02}", company="Acme Ltd", owners=[ANN])
    plan = engine.fire_many("suspend", EVERYTHING, **SPAM)
    assert [move.account_id for move in plan.sample] == [f"a{number:02}" for number in range(20)]
    refused = engine.fire_many("suspend", EVERYTHING, actor=Actor.support("sue"), reason="spam")
    assert [len(ids) for ids in refused.refused_sample.values()] == [20]


@pytest.mark.parametrize("unknown", ["nobody", "", "x\x00", "\udcff", "' OR 1=1", "a" * 100])
def test_an_id_without_an_account_is_refused_and_the_others_move(crowd: Engine, unknown: str) -> None:
    done = apply(crowd, "suspend", [unknown, "t1"], **SPAM)
    assert (done.count, done.refused) == (1, 1)
    assert done.refused_sample == {bulk.UNKNOWN: (unknown,)}
    assert bulk.UNKNOWN.startswith("There is no account")
    assert crowd.get("t1").state is State.FROZEN


def test_an_id_given_twice_counts_once(crowd: Engine) -> None:
    assert apply(crowd, "suspend", ["t1", "t2", "t1"], **SPAM).count == 2
    assert len(crowd.history("t1")) == 2


def test_no_ids_are_no_accounts(crowd: Engine) -> None:
    done = apply(crowd, "suspend", [], **SPAM)
    assert (done.count, done.refused, done.applied) == (0, 0, True)


@pytest.mark.parametrize("accounts", ["t1", 7, [7], None])
def test_what_is_neither_ids_nor_a_filter_is_bad_input(crowd: Engine, accounts: Any) -> None:
    with pytest.raises(InvalidInput, match=r"Give account ids|Account ids are text"):
        crowd.fire_many("suspend", accounts, **SPAM)


def test_who_may_not_fire_an_event_is_refused_for_every_account(crowd: Engine) -> None:
    plan = crowd.fire_many("terminate", EVERYTHING, actor=Actor.support("sue"), reason="spam")
    assert (plan.count, plan.refusals) == (0, {"Only admin may fire terminate here, not support.": 6})
    with pytest.raises(NotAuthorised, match="Nobody can act as the system"):
        crowd.fire_many("revoke_access", EVERYTHING, actor=Actor(Role.SYSTEM, "timer"))


def test_a_missing_reason_is_refused_for_every_account(crowd: Engine) -> None:
    plan = crowd.fire_many("terminate", ["t1", "t2"], actor=ADMIN)
    assert plan.refusals == {"A reason is required; add one.": 2}


def test_a_malformed_request_is_bad_input_before_any_account_is_looked_at(crowd: Engine) -> None:
    with pytest.raises(InvalidInput, match="did you mean suspend"):
        crowd.fire_many("suspnd", EVERYTHING, **SPAM)
    with pytest.raises(InvalidInput, match="takes no 'email'"):
        crowd.fire_many("suspend", EVERYTHING, email=ANN, **SPAM)


def test_under_another_policy_than_the_databases_nothing_is_planned(crowd: Engine) -> None:
    other = Engine(crowd.database.url.render_as_string(hide_password=False), policy=Policy(deletion_after="45 days"))
    with pytest.raises(PolicyError, match="lifecycle policy activate"):
        other.fire_many("suspend", EVERYTHING, **SPAM)
    other.close()


# --- Applying ------------------------------------------------------------------------------------


def refuses(engine: Engine, event: str, chosen: Any, digest: str, **asked: Any) -> None:
    """Applying raises, and writes nothing."""
    before = rows(engine, *TABLES)
    with pytest.raises(PlanChanged, match="Nothing was changed"):
        engine.fire_many(event, chosen, dry_run=False, digest=digest, **asked)
    assert rows(engine, *TABLES) == before


def test_applying_needs_a_digest_and_a_dry_run_takes_none(crowd: Engine) -> None:
    with pytest.raises(InvalidInput, match="applying needs one"):
        crowd.fire_many("suspend", EVERYTHING, dry_run=False, **SPAM)
    with pytest.raises(InvalidInput, match="A dry run takes no digest"):
        crowd.fire_many("suspend", EVERYTHING, digest="abc", **SPAM)


def test_the_digest_of_another_change_applies_nothing(crowd: Engine) -> None:
    plan = crowd.fire_many("suspend", EVERYTHING, **SPAM)
    refuses(crowd, "terminate", EVERYTHING, plan.digest, **SPAM)
    refuses(crowd, "suspend", EVERYTHING, plan.digest, actor=ADMIN, reason="another")
    refuses(crowd, "suspend", EVERYTHING, plan.digest, actor=Actor.support("root"), reason="spam")
    refuses(crowd, "suspend", ["t1"], plan.digest, **SPAM)
    refuses(crowd, "suspend", EVERYTHING, "0" * 64, **SPAM)
    with pytest.raises(InvalidInput, match="copy all 64 characters"):
        crowd.fire_many("suspend", EVERYTHING, dry_run=False, digest=plan.digest[:12], **SPAM)


def test_the_facts_belong_to_the_digest(crowd: Engine) -> None:
    digests = {crowd.fire_many("place_hold", EVERYTHING, case=case, **SPAM).digest for case in (None, "1", "2")}
    assert len(digests) == 3


def test_a_plan_in_which_an_account_changed_is_refused_as_a_whole(crowd: Engine, small_pages: None) -> None:
    plan = crowd.fire_many("suspend", EVERYTHING, **SPAM)
    crowd.fire("t3", "contact_owners", **SPAM)  # in the last page: the pages before it have been written by then
    refuses(crowd, "suspend", EVERYTHING, plan.digest, **SPAM)


def test_a_plan_to_which_an_account_came_is_refused_as_a_whole(crowd: Engine) -> None:
    plan = crowd.fire_many("suspend", Filter(state="trial"), **SPAM)
    crowd.open_account("t4", company="Acme Ltd", owners=[ANN])
    refuses(crowd, "suspend", Filter(state="trial"), plan.digest, **SPAM)


def test_a_plan_in_which_an_account_is_refused_by_now_is_refused_as_a_whole(crowd: Engine) -> None:
    plan = crowd.fire_many("suspend", EVERYTHING, **SPAM)
    crowd.fire("t1", "suspend", **SPAM)
    refuses(crowd, "suspend", EVERYTHING, plan.digest, **SPAM)


def test_one_more_refused_account_is_the_same_plan(crowd: Engine) -> None:
    plan = crowd.fire_many("suspend", ["t1", "s1"], **SPAM)
    done = crowd.fire_many("suspend", ["t1", "s1", "nobody"], dry_run=False, digest=plan.digest, **SPAM)
    assert (done.count, done.refused) == (1, 2)


def test_a_plan_stays_the_same_while_only_the_time_passes(crowd: Engine, clock: ManualClock) -> None:
    plan = crowd.fire_many("terminate", EVERYTHING, **SPAM)
    clock.set(START + DAY)
    assert crowd.fire_many("terminate", EVERYTHING, **SPAM).digest == plan.digest
    done = crowd.fire_many("terminate", EVERYTHING, dry_run=False, digest=plan.digest, **SPAM)
    assert {account.access_ends_at for account in crowd.accounts()} == {START + DAY}
    assert done.sample[0].access_ends_at == START + DAY


def test_a_plan_is_shown_to_one_admin_and_applied_by_another(crowd: Engine) -> None:
    plan = crowd.fire_many("suspend", ["t1"], **SPAM)
    second = Actor.admin("second")
    assert crowd.fire_many("suspend", ["t1"], actor=second, reason="spam", dry_run=False, digest=plan.digest).applied
    assert crowd.history("t1")[-1].actor == "admin:second"


def test_a_digest_is_applied_once(crowd: Engine) -> None:
    done = apply(crowd, "contact_owners", EVERYTHING, **SPAM)
    refuses(crowd, "contact_owners", EVERYTHING, done.digest, **SPAM)


def test_refusals_are_in_the_plan_and_one_line_of_the_log_not_among_the_attempts(crowd: Engine) -> None:
    with capture_logs() as lines:
        done = apply(crowd, "suspend", EVERYTHING, **SPAM)
    assert rows(crowd, refused_attempts) == {"refused_attempt": []}
    (line,) = lines
    assert (line["event"], line["fired"], line["actor"]) == ("bulk event", "suspend", "admin:root")
    assert (line["moved"], line["refused"], line["digest"]) == (5, 1, done.digest)


def test_accounts_are_decided_and_written_a_page_at_a_time(
    crowd: Engine, small_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = crowd.store.write_many
    monkeypatch.setattr(crowd.store, "write_many", lambda c, changes: (written.append(len(changes)), write(c, changes)))
    looked_at: list[int] = []
    plan = crowd.fire_many("suspend", EVERYTHING, on_page=looked_at.append, **SPAM)
    assert (looked_at, written) == ([2, 2, 2], [])
    ids = ["t1", "t2", "t3", "s1", "f1", "f2"]
    done = crowd.fire_many("suspend", ids, dry_run=False, digest=plan.digest, **SPAM)
    assert (done.count, written) == (5, [2, 1, 2])


def test_ids_and_a_filter_that_mean_the_same_accounts_are_the_same_plan(crowd: Engine, small_pages: None) -> None:
    for name in ("T1", "t-1", "t.1", "1t"):  # databases don't agree on the order of these
        crowd.open_account(name, company="Acme Ltd", owners=[ANN])
    ids = [account.id for account in crowd.accounts()]
    by_id, by_filter = (crowd.fire_many("suspend", chosen, **SPAM) for chosen in (ids, EVERYTHING))
    assert by_id == by_filter


# --- Legal holds ---------------------------------------------------------------------------------


def test_holds_are_placed_on_many_accounts_and_withdraw_what_nobody_has_claimed(crowd: Engine) -> None:
    apply(crowd, "terminate", ["t1", "t2"], **SPAM)
    crowd.clock.set(START + 31 * DAY)  # type: ignore[attr-defined]
    crowd.sweep()
    crowd.courier.handlers.pop(Effect.DELETE_CONTENT)
    crowd.run_until(START + 60 * DAY)
    assert crowd.get("t1").erasure_requested_at is not None
    apply(crowd, "place_hold", ["t1", "t2", "f1"], case="2027-114", **SPAM)
    for name in ("t1", "t2", "f1"):
        assert crowd.get(name).cases == ("2027-114",)
        assert crowd.get(name).erasure_requested_at is None
    with crowd.database.read() as connection:
        requests = connection.execute(select(outbox.c.status).where(outbox.c.effect.in_(DESTRUCTIVE))).scalars()
        assert list(requests) == ["withdrawn", "withdrawn"]
    done = apply(crowd, "release_hold", EVERYTHING, case="2027-114", **SPAM)
    assert (done.count, crowd.get("t1").cases, crowd.get("t1").legal_holds) == (3, (), 0)


# --- Races ---------------------------------------------------------------------------------------


def at_once(engine: Engine, digest: str, **asked: Any) -> list[Any]:
    """The same plan, applied by two processes at the same time: what each of them got."""
    got: list[Any] = []
    barrier = Barrier(2)

    def one() -> None:
        other = Engine(engine.database.url.render_as_string(hide_password=False), clock=engine.clock)
        barrier.wait()
        try:
            got.append(other.fire_many("contact_owners", EVERYTHING, dry_run=False, digest=digest, **asked))
        except PlanChanged as error:
            got.append(error)
        other.close()

    threads = [Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_of_two_that_apply_a_plan_at_once_one_does_it(crowd: Engine, small_pages: None) -> None:
    plan = crowd.fire_many("contact_owners", EVERYTHING, **SPAM)
    got = at_once(crowd, plan.digest, **SPAM)
    assert sorted(type(one).__name__ for one in got) == ["BulkPlan", "PlanChanged"]
    assert [len(crowd.history(name)) for name in ("t1", "f1", "s1")] == [2, 2, 3]


def test_two_that_apply_a_plan_at_once_with_one_request_id_are_told_the_same(crowd: Engine, small_pages: None) -> None:
    plan = crowd.fire_many("contact_owners", EVERYTHING, **SPAM)
    got = at_once(crowd, plan.digest, request_id="ticket-1", **SPAM)
    assert [(one.applied, one.count, one.digest) for one in got] == [(True, 6, plan.digest)] * 2
    assert [len(crowd.history(name)) for name in ("t1", "f1", "s1")] == [2, 2, 3]


@pytest.mark.postgres
def test_an_account_that_changes_while_the_plan_is_applied_takes_all_of_it_back(
    postgresql_url: str, small_pages: None
) -> None:
    first, second = (Engine(postgresql_url, clock=ManualClock(START)) for _ in range(2))
    first.migrate()
    for name in ("a", "b", "c"):
        first.open_account(name, company="Acme Ltd", owners=[ANN])
    plan = first.fire_many("suspend", EVERYTHING, **SPAM)
    interfered: list[str] = []

    def interfere(_: int) -> None:
        if not interfered:  # a and b are written and locked, c is not
            interfered.append(second.fire("c", "cancel", actor=Actor.owner(ANN)).dest)

    with pytest.raises(PlanChanged):
        first.fire_many("suspend", EVERYTHING, dry_run=False, digest=plan.digest, on_page=interfere, **SPAM)
    assert interfered == ["cancel_pending"]
    assert [account.state for account in first.accounts()] == ["trial", "trial", "cancel_pending"]
    first.close()
    second.close()


# --- The same request again ----------------------------------------------------------------------


def test_a_script_that_died_after_the_commit_is_told_what_it_did(crowd: Engine, small_pages: None) -> None:
    asked = {"request_id": "ticket-7", **SPAM}
    trials = Filter(state="trial")  # none of them is in trial afterwards
    done = apply(crowd, "terminate", trials, **asked)
    before = rows(crowd, *TABLES)
    again = crowd.fire_many("terminate", trials, dry_run=False, digest=done.digest, **asked)
    assert again == done
    assert crowd.fire_many("terminate", trials, **asked) == done, "a script that begins anew hears it from the dry run"
    assert rows(crowd, *TABLES) == before
    assert {crowd.history(name)[-1].request_id for name in ("t1", "t2", "t3")} == {"ticket-7"}


def test_a_request_id_of_another_change_is_refused(crowd: Engine) -> None:
    apply(crowd, "contact_owners", ["t1"], request_id="ticket-7", **SPAM)
    with pytest.raises(InvalidInput, match="choose another"):
        crowd.fire_many("suspend", ["t2"], request_id="ticket-7", **SPAM)
    plan = crowd.fire_many("contact_owners", ["t2"], **SPAM)
    with pytest.raises(InvalidInput, match="choose another"):
        crowd.fire_many("contact_owners", ["t2"], dry_run=False, digest=plan.digest, request_id="ticket-7", **SPAM)
    assert len(crowd.history("t2")) == 1


# --- Filters -------------------------------------------------------------------------------------


def named(engine: Engine, **fields: Any) -> list[str]:
    plan = engine.fire_many("contact_owners", Filter(**fields), **SPAM)
    return [move.account_id for move in plan.sample]


@pytest.fixture
def ages(engine: Engine, clock: ManualClock) -> Iterator[Engine]:
    """Accounts of three days; the first was cancelled on the last of them, the second used."""
    for number, plan in enumerate(("free", "trial", "free")):
        clock.set(START + number * DAY)
        engine.open_account(f"d{number}", company="Acme Ltd", owners=[ANN], plan=plan)
    engine.fire("d0", "cancel", actor=Actor.owner(ANN))
    engine.record_activity("d1")
    yield engine


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"everything": True}, ["d0", "d1", "d2"]),
        ({"state": "active"}, ["d2"]),
        ({"plan": "free"}, ["d0", "d2"]),
        ({"plan": "free", "state": State.ACTIVE}, ["d2"]),
        ({"opened_before": START + DAY}, ["d0"]),
        ({"opened_after": START + DAY}, ["d1", "d2"]),
        ({"opened_after": START + DAY, "opened_before": START + 2 * DAY}, ["d1"]),
        ({"last_active_after": START + 2 * DAY}, ["d1", "d2"]),
        ({"last_active_before": START + 2 * DAY}, ["d0"]),
        ({"cancelled_after": START}, ["d0"]),
        ({"cancelled_before": START}, []),
        ({"due_before": START + 3 * DAY}, ["d0"]),
        ({"due_after": START + 3 * DAY}, ["d1", "d2"]),
    ],
)
def test_a_filter_chooses_by_state_plan_and_dates(ages: Engine, fields: dict[str, Any], found: list[str]) -> None:
    assert named(ages, **fields) == found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "everything=True, which means all"),
        ({"everything": True, "state": "trial"}, "A filter says either"),
        ({"state": "frozn"}, "did you mean frozen"),
        ({"plan": "gold"}, "choose from trial, free, paid"),
        ({"opened_before": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
    ],
)
def test_a_filter_that_says_nothing_or_nonsense_is_bad_input(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Filter(**fields)
