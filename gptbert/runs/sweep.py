"""The paper's selection: a grid of batch sizes, learning rates and seeds, the best on dev.

Every run is a run folder of its own below the sweep's, so that a killed sweep continues where it
was. Runs of one batch size share data, tokenizer, weights and compiled steps: learning rate and
dropout key are inputs of the step, and the shapes are chosen for all seeds together.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from gptbert.errors import RunFailed, UserError
from gptbert.metrics.summary import summarise
from gptbert.runs.assemble import Assembly, assemble, check_numbers
from gptbert.runs.finetune import lean_vocabulary, plan_run, run, scorer_of, start_state
from gptbert.runs.folder import RunFolder
from gptbert.runtime import StopRequest, stop_on_sigterm
from gptbert.training.trainer import CompiledSteps

PAPER_RATES = (5e-5, 4e-5, 3e-5, 2e-5)  # section 4.1
RULE = (
    "best = the learning rate and batch size with the highest mean of the first dev metric over "
    "its seeds; the run named is its best seed; collapsed runs count like any other, and a cell "
    "with a run that failed (a loss that is no number) is chosen only if every cell has one"
)
FAILED = "failed.json"  # in the folder of a run that failed: it would fail again


def sweep(
    config: ConfigDict,
    workdir: Path,
    *,
    batch_sizes: Sequence[int],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    quiet: bool = False,
) -> dict[str, Any]:
    """Runs what is missing of a grid; returns (and writes) `sweep.json`.

    Raises:
      As `finetune`; what cannot work for any run of the grid is refused before the first one.
      RunFailed: Every run of the grid failed; a single one is noted and the sweep goes on.
    """
    cells = itertools.product(batch_sizes, learning_rates, seeds)
    configs = {cell: _with(config, *cell) for cell in cells}
    for each in configs.values():
        check_numbers(each)
    with stop_on_sigterm() as stop:
        assembly = assemble(next(iter(configs.values())))
        folder = RunFolder(workdir)
        if (workdir / "config.json").exists():
            raise UserError(f"--workdir={workdir} holds a run; expected a folder of its own")
        with folder.lock(holds=("sweep.json", "bs*_lr*_seed*")):
            records = []
            for batch_size in batch_sizes:
                own = {cell: c for cell, c in configs.items() if cell[0] == batch_size}
                records += _runs_of(assembly, own, folder, stop, quiet)
            summary = summarise_runs(records)
            folder.write("sweep.json", summary)
    return summary


def _runs_of(
    assembly: Assembly,
    configs: Mapping[tuple[int, float, int], ConfigDict],
    folder: RunFolder,
    stop: StopRequest,
    quiet: bool,
) -> list[dict[str, Any]]:
    """All runs of one batch size; they share everything but rate and seed."""
    assembly = dataclasses.replace(assembly, config=next(iter(configs.values())))
    seeds = dict.fromkeys(seed for _, _, seed in configs)
    plans = dict(zip(seeds, plan_run(assembly, list(seeds)), strict=True))
    steps: CompiledSteps | None = None
    scorer = None
    records = []
    for (batch_size, rate, seed), config in configs.items():
        own = RunFolder(folder.path / f"bs{batch_size}_lr{_short(rate)}_seed{seed}")
        each = dataclasses.replace(assembly, config=config)
        with own.lock():
            own.claim(json.loads(each.config.to_json_best_effort()), each.fingerprints)
            failed = own.path / FAILED
            if not own.results.exists() and not failed.exists():
                if steps is None:
                    whole = start_state(each)
                    lean = lean_vocabulary(each, whole, lambda step: 0.0)
                    state = lean.compact(whole) if lean else whole
                    steps = CompiledSteps(assembly.training, state, plans[seed])
                    scorer = scorer_of(each, whole.parameters)
                try:
                    run(each, own, stop, quiet=quiet, plan=plans[seed], steps=steps, scorer=scorer)
                except RunFailed as error:
                    own.write(FAILED, {"task": each.task.name, "failed": str(error)})
            result = own.read(FAILED if failed.exists() else "results.json")
        records.append(_record(result, own.path.name, batch_size, rate, seed))
        if not quiet:
            print(f"{own.path.name}: {_told(result)}", file=sys.stderr, flush=True)
    jax.clear_caches()
    return records


def _short(rate: float) -> str:
    """A rate in a folder's name: `5e-05`, and all digits where six do not tell it."""
    return f"{rate:g}" if float(f"{rate:g}") == rate else repr(rate)


def _with(config: ConfigDict, batch_size: int, rate: float, seed: int) -> ConfigDict:
    config = ConfigDict(config)
    config.batch_size, config.learning_rate, config.seed = batch_size, rate, seed
    return config


def _record(
    result: dict[str, Any], name: str, batch_size: int, rate: float, seed: int
) -> dict[str, Any]:
    record = {"run": name, "batch_size": batch_size, "learning_rate": rate, "seed": seed}
    kept = ("failed",) if "failed" in result else ("metrics", "collapsed", "task", "split")
    return record | {field: result[field] for field in kept}


def _told(result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    return ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items())


def summarise_runs(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard deviation and median of each cell, and the selection with its rule."""
    finished = [r for r in records if "failed" not in r]
    if not finished:
        raise RunFailed(f"every run of the sweep failed; {records[0]['run']}: {_told(records[0])}")
    metric = next(iter(finished[0]["metrics"]))
    cells = []
    for batch_size, rate in sorted({_cell(r) for r in records}):
        runs = [r for r in finished if _cell(r) == (batch_size, rate)]
        spread = {
            name: dataclasses.asdict(summarise([r["metrics"][name] for r in runs]))
            for name in (runs[0]["metrics"] if runs else ())
        }
        cells.append(
            {
                "batch_size": batch_size,
                "learning_rate": rate,
                "runs": len(runs),
                "failed": sum(_cell(r) == (batch_size, rate) for r in records) - len(runs),
                "collapsed": sum(r["collapsed"] for r in runs),
                "metrics": spread,
            }
        )
    best = max(
        (cell for cell in cells if cell["runs"]),
        key=lambda cell: (not cell["failed"], cell["metrics"][metric]["mean"]),
    )
    chosen = max(
        (r for r in finished if _cell(r) == (best["batch_size"], best["learning_rate"])),
        key=lambda r: r["metrics"][metric],
    )
    return {
        "task": finished[0]["task"],
        "split": finished[0]["split"],
        "metric": metric,
        "rule": RULE,
        "best": {k: best[k] for k in ("batch_size", "learning_rate")},
        "best_run": chosen["run"],
        "cells": cells,
        "runs": records,
    }


def _cell(record: dict[str, Any]) -> tuple[int, float]:
    return record["batch_size"], record["learning_rate"]
