"""The token store: a corpus as ids on disk, read by random access from local disk or `gs://`.

`store_format.py` has the layout, `store_writer.py` writes it, `store_files.py` reaches the files.
Opening a store reads its manifest and the lengths of documents and sentences; tokens are read
where they are asked for, each block of 256 KiB checked against its digest on first touch.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.errors import UserError
from gptbert.pipeline import store_format
from gptbert.pipeline.store_files import Files, Place, open_files
from gptbert.pipeline.store_format import BLOCK_BYTES, SPLITS, TOKENIZER, Index, Shard, damaged
from gptbert.tokenizers.files import MAX_FILE_BYTES

CACHE_BLOCKS = 1024  # 256 MiB of an object store's blocks are kept in memory
MOST_OPEN = 128  # files of a store; a process may often have 1,024
_THREADS = 16


class TokenStore:
    """One split of a corpus: tokens, and where sentences and documents begin.

    Attributes:
      tokenizer_kind: `wordpiece`, `bpe`, `byte-bpe` or `sentencepiece`.
      tokenizer_fingerprint: SHA-256 (hex) of the tokenizer that made the ids.
      vocabulary_size: Ids are below it.
      fingerprint: SHA-256 (hex) of the split's contents and its tokenizer.
      path: Where the store lies.
      split: `train` or `heldout`.
      tokens, documents, words, bytes: Totals of the split; bytes are those of the text in UTF-8.
      sentence_starts: int64 [S+1], offsets into the stream of tokens.
      document_starts: int64 [D+1], offsets into the sentences.
    """

    def __init__(self, files: Files, manifest: Mapping[str, Any], split: str) -> None:
        """Use `open`."""
        tokenizer, totals = manifest["tokenizer"], manifest["splits"][split]
        self.tokenizer_kind: str = tokenizer["kind"]
        self.tokenizer_fingerprint: str = tokenizer["fingerprint"]
        self.vocabulary_size: int = tokenizer["vocabulary_size"]
        self.path, self.split = files.path, split
        self.tokens: int = totals["tokens"]
        self.documents: int = totals["documents"]
        self.words: int = totals["words"]
        self.bytes: int = totals["bytes"]
        self.info: dict[str, Any] = manifest["info"]
        self._files, self._extra = files, manifest["files"]
        self._dtype = store_format.token_dtype(self.vocabulary_size)
        self._shards = [Shard(**shard) for shard in totals["shards"]]
        digests = [[s.tokens_sha256, s.index_sha256] for s in self._shards]
        self.fingerprint = store_format.sha256(repr([tokenizer, split, digests]).encode())
        self._check_sizes()
        indices = self._read_indices()
        self.sentence_starts = _starts(index.sentences for index in indices)
        self.document_starts = _starts(index.documents for index in indices)
        self._shard_starts = _starts([np.array([s.tokens for s in self._shards], np.int64)])
        blocks = [index.blocks for index in indices]
        kind = _Local if files.has_local_paths else _Fetched
        self._blocks: _Local | _Fetched = kind(files, split, blocks)

    @classmethod
    def open(
        cls, path: Place, split: str = "train", tokenizer_fingerprint: str | None = None
    ) -> TokenStore:
        """Opens one split; reads the manifest and the index, no tokens.

        Args:
          path: A folder, a URL (`gs://bucket/store`), or `Files`.
          split: `train` or `heldout`.
          tokenizer_fingerprint: Of the tokenizer in use; None to take the store's word for it.

        Raises:
          UserError: No store there, an unfinished or damaged one, or tokens of another tokenizer.
        """
        if split not in SPLITS:
            raise UserError(f"no split {split!r} in a token store; expected one of {SPLITS}")
        files = open_files(path)
        manifest = store_format.read_manifest(files)
        made = manifest["tokenizer"]
        if tokenizer_fingerprint not in (None, made["fingerprint"]):
            raise UserError(
                f"{files.path} was made with another tokenizer ({made['kind']}, "
                f"{made['vocabulary_size']:,} entries, SHA-256 {made['fingerprint'][:12]}) than "
                f"the one given (SHA-256 {str(tokenizer_fingerprint)[:12]}); use the one in "
                f"{files.path}/{TOKENIZER}, or prepare the corpus again with "
                "`gptbert prepare-corpus --tokenizer=DIR`"
            )
        return cls(files, manifest, split)

    def read(self, start: int, stop: int) -> np.ndarray:
        """int32 [stop-start], the tokens of that stretch of the stream, across shards.

        Raises:
          IndexError: Not 0 <= start <= stop <= tokens.
          UserError: A shard is damaged.
        """
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} to {stop} of a store of {self.tokens}")
        found = np.empty(stop - start, np.int32)
        shard = int(np.searchsorted(self._shard_starts, start, side="right")) - 1
        at = start
        while at < stop:
            first = int(self._shard_starts[shard])
            end = min(stop, int(self._shard_starts[shard + 1]))
            raw = self._blocks.read(shard, *self._byte_range(at - first, end - first))
            found[at - start : end - start] = np.frombuffer(raw, self._dtype)
            at, shard = end, shard + 1
        return found

    def verify(self) -> list[str]:
        """Reads all files of the split; the damaged ones with what is wrong, empty if good."""
        expected = {
            name: digest
            for number, shard in enumerate(self._shards)
            for name, digest in zip(
                store_format.shard_names(self.split, number),
                (shard.tokens_sha256, shard.index_sha256),
                strict=True,
            )
        } | self._extra
        with ThreadPoolExecutor(_THREADS) as threads:
            found = threads.map(self._digest, expected)
            pairs = zip(expected.items(), found, strict=True)
            return [
                f"{name} ({'checksum' if got else 'missing'})"
                for (name, digest), got in pairs
                if got != digest
            ]

    def save_tokenizer(self, folder: str | os.PathLike[str]) -> None:
        """Copies the tokenizer's files to a local folder, for `load_tokenizer`.

        Raises:
          UserError: The store was written without one, or its files are damaged.
        """
        whole = self.read_beside()
        files = {
            name.removeprefix(f"{TOKENIZER}/"): data
            for name, data in whole.items()
            if name.startswith(f"{TOKENIZER}/")
        }
        if not files:
            raise UserError(f"{self.path} holds no tokenizer; name the one that made it")
        os.makedirs(folder, exist_ok=True)
        for name, data in files.items():
            Path(folder, name).write_bytes(data)

    def read_beside(self) -> dict[str, bytes]:
        """The files beside the shards by name, the tokenizer's above all; they are small.

        Raises:
          UserError: One is missing or damaged.
        """
        found = {}
        for name, digest in self._extra.items():
            try:
                if (size := self._files.size(name)) is None:
                    raise damaged(self._files, name, "missing")
                if size > MAX_FILE_BYTES:
                    raise damaged(self._files, name, f"{size:,} bytes")
                found[name] = self._files.read(name)
            except OSError as error:
                where = f"{self.path}/{name}"
                raise UserError(f"cannot read {where}: {error.strerror or error}") from None
            if store_format.sha256(found[name]) != digest:
                raise damaged(self._files, name, "checksum")
        return found

    def _byte_range(self, start: int, stop: int) -> tuple[int, int]:
        return start * self._dtype.itemsize, stop * self._dtype.itemsize

    def _digest(self, name: str) -> str | None:
        try:
            return store_format.sha256(self._files.read(name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _check_sizes(self) -> None:
        """A missing or cut file is found before a run begins, and before memory is taken."""
        itemsize = self._dtype.itemsize
        expected = {
            name: size
            for number, shard in enumerate(self._shards)
            for name, size in zip(
                store_format.shard_names(self.split, number),
                (shard.tokens * itemsize, shard.index_bytes(itemsize)),
                strict=True,
            )
        }
        with ThreadPoolExecutor(_THREADS) as threads:
            for name, found in zip(expected, threads.map(self._files.size, expected), strict=True):
                if found is None:
                    raise damaged(self._files, name, "missing")
                if found != expected[name]:
                    size = f"{found:,} bytes, expected {expected[name]:,}"
                    raise damaged(self._files, name, size)

    def _read_indices(self) -> list[Index]:
        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(self._read_index, range(len(self._shards))))

    def _read_index(self, number: int) -> Index:
        shard, name = self._shards[number], store_format.shard_names(self.split, number)[1]
        data = self._files.read(name)
        if store_format.sha256(data) != shard.index_sha256:
            raise damaged(self._files, name, "checksum")
        try:
            return store_format.parse_index(data, shard)
        except ValueError as error:
            raise damaged(self._files, name, str(error)) from None


class _Local:
    """Blocks of local files: `MOST_OPEN` are kept open, and each block is checked once.

    Not mapped: a file that is cut while it is mapped ends the process with a signal.
    """

    def __init__(self, files: Files, split: str, digests: list[list[bytes]]) -> None:
        self._files, self._split, self._digests = files, split, digests
        self._open: dict[int, io.FileIO] = {}
        self._checked = [bytearray(len(each)) for each in digests]

    def read(self, shard: int, start: int, stop: int) -> Any:
        """The bytes [start, stop) of a shard's tokens."""
        name = store_format.shard_names(self._split, shard)[0]
        file = self._open.get(shard) or io.FileIO(os.path.join(self._files.path, name))
        if len(self._open) < MOST_OPEN:
            self._open[shard] = file
        number, checked = file.fileno(), self._checked[shard]
        for block in range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)):
            if not checked[block]:
                content = os.pread(number, BLOCK_BYTES, block * BLOCK_BYTES)
                if store_format.block_digest(content) != self._digests[shard][block]:
                    raise damaged(self._files, name, f"checksum of block {block}")
                checked[block] = True
        found = os.pread(number, stop - start, start)
        if len(found) != stop - start:
            raise damaged(self._files, name, "cut since it was opened")
        return found


class _Fetched:
    """Blocks of an object store: fetched by ranged reads, checked, the latest ones kept."""

    def __init__(self, files: Files, split: str, digests: list[list[bytes]]) -> None:
        self._files, self._split, self._digests = files, split, digests
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, shard: int, start: int, stop: int) -> Any:
        """The bytes [start, stop) of a shard's tokens."""
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        with self._lock:
            blocks = {n: self._kept.get((shard, n)) for n in range(first, last)}
        for begin, end in _gaps(blocks):
            blocks.update(self._fetch(shard, begin, end))
        with self._lock:
            for n in blocks:
                self._kept[shard, n] = blocks[n] or b""
                self._kept.move_to_end((shard, n))
            while len(self._kept) > CACHE_BLOCKS:
                self._kept.popitem(last=False)
        whole = b"".join(block or b"" for block in blocks.values())
        return whole[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def _fetch(self, shard: int, begin: int, end: int) -> dict[int, bytes]:
        """The blocks [begin, end), in one request."""
        name = store_format.shard_names(self._split, shard)[0]
        try:
            data = self._files.read(name, begin * BLOCK_BYTES, end * BLOCK_BYTES)
        except OSError as error:
            raise UserError(f"cannot read {self._files.path}/{name}: {error}") from error
        found = {}
        for block in range(begin, end):
            at = (block - begin) * BLOCK_BYTES
            found[block] = data[at : at + BLOCK_BYTES]
            if store_format.block_digest(found[block]) != self._digests[shard][block]:
                raise damaged(self._files, name, f"checksum of block {block}")
        return found


def _gaps(blocks: Mapping[int, bytes | None]) -> Iterator[tuple[int, int]]:
    """Runs [begin, end) of consecutive blocks that are not there."""
    missing = [n for n, block in blocks.items() if block is None]
    begin = None
    for n in missing:
        begin = n if begin is None else begin
        if n + 1 not in missing:
            yield begin, n + 1
            begin = None


def _starts(lengths: Any) -> np.ndarray:
    """int64 [N+1]: 0 and the running sums of the lengths of all shards."""
    return np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
