"""Masks are fair, independent of each other, and follow the number rather than its place."""

import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.models.dropout import SITES_PER_LAYER, Noise, step_key

R, T, D = 64, 128, 96


def noise(seed=0, step=0, segments=None, positions=None):
    segments = jnp.arange(R * T).reshape(R, T) // 16 + 1 if segments is None else segments
    positions = jnp.arange(R * T).reshape(R, T) % 16 if positions is None else positions
    return Noise(jnp.asarray(step_key(seed, step)), segments, positions)


def kept(each, site=0, rate=0.1):
    return np.asarray(each.features(jnp.ones((R, T, D)), rate, site)) != 0


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("seed,step,site", [(0, 0, 0), (0, 1, 0), (1, 0, 5), (123456, 999, 48)])
def test_share_kept_is_within_four_sigma(rate, seed, step, site):
    mask = kept(noise(seed, step), site, rate)
    sigma = np.sqrt(rate * (1 - rate) / mask.size)
    assert abs(mask.mean() - (1 - rate)) < 4 * sigma
    by_feature = mask.reshape(-1, D).mean(0)
    assert np.abs(by_feature - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) / (R * T))


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_neighbours_are_uncorrelated():
    mask = kept(noise())
    bound = 5 / np.sqrt(mask.size)
    assert abs(correlation(mask[:, :-1], mask[:, 1:])) < bound  # positions
    assert abs(correlation(mask[..., :-1], mask[..., 1:])) < bound  # features
    assert abs(correlation(mask[:-1], mask[1:])) < bound  # rows
    assert abs(correlation(mask, kept(noise(step=1)))) < bound
    assert abs(correlation(mask, kept(noise(seed=1)))) < bound
    assert abs(correlation(mask, kept(noise(), site=1))) < bound


def test_kept_numbers_are_scaled_and_rate_zero_is_the_identity():
    x = jnp.full((R, T, D), 3.0)
    values = np.unique(np.asarray(noise().features(x, 0.25, 0)))
    np.testing.assert_allclose(values, [0, 4.0], rtol=1e-6)
    assert noise().features(x, 0.0, 0) is x


@pytest.mark.parametrize("rate", [0.1, 0.15])
def test_bfloat16_keeps_the_mean(rate):
    """1 / (1 - rate) rounded to bfloat16 first would be off by 0.2 to 0.3%."""
    dropped = noise().features(jnp.full((R, T, D), 9.0, jnp.bfloat16), rate, 0)
    assert dropped.dtype == jnp.bfloat16
    kept_value = float(np.unique(np.asarray(dropped, np.float32))[-1])
    assert kept_value == float(jnp.asarray(9.0 / (1 - rate), jnp.bfloat16))


def test_the_mask_follows_example_and_position():
    moved = noise(segments=jnp.full((R, T), 9), positions=jnp.broadcast_to(jnp.arange(T), (R, T)))
    mask = kept(moved)
    assert (mask == mask[:1]).all()
    one = noise(
        segments=jnp.asarray([[9] * T] * R), positions=jnp.asarray([list(range(T))[::-1]] * R)
    )
    assert (kept(one)[:, ::-1] == mask).all()


def test_attention_masks_follow_example_head_query_and_key():
    segments = jnp.asarray([[1] * 8 + [2] * 8, [2] * 8 + [1] * 8])
    positions = jnp.asarray([list(range(8)) * 2] * 2)
    each = Noise(jnp.asarray(step_key(0, 0)), segments, positions)
    p = np.asarray(each.probabilities(jnp.ones((2, 4, 16, 16)), 0.5, 3))
    assert (p[0, :, :8, :8] == p[1, :, 8:, 8:]).all()
    assert (p[0, :, 8:, 8:] == p[1, :, :8, :8]).all()
    assert (p[0, 0] != p[0, 1]).any() and (p[0, 0, :8, :8] != p[0, 0, 8:, 8:]).any()
    assert 0.4 < (p != 0).mean() < 0.6


def test_masks_of_attention_are_fair_and_independent():
    """Over keys, queries, heads and rows, and from layer to layer: no row of a mask falls whole."""
    each = Noise(
        jnp.asarray(step_key(0, 0)),
        jnp.arange(8)[:, None] * jnp.ones((8, 32), jnp.int32) + 1,
        jnp.broadcast_to(jnp.arange(32), (8, 32)),
    )

    def kept_entries(site):
        return np.asarray(each.probabilities(jnp.ones((8, 6, 32, 32)), 0.3, site)) != 0

    mask = kept_entries(0)
    assert abs(mask.mean() - 0.7) < 4 * np.sqrt(0.21 / mask.size)
    for axis in range(4):
        # Of n entries along the axis, kept ones vary as those of n coins: 0.21 / n.
        assert mask.mean(axis).var() == pytest.approx(0.21 / mask.shape[axis], rel=0.25)
    bound = 5 / np.sqrt(mask.size)
    ahead = [np.roll(mask, 1, axis) for axis in range(4)]
    others = [kept_entries(site) for site in (1, SITES_PER_LAYER, 2 * SITES_PER_LAYER)]
    for other in (*ahead, *others, mask.swapaxes(2, 3)[:, ::-1]):
        assert abs(correlation(mask, other)) < bound


def test_key_of_a_step_is_a_pure_function():
    assert (step_key(3, 4) == step_key(3, 4)).all()
    assert (step_key(3, 4) != step_key(4, 3)).any()


def test_rows_of_a_table_are_dropped_as_the_table_is():
    """An entry is kept or dropped wherever it is looked up, whoever looks it up."""
    table = jnp.asarray(np.random.default_rng(0).normal(size=(300, D)), jnp.float32)
    ids = np.random.default_rng(1).integers(0, 300, (R, T))
    whole = noise().table_rows(table, jnp.arange(300), 0.1, 7)
    np.testing.assert_array_equal(noise().table_rows(table[ids], ids, 0.1, 7), whole[ids])
    elsewhere = noise(segments=jnp.ones((R, T), jnp.int32))
    np.testing.assert_array_equal(elsewhere.table_rows(table, jnp.arange(300), 0.1, 7), whole)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masks_of_tables_are_fair_and_independent(rate):
    rows = 20_000

    def kept_entries(each, site=7):
        return np.asarray(each.table_rows(jnp.ones((rows, D)), jnp.arange(rows), rate, site)) != 0

    mask = kept_entries(noise())
    assert abs(mask.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / mask.size)
    for axis in (0, 1):
        each = mask.mean(axis)
        count = mask.shape[axis]
        assert np.abs(each - (1 - rate)).max() < 6 * np.sqrt(rate * (1 - rate) / count)
    bound = 5 / np.sqrt(mask.size)
    others = kept_entries(noise(step=1)), kept_entries(noise(seed=1)), kept_entries(noise(), 8)
    for other in others:
        assert abs(correlation(mask, other)) < bound
    assert abs(correlation(mask[1:], mask[:-1])) < bound
    table = jnp.ones((3, D))
    assert noise().table_rows(table, jnp.arange(3), 0.0, 7) is table
