"""One device or eight, whole or in pieces: the same losses and parameters, with dropout on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.models.presets import BertConfig, Compute
from gptbert.training.sharding import make_layout

LAYOUTS = {
    "data parallel": (8, 1, 1),
    "fully sharded": (1, 8, 1),
    "tensor parallel": (4, 1, 2),
    "all three": (2, 2, 2),
}

# Runs in a process of its own: the number of simulated devices is fixed when JAX starts.
PROGRAM = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from gptbert.models.dropout import step_key
from gptbert.models.presets import BertConfig, Compute
from gptbert.training.optimizer import global_norm
from gptbert.training.sharding import make_layout
from gptbert.training.state import computed_form, saved_form
from gptbert.training.step import jit_update
from gptbert.training.trainer import in_pieces
from tests import tiny

# 101 words over 2, 4 or 8 devices, a width of 60 over 8, 7 packed rows: sizes that do not divide.
CONFIG = BertConfig(layers=2, width=60, heads=4, inner=96, vocabulary=101, positions=77,
                    initial_stddev=0.1)
data = tiny.features(24)

COLLECTIVES = "all-reduce", "all-gather", "reduce-scatter", "all-to-all"

def count(text, op):
    return text.count(f" {op}(") + text.count(f" {op}-start(")

def norm(parameters):
    program = jax.jit(global_norm).lower(parameters).compile()
    return {
        "collectives": {op: count(program.as_text(), op) for op in COLLECTIVES},
        "found": float(program(parameters)),
        "expected": float(np.sqrt(sum(
            np.square(np.asarray(x, np.float64)).sum() for x in parameters.values()))),
    }

def run(sizes, scan=False, pieces=1):
    layout = make_layout(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
    fixed, parameters = tiny.training(
        config=CONFIG, layout=layout, classes=3,
        compute=Compute(scan_layers=scan, join_heads=layout.mesh.shape["tensor"] == 1))
    state = fixed.initial_state(parameters)
    state = computed_form(saved_form(state, CONFIG.vocabulary), layout, scan_layers=scan)
    step = jit_update(fixed, state, pieces)
    rows = tiny.packed(data).packed.tokens.shape[0]
    multiple = layout.row_multiple * pieces
    batch = in_pieces(tiny.packed(data, rows=-(-rows // multiple) * multiple), pieces)
    lowered = step.lower(state, batch, np.float32(0), step_key(0, 0))
    # Unoptimised machine code: compiled in half the time, partitioned all the same.
    step = lowered.compile(compiler_options={"xla_backend_optimization_level": "0"})
    text = step.as_text()
    table = state.parameters["bert/embeddings/word/table"]
    kernel = next(v for k, v in state.parameters.items() if k.endswith("up/kernel"))
    facts = {
        "rows": rows,
        "table": list(table.addressable_shards[0].data.shape),
        "kernel": list(kernel.addressable_shards[0].data.shape),
        "norm": norm(state.parameters),
        "collectives": sum(count(text, op) for op in COLLECTIVES),
        "constraints": str(jax.make_jaxpr(fixed.update)(
            state, batch, np.float32(0), step_key(0, 0))).count("sharding_constraint"),
    }
    losses = []
    for number in range(4):
        state, scalars = step(state, batch, np.float32(1e-3), step_key(0, number))
        losses.append(float(scalars["loss"]))
    whole = saved_form(state, CONFIG.vocabulary).parameters
    return losses, {k: np.asarray(v) for k, v in whole.items()}, facts

expected, reference, _ = run((1, 1, 1))
found = {}
for name, sizes, scan, pieces in json.loads(sys.argv[1]):
    losses, parameters, facts = run(sizes, scan, pieces)
    facts["losses"] = [losses, expected]
    assert parameters.keys() == reference.keys()
    facts["shapes"] = all(parameters[k].shape == reference[k].shape for k in reference)
    facts["worst"] = max(
        float(np.abs(parameters[k] - reference[k]).max() / np.abs(reference[k]).max())
        for k in reference)
    found[name] = facts
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def runs():
    """Every layout, in one process with eight simulated devices, against one device."""
    cases = [(name, sizes, False, 1) for name, sizes in LAYOUTS.items()]
    cases += [("scanned layers", (2, 2, 2), True, 1), ("pieces on eight", (4, 1, 2), False, 2)]
    cases += [("pieces on one", (1, 1, 1), False, 4)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(cases)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        cwd=root,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


ALL = [*LAYOUTS, "scanned layers", "pieces on eight", "pieces on one"]


@pytest.mark.parametrize("name", ALL)
def test_losses_and_parameters_are_those_of_one_device(runs, name):
    found = runs[name]
    np.testing.assert_allclose(*found["losses"], rtol=2e-5)
    # Adam divides by the root of tiny second moments: rounding of a gradient near 0 is magnified
    # in the update; measured against the largest entry of each parameter it stays small.
    assert found["worst"] < 1e-4 and found["shapes"]


def test_sizes_that_do_not_divide_follow_the_written_rules(runs):
    assert runs["data parallel"]["rows"] % 8 != 0  # rows were rounded up
    assert runs["tensor parallel"]["table"] == [51, 60]  # 101 words over 2: one row of zeros
    assert runs["fully sharded"]["kernel"] == [60, 96]  # a width of 60 over 8: whole
    assert runs["all three"]["kernel"] == [30, 48]


def test_constraints_and_collectives_are_in_the_compiled_program(runs):
    for name in LAYOUTS:
        assert runs[name]["constraints"] >= 10, name
        assert runs[name]["collectives"] > 0, name
    assert runs["pieces on one"]["constraints"] == 0


@pytest.mark.parametrize("name", ALL)
def test_the_norm_of_all_parameters_is_computed_where_they_lie(runs, name):
    norm = runs[name]["norm"]
    assert norm["found"] == pytest.approx(norm["expected"], rel=1e-6)
    # 8 does not divide the width: everything is whole there, as under data parallelism.
    whole = name in ("data parallel", "fully sharded", "pieces on one")
    assert (norm["collectives"].pop("all-reduce") == 0) == whole
    assert not any(norm["collectives"].values()), norm["collectives"]


def test_a_mesh_that_does_not_cover_the_devices_is_refused():
    with pytest.raises(UserError, match="does not cover"):
        make_layout(3, 1, 2, devices=jax.devices()[:1])


def test_heads_that_do_not_divide_are_refused_by_name():
    from gptbert.training.sharding import check_model

    class Mesh:
        shape = {"data": 1, "fsdp": 1, "tensor": 2}  # noqa: RUF012

    class Layout:
        mesh = Mesh()

    with pytest.raises(UserError, match=r"does not divide the model's heads \(5\)"):
        check_model(BertConfig(width=60, heads=5), Layout())


def test_frozen_parameters_do_not_move_and_have_no_moments():
    from gptbert.models.dropout import step_key
    from gptbert.training.step import jit_update
    from tests import tiny

    fixed, parameters = tiny.training(frozen=("embeddings", "layers/0/"), compute=Compute())
    before = {path: np.asarray(value) for path, value in parameters.items()}
    state = fixed.initial_state(parameters)
    frozen = {path for path in before if "embeddings" in path or "layers/0/" in path}
    moments = jax.tree_util.tree_leaves_with_path(state.optimizer_state)
    assert not [keys for keys, _ in moments if any(str(k) in str(keys) for k in frozen)]
    step = jit_update(fixed, state)
    state, _ = step(state, tiny.packed(tiny.features()), np.float32(1e-2), step_key(0, 0))
    for path, value in state.parameters.items():
        assert (np.asarray(value) == before[path]).all() == (path in frozen), path
