"""The arrays that go to the devices: packed tokens, and where the answers are read.

Shape letters as in `gptbert.models`. Targets are slots *per row*, so that a row carries all that
it needs to whichever device it lands on; a slot of weight 0 is filler.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from gptbert.models.inputs import Array, Packed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExampleTargets:
    """One answer an example.

    Attributes:
      starts: int32 [R,N], position of the example's [CLS] in its row.
      labels: int32 (class number) or float32 (score) [R,N].
      weights: float32 [R,N], 1 for an example, 0 for an empty slot.
    """

    starts: Array
    labels: Array
    weights: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """One global batch; with gradient accumulation every array has a leading axis of pieces."""

    packed: Packed
    targets: ExampleTargets


def real_tokens(batch: Batch) -> int:
    """How many tokens of a host batch are not padding."""
    return int(np.count_nonzero(batch.packed.segments))
