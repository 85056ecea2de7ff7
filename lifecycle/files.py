"""Files that appear when they are complete, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from lifecycle.errors import InvalidInput

#: Permissions before the umask: for anybody, and for what holds personal data.
PUBLIC, PRIVATE = 0o666, 0o600


@contextmanager
def replacing(path: Path | str, mode: int = PUBLIC) -> Iterator[BinaryIO]:
    """A new file beside ``path``, which takes its place at the end; when something is raised, it disappears.

    Raises :class:`InvalidInput` when ``path`` can't be written, at the beginning if that can be known there.
    What stood at ``path`` is unchanged then.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise InvalidInput(f"{path} is no file that can be replaced; name another one.")
    part = target.with_name(f".{target.name[:100]}.{token_hex(6)}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
        _settle(target.parent)
    except OSError as error:
        raise InvalidInput(
            f"{path} can't be written: {error.strerror}. What was there is unchanged; look at the folder, "
            "its permissions and the free space."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _settle(folder: Path) -> None:
    """The new name, too, must survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
