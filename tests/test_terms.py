"""Terms: evaluated on one row and compiled for a database, the answer is the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, insert, select

from lifecycle.database import Database
from lifecycle.errors import DefinitionError
from lifecycle.instants import Instant
from lifecycle.policy import Policy
from lifecycle.states import account, request
from lifecycle.terms import (
    Term,
    assume,
    compile_term,
    default,
    describe,
    earliest,
    evaluate,
    holds,
    latest,
    literal,
    missing,
    now,
    policy,
    replaced,
    simplify,
    when,
)
from tests.conftest import SOAK

NOW = datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC)
ROWS = Table(
    "term_rows",
    MetaData(),
    Column("number", Integer, primary_key=True),
    *(Column(name, Instant) for name in ("a", "b", "c")),
    Column("word", Text),
    Column("count", Integer),
)
COLUMNS = dict(ROWS.c)


def field(name: str) -> Term:
    return Term("field", "account", name)


# --- Random terms, by kind -------------------------------------------------------------------------

durations = st.sampled_from([policy.deletion_after, policy.purge_lead, literal(timedelta(microseconds=1))])
instants = st.deferred(
    lambda: st.one_of(
        st.sampled_from([field("a"), field("b"), field("c"), now]),
        st.builds(lambda a, d: a + d, instants, durations),
        st.builds(lambda a, d: a - d, instants, durations),
        st.builds(latest, instants, instants),
        st.builds(earliest, instants, instants),
        st.builds(latest, instants, instants, instants),
        st.builds(default, instants, instants),
        st.builds(when, conditions, instants, instants),
        st.builds(lambda c, a: when(c, None, a), conditions, instants),
        st.builds(lambda c, a: when(c, a, None), conditions, instants),
    )
)
_COMPARISONS = (
    lambda a, b: a == b,
    lambda a, b: a != b,
    lambda a, b: a < b,
    lambda a, b: a <= b,
    lambda a, b: a > b,
    lambda a, b: a >= b,
)
conditions = st.deferred(
    lambda: st.one_of(
        st.builds(lambda compare, a, b: compare(a, b), st.sampled_from(_COMPARISONS), instants, instants),
        st.builds(lambda w: field("word") == w, st.sampled_from(["trial", "paid"])),
        st.builds(lambda n: field("count") + literal(1) >= literal(n), st.integers(-1, 3)),
        st.sampled_from([policy.deletion_clock == "cancellation", policy.company_cancellation == "approval"]),
        st.builds(missing, instants),
        st.builds(lambda a, b: a & b, conditions, conditions),
        st.builds(lambda a, b: a | b, conditions, conditions),
        st.builds(lambda a: ~a, conditions),
        st.builds(when, conditions, conditions, conditions),
    )
)
near_now = st.none() | st.sampled_from((-1, 0, 1)).flatmap(
    lambda edge: st.sampled_from((0, 1, 30, 31)).map(
        lambda days: NOW - timedelta(days=days) + timedelta(microseconds=edge)
    )
)
rows = st.fixed_dictionaries(
    {
        "a": near_now,
        "b": near_now,
        "c": near_now,
        "word": st.sampled_from([None, "trial", "paid", "Paid"]),
        "count": st.none() | st.integers(-2, 3),
    }
)


def test_a_term_evaluated_on_a_row_equals_the_term_compiled_for_the_database(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        ROWS.metadata.create_all(connection)

    # Terms that grow without end are given up, and by chance many of the first ones do.
    @settings(max_examples=60 * SOAK, suppress_health_check=list(HealthCheck))
    @given(st.lists(rows, min_size=1, max_size=6), st.lists(instants | conditions, min_size=1, max_size=6))
    def equal(values: list[dict[str, Any]], terms: list[Term]) -> None:
        numbered = [{**row, "number": number} for number, row in enumerate(values)]
        instant = bindparam("now", type_=Instant)
        with database.write() as connection:
            connection.execute(ROWS.delete())
            connection.execute(insert(ROWS), numbered)
            compiled = [compile_term(term, COLUMNS, Policy(), instant) for term in terms]
            query = (
                select(*(c.label(f"t{n}") for n, c in enumerate(compiled))).select_from(ROWS).order_by(ROWS.c.number)
            )
            found = [list(row) for row in connection.execute(query, {"now": NOW})]
        sources = {"now": NOW, "policy": Policy()}
        expected = [[evaluate(term, {**sources, "account": row}) for term in terms] for row in numbered]
        assert [[_plain(value) for value in row] for row in found] == expected

    equal()
    database.close()


def _plain(value: Any) -> Any:
    """SQLite knows no booleans; its integers stand for them."""
    return bool(value) if isinstance(value, int) else value


@settings(max_examples=100 * SOAK)
@given(rows, instants | conditions)
def test_simplifying_under_a_policy_changes_no_answer(row: dict[str, Any], term: Term) -> None:
    sources = {"now": NOW, "policy": Policy(), "account": row}
    assert evaluate(simplify(term, Policy()), sources) == evaluate(term, sources)


def test_a_term_that_assumes_a_request_reads_its_facts_and_none_for_the_others() -> None:
    asked = ~missing(request.receipt) & (literal(2) == literal(1) + literal(1))
    sources = {"account": {}, "now": NOW, "policy": Policy()}
    assert evaluate(assume(asked, {"receipt": "gone"}), sources) is True
    assert evaluate(assume(asked, {"reason": "gone"}), sources) is False


# --- NULL ------------------------------------------------------------------------------------------

NOTHING = {"account": {"a": None, "b": NOW}, "now": NOW, "policy": Policy()}


@pytest.mark.parametrize(
    ("term", "value"),
    [
        (latest(field("a"), field("b")), None),
        (earliest(field("b"), field("a")), None),
        (field("a") + policy.purge_lead, None),
        (field("a") == field("a"), None),
        (missing(field("a")), True),
        (default(field("a"), field("b")), NOW),
        ((field("a") < now) & literal(False), False),
        ((field("a") < now) | literal(True), True),
        ((field("a") < now) & literal(True), None),
        ((field("a") < now) | literal(False), None),
        (~(field("a") < now), None),
        (when(field("a") < now, literal("then"), literal("else")), "else"),
    ],
)
def test_null_follows_three_valued_logic(term: Term, value: Any) -> None:
    assert evaluate(term, NOTHING) is value or evaluate(term, NOTHING) == value


def test_a_condition_that_is_null_does_not_hold() -> None:
    assert holds(field("a") < now, NOTHING) is False
    assert holds(~(field("a") < now), NOTHING) is False


# --- What Python can't overload raises at import ------------------------------------------------------


@pytest.mark.parametrize(
    "misuse",
    [
        lambda t: t and t,
        lambda t: t or t,
        lambda t: not t,
        lambda t: 1 if t else 2,
        lambda t: t in (now, t),
        lambda t: now in t,
        list,
        lambda t: now < t < now,
        lambda t: t == None,  # noqa: E711
    ],
    ids=["and", "or", "not", "if", "in a tuple", "in a term", "iteration", "chained comparison", "== None"],
)
def test_python_operators_that_would_drop_a_part_raise_and_say_what_to_write(misuse: Any) -> None:
    with pytest.raises(DefinitionError, match=r"write|can't be iterated"):
        misuse(account.cancelled_at)


def test_an_unknown_field_raises_at_import_and_proposes_the_nearest() -> None:
    with pytest.raises(DefinitionError, match="did you mean cancelled_at"):
        account.canceled_at  # noqa: B018
    with pytest.raises(DefinitionError, match="policy has no field 'zzz'"):
        policy.zzz  # noqa: B018


def test_a_term_that_reads_the_request_cannot_be_compiled() -> None:
    with pytest.raises(DefinitionError, match="can't be read by a timer"):
        compile_term(Term("field", "request", "reason"), COLUMNS, Policy(), bindparam("now"))


def test_a_term_shows_itself_as_it_was_built() -> None:
    assert repr(latest(account.cancelled_at + policy.deletion_after, now)) == (
        "(latest (+ account.cancelled_at policy.deletion_after) now)"
    )
    assert repr(literal("x")) == "'x'"


# --- Words -----------------------------------------------------------------------------------------


def test_a_deadline_is_printed_in_words_under_the_policy() -> None:
    term = latest(account.cancelled_at + policy.deletion_after, account.access_ends_at)
    words = "30 days after the cancellation, but not before the end of access"
    assert describe(term, Policy(), account.words) == words
    longer = Policy.from_mapping({"deletion_after": "45 days", "purge_after": "80 days"})
    assert describe(term, longer, account.words).startswith("45 days after")


def test_a_choice_that_the_policy_decides_is_not_printed() -> None:
    choice = when(policy.deletion_clock == "cancellation", account.cancelled_at, account.access_ends_at)
    assert describe(choice, Policy(), account.words) == "the cancellation"


def test_a_replaced_term_stands_wherever_it_was_and_its_equals_stay() -> None:
    inner, equal = account.cancelled_at + policy.deletion_after, account.cancelled_at + policy.deletion_after
    term = replaced(latest(inner, when(missing(account.held_at), inner, equal)), {inner: account.access_ends_at})
    assert str(term) == str(
        latest(account.access_ends_at, when(missing(account.held_at), account.access_ends_at, equal))
    )
