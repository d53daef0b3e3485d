"""The manifest of a checkpoint: size and SHA-256 of every file, shape and dtype of every array.

It is written last, so its presence says that the folder is complete; its content says whether the
files are still what was written; a digest of itself says whether it can be believed. Paths may be
local or on an object store (`etils.epath`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from etils import epath

from gptbert.errors import UserError, nearest

FORMAT = 1
MANIFEST = "manifest.json"
_HASHING_THREADS = 8


def write_manifest(
    folder: epath.Path, step: int, info: Mapping[str, Any], arrays: Mapping[str, list[Any]]
) -> None:
    """Commits `folder`: digests its files and writes that, `info` and `arrays` to its manifest."""
    names = list(_walk(folder))
    files = dict(zip(names, _digests(folder, names), strict=True))
    content = {"format": FORMAT, "step": step, "info": info, "arrays": arrays, "files": files}
    _put(folder / MANIFEST, _sealed(content))


def read_manifest(folder: epath.Path, step: int) -> dict[str, Any]:
    """The manifest of `step`; ValueError with the reason unless it is as written, byte for byte.

    The digest finds accidents, not forgery: names and numbers in it are as trustworthy as the
    folder they lie in.
    """
    try:
        text = (folder / MANIFEST).read_bytes().decode()
        content = json.loads(text)
        del content["sha256"]
        whole = _sealed(content) == text
    except FileNotFoundError:
        raise ValueError("missing") from None
    except OSError as error:
        raise ValueError(error.strerror) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("cut or garbled") from None
    if not whole:
        raise ValueError("checksum")
    if content.get("format") != FORMAT:
        raise ValueError(f"format {content.get('format')}, this version reads format {FORMAT}")
    if content["step"] != step:
        raise ValueError(f"it is of step {content['step']}")
    return content


def differences(folder: epath.Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The damaged ones among `files`, each with what is wrong in parentheses.

    Sizes first: a missing or cut file is found before any gigabyte is read.
    """
    sizes = {name: _size(folder / name) for name in files}
    damaged = [
        f"{name} (missing)"
        if size is None
        else f"{name} (size {size:,}, expected {files[name]['size']:,})"
        for name, size in sizes.items()
        if size != files[name]["size"]
    ]
    if damaged:
        return damaged
    found = zip(files, _digests(folder, files), strict=True)
    return [
        f"{name} ({digest.get('error', 'checksum')})"
        for name, digest in found
        if digest != files[name]
    ]


def describe(leaves: Mapping[str, Any]) -> dict[str, list[Any]]:
    """path -> [shape, dtype] of arrays, abstract arrays and numbers, as a manifest lists them."""
    arrays = {k: v if hasattr(v, "dtype") else np.asarray(v) for k, v in leaves.items()}
    return {k: [list(v.shape), np.dtype(v.dtype).name] for k, v in arrays.items()}


def require_same(
    found: Mapping[str, list[Any]], expected: Mapping[str, list[Any]], where: str
) -> None:
    """UserError, naming the array, unless both (as from `describe`) list the same arrays."""

    def told(array: list[Any]) -> str:
        return f"{array[1]}{array[0]}"

    for name, array in expected.items():
        if name not in found:
            hint = nearest(name, found)
            raise UserError(f"{where} lacks {name!r}, expected as {told(array)}{hint}")
        if found[name] != array:
            raise UserError(f"{where} has {name!r} as {told(found[name])}, expected {told(array)}")
    for name in found:
        if name not in expected:
            raise UserError(f"{where} has {name!r} as {told(found[name])}, expected no such array")


def is_local(path: epath.Path) -> bool:
    """Whether `path` lies in the file system rather than on an object store."""
    return "://" not in os.fspath(path)


def _sealed(content: Mapping[str, Any]) -> str:
    """The text of a manifest: `content` and a digest of it, so that its own damage shows too."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, sort_keys=True, indent=1) + "\n"


def _put(path: epath.Path, text: str) -> None:
    """Writes a file that appears whole: by a rename locally, by a single put on object stores."""
    if not is_local(path):
        path.write_text(text)
        return
    unfinished = path.with_name(path.name + ".tmp")
    with open(unfinished, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def _walk(folder: epath.Path, prefix: str = "") -> Iterator[str]:
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            yield from _walk(child, f"{prefix}{child.name}/")
        else:
            yield prefix + child.name


def _size(path: epath.Path) -> int | None:
    return path.stat().length if path.exists() else None


def _digest(path: epath.Path) -> dict[str, Any]:
    """Size and digest; an unreadable file (a bad sector, say) has neither but an `error`."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            return {"size": file.tell(), "sha256": digest}
    except OSError as error:
        return {"error": error.strerror}


def _digests(folder: epath.Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(_HASHING_THREADS) as threads:
        yield from threads.map(lambda name: _digest(folder / name), names)
