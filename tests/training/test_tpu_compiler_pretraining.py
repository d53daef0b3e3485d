"""Pre-training steps compile for Cloud TPUs that are not there, from abstract values alone.

BERT-Large and GPT on the papers' v2 (8 cores of 7.48 GiB), GPT-2 1558M with its state split over
the 8 cores of a v3 (15.48 GiB). Each test prints the memory of a device (`pytest -s`).
"""

from __future__ import annotations

import functools
import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.models.parameters import describe
from gptbert.models.presets import Compute, preset
from gptbert.pipeline.instance_rows import abstract_masked_batch, abstract_next_token_batch
from gptbert.pipeline.packing import Shape
from gptbert.tasks.pretraining import objective_of
from gptbert.training.optimizer import make_optimizer
from gptbert.training.sharding import make_layout, pad_vocabulary
from gptbert.training.step import Training, jit_update
from gptbert.training.trainer import abstract_pieces
from tests.tiny_pretraining import make

pytestmark = pytest.mark.tpu_compiler
GIB = 2**30


def devices(topology: str) -> list[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (pip install 'gptbert[tpu-compiler]')")
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    return list(found.devices)


def compile_step(topology, model, batch, *, optimizer, sizes=(-1, 1, 1), pieces=1):
    """The update of a preset, compiled; bfloat16, scanned layers, rematerialised."""
    config = preset(model)
    objective = "mlm_nsp" if model.startswith("bert") else "next_token"
    compute = Compute("bfloat16", scan_layers=True, remat=True)
    layout = make_layout(*sizes, devices=devices(topology))
    graph, parameters = describe(functools.partial(make, config, objective, compute))
    training = Training(graph, objective_of(objective), make_optimizer(optimizer), layout)
    state = jax.eval_shape(training.initial_state, pad_vocabulary(parameters, layout))
    scalar, key = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.uint32)
    step = jit_update(training, state, pieces)
    compiled = step.lower(state, abstract_pieces(batch, pieces), scalar, key).compile()
    memory = compiled.memory_analysis()
    count = sum(int(np.prod(value.shape)) for value in parameters.values())
    print(
        f"\n{model} on {topology} {sizes}: {count:,} parameters, "
        f"{memory.peak_memory_in_bytes / GIB:.2f} GiB a device, of which "
        f"{memory.argument_size_in_bytes / GIB:.2f} GiB state and batch"
    )
    return compiled, memory, count


def test_bert_large_at_128_fits_a_v2_core():
    batch = abstract_masked_batch(Shape(64, 128, 1), 20)
    compiled, memory, count = compile_step("v2:2x2", "bert-large", batch, optimizer="bert_adam")
    assert count == 336_226_108
    assert 12 * count < memory.peak_memory_in_bytes < 7.48 * GIB
    assert "all-reduce" in compiled.as_text()


def test_gpt_at_512_fits_a_v2_core():
    batch = abstract_next_token_batch(64, 512)
    _, memory, count = compile_step("v2:2x2", "gpt", batch, optimizer="gpt_adam", pieces=2)
    assert count == 116_534_784
    assert 12 * count < memory.peak_memory_in_bytes < 7.48 * GIB


def test_gpt2_1558m_split_over_eight_cores():
    batch = abstract_next_token_batch(8, 1024)
    compiled, memory, count = compile_step(
        "v3:2x2", "gpt2-1558m", batch, optimizer="adamw", sizes=(1, 8, 1)
    )
    assert count == 1_557_611_200
    # Two of the eight parts divide its tables no further (50,257 rows), but the width does.
    assert memory.argument_size_in_bytes < 1.1 * 12 * count / 8
    assert memory.peak_memory_in_bytes < 15.48 * GIB
    assert "all-gather" in compiled.as_text()
