"""What training starts from: distributions of the papers, within sampling error."""

import dataclasses
import functools
import math

import numpy as np
import pytest

from gptbert.models.heads import make_classifier
from gptbert.models.parameters import initialize
from gptbert.models.presets import Compute, preset
from gptbert.models.pretraining import MaskedLanguageModel, NextTokenModel

SMALL = {"layers": 2, "width": 192, "heads": 3, "inner": 768, "vocabulary": 3000}
# Of a normal cut at two standard deviations.
CUT = 0.8796


@functools.cache
def drawn(name, compute=None, seed=3):
    config = dataclasses.replace(preset(name), **SMALL)
    model = MaskedLanguageModel if name.startswith("bert") else NextTokenModel
    values = initialize(lambda rngs: model(config, compute or Compute(), rngs), seed)
    return {path: np.asarray(value, np.float64) for path, value in values.items()}


def assert_spread(path, value, stddev):
    """Mean 0 and the given standard deviation, each within five of its own."""
    bound = 5 / math.sqrt(value.size)
    assert abs(value.mean()) < bound * stddev, path
    assert abs(value.std() / stddev - 1) < bound, path


def kinds(values):
    """(path, value, what it is: scale, bias or drawn)."""
    for path, value in values.items():
        last = path.split("/")[-1]
        yield path, value, "bias" if last.endswith("bias") else last


def test_bert_is_drawn_from_a_cut_normal():
    for path, value, kind in kinds(drawn("bert-tiny")):
        if kind == "scale":
            assert (value == 1).all(), path
        elif kind == "bias":
            assert (value == 0).all(), path
        else:
            assert_spread(path, value, CUT * 0.02)
            assert np.abs(value).max() <= 0.04, path
            if value.size > 100_000:
                assert np.abs(value).max() > 0.0399, path


def test_gpt_is_drawn_from_a_normal():
    for path, value, kind in kinds(drawn("gpt-tiny")):
        if kind == "scale":
            assert (value == 1).all(), path
        elif kind == "bias":
            assert (value == 0).all(), path
        else:
            assert_spread(path, value, 0.02)
            if value.size > 100_000:
                assert np.abs(value).max() > 0.07, path


@pytest.mark.parametrize("scan", [False, True])
def test_gpt2_writes_less_to_the_residual_stream(scan):
    """0.02 / sqrt(2 L) where the stream is written; half of 0.02 for positions, as released."""
    residual = ("attention/output_kernel", "down/kernel")
    seen = set()
    for path, value, kind in kinds(drawn("gpt2-tiny", Compute(scan_layers=scan))):
        if kind in ("scale", "bias"):
            assert (value == (kind == "scale")).all(), path
            continue
        scaled = path.endswith(residual)
        stddev = 0.02 / math.sqrt(2 * SMALL["layers"]) if scaled else 0.02
        assert_spread(path, value, 0.01 if "position" in path else stddev)
        seen.add(scaled)
    assert seen == {True, False}


def test_layers_are_drawn_apart_and_by_seed():
    values = drawn("gpt2-tiny")
    first, second = (values[f"gpt/layers/{n}/up/kernel"] for n in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / math.sqrt(first.size)
    again = drawn.__wrapped__("gpt2-tiny")
    assert all(np.array_equal(values[path], again[path]) for path in values)
    other = drawn("gpt2-tiny", seed=4)["gpt/layers/0/up/kernel"]
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(first.size)


@pytest.mark.parametrize("name, stddev, most", [("bert-tiny", CUT * 0.02, 0.04), ("gpt", 0.02, 9)])
def test_a_new_classifier_is_drawn_as_its_model(name, stddev, most):
    config = dataclasses.replace(preset(name), **SMALL)
    head = {"classifier/kernel", "classifier/bias"}
    values = initialize(lambda rngs: make_classifier(config, Compute(), 500, rngs), 0, only=head)
    assert values.keys() == head
    assert_spread("classifier", np.asarray(values["classifier/kernel"], np.float64), stddev)
    assert np.abs(values["classifier/kernel"]).max() <= most
    assert not np.asarray(values["classifier/bias"]).any()
