"""Where a token store's files lie: a local folder, or an object store such as `gs://`.

Five operations are all that a store needs, and none of them is a rename, which object stores lack:
a file appears under its name whole or not at all, by a rename within `write` locally and by a
single put on an object store. Object stores are reached through `fsspec`; this was tried on the
file systems that come with it, not on a real bucket.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from gptbert import disk
from gptbert.errors import UserError

PARTIAL = ".partial"  # ends the name of a file that is being written


@runtime_checkable
class Files(Protocol):
    """Files by name (`train/00000.tokens`) below one place; missing ones raise FileNotFoundError.

    Attributes:
      path: The place, for messages and for opening it again in another process.
      has_local_paths: Whether `Path(path) / name` is a file of this machine.
    """

    path: str
    has_local_paths: bool

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes [start, stop) of a file, or all of them."""
        ...

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Writes a whole file; it is never seen in part. UserError if the disk is full."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        ...

    def names(self, folder: str) -> list[str]:
        """The sorted names of all files below `folder/`; empty if there are none."""
        ...

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""
        ...


Place = str | os.PathLike[str] | Files


def open_files(place: Place) -> Files:
    """The files at a path or a URL; `Files` are returned as they are. Touches nothing yet.

    Raises:
      UserError: A URL that needs a package which is not installed.
    """
    if isinstance(place, Files):
        return place
    # pathlib turns `gs://bucket` into `gs:/bucket`.
    text = re.sub(r"^(\w+):/(?=[^/])", r"\1://", os.fspath(place))
    if "://" not in text:
        return LocalFiles(os.path.abspath(text))
    return ObjectFiles(
        text if not text.startswith("file://") else "file:///" + text[7:].lstrip("/")
    )


class LocalFiles:
    """`Files` in a folder of this machine."""

    has_local_paths = True

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        with open(os.path.join(self.path, name), "rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else stop - start)

    def write(self, name: str, data: bytes | memoryview) -> None:
        target = Path(self.path, name)
        partial = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except OSError as error:
            raise self._cannot_write(target, len(data), error) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def size(self, name: str) -> int | None:
        try:
            return os.stat(os.path.join(self.path, name)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, folder: str) -> list[str]:
        root = Path(self.path)
        below = (p for p in (root / folder).rglob("*") if p.is_file())
        return sorted(p.relative_to(root).as_posix() for p in below)

    def delete(self, name: str) -> None:
        target = Path(self.path, name)
        try:
            target.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise UserError(f"cannot remove {target}: {error.strerror or error}") from error
        if target.parent != Path(self.path):
            with contextlib.suppress(OSError):  # not empty yet
                target.parent.rmdir()

    def _cannot_write(self, target: Path, length: int, error: OSError) -> UserError:
        refusal = disk.refusal(error, self.path)
        if refusal is None:
            return UserError(f"cannot write {target}: {error.strerror or error}")
        told = refusal.told(length, target.relative_to(self.path).as_posix(), self.path)
        return UserError(f"{told}; {refusal.help}, then start the same command again")


class ObjectFiles:
    """`Files` below a URL that `fsspec` knows."""

    has_local_paths = False

    def __init__(self, path: str) -> None:
        import fsspec

        self.path = path.rstrip("/")
        try:
            self._system, self._root = fsspec.core.url_to_fs(self.path)
        except (ImportError, ValueError) as error:
            raise UserError(f"{path} cannot be reached: {error}") from None
        self._root = self._root.rstrip("/")

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        whole = start == 0 and stop is None
        bounds = {} if whole else {"start": start, "end": stop}
        with self._telling("read", name):
            return cast(bytes, self._system.cat_file(f"{self._root}/{name}", **bounds))

    def write(self, name: str, data: bytes | memoryview) -> None:
        with self._telling("write", name):
            # Only file systems with real folders need this; elsewhere it does nothing.
            self._system.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(f"{self._root}/{name}", bytes(data))

    def size(self, name: str) -> int | None:
        try:
            with self._telling("read", name):
                return cast(int, self._system.info(f"{self._root}/{name}")["size"])
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        try:
            with self._telling("list", folder):
                self._system.invalidate_cache()
                found = self._system.find(f"{self._root}/{folder}")
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(self._root + "/") for name in found)

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._telling("remove", name):
            self._system.rm_file(f"{self._root}/{name}")
        if "file" in self._system.protocol and "/" in name:
            with contextlib.suppress(OSError):  # not empty yet; object stores have no folders
                self._system.rmdir(f"{self._root}/{name}".rpartition("/")[0])

    @contextlib.contextmanager
    def _telling(self, act: str, name: str) -> Iterator[None]:
        """Tells in one sentence what a store refuses: login, network, quota.

        Each file system of fsspec raises errors of its own for these, many of them no OSError.
        """
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise UserError(
                f"cannot {act} {self.path}/{name}: {reason or type(error).__name__}"
            ) from error
