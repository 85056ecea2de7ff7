"""The model checker: explores a definition exhaustively, and says which promises it keeps.

:func:`verify` puts the definition that counts, or another, under one policy: every kind of account, every event by
everybody, and time around every deadline, as :mod:`lifecycle.verify.explorer` says. It runs the definition's own
``decide`` and ``tick``; what it compares them with (:mod:`~lifecycle.verify.facts`,
:mod:`~lifecycle.verify.promises`) is written apart, from the policy. Modules, from the bottom up::

    world       the accounts that exploring begins with; who asks for what
    facts       what is true of an account, by what has happened to it
    expected    where it goes, and by when, by the policy
    possible    what can happen to it where it is, by the policy
    permitted   who may ask for what, by the policy
    happening   one thing that happened, or was refused
    judging, on_destruction, on_access, on_people, on_clocks        the checks
    promises    each promise: its name, its sentence, its check
    regions     the instants that matter, and which accounts are alike
    nodes, situations       accounts at instants, and who is to be tried on them
    stepping    one step: the definition decides, the promises are checked
    explorer    follows everything that can happen, breadth first
    timeline, picture       a broken promise as dates in plain words
    planting, mutants       definitions with one planted fault each
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from lifecycle.definition import Definition
from lifecycle.machine import DEFINITION
from lifecycle.policy import Policy
from lifecycle.verify.explorer import DEPTH, Explorer
from lifecycle.verify.promises import ELSEWHERE, PROMISES, Promise
from lifecycle.verify.timeline import Timeline

__all__ = ["DEPTH", "ELSEWHERE", "PROMISES", "Judged", "Timeline", "Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A promise, and the shortest life in which it is broken, if it is."""

    promise: Promise
    counterexample: Timeline | None

    @property
    def name(self) -> str:
        return self.promise.name

    @property
    def number(self) -> int:
        return self.promise.number

    @property
    def text(self) -> str:
        return self.promise.text

    @property
    def held(self) -> bool:
        return self.counterexample is None


@dataclass(frozen=True, slots=True)
class Verification:
    """What exploring has shown: ``explored`` accounts at instants, ``decisions`` of the definition on them.

    ``covered`` and ``uncovered`` are transitions, in words, by source: those that were seen to act, and those that
    never were under this policy. ``seconds`` is how long it took.
    """

    promises: tuple[Judged, ...]
    explored: int
    decisions: int
    covered: tuple[str, ...]
    uncovered: tuple[str, ...]
    seconds: float

    @property
    def held(self) -> bool:
        """Whether every promise is kept."""
        return all(one.held for one in self.promises)

    @property
    def broken(self) -> tuple[Judged, ...]:
        return tuple(one for one in self.promises if not one.held)

    def as_json(self) -> dict[str, Any]:
        """All of it, in JSON's own types but for instants."""
        promises = [
            {
                "name": one.name,
                "number": one.number,
                "text": one.text,
                "held": one.held,
                "counterexample": None if one.counterexample is None else one.counterexample.as_json(),
            }
            for one in self.promises
        ]
        return {
            "held": self.held,
            "promises": promises,
            "explored": self.explored,
            "decisions": self.decisions,
            "covered": list(self.covered),
            "uncovered": list(self.uncovered),
            "not_checked_here": [{"promise": what, "tests": where} for what, where in ELSEWHERE],
            "seconds": round(self.seconds, 2),
        }


def verify(
    policy: Policy,
    definition: Definition = DEFINITION,
    *,
    depth: int = DEPTH,
    on_progress: Callable[[int], None] = lambda more: None,
) -> Verification:
    """Explore the definition under a policy; ``depth`` is how many requests, outages and delays follow each other.

    Seconds for the default depth; every further one takes several times as long. ``on_progress`` hears how many more
    accounts are done.
    """
    began = perf_counter()
    explorer = Explorer(definition, policy, depth)
    explorer.run(on_progress)
    broken = explorer.violations
    judged = (
        Judged(promise, Timeline.of(broken[promise.name]) if promise.name in broken else None) for promise in PROMISES
    )
    edges = [(row, source) for row in definition.rows for source in row.sources]
    words = {edge: f"{edge[1]}: {edge[0]!r}" for edge in edges}
    return Verification(
        promises=tuple(judged),
        explored=len(explorer.nodes),
        decisions=explorer.decisions,
        covered=tuple(words[edge] for edge in edges if edge in explorer.covered),
        uncovered=tuple(words[edge] for edge in edges if edge not in explorer.covered),
        seconds=perf_counter() - began,
    )
