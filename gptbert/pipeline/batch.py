"""The arrays that go to the devices: packed tokens, and where the answers are read.

Shape letters as in `gptbert.models`. Targets are slots *per row*, so that a row carries all that
it needs to whichever device it lands on; a slot of weight 0 is filler.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from gptbert.models.inputs import Array, Packed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExampleTargets:
    """One answer an example.

    Attributes:
      starts: int32 [R,N], where in its row the example's answer is read: at its [CLS]; or
        [R,N,K], at the extract tokens of its K sequences.
      labels: int32 (class number) or float32 (score) [R,N].
      weights: float32 [R,N], 1 for an example, 0 for an empty slot.
    """

    starts: Array
    labels: Array
    weights: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MaskedTargets:
    """Masked tokens to restore, and whether the second text follows the first (BERT section 3.1).

    Attributes:
      positions: int32 [R,M], where in its row a masked token lies.
      labels: int32 [R,M], the token that was there.
      weights: float32 [R,M], 1 for a masked token, 0 for an empty slot.
      starts: int32 [R,N], position of each example's [CLS] in its row.
      next_labels: int32 [R,N], 0 if the second text follows the first, 1 if it is a random one.
      next_weights: float32 [R,N], 1 for an example, 0 for an empty slot.
    """

    positions: Array
    labels: Array
    weights: Array
    starts: Array
    next_labels: Array
    next_weights: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenTargets:
    """The token that follows, at every position.

    Attributes:
      labels: int32 [R,T], the next token of the text.
      weights: float32 [R,T], 1 where it counts.
    """

    labels: Array
    weights: Array


Targets = ExampleTargets | MaskedTargets | TokenTargets


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """One global batch; with gradient accumulation every array has a leading axis of pieces."""

    packed: Packed
    targets: Any  # one of `Targets`


def real_tokens(batch: Batch) -> int:
    """How many tokens of a host batch are not padding."""
    return int(np.count_nonzero(batch.packed.segments))
