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
import json, sys, tempfile
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from gptbert.models.dropout import step_key
from gptbert.models.presets import Compute
from gptbert.runs import saving
from gptbert.training.sharding import make_layout
from gptbert.training.state import computed_form, saved_form
from gptbert.training.step import jit_update
from gptbert.training.trainer import Progress, in_pieces
from tests import tiny_pretraining as tiny

def shards(parameters):
    return {path: list(x.addressable_shards[0].data.shape) for path, x in parameters.items()}

def placed(jaxpr):
    # (shape, axes) of everything that is told where to live, in the inner programs too.
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "sharding_constraint":
            spec = equation.params["sharding"].spec
            found.add((str(equation.outvars[0].aval.shape), str(tuple(spec))))
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                found |= placed(inner) if hasattr(inner, "eqns") else set()
    return found

def restored(state, layout):
    # What is read from a checkpoint, before it is brought into the form it is computed with.
    into, saving.computed_form = saving.computed_form, lambda state, *a, **more: state
    with tempfile.TemporaryDirectory() as folder:
        own = saving.Saving(
            Path(folder), state, layout, vocabulary=101, scan_layers=False, keep=1)
        own.save(state, Progress(), set())
        found, _ = own.restore()
    saving.computed_form = into
    return found

def run(model, sizes, scan=False, pieces=1):
    count = int(np.prod(sizes))
    layout = make_layout(*sizes, devices=jax.devices()[:count])
    fixed, parameters = tiny.training(model, layout, Compute(scan_layers=scan))
    state = computed_form(
        saved_form(fixed.initial_state(parameters), 101), layout, scan_layers=scan)
    batch = in_pieces(tiny.batch(model), pieces)
    step = jit_update(fixed, state, pieces).trace(state, batch, np.float32(0), step_key(0, 0))
    activations = sorted(placed(step.jaxpr.jaxpr))
    step = step.lower().compile(compiler_options={"xla_backend_optimization_level": "0"})
    table = next(v for k, v in state.parameters.items() if k.endswith("word/table"))
    facts = {
        "activations": activations,
        "shards": shards(state.parameters),
        "moments": shards(state.optimizer_state[1].first),
        "table": list(table.addressable_shards[0].data.shape),
        "collectives": sum(step.as_text().count(f" {op}(") + step.as_text().count(f" {op}-start(")
            for op in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all"))}
    if list(sizes) == [2, 2, 2] and model == "BERT":
        found = restored(state, layout)
        facts["restored"] = [
            shards(found.parameters), shards(found.optimizer_state[1].second)]
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


# Over 2 x 2 x 2 devices: `tensor` splits words, heads and the inner width, `fsdp` the width of 60.
SHARDS = {
    "word/table": [51, 30],
    "position/table": [40, 30],
    "token_type/table": [2, 30],
    "attention/qkv_kernel": [30, 3, 2, 15],
    "attention/qkv_bias": [3, 2, 15],
    "attention/output_kernel": [2, 15, 30],
    "attention/output_bias": [60],
    "up/kernel": [30, 48],
    "up/bias": [48],
    "down/kernel": [48, 30],
    "down/bias": [60],
    "norm/scale": [60],
    "norm/bias": [60],
    "pooler/dense/kernel": [30, 60],
    "pooler/dense/bias": [60],
    "mlm/dense/kernel": [30, 60],
    "mlm/dense/bias": [60],
    "mlm/bias": [51],
    "nsp/kernel": [60, 2],
    "nsp/bias": [2],
}
ON_DISK = SHARDS | {"word/table": [101, 30], "mlm/bias": [101]}  # 101 words without rows of zeros


def check_shards(found, expected):
    for path, shape in found.items():
        (wanted,) = (value for ending, value in expected.items() if path.endswith(ending))
        assert shape == wanted, path


@pytest.mark.parametrize("model", list(tiny.MODELS))
def test_every_parameter_is_split_by_its_rule(runs, model):
    found = runs[f"{model}, all three axes"]
    assert found["moments"] == found["shards"]
    check_shards(found["shards"], SHARDS)


def test_a_restored_state_is_split_as_it_is_read(runs):
    parameters, moments = runs["BERT, all three axes"]["restored"]
    assert moments == parameters
    check_shards(parameters, ON_DISK)


@pytest.mark.parametrize("model", list(tiny.MODELS))
def test_every_kind_of_activation_is_split(runs, model):
    """16 rows of 32 tokens; without heads, inner or hidden each device would compute them all.

    BERT's last layer has the places that are read instead: of each row five masked ones and two
    [CLS].
    """
    rows = ("data", "fsdp")
    expected = {((102, 60), ("tensor", None))}
    for places in (32, 7) if model == "BERT" else (32,):
        expected |= {
            ((16, places, 60), (rows, None, None)),
            ((16, places, 4, 15), (rows, None, "tensor", None)),
            ((16, places, 96), (rows, None, "tensor")),
        }
    found = runs[f"{model}, all three axes"]["activations"]
    assert {(str(shape), str(axes)) for shape, axes in expected} == set(map(tuple, found))


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
