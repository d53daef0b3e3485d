"""The cross-entropy in chunks is the plain one, gradients and all, with less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.models import losses
from gptbert.models.losses import linear_cross_entropy

R, T, D, V = 3, 13, 8, 29


def inputs(entries=V, bias=True, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(R, T, D)).astype(np.float32),
        rng.normal(size=(entries, D)).astype(np.float32),
        rng.normal(size=V).astype(np.float32) if bias else None,
        rng.integers(0, V, (R, T)).astype(np.int32),
        (rng.random((R, T)) < 0.7).astype(np.float32) * rng.random((R, T)).astype(np.float32),
    )


def plain(x, table, bias, labels, weights):
    """Loss, right answers and gradients in float64, by hand."""
    x, table = x.astype(np.float64), table[:V].astype(np.float64)
    logits = x @ table.T + (0 if bias is None else bias)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    one = np.eye(V)[labels]
    loss = -(np.log((p * one).sum(-1)) * weights).sum()
    correct = ((logits.argmax(-1) == labels) * weights).sum()
    error = (p - one) * weights[..., None]
    return loss, correct, error @ table, np.einsum("rtv,rtd->vd", error, x), error.sum((0, 1))


def differentiated(arrays, scale=1.0, **options):
    x, table, bias, labels, weights = arrays
    options = {"vocabulary": V} | options

    def loss(x, table, bias):
        total, correct = linear_cross_entropy(x, table, bias, labels, weights, **options)
        return scale * total, correct

    which = (0, 1) if bias is None else (0, 1, 2)
    run = jax.jit(jax.value_and_grad(loss, which, has_aux=True))
    return run(x, table, bias)


def assert_near(found, expected, tolerance=1e-6):
    found, expected = np.asarray(found, np.float64), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("chunk", [1, 4, 5, 13, 1000])
@pytest.mark.parametrize("bias", [True, False])
def test_value_and_gradients_are_exact(chunk, bias):
    arrays = inputs(bias=bias)
    loss, correct, *gradients = plain(*arrays)
    (found, right), found_gradients = differentiated(arrays, chunk=chunk)
    assert_near(found, loss)
    assert_near(right, correct)
    for one, other in zip(found_gradients, gradients[: len(found_gradients)], strict=True):
        assert_near(one, other)


def test_the_gradient_is_that_of_the_loss_it_is_part_of():
    arrays = inputs()
    (_, _), once = differentiated(arrays, chunk=4)
    (_, _), scaled = differentiated(arrays, scale=-2.5, chunk=4)
    for one, other in zip(scaled, once, strict=True):
        assert_near(one, -2.5 * np.asarray(other))


@pytest.mark.parametrize("bias_entries", [V, 32])
def test_padding_rows_of_the_table_count_for_nothing(bias_entries):
    x, table, bias, labels, weights = inputs(entries=32)
    table[V:] = 100.0  # would win everywhere
    bias = np.pad(bias, (0, bias_entries - V), constant_values=7)
    loss, correct, dx, dtable, dbias = plain(x, table, bias[:V], labels, weights)
    (found, right), gradients = differentiated((x, table, bias, labels, weights), chunk=6)
    assert_near(found, loss)
    assert_near(right, correct)
    assert_near(gradients[0], dx)
    assert_near(gradients[1], np.pad(dtable, ((0, 32 - V), (0, 0))))
    assert_near(gradients[2], np.pad(dbias, (0, bias_entries - V)))


def test_without_gradients_the_values_are_the_same():
    x, table, bias, labels, weights = inputs()
    found, right = linear_cross_entropy(x, table, bias, labels, weights, vocabulary=V, chunk=5)
    loss, correct, *_ = plain(x, table, bias, labels, weights)
    assert_near(found, loss)
    assert_near(right, correct)


def test_labels_of_weight_zero_change_nothing():
    x, table, bias, labels, weights = inputs()
    other = np.where(weights > 0, labels, 0).astype(np.int32)
    a = differentiated((x, table, bias, labels, weights), chunk=4)
    b = differentiated((x, table, bias, other, weights), chunk=4)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert (labels != other).any()


def test_huge_logits_stay_finite():
    x, table, bias, labels, weights = inputs()
    (loss, _), gradients = differentiated((x * 1e3, table * 1e3, bias, labels, weights), chunk=4)
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() for g in gradients)


def test_right_answers_have_no_gradient():
    x, table, bias, labels, weights = inputs()

    def right(x):
        return linear_cross_entropy(x, table, bias, labels, weights, vocabulary=V, chunk=4)[1]

    assert not np.asarray(jax.grad(right)(x)).any()


def test_bfloat16_products_stay_near_and_gradients_float32():
    arrays = inputs()
    loss, _, *gradients = plain(*arrays)
    (found, _), found_gradients = differentiated(arrays, chunk=4, dtype="bfloat16")
    assert 0 < abs(found - loss) < 0.01 * loss
    for one, other in zip(found_gradients, gradients, strict=True):
        assert one.dtype == jnp.float32
        assert_near(one, other, tolerance=0.03)


def test_in_a_scan_and_under_recomputation():
    x, table, bias, labels, weights = inputs()

    def loss(table, chunk):
        @jax.checkpoint
        def one(table, x):
            return linear_cross_entropy(x, table, bias, labels, weights, vocabulary=V, chunk=chunk)[
                0
            ]

        return jax.lax.scan(lambda t, x: (t + one(table, x), None), 0.0, jnp.stack([x, x * 2]))[0]

    expected = plain(x, table, bias, labels, weights), plain(x * 2, table, bias, labels, weights)
    value, gradient = jax.value_and_grad(loss)(table, 5)
    assert_near(value, expected[0][0] + expected[1][0])
    assert_near(gradient, expected[0][3] + expected[1][3])


def temporaries(rows, positions, width, entries, **options):
    """Bytes of the temporaries of a step, compiled and not run."""
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((rows, positions, width), jnp.float32),
            ((entries, width), jnp.float32),
            ((rows, positions), jnp.int32),
            ((rows, positions), jnp.float32),
        )
    ]

    def loss(x, table, labels, weights):
        return linear_cross_entropy(x, table, None, labels, weights, vocabulary=entries, **options)

    compiled = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True)).lower(*shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("chunk", [8, 32])
def test_memory_is_that_of_a_chunk(chunk):
    rows, positions, width, entries = 2, 256, 16, 20_000
    memory = temporaries(rows, positions, width, entries, chunk=chunk)
    logits_of_chunk, logits = (4 * rows * n * entries for n in (chunk, positions))
    assert memory < 4 * logits_of_chunk + 4 * 4 * entries * width
    assert memory < logits / 2


def test_many_rows_take_no_more_memory():
    few, many = (temporaries(rows, 128, 8, 3_000) for rows in (128, 1024))
    assert many < 1.5 * few


@pytest.mark.parametrize("most", [2, 7])
def test_many_rows_give_the_same(most, monkeypatch):
    """Rows are 3: two positions of each at a time, or one, though that is more than allowed."""
    monkeypatch.setattr(losses, "POSITIONS", most)
    arrays = inputs()
    loss, correct, *gradients = plain(*arrays)
    (found, right), found_gradients = differentiated(arrays)
    assert_near(found, loss)
    assert_near(right, correct)
    for one, other in zip(found_gradients, gradients, strict=True):
        assert_near(one, other)
    pieces = 13 if most == 2 else 7
    assert f"length={pieces}" in str(jax.make_jaxpr(lambda x: linear_cross_entropy(
        x, *arrays[1:], vocabulary=V)[0])(arrays[0]))  # fmt: skip
