"""Predictions -> the files and the zip that GLUE's leaderboard accepts.

Eleven files at the top level of the zip, each with the header `index<TAB>prediction` and a row for
every test example in file order; classes written as in the task's files, scores from 0 to 5.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gptbert.datasets import Example
from gptbert.datasets.glue_tasks import GLUE_TASKS, find_split, find_task
from gptbert.datasets.lines import read_rows
from gptbert.errors import UserError, nearest

HEADER = "index\tprediction"
_SHOWN = 5  # problems told of one file
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same predictions give the same zip


@dataclasses.dataclass(frozen=True)
class SubmissionFile:
    """One file of the zip: its name, whose predictions it has, how many rows, which values.

    `labels` is empty where the prediction is a score from 0 to 5 (STS-B).
    """

    name: str
    task: str
    split: str
    rows: int
    labels: tuple[str, ...]


def submission_files() -> dict[str, SubmissionFile]:
    """The eleven files by name, in the order of `GLUE_TASKS`."""
    return {
        split.submission: SubmissionFile(split.submission, task.name, name, split.rows, task.labels)
        for task in GLUE_TASKS.values()
        for name, split in task.splits.items()
        if split.submission
    }


def write_submission(
    task: str,
    split: str,
    predictions: Sequence[str | float],
    examples: Sequence[Example],
    folder: Path,
) -> Path:
    """Writes predictions of a test split in GLUE's format and returns the file's path.

    Args:
      task: A key of `GLUE_TASKS`.
      split: `test`, `test_matched` or `test_mismatched`.
      predictions: A class name or, for STS-B, a score for every example; scores are clipped to
        0..5 and written with three decimals.
      examples: The examples as read; their ids are GLUE's indices.
      folder: Where the file goes; made if absent. Its name is GLUE's, for instance `MRPC.tsv`.

    Raises:
      UserError: a split without submission, a prediction that is no class or not finite.
    """
    facts = find_task(task)
    split = find_split(facts, split)
    name = facts.splits[split].submission
    if name is None:
        raise UserError(f"GLUE takes no predictions for glue/{task} {split}, only for test splits")
    if len(predictions) != len(examples):
        raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
    values = dict(zip(facts.classes, facts.labels, strict=True))
    lines = [HEADER]
    for example, prediction in zip(examples, predictions, strict=True):
        lines.append(f"{example.id}\t{_written(values, prediction, f'{name} {example.id}')}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    _replace(path, "".join(line + "\n" for line in lines).encode())
    return path


def make_submission_zip(prediction_files: Mapping[str, Path], output: Path) -> None:
    """Checks the eleven files and zips them for the leaderboard.

    Args:
      prediction_files: GLUE's file name (`MRPC.tsv`) -> the file.
      output: The zip to write.

    Raises:
      UserError: everything missing, unknown or wrong in any file, in one message.
    """
    wanted = submission_files()
    problems = [
        f"{name} is no file of a GLUE submission{nearest(name, wanted)}"
        for name in prediction_files
        if name not in wanted
    ]
    contents = {}
    for name, facts in wanted.items():
        if name not in prediction_files:
            problems.append(
                f"{name} is missing ({facts.rows} rows, glue/{facts.task} {facts.split})"
            )
            continue
        contents[name], found = _check(prediction_files[name], facts)
        problems += found
    if problems:
        raise UserError(
            f"{output} was not written, {len(problems)} problems: " + "; ".join(problems)
        )
    _replace(output, _zip(contents))


def _written(values: Mapping[str, str], prediction: str | float, where: str) -> str:
    if values:
        if prediction in values:
            return values[str(prediction)]
        raise UserError(f"{where}: prediction {prediction!r} is none of {', '.join(values)}")
    if isinstance(prediction, str) or not math.isfinite(prediction):
        raise UserError(f"{where}: prediction {prediction!r} is not a finite score")
    return f"{min(max(float(prediction), 0.0), 5.0):.3f}"


def _check(path: Path, facts: SubmissionFile) -> tuple[str, list[str]]:
    """Returns the file's content and what is wrong with it."""
    try:
        lines = [line for _, line in read_rows(path)]
    except UserError as error:
        return "", [str(error)]
    problems = []
    if not lines or lines[0] != HEADER:
        found = repr(lines[0][:60]) if lines else "an empty file"
        problems.append(f"{path}:1: expected the header {HEADER!r}, found {found}")
    rows = lines[1:]
    for index, row in enumerate(rows):
        if problem := _row_problem(row, index, facts):
            problems.append(f"{path}:{index + 2}: {problem}")
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"{len(problems) - _SHOWN} more in {path}"]
    if len(rows) != facts.rows:
        problems.append(f"{path} has {len(rows)} rows instead of {facts.rows}")
    return "\n".join([*lines, ""]), problems


def _row_problem(row: str, index: int, facts: SubmissionFile) -> str:
    fields = row.split("\t")
    if len(fields) != 2:
        return f"{len(fields)} columns instead of 2"
    if fields[0] != str(index):
        return f"index {fields[0]!r} instead of {index}"
    if facts.labels:
        if fields[1] not in facts.labels:
            return f"prediction {fields[1]!r} is none of {', '.join(facts.labels)}"
        return ""
    try:
        valid = 0 <= float(fields[1]) <= 5
    except ValueError:
        valid = False
    return "" if valid else f"prediction {fields[1]!r} is not a score from 0 to 5"


def _zip(contents: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, _TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Writes beside the target and moves, so that no half-written file is ever found."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
