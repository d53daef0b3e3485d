"""BERT's heads of pre-training: the masked positions alone are projected, and packing is exact."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.models.dropout import Noise, step_key
from gptbert.models.inputs import Packed
from gptbert.models.parameters import describe, initialize, merge
from gptbert.models.presets import BertConfig, Compute
from gptbert.models.pretraining import MaskedLanguageModel
from tests import tiny

CONFIG = BertConfig(
    layers=2, width=30, heads=3, inner=44, vocabulary=53, positions=19, initial_stddev=0.2
)
LENGTHS = (7, 19, 4, 11, 5)
TOGETHER, ALONE = [[0, 3, 2], [1], [4]], [[0], [1], [2], [3], [4]]


def batch_of(rows, size, masked=4, slots=3):
    """Rows of five pairs with two or three masked words each, and their targets."""
    rng = np.random.default_rng(0)
    arrays = np.zeros((4, len(rows), size), np.int32)
    positions, labels = np.zeros((2, len(rows), masked * slots), np.int32)
    weights = np.zeros(positions.shape, np.float32)
    starts, next_labels = np.zeros((2, len(rows), slots), np.int32)
    next_weights = np.zeros((len(rows), slots), np.float32)
    texts = [rng.integers(1, 53, n) for n in LENGTHS]
    answers = [rng.integers(0, 53, 3) for _ in LENGTHS]
    for row, members in enumerate(rows):
        at = slot = 0
        for number, example in enumerate(members):
            n, wanted = LENGTHS[example], 2 + example % 2
            part = np.s_[row, at : at + n]
            values = (texts[example], range(n), [example + 1] * n, np.arange(n) > n // 2)
            for array, value in zip(arrays, values, strict=True):
                array[part] = value
            where = np.s_[row, slot : slot + wanted]
            positions[where] = at + 1 + np.arange(wanted)
            labels[where], weights[where] = answers[example][:wanted], 1
            starts[row, number], next_labels[row, number] = at, example % 2
            next_weights[row, number] = 1
            at, slot = at + n, slot + wanted
    return Packed(*arrays), positions, labels, weights, starts, next_labels, next_weights


def build(rngs):
    return MaskedLanguageModel(CONFIG, Compute(), rngs)


def results(batch, dropout):
    """Losses and gradients of both objectives."""
    graph, _ = describe(build)
    packed, positions, labels, weights, starts, next_labels, next_weights = batch

    def loss(parameters):
        model = merge(graph, parameters)
        noise = Noise(jnp.asarray(step_key(7, 3)), packed.segments, packed.positions)
        vectors, scores = model(packed, positions, starts, noise if dropout else None)
        masked, _ = model.losses(vectors, labels, weights, chunk=5)
        log_p = jax.nn.log_softmax(scores)
        nll = -jnp.take_along_axis(log_p, next_labels[..., None], -1)[..., 0]
        return masked / weights.sum() + (nll * next_weights).sum() / next_weights.sum()

    quickly = {"xla_backend_optimization_level": 0}
    return jax.jit(jax.value_and_grad(loss), compiler_options=quickly)(initialize(build, 0))


@pytest.mark.parametrize("dropout", [False, True])
def test_packed_equals_alone(dropout):
    loss, gradients = results(batch_of(TOGETHER, 24), dropout)
    other, alone = results(batch_of(ALONE, 19, slots=1), dropout)
    assert abs(loss - other) <= 1e-6 * abs(other)
    tiny.assert_close(gradients, alone)
    assert {path.split("/")[0] for path in gradients} == {"bert", "pooler", "mlm", "nsp"}


def test_the_word_head_is_that_of_the_equations():
    graph, _ = describe(build)
    rng = np.random.default_rng(2)
    values = {
        path: rng.normal(0, 0.3, np.shape(value)).astype(np.float32)
        for path, value in initialize(build, 0).items()
    }
    model = merge(graph, values)
    packed, positions, *_, starts, _, _ = batch_of(TOGETHER, 24)
    vectors, scores = model(packed, positions, starts)
    hidden = np.asarray(model.bert(packed), np.float64)
    at = np.take_along_axis(hidden, positions[..., None], 1)
    x = at @ values["mlm/dense/kernel"].astype(np.float64) + values["mlm/dense/bias"]
    x = np.asarray(jax.nn.gelu(x, approximate=False), np.float64)
    centred = x - x.mean(-1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + CONFIG.norm_epsilon)
    x = x * values["mlm/norm/scale"] + values["mlm/norm/bias"]
    logits = x @ values["bert/embeddings/word/table"].T + values["mlm/bias"]
    assert np.abs(model.logits(vectors) - logits).max() <= 2e-5 * np.abs(logits).max()
    first = np.take_along_axis(hidden, starts[..., None], 1)
    pooled = np.tanh(first @ values["pooler/dense/kernel"] + values["pooler/dense/bias"])
    expected = pooled @ values["nsp/kernel"] + values["nsp/bias"]
    assert np.abs(scores - expected).max() <= 2e-5 * np.abs(expected).max()


def test_without_sentences_there_is_no_pooler():
    def without(rngs):
        return MaskedLanguageModel(CONFIG, Compute(), rngs, next_sentence=False)

    graph, shapes = describe(without)
    assert {path.split("/")[0] for path in shapes} == {"bert", "mlm"}
    packed, positions, *_, starts, _, _ = batch_of(TOGETHER, 24)
    vectors, scores = merge(graph, initialize(without, 0))(packed, positions, starts)
    assert scores is None
    assert vectors.shape == (*positions.shape, CONFIG.width)


def test_only_masked_positions_are_projected():
    """Compiled, not run: nothing of the size of all positions' logits is ever held."""
    config = dataclasses.replace(CONFIG, vocabulary=20_000, positions=64)
    graph, shapes = describe(lambda rngs: MaskedLanguageModel(config, Compute(), rngs))
    rows, size, masked = 4, 64, 4
    whole, slots = (jax.ShapeDtypeStruct((rows, n), jnp.int32) for n in (size, masked))
    weights = jax.ShapeDtypeStruct((rows, masked), jnp.float32)

    def loss(parameters, tokens, positions, labels, weights):
        model = merge(graph, parameters)
        packed = Packed(tokens, tokens, tokens, tokens)
        return model.losses(model(packed, positions, positions)[0], labels, weights)[0]

    lowered = jax.jit(jax.grad(loss)).lower(shapes, whole, slots, slots, weights)
    memory = lowered.compile().memory_analysis().temp_size_in_bytes
    assert memory < 4 * rows * size * config.vocabulary / 2
