"""A small odd-sized model and random examples: what most tests of the upper rooms compute with."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gptbert.models.heads import SequenceClassifier
from gptbert.models.parameters import describe, initialize
from gptbert.models.presets import BertConfig, Compute
from gptbert.pipeline.batch import Batch
from gptbert.pipeline.encode import Features
from gptbert.pipeline.packing import Shape, assemble, pack
from gptbert.tasks.classification import TextObjective
from gptbert.training.optimizer import make_optimizer
from gptbert.training.sharding import Layout, make_layout
from gptbert.training.step import Training

CONFIG = BertConfig(
    layers=2, width=60, heads=5, inner=100, vocabulary=101, positions=77, initial_stddev=0.1
)


def features(examples: int = 24, longest: int = 20, seed: int = 0, classes: int = 3) -> Features:
    """Random examples of 4 to `longest` tokens; about half of them pairs."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, longest + 1, examples)
    first = np.where(rng.random(examples) < 0.5, lengths, lengths // 2)
    return Features(
        tokens=rng.integers(1, CONFIG.vocabulary, int(lengths.sum())).astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        first_lengths=first.astype(np.int32),
        labels=rng.integers(0, classes, examples).astype(np.int32),
        truncated=np.zeros(examples, bool),
    )


def packed(data: Features, positions: int = 32, rows: int = 0, slots: int = 8) -> Batch:
    """All examples in as few rows as possible (or in `rows`)."""
    placed = pack(data.lengths.tolist(), positions)
    shape = Shape(max(rows, len(placed)), positions, slots)
    return assemble(data, np.arange(len(data)), placed, shape)


def padded(data: Features, positions: int = 24) -> Batch:
    """One example a row."""
    rows = [[example] for example in range(len(data))]
    return assemble(data, np.arange(len(data)), rows, Shape(len(data), positions, 1))


def training(
    *,
    config: BertConfig = CONFIG,
    compute: Compute | None = None,
    layout: Layout | None = None,
    classes: int = 3,
    optimizer: str = "bert_adam",
    dropout: bool = True,
    frozen: tuple[str, ...] = (),
    pooling: str = "cls",
) -> tuple[Training, dict[str, jax.Array]]:
    """A training and its initial parameters (seed 0)."""
    build = functools.partial(make, config, compute or Compute(), classes, pooling)
    graph, _ = describe(build)
    layout = layout or make_layout(devices=jax.devices()[:1])
    fixed = Training(
        graph, TextObjective(False), make_optimizer(optimizer), layout, frozen, dropout
    )
    return fixed, initialize(build, 0)


def make(config, compute, classes, pooling, rngs):
    return SequenceClassifier(config, compute, classes, rngs, pooling)


def gradients(fixed: Training, parameters: dict[str, jax.Array], batch: Batch):
    """Loss and gradients of one batch, through the step's own loss."""
    from gptbert.models.dropout import Noise, step_key
    from gptbert.models.parameters import merge

    key = jnp.asarray(step_key(7, 3))

    def loss(parameters):
        model = merge(fixed.graph, parameters)
        noise = Noise(key, batch.packed.segments, batch.packed.positions)
        sums = fixed.objective.sums(
            model, batch, noise if fixed.dropout else None, fixed.layout.place
        )
        return sums["loss"] / batch.targets.weights.sum()

    return jax.jit(jax.value_and_grad(loss))(parameters)


def assert_close(a, b, tolerance: float = 1e-5) -> None:
    """Every array of `a` equals that of `b` up to `tolerance` of its largest entry."""
    assert a.keys() == b.keys()
    for path in a:
        x, y = np.asarray(a[path], np.float64), np.asarray(b[path], np.float64)
        scale = np.abs(y).max()
        assert scale > 0 or not np.abs(x).any(), path
        assert np.abs(x - y).max() <= tolerance * scale, (path, np.abs(x - y).max() / scale)
