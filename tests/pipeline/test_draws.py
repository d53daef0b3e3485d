"""Hashed draws: uniform, independent of how they are asked for, different for every address."""

import warnings

import numpy as np

from gptbert.pipeline import draws


def test_draws_are_uniform_over_addresses_that_differ_little():
    for counters in ([np.arange(40_000)], [np.arange(200)[:, None], np.arange(200)[None, :]]):
        drawn = draws.uniform(draws.bits(draws.key(0, "test"), *counters)).ravel()
        assert drawn.min() >= 0 and drawn.max() < 1
        histogram = np.bincount((drawn * 16).astype(int), minlength=16)
        # Chi-square of 15 degrees of freedom: 37.7 is exceeded once in a thousand.
        assert ((histogram - 2500.0) ** 2 / 2500).sum() < 37.7
        assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


def test_a_draw_depends_on_its_address_only():
    key = draws.key(3, "masks")
    whole = draws.bits(key, np.arange(10)[:, None], np.arange(7)[None, :])
    assert whole[4, 5] == draws.bits(draws.bits(key, 4), 5)[0]
    assert len(np.unique(whole)) == 70
    assert draws.key(3, "masks") == key and len({draws.key(3, "a"), draws.key(3, "b"), key}) == 3
    assert draws.key(3, "masks", 0) != draws.key(3, "masks", 1)


def test_below_meets_every_number_and_nothing_else():
    drawn = draws.below(draws.bits(1, np.arange(5000)), 7)
    assert sorted(set(drawn.tolist())) == list(range(7))
    assert (draws.below(draws.bits(1, np.arange(9)), np.zeros(9, np.int64)) == 0).all()


def test_overflow_is_meant_and_not_reported():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws.bits(2**64 - 1, np.arange(3), 2**63)


def test_below_of_limits_under_2_to_32_is_what_stores_were_made_with():
    hashed = draws.bits(3, np.arange(2000))
    limits = draws.bits(4, np.arange(2000)) >> np.uint64(32)
    large = np.where(np.arange(2000) % 2, limits, 2**63)  # beside a larger one too
    expected = [(int(h) >> 32) * int(n) >> 32 for h, n in zip(hashed, limits, strict=True)]
    assert draws.below(hashed, limits).tolist() == expected
    assert draws.below(hashed, large)[1::2].tolist() == expected[1::2]
    for limit in (1, 2, 30_522, 2**31 + 1, 2**32 - 1):
        expected = [(int(h) >> 32) * limit >> 32 for h in hashed]
        assert draws.below(hashed, limit).tolist() == expected
    assert draws.below(draws.bits(7, np.arange(4)), 30_522).tolist() == [11898, 512, 27493, 17792]


def test_below_is_right_for_limits_up_to_2_to_63():
    hashed = draws.bits(5, np.arange(2000))
    for limit in (2**32, 2**32 + 1, 10**10, 2**52 + 12_345, 2**63 - 1, 2**63):
        drawn = draws.below(hashed, limit)
        assert drawn.tolist() == [int(h) * limit >> 64 for h in hashed]
        assert abs(drawn.mean() / limit - 0.5) < 0.03
    assert draws.below(np.full(1, 2**64 - 1, np.uint64), 2**63)[0] == 2**63 - 1
