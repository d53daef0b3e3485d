"""What a task must say so that the trainer can train it."""

from __future__ import annotations

from typing import Any, Protocol

import jax

from gptbert.models.dropout import Noise
from gptbert.models.layers import Place
from gptbert.pipeline.batch import Batch


class Objective(Protocol):
    """A loss as a sum over a batch, and the outputs that evaluation collects.

    Both are pure functions of a module and arrays. The trainer divides the sum by the summed
    weights of the *whole* batch, over all devices and pieces.
    """

    def loss_sum(self, model: Any, batch: Batch, noise: Noise | None, place: Place) -> jax.Array:
        """Weighted sum of the examples' losses, float32 scalar."""
        ...

    def outputs(self, model: Any, batch: Batch, place: Place) -> jax.Array:
        """What is collected for each slot, float32 [R,N,C]."""
        ...
