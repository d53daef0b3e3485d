"""What a store is made of, written before the first piece: so that a run continues only itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gptbert.datasets.documents import Source
from gptbert.errors import UserError
from gptbert.locking import hold
from gptbert.pipeline.store_files import Files
from gptbert.pipeline.store_format import MANIFEST, PLAN, SPLITS, TOKENIZER, UNFINISHED
from gptbert.tokenizers import Tokenizer

FORMAT = 2  # how text becomes documents and sentences, as well as the file


def make_plan(
    tokenizer: Tokenizer, flags: dict[str, Any], sources: Sequence[Source]
) -> dict[str, Any]:
    """The tokenizer, the flags that decide what is kept, and every input with its fingerprint."""
    with ThreadPoolExecutor() as threads:
        fingerprints = list(threads.map(Source.fingerprint, sources))
    return {
        "format": FORMAT,
        "tokenizer": [tokenizer.kind, tokenizer.vocabulary_size, tokenizer.fingerprint],
        "flags": flags,
        "sources": [
            [source.name, source.bytes, fingerprint]
            for source, fingerprint in zip(sources, fingerprints, strict=True)
        ],
    }


def digest(plan: dict[str, Any]) -> str:
    """SHA-256 (hex) of a plan."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def claim(files: Files, plan: dict[str, Any]) -> None:
    """Writes the plan, or compares with the one that is there.

    Raises:
      UserError: The folder holds another preparation, or something else altogether.
    """
    try:
        before = json.loads(files.read(PLAN))
    except FileNotFoundError:
        _require_free(files)
        files.write(PLAN, json.dumps(plan, indent=1).encode())
        return
    except ValueError as error:
        raise UserError(
            f"{files.path}/{PLAN} is damaged ({error}); delete {files.path} and start anew"
        ) from None
    if changed := list(_differences(before, plan)):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{files.path} holds another preparation: {'; '.join(changed[:3])}{more}. Use another "
            f"--output, or the command that began it, or delete {files.path} to start anew"
        )


def release(files: Files) -> None:
    """Takes back everything that was written since `claim`: nothing came of it."""
    for folder in (*SPLITS, UNFINISHED):
        for name in files.names(folder):
            files.delete(name)
    files.delete(PLAN)


@contextlib.contextmanager
def lock(files: Files) -> Iterator[None]:
    """Holds a local folder for this process; object stores have no locks.

    Raises:
      UserError: Another process holds it, or it cannot be written.
    """
    if not files.has_local_paths:
        yield
        return
    with hold(Path(files.path), "--output"):
        yield


def _require_free(files: Files) -> None:
    """UserError if a name that a store uses is taken by something that is none."""
    taken = [name for folder in (*SPLITS, TOKENIZER, UNFINISHED) for name in files.names(folder)]
    taken += [MANIFEST] if files.size(MANIFEST) is not None else []
    if taken:
        raise UserError(
            f"{files.path} holds {taken[0]} but no {PLAN}, so it is no corpus that this command "
            "prepared; expected a new or empty folder (--output)"
        )


def _differences(before: Any, now: dict[str, Any]) -> Iterator[str]:
    if (
        not isinstance(before, dict)
        or before.keys() != now.keys()
        or before["format"] != now["format"]
    ):
        yield f"its {PLAN} is of another version"
        return
    if before["tokenizer"] != now["tokenizer"]:
        (kind, size, old), new = before["tokenizer"], now["tokenizer"]
        yield (
            f"the tokenizer was {kind} with {size:,} entries (SHA-256 {old[:12]}) and is now "
            f"{new[0]} with {new[1]:,} (SHA-256 {new[2][:12]})"
        )
    for name in sorted(before["flags"].keys() | now["flags"].keys()):
        old, new = (_flag(flags, name) for flags in (before["flags"], now["flags"]))
        if old != new:
            yield f"--{name} was {old} and is now {new}"
    there, here = ({name: rest for name, *rest in plan["sources"]} for plan in (before, now))
    for name in there:
        if name not in here:
            yield f"input {name} is missing now"
        elif there[name] != here[name]:
            yield f"input {name} changed since"
    for name in here:
        if name not in there:
            yield f"input {name} is new"


def _flag(flags: dict[str, Any], name: str) -> str:
    return repr(flags[name]) if name in flags else "left out"
