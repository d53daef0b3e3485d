"""Batches of instances, by step: BERT's masked pairs and the single texts of its ablations.

    step      numbers of the batch's examples
    number    mixture            corpus, place among its examples
    place     epoch, shuffled    instance: two stretches of text, a label, a key for the masks
    instance  instance_rows      rows, hidden tokens, targets

Every corpus has epochs of its own, each of as many examples as its first pass has. Later passes of
BERT's data creation have more or fewer, by a percent or two. What a pass has beyond that is left
out, a random choice and another one each time; where it has less, some are met twice. So nothing
has to be counted up on a resume.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from gptbert.pipeline import draws
from gptbert.pipeline.batch import Batch
from gptbert.pipeline.instance_rows import (
    Picked,
    Vocabulary,
    abstract_masked_batch,
    abstract_next_token_batch,
    masked_batch,
    next_token_batch,
    place,
    share_rows,
)
from gptbert.pipeline.instances import Creation, Instances, make_instances
from gptbert.pipeline.masking import Masking
from gptbert.pipeline.mixture import Mixture
from gptbert.pipeline.packing import Shape
from gptbert.pipeline.plan import CostModel, choose_shapes, epoch_order

# A row is shared by so many examples: more would save few rows, while each slot adds to the
# predictions that every row must have room for.
SLOTS = 3
# Runs of so many examples are packed ahead, to know every shape; of longer ones a sample is.
_KNOWN, _SAMPLE = 1_000_000, 512


class Examples(Protocol):
    """Numbered instances: endless in training, finitely many in an evaluation."""

    @property
    def mixture(self) -> Mixture: ...
    @property
    def epoch_size(self) -> int:
        """Examples of one pass over all corpora."""
        ...

    def pick(self, numbers: np.ndarray) -> Picked: ...


class InstanceStream:
    """The instances of a mixture, epoch after epoch, each epoch shuffled."""

    def __init__(self, mixture: Mixture, creation: Creation, seed: int) -> None:
        self.mixture, self.creation = mixture, creation
        self._seeds = [
            draws.key(seed, "corpus", number, creation.length)
            for number in range(len(mixture.stores))
        ]
        self._epoch = functools.lru_cache(2 * len(mixture.stores))(self._make_epoch)
        self._sizes = [len(self._epoch(c, 0)[0]) for c in range(len(mixture.stores))]

    @property
    def epoch_size(self) -> int:
        """Examples of one pass over all corpora."""
        return sum(self._sizes)

    def pick(self, numbers: np.ndarray) -> Picked:
        """The instances with these numbers, int64 [B] from 0 on."""
        corpora, places = self.mixture.deal(numbers)
        sizes = np.array(self._sizes)[corpora]
        epochs = places // sizes

        def group(corpus: int, epoch: int) -> tuple[np.ndarray, int, Instances, np.ndarray, int]:
            here = np.flatnonzero((corpora == corpus) & (epochs == epoch))
            instances, order = self._epoch(corpus, epoch)
            which = order[places[here] % sizes[here] % len(order)]
            return here, corpus, instances, which, mask_key(self._seeds[corpus], epoch)

        def mask_key(seed: int, epoch: int) -> int:
            return draws.key(seed, "masks", self.creation.draws_of(epoch))

        met = sorted(set(zip(corpora.tolist(), epochs.tolist(), strict=True)))
        return gather((group(*each) for each in met), len(numbers), self.creation)

    def _make_epoch(self, corpus: int, epoch: int) -> tuple[Instances, np.ndarray]:
        seed, number = self._seeds[corpus], self.creation.draws_of(epoch)
        instances = make_instances(self.mixture.stores[corpus], self.creation, seed, number)
        return instances, epoch_order(len(instances), seed, epoch)


@dataclasses.dataclass(frozen=True)
class InstancePlan:
    """Batches of instances: masked, or read from left to right, as the objective has it.

    Attributes:
      examples: Where instances come from.
      creation: Objective and length T.
      masking: Of the masked objectives.
      vocabulary: Special ids and the rest.
      batch_size: B, examples of one step of the whole job.
      steps: Number of steps.
      shapes: What batches are compiled for, ascending in rows.
      pieces: Gradient accumulation.
      total: Number of examples there are; None for endlessly many.
    """

    examples: Examples
    creation: Creation
    masking: Masking
    vocabulary: Vocabulary
    batch_size: int
    steps: int
    shapes: tuple[Shape, ...]
    pieces: int = 1
    total: int | None = None

    @property
    def length(self) -> int:
        """T, the longest example."""
        return self.creation.length

    @property
    def tokens_per_byte(self) -> None:
        """None: a loss over instances is not that of a text."""
        return None

    @property
    def predictions(self) -> int:
        """M, slots a row for masked tokens."""
        shape = self.shapes[0]
        return self.masking.slots(self.creation.specials + 1, shape.positions, shape.slots)

    def picked(self, step: int) -> Picked:
        """The examples of batch `step`; fewer than B only in the last batch of an evaluation."""
        return self.examples.pick(batch_numbers(step, self.batch_size, self.total))

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Batch `step`, or of `parts` equal contiguous shares of its rows that of `part`."""
        picked = self.picked(step)
        lengths = picked.lengths
        rows = share_rows(lengths, self.creation.length, self.shapes[0].slots)
        shape = next(shape for shape in self.shapes if shape.rows >= len(rows))
        begin, end = share_of(shape.rows, part, parts)
        places = place(rows, lengths, begin, end)
        mine = dataclasses.replace(shape, rows=end - begin)
        stores = self.examples.mixture.stores
        if self.creation.objective == "left_to_right":
            return next_token_batch(stores, picked, places, mine, self.vocabulary)
        return masked_batch(
            stores, picked, places, mine, self.predictions, self.masking, self.vocabulary
        )

    def abstract_batches(self) -> list[Batch]:
        """The whole batch of every shape, as ShapeDtypeStructs."""
        if self.creation.objective == "left_to_right":
            return [abstract_next_token_batch(s.rows, s.positions) for s in self.shapes]
        return [abstract_masked_batch(shape, self.predictions) for shape in self.shapes]

    def epoch(self, step: int) -> float:
        """Passes over all corpora after `step` steps."""
        return step * self.batch_size / self.examples.epoch_size


def instance_shapes(
    examples: Examples,
    creation: Creation,
    *,
    batch_size: int,
    steps: int,
    costs: CostModel,
    row_multiple: int = 1,
    slots: int = SLOTS,
    total: int | None = None,
) -> tuple[Shape, ...]:
    """The few row counts that batches are rounded up to, from the lengths alone.

    Of long runs the first batches are looked at; then one row an example is a shape too, for
    whatever comes later.

    Args:
      examples, creation: What is packed.
      batch_size, steps: Of the run.
      costs: From `cost_model`.
      row_multiple: Rows are rounded up to a multiple of it (devices x pieces).
      slots: Examples that may share a row; 1 for none.
      total: Number of examples there are; None for endlessly many.
    """
    known = steps * batch_size <= _KNOWN
    counts = []
    for step in range(steps if known else _SAMPLE):
        lengths = examples.pick(batch_numbers(step, batch_size, total)).lengths
        rows = len(share_rows(lengths, creation.length, slots))
        counts.append(round_up(rows, row_multiple))
    row_cost = costs.row(creation.length) * steps / len(counts)
    kept = set(choose_shapes(counts, row_cost, costs.compilation, most=2))
    if not known:
        kept.add(round_up(batch_size, row_multiple))
    return tuple(Shape(rows, creation.length, slots) for rows in sorted(kept))


def gather(
    groups: Iterable[tuple[np.ndarray, int, Instances, np.ndarray, int]],
    count: int,
    creation: Creation,
) -> Picked:
    """`count` examples from groups (where they go, corpus, its instances, which, mask key)."""
    picked = Picked(
        np.empty(count, np.int64),
        np.empty((count, 2), np.int64),
        np.empty((count, 2), np.int64),
        np.empty(count, bool),
        np.empty(count, np.uint64),
        creation.specials,
    )
    for here, corpus, instances, which, key in groups:
        picked.corpora[here] = corpus
        picked.first[here] = instances.first[which]
        picked.second[here] = instances.second[which]
        picked.random_next[here] = instances.random_next[which]
        picked.keys[here] = draws.bits(key, which)
    return picked


def batch_numbers(step: int, batch_size: int, total: int | None) -> np.ndarray:
    """int64, the numbers of a batch's examples; fewer than B only where there are no more."""
    end = (step + 1) * batch_size
    return np.arange(step * batch_size, end if total is None else min(end, total))


def share_of(rows: int, part: int, parts: int) -> tuple[int, int]:
    """Rows [begin, end) of one of `parts` equal contiguous shares."""
    if rows % parts or not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts} of {rows} rows")
    return part * rows // parts, (part + 1) * rows // parts


def round_up(n: int, multiple: int) -> int:
    """The next multiple of `multiple`."""
    return -(-n // multiple) * multiple
