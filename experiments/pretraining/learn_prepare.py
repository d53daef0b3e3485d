"""Stage `prepare`: vocabularies, and token stores of the text to train on and of what is held out.

The held-out documents are an archive of their own, hence stores of their own
(`--config.held_out_corpus`).
"""

from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from learn_cases import MODELS, VOCABULARY_SIZE
from learn_records import Place, append, digest, gptbert, records

from gptbert.pipeline.store import TokenStore
from gptbert.processor import processor
from gptbert.runs.record import git_commit, versions

BOOKS = "books"  # the store of the books in the ids of the weights that are adapted
HELD_OUT = "heldout"
_COUNTS = ("documents", "words", "tokens", "bytes")
_READ = 1 << 22  # tokens at once


def prepare(place: Place) -> None:
    """Makes what is missing, on the disk or in the results."""
    texts = inputs(place)
    for kind in [MODELS[name].vocabulary for name in place.models]:
        vocabulary(place, kind, texts["train"])
        for split in ("train", HELD_OUT):
            store(place, kind, split, place.vocabulary(kind), texts[split])
        frequencies(place, kind)
    assert place.weights is not None
    for split in ("train", HELD_OUT):
        store(place, BOOKS, split, place.weights, texts[f"{BOOKS} {split}"])
    frequencies(place, BOOKS)


def inputs(place: Place) -> dict[str, list[Path]]:
    """Files to train on and held-out ones; of the books alone too."""
    folder = place.data_dir
    assert folder is not None
    if place.quick:
        *books, last = sorted(folder.glob("*.md"))
        wiki = sorted(folder.glob("wiki_*"))
        found = {"train": books + wiki, HELD_OUT: [last], f"{BOOKS} train": books}
        return found | {f"{BOOKS} {HELD_OUT}": [last]}
    books = sorted(folder.glob("books/*.tar.xz"))
    wiki = sorted(folder.glob("wikipedia/*.tar.xz"))
    held_out = folder / "heldout.tar.xz"
    if not (books and wiki and held_out.exists()):
        raise SystemExit(f"{folder}: expected books/*.tar.xz, wikipedia/*.tar.xz, heldout.tar.xz")
    return {
        "train": books + wiki,
        HELD_OUT: [held_out],
        f"{BOOKS} train": books,
        f"{BOOKS} {HELD_OUT}": [_held_out_books(place, held_out)],
    }


def _held_out_books(place: Place, archive: Path) -> Path:
    """The books of the held-out archive in a folder, as the archive holds Wikipedia too."""
    folder = place.at("heldout-books")
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if m.name.startswith("heldout/books/")]
        tar.extractall(folder, members, filter="data")
    return folder


def vocabulary(place: Place, kind: str, files: list[Path]) -> None:
    """Trains one vocabulary."""
    about = place.results / "prepare.jsonl"
    known = next((r for r in records(about) if r.get("vocabulary") == kind), None)
    if known and place.vocabulary(kind).exists():
        return
    size = VOCABULARY_SIZE // 8 if place.quick else VOCABULARY_SIZE
    flags = [f"--input={path}" for path in files]
    seconds = gptbert(
        "train-vocabulary", f"--kind={kind}", f"--size={size}", *flags,
        f"--output={place.vocabulary(kind)}", "--quiet",
    )  # fmt: skip
    found = digest(place.vocabulary(kind))
    if known:
        _require_same(place.vocabulary(kind), found, known, "sha256")
        return
    append(about, {"vocabulary": kind, "entries": size, "sha256": found,
                   "processor_seconds": round(seconds, 1), **_made_by()})  # fmt: skip


def store(place: Place, name: str, split: str, tokenizer: Path, files: list[Path]) -> None:
    """Prepares one store, nothing of which is held out."""
    about = place.results / "prepare.jsonl"
    path = place.store(name, split)
    of = {"store": name, "split": split}
    known = next((r for r in records(about) if of.items() <= r.items()), None)
    if known and (path / "report.json").exists():
        return
    flags = [f"--input={path}" for path in files]
    seconds = gptbert(
        "prepare-corpus", f"--tokenizer={tokenizer}", *flags, f"--output={path}", "--held_out=0",
        "--quiet",
    )  # fmt: skip
    report = json.loads((path / "report.json").read_text())
    fingerprint = TokenStore.open(path).fingerprint
    if known:
        _require_same(path, fingerprint, known, "fingerprint")
        return
    append(about, {
        **of, "vocabulary_size": report["tokenizer"]["vocabulary_size"],
        **{count: report["train"][count] for count in _COUNTS},
        "unknown_rate": report["unknown_rate"],
        "duplicates": report["duplicates"]["documents"],
        "not_read": {kind: each["count"] for kind, each in report["rejects"].items()},
        "fingerprint": fingerprint,
        "processor_seconds": round(seconds, 1), **_made_by(),
    })  # fmt: skip


def frequencies(place: Place, name: str) -> None:
    """What knowing the frequencies of the tokens and nothing else is worth on the held-out text."""
    about = place.results / "prepare.jsonl"
    if any(r.get("frequencies") == name for r in records(about)):
        return
    known, held_out = (_counts(place.store(name, split)) for split in ("train", HELD_OUT))
    probability = (known + 1) / (known.sum() + len(known))
    loss = float(-(held_out * np.log(probability)).sum() / held_out.sum())
    best = float(held_out[np.argmax(known)] / held_out.sum())
    append(about, {"frequencies": name, "loss": loss, "perplexity": math.exp(loss),
                   "accuracy": best, **_made_by()})  # fmt: skip


def _require_same(path: Path, found: str, known: dict[str, Any], name: str) -> None:
    """What is made again, perhaps on another machine, has the bytes that the results tell of."""
    if found != known[name]:
        raise SystemExit(
            f"{path} is {found}, results/prepare.jsonl tells of {known[name]}, made by commit "
            f"{known['git_commit']}; go on with that commit, or begin anew with other --results"
        )


def _counts(path: Path) -> np.ndarray:
    """How often each token occurs in a store, int64 [V]."""
    found = TokenStore.open(path)
    total = np.zeros(found.vocabulary_size, np.int64)
    for start in range(0, found.tokens, _READ):
        part = found.read(start, min(start + _READ, found.tokens))
        total += np.bincount(part, minlength=len(total))
    return total


def _made_by() -> dict[str, object]:
    return {"versions": versions(), "git_commit": git_commit(), "hardware": str(processor())}
