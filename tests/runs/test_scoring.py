"""Scoring a split: every example once, one batch in the making at a time."""

from __future__ import annotations

import jax
import numpy as np

from gptbert.pipeline.batch import Batch
from gptbert.pipeline.plan import plan_scoring
from gptbert.runs.scoring import collect
from tests.tiny import features


def test_one_batch_waits_while_another_is_scored() -> None:
    """XLA on CPU takes the memory of every step that was handed to it."""
    plan = plan_scoring(features(examples=2000), row_multiple=1)
    handed, read, under_way = [], [], []

    def score(batch: Batch) -> jax.Array:
        handed.append(batch)
        under_way.append(len(handed) - len(read))
        return Late(batch)

    class Late:
        def __init__(self, batch: Batch) -> None:
            self.shape = batch.targets.weights.shape

        def __array__(self, *arguments, **options) -> np.ndarray:
            read.append(self)
            return np.ones((*self.shape, 2), np.float32)

    assert (collect(plan, score, 2) == 1).all()
    assert len(handed) == len(read) > 2
    assert max(under_way) == 2
