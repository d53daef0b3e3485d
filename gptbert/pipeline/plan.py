"""The plan of a run: which examples make which batch, and the few shapes that batches have.

Everything is a pure function of the configuration and the lengths: the order of (seed, epoch), the
shapes of a fixed cost model (never of a stopwatch: the choice is part of the result and stands in
the run folder). A run that resumes at step s asks for batch s; no iterator has state to save.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from gptbert.models.presets import ModelConfig, matrix_parameters
from gptbert.pipeline.batch import Batch
from gptbert.pipeline.encode import Features
from gptbert.pipeline.packing import Shape, assemble, pack

_SAMPLE = 256  # batches by which the row length is chosen


@dataclasses.dataclass(frozen=True)
class CostModel:
    """What a step and a compilation cost, in units of one matrix-product FLOP.

    A token costs `token` and each (query, key) pair of a row costs `pair`; both from
    `cost_model`. `compilation` is what a further shape costs, once.
    """

    token: float
    pair: float
    compilation: float

    def row(self, positions: int) -> float:
        """The cost of one row of `positions` tokens in one step."""
        return positions * (self.token + self.pair * positions)


def cost_model(shape: ModelConfig, *, on_cpu: bool) -> CostModel:
    """FLOPs of forward and backward pass; attention pairs weighted by 4 (memory-bound).

    A compilation is worth about 6 s of a 150 GFLOP/s CPU, or 20 s of a 50 TFLOP/s accelerator.
    """
    token = 6.0 * matrix_parameters(shape)
    pair = 4 * 12.0 * shape.layers * shape.width
    return CostModel(token, pair, 9e11 if on_cpu else 1e15)


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [E], the shuffled order of one epoch; a pure function of its arguments."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 0xDA7A, epoch))))
    return generator.permutation(examples)


def total_steps(examples: int, batch_size: int, num_epochs: float) -> int:
    """int(examples / batch x epochs), as BERT's released code has it; at least 1."""
    return max(1, int(examples / batch_size * num_epochs))


def choose_shapes(
    counts: Sequence[int], row_cost: float, compilation: float, most: int = 4
) -> list[int]:
    """The row counts worth compiling: minimal (rows computed + compilations), largest included.

    Exact, by dynamic programming over the distinct row counts of all steps of the run.
    """
    histogram = sorted(Counter(counts).items())
    rows = [n for n, _ in histogram]
    steps = np.cumsum([0] + [count for _, count in histogram])

    best: dict[tuple[int, int], tuple[float, list[int]]] = {(0, 0): (0.0, [])}
    for used in range(1, most + 1):
        for end in range(1, len(rows) + 1):
            options = [
                (cost + (steps[end] - steps[start]) * rows[end - 1] * row_cost + compilation, kept)
                for start in range(end)
                if (used - 1, start) in best
                for cost, kept in [best[used - 1, start]]
            ]
            if options:
                cost, kept = min(options)
                best[used, end] = (cost, [*kept, rows[end - 1]])
    finished = [value for (_, end), value in best.items() if end == len(rows)]
    return min(finished)[1]


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """Every batch of a training run, by step.

    Attributes:
      features: The encoded training data.
      batch_size: B, of the whole job.
      steps: Number of optimizer steps.
      seed: Of the data order.
      shapes: The compiled shapes, ascending in rows; rows count all pieces together.
      pieces: Gradient accumulation: how many equal pieces a batch's rows are cut into.
    """

    features: Features
    batch_size: int
    steps: int
    seed: int
    shapes: tuple[Shape, ...]
    pieces: int = 1

    def examples(self, step: int) -> np.ndarray:
        """int64 [B], the examples of batch `step`; batches run across the ends of epochs."""
        return _stream(len(self.features), self.seed, step * self.batch_size, self.batch_size)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """The host arrays of batch `step`, in the smallest shape that holds it.

        With `parts`, of so many equal, contiguous shares of its rows that of number `part`.
        """
        examples = self.examples(step)
        lengths = self.features.lengths[examples].tolist()
        rows = pack(lengths, self.shapes[0].positions)
        shape = next(shape for shape in self.shapes if shape.rows >= len(rows))
        share = shape.rows // parts
        mine = rows[part * share : (part + 1) * share]
        return assemble(self.features, examples, mine, dataclasses.replace(shape, rows=share))

    def abstract_batches(self) -> list[Batch]:
        """Every planned shape, as ShapeDtypeStructs."""
        probe = self.batch(0)

        def arrays(part: Any, rows: int, width: int) -> Any:
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((rows, width, *x.shape[2:]), x.dtype), part
            )

        return [
            Batch(
                arrays(probe.packed, shape.rows, shape.positions),
                arrays(probe.targets, shape.rows, shape.slots),
            )
            for shape in self.shapes
        ]

    def epoch(self, step: int) -> float:
        """Passes over the training data that are finished after `step` steps."""
        return step * self.batch_size / len(self.features)

    def epoch_ends(self) -> list[int]:
        """Steps after which another whole epoch has been seen; the last step is always one."""
        epochs = self.steps * self.batch_size / len(self.features)
        ends = {
            min(self.steps, math.ceil(epoch * len(self.features) / self.batch_size))
            for epoch in range(1, math.ceil(epochs) + 1)
        }
        return sorted(ends | {self.steps})


def run_shapes(
    features: Features,
    *,
    batch_size: int,
    steps: int,
    seeds: Sequence[int],
    costs: CostModel,
    row_multiple: int = 1,
    row_length: int = 0,
) -> tuple[Shape, ...]:
    """Chooses row length and row counts for whole runs from the lengths alone.

    Args:
      features: The encoded training data.
      batch_size: Examples of one optimizer step.
      steps: Of each run.
      seeds: Of the data orders: one for a run, all of them for a sweep, whose runs then share
        their compiled steps.
      costs: From `cost_model`.
      row_multiple: Rows are rounded up to a multiple of it (devices x pieces).
      row_length: T; 0 lets the cost model choose.
    """
    streams = [_stream(len(features), seed, 0, steps * batch_size) for seed in seeds]
    batches = features.lengths[np.concatenate(streams)].reshape(-1, batch_size).tolist()

    def packed(positions: int, batches: list[list[int]]) -> tuple[list[int], int]:
        """Rows needed by each batch, and the most examples in one row."""
        rows = [pack(batch, positions) for batch in batches]
        counts = [_round_up(len(each), row_multiple) for each in rows]
        return counts, max(len(row) for each in rows for row in each)

    def cost(positions: int) -> float:
        """The cost of the runs, judged by their first batches."""
        counts, _ = packed(positions, batches[:_SAMPLE])
        share = len(batches) / len(counts)
        kept = choose_shapes(counts, costs.row(positions) * share, costs.compilation)
        rows = sum(next(k for k in kept if k >= count) for count in counts)
        return rows * costs.row(positions) * share + len(kept) * costs.compilation

    candidates = [row_length] if row_length else _row_lengths(int(features.lengths.max()))
    positions = min(candidates, key=cost) if len(candidates) > 1 else candidates[0]
    counts, slots = packed(positions, batches)
    kept = choose_shapes(counts, costs.row(positions), costs.compilation)
    return tuple(Shape(rows, positions, slots) for rows in kept)


@dataclasses.dataclass(frozen=True)
class ScoringPlan:
    """Every example exactly once, packed into batches of one fixed shape, in data order."""

    features: Features
    shape: Shape

    def iterate(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """Pairs of (examples int64 [B], batch); segment k+1 is the k-th of its examples."""
        waiting = np.argsort(self.features.lengths, kind="stable")[::-1]
        while len(waiting):
            lengths = self.features.lengths[waiting].tolist()
            rows = _fill(lengths, self.shape)
            chosen = np.sort(np.concatenate([np.asarray(row) for row in rows]))
            place = {int(member): k for k, member in enumerate(chosen)}
            members = [[place[m] for m in row] for row in rows]
            yield waiting[chosen], assemble(self.features, waiting[chosen], members, self.shape)
            waiting = np.delete(waiting, chosen)


def plan_scoring(
    features: Features, *, batch_tokens: int = 2048, row_multiple: int = 1, slots: int = 16
) -> ScoringPlan:
    """One shape of about `batch_tokens` tokens whose rows hold the longest example."""
    longest = int(features.lengths.max()) if len(features) else 8
    positions = min(_row_lengths(longest), key=lambda t: (abs(t - 128), t))
    needed = math.ceil(int(features.lengths.sum()) / positions)
    rows = min(max(1, batch_tokens // positions), max(1, needed))
    return ScoringPlan(features, Shape(_round_up(rows, row_multiple), positions, slots))


def _fill(lengths: list[int], shape: Shape) -> list[list[int]]:
    """Fills the rows of one batch from lengths in descending order: long first, short on top."""
    rows: list[list[int]] = []
    first, last = 0, len(lengths) - 1
    while first <= last and len(rows) < shape.rows:
        row, free = [first], shape.positions - lengths[first]
        first += 1
        while first <= last and lengths[first] <= free and len(row) < shape.slots:
            row.append(first)
            free -= lengths[first]
            first += 1
        while first <= last and lengths[last] <= free and len(row) < shape.slots:
            row.append(last)
            free -= lengths[last]
            last -= 1
        rows.append(row)
    return rows


def _stream(examples: int, seed: int, start: int, count: int) -> np.ndarray:
    """`count` examples from place `start` of the epochs' orders laid end to end."""
    first, last = start // examples, (start + count - 1) // examples
    orders = [epoch_order(examples, seed, epoch) for epoch in range(first, last + 1)]
    begin = start - first * examples
    return np.concatenate(orders)[begin : begin + count]


def _row_lengths(longest: int) -> list[int]:
    """Candidates for T: multiples of 16 from the longest example up to about four times it."""
    smallest = _round_up(longest, 16)
    largest = max(smallest, min(4 * smallest, 512))
    return list(range(smallest, largest + 1, 16 if smallest < 128 else 64))


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
