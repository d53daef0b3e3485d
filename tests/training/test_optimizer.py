"""BERT's optimizer and schedule against NumPy written from the paper's code, step by step."""

import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.training.optimizer import bert_schedule, is_decayed, make_optimizer

SHAPES = {
    "bert/embeddings/word/table": (7, 4),
    "bert/layers/0/attention/qkv_kernel": (4, 3, 2, 2),
    "bert/layers/0/attention/qkv_bias": (3, 2, 2),
    "bert/layers/0/attention_norm/scale": (4,),
    "bert/layers/0/mlp_norm/bias": (4,),
    "classifier/kernel": (4, 2),
    "classifier/bias": (2,),
}
DECAYED = {
    "bert/embeddings/word/table",
    "bert/layers/0/attention/qkv_kernel",
    "classifier/kernel",
}


def draw(rng, scale=1.0):
    return {path: scale * rng.standard_normal(shape) for path, shape in SHAPES.items()}


def clipped(gradients, limit=1.0):
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    return {k: g * min(1.0, limit / norm) for k, g in gradients.items()}


def test_what_is_decayed():
    assert {path for path in SHAPES if is_decayed(path)} == DECAYED


@pytest.mark.parametrize("name", ["bert_adam", "adamw"])
@pytest.mark.parametrize("scale", [0.01, 10.0])  # below and above the clipping norm
def test_updates_equal_numpy(name, scale):
    rng = np.random.default_rng(0)
    start = draw(rng)
    reference = {k: v.copy() for k, v in start.items()}
    m = {k: np.zeros_like(v) for k, v in start.items()}
    v = {k: np.zeros_like(x) for k, x in start.items()}
    optimizer = make_optimizer(name)
    parameters = {k: jnp.asarray(x, jnp.float32) for k, x in start.items()}
    state = optimizer.init(parameters)
    schedule = bert_schedule(0.1, 3, 10)
    for step in range(10):
        gradients = draw(rng, scale)
        rate = schedule(step)
        for k, g in clipped(gradients).items():
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.999 * v[k] + 0.001 * g * g
            if name == "bert_adam":
                update = m[k] / (np.sqrt(v[k]) + 1e-6)
            else:
                corrected = m[k] / (1 - 0.9 ** (step + 1))
                update = corrected / (np.sqrt(v[k] / (1 - 0.999 ** (step + 1))) + 1e-6)
            if k in DECAYED:
                update = update + 0.01 * reference[k]
            reference[k] -= rate * update
        updates, state = optimizer.update(
            {k: jnp.asarray(g, jnp.float32) for k, g in gradients.items()},
            state,
            parameters,
            learning_rate=jnp.float32(rate),
        )
        parameters = {k: parameters[k] + updates[k] for k in parameters}
        for k in SHAPES:
            np.testing.assert_allclose(parameters[k], reference[k], rtol=2e-5, atol=2e-6)


def test_first_update_is_3_16_times_the_corrected_one():
    one = {"classifier/bias": jnp.asarray([0.5])}
    sizes = []
    for name in ("bert_adam", "adamw"):
        optimizer = make_optimizer(name, weight_decay=0.0, clip=0.0)
        updates, _ = optimizer.update(one, optimizer.init(one), one, learning_rate=1.0)
        sizes.append(float(-updates["classifier/bias"][0]))
    np.testing.assert_allclose(sizes[0] / sizes[1], 0.1 / np.sqrt(0.001), rtol=1e-3)


def test_schedule_of_the_released_code():
    rate = bert_schedule(1.0, 34, 343)  # MRPC, 3 epochs, 10% warm-up
    assert rate(0) == 0.0
    assert rate(33) == pytest.approx(33 / 34)
    assert rate(34) == pytest.approx(1 - 34 / 343)  # the jump at the end of warm-up
    assert rate(342) == pytest.approx(1 / 343)
    assert bert_schedule(1.0, 0, 5)(0) == 1.0


def test_unknown_optimizer_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'bert_adam'"):
        make_optimizer("bertadam")
