"""From pieces to the store: in the order of the input, without duplicates, held-out apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from gptbert.corpora.rejects import RejectList, Row
from gptbert.corpora.units import Piece, Tally
from gptbert.pipeline.store_format import SPLITS
from gptbert.pipeline.store_writer import StoreWriter


class Seen:
    """The hashes met so far: 16 bytes each, and as much again for a moment when runs are merged.

    So a million documents take 16 MB, at most 32. Sorted runs, each more than twice as long as
    the next, are searched one by one.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Adds bytes of 16 [D]; returns bool [D], True for the first of its kind, ever."""
        unique, first = np.unique(hashes, return_index=True)
        new = np.ones(len(unique), bool)
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, unique), len(run) - 1)
            new &= run[place] != unique
        if new.any():
            self._runs.append(unique[new])
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]))
        is_first = np.zeros(len(hashes), bool)
        is_first[first[new]] = True
        return is_first


COUNTS = ("documents", "sentences", "words", "tokens", "bytes", "unknown")


@dataclasses.dataclass
class Totals:
    """What the report tells of all pieces; `kept` is split -> name of `COUNTS` -> count."""

    kept: dict[str, dict[str, int]] = dataclasses.field(
        default_factory=lambda: {split: dict.fromkeys(COUNTS, 0) for split in SPLITS}
    )
    duplicates: int = 0
    duplicate_bytes: int = 0
    longest: tuple[int, str] = (0, "")
    rejects: Tally = dataclasses.field(default_factory=Tally)
    notes: Tally = dataclasses.field(default_factory=Tally)


def merge(pieces: Iterable[Piece], writer: StoreWriter, rejected: RejectList) -> Totals:
    """Writes the documents of all pieces to their splits; the first of equal texts is kept.

    What was not read goes to the list, which is left for more.
    """
    seen, totals = Seen(), Totals()
    for piece in pieces:
        documents = piece.documents
        is_first = seen.add(documents["hash"])
        totals.duplicates += int(np.count_nonzero(~is_first))
        totals.duplicate_bytes += _sum(documents["bytes"][~is_first])
        for split, held_out in zip(SPLITS, (False, True), strict=True):
            chosen = is_first & (documents["held_out"] == held_out)
            _add(piece, split, chosen, writer, totals.kept[split])
        totals.rejects.merge(piece.told["rejects"])
        totals.notes.merge(piece.told["notes"])
        rejected.add(Row(*row) for row in piece.told["rejected"])
        tokens, name = piece.told["longest"]
        # The longest of all is never a duplicate of an earlier document: that would be as long.
        totals.longest = max(totals.longest, (tokens, name), key=lambda found: found[0])
    return totals


def _add(
    piece: Piece, split: str, chosen: np.ndarray, writer: StoreWriter, kept: dict[str, int]
) -> None:
    documents = piece.documents[chosen]
    of_sentences = np.repeat(chosen, piece.documents["sentences"])
    sentences = piece.sentences[of_sentences]
    tokens = piece.tokens[np.repeat(of_sentences, piece.sentences)]
    words, length = _sum(documents["words"]), _sum(documents["bytes"])
    writer.add(split, tokens, sentences, documents["sentences"], words=words, bytes=length)
    unknown = _sum(documents["unknown"])
    new = (len(documents), len(sentences), words, len(tokens), length, unknown)
    for name, count in zip(COUNTS, new, strict=True):
        kept[name] += count


def _sum(numbers: np.ndarray) -> int:
    return int(numbers.sum(dtype=np.int64))
