"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from gptbert.errors import UserError

_FILE = ".lock"


@contextlib.contextmanager
def hold(folder: Path, flag: str) -> Iterator[None]:
    """Makes a local folder and holds it for this process; a kill lets go of it.

    Where what was to be done in it fails before it has written anything, a folder that was made
    here goes again.

    Args:
      folder: Which one; `.lock` stays behind in it.
      flag: The one that named it, for messages: `--workdir`.

    Raises:
      UserError: Another process holds it, or it cannot be written.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _FILE).open("a")
    except OSError as error:
        raise UserError(
            f"{flag}={folder} cannot be used ({error.strerror}); "
            "expected a folder that can be written"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another process is working in {folder}; wait for it or choose another {flag}"
            ) from None
        try:
            yield
        except BaseException:
            if made and os.listdir(folder) == [_FILE]:
                (folder / _FILE).unlink()
                folder.rmdir()
            raise
