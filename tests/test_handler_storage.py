"""Storage: what is the account's goes, nothing else does, and only what a second look finds gone is confirmed."""

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from moto.server import DomainDispatcherApplication, ThreadedMotoServer, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import make_server

from lifecycle import InvalidInput, Task
from lifecycle.handlers import stores
from lifecycle.handlers.storage import Storage
from lifecycle.handlers.stores import StorageFailed
from lifecycle.task import Found, Receipt, Undeliverable
from tests.conftest import SOAK

MARK = ".delete_content"
NEIGHBOURS = ("ACME", "acme-2", "acme.", "acme.bak", "acm", "Acme", "acme:1", "acme_")
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


def task(account: Any = "acme", effect: str = "delete_content") -> Task:
    owed = {"company": "Acme Ltd", "owners": ["ann@acme.test"]}
    return Task(1, account, effect, owed, 1, f"{account}:1:{effect}")


def erased(receipt: str) -> tuple[Found, int]:
    said = Receipt.read(receipt)
    assert said is not None
    return said.outcome, said.count


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def tree(root: Path) -> set[str]:
    """Every file, link and folder, without following links."""
    return {
        os.path.relpath(os.path.join(folder, name), root)
        for folder, folders, files in os.walk(root)
        for name in (*folders, *files)
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of accounts' folders, marked as such."""
    write(tmp_path / "content", MARK, "acme/a.txt", "acme/deep/er/b.txt", *(f"{name}/c.txt" for name in NEIGHBOURS))
    return tmp_path / "content"


def on_disk(root: Path, prefix: str = "{account}/", **settings: Any) -> Storage:
    return Storage(f"file://{root}", prefix, **settings)


# --- What was configured ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slip",
    [
        "",
        "  ",
        "/",
        "/srv/content",
        "~/content",
        "srv/content",
        "file://",
        "file:///",
        "file://srv/content",
        "file:///srv/content/",
        "file:///srv//content",
        "file:///srv/../etc",
        "file:///srv/./content",
        "file:///~/content",
        "file:///srv/$CONTENT",
        "file:///srv/{account}",
        "file:///srv/ content",
        "file:///srv/con\ntent",
        "s3://",
        "s3:///customers",
        "s3://bucket/",
        "s3://bucket//customers",
        "s3://bucket/cust*",
        "s3://bucket/customers?versionId=1",
        "s3:/bucket/customers",
        "S3://bucket/customers",
        "sftp://host/customers",
        "simplecache::s3://bucket/customers",
        "dir::file:///srv",
        "https://bucket.s3.amazonaws.com/customers",
        None,
        Path("/srv/content"),
    ],
)
def test_a_root_that_may_be_a_slip_is_refused(slip: Any) -> None:
    with pytest.raises(InvalidInput, match="The root"):
        Storage(slip)


def test_credentials_in_a_root_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput, match="options") as refused:
        Storage("s3://AKIA:hunter2@bucket/customers")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "slip",
    [
        "",
        "/",
        "{account}",
        "customers/",
        "{company}/",
        "{account}/{company}/",
        "{account}/{account}/",
        "/{account}/",
        "{account}//",
        "{account}/../",
        "../{account}/",
        "./{account}/",
        "{account}/*/",
        "$TENANT/{account}/",
        "~/{account}/",
        "{account}-backups/",
        "tenant-{account}/",
        "{ACCOUNT}/",
        None,
    ],
)
def test_a_prefix_that_is_not_one_accounts_folder_is_refused(slip: Any) -> None:
    with pytest.raises(InvalidInput, match="The prefix"):
        Storage("file:///srv/content", slip)


@pytest.mark.parametrize(
    "settings",
    [{"batch": 0}, {"batch": 1001}, {"timeout": timedelta(0)}, {"name": " "}, {"options": {"auto_mkdir": True}}],
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Storage("file:///srv/content", **settings)


def test_a_library_that_is_not_installed_is_named_before_the_first_task() -> None:
    with pytest.raises(InvalidInput, match=r"not installed.*gcsfs"):
        Storage("gs://bucket/customers")


# --- Disks ------------------------------------------------------------------------------------------


def test_an_accounts_folder_is_erased_and_counted_and_its_neighbours_stay(root: Path) -> None:
    storage = on_disk(root, name="content")
    before = tree(root)
    receipt = storage(task())
    assert Receipt.read(receipt) == Receipt("content", Found.ERASED, 2)
    assert tree(root) == {name for name in before if name != "acme" and not name.startswith("acme/")}


def test_what_is_absent_is_confirmed_as_absent_also_the_second_time(root: Path) -> None:
    storage = on_disk(root)
    assert erased(storage(task("nobody"))) == (Found.ABSENT, 0)
    storage(task())
    assert erased(storage(task())) == (Found.ABSENT, 0)


def test_a_folder_without_files_is_erased_too(root: Path) -> None:
    (root / "hollow/inner").mkdir(parents=True)
    assert erased(on_disk(root)(task("hollow"))) == (Found.ERASED, 0)
    assert not (root / "hollow").exists()


def test_only_the_configured_part_of_an_account_is_erased(root: Path) -> None:
    write(root, "users/.delete_content", "users/acme/files/1", "users/acme/keys/1", "users/bolt/files/1")
    assert erased(on_disk(root, "users/{account}/files/")(task())) == (Found.ERASED, 1)
    assert tree(root / "users") == {MARK, "acme", "acme/keys", "acme/keys/1", "bolt", "bolt/files", "bolt/files/1"}
    assert (root / "acme/a.txt").exists()


def test_names_that_are_no_text_are_erased(root: Path) -> None:
    with open(os.fsencode(root / "acme") + b"/\xff\xfe*?[x]\n", "w"):
        pass
    assert erased(on_disk(root)(task())) == (Found.ERASED, 3)


def test_links_are_unlinked_and_never_followed(root: Path, tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/keep.txt")
    (root / "acme/out").symlink_to(tmp_path / "elsewhere")
    (root / "acme/deep/neighbour").symlink_to("../../acme-2")
    (root / "acme/deep/up").symlink_to("..")
    (root / "acme/broken").symlink_to("nowhere")
    (root / "acme/file").symlink_to(tmp_path / "elsewhere/keep.txt")
    assert erased(on_disk(root)(task())) == (Found.ERASED, 7)
    assert (tmp_path / "elsewhere/keep.txt").read_text() == "elsewhere/keep.txt"
    assert (root / "acme-2/c.txt").exists()
    assert not (root / "acme").exists()


@pytest.mark.parametrize("target", ["acme-2", "../elsewhere", "nowhere", "."])
def test_a_link_in_the_place_of_an_accounts_folder_is_left_for_a_person(
    root: Path, tmp_path: Path, target: str
) -> None:
    write(tmp_path, "elsewhere/keep.txt")
    (root / "linked").symlink_to(target)
    before = tree(tmp_path)
    with pytest.raises(Undeliverable, match="a person must look"):
        on_disk(root)(task("linked"))
    assert tree(tmp_path) == before


def test_a_link_further_down_the_prefix_is_left_for_a_person(root: Path) -> None:
    (root / "acme/files").symlink_to("../acme-2")
    with pytest.raises(Undeliverable, match="a person must look"):
        on_disk(root, "{account}/files/")(task())
    assert (root / "acme-2/c.txt").exists()


def test_a_file_in_the_place_of_an_accounts_folder_is_left_for_a_person(root: Path) -> None:
    write(root, "filed")
    with pytest.raises(Undeliverable, match="a person must look"):
        on_disk(root)(task("filed"))
    assert (root / "filed").exists()


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(root)
    assert erased(on_disk(tmp_path / "current")(task())) == (Found.ERASED, 2)


def test_no_folder_is_entered_on_another_disk() -> None:
    above = os.open("/", os.O_RDONLY)
    try:
        assert os.stat("/proc").st_dev != os.stat("/").st_dev
        with pytest.raises(Undeliverable, match="another disk"):
            stores._entered(above, "proc")
    finally:
        os.close(above)


def test_a_disk_that_takes_acme_for_another_spelling_does_not_lose_the_wrong_account(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def folding(name: Any, **options: Any) -> os.stat_result:
        try:
            return look(name, **options)
        except FileNotFoundError:
            return look(name.swapcase(), **options)

    monkeypatch.setattr(os, "stat", folding)
    write(root, "bolt/b.txt")
    with pytest.raises(Undeliverable, match="capital letters"):
        on_disk(root)(task("BOLT"))
    assert (root / "bolt/b.txt").exists()
    assert erased(on_disk(root)(task("bolt"))) == (Found.ERASED, 1)


def test_thousands_of_files_go_in_bounded_pages_with_few_descriptors(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(5000):
        folder = root / f"acme/{index % 7}/{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.txt").touch()
    pages: list[int] = []
    descriptors: list[int] = []
    emptied = stores.Disk._emptied

    def spied(*arguments: Any) -> Iterator[int]:
        for count in emptied(*arguments):
            pages.append(count)
            descriptors.append(len(os.listdir("/proc/self/fd")))
            yield count

    monkeypatch.setattr(stores.Disk, "_emptied", spied)
    before = len(os.listdir("/proc/self/fd"))
    assert erased(on_disk(root, batch=100)(task())) == (Found.ERASED, 5002)
    assert max(pages) == 100
    assert max(descriptors) <= before + 8
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_unmounted_disk_or_another_folder_confirms_nothing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"no object named \.delete_content.*mounted"):
        on_disk(tmp_path / "gone")(task())
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageFailed, match="mounted"):
        on_disk(tmp_path / "empty")(task())
    with pytest.raises(StorageFailed, match="mounted"):
        on_disk(root / "acme/a.txt")(task())
    (root / MARK).unlink()
    with pytest.raises(StorageFailed, match="mounted"):
        on_disk(root)(task())
    (root / MARK).mkdir()
    with pytest.raises(StorageFailed, match="mounted"):
        on_disk(root)(task())
    assert (root / "acme/a.txt").exists()


def test_each_effect_erases_only_where_its_own_mark_is(root: Path) -> None:
    with pytest.raises(StorageFailed, match=r"\.purge_backups"):
        on_disk(root)(task(effect="purge_backups"))
    assert (root / "acme/a.txt").exists()
    write(root, ".purge_backups")
    assert erased(on_disk(root)(task(effect="purge_backups"))) == (Found.ERASED, 2)


@pytest.mark.parametrize("effect", ["stop_billing", "remind_deletion", ""])
def test_no_other_effect_erases_anything(root: Path, effect: str) -> None:
    write(root, f".{effect or 'x'}")
    with pytest.raises(Undeliverable, match="only erases"):
        on_disk(root)(task(effect=effect))
    assert (root / "acme/a.txt").exists()


@pytest.mark.parametrize(
    "account", ["", ".", "..", "../content", "acme/", "/acme", "acme/deep", "acme\n", "acme\0", "a" * 65, "-acme", "*",
                ".delete_content", "{account}", "ácme", "acme ", None, 7]
)  # fmt: skip
def test_an_account_id_that_is_none_erases_nothing_and_is_not_repeated(root: Path, account: Any) -> None:
    before = tree(root)
    with pytest.raises(Undeliverable) as refused:
        on_disk(root)(task(account))
    assert str(refused.value).endswith("the account id is malformed; nothing was erased.")
    assert tree(root) == before


@pytest.mark.parametrize("part", ["..", ".", "", "{account}/.."])
def test_a_path_that_climbs_is_refused_even_where_the_configuration_let_it_pass(root: Path, part: str) -> None:
    storage = on_disk(root)
    storage._own = ("{account}", part)
    before = tree(root)
    with pytest.raises(Undeliverable, match="make no path"):
        storage(task())
    assert tree(root) == before


def test_an_account_named_as_a_folder_of_accounts_is_left_for_a_person(root: Path) -> None:
    write(root, "users/.purge_backups", "users/bolt/b.txt", "users/files/f.txt")
    for prefix in ("{account}/", "{account}/files/"):
        with pytest.raises(Undeliverable, match="holds other accounts"):
            on_disk(root, prefix)(task("users"))
    assert (root / "users/bolt/b.txt").exists()
    assert (root / "users/files/f.txt").exists()


def test_what_takes_too_long_fails_and_is_continued_by_the_next_attempt(root: Path) -> None:
    write(root, *(f"flat/{index}" for index in range(5)))
    storage = on_disk(root, batch=2, timeout=timedelta(microseconds=1))
    for left in (3, 1, 0):
        with pytest.raises(StorageFailed, match="the next attempt goes on"):
            storage(task("flat"))
        assert len(list((root / "flat").iterdir())) == left
    assert erased(on_disk(root)(task("flat"))) == (Found.ERASED, 0)


def test_a_closed_handler_stops_after_the_page_in_hand(root: Path) -> None:
    storage = on_disk(root, batch=1)
    storage.close()
    with pytest.raises(StorageFailed, match="shutting down"):
        storage(task())
    assert (root / "acme").exists()


def test_what_is_back_at_the_second_look_is_not_confirmed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = stores.Disk.left

    def late(disk: stores.Disk, parts: tuple[str, ...]) -> Iterator[int]:
        write(root, "acme/late/1", "acme/late/2")
        return look(disk, parts)

    monkeypatch.setattr(stores.Disk, "left", late)
    with pytest.raises(StorageFailed, match="4 objects are listed after 2 were erased"):
        on_disk(root)(task())


def test_errors_do_not_repeat_the_names_of_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "acme/ann@acme.test.pdf")

    def stuck(name: str, **_: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", name)

    monkeypatch.setattr(os, "unlink", stuck)
    with pytest.raises(StorageFailed) as failed:
        on_disk(root, name="content")(task())
    assert str(failed.value) == "content: OSError: Device or resource busy."
    assert failed.value.__suppress_context__


def test_a_folder_that_may_not_be_entered_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shut(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "ann@acme.test")

    monkeypatch.setattr(stores, "_entered", shut)
    with pytest.raises(StorageFailed, match=r": PermissionError: Permission denied\.$"):
        on_disk(root)(task())


def test_a_second_look_that_can_not_see_confirms_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter = os.open

    def half_blind(name: Any, *arguments: Any, **options: Any) -> int:
        if name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", "ann@acme.test")
        return enter(name, *arguments, **options)

    monkeypatch.setattr(stores.Disk, "_emptied", lambda *_: iter(()))
    monkeypatch.setattr(os, "open", half_blind)
    with pytest.raises(StorageFailed, match=r": PermissionError: Permission denied\.$"):
        on_disk(root)(task())


LETTERS = st.sampled_from("aA0.-_:/~* \n{")
ACCOUNTS = st.one_of(
    st.sampled_from(("acme", *NEIGHBOURS, "acme/deep", "..", "acme/..", "acme/../acme-2", "/", "users")),
    st.text(LETTERS, max_size=5),
)
PREFIXES = st.one_of(
    st.sampled_from(("{account}/", "{account}/deep/", "users/{account}/")),
    st.lists(st.one_of(st.just("{account}"), st.text(LETTERS, max_size=3)), max_size=3).map("/".join),
)


@settings(max_examples=100 * SOAK)
@given(account=ACCOUNTS, others=st.sets(ACCOUNTS, max_size=4), prefix=PREFIXES)
def test_nothing_outside_of_an_accounts_own_folder_is_ever_touched(
    tmp_path_factory: pytest.TempPathFactory, account: str, others: set[str], prefix: str
) -> None:
    root = tmp_path_factory.mktemp("world") / "content"
    write(root.parent, "outside.txt", "content/.delete_content", "content/users/acme/u.txt")
    for name in (account, *others, *NEIGHBOURS):
        if name and "/" not in name and name not in (".", ".."):
            write(root, f"{name}/c.txt", f"{name}/deep/d.txt")
    before = tree(root.parent)
    try:
        storage = on_disk(root, prefix)
    except InvalidInput:
        assume(False)
    place = storage.place.removeprefix(f"file://{root}").strip("/")
    if place:
        (root / place).mkdir(parents=True, exist_ok=True)
        (root / place / MARK).touch()
        before = tree(root.parent)
    own = os.path.relpath(root / prefix.replace("{account}", account), root.parent)
    try:
        storage(task(account))
    except Undeliverable:
        assert tree(root.parent) == before
    else:
        gone = before - tree(root.parent)
        assert gone == {name for name in before if name == own or name.startswith(f"{own}/")}
        assert "/" not in account


# --- S3 ---------------------------------------------------------------------------------------------


@cache
def client(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint, **CREDENTIALS)


class S3:
    """A bucket on a server that speaks S3, with a marked folder of accounts' folders."""

    def __init__(self, endpoint: str, **settings: Any) -> None:
        self.endpoint = endpoint
        self.client = client(endpoint)
        self.bucket = f"b{uuid4().hex}"
        self.client.create_bucket(Bucket=self.bucket, **settings)
        self.put(f"customers/{MARK}")

    def put(self, *keys: str) -> None:
        for key in keys:
            self.client.put_object(Bucket=self.bucket, Key=key, Body=key.encode())

    def version(self, status: str) -> None:
        self.client.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": status})

    def current(self) -> set[str]:
        return {entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ())}

    def versions(self) -> Counter[str]:
        """How many versions and delete markers each key has."""
        listed = self.client.list_object_versions(Bucket=self.bucket)
        return Counter(entry["Key"] for name in ("Versions", "DeleteMarkers") for entry in listed.get(name, ()))

    def uploads(self) -> set[str]:
        return {entry["Key"] for entry in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())}

    def storage(self, root: str = "customers", **settings: Any) -> Storage:
        return Storage(f"s3://{self.bucket}/{root}".rstrip("/"), options=options(self.endpoint), **settings)


def options(endpoint: str) -> dict[str, Any]:
    client = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    return {"key": "test", "secret": "test", "client_kwargs": client, "config_kwargs": {"retries": {"max_attempts": 0}}}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str) -> S3:
    return S3(endpoint)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every request that goes out through s3fs."""
    seen: list[tuple[str, dict[str, Any]]] = []
    send = S3FileSystem.call_s3

    def spied(system: S3FileSystem, method: str, **arguments: Any) -> Any:
        seen.append((method, arguments))
        return send(system, method, **arguments)

    monkeypatch.setattr(S3FileSystem, "call_s3", spied)
    return seen


def test_a_prefix_of_a_bucket_is_erased_and_counted_and_its_neighbours_stay(s3: S3) -> None:
    s3.put("customers/acme", "customers/acme/", "customers/acme/a.txt", "customers/acme/deep/b.txt")
    s3.put(*(f"customers/{name}/c.txt" for name in NEIGHBOURS), "acme/d.txt", "customers2/acme/e.txt")
    before = s3.current()
    storage = s3.storage(name="content")
    assert Receipt.read(storage(task())) == Receipt("content", Found.ERASED, 3)
    assert s3.current() == {key for key in before if not key.startswith("customers/acme/")}
    assert erased(storage(task())) == (Found.ABSENT, 0)


def test_a_whole_bucket_can_be_the_place_if_it_is_marked(s3: S3) -> None:
    s3.put("acme/a.txt", "acme-2/a.txt")
    with pytest.raises(StorageFailed, match=r"no object named \.delete_content"):
        s3.storage("")(task())
    s3.put(MARK)
    assert erased(s3.storage("")(task())) == (Found.ERASED, 1)
    with pytest.raises(Undeliverable, match="holds other accounts"):
        s3.storage("")(task("customers"))
    assert s3.current() == {MARK, "acme-2/a.txt", f"customers/{MARK}"}


def test_keys_that_look_like_paths_patterns_or_markup_are_erased_as_they_are(s3: S3) -> None:
    odd = ("../acme-2/x", "/x", "//", "a*", "[a]?", "ä&<>'\"", "a%2Fb", " a ", "a+b", "?versionId=1", "#a")
    s3.put(*(f"customers/acme/{name}" for name in odd), "customers/acme-2/x", "customers/acme-2/a%2Fb")
    assert erased(s3.storage()(task())) == (Found.ERASED, len(odd))
    assert s3.current() == {f"customers/{MARK}", "customers/acme-2/x", "customers/acme-2/a%2Fb"}


def test_a_large_prefix_goes_page_by_page(s3: S3, requests: list[tuple[str, dict[str, Any]]]) -> None:
    s3.put(*(f"customers/acme/{index}" for index in range(25)))
    assert erased(s3.storage(batch=10)(task())) == (Found.ERASED, 25)
    sizes = [len(asked["Delete"]["Objects"]) for method, asked in requests if method == "delete_objects"]
    assert sizes == [10, 10, 5]
    assert all(asked.get("MaxKeys", 0) <= 10 for _, asked in requests)


def test_every_version_and_delete_marker_goes(s3: S3) -> None:
    s3.put("customers/acme/before", "customers/acme-2/a")
    s3.version("Enabled")
    for _ in range(3):
        s3.put("customers/acme/a", "customers/acme/b", "customers/acme-2/a")
    s3.client.delete_object(Bucket=s3.bucket, Key="customers/acme/a")
    storage = s3.storage(batch=2)
    receipt = Receipt.read(storage(task()))
    assert receipt is not None
    assert (receipt.outcome, receipt.count, receipt.unit) == (Found.ERASED, 8, "versions")
    assert s3.versions() == {f"customers/{MARK}": 1, "customers/acme-2/a": 4}
    assert erased(storage(task())) == (Found.ABSENT, 0)


def test_versions_go_too_where_versioning_was_suspended(s3: S3) -> None:
    s3.version("Enabled")
    s3.put(*["customers/acme/a"] * 3, "customers/acme-2/a")
    s3.version("Suspended")
    receipt = Receipt.read(s3.storage()(task()))
    assert receipt is not None
    assert (receipt.outcome, receipt.count, receipt.unit) == (Found.ERASED, 3, "versions")
    assert set(s3.versions()) == {f"customers/{MARK}", "customers/acme-2/a"}


def test_an_object_that_only_looks_deleted_is_erased_with_its_versions(s3: S3) -> None:
    s3.version("Enabled")
    s3.put("customers/acme/a")
    s3.client.delete_object(Bucket=s3.bucket, Key="customers/acme/a")
    assert "customers/acme/a" not in s3.current()
    assert erased(s3.storage()(task())) == (Found.ERASED, 2)
    assert set(s3.versions()) == {f"customers/{MARK}"}


def test_unfinished_uploads_are_aborted(s3: S3) -> None:
    for key in ("customers/acme/a", "customers/acme/b", "customers/acme-2/a"):
        upload = s3.client.create_multipart_upload(Bucket=s3.bucket, Key=key)
        s3.client.upload_part(Bucket=s3.bucket, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"part")
    assert erased(s3.storage()(task())) == (Found.ERASED, 2)
    assert s3.uploads() == {"customers/acme-2/a"}


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_what_a_lock_retains_is_not_confirmed_and_the_rest_is_erased(endpoint: str, batch: int) -> None:
    s3 = S3(endpoint, ObjectLockEnabledForBucket=True)
    locked = {f"customers/acme/{name}" for name in ("ann@acme.test", "b", "c", "x")}
    s3.put(*locked, *(f"customers/acme/{index}" for index in range(7)), "customers/acme/w", "customers/acme/z")
    for key in locked:
        s3.client.put_object_legal_hold(Bucket=s3.bucket, Key=key, LegalHold={"Status": "ON"})
    with pytest.raises(StorageFailed, match="4 versions remain, refused with AccessDenied") as failed:
        s3.storage(batch=batch)(task())
    assert "ann" not in str(failed.value)
    assert set(s3.versions()) == {f"customers/{MARK}", *locked}


def test_the_second_look_is_no_remembered_one(s3: S3) -> None:
    storage = s3.storage()
    assert erased(storage(task())) == (Found.ABSENT, 0)
    s3.put("customers/acme/a")
    assert erased(storage(task())) == (Found.ERASED, 1)


def test_what_a_server_only_says_to_have_erased_is_not_confirmed(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("customers/acme/ann@acme.test", "customers/acme/b")
    monkeypatch.setattr(stores.Bucket, "_deleted", lambda *_: [])
    with pytest.raises(StorageFailed, match="2 objects are listed after 2 were erased") as failed:
        s3.storage()(task())
    assert "ann" not in str(failed.value)
    with pytest.raises(StorageFailed, match="still lists what it says it has erased"):
        s3.storage(batch=1)(task())


def test_a_bucket_or_a_folder_that_is_not_there_confirms_nothing(s3: S3) -> None:
    s3.put("customers/acme/a")
    nowhere = Storage(f"s3://b{uuid4().hex}/customers", options=options(s3.endpoint))
    with pytest.raises(StorageFailed, match=r"it can't be read: FileNotFoundError.*bucket does not exist"):
        nowhere(task())
    for slip in ("custmers", "customers/acme"):
        with pytest.raises(StorageFailed, match="no object named"):
            s3.storage(slip)(task())
    assert "customers/acme/a" in s3.current()


def test_a_server_that_can_not_be_reached_is_tried_again_over_a_new_connection(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = make_server("127.0.0.1", 0, lambda *_: [])
    nobody.server_close()
    storage = s3.storage()
    storage._options = options(f"http://127.0.0.1:{nobody.port}")
    with pytest.raises(StorageFailed, match="it can't be read: EndpointConnectionError"):
        storage(task())
    storage._options = options(s3.endpoint)
    assert erased(storage(task())) == (Found.ABSENT, 0)


def proxied(answer: Callable[[str], int | None]) -> Iterator[str]:
    """An S3 server that answers what ``answer`` says to a request's query, and the rest as it should."""
    backend = DomainDispatcherApplication(create_backend_app)

    def application(environ: Any, start: Any) -> Any:
        status = answer(environ["QUERY_STRING"])
        if status is None:
            return backend(environ, start)
        code = {403: "AccessDenied", 501: "NotImplemented"}[status]
        start(f"{status} {code}", [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>no ann@acme.test</Message></Error>".encode()]

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def simple() -> Iterator[str]:
    """A server without versions and without a listing of uploads."""
    yield from proxied(lambda query: 501 if "versioning" in query or "uploads" in query else None)


@pytest.fixture
def guarded() -> Iterator[str]:
    """A server that does not tell whether it keeps versions."""
    yield from proxied(lambda query: 403 if "versioning" in query else None)


def test_a_server_that_knows_no_versions_has_none(simple: str) -> None:
    s3 = S3(simple)
    s3.put("customers/acme/a")
    assert erased(s3.storage()(task())) == (Found.ERASED, 1)
    assert s3.current() == {f"customers/{MARK}"}


@pytest.fixture
def forgetful() -> Iterator[str]:
    """A server that keeps versions and does not list them."""
    yield from proxied(lambda query: 501 if query.startswith("versions") else None)


def test_versions_that_can_not_be_listed_are_not_confirmed(forgetful: str) -> None:
    s3 = S3(forgetful)
    s3.version("Enabled")
    s3.put("customers/acme/a")
    with pytest.raises(StorageFailed, match="NotImplemented from ListObjectVersions"):
        s3.storage()(task())


def test_where_nobody_may_ask_for_versions_nothing_is_erased_or_confirmed(guarded: str) -> None:
    s3 = S3(guarded)
    s3.put("customers/acme/a")
    with pytest.raises(StorageFailed, match="PermissionError: AccessDenied from GetBucketVersioning") as failed:
        s3.storage()(task())
    assert "ann" not in str(failed.value)
    assert "customers/acme/a" in s3.current()


# --- Other object stores ----------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    system = MemoryFileSystem()
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    for name in (MARK, "acme/a.txt", "acme/deep/b[1]*.txt", "acme/deep/b1.txt", "acme-2/c.txt", "file"):
        system.pipe_file(f"/customers/{name}", b"x")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_the_receipt_of_another_store_says_what_was_not_looked_at(memory: MemoryFileSystem) -> None:
    memory.mkdir("/customers/acme/empty")
    storage = Storage("memory://customers", batch=2)
    receipt = Receipt.read(storage(task()))
    assert receipt is not None
    assert (receipt.outcome, receipt.count) == (Found.ERASED, 3)
    assert receipt.reason is not None and "versions" in receipt.reason
    assert memory.find("/customers") == [f"/customers/{MARK}", "/customers/acme-2/c.txt", "/customers/file"]
    assert not memory.exists("/customers/acme")
    assert erased(storage(task())) == (Found.ABSENT, 0)


def test_another_store_is_marked_too_and_its_odd_cases_are_left_for_a_person(memory: MemoryFileSystem) -> None:
    with pytest.raises(StorageFailed, match="no object named"):
        Storage("memory://custmers")(task())
    with pytest.raises(Undeliverable, match="a person must look"):
        Storage("memory://customers")(task("file"))
    assert memory.exists("/customers/file")


def test_names_that_look_like_patterns_erase_nothing_but_themselves(memory: MemoryFileSystem) -> None:
    for name in ("odd/[x]*", "odd/a?", "odd/{b}"):
        memory.pipe_file(f"/customers/{name}", b"x")
    assert erased(Storage("memory://customers")(task("odd"))) == (Found.ERASED, 3)
    assert memory.exists("/customers/acme-2/c.txt")


def test_an_error_of_another_store_is_told_by_its_kind_alone(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("ann@acme.test")

    monkeypatch.setattr(MemoryFileSystem, "ls", broken)
    storage = Storage("memory://customers")
    with pytest.raises(StorageFailed, match=r"^memory://customers: ValueError\.$"):
        storage(task())
    assert storage._store is None  # the next task connects anew


def test_a_store_that_keeps_what_it_was_told_to_erase_is_not_believed(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "rm", lambda *_, **__: None)
    with pytest.raises(StorageFailed, match="2 objects are listed after 3 were erased"):
        Storage("memory://customers")(task())


def test_a_listing_of_what_was_not_asked_for_erases_nothing(
    s3: S3, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("customers/acme/a", "customers/acme-2/a")
    send = stores.Bucket._call

    def loose(bucket: stores.Bucket, method: str, **arguments: Any) -> dict[str, Any]:
        if arguments.get("Prefix") == "customers/acme/":
            arguments["Prefix"] = "customers/acme"
        return send(bucket, method, **arguments)

    monkeypatch.setattr(stores.Bucket, "_call", loose)
    with pytest.raises(StorageFailed, match="was not asked for"):
        s3.storage()(task())
    assert {"customers/acme/a", "customers/acme-2/a"} < s3.current()
    neighbours = memory.ls("/customers/acme-2", detail=True)
    monkeypatch.setattr(MemoryFileSystem, "ls", lambda *_, **__: neighbours)
    with pytest.raises(StorageFailed, match="was not asked for"):
        Storage("memory://customers")(task())
    assert memory.exists("/customers/acme-2/c.txt")
