"""Several examples to a row: which example goes where, and the arrays that result.

A batch is exactly the examples that it would be without packing; only where they lie differs.
Segments number the examples, positions restart, attention stays within segments: each example
computes what it would compute in a row of its own.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence

import numpy as np

from gptbert.models.inputs import Packed
from gptbert.pipeline.batch import Batch, ExampleTargets
from gptbert.pipeline.encode import Features


@dataclasses.dataclass(frozen=True, order=True)
class Shape:
    """The fixed shape of a compiled batch: rows R, positions T, slots N a row."""

    rows: int
    positions: int
    slots: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.positions} ({self.slots} slots)"


def pack(lengths: Sequence[int], positions: int, max_rows: int | None = None) -> list[list[int]]:
    """Assigns examples to rows of `positions` tokens: best fit by decreasing length.

    Returns the example numbers of each row; of rows with equal space the first is filled. No
    length is more than `positions`. With `max_rows`, stops opening rows at that number and leaves
    out what does not fit (the caller sees it by counting).
    """
    order = sorted(range(len(lengths)), key=lambda e: (-lengths[e], e))
    rows: list[list[int]] = []
    with_space: list[list[int]] = [[] for _ in range(positions + 1)]  # heaps of rows
    for example in order:
        length = lengths[example]
        space = next((s for s in range(length, positions + 1) if with_space[s]), None)
        if space is not None:
            row = heapq.heappop(with_space[space])
        elif max_rows is None or len(rows) < max_rows:
            row, space = len(rows), positions
            rows.append([])
        else:
            continue
        rows[row].append(example)
        heapq.heappush(with_space[space - length], row)
    return rows


def assemble(
    features: Features,
    examples: np.ndarray,
    rows: list[list[int]],
    shape: Shape,
    numbers: Sequence[int] | None = None,
) -> Batch:
    """Builds the host arrays of one batch.

    Args:
      features: The encoded data set.
      examples: int [B], which examples of it make the batch.
      rows: For each row the positions within `examples` that it holds, from `pack`.
      shape: At least as many rows, positions and slots as needed.
      numbers: Numbers of the batch's examples, from 1; 1, 2, … B by default. The K sequences of
        example n are segments K (n - 1) + 1 to K n.
    """
    tokens, positions, segments, token_types = np.zeros((4, shape.rows, shape.positions), np.int32)
    starts = np.zeros((shape.rows, shape.slots, features.sequences), np.int32)
    labels = np.zeros((shape.rows, shape.slots), features.labels.dtype)
    weights = np.zeros((shape.rows, shape.slots), np.float32)
    for row, members in enumerate(rows):
        at = 0
        for slot, member in enumerate(members):
            example = examples[member]
            start, end = features.starts[example], features.starts[example + 1]
            stop = at + int(end - start)
            tokens[row, at:stop] = features.tokens[start:end]
            token_types[row, at + features.first_lengths[example] : stop] = 1
            number = member if numbers is None else numbers[member] - 1
            size = (stop - at) // features.sequences
            for k in range(features.sequences):
                positions[row, at : at + size] = np.arange(size)
                segments[row, at : at + size] = 1 + number * features.sequences + k
                starts[row, slot, k] = at + (size - 1 if features.read_last else 0)
                at += size
            labels[row, slot] = features.labels[example]
            weights[row, slot] = 1.0
    if features.sequences == 1:
        starts = starts[..., 0]
    return Batch(
        Packed(tokens, positions, segments, token_types), ExampleTargets(starts, labels, weights)
    )
