"""Replacing a file: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lscgan.files import DRIVE, replacing, require_mounted


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_and_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    for text in ("first", "second, longer", "3"):
        with replacing(target) as temporary:
            assert temporary.parent == tmp_path  # else the last step could not be one rename
            temporary.write_text(text)
            assert not target.exists() or target.read_text() != text
        assert target.read_text() == text
        assert names(tmp_path) == ["a.txt"]


def test_others_may_read_the_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError("halfway"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_content_and_leaves_nothing_behind(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(type(error)) as raised:
        write()
    assert raised.value is error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with (
        pytest.raises(OSError, match=r"cannot write .*a\.txt: No space left on device; .* is kept"),
        replacing(target) as temporary,
    ):
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"cannot write .*gone/a\.txt: No such file or directory"),
        replacing(tmp_path / "gone" / "a.txt"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("mounted", [True, False])
def test_a_folder_on_a_drive_needs_the_drive(
    mounted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.ismount", lambda path: mounted and path == DRIVE)
    require_mounted("/content/driver/run")
    require_mounted("runs/content/drive")
    if mounted:
        require_mounted("/content/drive/MyDrive/run")
        return
    for path in ("/content/drive/MyDrive/run", DRIVE / "Shareddrives" / "a"):
        with pytest.raises(FileNotFoundError) as refusal:
            require_mounted(path)
        assert str(refusal.value) == (
            f"{path} lies on Google Drive, which is not mounted: run `from google.colab import "
            "drive; drive.mount('/content/drive')` and then this cell again, or name another folder"
        )


def test_a_relative_path_to_a_drive_needs_the_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.ismount", lambda path: False)
    monkeypatch.setattr(os, "getcwd", lambda: "/content")  # where Colab starts
    for path in ("drive/MyDrive/run", Path("drive"), "../content/drive/MyDrive/run"):
        with pytest.raises(FileNotFoundError, match=f"^{path} lies on Google Drive, which is not"):
            require_mounted(path)
    for path in ("drives/run", "drive/../runs/a", "/content/drive/../runs/a", "runs"):
        require_mounted(path)
