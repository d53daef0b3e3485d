"""Outputs of a model for every example of a split, each exactly once, and metrics of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gptbert.metrics.glue import glue_metrics
from gptbert.pipeline.encode import Features
from gptbert.pipeline.plan import plan_scoring
from gptbert.tasks.classification import predictions
from gptbert.training.step import Training, jit_score

Score = Callable[[Any, Any], jax.Array]


class Scorer:
    """Scores splits with the parameters of the moment; compiles once for each split's shape."""

    def __init__(self, training: Training, parameters: Any, features: dict[str, Features]) -> None:
        self._score = jit_score(training, parameters)
        self._features = features
        multiple = training.layout.row_multiple
        self._plans = {
            split: plan_scoring(each, row_multiple=multiple) for split, each in features.items()
        }

    def outputs(self, parameters: Any, split: str) -> np.ndarray:
        """float32 [E,C] in the order of the data."""
        collected: np.ndarray | None = None
        waiting = []
        for examples, batch in self._plans[split].iterate():
            waiting.append((examples, batch, self._score(parameters, batch)))
        for examples, batch, scores in waiting:
            rows, slots = np.nonzero(batch.targets.weights)
            starts = batch.targets.starts[rows, slots]
            which = examples[batch.packed.segments[rows, starts] - 1]
            values = np.asarray(scores)[rows, slots]
            if collected is None:
                shape = (len(self._features[split]), values.shape[-1])
                collected, times = np.zeros(shape, np.float32), np.zeros(shape[0], int)
            collected[which] = values
            times[which] += 1
        assert collected is not None and (times == 1).all(), "an example was not scored once"
        return collected

    def metrics(
        self, parameters: Any, split: str, names: tuple[str, ...], *, regression: bool
    ) -> dict[str, float]:
        """Metrics of a labelled split, as fractions; FloatingPointError if outputs are NaN."""
        outputs = self.outputs(parameters, split)
        return self.metrics_of(outputs, split, names, regression=regression)

    def metrics_of(
        self, outputs: np.ndarray, split: str, names: tuple[str, ...], *, regression: bool
    ) -> dict[str, float]:
        """As `metrics`, of outputs [E,C] that are there already."""
        if not np.isfinite(outputs).all():
            raise FloatingPointError(f"the outputs for {split} are not finite")
        labels = self._features[split].labels
        return glue_metrics(names, labels, predictions(outputs, regression=regression))
