"""Odd-sized models with the heads of pre-training, and random batches for them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from gptbert.models.inputs import Packed
from gptbert.models.parameters import describe, initialize
from gptbert.models.presets import BertConfig, Compute, GptConfig, ModelConfig
from gptbert.models.pretraining import MaskedLanguageModel, NextTokenModel
from gptbert.pipeline.batch import Batch, MaskedTargets, TokenTargets
from gptbert.tasks.pretraining import objective_of
from gptbert.training.optimizer import make_optimizer
from gptbert.training.sharding import Layout, make_layout
from gptbert.training.step import Training

# 101 words over 2 or 8 devices, a width of 60 over 8: sizes that do not divide.
_SIZES: dict[str, Any] = {
    "layers": 2, "width": 60, "heads": 4, "inner": 96, "vocabulary": 101, "positions": 40,
    "initial_stddev": 0.1,
}  # fmt: skip
BERT = BertConfig(**_SIZES)
GPT = GptConfig(**_SIZES)
GPT2 = GptConfig(**_SIZES, norm_place="pre", residual_scaling=True, embedding_dropout=0.2)
MODELS: dict[str, tuple[ModelConfig, str]] = {
    "BERT": (BERT, "mlm_nsp"), "GPT": (GPT, "next_token"), "GPT-2": (GPT2, "next_token"),
}  # fmt: skip


def make(config: ModelConfig, objective: str, compute: Compute, rngs: Any) -> Any:
    """The model of an objective."""
    if isinstance(config, BertConfig) and objective.startswith("mlm"):
        return MaskedLanguageModel(config, compute, rngs, objective == "mlm_nsp")
    return NextTokenModel(config, compute, rngs)


def training(
    name: str, layout: Layout | None = None, compute: Compute | None = None
) -> tuple[Training, dict[str, jax.Array]]:
    """A training and its initial parameters (seed 0)."""
    config, objective = MODELS[name]
    build = functools.partial(make, config, objective, compute or Compute())
    layout = layout or make_layout(devices=jax.devices()[:1])
    # A large epsilon: gradients that are zero but for rounding (of key biases) make no updates.
    optimizer = make_optimizer("bert_adam" if name == "BERT" else "gpt_adam", epsilon=1e-4)
    return Training(describe(build)[0], objective_of(objective), optimizer, layout), initialize(
        build, 0
    )


def batch(name: str, rows: int = 16, positions: int = 32, seed: int = 0) -> Batch:
    """Rows of one or two examples; the last row is empty."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 101, (rows, positions)).astype(np.int32)
    split = rng.integers(8, positions - 8, rows)
    column = np.arange(positions)
    second = (column >= split[:, None]).astype(np.int32)
    place = np.where(second, column - split[:, None], column).astype(np.int32)
    segments = (1 + 2 * np.arange(rows)[:, None] + second).astype(np.int32)
    real = (np.arange(rows) < rows - 1)[:, None].astype(np.int32) * np.ones_like(tokens)
    packed = Packed(
        tokens * real, place * real, segments * real, (column % 2).astype(np.int32) * real
    )
    if name != "BERT":
        labels = rng.integers(0, 101, tokens.shape).astype(np.int32)
        return Batch(packed, TokenTargets(labels * real, (real * (place > 1)).astype(np.float32)))
    slots = np.stack([rng.permutation(positions)[:5] for _ in range(rows)]).astype(np.int32)
    labels = rng.integers(0, 101, slots.shape).astype(np.int32)
    weights = (real[:, :5] * (rng.random(slots.shape) < 0.8)).astype(np.float32)
    starts = np.stack([np.zeros(rows), split], 1).astype(np.int32)
    targets = MaskedTargets(
        slots,
        labels,
        weights,
        starts,
        (starts % 2).astype(np.int32),
        real[:, :2].astype(np.float32),
    )
    return Batch(packed, targets)
