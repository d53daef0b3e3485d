"""Scores labelled examples with a finished run or with weights that have a head.

Labels are matched by name. Metrics and the confusion matrix are in the class order of the data,
so that F1 is that of the same class whatever order the model's outputs have.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.datasets import Dataset
from gptbert.datasets.columns import TABLES, Columns, format_of, read_columns
from gptbert.datasets.glue import has_glue, read_glue
from gptbert.datasets.glue_tasks import find_split, find_task, nearest_task
from gptbert.datasets.submission import write_submission
from gptbert.datasets.text_files import is_undecided, read_text_file
from gptbert.errors import UserError, nearest
from gptbert.metrics.glue import confusion_matrix, glue_metrics, is_constant, majority_baseline
from gptbert.runs.chunks import in_chunks
from gptbert.runs.finetune import MOST_CONFUSED, prediction_records
from gptbert.runs.folder import RunFolder, write_json
from gptbert.runs.output import json_line, make_folder, whole_file
from gptbert.runs.record import run_record
from gptbert.runs.submit import files_of
from gptbert.runs.using import Classifier, Source, read_json
from gptbert.tasks.classification import Task, label_numbers, predictions
from gptbert.tasks.glue import METRICS
from gptbert.tasks.text import metrics_of, read_docstring_task, read_own_files

RESULT = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class Material:
    """What is scored: examples, what they are called, what is measured on them.

    Attributes:
      dataset: The examples.
      task: For instance `glue/ax`; `file` for a user's own, `text` for those of the run.
      split: For instance `dev_mismatched`; the file's name for a user's own.
      metrics: Their names, the one that decides first.
    """

    dataset: Dataset
    task: str
    split: str
    metrics: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.task}-{self.split}".replace("/", "-")

    @property
    def is_unlabelled(self) -> bool:
        return all(example.label is None for example in self.dataset.examples)


def read_task_split(source: Source, task: str, data_dir: str, split: str) -> Material:
    """A split of a task; by default of the one that the model was trained on, from its data.

    Raises:
      UserError: Unknown task or split, or no such data.
    """
    task = task or source.task
    if task == "docstrings":
        return _split_of(read_docstring_task(), split)
    if task == source.task == "text":
        return _as_trained(source, _split_of(_own_files(source), split))
    if not task.startswith("glue/"):
        unknown = "" if task in (source.task, "text") else f"--task={task} is unknown"
        if unknown:
            unknown += (nearest_task(task, "glue/") or nearest(task, ["docstrings"])) + "; "
        raise UserError(
            f"nothing to score: {unknown}expected --task=glue/TASK with --data_dir=DIR, or "
            f"--file=FILE (the model in {source.folder} was trained on "
            f"{source.task or 'an unknown task'})"
        )
    facts = find_task(task.removeprefix("glue/"))
    data_dir = data_dir or source.training.get("data_dir", "")
    if not data_dir:
        raise UserError(f"no data for {task}: expected --data_dir=DIR, a folder with GLUE's files")
    split = find_split(facts, split or _usual_split(facts.name, Path(data_dir)))
    dataset = read_glue(facts.name, split, Path(data_dir))
    return Material(dataset, f"glue/{facts.name}", split, METRICS[facts.name])


def _usual_split(task: str, data_dir: Path) -> str:
    """What is scored unless a split is named: dev; of AX, whose labels were published apart and
    few have, what there is."""
    only_test = not has_glue(task, "dev", data_dir) and has_glue(task, "test", data_dir)
    return "test" if task == "ax" and only_test else "dev"


def _own_files(source: Source) -> Task:
    """The user's own files that the run was trained and scored on, cut as they were then."""
    config = source.training
    return read_own_files(
        config.get("train_file", ""),
        config.get("eval_file", ""),
        text_columns=source.text_columns,
        label_column=config.get("label_column", "label"),
        label_kind=config.get("label_kind", "auto"),
        eval_share=config.get("eval_share", 0.0),
    )


def _as_trained(source: Source, material: Material) -> Material:
    """With a note if the files have changed since the run began."""
    began = RunFolder(source.folder).read("config.json").get("fingerprints", {})
    dataset = material.dataset
    if began.get(f"data of {material.split}") == dataset.fingerprint:
        return material
    note = f"the data of {material.split} are not those of the run any more; they are scored as now"
    return dataclasses.replace(
        material, dataset=dataclasses.replace(dataset, notes=(*dataset.notes, note))
    )


def _split_of(task: Task, split: str) -> Material:
    """`train`, or a split by its name in results.json; `dev` and none are the one that decides."""
    splits = {**task.evaluation, **({"train": task.train} if task.train else {})}
    if split in ("", "dev"):
        split = next(iter(splits))
    if split not in splits:
        raise UserError(
            f"{task.name} has no split {split!r}{nearest(split, splits)}; it has: "
            f"{', '.join(splits)}"
        )
    return Material(splits[split], task.name, split, task.metrics)


def read_labelled_file(
    source: Source, path: Path, text_columns: tuple[str, ...], label_column: str
) -> Material:
    """A user's own TSV, CSV or JSONL, its labels the model's class names or scores.

    Raises:
      UserError: Another number of texts than the model knows, labels that it does not know (both
        lists are told), a file that is not as it should be.
    """
    texts = text_columns or source.text_columns or ("sentence",)
    label = label_column or source.training.get("label_column", "label")
    source.check_texts(len(texts))
    if not source.is_regression:
        columns = Columns(texts, label, labelled=True)
        rows = read_columns(path, format_of(path, TABLES), columns)
        found = {str(row.label) for row in rows}
        left_out = {each for each in found - set(source.classes) if is_undecided(label, each)}
        _check_names(source, found - left_out, str(path), every=False)
    dataset = read_text_file(
        path,
        text_columns=texts,
        label_column=label,
        classes=source.classes or None,
        label_kind="score" if source.is_regression else "classes",
    )
    return Material(dataset, "file", path.name, metrics_of(source.classes))


def default_output(
    source: Source, material: Material, step: int | None, *, as_trained: bool
) -> Path:
    """RUN/evaluations/NAME; a test file of the run's own goes where `gptbert submit` looks.

    There it replaces nothing, and only texts as the model was trained on them count (`as_trained`:
    no other length, no other precision).
    """
    if source.step is None:
        raise UserError(f"no place for the results of {source.folder}: expected --output=DIR")
    if material.is_unlabelled and step is None and as_trained:
        test = _submission_name(material)
        if test in files_of(source.task) and not (source.folder / "predictions" / test).exists():
            return source.folder / "predictions"
    name = material.name if step is None else f"{material.name}-step{step}"
    return source.folder / "evaluations" / name


def check(source: Source, material: Material, output: Path) -> None:
    """Refuses what cannot be scored or written, before the model is made.

    Raises:
      UserError: Labels that the model does not have (both lists are told), single texts for a
        model of pairs or the reverse, an output folder that holds another evaluation.
    """
    _check_labels(source, material.dataset)
    source.check_texts(len(material.dataset.examples[0].texts))
    _check_output(output, material)


def evaluate(classifier: Classifier, material: Material, output: Path) -> dict[str, Any]:
    """Scores `material` and writes what came out into the folder `output`.

    Written are `predictions.jsonl` and, last, `evaluation.json`, whose contents are returned; of
    an unlabelled test split of GLUE the file that GLUE's leaderboard takes, and beside it (`AX.tsv`
    and `AX.json`) what it was made from.

    Raises:
      UserError: The output folder cannot be written.
      RunFailed: The model gives numbers that are not finite.
    """
    dataset = material.dataset
    began = time.perf_counter()
    outputs, truncated = _score(classifier, dataset)
    seconds = time.perf_counter() - began
    make_folder(output)
    records = prediction_records(dataset, outputs, classifier.source.classes)
    record = _description(classifier, material) | {
        "examples": len(dataset.examples),
        "truncated": truncated,
        "seconds": round(seconds, 3),
        "examples_per_second": len(dataset.examples) / seconds,
    }
    if material.is_unlabelled:
        values = [each["prediction"] for each in records]
        task = material.task.removeprefix("glue/")
        # Before the file itself: what is there without its origin is never replaced.
        _write_record(output / _record_name(material), record)
        path = write_submission(task, material.split, values, dataset.examples, output)
        return record | {"submission": str(path)}
    with whole_file(output / "predictions.jsonl") as file:
        file.writelines(map(json_line, records))
    record |= _measures(classifier, material, outputs)
    _write_record(output / RESULT, record)
    return record


def _write_record(path: Path, record: dict[str, Any]) -> None:
    try:
        write_json(path, record)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _submission_name(material: Material) -> str | None:
    """What GLUE's leaderboard calls the file of an unlabelled split; None if it takes none."""
    return find_task(material.task.removeprefix("glue/")).splits[material.split].submission


def _record_name(material: Material) -> str:
    """The file that tells what an evaluation was made from."""
    name = _submission_name(material) if material.is_unlabelled else None
    return Path(name).with_suffix(".json").name if name else RESULT


def _score(classifier: Classifier, dataset: Dataset) -> tuple[np.ndarray, int]:
    """Outputs [E,C] of all examples in their order, and how many were cut."""
    collected, truncated = [], 0
    for chunk in in_chunks(dataset.examples):
        features = classifier.encode([example.texts for example in chunk])
        collected.append(classifier.outputs(features))
        truncated += int(features.truncated.sum())
    return np.concatenate(collected), truncated


def _measures(classifier: Classifier, material: Material, outputs: np.ndarray) -> dict[str, Any]:
    """Metrics, baseline and (unless it were huge) confusion matrix, in the data's class order."""
    dataset = material.dataset
    labels = label_numbers(dataset, dataset.classes)
    predicted = predictions(outputs, regression=classifier.source.is_regression)
    if dataset.classes:
        # Both name the same classes: `check` has made sure of it.
        place = np.asarray([dataset.classes.index(name) for name in classifier.source.classes])
        predicted = place[predicted]
    measures: dict[str, Any] = {
        "metrics": glue_metrics(material.metrics, labels, predicted),
        "majority_baseline": majority_baseline(material.metrics, labels),
        "collapsed": is_constant(predicted),
        "classes": list(dataset.classes),
    }
    if 0 < len(dataset.classes) <= MOST_CONFUSED:
        counts = confusion_matrix(labels, predicted, len(dataset.classes))
        measures["confusion_matrix"] = counts.tolist()  # rows: label, columns: prediction
    if "f1" in material.metrics:
        measures["f1_of"] = dataset.classes[1]
    return measures


def _description(classifier: Classifier, material: Material) -> dict[str, Any]:
    source = classifier.source
    return {
        "task": material.task,
        "split": material.split,
        "source": material.dataset.source,
        "notes": list(material.dataset.notes),
        "model": {"folder": str(source.folder), "step": source.step, "task": source.task},
        "max_length": classifier.max_length,
        "fingerprints": {"data": material.dataset.fingerprint, **classifier.fingerprints},
        **run_record(),
    }


def _check_labels(source: Source, dataset: Dataset) -> None:
    if source.is_regression != dataset.is_regression:
        kinds = ("classes (" + _listed(dataset.classes or source.classes) + ")", "a score")
        model, data = kinds[source.is_regression], kinds[dataset.is_regression]
        raise UserError(
            f"{dataset.name} is labelled with {data}, the model in {source.folder} gives {model}; "
            "expected the same"
        )
    if dataset.classes:
        _check_names(source, set(dataset.classes), dataset.name, every=True)
    missing, rows = sum(each.label is None for each in dataset.examples), len(dataset.examples)
    if 0 < missing < rows:
        raise UserError(
            f"{missing} of {rows} rows of {dataset.source} have no label; expected a label in "
            "every row or in none"
        )


def _listed(names: Sequence[str]) -> str:
    """Names one after the other; in quotes where a comma is part of one."""
    return ", ".join(repr(name) if "," in name else name for name in names)


def _check_names(source: Source, labels: set[str], where: str, *, every: bool) -> None:
    """Refuses labels that the model has not, and with `every` classes that are no labels."""
    known = set(source.classes)
    if labels == known or (labels < known and not every):
        return
    unnamed = source.classes[0] == "LABEL_0"
    helps = "; name the outputs in their order with --classes" if unnamed else ""
    raise UserError(
        f"{where} has the labels {_listed(sorted(labels))}; the model in "
        f"{source.folder} has {_listed(source.classes)}; they are matched by name"
        f"{helps}"
    )


def _check_output(output: Path, material: Material) -> None:
    """Two files of one name must not replace each other's results in silence."""
    dataset = material.dataset
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output} is a file; expected a folder")
    before = read_json(output / _record_name(material))
    test = _submission_name(material) if material.is_unlabelled else None
    if test and (output / test).exists() and "source" not in before:
        raise UserError(
            f"{output / test} is there already, and nothing tells what it was made from; choose "
            f"another --output for {dataset.source}"
        )
    same = (before.get("fingerprints") or {}).get("data") == dataset.fingerprint
    if not same and before.get("source", dataset.source) != dataset.source:
        raise UserError(
            f"{output} holds the evaluation of {before['source']}; choose another --output for "
            f"{dataset.source}"
        )
