"""Pre-training, from a config to a finished run folder; read it from top to bottom."""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gptbert.runs.assemble_pretraining import (
    PretrainingAssembly,
    assemble_pretraining,
    checkpoint_steps,
    head_kind,
)
from gptbert.runs.finetune import schedule_of
from gptbert.runs.folder import RunFolder, leads, wait_for_all, write_json
from gptbert.runs.record import run_record
from gptbert.runs.saving import Saving, tell_lost
from gptbert.runtime import StopRequest, stop_on_sigterm
from gptbert.tasks.pretraining import further_metrics, held_out_metrics, shown_metrics
from gptbert.training.run_log import RunLog
from gptbert.training.sharding import parameter_count
from gptbert.training.state import TrainState
from gptbert.training.step import jit_measure
from gptbert.training.trainer import Cadence, CompiledSteps, Progress, train
from gptbert.weights.run_folder import write_description


def pretrain(config: ConfigDict, workdir: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Runs (or continues) what `config` says in `workdir`; returns the contents of results.json.

    Args:
      config: From `configs/`, resolved.
      workdir: The run folder; the same command again continues there.
      quiet: No progress.

    Raises:
      UserError: Bad input; a new run folder is made only after everything was read.
      RunFailed: The loss became NaN.
      Interrupted: SIGTERM; the state was saved.
    """
    with stop_on_sigterm() as stop:
        assembly = assemble_pretraining(config)
        folder = RunFolder(workdir)
        with folder.lock():
            folder.claim(
                json.loads(config.to_json_best_effort()), assembly.fingerprints, assembly.places
            )
            wait_for_all("the run folder is claimed")
            if not folder.results.exists():
                return run(assembly, folder, stop, quiet=quiet or not leads())
            if not quiet:
                print(f"{workdir} is already finished", file=sys.stderr)
            if leads():
                tell_lost(folder)
            return folder.read("results.json")


def run(
    assembly: PretrainingAssembly, folder: RunFolder, stop: StopRequest, *, quiet: bool
) -> dict[str, Any]:
    """Trains, scores and reports an assembled run."""
    config, plan, training = assembly.config, assembly.plan, assembly.training
    began = time.perf_counter()
    for note in [] if quiet else assembly.notes:
        print(f"note: {note}", file=sys.stderr)

    # Shapes and step.
    schedule = schedule_of(config, config.warmup_steps, plan.steps)
    shapes = state_shapes(assembly)
    steps = CompiledSteps(training, shapes, plan)
    scorer = HeldOutScorer(assembly, shapes.parameters)
    if leads():
        describe_run(assembly, folder)

    # Restore, or begin.
    saving = Saving(
        folder.checkpoints,
        shapes,
        assembly.layout,
        vocabulary=assembly.model.vocabulary,
        scan_layers=assembly.compute.scan_layers,
        keep=config.keep,
        began=began,
    )
    state, progress = saving.resume(lambda: start_state(assembly), plan.steps, quiet=quiet)

    # Loop.
    cadence = Cadence(
        _evaluation_steps(config),
        config.checkpoint_every,
        config.log_every,
        keep_at=checkpoint_steps(config),
    )
    log = RunLog(
        folder.path if leads() else None,
        start_step=int(state.step),
        total_steps=plan.steps,
        quiet=quiet,
    )
    with log:
        state = train(
            plan, state, schedule,
            seed=config.seed, cadence=cadence,
            evaluate=lambda state: scorer.metrics(state.parameters), metric="loss",
            save=saving.save, log=log, progress=progress, steps=steps,
            throughput=assembly.throughput, evaluated=scorer.told,
            further=functools.partial(further_metrics, tokens_per_byte=plan.tokens_per_byte),
            shown=shown_metrics(config.objective), stop=stop,
        )  # fmt: skip

    # Results.
    record = _results(assembly, progress, scorer) | {"products": steps.products}
    record["wall_clock_seconds"] = round(saving.wall_seconds(), 3)
    if leads():
        folder.write("results.json", record)
    wait_for_all("the run is finished")
    return record


def describe_run(assembly: PretrainingAssembly, folder: RunFolder) -> None:
    """Writes model.json, tokenizer/ and run.json."""
    objective = assembly.config.objective
    write_description(
        folder.path,
        assembly.model,
        (),
        "cls",
        assembly.tokenizer,
        f"pretraining/{objective}",
        head_kind(objective),
    )
    write_json(folder.path / "run.json", run_record())


def state_shapes(assembly: PretrainingAssembly) -> TrainState:
    """What `start_state` makes, as ShapeDtypeStructs: nothing is computed."""
    parameters = jax.eval_shape(assembly.initial_parameters)
    return jax.eval_shape(assembly.training.initial_state, parameters)


def start_state(assembly: PretrainingAssembly) -> TrainState:
    """The state before the first update, each array made on the devices that hold it."""
    parameters = assembly.initial_parameters()
    shapes = jax.eval_shape(assembly.training.initial_state, parameters)
    place = assembly.layout.tree(shapes)
    return jax.jit(assembly.training.initial_state, out_shardings=place, donate_argnums=0)(
        parameters
    )


class HeldOutScorer:
    """Loss and accuracies over the fixed held-out set; without one, no metrics."""

    def __init__(self, assembly: PretrainingAssembly, parameters: Any) -> None:
        self._assembly, self._held_out = assembly, assembly.held_out
        self._measure = jit_measure(assembly.training, parameters)

    @property
    def told(self) -> str:
        """What is scored, with its denominator, for messages."""
        if self._held_out is None:
            return "no held-out text"
        return f"held out ({self._held_out.predictions:,} predictions)"

    def metrics(self, parameters: Any) -> dict[str, float]:
        """Metrics over the whole held-out set; FloatingPointError if the loss is NaN."""
        if self._held_out is None:
            return {}
        layout, plan = self._assembly.layout, self._held_out.plan
        found = [
            self._measure(parameters, layout.global_batch(plan.batch(step, *layout.share)))
            for step in range(plan.steps)
        ]
        sums, counts = (
            {name: float(np.sum([float(pair[k][name]) for pair in found])) for name in found[0][k]}
            for k in (0, 1)
        )
        metrics = held_out_metrics(sums, counts, plan.tokens_per_byte)
        if not np.isfinite(metrics["loss"]):
            raise FloatingPointError("the loss over the held-out text is not finite")
        return metrics


def _evaluation_steps(config: ConfigDict) -> list[int]:
    every = config.eval_every or config.steps
    return sorted({*range(every, config.steps, every), config.steps})


def _results(
    assembly: PretrainingAssembly, progress: Progress, scorer: HeldOutScorer
) -> dict[str, Any]:
    config, held_out = assembly.config, assembly.held_out
    last, seconds = progress.evaluations[-1], max(progress.seconds, 1e-9)
    shapes = [batch.packed.tokens.shape for batch in assembly.plan.abstract_batches()]
    parameters = jax.eval_shape(assembly.initial_parameters)
    return {
        "task": f"pretraining/{config.objective}",
        "split": "heldout",
        "metrics": last["metrics"] if held_out else {},
        "checkpoint": {"step": last["step"], "epoch": last["epoch"], "which": "last"},
        "evaluations": progress.evaluations if held_out else [],
        "held_out": held_out.counts if held_out else None,
        "parameters": parameter_count(parameters, assembly.model.vocabulary),
        "notes": assembly.notes,
        "seed": config.seed,
        "steps": assembly.plan.steps,
        "epochs": assembly.plan.epoch(assembly.plan.steps),
        "shapes": [f"{rows} x {positions}" for rows, positions in shapes],
        "hyperparameters": json.loads(config.to_json_best_effort()),
        "train_seconds": round(progress.seconds, 3),
        "compile_seconds": round(progress.compile_seconds, 3),
        "tokens": progress.tokens,
        "tokens_per_second": progress.tokens / seconds,
        "tokens_per_second_with_padding": progress.padded_tokens / seconds,
        **run_record(),
        "started": progress.started,
    }
