"""What a task must say so that the trainer can train it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax

from gptbert.models.dropout import Noise
from gptbert.models.layers import Place
from gptbert.pipeline.batch import Batch

Sums = dict[str, jax.Array]


class Objective(Protocol):
    """Named sums over a batch, and what each is divided by; the loss is made of some of them.

    loss = sum over `terms` of weight * sums[name] / counts[name], the counts being those of the
    *whole* batch, over all devices and pieces. What is no term is measured only (an accuracy).
    """

    @property
    def terms(self) -> Mapping[str, float]:
        """Name -> weight in the loss."""
        ...

    def counts(self, batch: Batch) -> Sums:
        """The denominator of every sum, float32 scalars."""
        ...

    def sums(self, model: Any, batch: Batch, noise: Noise | None, place: Place) -> Sums:
        """Sums over the batch, float32 scalars: pure functions of a module and arrays."""
        ...


class ScoringObjective(Objective, Protocol):
    """An objective whose model gives every example some outputs (logits, a score)."""

    def outputs(self, model: Any, batch: Batch, place: Place) -> jax.Array:
        """What is collected for each slot, float32 [R,N,C]."""
        ...
