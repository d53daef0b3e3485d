"""Why a disk takes no more, and how that is told."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from gptbert import disk


def system(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def orbax(code: int) -> ValueError:
    return ValueError(f"RESOURCE_EXHAUSTED: Failed to write 763 bytes: {os.strerror(code)} [OS]")


@pytest.mark.parametrize("made", [system, orbax])
def test_each_word_of_the_system_has_its_sentence(
    made: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=100, used=93, free=7)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    told = {
        code: disk.refusal(made(code), tmp_path)  # type: ignore[operator]
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    }
    shown = {code: each.told(1000, "a part", "x") for code, each in told.items() if each}
    assert shown == {
        errno.ENOSPC: "the disk is full: 1,000 bytes needed for a part, 7 free at x",
        errno.EDQUOT: "the disk quota is used up: 1,000 bytes needed for a part at x",
        errno.EFBIG: "a file would be larger than it may be (`ulimit -f`, or the file system's "
        "limit): 1,000 bytes needed for a part at x",
    }
    assert told[errno.EFBIG].help == "raise the limit"  # type: ignore[union-attr]
    assert (
        told[errno.ENOSPC]
        .told(5, "a part", "x")
        .endswith(  # type: ignore[union-attr]
            "5 bytes needed for a part, 7 free by now at x"
        )
    )


@pytest.mark.parametrize(("files", "left", "gone"), [(30, 0, True), (30, 1, False), (0, 0, False)])
def test_bytes_without_inodes(
    files: int, left: int, gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that makes inodes as it needs them tells 0 of 0."""
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=files, f_favail=left))
    found = disk.refusal(system(errno.ENOSPC), tmp_path)
    assert found is not None and found.of_bytes != gone
    assert ("no inode for one more file" in found.reason) == gone


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError("what"), KeyError("disk")])
def test_other_errors_are_none_of_the_disk(error: Exception, tmp_path: Path) -> None:
    assert disk.refusal(error, tmp_path) is None


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert disk.free_bytes(tmp_path / "not" / "yet") > 0
    assert disk.refusal(system(errno.ENOSPC), tmp_path / "not" / "yet") is not None
