"""The optimizers against NumPy written from the papers' code, step by step."""

import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.training.optimizer import is_decayed, make_optimizer
from gptbert.training.schedules import make_schedule, with_bias_correction

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
    schedule = make_schedule("bert", 0.1, 3, 10)
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


def test_unknown_optimizer_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'bert_adam'"):
        make_optimizer("bertadam")


def test_gpt_adam_equals_numpy():
    """`opt.py`: lr_t = lr sqrt(1-b2^t)/(1-b1^t) schedule; p -= lr_t (m/(sqrt(v)+eps) + l2 p)."""
    rng = np.random.default_rng(1)
    start = draw(rng)
    reference = {k: v.copy() for k, v in start.items()}
    m = {k: np.zeros_like(v) for k, v in start.items()}
    v = {k: np.zeros_like(x) for k, x in start.items()}
    optimizer = make_optimizer("gpt_adam", clip=1.0, weight_decay=0.01)
    parameters = {k: jnp.asarray(x, jnp.float32) for k, x in start.items()}
    state = optimizer.init(parameters)
    schedule = with_bias_correction(make_schedule("gpt_cosine", 0.1, 3, 10))
    for t in range(1, 11):
        gradients = draw(rng, 10.0)
        x = (t - 1) / 10
        shape = x / 0.3 if x <= 0.3 else 0.5 * (1 + np.cos(np.pi * x))
        rate = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * shape
        assert schedule(t - 1) == pytest.approx(rate, rel=1e-12)
        for k, g in clipped(gradients).items():
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.999 * v[k] + 0.001 * g * g
            update = m[k] / (np.sqrt(v[k]) + 1e-8) + (0.01 * reference[k] if k in DECAYED else 0)
            reference[k] -= rate * update
        updates, state = optimizer.update(
            {k: jnp.asarray(g, jnp.float32) for k, g in gradients.items()},
            state,
            parameters,
            learning_rate=jnp.float32(schedule(t - 1)),
        )
        parameters = {k: parameters[k] + updates[k] for k in parameters}
        for k in SHAPES:
            np.testing.assert_allclose(parameters[k], reference[k], rtol=2e-5, atol=2e-6)


def test_second_beta_and_epsilon_are_used():
    one = {"classifier/bias": jnp.asarray([0.5])}
    optimizer = make_optimizer("adamw", weight_decay=0.0, clip=0.0, b2=0.5, epsilon=1.0)
    state = optimizer.init(one)
    for gradient in (1.0, 3.0):
        updates, state = optimizer.update(
            {"classifier/bias": jnp.asarray([gradient])}, state, one, learning_rate=1.0
        )
    m, v = 0.9 * 0.1 + 0.1 * 3, 0.5 * 0.5 + 0.5 * 9
    expected = m / (1 - 0.9**2) / (np.sqrt(v / (1 - 0.5**2)) + 1.0)
    np.testing.assert_allclose(-updates["classifier/bias"][0], expected, rtol=1e-5)
