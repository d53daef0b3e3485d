"""Every objective trains with dropout: the loss of an update follows the key of its step."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from gptbert.models.dropout import step_key
from gptbert.models.parameters import describe, initialize
from gptbert.models.presets import Compute
from gptbert.tasks.pretraining import objective_of
from gptbert.training.optimizer import make_optimizer
from gptbert.training.sharding import make_layout
from gptbert.training.step import Training
from tests import tiny, tiny_pretraining

SMALL = {"layers": 1, "width": 8, "heads": 2, "inner": 8}
BERT = dataclasses.replace(tiny_pretraining.BERT, **SMALL)
CASES = {
    "mlm_nsp": (BERT, "BERT"),
    "left_to_right": (dataclasses.replace(BERT, left_to_right=True), "GPT"),
    "next_token": (dataclasses.replace(tiny_pretraining.GPT, **SMALL), "GPT"),
}


def made(name):
    """A training, its parameters and a batch."""
    if name == "classification":
        config = dataclasses.replace(tiny.CONFIG, **SMALL)
        return *tiny.training(config=config), tiny.packed(tiny.features(6, longest=9))
    config, kind = CASES[name]
    build = functools.partial(tiny_pretraining.make, config, name, Compute())
    layout = make_layout(devices=jax.devices()[:1])
    graph, _ = describe(build)
    training = Training(graph, objective_of(name), make_optimizer("bert_adam"), layout)
    return training, initialize(build, 0), tiny_pretraining.batch(kind, rows=4)


def no_gradient(loss, has_aux):
    """In place of `jax.value_and_grad`: the backward pass takes long to compile."""
    return lambda parameters, batch: (loss(parameters, batch), parameters)


@pytest.mark.parametrize("name", ["classification", *CASES])
def test_the_loss_follows_the_key(name, monkeypatch):
    training, parameters, batch = made(name)
    state = training.initial_state(parameters)
    monkeypatch.setattr(jax, "value_and_grad", no_gradient)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def terms(key):
        _, scalars = training.update(state, batch, np.float32(0), key)
        return {term: scalars[term] for term in training.objective.terms}

    found = [terms(step_key(0, step)) for step in (0, 1, 0)]
    for term in training.objective.terms:
        first, second, again = (float(each[term]) for each in found)
        assert abs(first - second) > 1e-4 and again == first, term
