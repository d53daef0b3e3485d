"""What every model reads: packed rows of tokens."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

Array = Any  # np.ndarray on the host, jax.Array on devices and under tracing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
    """Rows of examples, several to a row.

    Attributes:
      tokens: int32 [R,T], ids of the vocabulary; 0 in empty space.
      positions: int32 [R,T], position within the example.
      segments: int32 [R,T], 1 + the example's number in the batch; 0 is empty space.
      token_types: int32 [R,T], 0 for the first text, 1 for the second.
    """

    tokens: Array
    positions: Array
    segments: Array
    token_types: Array
