"""GPT and GPT-2 against the equations written out in NumPy, and against themselves."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.models.dropout import Noise, step_key
from gptbert.models.inputs import Packed
from gptbert.models.layers import anywhere
from gptbert.models.parameters import (
    describe,
    merge,
    stack_layers,
    unstack_layers,
)
from gptbert.models.presets import BertConfig, Compute, GptConfig
from gptbert.models.pretraining import NextTokenModel
from tests import tiny

GPT = GptConfig(
    layers=2,
    width=30,
    heads=5,
    inner=44,
    vocabulary=53,
    positions=19,
)
GPT2 = dataclasses.replace(GPT, norm_place="pre", residual_scaling=True)
LEFT_TO_RIGHT = BertConfig(
    layers=2, width=30, heads=5, inner=44, vocabulary=53, positions=19, left_to_right=True,
)  # fmt: skip
MODELS = {"gpt": GPT, "gpt2": GPT2, "left-to-right bert": LEFT_TO_RIGHT}
LENGTHS = (7, 19, 3, 11, 1, 5)


def made(config, compute=None):
    """Graph and random parameters, layers numbered."""
    rng = np.random.default_rng(1)
    _, shapes = describe(lambda rngs: NextTokenModel(config, Compute(), rngs))
    parameters = {
        path: (rng.normal(0, 0.2, value.shape) + path.endswith("scale")).astype(np.float32)
        for path, value in shapes.items()
    }
    graph, _ = describe(lambda rngs: NextTokenModel(config, compute or Compute(), rngs))
    return graph, parameters


def rows_of(examples, tokens_of, size):
    """Examples by number, several a row, as (Packed, labels, weights)."""
    arrays = np.zeros((5, len(examples), size), np.int32)
    weights = np.zeros((len(examples), size), np.float32)
    for row, members in enumerate(examples):
        start = 0
        for example in members:
            tokens = tokens_of[example]
            n = len(tokens)
            part = np.s_[row, start : start + n]
            values = (tokens, range(n), [example + 1] * n, [0] * n, [*tokens[1:], 0])
            for array, value in zip(arrays, values, strict=True):
                array[part] = list(value)
            weights[row, start : start + n - 1] = 1
            start += n
    return Packed(*arrays[:4]), arrays[4], weights


def texts(vocabulary=53, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, vocabulary, n).tolist() for n in LENGTHS]


ALONE = [[e] for e in range(len(LENGTHS))]
TOGETHER = [[0, 3, 4], [1], [5, 2]]


def compute_loss(graph, parameters, batch, dropout, gradients=True):
    packed, labels, weights = batch

    def loss(parameters):
        model = merge(graph, parameters)
        noise = None
        if dropout:
            noise = Noise(jnp.asarray(step_key(7, 3)), packed.segments, packed.positions)
        vectors = model(packed, noise)
        return model.losses(vectors, labels, weights, noise, chunk=6)[0] / weights.sum()

    quickly = {"xla_backend_optimization_level": 0}  # half the time of compilation
    run = jax.value_and_grad(loss) if gradients else loss
    return jax.jit(run, compiler_options=quickly)(parameters)


@functools.cache
def packed_results(name, dropout):
    """Loss and gradients of the packed batch."""
    return compute_loss(*made(MODELS[name]), rows_of(TOGETHER, texts(), 23), dropout)


def numpy_logits(config, parameters, tokens):
    """Logits [T,V] of one text in float64, by the papers' equations."""
    p = {path: np.asarray(value, np.float64) for path, value in parameters.items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.norm_epsilon)
        return scaled * p[f"{name}/scale"] + p[f"{name}/bias"]

    def attention(x, name):
        width = config.width // config.heads
        mixed = np.zeros((len(x), config.heads, width))
        for head in range(config.heads):
            query, key, value = (
                x @ p[f"{name}/qkv_kernel"][:, part, head] + p[f"{name}/qkv_bias"][part, head]
                for part in range(3)
            )
            for t in range(len(x)):
                scores = key[: t + 1] @ query[t] / math.sqrt(width)
                weights = np.exp(scores - scores.max())
                mixed[t, head] = weights / weights.sum() @ value[: t + 1]
        out = np.einsum("thk,hkd->td", mixed, p[f"{name}/output_kernel"])
        return out + p[f"{name}/output_bias"]

    def mlp(x, name):
        y = x @ p[f"{name}/up/kernel"] + p[f"{name}/up/bias"]
        y = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        return y @ p[f"{name}/down/kernel"] + p[f"{name}/down/bias"]

    words = p["gpt/embeddings/word/table"]
    x = words[tokens] + p["gpt/embeddings/position/table"][: len(tokens)]
    for number in range(config.layers):
        layer = f"gpt/layers/{number}"
        if config.norm_place == "post":
            x = norm(x + attention(x, f"{layer}/attention"), f"{layer}/attention_norm")
            x = norm(x + mlp(x, layer), f"{layer}/mlp_norm")
        else:
            x = x + attention(norm(x, f"{layer}/attention_norm"), f"{layer}/attention")
            x = x + mlp(norm(x, f"{layer}/mlp_norm"), layer)
    if config.norm_place == "pre":
        x = norm(x, "gpt/final_norm")
    return x @ words.T


@pytest.mark.parametrize("name", ["gpt", "gpt2"])
def test_logits_are_those_of_the_equations(name):
    graph, parameters = made(MODELS[name])
    tokens = texts()
    packed, _, _ = rows_of(TOGETHER, tokens, 23)

    def logits(parameters):
        model = merge(graph, parameters)
        return model.logits(model(packed))

    found = np.asarray(jax.jit(logits)(parameters))
    for example, text in enumerate(tokens):
        expected = numpy_logits(MODELS[name], parameters, text)
        row = found[np.asarray(packed.segments) == example + 1]
        assert np.abs(row - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_packed_equals_alone(name, dropout):
    loss, gradients = packed_results(name, dropout)
    other, alone = compute_loss(*made(MODELS[name]), rows_of(ALONE, texts(), 19), dropout)
    assert abs(loss - other) <= 1e-6 * abs(other)
    tiny.assert_close(gradients, alone)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_seen_of_what_follows_or_of_others(name):
    graph, parameters = made(MODELS[name])
    tokens = texts()
    vectors = jax.jit(lambda packed: merge(graph, parameters)(packed))
    packed, _, _ = rows_of(TOGETHER, tokens, 23)
    before = np.asarray(vectors(packed))
    tokens[1][10] = (tokens[1][10] + 1) % 53
    tokens[3] = [5] * len(tokens[3])
    after = np.asarray(vectors(rows_of(TOGETHER, tokens, 23)[0]))
    changed = np.abs(before - after).max(-1) > 1e-7
    expected = np.zeros_like(changed)
    expected[1, 10:19] = True
    expected[0, 7:18] = np.asarray(packed.segments)[0, 7:18] == 4
    assert (changed <= expected).all()
    assert changed[1, 10:19].all()


@pytest.mark.parametrize(
    "compute", [Compute(scan_layers=True), Compute(remat=True), Compute("float32", True, True)]
)
@pytest.mark.parametrize("name", ["gpt", "gpt2"])
def test_scanned_and_recomputed_layers_are_the_same(name, compute):
    loss, expected = packed_results(name, dropout=True)
    graph, parameters = made(MODELS[name], compute)
    if compute.scan_layers:
        parameters = stack_layers(parameters)
    value, found = compute_loss(graph, parameters, rows_of(TOGETHER, texts(), 23), dropout=True)
    assert abs(loss - value) <= 1e-6 * abs(loss)
    tiny.assert_close(unstack_layers(found), expected)


def test_the_dropped_table_of_gpt_is_that_of_both_ends():
    """Embedding dropout alone: a model of the dropped tables without dropout is the same."""
    config = dataclasses.replace(GPT, dropout=0.0, attention_dropout=0.0, embedding_dropout=0.3)
    graph, parameters = made(config)
    batch = rows_of(TOGETHER, texts(), 23)
    noise = Noise(jnp.asarray(step_key(7, 3)), batch[0].segments, batch[0].positions)
    dropped = dict(parameters)
    for kind, site in (("word", 0x10002), ("position", 0x10003)):
        path = f"gpt/embeddings/{kind}/table"
        table = parameters[path]
        dropped[path] = noise.table_rows(table, jnp.arange(len(table)), 0.3, site)
        assert 0.6 < (np.asarray(dropped[path]) != 0).mean() < 0.8
    loss = compute_loss(graph, parameters, batch, dropout=True, gradients=False)
    expected = compute_loss(graph, dropped, batch, dropout=False, gradients=False)
    assert abs(loss - expected) <= 1e-6 * abs(expected)
    without, _ = packed_results("gpt", dropout=False)
    assert abs(loss - without) > 1e-3


def test_gpt2_drops_entries_of_the_sum_and_none_of_its_tables():
    config = dataclasses.replace(GPT2, dropout=0.0, attention_dropout=0.0, embedding_dropout=0.3)
    model = merge(*made(config))
    tokens = {row: [5] * 19 for row in range(64)}  # one word at every place of 64 examples
    packed, _, _ = rows_of([[row] for row in tokens], tokens, 19)
    noise = Noise(jnp.asarray(step_key(7, 3)), packed.segments, packed.positions)
    plain = np.asarray(model.gpt.embeddings(packed, None, anywhere))
    dropped = np.asarray(model.gpt.embeddings(packed, noise, anywhere))
    kept = dropped != 0
    np.testing.assert_allclose(dropped, np.where(kept, plain / 0.7, 0), rtol=1e-6)
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.21 / kept.size)
    # Of each entry of the tables some are kept: not one is dropped for the whole step.
    assert kept.mean((0, 1)).min() > 0.4 and kept.mean((0, 1)).max() < 0.9
    assert kept.mean(0).min() > 0.2 and kept.mean(0).max() < 1
    table = np.asarray(model.gpt.embeddings.word.table[...])
    np.testing.assert_array_equal(model.gpt.embeddings.word_table(noise), table)


@pytest.mark.parametrize("place", ["dropout", "attention_dropout", "embedding_dropout"])
def test_every_rate_of_the_config_acts(place):
    rates = dict.fromkeys(("dropout", "attention_dropout", "embedding_dropout"), 0.0)
    config = dataclasses.replace(GPT2, **rates | {place: 0.2})
    batch = rows_of(TOGETHER, texts(), 23)
    loss = compute_loss(*made(config), batch, dropout=True, gradients=False)
    assert abs(loss - packed_results("gpt2", dropout=False)[0]) > 1e-4


def test_bfloat16_stays_near_float32():
    batch = rows_of(TOGETHER, texts(), 23)
    loss, _ = packed_results("gpt2", dropout=False)
    half, gradients = compute_loss(*made(GPT2, Compute(dtype="bfloat16")), batch, dropout=False)
    assert 0 < abs(half - loss) < 0.02 * loss
    assert {str(g.dtype) for g in gradients.values()} == {"float32"}


def test_a_bert_that_sees_what_follows_is_refused():
    config = dataclasses.replace(LEFT_TO_RIGHT, left_to_right=False)
    with pytest.raises(ValueError, match="left_to_right"):
        describe(lambda rngs: NextTokenModel(config, Compute(), rngs))
