"""`--dry_run`: what would run, without training anything."""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gptbert.pipeline.batch import Batch, real_tokens
from gptbert.pipeline.plan import TrainingPlan
from gptbert.runs.assemble import Assembly, assemble
from gptbert.runs.backbone import decode_for
from gptbert.runs.finetune import plan_run
from gptbert.runtime import memory_limit
from gptbert.training.products import Products
from gptbert.training.sharding import parameter_count
from gptbert.training.state import abstract
from gptbert.training.step import jit_update
from gptbert.training.trainer import abstract_pieces
from gptbert.training.vocabulary import take_rows, used_ids

# Sustained matrix-product FLOP/s assumed for the time estimate, by the device's name: roughly those
# of two cores of a server CPU; 40% of the published bfloat16 peak elsewhere.
_ASSUMED_FLOPS = {
    "cpu": 150e9,
    "cpu oneDNN, bfloat16": 250e9,
    "TPU v2": 9e12,
    "TPU v3": 24e12,
    "TPU v4": 110e12,
    "TPU v5 lite": 79e12,
    "TPU v5": 184e12,
    "TPU v6 lite": 367e12,
}
_ASSUMED_OTHERWISE = 100e12


def describe_run(config: ConfigDict) -> str:
    """Examples, lengths, packing, shapes, steps, memory, estimated time, and one batch as text."""
    assembly = assemble(config)
    plan = plan_run(assembly, [config.seed])[0]
    sections = [
        _data(assembly),
        _packing(assembly, plan),
        _cost(assembly, plan),
        _text(assembly, plan),
    ]
    notes = [f"note: {note}" for note in assembly.told]
    return "\n".join([f"dry run of {config.task}: nothing is trained", *notes, *sections])


def _data(assembly: Assembly) -> str:
    lines = ["", "split                examples  truncated  tokens: mean  p95  longest"]
    for name, each in assembly.features.items():
        lengths = each.lengths
        lines.append(
            f"{name:<20} {len(each):>8}  {int(each.truncated.sum()):>9}  {lengths.mean():>12.1f}"
            f"  {np.percentile(lengths, 95):>3.0f}  {lengths.max():>7}"
        )
    classes = ", ".join(assembly.classes) or "one score"
    return "\n".join([*lines, f"classes: {classes}"])


def _packing(assembly: Assembly, plan: TrainingPlan) -> str:
    batches = [plan.batch(step) for step in range(min(plan.steps, 64))]
    real = sum(map(real_tokens, batches))
    computed = sum(batch.packed.tokens.size for batch in batches)
    sequences = assembly.features["train"].sequences  # two where a GPT reads pairs both ways
    padded = len(batches) * plan.batch_size * sequences * assembly.config.max_length
    shapes = ", ".join(map(str, plan.shapes))
    return "\n".join(
        [
            "",
            f"steps: {plan.steps} of {plan.batch_size} examples"
            + (f" in {plan.pieces} pieces" if plan.pieces > 1 else ""),
            f"rows x tokens: {shapes}",
            f"fill: {real / computed:.3f} of the computed tokens are real "
            f"(first {len(batches)} batches; padding to max_length: "
            f"{real / padded:.3f})",
        ]
    )


def _cost(assembly: Assembly, plan: TrainingPlan) -> str:
    parameters = jax.eval_shape(lambda: assembly.initial_parameters(0))
    state = jax.eval_shape(assembly.training.initial_state, parameters)
    if assembly.leans:
        used = used_ids(assembly.features["train"])
        state = jax.eval_shape(lambda state: take_rows(state, used), state)
    step = jit_update(assembly.training, state, plan.pieces)
    scalar = jax.ShapeDtypeStruct((), np.float32)
    key = jax.ShapeDtypeStruct((2,), np.uint32)
    batch = abstract_pieces(plan.abstract_batches()[-1], plan.pieces)
    compiled = assembly.training.products.compile(step.lower(abstract(state), batch, scalar, key))
    memory = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    device, rate = jax.devices()[0], assumed_rate(assembly.training.products)
    flops = sum(
        assembly.costs.row(s.positions) * s.rows for s in [_used(plan, k) for k in _sample(plan)]
    )
    seconds = flops / len(_sample(plan)) * plan.steps / rate
    count = parameter_count(parameters, assembly.model.vocabulary)
    return "\n".join(
        [
            f"parameters: {count:,}",
            memory_told("memory of a step", used),
            f"estimated time: about {duration(seconds)} of training on {jax.device_count()} x "
            f"{device.device_kind}, assuming {rate / 1e9:,.0f} GFLOP/s "
            f"({assembly.training.products}); compiling {len(plan.shapes)} shape(s), scoring and "
            "saving come on top",
        ]
    )


def memory_told(what: str, used: int) -> str:
    """So many bytes of state and temporaries on each device, and whether there are so many."""
    told = f"{what}: {used / 2**20:,.0f} MiB a device (state and temporaries)"
    there = _device_memory()
    if there is None or used <= there:
        return told
    return (
        f"{told}, MORE than the {there / 2**20:,.0f} MiB there are: --config.accumulate, "
        "--config.remat=true or a smaller --config.batch_size"
    )


def _device_memory() -> int | None:
    """Bytes of a device, where that is known; on CPU the devices share the machine's."""
    if jax.default_backend() == "cpu":
        return memory_limit() // jax.local_device_count() if sys.platform == "linux" else None
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def _sample(plan: TrainingPlan) -> range:
    return range(min(plan.steps, 64))


def _used(plan: TrainingPlan, step: int) -> Any:
    rows = plan.batch(step).packed.tokens.shape[0]
    return next(shape for shape in plan.shapes if shape.rows == rows)


def assumed_rate(products: Products) -> float:
    """FLOP/s that all devices together are assumed to sustain."""
    kind = jax.devices()[0].device_kind
    otherwise = _ASSUMED_FLOPS.get(kind, _ASSUMED_OTHERWISE)
    return _ASSUMED_FLOPS.get(f"{kind} {products}", otherwise) * jax.device_count()


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _text(assembly: Assembly, plan: TrainingPlan) -> str:
    """The first batch, decoded."""
    batch = plan.batch(0)
    lines = ["", "the first batch, decoded (| separates the examples of a row):"]
    for row in range(batch.packed.tokens.shape[0]):
        lines.append(f"  row {row}: " + (" | ".join(_row_texts(assembly, batch, row)) or "(empty)"))
    return "\n".join(lines)


def _row_texts(assembly: Assembly, batch: Batch, row: int) -> list[str]:
    texts = []
    for slot in np.flatnonzero(batch.targets.weights[row]):
        places = np.ravel(batch.targets.starts[row, slot])  # two where a GPT reads both orders
        own = np.isin(batch.packed.segments[row], batch.packed.segments[row, places])
        ids = batch.packed.tokens[row, own]
        if assembly.leans:
            ids = used_ids(assembly.features["train"])[ids]
        label = batch.targets.labels[row, slot]
        name = assembly.classes[int(label)] if assembly.classes else f"{float(label):g}"
        text = decode_for(assembly.model, ids.tolist(), assembly.tokenizer)
        texts.append(f"{text} -> {name}")
    return texts
