"""One process at a time in a folder, and nothing left of what came to nothing."""

import fcntl

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
