"""The training step compiles for a Cloud TPU that is not there, by Google's own compiler.

`v2:2x2` is the Cloud TPU of the papers: 4 chips, 8 cores of 7.48 GiB. Only abstract values are
compiled; nothing runs. Skipped where libtpu (extra `tpu-compiler`) is not installed.
"""

import functools
import importlib.util
import os

import jax
import jax.numpy as jnp
import pytest

from gptbert.models.inputs import Packed
from gptbert.models.parameters import describe
from gptbert.models.presets import Compute, preset
from gptbert.pipeline.batch import Batch, ExampleTargets
from gptbert.tasks.classification import TextObjective
from gptbert.training.optimizer import make_optimizer
from gptbert.training.sharding import make_layout, pad_vocabulary
from gptbert.training.step import Training, jit_update
from tests.tiny import make

pytestmark = pytest.mark.tpu_compiler
GIB = 2**30
CORE = 7.48 * GIB


@pytest.fixture(scope="module")
def cloud_tpu():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (pip install 'gptbert[tpu-compiler]')")
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name="v2:2x2").devices


def compile_step(devices, model, rows, positions, *, sizes=(-1, 1, 1), remat=True, dropout=True):
    config, compute = preset(model), Compute("bfloat16", scan_layers=True, remat=remat)
    layout = make_layout(*sizes, devices=list(devices))
    graph, parameters = describe(functools.partial(make, config, compute, 2, "cls"))
    training = Training(
        graph, TextObjective(False), make_optimizer("bert_adam"), layout, (), dropout
    )
    state = jax.eval_shape(training.initial_state, pad_vocabulary(parameters, layout))
    ints = jax.ShapeDtypeStruct((rows, positions), jnp.int32)
    slots = jax.ShapeDtypeStruct((rows, 4), jnp.int32)
    weights = jax.ShapeDtypeStruct((rows, 4), jnp.float32)
    batch = Batch(Packed(ints, ints, ints, ints), ExampleTargets(slots, slots, weights))
    scalar, key = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.uint32)
    return jit_update(training, state).lower(state, batch, scalar, key).compile()


def test_bert_large_at_32_x_384_fits_a_core(cloud_tpu):
    compiled = compile_step(cloud_tpu, "bert-large", 32, 384)
    memory = compiled.memory_analysis()
    peak = memory.peak_memory_in_bytes
    # State alone: 335 million parameters and two moments in float32, replicated.
    assert 3 * 335e6 * 4 < peak < CORE
    assert memory.alias_size_in_bytes > 3 * 335e6 * 4  # the state is updated in place
    assert "all-reduce" in compiled.as_text()


def test_without_rematerialisation_it_does_not_fit(cloud_tpu):
    with pytest.raises(jax.errors.JaxRuntimeError, match="exceeds available HBM"):
        compile_step(cloud_tpu, "bert-large", 32, 384, remat=False)


def test_sharded_state_takes_an_eighth_of_the_memory(cloud_tpu):
    compiled = compile_step(cloud_tpu, "bert-base", 32, 128, sizes=(1, 4, 2))
    memory = compiled.memory_analysis()
    whole = 3 * 109.5e6 * 4
    assert memory.argument_size_in_bytes < whole / 6
    assert "all-gather" in compiled.as_text()
