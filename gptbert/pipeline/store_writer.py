"""Writing a token store: shards of bounded size, then the manifest, which makes them a store."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gptbert.pipeline.store_files import Place, open_files
from gptbert.pipeline.store_format import (
    MANIFEST,
    SPLITS,
    Shard,
    build_index,
    sha256,
    shard_names,
    token_dtype,
    write_manifest,
)

SHARD_TOKENS = 1 << 24  # 32 MiB of uint16: small in memory, few enough files for 10^10 tokens


class StoreWriter:
    """Collects documents and writes a shard whenever enough tokens have come together.

    Holds at most `shard_tokens` tokens and one call's documents of each split in memory.
    """

    def __init__(
        self,
        place: Place,
        *,
        tokenizer_kind: str,
        tokenizer_fingerprint: str,
        vocabulary_size: int,
        shard_tokens: int = SHARD_TOKENS,
    ) -> None:
        """Takes the manifest of an older store away, if there is one, before anything changes."""
        self.files = open_files(place)
        self.files.delete(MANIFEST)
        self._vocabulary_size = vocabulary_size
        self._tokenizer = {
            "kind": tokenizer_kind,
            "fingerprint": tokenizer_fingerprint,
            "vocabulary_size": vocabulary_size,
        }
        self._beside: dict[str, str] = {}
        dtype = token_dtype(vocabulary_size)
        self._splits = {s: _SplitWriter(self, s, dtype, shard_tokens) for s in SPLITS}

    def add(
        self,
        split: str,
        tokens: np.ndarray,
        sentences: np.ndarray,
        documents: np.ndarray,
        *,
        words: int,
        bytes: int,
    ) -> None:
        """Appends whole documents.

        Args:
          split: `train` or `heldout`.
          tokens: ids [T], sentences end to end.
          sentences: tokens of each sentence [S], none of them 0.
          documents: sentences of each document [D], none of them 0.
          words: White-space-separated strings in the documents' text.
          bytes: Of their text in UTF-8.
        """
        if int(np.sum(sentences)) != len(tokens) or int(np.sum(documents)) != len(sentences):
            raise ValueError("the lengths of documents, sentences and tokens do not add up")
        if len(tokens) and int(np.max(tokens)) >= self._vocabulary_size:
            raise ValueError(f"token {int(np.max(tokens))} is not in the vocabulary")
        self._splits[split].add(tokens, sentences, documents, words, bytes)

    def write_file(self, name: str, data: bytes) -> None:
        """Writes a file beside the shards, for instance the report or one of the tokenizer's."""
        self.files.write(name, data)
        self._beside[name] = sha256(data)

    def commit(self, info: Mapping[str, Any] | None = None) -> None:
        """Writes what is still held, then the manifest; removes shards of an older, longer store.

        `info` is kept with the store as it is: how it was made.
        """
        splits = {name: split.finish() for name, split in self._splits.items()}
        for name in self._left_over(splits):
            self.files.delete(name)
        content = {
            "tokenizer": self._tokenizer,
            "splits": splits,
            "files": self._beside,
            "info": dict(info or {}),
        }
        write_manifest(self.files, content)

    def _left_over(self, splits: Mapping[str, Any]) -> list[str]:
        kept = {
            name
            for split, told in splits.items()
            for number in range(len(told["shards"]))
            for name in shard_names(split, number)
        }
        return [n for split in SPLITS for n in self.files.names(split) if n not in kept]


class _SplitWriter:
    def __init__(self, store: StoreWriter, name: str, dtype: np.dtype[Any], limit: int) -> None:
        self._files, self._name, self._dtype, self._limit = store.files, name, dtype, limit
        self._held: tuple[list[np.ndarray], ...] = ([], [], [])  # tokens, sentences, documents
        self._held_tokens = self._words = self._bytes = 0
        self._shards: list[Shard] = []

    def add(
        self,
        tokens: np.ndarray,
        sentences: np.ndarray,
        documents: np.ndarray,
        words: int,
        bytes: int,
    ) -> None:
        self._words += words
        self._bytes += bytes
        sentence_ends = np.cumsum(documents)
        token_ends = np.cumsum(sentences)[sentence_ends - 1] if len(documents) else sentence_ends
        done = at_sentence = at_token = 0
        while done < len(documents):
            # Up to and with the document that fills the shard, so that none is ever cut.
            wanted = at_token + self._limit - self._held_tokens
            stop = min(int(np.searchsorted(token_ends, wanted)) + 1, len(documents))
            to_sentence, to_token = int(sentence_ends[stop - 1]), int(token_ends[stop - 1])
            self._hold(
                tokens[at_token:to_token],
                sentences[at_sentence:to_sentence],
                documents[done:stop],
            )
            done, at_sentence, at_token = stop, to_sentence, to_token
            if self._held_tokens >= self._limit:
                self._flush()

    def finish(self) -> dict[str, Any]:
        if self._held_tokens:
            self._flush()
        shards = [dataclasses.asdict(shard) for shard in self._shards]
        totals = {k: sum(s[k] for s in shards) for k in ("tokens", "sentences", "documents")}
        return {**totals, "words": self._words, "bytes": self._bytes, "shards": shards}

    def _hold(self, tokens: np.ndarray, sentences: np.ndarray, documents: np.ndarray) -> None:
        for held, new in zip(self._held, (tokens, sentences, documents), strict=True):
            held.append(np.array(new, self._dtype if held is self._held[0] else "<u4"))
        self._held_tokens += len(tokens)

    def _flush(self) -> None:
        tokens, sentences, documents = map(np.concatenate, self._held)
        raw = tokens.data.cast("B")
        index = build_index(documents, sentences, raw)
        tokens_name, index_name = shard_names(self._name, len(self._shards))
        self._files.write(tokens_name, raw)
        self._files.write(index_name, index)
        self._shards.append(
            Shard(len(tokens), len(sentences), len(documents), sha256(raw), sha256(index))
        )
        self._held, self._held_tokens = ([], [], []), 0
