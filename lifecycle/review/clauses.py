"""The clauses of the policy, each with what implements it and what holds it."""

from dataclasses import dataclass, fields

from lifecycle.machine import TRANSITIONS
from lifecycle.policy import Clause, Policy, setting_words
from lifecycle.review.evidence import EVIDENCE
from lifecycle.states import Event


@dataclass(frozen=True)
class ClauseLine:
    """One clause: the events whose rows cite it, its settings with their values, its promises and its tests."""

    clause: Clause
    events: tuple[Event, ...]
    timed: frozenset[Event]
    settings: tuple[tuple[str, str], ...]
    promises: tuple[int, ...]
    tests: tuple[tuple[str, str], ...]


def clause_lines(policy: Policy) -> list[ClauseLine]:
    """Every clause, in the order of the policy. A test is its file and its name."""
    return [_line(clause, policy) for clause in Clause]


def _line(clause: Clause, policy: Policy) -> ClauseLine:
    rows = [row for row in TRANSITIONS if clause in row.clauses]
    evidence = EVIDENCE[clause]
    return ClauseLine(
        clause,
        tuple(dict.fromkeys(row.event for row in rows)),
        frozenset(row.event for row in rows if row.timer is not None),
        tuple(
            (setting.name, setting_words(getattr(policy, setting.name)))
            for setting in fields(Policy)
            if setting.metadata["clause"] is clause
        ),
        evidence.promises,
        tuple((f"tests/test_{file}.py", f"test_{name}") for file, names in evidence.tests.items() for name in names),
    )
