"""Instances of a corpus -> the arrays of a batch: read, mask, lay into rows.

A batch is exactly its examples, wherever they lie (`packing`); several share a row where they fit,
at most `slots`. Of long documents cut by BERT's data creation, most examples fill 128 tokens
exactly and lie alone; sharing saves some rows of 128 and more of those of 512.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gptbert.models.inputs import Packed
from gptbert.pipeline.batch import Batch, MaskedTargets, TokenTargets
from gptbert.pipeline.masking import Masking, mask
from gptbert.pipeline.packing import Shape, pack
from gptbert.pipeline.store import TokenStore


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What laying out needs of a tokenizer.

    Attributes:
      cls, sep, mask: Ids; `mask` None where nothing is masked.
      size: V.
      continues: bool [V], entries that continue a word.
    """

    cls: int
    sep: int
    mask: int | None
    size: int
    continues: np.ndarray


@dataclasses.dataclass(frozen=True)
class Picked:
    """Some examples of some corpora.

    Attributes:
      corpora: int64 [B], number of the store.
      first, second: int64 [B,2], stretches of its stream; an empty second one in single texts.
      random_next: bool [B].
      keys: uint64 [B], what the masks are drawn from.
      specials: 3 for pairs, 2 for single texts.
    """

    corpora: np.ndarray
    first: np.ndarray
    second: np.ndarray
    random_next: np.ndarray
    keys: np.ndarray
    specials: int

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [B], tokens of each example, special ones included."""
        texts = self.first[:, 1] - self.first[:, 0] + self.second[:, 1] - self.second[:, 0]
        return texts + self.specials

    def take(self, which: np.ndarray) -> Picked:
        """Those examples."""
        return Picked(
            self.corpora[which],
            self.first[which],
            self.second[which],
            self.random_next[which],
            self.keys[which],
            self.specials,
        )


@dataclasses.dataclass(frozen=True)
class Places:
    """Where examples lie: example, row, first position and slot of each, int64 [K]."""

    examples: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    slots: np.ndarray


def share_rows(lengths: np.ndarray, positions: int, slots: int) -> list[list[int]]:
    """Examples of each row: alone where nothing else fits, else best fit, at most `slots`."""
    alone = lengths + lengths.min() > positions if slots > 1 else np.ones(len(lengths), bool)
    short = np.flatnonzero(~alone)
    shared = pack(lengths[short].tolist(), positions)
    rows = [[int(example)] for example in np.flatnonzero(alone)]
    for row in shared:
        members = short[row].tolist()
        rows += [members[k : k + slots] for k in range(0, len(members), slots)]
    return rows


def place(rows: Sequence[Sequence[int]], lengths: np.ndarray, begin: int, end: int) -> Places:
    """Places of the examples in rows [begin, end), row numbers counted from `begin`."""
    found = []
    for number, members in enumerate(rows[begin:end]):
        at = 0
        for slot, example in enumerate(members):
            found.append((example, number, at, slot))
            at += int(lengths[example])
    return Places(*np.array(found, np.int64).reshape(-1, 4).T)


def masked_batch(
    stores: Sequence[TokenStore],
    picked: Picked,
    places: Places,
    shape: Shape,
    predictions: int,
    masking: Masking,
    vocabulary: Vocabulary,
) -> Batch:
    """The batch of rows in which tokens are hidden.

    Args:
      stores: The corpora.
      picked: All examples of the batch.
      places: Where those of this process lie.
      shape: Of this process's rows.
      predictions: M, slots a row for predictions.
      masking, vocabulary: How tokens are hidden.
    """
    assert vocabulary.mask is not None
    mine = picked.take(places.examples)
    tokens, is_text = _read(stores, mine, vocabulary)
    shown, chosen = mask(
        tokens,
        is_text,
        mine.lengths,
        mine.keys,
        masking,
        mask_id=vocabulary.mask,
        vocabulary_size=vocabulary.size,
        continues=vocabulary.continues if masking.whole_words else None,
    )
    layout = _Layout(mine, places, shape, tokens.shape[1])
    rows, columns = np.nonzero(layout.lay(chosen))
    counts = np.bincount(rows, minlength=shape.rows)
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions, labels = np.zeros((2, shape.rows, predictions), np.int32)
    weights = np.zeros((shape.rows, predictions), np.float32)
    positions[rows, slot] = columns
    labels[rows, slot] = layout.lay(tokens)[rows, columns]
    weights[rows, slot] = 1.0
    starts, next_labels = np.zeros((2, shape.rows, shape.slots), np.int32)
    next_weights = np.zeros((shape.rows, shape.slots), np.float32)
    starts[places.rows, places.slots] = places.starts
    next_labels[places.rows, places.slots] = mine.random_next
    # Without a second text there is nothing to tell about it.
    next_weights[places.rows, places.slots] = float(mine.specials == 3)
    targets = MaskedTargets(positions, labels, weights, starts, next_labels, next_weights)
    return Batch(layout.packed(shown), targets)


def next_token_batch(
    stores: Sequence[TokenStore],
    picked: Picked,
    places: Places,
    shape: Shape,
    vocabulary: Vocabulary,
) -> Batch:
    """The batch of single texts read from left to right; every token of the text is predicted.

    The [SEP] behind it is not: where an example ends is no property of the text.
    """
    mine = picked.take(places.examples)
    tokens, is_text = _read(stores, mine, vocabulary)
    layout = _Layout(mine, places, shape, tokens.shape[1])
    labels = np.where(is_text, tokens, 0)[:, 1:]
    labels, weights = (
        np.pad(each, ((0, 0), (0, 1))) for each in (labels, is_text[:, 1:].astype(np.float32))
    )
    return Batch(layout.packed(tokens), TokenTargets(layout.lay(labels), layout.lay(weights)))


def abstract_masked_batch(shape: Shape, predictions: int) -> Batch:
    """The shapes and types of `masked_batch`."""
    slots, predicted = (shape.rows, shape.slots), (shape.rows, predictions)
    return Batch(
        abstract_packed(shape.rows, shape.positions),
        MaskedTargets(
            _array(predicted, np.int32), _array(predicted, np.int32), _array(predicted, np.float32),
            _array(slots, np.int32), _array(slots, np.int32), _array(slots, np.float32),
        ),
    )  # fmt: skip


def abstract_next_token_batch(rows: int, positions: int) -> Batch:
    """The shapes and types of batches with `TokenTargets`."""
    size = (rows, positions)
    targets = TokenTargets(_array(size, np.int32), _array(size, np.float32))
    return Batch(abstract_packed(rows, positions), targets)


def abstract_packed(rows: int, positions: int) -> Packed:
    """`Packed` of ShapeDtypeStructs."""
    return Packed(*(_array((rows, positions), np.int32) for _ in range(4)))


def _array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _read(
    stores: Sequence[TokenStore], picked: Picked, vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the examples, one a row, int32 [K,T], and where text lies, bool [K,T]."""
    lengths, width = picked.lengths, int(picked.lengths.max(initial=1))
    tokens = np.zeros((len(picked), width), np.int32)
    columns = (tokens, picked.corpora.tolist(), picked.first.tolist(), picked.second.tolist())
    for row, corpus, first, second in zip(*columns, strict=True):
        read, split = stores[corpus].read, first[1] - first[0] + 1
        row[1:split] = read(*first)
        if second[1] > second[0]:
            row[split + 1 : split + 1 + second[1] - second[0]] = read(*second)
    every, column = np.arange(len(picked)), np.arange(width)
    is_text = (column > 0) & (column < lengths[:, None] - 1)
    tokens[:, 0] = vocabulary.cls
    tokens[every, lengths - 1] = vocabulary.sep
    if picked.specials == 3:
        split = picked.first[:, 1] - picked.first[:, 0] + 1
        tokens[every, split] = vocabulary.sep
        is_text[every, split] = False
    return tokens, is_text


class _Layout:
    """Carries arrays [K,W] with one example a row to the rows [R,T] of a batch."""

    def __init__(self, picked: Picked, places: Places, shape: Shape, width: int) -> None:
        self._picked, self._places, self._size = picked, places, (shape.rows, shape.positions)
        self._column = np.arange(width)
        self._real = self._column < picked.lengths[:, None]
        begin = places.rows * shape.positions + places.starts
        self._target = (begin[:, None] + self._column)[self._real]

    def lay(self, values: np.ndarray) -> np.ndarray:
        """[K,W] -> [R,T]; zero in empty space."""
        laid = np.zeros(self._size, values.dtype)
        laid.reshape(-1)[self._target] = np.broadcast_to(values, self._real.shape)[self._real]
        return laid

    def packed(self, tokens: np.ndarray) -> Packed:
        """Tokens [K,W] with their positions, examples and texts."""
        split = self._picked.first[:, 1] - self._picked.first[:, 0] + 1
        second = (self._column > split[:, None]) & (self._picked.specials == 3)
        column, number = self._column.astype(np.int32), self._places.examples.astype(np.int32) + 1
        return Packed(
            self.lay(tokens),
            self.lay(column[None, :]),
            self.lay(number[:, None]),
            self.lay(second.astype(np.int32)),
        )
