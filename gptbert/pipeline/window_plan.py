"""Batches of contiguous windows, by step, for models that predict the next token.

Several corpora are mixed as for instances: `mixture` gives each window's corpus and place, and
every corpus has epochs of its own.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

import numpy as np

from gptbert.models.inputs import Packed
from gptbert.pipeline import draws
from gptbert.pipeline.batch import Batch, TokenTargets
from gptbert.pipeline.instance_plan import batch_numbers, share_of
from gptbert.pipeline.instance_rows import abstract_next_token_batch
from gptbert.pipeline.mixture import Mixture
from gptbert.pipeline.windows import Windows


class WindowStream:
    """The windows of a mixture, epoch after epoch."""

    def __init__(self, mixture: Mixture, length: int, end_of_text: int | None, seed: int) -> None:
        self.mixture, self.length = mixture, length
        self.windows = [Windows(store, length, end_of_text) for store in mixture.stores]
        for each in self.windows:
            if not each.count:
                raise each.too_short()
        self._seeds = [draws.key(seed, "corpus", n, length) for n in range(len(mixture.stores))]
        self._starts = functools.lru_cache(2 * len(mixture.stores))(self._make_starts)

    @property
    def epoch_size(self) -> int:
        """Windows of one pass over all corpora."""
        return sum(each.count for each in self.windows)

    @property
    def tokens_per_byte(self) -> float | None:
        """Predicted tokens (end-of-text ones too) a UTF-8 byte of the text, as corpora are mixed.

        None if the stores tell of no bytes.
        """
        bytes_per_token = sum(
            weight * store.bytes / each.tokens
            for weight, store, each in zip(
                self.mixture.weights, self.mixture.stores, self.windows, strict=True
            )
        )
        return 1 / bytes_per_token if bytes_per_token else None

    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of these windows, int32 [B,T+1], and how many of them are to be predicted."""
        corpora, places = self.mixture.deal(numbers)
        tokens = np.empty((len(numbers), self.length + 1), np.int32)
        for row, corpus, at in zip(tokens, corpora.tolist(), places.tolist(), strict=True):
            windows = self.windows[corpus]
            epoch, which = divmod(at, windows.count)
            row[:] = windows.read(int(self._starts(corpus, epoch)[which]), self.length + 1)
        return tokens, np.full(len(numbers), self.length)

    def _make_starts(self, corpus: int, epoch: int) -> np.ndarray:
        return self.windows[corpus].starts(self._seeds[corpus], epoch)


class NumberedWindows(Protocol):
    """Numbered windows: endless in training, finitely many in an evaluation."""

    @property
    def length(self) -> int: ...
    @property
    def epoch_size(self) -> int: ...
    @property
    def tokens_per_byte(self) -> float | None: ...
    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """Batches of contiguous windows, one a row, every position predicting the next token.

    Attributes:
      windows: Where they come from.
      batch_size: B, windows of one step of the whole job.
      steps: Number of steps.
      rows: B, rounded up to what the devices and pieces divide.
      pieces: Gradient accumulation.
      total: Number of windows there are; None for endlessly many.
    """

    windows: NumberedWindows
    batch_size: int
    steps: int
    rows: int
    pieces: int = 1
    total: int | None = None

    @property
    def length(self) -> int:
        """T, tokens of a window."""
        return self.windows.length

    @property
    def tokens_per_byte(self) -> float | None:
        """Predicted tokens a byte of the text, where it is known."""
        return self.windows.tokens_per_byte

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Batch `step`, or of `parts` equal contiguous shares of its rows that of `part`."""
        numbers = batch_numbers(step, self.batch_size, self.total)
        begin, end = share_of(self.rows, part, parts)
        mine = numbers[begin:end]
        length, size = self.windows.length, (end - begin, self.windows.length)
        tokens, positions, segments, labels = np.zeros((4, *size), np.int32)
        weights = np.zeros(size, np.float32)
        read, known = self.windows.read(mine)
        here, column = slice(0, len(mine)), np.arange(length)
        real = column < known[:, None]
        tokens[here], labels[here] = read[:, :-1] * real, read[:, 1:] * real
        positions[here], weights[here] = column * real, real
        segments[here] = (1 + np.arange(begin, begin + len(mine)))[:, None] * real
        return Batch(
            Packed(tokens, positions, segments, np.zeros_like(tokens)),
            TokenTargets(labels, weights),
        )

    def abstract_batches(self) -> list[Batch]:
        """The one shape, as ShapeDtypeStructs."""
        return [abstract_next_token_batch(self.rows, self.windows.length)]

    def epoch(self, step: int) -> float:
        """Passes over all corpora after `step` steps."""
        return step * self.batch_size / self.windows.epoch_size
