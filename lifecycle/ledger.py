"""The ledger: a file outside the database that says, before it happens, what is about to be destroyed.

A database that is restored from a backup forgets what was destroyed since; the ledger remembers. It holds ids and
dates, one JSON object a line, and is only ever appended to.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from lifecycle.errors import LedgerUnusable
from lifecycle.inputs import is_account_id

_HEADER = "ledger"


class Ledger:
    """A ledger at ``path``. It is made by :meth:`create` alone: a disk that is not mounted must not look empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the file, with an identity of its own, unless it is there."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        except OSError as error:
            raise self._unusable(error) from error
        _write(descriptor, _line({_HEADER: uuid4().hex}))
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)  # the name of the file is on the disk, too
        os.close(folder)

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines, which are on the disk when this returns. Raises :class:`LedgerUnusable` where they can't be."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = os.lseek(descriptor, 0, os.SEEK_END)
            # A crash may have torn the last line: what it announced was not begun. The next is a line of its own.
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            _write(descriptor, ("\n" if torn else "") + "".join(map(_line, lines)))
        except OSError as error:
            os.close(descriptor)
            raise self._unusable(error) from error

    def lines(self, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """The lines with their numbers, from 1 on, that come later than number ``after``; the first is the header.

        A torn line is left out. Raises :class:`LedgerUnusable` for anything else that is not a line of a ledger.
        """
        try:
            with self.path.open("rb") as file:
                for number, raw in enumerate(file, start=1):
                    if number > after and (said := self._read(raw, number)) is not None:
                        yield number, said
        except OSError as error:
            raise self._unusable(error) from error

    @property
    def identity(self) -> str:
        """What tells this ledger from others."""
        for _, said in self.lines():
            if isinstance(said.get(_HEADER), str):
                return str(said[_HEADER])
            break
        raise LedgerUnusable(f"{self.path} is no ledger: its first line does not say so. Restore it from a backup.")

    def _read(self, raw: bytes, number: int) -> dict[str, Any] | None:
        if not raw.rstrip(b"\n").endswith(b"}"):
            return None  # torn by a crash
        try:
            said = json.loads(raw)
        except ValueError:
            said = None
        # What stands here goes into the database and onto the screen: somebody may have written to the file.
        if not isinstance(said, dict) or ("account" in said and not is_account_id(said["account"])):
            raise LedgerUnusable(f"Line {number} of {self.path} can't be read; restore the ledger from a backup.")
        return said

    def _unusable(self, error: OSError) -> LedgerUnusable:
        return LedgerUnusable(
            f"The ledger {self.path} can't be used: {error.strerror}. Nothing is destroyed without it; see that its "
            "disk is there, or make a new one with `lifecycle init`."
        )


def _line(said: Mapping[str, Any]) -> str:
    return json.dumps(said, separators=(",", ":")) + "\n"


def _write(descriptor: int, text: str) -> None:
    """All of it, onto the disk; closes the file."""
    rest = text.encode()
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)
    os.close(descriptor)
