"""Token stores of a few documents, and an object store without rename: what upper rooms read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gptbert.pipeline.store import TokenStore
from gptbert.pipeline.store_files import Place
from gptbert.pipeline.store_writer import SHARD_TOKENS, StoreWriter

Document = Sequence[Sequence[int]]


def make_store(
    folder: Place,
    documents: Sequence[Document],
    *,
    vocabulary_size: int = 101,
    kind: str = "wordpiece",
    split: str = "train",
    heldout: Sequence[Document] = (),
    tokenizer_fingerprint: str | None = None,
    shard_tokens: int = SHARD_TOKENS,
) -> TokenStore:
    """Writes `documents` (lists of sentences of ids) as train and `heldout` as held-out share.

    Returns the store of `split`. A word counts 1 and 4 bytes for each token.
    """
    fingerprint = tokenizer_fingerprint or hashlib.sha256(kind.encode()).hexdigest()
    writer = StoreWriter(
        folder,
        tokenizer_kind=kind,
        tokenizer_fingerprint=fingerprint,
        vocabulary_size=vocabulary_size,
        shard_tokens=shard_tokens,
    )
    for name, content in (("train", documents), ("heldout", heldout)):
        sentences = [sentence for document in content for sentence in document]
        tokens = np.array([i for sentence in sentences for i in sentence], np.int64)
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        counts = np.array([len(document) for document in content], np.int64)
        writer.add(name, tokens, lengths, counts, words=len(tokens), bytes=4 * len(tokens))
    writer.commit()
    return TokenStore.open(folder, split)


def random_documents(
    documents: int = 20, *, vocabulary: int = 101, first: int = 5, seed: int = 0
) -> list[list[list[int]]]:
    """Documents of 1 to 8 sentences of 1 to 30 ids in [first, vocabulary)."""
    rng = np.random.default_rng(seed)
    return [
        [
            rng.integers(first, vocabulary, rng.integers(1, 31)).tolist()
            for _ in range(rng.integers(1, 9))
        ]
        for _ in range(documents)
    ]


class ObjectStore:
    """An object store in memory: whole puts, ranged gets, no rename; counts what is asked of it."""

    has_local_paths = False

    def __init__(self, path: str = "fake://bucket/store") -> None:
        self.path = path
        self.objects: dict[str, bytes] = {}
        self.gets: list[tuple[str, int, int | None]] = []
        self.puts: list[str] = []

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        if name not in self.objects:
            raise FileNotFoundError(name)
        self.gets.append((name, start, stop))
        return self.objects[name][start:stop]

    def write(self, name: str, data: bytes | memoryview) -> None:
        self.puts.append(name)
        self.objects[name] = bytes(data)

    def size(self, name: str) -> int | None:
        return len(self.objects[name]) if name in self.objects else None

    def names(self, folder: str) -> list[str]:
        return sorted(name for name in self.objects if name.startswith(f"{folder}/".lstrip("/")))

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)


def flip(path: Path, place: int = -1) -> None:
    """Flips a bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
