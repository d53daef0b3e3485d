"""Fine-tuning, from a config to a finished run folder; read it from top to bottom."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gptbert.datasets import Dataset
from gptbert.datasets.submission import write_submission
from gptbert.errors import Interrupted
from gptbert.metrics.glue import confusion_matrix, is_constant, majority_baseline
from gptbert.pipeline.plan import TrainingPlan, run_shapes, total_steps
from gptbert.runs.assemble import Assembly, assemble
from gptbert.runs.folder import RunFolder, write_json
from gptbert.runs.output import json_line, make_folder, whole_file
from gptbert.runs.record import run_record
from gptbert.runs.saving import Saving, tell_lost
from gptbert.runs.scoring import Scorer
from gptbert.runtime import StopRequest, stop_on_sigterm
from gptbert.tasks.classification import predictions, probabilities
from gptbert.training.run_log import RunLog
from gptbert.training.schedules import Schedule, make_schedule, with_bias_correction
from gptbert.training.state import TrainState
from gptbert.training.trainer import Cadence, CompiledSteps, Progress, train
from gptbert.training.vocabulary import WORD_TABLE, UsedVocabulary, renumbered, used_ids
from gptbert.weights.run_folder import write_description

SHOWN_WRONG, SHOWN_RIGHT = 12, 12  # predictions that results.json carries for the report
MOST_CONFUSED = 200  # classes of a confusion matrix; more would be megabytes that nobody reads


def finetune(
    config: ConfigDict, workdir: Path, *, quiet: bool = False, score_before: bool = False
) -> dict[str, Any]:
    """Runs (or continues) what `config` says in `workdir`; returns the contents of results.json.

    Args:
      config: From `configs/`, resolved.
      workdir: The run folder; the same command again continues there.
      quiet: No progress.
      score_before: Score the dev set before training too, for a before-and-after table.

    Raises:
      UserError: Bad input; a new run folder is made only after everything was read.
      RunFailed: The loss became NaN.
      Interrupted: SIGTERM; the state was saved.
    """
    with stop_on_sigterm() as stop:
        assembly = assemble(config)
        folder = RunFolder(workdir)
        with folder.lock():
            folder.claim(json.loads(config.to_json_best_effort()), assembly.fingerprints)
            if not folder.results.exists():
                return run(assembly, folder, stop, quiet=quiet, score_before=score_before)
            if not quiet:
                print(f"{workdir} is already finished", file=sys.stderr)
            tell_lost(folder)
            return folder.read("results.json")


def plan_run(assembly: Assembly, seeds: list[int]) -> list[TrainingPlan]:
    """Plans of runs that share their shapes, one a seed."""
    config, features = assembly.config, assembly.features["train"]
    if assembly.leans:
        features = renumbered(features, used_ids(features))
    steps = total_steps(len(features), config.batch_size, config.num_epochs)
    shapes = run_shapes(
        features,
        batch_size=config.batch_size,
        steps=steps,
        seeds=seeds,
        costs=assembly.costs,
        row_multiple=assembly.layout.row_multiple * config.accumulate,
        row_length=config.row_length,
    )
    return [
        TrainingPlan(features, config.batch_size, steps, seed, shapes, config.accumulate)
        for seed in seeds
    ]


def run(
    assembly: Assembly,
    folder: RunFolder,
    stop: StopRequest,
    *,
    quiet: bool,
    score_before: bool = False,
    plan: TrainingPlan | None = None,
    steps: CompiledSteps | None = None,
    scorer: Scorer | None = None,
) -> dict[str, Any]:
    """Trains, scores and reports an assembled run; a sweep passes what its runs share."""
    config, training, task = assembly.config, assembly.training, assembly.task
    began = time.perf_counter()
    split = next(iter(task.evaluation))
    notes = assembly.told
    for note in [] if quiet else notes:
        print(f"note: {note}", file=sys.stderr)

    # Plan and state.
    plan = plan or plan_run(assembly, [config.seed])[0]
    schedule = schedule_of(config, warmup_of(config, plan.steps), plan.steps)
    whole = start_state(assembly)
    lean = lean_vocabulary(assembly, whole, schedule)
    steps = steps or CompiledSteps(training, lean.compact(whole) if lean else whole, plan)
    scorer = scorer or scorer_of(assembly, whole.parameters)
    write_description(
        folder.path, assembly.model, assembly.classes, config.pooling, assembly.tokenizer, task.name
    )
    write_json(folder.path / "run.json", run_record())

    # Restore.
    saving = Saving(
        folder.checkpoints,
        whole,
        assembly.layout,
        vocabulary=assembly.model.vocabulary,
        scan_layers=assembly.compute.scan_layers,
        keep=config.keep,
        began=began,
    )
    whole, progress = saving.resume(lambda: whole, plan.steps, quiet=quiet)
    fresh = int(whole.step) == 0

    # Loop. The state that is trained may be lean; scored and saved is always the whole one.
    def whole_of(state: TrainState) -> TrainState:
        return lean.expand(state) if lean else state

    newest: dict[int, np.ndarray] = {}  # what the last evaluation gave, by its step

    def evaluate(state: TrainState) -> dict[str, float]:
        outputs = scorer.outputs(whole_of(state).parameters, split)
        newest.clear()
        newest[int(state.step)] = outputs
        return scorer.metrics_of(outputs, split, task.metrics, regression=task.is_regression)

    def save(state: TrainState, progress: Progress, keep_also: set[int]) -> None:
        saving.save(whole_of(state), progress, keep_also)

    state = lean.compact(whole) if lean else whole
    before = evaluate(state) if score_before and fresh else None
    cadence = Cadence(
        _evaluation_steps(config, plan),
        config.checkpoint_every,
        config.log_every,
        config.early_stopping,
    )
    with RunLog(
        folder.path, start_step=int(state.step), total_steps=plan.steps, quiet=quiet
    ) as log:
        state = train(
            plan, state, schedule,
            seed=config.seed, cadence=cadence, evaluate=evaluate, metric=task.metrics[0],
            save=save, log=log, progress=progress, steps=steps, evaluated=split, stop=stop,
        )  # fmt: skip

    # Results, from the checkpoint that the config names.
    best = progress.best(task.metrics[0])
    assert best is not None
    chosen = best if config.select == "best" or config.early_stopping else progress.evaluations[-1]
    if chosen is not progress.evaluations[-1]:
        chosen = _best_left(progress, task.metrics[0], saving.good_steps(), notes)
    parameters = whole_of(state).parameters
    if chosen is not progress.evaluations[-1]:
        found = saving.restore(chosen["step"])
        assert found is not None
        parameters = found[0].parameters
    record = _results(assembly, plan, progress, chosen, best)
    record |= {"notes": notes, "products": steps.products}
    if before is not None:
        record["before"] = before
    outputs = {split: newest[chosen["step"]]} if chosen["step"] in newest else {}
    record |= _score_all(assembly, scorer, parameters, outputs, folder, stop)
    record["wall_clock_seconds"] = round(saving.wall_seconds(), 3)
    folder.write("results.json", record)
    return record


def _best_left(
    progress: Progress, metric: str, good: list[int], notes: list[str]
) -> dict[str, Any]:
    """The best evaluation whose checkpoint is whole; a word in `notes` if it is not the best."""
    last, best = progress.evaluations[-1], progress.best(metric)
    left = [each for each in progress.evaluations if each["step"] in good or each is last]
    chosen = dataclasses.replace(progress, evaluations=left).best(metric)
    assert best is not None and chosen is not None
    if chosen is not best:
        notes.append(
            f"the best checkpoint (step {best['step']}) is damaged or gone; the figures are those "
            f"of the best one left, step {chosen['step']}"
        )
        print(f"note: {notes[-1]}", file=sys.stderr)
    return chosen


def schedule_of(config: ConfigDict, warmup_steps: float, total_steps: int) -> Schedule:
    """The rate of each update, with the bias correction that `gpt_adam` keeps there."""
    schedule = make_schedule(
        config.schedule,
        config.learning_rate,
        warmup_steps,
        total_steps,
        final=config.get("final_rate", 0.0),
    )
    if config.optimizer != "gpt_adam":
        return schedule
    return with_bias_correction(schedule, b2=config.get("b2", 0.999))


def warmup_of(config: ConfigDict, steps: int) -> float:
    """Of a run of so many steps: whole ones, but for GPT's schedules, whose code has a share."""
    proportion = steps * config.warmup_proportion
    return proportion if config.schedule.startswith("gpt_") else int(proportion)


def start_state(assembly: Assembly) -> TrainState:
    """The state before the first update: loaded parameters, new heads of the config's seed."""
    parameters = assembly.initial_parameters(assembly.config.seed)
    shapes = jax.eval_shape(assembly.training.initial_state, parameters)
    place = assembly.layout.tree(shapes)
    return jax.jit(assembly.training.initial_state, out_shardings=place)(parameters)


def lean_vocabulary(
    assembly: Assembly, whole: TrainState, schedule: Callable[[int], float]
) -> UsedVocabulary | None:
    """What trains only the rows that the data uses; None where it would not pay."""
    if not assembly.leans:
        return None
    trained = assembly.training.is_trained(WORD_TABLE, whole.parameters[WORD_TABLE])
    decay = assembly.config.weight_decay if trained else 0.0
    used = used_ids(assembly.features["train"])
    return UsedVocabulary(used, jnp.copy(whole.parameters[WORD_TABLE]), decay, schedule)


def scorer_of(assembly: Assembly, parameters: Any) -> Scorer:
    """Scores every split but the training data."""
    features = {name: each for name, each in assembly.features.items() if name != "train"}
    return Scorer(assembly.training, parameters, features, assembly.task.outputs)


def _evaluation_steps(config: ConfigDict, plan: TrainingPlan) -> list[int]:
    if not config.eval_every:
        return plan.epoch_ends()
    return sorted({*range(config.eval_every, plan.steps, config.eval_every), plan.steps})


def _results(
    assembly: Assembly,
    plan: TrainingPlan,
    progress: Progress,
    chosen: dict[str, Any],
    best: dict[str, Any],
) -> dict[str, Any]:
    """The part of results.json that follows from the run; metrics of splits come after."""
    config, task = assembly.config, assembly.task
    steps = progress.evaluations[-1]["step"]
    seconds = max(progress.seconds, 1e-9)
    split = next(iter(task.evaluation))
    return {
        "task": task.name,
        "split": split,
        "metrics": chosen["metrics"],
        "majority_baseline": majority_baseline(task.metrics, assembly.features[split].labels),
        **({"f1_of": assembly.classes[1]} if "f1" in task.metrics else {}),
        "checkpoint": {
            "step": chosen["step"],
            "epoch": chosen["epoch"],
            "which": "best" if chosen is not progress.evaluations[-1] else "last",
        },
        "best": best,
        "evaluations": progress.evaluations,
        "examples": len(assembly.features[split]),
        "examples_by_split": {name: len(each) for name, each in assembly.features.items()},
        "truncated": {n: int(each.truncated.sum()) for n, each in assembly.features.items()},
        "seed": config.seed,
        "steps": steps,
        "shapes": [str(shape) for shape in plan.shapes],
        "hyperparameters": json.loads(config.to_json_best_effort()),
        "train_seconds": round(progress.seconds, 3),
        "compile_seconds": round(progress.compile_seconds, 3),
        "examples_per_second": steps * config.batch_size / seconds,
        "tokens_per_second": progress.tokens / seconds,
        "tokens_per_second_with_padding": progress.padded_tokens / seconds,
        **run_record(),
        "started": progress.started,
    }


def _score_all(
    assembly: Assembly,
    scorer: Scorer,
    parameters: Any,
    known: dict[str, np.ndarray],
    folder: RunFolder,
    stop: StopRequest,
) -> dict[str, Any]:
    """Scores every split with the final parameters; writes predictions; returns what to record.

    Args:
      known: Outputs [E,C] of these parameters that are there already, by split.

    Raises:
      Interrupted: Asked to stop; the checkpoints are there.
    """
    task, regression = assembly.task, assembly.task.is_regression
    splits, baselines, shown, collapsed = {}, {}, [], False
    confusion: dict[str, Any] = {}
    for number, (name, dataset) in enumerate(task.evaluation.items()):
        _go_on(stop)
        outputs = known[name] if name in known else scorer.outputs(parameters, name)
        splits[name] = scorer.metrics_of(outputs, name, task.metrics, regression=regression)
        baselines[name] = majority_baseline(task.metrics, assembly.features[name].labels)
        records = prediction_records(dataset, outputs, assembly.classes)
        _write_lines(folder.predictions / f"{name}.jsonl", records)
        if number == 0:
            shown = _telling(records)
            predicted = predictions(outputs, regression=regression)
            collapsed = is_constant(predicted)
            if not regression and len(assembly.classes) <= MOST_CONFUSED:
                counts = confusion_matrix(
                    assembly.features[name].labels, predicted, len(assembly.classes)
                )
                confusion = {"classes": list(assembly.classes), "matrix": counts.tolist()}
    files = {}
    for name, dataset in task.test.items():
        _go_on(stop)
        outputs = scorer.outputs(parameters, name)
        task_name = "ax" if name == "ax" else task.name.removeprefix("glue/")
        values = [
            record["prediction"]
            for record in prediction_records(dataset, outputs, assembly.classes)
        ]
        split = "test" if name == "ax" else name
        path = write_submission(task_name, split, values, dataset.examples, folder.predictions)
        files[name] = str(path.relative_to(folder.path))
    return {
        "metrics": splits[next(iter(splits))],
        "splits": splits,
        "majority_baselines": baselines,
        "collapsed": collapsed,
        **({"confusion": confusion} if confusion else {}),
        "predictions": shown,
        "prediction_files": files,
    }


def _go_on(stop: StopRequest) -> None:
    if stop:
        raise Interrupted("stopped on request while scoring; the same command continues")


def prediction_records(
    dataset: Dataset, outputs: np.ndarray, classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """One JSON record an example: id, texts, label, prediction, probabilities of the classes."""
    if not classes:
        return [
            {
                "id": example.id,
                "texts": list(example.texts),
                "label": example.label,
                "prediction": float(score),
            }
            for example, score in zip(dataset.examples, outputs[:, 0], strict=True)
        ]
    return [
        {
            "id": example.id,
            "texts": list(example.texts),
            "label": example.label,
            "prediction": classes[int(row.argmax())],
            "probabilities": {
                name: round(float(p), 6) for name, p in zip(classes, row, strict=True)
            },
        }
        for example, row in zip(dataset.examples, probabilities(outputs), strict=True)
    ]


def _telling(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The surest mistakes, then right answers in their order; of scores the largest errors."""
    if not records or "probabilities" not in records[0]:
        errors = sorted(records, key=lambda r: -abs(r["prediction"] - r["label"]))
        return errors[: SHOWN_WRONG + SHOWN_RIGHT]
    wrong = [r for r in records if r["prediction"] != r["label"]]
    right = [r for r in records if r["prediction"] == r["label"]]
    wrong.sort(key=lambda r: -max(r["probabilities"].values()))
    return wrong[:SHOWN_WRONG] + right[:SHOWN_RIGHT]


def _write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    make_folder(path.parent)
    with whole_file(path) as file:
        file.writelines(map(json_line, records))
