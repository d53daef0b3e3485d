"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from gptbert.errors import UserError

_FILE = ".lock"
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
# File systems without locks, such as Lustre where it is mounted without `flock`.
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextlib.contextmanager
def hold(folder: Path, flag: str) -> Iterator[None]:
    """Makes a local folder and holds it for this process; a kill lets go of it.

    Where what was to be done in it fails before it has written anything, the folders that were made
    here go again. Where the file system has no locks, a warning is printed instead of holding it.

    Args:
      folder: Which one; `.lock` stays behind in it.
      flag: The one that named it, for messages: `--workdir`.

    Raises:
      UserError: Another process holds it, or it cannot be written.
    """
    made: list[Path] = []
    try:
        with _locked(folder, flag, made):
            try:
                yield
            except BaseException:
                if made and os.listdir(folder) == [_FILE]:
                    (folder / _FILE).unlink()
                raise
    except BaseException:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


def _locked(folder: Path, flag: str, made: list[Path]) -> TextIO:
    """The folder's file, locked; `made` gets the folders that did not exist, the lowest first."""
    try:
        made += [place for place in (folder, *folder.parents) if not place.exists()]
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / _FILE).open("a")
            try:
                _lock(file, folder, flag)
                if _is_at(file, folder / _FILE):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # who held it has removed it meanwhile
    except OSError as error:
        raise UserError(
            f"{flag}={folder} cannot be used ({error.strerror}); "
            "expected a folder that can be written"
        ) from None


def _lock(file: TextIO, folder: Path, flag: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise UserError(
                f"another process is working in {folder}; wait for it or choose another {flag}"
            ) from None
        if error.errno not in _UNSUPPORTED:
            raise
        print(
            f"{folder} cannot be held, for its file system has no locks ({error.strerror}); start "
            "no other process that works in it",
            file=sys.stderr,
        )


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether an open file is the one that has this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
