"""Classification and regression of texts and pairs: GLUE, and a user's own files.

Objectives (BERT section 4.1): cross-entropy over the classes, or squared error of one score, each
averaged over the examples of the batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gptbert.datasets import Dataset
from gptbert.models.dropout import Noise
from gptbert.models.layers import Place
from gptbert.pipeline.batch import Batch


@dataclasses.dataclass(frozen=True)
class Task:
    """The data of one task with what is measured on it.

    Attributes:
      name: For instance `glue/mrpc`.
      metrics: Names of the metrics, the one that decides first.
      train: The training data; None where only evaluation is possible.
      evaluation: Labelled sets by split name; the first one decides.
      test: Unlabelled sets to predict, by split name.
      unordered: Whether a pair has no first text (similarity): GPT reads it in both orders.
    """

    name: str
    metrics: tuple[str, ...]
    train: Dataset | None
    evaluation: dict[str, Dataset]
    test: dict[str, Dataset]
    unordered: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        return (self.train or next(iter(self.evaluation.values()))).classes

    @property
    def is_regression(self) -> bool:
        return not self.classes

    @property
    def outputs(self) -> int:
        """C: scores of the head."""
        return max(1, len(self.classes))


@dataclasses.dataclass(frozen=True)
class TextObjective:
    """Cross-entropy over C classes, or squared error of one score."""

    regression: bool
    terms: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"loss": 1.0})

    def counts(self, batch: Batch) -> dict[str, jax.Array]:
        """How many examples there are."""
        return {"loss": batch.targets.weights.sum()}

    def sums(
        self, model: Any, batch: Batch, noise: Noise | None, place: Place
    ) -> dict[str, jax.Array]:
        """Summed loss of the batch's examples."""
        targets = batch.targets
        logits = model(batch.packed, targets.starts, noise, place)
        if self.regression:
            losses = jnp.square(logits[..., 0] - targets.labels)
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets.labels)
        return {"loss": (losses * targets.weights).sum()}

    def outputs(self, model: Any, batch: Batch, place: Place) -> jax.Array:
        """Logits (or the score) of every slot, float32 [R,N,C]."""
        return model(batch.packed, batch.targets.starts, None, place)


def label_numbers(dataset: Dataset, classes: tuple[str, ...]) -> np.ndarray:
    """Labels as the model's class numbers int32 [E] (-1: none), or scores float32 [E]."""
    labels = [example.label for example in dataset.examples]
    if not classes:
        return np.asarray([0.0 if label is None else float(label) for label in labels], np.float32)
    number: dict[Any, int] = {name: k for k, name in enumerate(classes)}
    return np.asarray([-1 if label is None else number[label] for label in labels], np.int32)


def predictions(outputs: np.ndarray, *, regression: bool) -> np.ndarray:
    """Outputs [E,C] -> class numbers int [E], or scores float [E]."""
    return outputs[:, 0] if regression else outputs.argmax(-1)


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Softmax of logits float [E,C] in float64."""
    shifted = np.exp(outputs.astype(np.float64) - outputs.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
