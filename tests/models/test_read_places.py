"""Asked for a few places only, a backbone gives what it gives there when asked for all."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.models.decoder import Gpt
from gptbert.models.dropout import Noise, step_key
from gptbert.models.encoder import Bert
from gptbert.models.inputs import Packed
from gptbert.models.layers import gather_slots
from gptbert.models.parameters import describe, initialize, merge
from gptbert.models.presets import BertConfig, Compute, GptConfig
from tests import tiny

SIZES = {"layers": 2, "width": 30, "heads": 3, "inner": 44, "vocabulary": 53, "positions": 19}
GPT = GptConfig(**SIZES, initial_stddev=0.2)
BACKBONES = {
    "BERT": (Bert, BertConfig(**SIZES, initial_stddev=0.2)),
    "GPT": (Gpt, GPT),
    "GPT-2": (Gpt, dataclasses.replace(GPT, norm_place="pre")),
}
COMPUTES = {
    "plain": Compute(),
    "recomputed": Compute(remat=True),
    "scanned": Compute(scan_layers=True),
    "joined": Compute(join_heads=True),
}
# Two examples and empty space in the first row; a place asked for twice; an empty slot.
SEGMENTS = np.array([[1] * 7 + [2] * 6 + [0] * 3, [3] * 16], np.int32)
POSITIONS = np.array([[*range(7), *range(6), 0, 0, 0], [*range(16)]], np.int32)
READ = np.array([[0, 5, 7, 12], [3, 3, 15, 0]], np.int32)


def packed():
    tokens = np.random.default_rng(1).integers(1, 53, SEGMENTS.shape).astype(np.int32)
    return Packed(tokens, POSITIONS, SEGMENTS, np.zeros_like(SEGMENTS))


def vectors_and_gradients(kind, compute, dropout, *, ask):
    """Vectors at READ, and the gradients of a sum that weighs each of them differently."""
    module, config = BACKBONES[kind]
    build = functools.partial(module, config, compute)
    graph, _ = describe(build)
    batch = packed()
    weights = np.random.default_rng(2).normal(size=(*READ.shape, config.width))

    def total(parameters):
        noise = Noise(jnp.asarray(step_key(7, 3)), batch.segments, batch.positions)
        model, noise = merge(graph, parameters), noise if dropout else None
        x = model(batch, noise, read=READ) if ask else gather_slots(model(batch, noise), READ)
        return (x * weights).sum(), x

    value_and_gradient = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, x), gradients = value_and_gradient(initialize(build, 0))
    return np.asarray(x), gradients


def test_slots_are_gathered_row_by_row():
    x = jnp.arange(24.0).reshape(2, 4, 3)
    starts = jnp.asarray([[1, 3], [0, 2]])
    np.testing.assert_array_equal(gather_slots(x, starts), [[x[0, 1], x[0, 3]], [x[1, 0], x[1, 2]]])
    numbers = x[..., 0]
    np.testing.assert_array_equal(gather_slots(numbers, starts), [[3, 9], [12, 18]])


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("how", COMPUTES)
@pytest.mark.parametrize("kind", BACKBONES)
def test_vectors_and_gradients_are_those_of_the_whole_layer(kind, how, dropout):
    found, gradients = vectors_and_gradients(kind, COMPUTES[how], dropout, ask=True)
    expected, others = vectors_and_gradients(kind, COMPUTES[how], dropout, ask=False)
    assert found.shape == (2, 4, 30)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    tiny.assert_close(gradients, others)


@pytest.mark.parametrize("kind", BACKBONES)
def test_joined_heads_compute_the_same(kind):
    found, gradients = vectors_and_gradients(kind, COMPUTES["joined"], True, ask=False)
    expected, others = vectors_and_gradients(kind, COMPUTES["plain"], True, ask=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    tiny.assert_close(gradients, others)


def test_the_last_layer_does_less():
    """A quarter of the places is read: three quarters of all but keys and values are spared."""

    def flops(read):
        module, config = BACKBONES["BERT"]
        build = functools.partial(module, dataclasses.replace(config, layers=1), Compute())
        graph, shapes = describe(build)
        run = jax.jit(lambda parameters: merge(graph, parameters)(packed(), read=read))
        return run.lower(shapes).cost_analysis()["flops"]

    assert flops(READ) < 0.5 * flops(None)
