"""Seals: what shows that a row of the record was changed, removed or slipped in since it was sealed.

The record is the history and the receipts. A seal covers the rows of one of the two since the seal before, with a
digest of each, and its hash covers the hash of the seal before it: one chain, whose head vouches for all of it.

Pure functions; docs/audit.md has the same rule in words, and a program that checks an export by it.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

from lifecycle.errors import InvalidInput

#: Said first in whatever is hashed; another manner of encoding needs another.
ENCODING = b"\x01"
#: Bytes of a row's digest, the first ones of its SHA-256.
DIGEST = 16
#: Rows that one seal covers at most: so many are held in memory, and looked through to name the one that does not fit.
MOST = 10_000


class Stream(StrEnum):
    """What is sealed, by the name of its table."""

    HISTORY = "history"
    RECEIPT = "receipt"


#: The columns that a digest covers, in their order, after the stream's name. Instants are microseconds since 1970.
SEALED: dict[Stream, tuple[str, ...]] = {
    Stream.HISTORY: (
        *("id", "account_id", "number", "event", "step", "source", "dest", "at"),
        *("actor", "owner", "reason", "policy_version", "request_id"),
    ),
    Stream.RECEIPT: ("id", "account_id", "number", "effect", "at", "text"),
}


@dataclass(frozen=True)
class AuditSettings:
    """How often the daemon seals what is new. Out of bounds raises :class:`InvalidInput`."""

    seal_every: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        if self.seal_every <= timedelta(0):
            raise InvalidInput(f"The time between two seals must be positive, not {self.seal_every}.")


# --- What is hashed ------------------------------------------------------------------------------


def _strange(value: object) -> dict[str, str]:
    """What SQLite lets somebody put into a column of text, such as bytes: another value, not an error."""
    return {"": repr(value)}


_encoded = json.JSONEncoder(separators=(",", ":"), default=_strange).encode


def hashed(values: Sequence[Any]) -> bytes:
    """SHA-256 of texts, whole numbers and None: of a byte for the manner, and of them as JSON in ASCII, no blanks."""
    return sha256(ENCODING + _encoded(values).encode()).digest()


def digests(stream: Stream, rows: Iterable[Sequence[Any]]) -> list[bytes]:
    """The digest of each row, given as the values of :data:`SEALED`."""
    name = str(stream)
    return [hashed((name, *row))[:DIGEST] for row in rows]


# --- The chain -----------------------------------------------------------------------------------


class Head(NamedTuple):
    """Where a chain ends: the number of its last seal, and that seal's hash. As text ``NUMBER:HASH``."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.hash.hex()}"


#: The head of a chain without a seal.
GENESIS = Head(0, bytes(32))
_HEAD = re.compile(r"(?<![0-9a-f])([0-9]{1,18}):([0-9a-f]{64})(?![0-9a-f])")


def heads_in(text: str) -> list[Head]:
    """Every head that a text names, whatever else it says: one that was written down, a log, an export of the head."""
    return [Head(int(number), bytes.fromhex(digits)) for number, digits in _HEAD.findall(text)]


@dataclass(frozen=True, slots=True)
class Seal:
    """A link of the chain: covers ``rows`` rows of a stream, of ids up to ``to_id`` and beyond its seal before.

    ``sealed_at`` is in microseconds since 1970, ``digests`` are those of the rows, one after the other.
    """

    number: int
    stream: str
    rows: int
    to_id: int
    sealed_at: int
    previous: bytes
    digests: bytes
    hash: bytes = b""

    @classmethod
    def after(cls, head: Head, stream: Stream, to_id: int, covered: Sequence[bytes], sealed_at: int) -> "Seal":
        """The seal that follows ``head`` and covers rows of these digests."""
        seal = cls(head.number + 1, stream, len(covered), to_id, sealed_at, head.hash, b"".join(covered))
        return replace(seal, hash=seal.computed())

    @property
    def head(self) -> Head:
        """The chain's head as long as this is its last seal."""
        return Head(self.number, self.hash)

    def line(self) -> dict[str, Any]:
        """The seal as an export writes it; its hash is that of all values before it."""
        return {
            "stream": "seal",
            "number": self.number,
            "of": str(self.stream),
            "rows": self.rows,
            "to_id": self.to_id,
            "sealed_at": self.sealed_at,
            **{name: _hex(getattr(self, name)) for name in ("previous", "digests", "hash")},
        }

    def computed(self) -> bytes:
        """What its hash must be."""
        return hashed(tuple(self.line().values())[:-1])

    def each_digest(self) -> list[bytes]:
        """The digests of the rows that it covers, in their order."""
        return [self.digests[start : start + DIGEST] for start in range(0, len(self.digests), DIGEST)]

    def flaw(self, before: Head) -> str | None:
        """Why this seal can't be the one after ``before``, if so."""
        if self.number > before.number + 1:
            first, last = before.number + 1, self.number - 1
            return f"seal {first} is missing" if first == last else f"seals {first} to {last} are missing"
        if self.number <= before.number:
            return f"there are two seals {self.number}: the chain forks"
        if self.computed() != self.hash or len(self.digests) != DIGEST * self.rows:
            return f"seal {self.number} was altered: its hash is not that of what it says"
        if self.previous != before.hash:
            return f"seal {self.number} follows another seal {before.number} than the one that is there"
        return None


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)


# --- What does not fit ---------------------------------------------------------------------------


class Kind(StrEnum):
    """What happened to a row since it was sealed."""

    CHANGED = "changed"
    MISSING = "missing"
    INSERTED = "inserted"


class Misfit(NamedTuple):
    """The first row that differs: ``place`` counts from 0 among the rows that are there.

    What is missing was before the row of that place.
    """

    kind: Kind
    place: int


def misfit(sealed: Sequence[bytes], found: Sequence[bytes]) -> Misfit | None:
    """The first difference between the digests that were sealed and those of the rows that are there."""
    place = next((place for place, (one, other) in enumerate(zip(sealed, found, strict=False)) if one != other), None)
    if place is None:
        place = min(len(sealed), len(found))
        if len(sealed) == len(found):
            return None
        return Misfit(Kind.MISSING if len(sealed) > len(found) else Kind.INSERTED, place)
    # Rows stand in the order of their ids, which digests cover: what is on both sides never changes places.
    if found[place] in sealed[place:]:
        return Misfit(Kind.MISSING, place)
    if sealed[place] in found[place:]:
        return Misfit(Kind.INSERTED, place)
    return Misfit(Kind.CHANGED, place)
