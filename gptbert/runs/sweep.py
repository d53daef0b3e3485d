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

from gptbert.metrics.summary import summarise
from gptbert.runs.assemble import Assembly, assemble, check_numbers
from gptbert.runs.finetune import lean_vocabulary, plan_run, run, scorer_of, start_state
from gptbert.runs.folder import RunFolder
from gptbert.runtime import StopRequest, stop_on_sigterm
from gptbert.training.trainer import CompiledSteps

PAPER_RATES = (5e-5, 4e-5, 3e-5, 2e-5)  # section 4.1
RULE = (
    "best = the learning rate and batch size with the highest mean of the first dev metric over "
    "its seeds; the run named is its best seed; collapsed runs count like any other"
)


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
    """
    cells = itertools.product(batch_sizes, learning_rates, seeds)
    configs = {cell: _with(config, *cell) for cell in cells}
    for each in configs.values():
        check_numbers(each)
    with stop_on_sigterm() as stop:
        assembly = assemble(next(iter(configs.values())))
        folder = RunFolder(workdir)
        with folder.lock():
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
        own = RunFolder(folder.path / f"bs{batch_size}_lr{rate:g}_seed{seed}")
        each = dataclasses.replace(assembly, config=config)
        with own.lock():
            own.claim(json.loads(each.config.to_json_best_effort()), each.fingerprints)
            if not own.results.exists():
                if steps is None:
                    whole = start_state(each)
                    lean = lean_vocabulary(each, whole, lambda step: 0.0)
                    state = lean.compact(whole) if lean else whole
                    steps = CompiledSteps(assembly.training, state, plans[seed])
                    scorer = scorer_of(each, whole.parameters)
                run(each, own, stop, quiet=quiet, plan=plans[seed], steps=steps, scorer=scorer)
            result = own.read("results.json")
        records.append(_record(result, own.path.name, batch_size, rate, seed))
        if not quiet:
            told = ", ".join(f"{k} {v:.4f}" for k, v in result["metrics"].items())
            print(f"{own.path.name}: {told}", file=sys.stderr, flush=True)
    jax.clear_caches()
    return records


def _with(config: ConfigDict, batch_size: int, rate: float, seed: int) -> ConfigDict:
    config = ConfigDict(config)
    config.batch_size, config.learning_rate, config.seed = batch_size, rate, seed
    return config


def _record(
    result: dict[str, Any], name: str, batch_size: int, rate: float, seed: int
) -> dict[str, Any]:
    return {
        "run": name,
        "batch_size": batch_size,
        "learning_rate": rate,
        "seed": seed,
        "metrics": result["metrics"],
        "collapsed": result["collapsed"],
        "task": result["task"],
        "split": result["split"],
    }


def summarise_runs(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard deviation and median of each cell, and the selection with its rule."""
    metric = next(iter(records[0]["metrics"]))
    cells = []
    for batch_size, rate in sorted({(r["batch_size"], r["learning_rate"]) for r in records}):
        runs = [r for r in records if (r["batch_size"], r["learning_rate"]) == (batch_size, rate)]
        spread = {
            name: dataclasses.asdict(summarise([r["metrics"][name] for r in runs]))
            for name in records[0]["metrics"]
        }
        collapsed = sum(r["collapsed"] for r in runs)
        cells.append(
            {
                "batch_size": batch_size,
                "learning_rate": rate,
                "runs": len(runs),
                "collapsed": collapsed,
                "metrics": spread,
            }
        )
    best = max(cells, key=lambda cell: cell["metrics"][metric]["mean"])
    chosen = max(
        (
            r
            for r in records
            if r["batch_size"] == best["batch_size"] and r["learning_rate"] == best["learning_rate"]
        ),
        key=lambda r: r["metrics"][metric],
    )
    return {
        "task": records[0]["task"],
        "split": records[0]["split"],
        "metric": metric,
        "rule": RULE,
        "best": {k: best[k] for k in ("batch_size", "learning_rate")},
        "best_run": chosen["run"],
        "cells": cells,
        "runs": records,
    }
