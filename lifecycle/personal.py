"""What the engine knows of people: the company's name, its owners and their addresses. It is stored sealed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from lifecycle.vault import AccountKey, Vault, seal, unseal


class Person(NamedTuple):
    """An owner on file. ``number`` stands for them in the history; ``since`` None is: from the account's beginning."""

    number: int
    email: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Personal:
    """Everything personal of one account; ``next_number`` is the next owner's, so that none is given twice."""

    company: str = ""
    people: tuple[Person, ...] = ()
    next_number: int = 1

    @classmethod
    def of_new(cls, company: str, emails: Sequence[str]) -> "Personal":
        """An account that begins with these owners."""
        return cls(company, tuple(Person(n, email) for n, email in enumerate(emails, start=1)), len(emails) + 1)

    @property
    def owners(self) -> tuple[str, ...]:
        """The owners' addresses, in their order."""
        return tuple(person.email for person in self.people)

    def as_bytes(self) -> bytes:
        """As it is sealed."""
        people = [[p.number, p.email, *(() if p.since is None else (p.since.isoformat(),))] for p in self.people]
        return json.dumps([self.company, self.next_number, people], ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, plain: bytes) -> "Personal":
        """What :meth:`as_bytes` gave."""
        company, next_number, people = json.loads(plain.decode())  # of bytes it would first guess how they are encoded
        return cls(
            company,
            tuple(Person(n, email, *map(datetime.fromisoformat, since)) for n, email, *since in people),
            next_number,
        )


#: Of an account that was purged.
NOTHING = Personal()


class Sealed(NamedTuple):
    """What is on file of one account's people, as it is stored."""

    key: AccountKey
    data: bytes

    @classmethod
    def new(cls, vault: Vault, account_id: str, personal: Personal) -> "Sealed":
        """Seal under a new key."""
        key, cipher = vault.new_key(account_id)
        return cls(key, seal(cipher, personal.as_bytes(), _purpose(account_id)))

    def again(self, vault: Vault, account_id: str, personal: Personal) -> bytes:
        """Other data under the same key."""
        return seal(vault.cipher(account_id, self.key), personal.as_bytes(), _purpose(account_id))

    def open(self, vault: Vault, account_id: str) -> Personal:
        """What was sealed. Raises :class:`lifecycle.errors.KeyMissing`."""
        return Personal.from_bytes(unseal(vault.cipher(account_id, self.key), self.data, _purpose(account_id)))


def seal_reason(vault: Vault, account_id: str, key: AccountKey, number: int, reason: str) -> bytes:
    """Why somebody asked for entry ``number`` of the history, sealed under the account's key."""
    return seal(vault.cipher(account_id, key), reason.encode(), f"reason {number} of {account_id}")


def open_reason(vault: Vault, account_id: str, key: AccountKey, number: int, sealed: bytes) -> str:
    """What :func:`seal_reason` was given. Raises :class:`lifecycle.errors.KeyMissing`."""
    return unseal(vault.cipher(account_id, key), sealed, f"reason {number} of {account_id}").decode()


def _purpose(account_id: str) -> str:
    return f"personal data of {account_id}"
