"""Files that appear when they are complete, or not at all."""

import os
from pathlib import Path

import pytest

from lifecycle.errors import InvalidInput
from lifecycle.files import PRIVATE, replacing


def test_a_file_takes_the_place_of_another_once_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_bytes(b"old")
    with replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_what_breaks_off_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_a_link_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    link = tmp_path / "page.html"
    link.symlink_to(tmp_path / "shared" / "page.html")
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "shared" / "page.html").read_bytes() == b"new"


def test_everybody_may_read_what_the_umask_allows_and_nobody_what_is_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        for name, options in (("page.html", ()), ("accounts.csv", (PRIVATE,))):
            with replacing(tmp_path / name, *options) as file:
                file.write(b"text")
    finally:
        os.umask(before)
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "accounts.csv").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_missing_is_noticed_before_anything_is_worked_out(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match=r"no/page\.html can't be written: No such file or directory"),
        replacing(tmp_path / "no" / "page.html"),
    ):
        pytest.fail("worked for nothing")


def test_a_folder_is_no_file_that_can_be_replaced(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file that can be replaced"), replacing(tmp_path):
        pytest.fail("worked for nothing")


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = r"page\.html can't be written: No space left on device\. What was there"
    with pytest.raises(InvalidInput, match=said), replacing(tmp_path / "page.html") as file:
        file.write(b"text")
    assert list(tmp_path.iterdir()) == []
