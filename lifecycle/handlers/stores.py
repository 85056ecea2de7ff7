"""Where :mod:`lifecycle.handlers.storage` erases: disks, S3, and object stores through fsspec's common interface."""

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from lifecycle.task import Undeliverable

#: How many objects went, or are listed, with each page.
Counts = Generator[int, None, None]

#: What fsspec takes for a pattern.
_PATTERN = re.compile(r"[*?\[\]{}]")


class StorageFailed(Exception):
    """The content is not, or not yet, known to be gone. The message names no file, since that may name a person."""


class Store(Protocol):
    """One kind of store, at the folder that holds the accounts' folders.

    ``parts`` lead from there: for ``holds`` to one object, else to what is the account's. ``erase`` yields nothing
    where nothing is; ``left``, the second look, where nothing is listed any more. ``note`` goes into the receipt.
    """

    @property
    def note(self) -> str | None: ...
    @property
    def unit(self) -> str: ...
    def holds(self, *parts: str) -> bool: ...
    def erase(self, parts: tuple[str, ...]) -> Counts: ...
    def left(self, parts: tuple[str, ...]) -> Counts: ...


# --- Disks ------------------------------------------------------------------------------------------


@dataclass
class _Folder:
    """A folder that is being emptied. Its descriptor stays true when somebody puts another in its place."""

    descriptor: int
    name: str
    inner: list[str] = field(default_factory=list)  # folders seen in it that are still to be emptied


class Disk:
    """Folders on a disk, entered one by one through descriptors, so that no link ever leads elsewhere."""

    note = None
    unit = "objects"

    def __init__(self, place: str, batch: int) -> None:
        self._place = place
        self._batch = batch

    def holds(self, *parts: str) -> bool:
        try:
            return stat.S_ISREG(os.lstat("/".join((self._place, *parts))).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def erase(self, parts: tuple[str, ...]) -> Counts:
        with ExitStack() as opened:
            above = self._above(opened, parts)
            if above is not None:
                yield from self._emptied(above, parts[-1])

    def left(self, parts: tuple[str, ...]) -> Counts:
        with ExitStack() as opened:
            above = self._above(opened, parts)
            if above is not None:
                yield 1  # the folder itself
                for _, folders, files, _ in os.fwalk(parts[-1], dir_fd=above, onerror=_raise):
                    yield len(folders) + len(files)

    def _above(self, opened: ExitStack, parts: tuple[str, ...]) -> int | None:
        """The folder that holds the last of ``parts``, or None where that is absent."""
        way = [os.open(self._place, os.O_RDONLY | os.O_DIRECTORY)]
        opened.callback(os.close, way[0])
        for name in parts:
            if not _present(way[-1], name):
                return None
            try:
                way.append(_entered(way[-1], name))
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise Undeliverable("a link or a file is in the place of the folder; a person must look.") from None
            opened.callback(os.close, way[-1])
        return way[-2]

    def _emptied(self, above: int, name: str) -> Counts:
        """Erase a folder and all below it, the deepest first, one page of names at a time; an empty one counts 0."""
        trail = [_Folder(_entered(above, name), name)]
        try:
            while trail:
                folder = trail[-1]
                if folder.inner:
                    inner = folder.inner.pop()
                    trail.append(_Folder(_entered(folder.descriptor, inner), inner))
                    continue
                with os.scandir(folder.descriptor) as listing:
                    page = list(islice(listing, self._batch))
                for entry in page:
                    if entry.is_dir(follow_symlinks=False):
                        folder.inner.append(entry.name)
                    else:
                        os.unlink(entry.name, dir_fd=folder.descriptor)
                if not page:
                    os.close(trail.pop().descriptor)
                    os.rmdir(folder.name, dir_fd=trail[-1].descriptor if trail else above)
                yield len(page) - len(folder.inner)
        finally:
            for folder in trail:
                os.close(folder.descriptor)


def _entered(above: int, name: str) -> int:
    """A descriptor of the folder ``name``, which is no link and on the same disk."""
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    if os.fstat(descriptor).st_dev != os.fstat(above).st_dev:
        os.close(descriptor)
        raise Undeliverable("another disk is mounted at or below the folder; a person must look.")
    return descriptor


def _present(above: int, name: str) -> bool:
    """Whether ``above`` holds this very name: some disks take Acme for acme, which is another account."""
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    with suppress(FileNotFoundError):
        other = os.stat(name.swapcase(), dir_fd=above, follow_symlinks=False)
        if name != name.swapcase() and os.path.samestat(found, other):
            with os.scandir(above) as listing:
                if all(entry.name != name for entry in listing):
                    raise Undeliverable("the folder differs in capital letters, so it may be another account's.")
    return True


def _raise(error: OSError) -> None:
    raise error


# --- S3 ---------------------------------------------------------------------------------------------


class _Listing(NamedTuple):
    """A request of S3 that lists: where its answer has the entries, and which of its marks ask for the next page."""

    method: str
    entries: tuple[str, ...]
    marks: dict[str, str]


_CURRENT = _Listing("list_objects_v2", ("Contents",), {"ContinuationToken": "NextContinuationToken"})
_VERSIONS = _Listing(
    "list_object_versions",
    ("Versions", "DeleteMarkers"),
    {"KeyMarker": "NextKeyMarker", "VersionIdMarker": "NextVersionIdMarker"},
)
_UPLOADS = _Listing(
    "list_multipart_uploads", ("Uploads",), {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
)
#: A server that does not know these keeps no versions, and no unfinished uploads that anybody could see.
_OPTIONAL = ("get_bucket_versioning", _UPLOADS.method)


class Bucket:
    """S3 through s3fs, but by S3's own requests: those list page by page, past every cache, and show versions."""

    note = None

    def __init__(self, system: Any, place: str, batch: int) -> None:
        self._system = system
        self._bucket, _, self._place = place.partition("/")
        self._batch = batch
        self._listings = (_UPLOADS, _CURRENT)

    @property
    def unit(self) -> str:
        return "versions" if _VERSIONS in self._listings else "objects"

    def holds(self, *parts: str) -> bool:
        key = self._key(*parts)
        listed = self._call(_CURRENT.method, Prefix=key, MaxKeys=1)
        return any(entry["Key"] == key for entry in listed.get("Contents", ()))

    def erase(self, parts: tuple[str, ...]) -> Counts:
        versioned = self._call("get_bucket_versioning").get("Status")  # suspended counts: what was kept is kept
        self._listings = (_UPLOADS, _VERSIONS if versioned else _CURRENT)
        refused: Counter[str] = Counter()
        for listing in self._listings:
            yield from self._emptied(listing, self._key(*parts, ""), refused)
        if refused:
            raise StorageFailed(f"{refused.total()} {self.unit} remain, refused with {', '.join(sorted(refused))}.")

    def left(self, parts: tuple[str, ...]) -> Counts:
        for listing in self._listings:
            marks: dict[str, str] | None = {}
            while marks is not None:
                page, marks = self._page(listing, self._key(*parts, ""), marks)
                if page:
                    yield len(page)

    def _emptied(self, listing: _Listing, prefix: str, refused: Counter[str]) -> Counts:
        """Erase page by page. Each listing starts where it did before, past no more than what was refused.

        Some servers find nothing after a mark that is erased.
        """
        marks: dict[str, str] = {}
        before: list[dict[str, Any]] = []
        while True:
            page, further = self._page(listing, prefix, marks)
            if page and page == before:
                raise StorageFailed("the store still lists what it says it has erased.")
            errors = self._aborted(page) if listing is _UPLOADS else self._deleted(page)
            if page:
                yield len(page) - len(errors)
            if further is None and (not errors or len(errors) == len(page)):
                refused.update(errors)
                return
            if further is not None and len(errors) == len(page):
                refused.update(errors)
                marks = further
            before = page

    def _key(self, *parts: str) -> str:
        return "/".join((self._place, *parts) if self._place else parts)

    def _page(
        self, listing: _Listing, prefix: str, marks: dict[str, str]
    ) -> tuple[list[dict[str, Any]], dict[str, str] | None]:
        """One page, and the marks of the next one; None where there is none."""
        answer = self._call(listing.method, Prefix=prefix, MaxKeys=self._batch, **marks)
        page = [entry for name in listing.entries for entry in answer.get(name, ())]
        if not all(entry["Key"].startswith(prefix) for entry in page):
            raise StorageFailed("the store lists what it was not asked for; nothing of that page was erased.")
        further = {mark: answer[name] for mark, name in listing.marks.items() if answer.get(name)}
        return page, further if answer.get("IsTruncated") else None

    def _deleted(self, page: list[dict[str, Any]]) -> list[str]:
        """Erase a page; returns the codes of what was refused."""
        if not page:
            return []
        objects = [{name: entry[name] for name in ("Key", "VersionId") if name in entry} for entry in page]
        answer = self._call("delete_objects", Delete={"Objects": objects, "Quiet": True})
        return [error.get("Code", "no reason") for error in answer.get("Errors", ())]

    def _aborted(self, page: list[dict[str, Any]]) -> list[str]:
        for upload in page:
            with suppress(FileNotFoundError):  # it was completed meanwhile, and is an object now
                self._call("abort_multipart_upload", Key=upload["Key"], UploadId=upload["UploadId"])
        return []

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._system.call_s3(method, Bucket=self._bucket, **arguments)
        except OSError as error:
            if error.errno != errno.ENOSYS or method not in _OPTIONAL:
                raise
            return {}
        return answer


# --- Other object stores ----------------------------------------------------------------------------


class Objects:
    """An object store through fsspec's common interface, which lists a whole folder at once."""

    note = "versions and soft-deleted copies, where the store keeps any, were not looked at"
    unit = "objects"

    def __init__(self, system: Any, place: str, batch: int) -> None:
        self._system = system
        self._place = place
        self._batch = batch

    def holds(self, *parts: str) -> bool:
        return self._type(*parts) == "file"

    def erase(self, parts: tuple[str, ...]) -> Counts:
        folder = self._folder(parts)
        if folder is None:
            return
        names = self._names(folder)
        while page := list(islice(names, self._batch)):
            plain = [name for name in page if not _PATTERN.search(name)]
            if plain:
                self._system.rm(plain)
            for name in page:
                if _PATTERN.search(name):
                    self._system.rm_file(name)
            yield len(page)
        if self._folder(parts) is not None:
            self._system.rm(folder, recursive=True)  # empty folders, where the store has such
        yield 0

    def left(self, parts: tuple[str, ...]) -> Counts:
        folder = self._folder(parts)
        if folder is not None:
            yield max(1, sum(1 for _ in self._names(folder)))

    def _folder(self, parts: tuple[str, ...]) -> str | None:
        """The account's folder, or None where it is absent."""
        kind = self._type(*parts)
        if kind not in (None, "directory"):
            raise Undeliverable("an object is in the place of the folder; a person must look.")
        return kind and "/".join((self._place, *parts))

    def _type(self, *parts: str) -> str | None:
        self._system.invalidate_cache()
        try:
            return str(self._system.info("/".join((self._place, *parts)))["type"])
        except FileNotFoundError:
            return None

    def _names(self, folder: str) -> Iterator[str]:
        """Every object below the folder; the listing of one folder is held at a time."""
        folders = [folder]
        while folders:
            current = folders.pop()
            for entry in self._system.ls(current, detail=True):
                name = str(entry["name"])
                if not name.startswith(f"{folder}/"):
                    raise StorageFailed("the store lists what it was not asked for.")
                if entry["type"] == "directory" and name.rstrip("/") != current:
                    folders.append(name.rstrip("/"))
                else:
                    yield name
