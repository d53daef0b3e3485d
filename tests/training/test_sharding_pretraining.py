"""The three models on eight simulated devices: the losses and parameters of one, with dropout."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from gptbert.models.dropout import step_key
from gptbert.training.step import jit_measure, sum_of_terms
from tests import tiny_pretraining as tiny

CASES = [(f"{model}, all three axes", model, (2, 2, 2), False, 1) for model in tiny.MODELS]
CASES += [("GPT, fully sharded", "GPT", (1, 8, 1), False, 1)]
CASES += [("GPT-2, scanned, in pieces", "GPT-2", (2, 1, 2), True, 2)]

# Runs in a process of its own: the number of simulated devices is fixed when JAX starts.
PROGRAM = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from gptbert.models.dropout import step_key
from gptbert.models.presets import Compute
from gptbert.training.sharding import make_layout
from gptbert.training.state import computed_form, saved_form
from gptbert.training.step import jit_update
from gptbert.training.trainer import in_pieces
from tests import tiny_pretraining as tiny

def run(model, sizes, scan=False, pieces=1):
    count = int(np.prod(sizes))
    layout = make_layout(*sizes, devices=jax.devices()[:count])
    fixed, parameters = tiny.training(model, layout, Compute(scan_layers=scan))
    state = computed_form(
        saved_form(fixed.initial_state(parameters), 101), layout, scan_layers=scan)
    batch = in_pieces(tiny.batch(model), pieces)
    step = jit_update(fixed, state, pieces).lower(state, batch, np.float32(0), step_key(0, 0))
    step = step.compile(compiler_options={"xla_backend_optimization_level": "0"})
    table = next(v for k, v in state.parameters.items() if k.endswith("word/table"))
    facts = {
        "table": list(table.addressable_shards[0].data.shape),
        "collectives": sum(step.as_text().count(f" {op}(") + step.as_text().count(f" {op}-start(")
            for op in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all"))}
    losses = []
    for number in range(3):
        state, scalars = step(state, batch, np.float32(1e-3), step_key(0, number))
        losses.append([float(scalars[name]) for name in sorted(scalars) if "loss" in name])
    whole = saved_form(state, 101).parameters
    return losses, {k: np.asarray(v) for k, v in whole.items()}, facts

expected, found = {}, {}
for name, model, sizes, scan, pieces in json.loads(sys.argv[1]):
    if model not in expected:
        expected[model] = run(model, (1, 1, 1))
    losses, parameters, facts = run(model, sizes, scan, pieces)
    facts["losses"] = [losses, expected[model][0]]
    reference = expected[model][1]
    assert parameters.keys() == reference.keys()
    facts["worst"] = max(
        float(np.abs(parameters[k] - reference[k]).max() / np.abs(reference[k]).max())
        for k in reference)
    facts["shapes"] = all(parameters[k].shape == reference[k].shape for k in reference)
    found[name] = facts
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def runs():
    """Every case, in one process with eight simulated devices, against one device."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(CASES)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        cwd=root,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", [name for name, *_ in CASES])
def test_losses_and_parameters_are_those_of_one_device(runs, case):
    found = runs[case]
    np.testing.assert_allclose(*found["losses"], rtol=2e-5)
    assert found["worst"] < 1e-4 and found["shapes"]
    assert found["collectives"] > 0


def test_tables_are_split(runs):
    assert runs["BERT, all three axes"]["table"] == [51, 30]  # 101 words over 2: one row of zeros
    assert runs["GPT, fully sharded"]["table"] == [101, 60]  # neither size divides by 8: whole


@pytest.mark.parametrize("name", list(tiny.MODELS))
def test_measuring_is_the_loss_without_dropout(name):
    fixed, parameters = tiny.training(name)
    sums, counts = jit_measure(fixed, parameters)(parameters, tiny.batch(name))
    assert sums.keys() == counts.keys() >= set(fixed.objective.terms)
    without = dataclasses.replace(fixed, dropout=False)
    state = without.initial_state(parameters)
    _, scalars = jax.jit(without.update)(state, tiny.batch(name), np.float32(0), step_key(0, 0))
    for key in sums:
        np.testing.assert_allclose(sums[key] / counts[key], scalars[key], rtol=1e-5)
    means = {key: sums[key] / counts[key] for key in sums}
    np.testing.assert_allclose(sum_of_terms(fixed.objective, means), scalars["loss"], rtol=1e-5)
