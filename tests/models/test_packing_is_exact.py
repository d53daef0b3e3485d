"""Packed, padded, stacked, recomputed: all compute the same numbers, with dropout on and off."""

import numpy as np
import pytest

from gptbert.models.presets import Compute
from gptbert.training.step import jit_score
from tests import tiny


def outputs_by_example(batch, scores):
    rows, slots = np.nonzero(batch.targets.weights)
    starts = batch.targets.starts[rows, slots]
    order = np.argsort(batch.packed.segments[rows, starts])
    return np.asarray(scores)[rows, slots][order]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_packed_logits_equal_padded_ones(pooling):
    fixed, parameters = tiny.training(pooling=pooling)
    data = tiny.features()
    score = jit_score(fixed, parameters)
    packed, padded = tiny.packed(data), tiny.padded(data)
    assert packed.packed.tokens.shape[0] < len(data) / 2
    a = outputs_by_example(packed, score(parameters, packed))
    b = outputs_by_example(padded, score(parameters, padded))
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_packed_gradients_equal_padded_ones(dropout, pooling):
    fixed, parameters = tiny.training(dropout=dropout, pooling=pooling)
    data = tiny.features()
    loss, gradients = tiny.gradients(fixed, parameters, tiny.packed(data))
    other_loss, other = tiny.gradients(fixed, parameters, tiny.padded(data))
    assert abs(loss - other_loss) <= 1e-5 * abs(other_loss)
    tiny.assert_close(gradients, other)


def test_dropout_changes_the_loss():
    data = tiny.features()
    with_dropout = tiny.gradients(*tiny.training(dropout=True), tiny.packed(data))[0]
    without = tiny.gradients(*tiny.training(dropout=False), tiny.packed(data))[0]
    assert abs(with_dropout - without) > 1e-3


@pytest.mark.parametrize("compute", [Compute(scan_layers=True), Compute(remat=True)])
def test_scanned_and_recomputed_layers_give_the_same_gradients(compute):
    from gptbert.models.parameters import unstack_layers

    data = tiny.features()
    _, expected = tiny.gradients(*tiny.training(), tiny.packed(data))
    _, found = tiny.gradients(*tiny.training(compute=compute), tiny.packed(data))
    tiny.assert_close(unstack_layers(found), expected)


def test_empty_rows_change_nothing():
    fixed, parameters = tiny.training()
    data = tiny.features()
    loss, gradients = tiny.gradients(fixed, parameters, tiny.packed(data))
    wide_loss, wide = tiny.gradients(fixed, parameters, tiny.packed(data, rows=20, slots=12))
    assert abs(loss - wide_loss) <= 1e-6 * abs(loss)
    tiny.assert_close(wide, gradients)


def test_bfloat16_stays_near_float32_and_keeps_float32_gradients():
    data = tiny.features()
    loss, _ = tiny.gradients(*tiny.training(dropout=False), tiny.packed(data))
    half = tiny.training(dropout=False, compute=Compute(dtype="bfloat16"))
    half_loss, gradients = tiny.gradients(*half, tiny.packed(data))
    assert 0 < abs(loss - half_loss) < 0.02 * abs(loss)
    assert {str(g.dtype) for g in gradients.values()} == {"float32"}
