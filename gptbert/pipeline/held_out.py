"""What evaluations are made of: a fixed set of batches over the held-out splits.

The same examples, masks and windows whatever the seed of a run, so that runs can be compared; they
depend on the corpora, the objective, the sequence length and how many tokens are read only, masks
on the run's masking too (rate, mixture, whole words, most).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from gptbert.pipeline import draws
from gptbert.pipeline.instance_plan import InstancePlan, gather, instance_shapes, round_up
from gptbert.pipeline.instance_rows import Picked
from gptbert.pipeline.instances import Creation, Instances, make_instances
from gptbert.pipeline.masking import Masking
from gptbert.pipeline.mixture import Mixture
from gptbert.pipeline.plan import CostModel, epoch_order
from gptbert.pipeline.pretraining_plan import vocabulary_of
from gptbert.pipeline.window_plan import WindowPlan
from gptbert.pipeline.windows import Windows
from gptbert.tokenizers import Tokenizer

_SEED = 0


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """An evaluation's batches and what they hold.

    Attributes:
      plan: Its batches, all of them: `plan.batch(k)` for k below `plan.steps`.
      examples: Instances or windows.
      tokens: Tokens that are read, special ones included.
      predictions: Tokens that are predicted: the denominator of loss and accuracy.
      bytes: UTF-8 bytes of the text that is predicted (windows; by the share of the split's tokens
        where not all of it is); None for instances, whose loss is not that of a text.
    """

    plan: InstancePlan | WindowPlan
    examples: int
    tokens: int
    predictions: int
    bytes: float | None

    @property
    def counts(self) -> dict[str, float | None]:
        """Everything but the batches."""
        return {
            name: getattr(self, name) for name in ("examples", "tokens", "predictions", "bytes")
        }


class FixedInstances:
    """The instances of one pass over all corpora, in a fixed order, up to so many tokens."""

    def __init__(self, mixture: Mixture, creation: Creation, most_tokens: int) -> None:
        self.mixture, self._creation = mixture, creation
        self._instances = [make_instances(store, creation, _SEED, 0) for store in mixture.stores]
        self._starts = np.cumsum([0, *map(len, self._instances)])
        lengths = np.concatenate([each.lengths for each in self._instances])
        order = epoch_order(len(lengths), _SEED, 0)
        fitting = int(np.searchsorted(np.cumsum(lengths[order]), most_tokens, side="right"))
        self._order = order[: max(1, fitting)]
        self.tokens = int(lengths[self._order].sum())

    @property
    def epoch_size(self) -> int:
        """Number of instances."""
        return len(self._order)

    def pick(self, numbers: np.ndarray) -> Picked:
        """The instances with these numbers, int64 [B]."""
        chosen = self._order[numbers]
        corpora = np.searchsorted(self._starts, chosen, side="right") - 1

        def group(corpus: int) -> tuple[np.ndarray, int, Instances, np.ndarray, int]:
            here = np.flatnonzero(corpora == corpus)
            which = chosen[here] - self._starts[corpus]
            return here, corpus, self._instances[corpus], which, draws.key(_SEED, "masks", corpus)

        groups = (group(corpus) for corpus in range(len(self._instances)))
        return gather(groups, len(numbers), self._creation)


class FixedWindows:
    """Windows that cover the streams from their beginnings, or a fixed sample of them."""

    def __init__(
        self, mixture: Mixture, length: int, end_of_text: int | None, most_tokens: int
    ) -> None:
        self.length = length
        self._windows = [Windows(store, length, end_of_text) for store in mixture.stores]
        # The first token of a stream is read but not predicted.
        starts = [np.arange(0, each.tokens - 1, length) for each in self._windows]
        if not sum(map(len, starts)):
            raise self._windows[0].too_short()
        self._corpora = np.repeat(np.arange(len(starts)), [len(each) for each in starts])
        self._starts = np.concatenate(starts)
        if self.epoch_size > (most := max(1, most_tokens // length)):
            sample = np.sort(epoch_order(self.epoch_size, _SEED, 0)[:most])
            self._corpora, self._starts = self._corpora[sample], self._starts[sample]
        ends = np.array([each.tokens for each in self._windows])
        self.predicted = np.minimum(length, ends[self._corpora] - 1 - self._starts)
        bytes_a_token = np.array(
            [s.bytes / w.tokens for s, w in zip(mixture.stores, self._windows, strict=True)]
        )
        self.bytes = float((self.predicted * bytes_a_token[self._corpora]).sum())

    @property
    def epoch_size(self) -> int:
        """Number of windows."""
        return len(self._starts)

    @property
    def tokens_per_byte(self) -> float | None:
        """Predicted tokens a UTF-8 byte of the text; None if the stores tell of no bytes."""
        return float(self.predicted.sum()) / self.bytes if self.bytes else None

    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of these windows, int32 [B,T+1], and how many of them are to be predicted."""
        tokens = np.zeros((len(numbers), self.length + 1), np.int32)
        known = self.predicted[numbers]
        for row, number, count in zip(tokens, numbers.tolist(), known.tolist(), strict=True):
            windows = self._windows[self._corpora[number]]
            row[: count + 1] = windows.read(int(self._starts[number]), count + 1)
        return tokens, known


def held_out_instances(
    mixture: Mixture,
    tokenizer: Tokenizer,
    *,
    creation: Creation,
    batch_size: int,
    most_tokens: int,
    costs: CostModel,
    masking: Masking | None = None,
    row_multiple: int = 1,
) -> HeldOut:
    """Instances of the held-out splits in batches of one shape; every corpus by its size.

    Args:
      mixture: Held-out splits.
      tokenizer: The one that made them.
      creation: Objective and length; its short sequences and duplicates are left out.
      batch_size: B.
      most_tokens: About how many tokens are read at most.
      costs: From `plan.cost_model`.
      masking: That of the training.
      row_multiple: Rows are rounded up to a multiple of it.
    """
    creation = dataclasses.replace(creation, short_share=0.0, duplicates=0)
    examples = FixedInstances(mixture, creation, most_tokens)
    total = examples.epoch_size
    batch_size = min(batch_size, total)
    steps = math.ceil(total / batch_size)
    shapes = instance_shapes(
        examples, creation, batch_size=batch_size, steps=steps, costs=costs,
        row_multiple=row_multiple, total=total,
    )  # fmt: skip
    plan = InstancePlan(
        examples, creation, masking or Masking(), vocabulary_of(tokenizer, creation.objective),
        batch_size, steps, shapes[-1:], total=total,
    )  # fmt: skip
    predictions = sum(int(plan.batch(k).targets.weights.sum()) for k in range(steps))
    return HeldOut(plan, total, examples.tokens, predictions, None)


def held_out_windows(
    mixture: Mixture,
    tokenizer: Tokenizer,
    *,
    length: int,
    batch_size: int,
    most_tokens: int,
    row_multiple: int = 1,
) -> HeldOut:
    """Windows of the held-out splits: all tokens but the first of each, or a sample.

    Arguments as of `held_out_instances`.
    """
    windows = FixedWindows(mixture, length, tokenizer.special.end_of_text, most_tokens)
    total = windows.epoch_size
    batch_size = min(batch_size, total)
    steps = math.ceil(total / batch_size)
    plan = WindowPlan(windows, batch_size, steps, round_up(batch_size, row_multiple), total=total)
    predictions = int(windows.predicted.sum())
    return HeldOut(plan, total, predictions, predictions, windows.bytes)
