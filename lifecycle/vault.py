"""Sealing: personal data is encrypted under a key of its account, and that key under one from the settings.

Destroying the account's key, as the purge does, destroys what it sealed, wherever copies of that lie. A backup of the
database holds the account's key too, but under the key-encryption key of its time: once that is retired, the backup
has lost what was purged. AES-256-GCM throughout (NIST SP 800-38D), with random nonces; what is sealed for one account
or purpose can't be passed off as another's.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput, KeyMissing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES, _NONCE_BYTES, _LOOKUP_BYTES = 32, 12, 16
#: The name that stands where an account's key is not wrapped, since the settings have no key for that.
UNWRAPPED = ""


class AccountKey(NamedTuple):
    """The key of one account as it is stored: ``wrapped`` under the key-encryption key of this name."""

    key_id: str
    wrapped: bytes


@dataclass(frozen=True)
class KeyRing:
    """Key-encryption keys by name, 32 bytes each; new account keys are wrapped under ``current``.

    Without any, account keys are stored as they are: purging still destroys them, but whoever has the database, or a
    backup of it, can read what they seal. Raises :class:`InvalidInput`.
    """

    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    current: str = UNWRAPPED

    def __post_init__(self) -> None:
        if any(len(key) != KEY_BYTES for key in self.keys.values()):
            raise InvalidInput(f"A key-encryption key has {KEY_BYTES} bytes; make one with `lifecycle keys new`.")
        if UNWRAPPED in self.keys or (self.current not in self.keys and (self.keys or self.current)):
            raise InvalidInput(
                f"The current key-encryption key {shown(self.current)} is not among the keys; name one of them."
            )

    @staticmethod
    def new_key() -> str:
        """A new random key as settings write it."""
        return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()

    @staticmethod
    def read_key(text: str, name: str) -> bytes:
        """The key that settings write so; :class:`InvalidInput` names it, never its value."""
        try:
            key = base64.urlsafe_b64decode(text)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise InvalidInput(
                f"{name} is no key: it must be {KEY_BYTES} bytes in base64, as `lifecycle keys new` makes."
            )
        return key


class Vault:
    """Seals and opens with the keys of one :class:`KeyRing`."""

    def __init__(self, ring: KeyRing | None = None) -> None:
        self.ring = ring or KeyRing()

    def new_key(self, owner: str) -> tuple[AccountKey, "AESGCM"]:
        """A key for ``owner`` (an account's id), as it is stored and ready to use."""
        key = os.urandom(KEY_BYTES)
        return self._wrap(owner, key), _cipher(key)

    def cipher(self, owner: str, key: AccountKey) -> "AESGCM":
        """The key of ``owner``, ready to use. Raises :class:`KeyMissing`."""
        return _cipher(self._unwrap(owner, key))

    def new_secret(self, purpose: str) -> AccountKey:
        """A random secret for ``purpose``, as it is stored."""
        return self._wrap(purpose, os.urandom(KEY_BYTES))

    def secret(self, purpose: str, key: AccountKey) -> bytes:
        """What :meth:`new_secret` made. Raises :class:`KeyMissing`."""
        return self._unwrap(purpose, key)

    def rewrap(self, owner: str, key: AccountKey) -> AccountKey:
        """The same key under the current key-encryption key. Raises :class:`KeyMissing`."""
        return self._wrap(owner, self._unwrap(owner, key))

    def _wrap(self, owner: str, key: bytes) -> AccountKey:
        name = self.ring.current
        return AccountKey(name, key if name == UNWRAPPED else seal(self._wrappers[name], key, f"key of {owner}"))

    def _unwrap(self, owner: str, key: AccountKey) -> bytes:
        if key.key_id == UNWRAPPED:
            return key.wrapped
        if key.key_id not in self._wrappers:
            raise KeyMissing(
                f"Personal data is sealed under the key {shown(key.key_id)}, which the settings don't have; "
                "add it to the table [encryption.keys] of the configuration."
            )
        return unseal(self._wrappers[key.key_id], key.wrapped, f"key of {owner}")

    @cached_property
    def _wrappers(self) -> dict[str, "AESGCM"]:
        return {name: _cipher(key) for name, key in self.ring.keys.items()}


def seal(cipher: "AESGCM", plain: bytes, purpose: str) -> bytes:
    """``plain``, sealed for ``purpose``: a nonce of 12 bytes, the cipher text and a tag of 16."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, purpose.encode())


def unseal(cipher: "AESGCM", sealed: bytes, purpose: str) -> bytes:
    """What :func:`seal` was given. Raises :class:`KeyMissing` where key or purpose are others, or it was altered."""
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
    except InvalidTag:
        raise KeyMissing(
            f"What is sealed as the {purpose} can't be opened: it was altered, or its key is not the one of that name; "
            "look at [encryption.keys] of the configuration."
        ) from None


def lookup_key(secret: bytes, purpose: str, text: str) -> bytes:
    """16 bytes that stand for ``text`` in an index: equal for equal text, and of no use without ``secret``."""
    return blake2b(f"{purpose}\0{text}".encode(), key=secret, digest_size=_LOOKUP_BYTES).digest()


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
