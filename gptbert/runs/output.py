"""Files that commands write for the user: whole or absent."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gptbert.errors import UserError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that appears under its name only when everything in it was written.

    A device or a pipe (`/dev/null`, `/dev/stdout`) is written to as it is.

    Raises:
      UserError: It cannot be written, or the disk is full.
    """
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise UserError(f"{path} is a folder; expected the name of a file")
        partial = path
    else:
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
        if partial != path:
            os.replace(partial, path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if partial != path:
            partial.unlink(missing_ok=True)


def json_line(record: Mapping[str, Any]) -> bytes:
    """One line of JSON; a lone surrogate, which UTF-8 cannot hold, is written as its escape."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def make_folder(path: Path) -> None:
    """Makes a folder with its parents; raises UserError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path}: {error.strerror or error}") from None
