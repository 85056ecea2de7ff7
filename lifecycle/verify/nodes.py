"""What an exploration finds: accounts at instants, how they came there, and broken promises."""

from dataclasses import dataclass
from datetime import datetime

from lifecycle.states import Effect
from lifecycle.verify.facts import Facts
from lifecycle.verify.happening import Happening
from lifecycle.verify.promises import Promise
from lifecycle.verify.regions import Key
from lifecycle.verify.world import Subject


@dataclass(slots=True)
class Node:
    """An account at an instant, and how it came there. ``mail`` is the last reminder that was sent.

    ``kind`` says of the first one what kind of account it is.
    """

    subject: Subject
    facts: Facts
    now: datetime
    mail: Effect | None = None
    parent: "Node | None" = None
    last: Happening | None = None
    key: Key = ()
    kind: str = ""

    def path(self) -> list[Happening]:
        """What has happened, from the beginning."""
        found: list[Happening] = []
        node: Node | None = self
        while node is not None and node.last is not None:
            found.append(node.last)
            node = node.parent
        return found[::-1]

    @property
    def beginning(self) -> "Node":
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    @property
    def is_due(self) -> bool:
        """Whether a sweep has something to do now."""
        due = self.subject.due_at
        return due is not None and due <= self.now


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: which, in what words, and how it comes to that."""

    promise: Promise
    words: str
    node: Node
    last: Happening | None = None

    def path(self) -> list[Happening]:
        """What has happened, the breach included."""
        return [*self.node.path(), *(() if self.last is None else (self.last,))]


class Found(Exception):
    """Ends an exploration at the violation that it was looking for."""
