"""Erases an account's content from a disk or an object store, and confirms only what a second look finds gone.

The content of account ``acme`` is what lies below root and prefix: ``s3://bucket/customers`` and ``{account}/`` make
``s3://bucket/customers/acme/``. The folder that holds the accounts' folders, here ``s3://bucket/customers``, must hold
an empty object named after the effect, ``.delete_content`` or ``.purge_backups``. An unmounted disk has none, and
neither has the wrong bucket or folder, so that nobody takes either for content that is gone already.

What is erased, and what a receipt is worth:

* ``file://``: links are unlinked and never followed. A link in the place of the account's folder, and a disk that is
  mounted at or below it, are left for a person to look at.
* ``s3://``: where versions are or were kept, all of them go, and delete markers with them. Unfinished uploads are
  aborted; MinIO does not list those, and drops them by itself after a day. An object lock makes the erasure fail.
* ``gs://``, ``az://``, ``abfs://``, ``memory://``: fsspec's common interface shows neither versions nor soft-deleted
  copies. The receipt says so: switch both off, or let them expire.

Other file systems are refused, since links and capital letters can't be told apart there: mount them, and name the
mount with ``file://``. At most one request is under way and one page of names is held; only fsspec's common interface
holds the listing of a whole folder.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput
from lifecycle.handlers.stores import Bucket, Counts, Disk, Objects, StorageFailed, Store
from lifecycle.task import Found, Receipt, Task, Undeliverable

#: The grammar of account ids, checked here once more: this is the last gate before something is erased.
ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
ACCOUNT = "{account}"
EFFECTS = ("delete_content", "purge_backups")
#: S3 lists and erases no more at once.
LARGEST_BATCH = 1000
PROTOCOLS = ("file", "s3", "gs", "gcs", "az", "abfs", "abfss", "memory")

#: What a template, a shell or fsspec would have replaced: in a root or a prefix it means that nobody did.
_UNFILLED = re.compile(r"^~|[{}$*?\[\]#\\]")


class Storage:
    """Erases what lies below ``root`` and ``prefix``; the receipt counts what this attempt erased.

    ``root`` is a URL without credentials, such as ``s3://bucket/customers`` or ``file:///srv/content``; ``prefix`` has
    ``{account}`` as one of its parts and ends in a slash. ``options`` go to fsspec's file system (for S3: ``key``,
    ``secret``, ``client_kwargs``). At most ``batch`` objects are listed or erased at once. What takes longer than
    ``timeout`` fails and is continued by the next attempt; keep it below half of ``delivery.lease``. ``name`` is the
    store's in receipts and errors, by default the root.
    """

    def __init__(
        self,
        root: str,
        prefix: str = "{account}/",
        *,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        batch: int = LARGEST_BATCH,
        timeout: timedelta = timedelta(minutes=4),
    ) -> None:
        if not 1 <= batch <= LARGEST_BATCH or timeout <= timedelta(0):
            raise InvalidInput(f"A storage handler needs a batch from 1 to {LARGEST_BATCH} and a timeout above zero.")
        if name is not None and not name.strip():
            raise InvalidInput("The name of a store must not be blank, since it stands in receipts.")
        self._protocol = _checked_root(root)
        above, self._own = _checked_prefix(prefix)
        self.place = "/".join((root, *above))
        self.name = root if name is None else name
        self.timeout = timeout
        self._options = dict(options or {})
        self._batch = batch
        self._store: Store | None = None
        self._closed = False
        _check_library(self._protocol, self._options)

    def __call__(self, task: Task) -> str:
        """Erase the account's content; returns the receipt once nothing is listed any more."""
        until = time.monotonic() + self.timeout.total_seconds()
        try:
            parts = self._parts(task)
            store = self._opened(_mark(task.effect))
            _check_own(store, parts)
            return str(self._erase(store, parts, until))
        except (StorageFailed, Undeliverable) as error:
            raise type(error)(f"{self.name}: {error}") from None
        except Exception as error:
            self._store = None  # a connection that broke is not used again
            raise StorageFailed(f"{self.name}: {_kind(error)}.") from None

    def close(self) -> None:
        """Stop after the page in hand: its task counts as failed and is continued later."""
        self._closed = True

    def _parts(self, task: Task) -> tuple[str, ...]:
        """The way from the place to what is this account's, and no other's."""
        if task.effect not in EFFECTS:
            raise Undeliverable("this handler only erases, and that is not what it was asked for.")
        if not isinstance(task.account_id, str) or not ACCOUNT_ID.fullmatch(task.account_id):
            raise Undeliverable("the account id is malformed; nothing was erased.")
        parts = tuple(part.replace(ACCOUNT, task.account_id) for part in self._own)
        if any(part in ("", ".", "..") or "/" in part for part in parts):
            raise Undeliverable("the prefix and the account id make no path; nothing was erased.")
        return parts

    def _opened(self, mark: str) -> Store:
        """The store, once it has shown to be the right one."""
        try:
            self._store = store = self._store or self._connected()
            marked = store.holds(mark)
        except Exception as error:  # nothing of a customer's was asked for yet, so its text can be told
            self._store = None
            raise StorageFailed(f"it can't be read: {type(error).__name__}: {error}") from None
        if not marked:
            raise StorageFailed(
                f"{self.place} holds no object named {mark}, so nothing was erased. Is it the right place, and is "
                "the disk mounted? Then put an empty object of this name there."
            )
        return store

    def _connected(self) -> Store:
        if self._protocol == "file":
            return Disk(self.place.removeprefix("file://"), self._batch)
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        fresh = {"skip_instance_cache": True, "use_listings_cache": False}  # a remembered listing is no second look
        system, path = url_to_fs(self.place, **{**self._options, **fresh})
        return (Bucket if self._protocol == "s3" else Objects)(system, path, self._batch)

    def _erase(self, store: Store, parts: tuple[str, ...], until: float) -> Receipt:
        found, count = False, 0
        for erased in self._paced(store.erase(parts), until):
            found, count = True, count + erased
        left = sum(self._paced(store.left(parts), until))
        if left:
            raise StorageFailed(f"{left} {store.unit} are listed after {count} were erased.")
        return Receipt(self.name, Found.ERASED if found else Found.ABSENT, count, store.unit, store.note)

    def _paced(self, counts: Counts, until: float) -> Iterator[int]:
        """The counts, as long as there is time for more."""
        with closing(counts):
            for count in counts:
                yield count
                if self._closed:
                    raise StorageFailed("the process is shutting down; the next attempt goes on.")
                if time.monotonic() > until:
                    raise StorageFailed(f"not done after {self.timeout.total_seconds():g} s; the next attempt goes on.")


def _mark(effect: str) -> str:
    """The object that tells the folder of the accounts' folders from every other."""
    return f".{effect}"


def _check_own(store: Store, parts: tuple[str, ...]) -> None:
    """Refuse an account named as a folder that holds accounts, such as ``users`` where another root is ``…/users``."""
    above = [parts[: depth + 1] for depth in range(len(parts))]
    if any(store.holds(*folder, _mark(effect)) for folder in above for effect in EFFECTS):
        raise Undeliverable("the account is named as a folder that holds other accounts; a person must look.")


def _checked_root(root: object) -> str:
    """The protocol of a well-formed root, or :class:`InvalidInput`."""
    if not isinstance(root, str) or not root.strip():
        raise InvalidInput("The root is blank: name the folder of the accounts' folders, such as file:///srv/content.")
    if any(":" in part.rpartition("@")[0] for part in root.split("/")):
        raise InvalidInput("The root holds credentials: put them into the options, or into the environment.")
    protocol, separator, path = root.partition("://")
    if not separator or protocol not in PROTOCOLS:
        raise InvalidInput(
            f"The root {shown(root)} begins with none of {', '.join(f'{name}://' for name in PROTOCOLS)}. "
            "A path is written file:///srv/content. Other file systems can be mounted."
        )
    if protocol == "file":
        if not path.startswith("/"):
            raise InvalidInput(
                f"The root {shown(root)} needs a third slash before its path, such as file:///srv/content."
            )
        path = path.removeprefix("/")
    _check_path(f"The root {shown(root)}", path)
    return protocol


def _checked_prefix(prefix: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parts of a well-formed prefix: those above the account's folder, and those from there on."""
    if not isinstance(prefix, str) or prefix.count(ACCOUNT) != 1 or not prefix.endswith("/"):
        raise InvalidInput(
            f"The prefix {shown(prefix)} must hold {ACCOUNT} once and end in a slash, such as {ACCOUNT}/."
        )
    path = prefix.removesuffix("/")
    _check_path(f"The prefix {shown(prefix)}", path.replace(ACCOUNT, "account"))
    parts = tuple(path.split("/"))
    if ACCOUNT not in parts:
        raise InvalidInput(
            f"The prefix {shown(prefix)} adds to the account's name. Its folder must be named as the account, or an "
            "account's backups such as acme-backups would be the content of the account acme-backups."
        )
    at = parts.index(ACCOUNT)
    return parts[:at], parts[at:]


def _check_path(what: str, path: str) -> None:
    for part in path.split("/"):
        if not part:
            raise InvalidInput(f"{what} has an empty part: is a variable blank, or is there a slash too many?")
        if part in (".", "..") or part != part.strip() or not part.isprintable():
            raise InvalidInput(
                f"{what} has the part {shown(part)}: write a plain path, without . and .. and outer spaces."
            )
        if _UNFILLED.search(part):
            raise InvalidInput(f"{what} has the part {shown(part)}, which nothing fills in: write the path itself.")


def _check_library(protocol: str, options: Mapping[str, Any]) -> None:
    if protocol == "file":
        if options:
            raise InvalidInput("A root on a disk takes no options.")
        return
    try:
        from fsspec import get_filesystem_class  # type: ignore[import-untyped]

        get_filesystem_class(protocol)
    except ImportError as error:
        raise InvalidInput(f"A root of {protocol}:// needs a library that is not installed: {error}.") from error


def _kind(error: Exception) -> str:
    """What went wrong, without the error's own text: it may hold the name of a file."""
    answer = getattr(error.__cause__ or error, "response", None)
    if isinstance(answer, dict):
        code = answer.get("Error", {}).get("Code")
        detail = f"{code} from {getattr(error.__cause__ or error, 'operation_name', 'the store')}"
    elif isinstance(error, OSError) and error.errno:
        detail = os.strerror(error.errno)
    else:
        return type(error).__name__
    return f"{type(error).__name__}: {detail}"
