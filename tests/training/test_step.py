"""The compiled update: what it must not do besides its work."""

import re

import numpy as np

from gptbert.models.dropout import step_key
from gptbert.models.presets import Compute
from gptbert.training.step import jit_update
from tests import tiny


def test_an_update_copies_no_parameter():
    """What is donated is overwritten in place: a norm taken of the old values would forbid it."""
    fixed, parameters = tiny.training(compute=Compute(join_heads=True))
    state, batch = fixed.initial_state(parameters), tiny.packed(tiny.features())
    program = jit_update(fixed, state).lower(state, batch, np.float32(0), step_key(0, 0)).compile()
    entry = program.as_text().split("\nENTRY ")[1]
    given = set(re.findall(r"%([\w.]+) = f32\S* parameter\(", entry))
    copies = re.findall(r"= f32\[([\d,]*)\]\S* copy\(%([\w.]+)\)", entry)
    sizes = [np.prod([int(n) for n in of.split(",") if n]) for of, name in copies if name in given]
    assert len(given) > 3 * len(parameters)  # with the moments
    assert sum(sizes) < 0.01 * sum(value.size for value in parameters.values())
