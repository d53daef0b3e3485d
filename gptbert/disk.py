"""A disk that takes no more: recognised, and told with its reason, wherever it is met.

| system's word | what it means |
| --- | --- |
| ENOSPC | no bytes are free, or no inodes: then not one more file can be made |
| EDQUOT | the user's share of the disk is used up |
| EFBIG | the file is larger than the shell (`ulimit -f`) or the file system lets it be |
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Refusal:
    """Why the disk took no more.

    Attributes:
      reason: To begin a sentence with.
      help: What to do, in the imperative.
      of_bytes: Whether it is bytes that are short.
    """

    reason: str
    help: str = "make room"
    of_bytes: bool = False

    def told(self, needed: int, what: str, folder: str | os.PathLike[str]) -> str:
        """`the disk is full: 10 bytes needed for WHAT, 5 free at FOLDER`: half a sentence."""
        free = free_bytes(folder) if self.of_bytes else 0
        now = " by now" if free >= needed else ""  # others write and delete there too
        of = f", {free:,} free{now}" if self.of_bytes else ""
        return f"{self.reason}: {needed:,} bytes needed for {what}{of} at {os.fspath(folder)}"


def refusal(error: BaseException, folder: str | os.PathLike[str]) -> Refusal | None:
    """Recognises that the disk took no more; None if that is not what went wrong.

    Asked right after the error: what is removed then frees inodes again.

    Args:
      error: An OSError, or another exception with the file system's words in its own (Orbax's).
      folder: Where was written; it need not exist.
    """
    if isinstance(error, OSError):
        code = error.errno
    else:
        code = next((code for code in _CODES if os.strerror(code) in str(error)), None)
    if code == errno.EDQUOT:
        return Refusal("the disk quota is used up")
    if code == errno.EFBIG:
        limit = "a file would be larger than it may be (`ulimit -f`, or the file system's limit)"
        return Refusal(limit, "raise the limit")
    if code != errno.ENOSPC:
        return None
    if _no_inodes(folder):
        return Refusal("the disk is full (it has bytes left, but no inode for one more file)")
    return Refusal("the disk is full", of_bytes=True)


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """Bytes that may still be written below a local folder, whether or not it exists yet."""
    return shutil.disk_usage(_existing(folder)).free


def _no_inodes(folder: str | os.PathLike[str]) -> bool:
    """File systems that make inodes as they need them tell 0 of 0."""
    room = os.statvfs(_existing(folder))
    return room.f_files > 0 and room.f_favail == 0


def _existing(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder).absolute()
    return next((p for p in (path, *path.parents) if os.path.exists(p)), Path("/"))
