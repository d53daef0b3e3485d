"""One process at a time in a folder, and nothing left of what came to nothing."""

import errno
import fcntl
import os

import pytest

from gptbert.errors import UserError
from gptbert.locking import hold


def test_another_process_is_named(tmp_path):
    with hold(tmp_path / "run", "--workdir"), (tmp_path / "run" / ".lock").open("a") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        told = pytest.raises(UserError, match="another process is working in .*another --output")
        with told, hold(tmp_path / "run", "--output"):
            pass
    assert (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("was_there", [False, True])
def test_a_folder_made_for_nothing_goes_again(tmp_path, was_there, written):
    folder = tmp_path / "store"
    if was_there:
        folder.mkdir()
    with pytest.raises(UserError, match="no documents"), hold(folder, "--output"):
        if written:
            (folder / "shard").touch()
        raise UserError("no documents")
    assert folder.exists() == (was_there or written)


def test_all_folders_made_for_nothing_go_again(tmp_path):
    (tmp_path / "kept").mkdir()
    told = pytest.raises(UserError, match="no documents")
    with told, hold(tmp_path / "kept" / "new" / "x" / "y", "--output"):
        raise UserError("no documents")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]
    told = pytest.raises(UserError, match="cannot be used .File name too long")
    with told, hold(tmp_path / "new" / ("y" * 300), "--output"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def refuse(monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys, number):
    refuse(monkeypatch, number)
    with hold(tmp_path / "run", "--workdir"):
        (tmp_path / "run" / "file").touch()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"run cannot be held, for its file system has no locks ({os.strerror(number)})" in told


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EAGAIN, "another process is working in"),
        (errno.EACCES, "another process is working in"),
        (errno.EIO, "--workdir=.*run cannot be used .Input/output error"),
    ],
)
def test_why_a_folder_cannot_be_held(tmp_path, monkeypatch, number, message):
    refuse(monkeypatch, number)
    with pytest.raises(UserError, match=message), hold(tmp_path / "run", "--workdir"):
        pass


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    """Who held the folder fails, and removes it, after we opened its lock and before we take it."""
    flock, removed = fcntl.flock, []

    def late(file, operation):
        if not removed:
            removed.append((tmp_path / "run" / ".lock").unlink())
            (tmp_path / "run").rmdir()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with hold(tmp_path / "run", "--workdir"):
        told = pytest.raises(UserError, match="another process is working")
        with told, hold(tmp_path / "run", "--workdir"):
            pass
