"""The format of a token store: names, arrays and the manifest.

    manifest.json            written last: with it the store is whole, without it there is none
    train/00000.tokens       ids of documents end to end, uint16 or uint32, little-endian
    train/00000.index        uint32 sentences of each document, uint32 tokens of each sentence,
                             16 bytes for each block of the tokens: its SHA-256, cut
    heldout/00000.tokens ... the same for the held-out share
    tokenizer/               the tokenizer, as Hugging Face loaders read it
    report.json              what was read and what was not
    rejects.jsonl            which files were not read, or not all of them, and why; not hashed
    plan.json                what it is made of, written first: an unfinished store is known by it

Documents are never cut by the end of a shard. The manifest has every file's size and SHA-256 and a
digest of itself; the index is checked whole when a store is opened, tokens block by block when they
are first read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gptbert.errors import UserError, shown
from gptbert.pipeline.store_files import Files

FORMAT = 1
MANIFEST = "manifest.json"
REPORT = "report.json"
PLAN = "plan.json"
TOKENIZER = "tokenizer"
UNFINISHED = "unfinished"
SPLITS = ("train", "heldout")
BLOCK_BYTES = 1 << 18
_DIGEST_BYTES = 16
# Files beside the shards: never a way out of the folder that the tokenizer's are copied to.
_BESIDE = re.compile(rf"({TOKENIZER}/)?(?!\.\.?$)[^/\\\0]+")


@dataclasses.dataclass(frozen=True)
class Shard:
    """What the manifest says of one shard; sizes follow from the counts."""

    tokens: int
    sentences: int
    documents: int
    tokens_sha256: str
    index_sha256: str

    def index_bytes(self, itemsize: int) -> int:
        """Size of the index file, for tokens of `itemsize` bytes."""
        return 4 * (self.documents + self.sentences) + _DIGEST_BYTES * self.blocks(itemsize)

    def blocks(self, itemsize: int) -> int:
        """How many blocks the tokens make."""
        return -(-self.tokens * itemsize // BLOCK_BYTES)


@dataclasses.dataclass(frozen=True)
class Index:
    """The small arrays of a shard: document lengths, sentence lengths (int64), block digests."""

    documents: np.ndarray
    sentences: np.ndarray
    blocks: list[bytes]


def token_dtype(vocabulary_size: int) -> np.dtype[Any]:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")


def shard_names(split: str, number: int) -> tuple[str, str]:
    """The names of a shard's tokens and index."""
    return f"{split}/{number:05d}.tokens", f"{split}/{number:05d}.index"


def sha256(data: Any) -> str:
    """SHA-256 (hex) of bytes or of a contiguous array."""
    return hashlib.sha256(data).hexdigest()


def block_digest(block: Any) -> bytes:
    """The 16 bytes by which a block of tokens is recognised."""
    return hashlib.sha256(block).digest()[:_DIGEST_BYTES]


def build_index(documents: np.ndarray, sentences: np.ndarray, tokens: memoryview) -> bytes:
    """The index file of a shard, from its lengths and the bytes of its tokens."""
    blocks = (tokens[at : at + BLOCK_BYTES] for at in range(0, len(tokens), BLOCK_BYTES))
    lengths = [np.asarray(each, "<u4").tobytes() for each in (documents, sentences)]
    return b"".join([*lengths, *map(block_digest, blocks)])


def parse_index(data: bytes, shard: Shard) -> Index:
    """The reverse of `build_index`; ValueError unless the lengths fit the shard's counts."""
    documents = np.frombuffer(data, "<u4", shard.documents).astype(np.int64)
    sentences = np.frombuffer(data, "<u4", shard.sentences, 4 * shard.documents).astype(np.int64)
    if documents.sum() != shard.sentences or sentences.sum() != shard.tokens:
        raise ValueError("lengths do not add up")
    rest = data[4 * (shard.documents + shard.sentences) :]
    blocks = [rest[at : at + _DIGEST_BYTES] for at in range(0, len(rest), _DIGEST_BYTES)]
    return Index(documents, sentences, blocks)


def write_manifest(files: Files, content: Mapping[str, Any]) -> None:
    """Commits a store: everything else must have been written before."""
    files.write(MANIFEST, _sealed({"format": FORMAT, **content}).encode())


def read_manifest(files: Files) -> dict[str, Any]:
    """The manifest of a store; UserError unless there is one, as it was written, byte for byte."""
    try:
        text = files.read(MANIFEST).decode()
        content = json.loads(text)
        del content["sha256"]
        whole = _sealed(content) == text
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(_absent(files)) from None
    except OSError as error:
        where = f"{files.path}/{MANIFEST}"
        raise UserError(f"cannot read {where}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise damaged(files, MANIFEST, "cut or garbled") from None
    if not whole:
        raise damaged(files, MANIFEST, "checksum")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{files.path} is a token store of format {content.get('format')}; this version reads "
            f"format {FORMAT}: prepare it again with `gptbert prepare-corpus`"
        )
    for name in content["files"]:
        if not _BESIDE.fullmatch(name):
            raise UserError(
                f"{files.path}/{MANIFEST} names a file {shown(name)}, which no token store has; "
                "expected one that `gptbert prepare-corpus` wrote"
            )
    return content


def damaged(files: Files, name: str, what: str) -> UserError:
    """The one sentence for a file that is not what was written."""
    return UserError(
        f"{files.path}/{name} is damaged ({what}); bring back a copy, or delete {files.path} and "
        "prepare it again with `gptbert prepare-corpus`"
    )


def _absent(files: Files) -> str:
    if files.size(PLAN) is not None or files.names(UNFINISHED):
        return (
            f"{files.path} is an unfinished token store; start the `gptbert prepare-corpus` "
            "command that began it once more, it continues"
        )
    return (
        f"no token store at {files.path}: {MANIFEST} is missing there; expected the --output of "
        "`gptbert prepare-corpus`"
    )


def _sealed(content: Mapping[str, Any]) -> str:
    """The text of a manifest: `content` and a digest of it, so that its own damage shows too."""
    digest = sha256(json.dumps(content, sort_keys=True).encode())
    return json.dumps({**content, "sha256": digest}, sort_keys=True, indent=1) + "\n"
