"""Reference values of `transformers`, committed as files; see tests/golden/make_bert.py."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from gptbert.weights.huggingface import read_bert
from gptbert.weights.safetensors_files import write_safetensors
from tests import reference

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ("bert_erf", "bert_tanh")


@pytest.fixture(scope="module", params=NAMES)
def golden(request, tmp_path_factory):
    """A model's folder as `transformers` writes it, its batch, and what it computed."""
    with np.load(GOLDEN / f"{request.param}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "config.json").write_text(str(arrays["config"]))
    write_safetensors(folder / "model.safetensors", under(arrays, "weights/"))
    return folder, arrays


def under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def batch_of(arrays):
    names = ("input_ids", "attention_mask", "token_type_ids", "labels")
    return reference.as_features(*(arrays[name] for name in names))


def expected(arrays, config):
    gradients = reference.gradients_by_path(config, under(arrays, "gradients/"))
    return reference.Results(arrays["logits"], arrays["hidden"], float(arrays["loss"]), gradients)


@pytest.mark.parametrize("layout", reference.LAYOUTS)
def test_logits_and_all_gradients(golden, layout):
    folder, arrays = golden
    weights = read_bert(folder)
    ours = reference.compute(weights.config, weights.parameters, batch_of(arrays), layout)
    reference.assert_same(ours, expected(arrays, weights.config))


def test_the_other_form_of_gelu_would_be_noticed(golden):
    folder, arrays = golden
    weights = read_bert(folder)
    other = "gelu" if weights.config.activation == "gelu_tanh" else "gelu_tanh"
    config = dataclasses.replace(weights.config, activation=other)
    batch = batch_of(arrays)
    ours = reference.compute(config, weights.parameters, batch, "packed", gradients=False)
    reference_values = dataclasses.replace(expected(arrays, config), gradients={})
    with pytest.raises(AssertionError, match=r"logits|hidden"):
        reference.assert_same(ours, reference_values)


def test_every_tensor_is_accounted_for(golden):
    folder, arrays = golden
    weights = read_bert(folder)
    assert sorted(weights.loaded) == sorted(under(arrays, "weights/"))
    assert weights.ignored == weights.missing == []
    assert (
        weights.config.activation
        == {"gelu": "gelu", "gelu_new": "gelu_tanh"}[
            json.loads(str(arrays["config"]))["hidden_act"]
        ]
    )
