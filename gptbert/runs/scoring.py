"""Outputs of a model for every example of a split, each exactly once, and metrics of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gptbert.metrics.glue import glue_metrics
from gptbert.pipeline.batch import Batch
from gptbert.pipeline.encode import Features
from gptbert.pipeline.plan import ScoringPlan, plan_scoring
from gptbert.tasks.classification import predictions
from gptbert.training.step import Training, jit_score


def collect(plan: ScoringPlan, score: Callable[[Batch], jax.Array], width: int) -> np.ndarray:
    """Scores every example of a plan exactly once; float32 [E,C] in the order of the data."""
    collected = np.zeros((len(plan.features), width), np.float32)
    times = np.zeros(len(plan.features), int)

    def take(examples: np.ndarray, batch: Batch, scores: jax.Array) -> None:
        rows, slots = np.nonzero(batch.targets.weights)
        starts = batch.targets.starts[rows, slots].reshape(len(rows), -1)[:, 0]
        numbers = batch.packed.segments[rows, starts] - 1
        which = examples[numbers // plan.features.sequences]
        collected[which] = np.asarray(scores)[rows, slots]
        times[which] += 1

    # One batch waits while another is scored; XLA on CPU takes the memory of all that wait.
    running = None
    for examples, batch in plan.iterate():
        running, before = (examples, batch, score(batch)), running
        if before:
            take(*before)
    if running:
        take(*running)
    assert (times == 1).all(), "an example was not scored exactly once"
    return collected


class Scorer:
    """Scores splits with the parameters of the moment; compiles once for each split's shape."""

    def __init__(
        self, training: Training, parameters: Any, features: dict[str, Features], width: int
    ) -> None:
        """`width` is C, the number of outputs."""
        self._width = width
        self._score = jit_score(training, parameters)
        self._features = features
        multiple = training.layout.row_multiple
        self._plans = {
            split: plan_scoring(each, row_multiple=multiple) for split, each in features.items()
        }

    def outputs(self, parameters: Any, split: str) -> np.ndarray:
        """float32 [E,C] in the order of the data."""
        return collect(self._plans[split], functools.partial(self._score, parameters), self._width)

    def metrics_of(
        self, outputs: np.ndarray, split: str, names: tuple[str, ...], *, regression: bool
    ) -> dict[str, float]:
        """Metrics of a labelled split's outputs [E,C], as fractions.

        Raises:
          FloatingPointError: Outputs are NaN or infinite.
        """
        if not np.isfinite(outputs).all():
            raise FloatingPointError(f"the outputs for {split} are not finite")
        labels = self._features[split].labels
        return glue_metrics(names, labels, predictions(outputs, regression=regression))
