"""Finished runs -> the zip that GLUE's leaderboard takes."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptbert.datasets import Example
from gptbert.datasets.submission import (
    SubmissionFile,
    make_submission_zip,
    submission_files,
    write_submission,
)
from gptbert.errors import UserError
from gptbert.runs.folder import RunFolder

WNLI_MAJORITY = "not_entailment"  # 323 of the 635 training examples


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of the zip: which, from where, and the dev metrics of the run that made it."""

    file: SubmissionFile
    source: str
    metrics: dict[str, float]


def files_of(task: str) -> dict[str, SubmissionFile]:
    """The files that a run of `task` gives by name: MNLI's model predicts AX too."""
    own = {task.removeprefix("glue/")} | ({"ax"} if task == "glue/mnli" else set())
    return {name: file for name, file in submission_files().items() if file.task in own}


def submit(workdirs: Sequence[Path], output: Path, *, majority_wnli: bool = False) -> list[Part]:
    """Writes the zip and tells what is in it.

    Args:
      workdirs: Finished runs, one a task.
      output: The zip.
      majority_wnli: Predict WNLI's majority class throughout, as the paper did for its own
        submission (appendix B.1), instead of taking a run of it.

    Raises:
      UserError: Names every run that is not finished, not of GLUE, or of a task that another one
        has; else every file that is missing, has another number of rows or other values.
    """
    runs = _runs(workdirs, majority_wnli)
    parts = {
        name: Part(file, str(folder), _dev_metrics(file, results))
        for folder, results in runs
        for name, file in files_of(results["task"]).items()
    }
    paths = {name: Path(part.source) / "predictions" / name for name, part in parts.items()}
    with tempfile.TemporaryDirectory() as scratch:
        if majority_wnli:
            file = submission_files()["WNLI.tsv"]
            parts[file.name] = Part(file, f"always {WNLI_MAJORITY}", {})
            paths[file.name] = _majority(file, Path(scratch))
        make_submission_zip(paths, output)
    return [parts[name] for name in submission_files()]


def _dev_metrics(file: SubmissionFile, results: dict[str, Any]) -> dict[str, float]:
    """What the run measured on the dev set that belongs to a file; of AX it has none."""
    if file.task == "ax":
        return {}
    split = file.split.replace("test", "dev")
    found: dict[str, float] = results.get("splits", {}).get(split, results["metrics"])
    return found


def _runs(workdirs: Sequence[Path], majority_wnli: bool) -> list[tuple[Path, dict[str, Any]]]:
    """The runs with their results; one message for all that cannot be used."""
    runs: list[tuple[Path, dict[str, Any]]] = []
    owners = {"glue/wnli": "--wnli=majority"} if majority_wnli else {}
    problems = []
    for folder in workdirs:
        run = RunFolder(folder)
        if (folder / "config.json").is_file() and not run.results.is_file():
            problems.append(
                f"{folder} is not finished (no results.json): start its command again to finish it"
            )
            continue
        try:
            results = run.read("results.json")
            task = str(results.get("task"))
        except UserError as error:
            problems.append(str(error))
            continue
        if not files_of(task):
            problems.append(f"{folder} is a run of {task}, which GLUE takes no predictions of")
        elif task in owners:
            problems.append(f"{folder} and {owners[task]} are both of {task}; name one of them")
        else:
            owners[task] = str(folder)
            runs.append((folder, results))
    if problems:
        raise UserError("; ".join(problems))
    return runs


def _majority(file: SubmissionFile, folder: Path) -> Path:
    examples = [Example(str(index), ("", "")) for index in range(file.rows)]
    return write_submission(file.task, file.split, [WNLI_MAJORITY] * file.rows, examples, folder)
