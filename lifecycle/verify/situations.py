"""Situations: what of an account can matter to the question who may do what."""

from collections.abc import Iterator, Mapping

from lifecycle.definition import Definition
from lifecycle.guards import Guard
from lifecycle.states import Event, State
from lifecycle.terms import Term
from lifecycle.verify.nodes import Node
from lifecycle.verify.possible import WHERE
from lifecycle.verify.regions import Key

#: Columns that say where an account stands, whatever time it is.
_STANDING = ("state", "plan", "suspended_from", "cancelled_by", "terminated_at", "legal_holds")


class Situations:
    """Says of each account whether one like it was tried already."""

    def __init__(self, definition: Definition) -> None:
        #: The events that leave each state, in the table's order.
        self.events: Mapping[State, tuple[Event, ...]] = {
            state: tuple(dict.fromkeys(row.event for row in definition.rows if state in row.sources)) for state in State
        }
        dated = {row.event for row in definition.rows if row.timer or any(map(_reads_dates, row.conditions()))}
        self._timeless = frozenset(Event) - dated
        self._seen: set[Key] = set()

    def is_new(self, node: Node) -> bool:
        """Whether no account in this situation was there before."""
        subject, now = node.subject, node.now
        dates = (
            *(subject.erasure_requested_at is None, subject.purge_requested_at is None, node.is_due),
            subject.period_ends_at is not None and subject.period_ends_at > now,
            subject.not_before is not None and subject.not_before <= now,
        )
        return self._first((*_standing(node), *dates))

    def open_events(self, node: Node) -> Iterator[Event]:
        """The events to be tried: those whose acceptance no date can change, once for where the account stands."""
        for event in self.events[node.subject.state]:
            if event not in self._timeless or self._first((*_standing(node), event)):
                yield event

    def missing_events(self, state: State) -> Iterator[Event]:
        """Events that the policy has in this state, and the definition has not."""
        return (event for event, states in WHERE.items() if state in states and event not in self.events[state])

    def _first(self, key: Key) -> bool:
        new = key not in self._seen
        self._seen.add(key)
        return new


def _standing(node: Node) -> Key:
    """Where it stands; from where it was suspended matters only while it is."""
    subject, suspended = node.subject, node.subject.suspended_from
    return (
        *(subject.state, subject.plan, suspended if subject.state is State.FROZEN else suspended is None),
        subject.cancelled_by,
        *(subject.terminated_at is None, subject.legal_holds > 0),
    )


def _reads_dates(guard: Guard) -> bool:
    """Whether a guard reads more of the account than where it stands; functions look at people and cases."""
    if not isinstance(guard.test, Term):
        return False
    read = {term.args for term in guard.test.walk() if term.op == "field"}
    return any(source == "account" and name not in _STANDING for source, name in read)
