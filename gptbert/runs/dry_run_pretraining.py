"""`gptbert pretrain --dry_run`: what would run, without training anything."""

from __future__ import annotations

import jax
import numpy as np
from ml_collections import ConfigDict

from gptbert.pipeline.batch import Batch, MaskedTargets, real_tokens
from gptbert.pipeline.show import decode_instances
from gptbert.runs.assemble_pretraining import PretrainingAssembly, assemble_pretraining
from gptbert.runs.dry_run import assumed_rate, duration, memory_told
from gptbert.training.sharding import parameter_count
from gptbert.training.state import abstract
from gptbert.training.step import jit_update
from gptbert.training.trainer import abstract_pieces

_SHOWN = 3
_SAMPLE = 32  # batches by which fill and cost are judged


def describe_pretraining(config: ConfigDict) -> str:
    """Corpus, batches, steps, memory, estimated time, and a few examples decoded."""
    assembly = assemble_pretraining(config)
    notes = [f"note: {note}" for note in assembly.notes]
    sections = [_data(assembly), _cost(assembly), _text(assembly)]
    head = f"dry run of pretraining/{config.objective}: nothing is trained"
    return "\n".join([head, *notes, *sections])


def _data(assembly: PretrainingAssembly) -> str:
    plan, lines = assembly.plan, [""]
    for phase in plan.phases:
        shapes = ", ".join(
            f"{batch.packed.tokens.shape[0]} x {batch.packed.tokens.shape[1]}"
            for batch in phase.abstract_batches()
        )
        lines.append(
            f"{phase.steps:,} steps of {phase.batch_size:,} examples, "
            f"{phase.epoch(phase.steps):.3g} passes over the corpus; rows x tokens: {shapes}"
        )
    held_out = assembly.held_out
    if held_out is not None:
        lines.append(
            f"held out: {held_out.examples:,} examples, {held_out.predictions:,} predictions "
            "(the denominator of the loss)"
        )
    return "\n".join(lines)


def _cost(assembly: PretrainingAssembly) -> str:
    parameters = jax.eval_shape(assembly.initial_parameters)
    state = jax.eval_shape(assembly.training.initial_state, parameters)
    step = jit_update(assembly.training, state, assembly.plan.pieces)
    scalar, key = jax.ShapeDtypeStruct((), np.float32), jax.ShapeDtypeStruct((2,), np.uint32)
    largest = max(assembly.plan.abstract_batches(), key=lambda batch: batch.packed.tokens.size)
    batch = abstract_pieces(largest, assembly.plan.pieces)
    lowered = step.lower(abstract(state), batch, scalar, key)
    memory = assembly.training.products.compile(lowered).memory_analysis()
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    rate = assumed_rate(assembly.training.products)
    seconds, tokens, computed = _work(assembly, rate)
    return "\n".join(
        [
            f"parameters: {parameter_count(parameters, assembly.model.vocabulary):,}",
            memory_told("memory of the largest step", used),
            f"tokens: {tokens / 1e6:,.1f} million, fill {tokens / computed:.3f}",
            f"estimated time: about {duration(seconds)} on {jax.device_count()} x "
            f"{jax.devices()[0].device_kind}, assuming {rate / 1e9:,.0f} GFLOP/s "
            f"({assembly.training.products}); compiling, scoring and saving come on top",
        ]
    )


def _work(assembly: PretrainingAssembly, rate: float) -> tuple[float, float, float]:
    """Seconds, real and computed tokens of the whole run, judged by batches of each phase."""
    seconds = tokens = computed = 0.0
    for phase in assembly.plan.phases:
        batches = [phase.batch(k) for k in range(min(phase.steps, _SAMPLE))]
        share = phase.steps / len(batches)
        seconds += share * sum(map(assembly.throughput.flops, batches)) / rate
        tokens += share * sum(map(real_tokens, batches))
        computed += share * sum(batch.packed.tokens.size for batch in batches)
    return seconds, tokens, computed


def _text(assembly: PretrainingAssembly) -> str:
    lines = ["", "the first examples, decoded:"]
    batch = assembly.plan.batch(0)
    for row in range(min(_SHOWN, batch.packed.tokens.shape[0])):
        lines += [f"  {text}" for text in _decoded(assembly, batch, row)]
    return "\n".join(lines)


def _decoded(assembly: PretrainingAssembly, batch: Batch, row: int) -> list[str]:
    if isinstance(batch.targets, MaskedTargets):
        return decode_instances(batch, row, assembly.tokenizer)
    ids = batch.packed.tokens[row][batch.packed.segments[row] > 0]
    return [repr(assembly.tokenizer.decode(ids[:64].tolist())) + " …" * (len(ids) > 64)]
