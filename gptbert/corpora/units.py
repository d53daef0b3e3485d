"""What a worker does: reads a unit of work, encodes its documents, leaves them as pieces.

A unit is a few megabytes of input, or one large file. Its pieces are files of bounded size that
appear whole; each says how much of the unit came before its end, so that after a kill the unit
goes on behind its last piece: what is in pieces is read again but not encoded again.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gptbert.corpora.rejects import Grouping, Row
from gptbert.datasets.documents import (
    Document,
    Reject,
    Source,
    document_hash,
    is_held_out,
    read_documents,
)
from gptbert.datasets.sentences import split_sentences
from gptbert.errors import UserError
from gptbert.pipeline.store_files import Files, open_files
from gptbert.pipeline.store_format import UNFINISHED, token_dtype
from gptbert.tokenizers import Tokenizer, load_tokenizer

SHOWN = 3  # examples of each kind of reject
PIECE_ROWS = 20_000  # of rejects, at most, and one file's more

# One document of a piece: number of sentences, hash and bytes of its text in UTF-8, whether it is
# held out, words, and how many of its tokens are unknown.
DOCUMENT = np.dtype(
    [
        ("sentences", "u4"),
        ("hash", "S16"),
        ("held_out", "?"),
        ("words", "u4"),
        ("bytes", "u4"),
        ("unknown", "u4"),
    ]
)

_NAME = re.compile(rf"{UNFINISHED}/(\d+)-(\d+)(-last)?\.npz")


Encode = Callable[[str, str], list[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a worker is told at its start.

    Attributes:
      tokenizer: Where it lies.
      lowercase: As for `load_tokenizer`.
      fingerprint: What the tokenizer's must be.
      output: The store, where pieces are kept meanwhile.
      held_out: Share of the documents to hold out.
      min_words: Shorter documents are rejects.
      piece_tokens: A piece ends with the document that reaches so many.
    """

    tokenizer: str
    lowercase: bool | None
    fingerprint: str
    output: str
    held_out: float
    min_words: int
    piece_tokens: int


@dataclasses.dataclass
class Tally:
    """Things counted by kind, with the first few of each kind."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    first: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Counts `example`."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        shown = self.first.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(example)

    def merge(self, other: dict[str, Any]) -> None:
        """Adds another tally, as from `dataclasses.asdict`, that comes after this one."""
        for kind, count in other["counts"].items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            shown = self.first.setdefault(kind, [])
            shown += other["first"][kind][: SHOWN - len(shown)]


@dataclasses.dataclass(frozen=True)
class Piece:
    """Encoded documents D of a unit, in their order.

    Attributes:
      tokens: uint16 or uint32 [T], documents end to end.
      sentences: uint32 [S], tokens of each sentence.
      documents: `DOCUMENT` [D].
      told: `items` of the unit up to the end of this piece, `rejects`, `notes`, `longest`, and of
        `rejected` the `Row`s as lists.
    """

    tokens: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    told: dict[str, Any]

    def dump(self) -> bytes:
        """The piece as a file, with the checksums of a zip archive."""
        told = np.frombuffer(json.dumps(self.told).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            tokens=self.tokens,
            sentences=self.sentences,
            documents=self.documents,
            told=told,
        )
        return buffer.getvalue()


def load_piece(files: Files, name: str) -> Piece:
    """Reads a piece; UserError if it is damaged."""
    try:
        with np.load(io.BytesIO(files.read(name)), allow_pickle=False) as arrays:
            told = json.loads(arrays["told"].tobytes())
            return Piece(arrays["tokens"], arrays["sentences"], arrays["documents"], told)
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and numpy raise a dozen kinds
        raise UserError(
            f"{files.path}/{name} is damaged ({error}); delete it and start the same command again"
        ) from None


def group(sources: Sequence[Source], unit_bytes: int) -> list[tuple[Source, ...]]:
    """Cuts the sources, in their order, into units of at least so many bytes; the last is less."""
    units: list[tuple[Source, ...]] = []
    start = size = 0
    for place, source in enumerate(sources, 1):
        size += source.bytes
        if size >= unit_bytes or place == len(sources):
            units.append(tuple(sources[start:place]))
            start, size = place, 0
    return units


def finished_pieces(files: Files) -> tuple[dict[int, list[str]], set[int]]:
    """unit -> names of its pieces from the first on without a gap; and the units that are done."""
    found: dict[int, dict[int, re.Match[str]]] = {}
    for match in filter(None, map(_NAME.fullmatch, files.names(UNFINISHED))):
        found.setdefault(int(match[1]), {})[int(match[2])] = match
    pieces, done = {}, set()
    for unit, matches in found.items():
        row = [matches[n] for n in itertools.takewhile(matches.__contains__, itertools.count())]
        pieces[unit] = [match[0] for match in row]
        if row and row[-1][3]:
            done.add(unit)
    return pieces, done


class UnitEncoder:
    """Encodes units one after another, with one tokenizer and its caches."""

    def __init__(self, setup: Setup) -> None:
        """UserError if the tokenizer is not the one that the run began with."""
        self._setup = setup
        self._tokenizer = load_tokenizer(setup.tokenizer, lowercase=setup.lowercase)
        if self._tokenizer.fingerprint != setup.fingerprint:
            raise UserError(f"the tokenizer {setup.tokenizer} changed while the corpus was read")
        self._encode = _encoder(self._tokenizer)
        self._files = open_files(setup.output)

    def run(self, number: int, unit: Sequence[Source], names: Sequence[str]) -> Iterator[int]:
        """Encodes what is not in the pieces `names` yet; yields how many bytes have been read."""
        done = load_piece(self._files, names[-1]).told["items"] if names else 0
        count, draft = len(names), self._draft(done)
        for at, item in itertools.islice(_items(unit), done, None):
            draft.add(item)
            if draft.is_full:
                self._write(draft, number, count)
                count, draft = count + 1, self._draft(draft.items)
            yield at
        self._write(draft, number, count, last=True)

    def _draft(self, items: int) -> _Draft:
        return _Draft(self._setup, self._tokenizer, self._encode, items)

    def _write(self, draft: _Draft, number: int, count: int, last: bool = False) -> None:
        name = f"{UNFINISHED}/{number:06d}-{count:04d}{'-last' if last else ''}.npz"
        self._files.write(name, draft.piece().dump())


class _Draft:
    """A piece in the making."""

    def __init__(self, setup: Setup, tokenizer: Tokenizer, encode: Encode, items: int) -> None:
        self._setup, self._encode, self._unk = setup, encode, tokenizer.special.unk
        self._dtype = token_dtype(tokenizer.vocabulary_size)
        self._tokens: list[np.ndarray] = []
        self._sentences: list[int] = []
        self._documents: list[tuple[Any, ...]] = []
        self._rejects, self._notes = Tally(), Tally()
        self._rejected, self._grouping = list[Row](), Grouping()
        self._longest: tuple[int, str] = (0, "")
        self._size, self.items = 0, items

    @property
    def is_full(self) -> bool:
        return self._size >= self._setup.piece_tokens or len(self._rejected) >= PIECE_ROWS

    def add(self, item: Document | Reject) -> None:
        self.items += 1
        if isinstance(item, Reject):
            self._rejects.add(item.kind, f"{item.source}: {item.reason}")
            self._reject(Row(item.file, item.reason, 1, item.source))
            return
        name = f"{item.source} ({item.id})"
        for note in item.notes:
            self._notes.add(note, name)
        words = len(item.text.split())
        if words < self._setup.min_words:
            self._leave_out(item, name, f"fewer than {self._setup.min_words} words")
            return
        sentences = [ids for ids in self._encode(item.text, item.format) if len(ids)]
        if not sentences:
            self._leave_out(item, name, "no tokens")
            return
        self._keep(item.text, name, words, sentences)

    def _leave_out(self, document: Document, name: str, reason: str) -> None:
        self._rejects.add(reason, name)
        self._reject(Row(document.source, reason, 1, name))

    def _reject(self, row: Row) -> None:
        self._rejected += self._grouping.add(row)

    def piece(self) -> Piece:
        self._rejected += self._grouping.rest()
        told = {
            "items": self.items,
            "rejects": dataclasses.asdict(self._rejects),
            "notes": dataclasses.asdict(self._notes),
            "longest": self._longest,
            "rejected": list(map(dataclasses.astuple, self._rejected)),
        }
        return Piece(
            np.concatenate([np.zeros(0, self._dtype), *self._tokens]),
            np.array(self._sentences, np.uint32),
            np.array(self._documents, DOCUMENT),
            told,
        )

    def _keep(self, text: str, name: str, words: int, sentences: list[np.ndarray]) -> None:
        tokens = np.concatenate(sentences)
        key = document_hash(text)
        held_out = is_held_out(key, self._setup.held_out)
        length = len(text) if text.isascii() else len(text.encode())
        unknown = 0 if self._unk is None else np.count_nonzero(tokens == self._unk)
        self._tokens.append(tokens.astype(self._dtype))
        self._sentences += map(len, sentences)
        self._documents.append((len(sentences), key, held_out, words, length, unknown))
        self._longest = max(self._longest, (len(tokens), name), key=lambda found: found[0])
        self._size += len(tokens)


def _items(unit: Sequence[Source]) -> Iterator[tuple[int, Document | Reject]]:
    """What a unit holds, each with the bytes of the unit that were read by then."""
    before = 0
    for source in unit:
        for item in read_documents(source):
            yield before + item.end, item
        before += source.bytes


def _encoder(tokenizer: Tokenizer) -> Encode:
    """(text, format) -> ids of its sentences, where there is what BERT's pairs are made with.

    Without [CLS], [SEP] and [MASK] a document is encoded in one go.
    """
    special = tokenizer.special
    if None in (special.cls, special.sep, special.mask):
        return lambda text, _: tokenizer.encode_arrays([text])

    def encode(text: str, format: str) -> list[np.ndarray]:
        # Google's form has a sentence a line, whatever its first and last letters.
        sentences = split_sentences(text, join_lines=format != "paragraphs")
        return tokenizer.encode_arrays(sentences)

    return encode
