"""Between the saved and the computed form of a state, and how much of it is held meanwhile."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from gptbert.training.sharding import Layout, make_layout
from gptbert.training.state import computed_form, saved_form
from tests import tiny


@pytest.fixture
def stored():
    """A state as it is read from a checkpoint, random moments included."""
    training, parameters = tiny.training(optimizer="adamw")
    state = training.initial_state(parameters)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jax.numpy.asarray(rng.normal(size=x.shape).astype(x.dtype)), state
    )


@pytest.mark.parametrize("scan", [False, True])
def test_consumed_or_not_it_is_the_same_state(stored, scan):
    layout = make_layout(devices=jax.devices()[:1])
    before = jax.tree.map(np.array, stored)
    kept = computed_form(stored, layout, scan_layers=scan)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(stored))
    moved = computed_form(stored, layout, scan_layers=scan, consume=True)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(stored))
    assert jax.tree.structure(kept) == jax.tree.structure(moved)
    for one, other in zip(jax.tree.leaves(kept), jax.tree.leaves(moved), strict=True):
        assert one.sharding == other.sharding
        np.testing.assert_array_equal(one, other)
    again = saved_form(moved, tiny.CONFIG.vocabulary)
    assert jax.tree.structure(again) == jax.tree.structure(before)
    jax.tree.map(np.testing.assert_array_equal, again, before)


def test_one_dictionary_after_the_other_is_freed(stored):
    """Of parameters and both moments only one is there twice at a time."""
    parts = [stored.parameters, stored.optimizer_state[1].mu, stored.optimizer_state[1].nu]
    left = []

    class Noting(Layout):
        def tree(self, tree):
            if isinstance(tree, dict):  # about to be converted
                left.append(sum(not leaf.is_deleted() for leaf in jax.tree.leaves(parts)))
            return super().tree(tree)

    layout = Noting(make_layout(devices=jax.devices()[:1]).mesh)
    computed_form(stored, layout, scan_layers=False, consume=True)
    each = len(stored.parameters)
    assert left == [3 * each, 2 * each, each]
