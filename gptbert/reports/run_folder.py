"""A finished run's folder, read and checked: what a report may rely on.

Read are `results.json` (what came out), `config.json` (what was asked for), `metrics.jsonl`
(what happened on the way) and, if there, `run.json` (how it was started). The files are ours,
but may be torn by a kill, edited by hand or from another version: what is missing is named.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from gptbert.errors import UserError

Series = dict[str, list[tuple[float, float]]]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder in memory.

    Attributes:
      folder: Where it lies.
      results: `results.json`; `task`, `split` (str) and `metrics` ({name: number}) are there. Of
        fine-tuning `examples` (count) too; of pre-training `held_out` with its counts and
        `evaluations`, or None and none. Everything else is optional.
      config: `config.json`, nested.
      series: {scalar: points (step, value)} of `metrics.jsonl` in the order of steps. Steps that
        were repeated after a resume count once, as repeated; NaN is kept.
      command: The command line that made it, or "" where `run.json` does not tell.
    """

    folder: Path
    results: dict[str, Any]
    config: dict[str, Any]
    series: Series
    command: str

    @property
    def is_pretraining(self) -> bool:
        """Whether it was a pre-training."""
        return _is_pretraining(self.results)


def read_run(workdir: Path) -> Run:
    """Reads a finished run; UserError names what is missing, or the file and line at fault."""
    if not workdir.is_dir():
        raise UserError(
            f"no run folder at {workdir}; gptbert finetune --workdir={workdir} makes one"
        )
    results_path = workdir / "results.json"
    if not results_path.exists():
        raise UserError(
            f"{results_path} is missing: the run is not finished; "
            "start it again with the same command to finish it"
        )
    results, series = _checked_results(results_path), read_series(workdir / "metrics.jsonl")
    return Run(
        folder=workdir,
        results=results,
        config=read_object(workdir / "config.json"),
        series=series,
        command=_command(workdir / "run.json"),
    )


def read_series(path: Path) -> Series:
    """Reads a log of one JSON object a line, each with `step` and scalars, as {scalar: points}.

    The last line may be torn, as a kill leaves it, and is then left out. UserError if the file
    is missing or another line is not an object with a step.
    """
    # A kill may also tear a character apart; the line breaks are those of the log, not Unicode's.
    lines = _read_text(path, errors="replace").removesuffix("\n").split("\n")
    values: dict[str, dict[float, float]] = defaultdict(dict)
    for number, line in enumerate(lines, start=1):
        record = _log_record(line)
        if record is None:
            if number == len(lines):
                break
            raise UserError(f"{path}:{number}: expected a JSON object with a number `step`")
        for name, value in record.items():
            if name != "step" and _is_number(value):
                values[name][float(record["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in values.items()}


def _log_record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    return record if _is_finite(record.get("step")) else None


def _is_pretraining(results: Mapping[str, Any]) -> bool:
    return str(results.get("task")).startswith("pretraining/")


def _checked_results(path: Path) -> dict[str, Any]:
    results = read_object(path)
    kinds: dict[str, tuple[type, str]] = {
        "task": (str, "a name"),
        "split": (str, "a name"),
        "metrics": (dict, "an object of numbers"),
    }
    if not _is_pretraining(results):
        kinds["examples"] = (int, "a count")
    _check_kinds(path, results, kinds)
    for key in ("metrics", "majority_baseline", "before"):
        _check_numbers(path, key, results.get(key) or {})
    for key in ("splits", "majority_baselines"):
        by_split = results.get(key) or {}
        _check_kinds(path, {key: by_split}, {key: (dict, "an object of splits")})
        for split, values in by_split.items():
            _check_numbers(path, f"{key}.{split}", values or {})
    for key in ("notes", "shapes"):
        _check_list(path, key, results.get(key), str, "texts")
    versions = results.get("versions") or {}
    _check_kinds(path, {"versions": versions}, {"versions": (dict, "an object")})
    _check_list(path, "predictions", results.get("predictions"), dict, "objects")
    for row in results.get("predictions") or []:
        _check_prediction(path, row)
    _check_confusion(path, results.get("confusion"))
    if _is_pretraining(results):
        _check_held_out(path, results)
    return results


def _check_kinds(
    path: Path, values: Mapping[str, Any], kinds: Mapping[str, tuple[type, str]], where: str = ""
) -> None:
    for key, (kind, wanted) in kinds.items():
        if not isinstance(values.get(key), kind):
            found = f"is {values[key]!r}"[:80] if key in values else "is missing"
            raise UserError(f"{path}: `{where}{key}` {found}, expected {wanted}")


def _check_numbers(path: Path, key: str, values: object) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{path}: `{key}` is {values!r:.80}, expected an object of numbers")
    for name, value in values.items():
        if not _is_number(value):
            raise UserError(f"{path}: `{key}` has {value!r} for {name}, expected a number")


def _check_list(path: Path, key: str, values: object, kind: type, what: str) -> None:
    """A list of one kind; None where there is none."""
    is_list = isinstance(values, list) and all(isinstance(each, kind) for each in values)
    if values is not None and not is_list:
        raise UserError(f"{path}: `{key}` is {values!r:.80}, expected a list of {what}")


def _check_confusion(path: Path, confusion: object) -> None:
    """Names of classes and a square of counts; None or an empty object where there is none."""
    if not confusion:
        return
    if isinstance(confusion, dict):
        classes, matrix = confusion.get("classes"), confusion.get("matrix")
        size = len(classes) if isinstance(classes, list) else -1
        rows = matrix if isinstance(matrix, list) else []
        if len(rows) == size and all(
            isinstance(row, list) and len(row) == size and all(map(_is_finite, row)) for row in rows
        ):
            return
    raise UserError(
        f"{path}: `confusion` is {confusion!r:.80}, expected classes and a square matrix of counts"
    )


def _check_held_out(path: Path, results: Mapping[str, Any]) -> None:
    """What pre-training was scored on, and the evaluations; both may be empty."""
    counts = dict.fromkeys(("predictions", "examples", "tokens"), (int, "a count"))
    if (held_out := results.get("held_out")) is not None:
        _check_kinds(path, {"held_out": held_out}, {"held_out": (dict, "an object of counts")})
        _check_kinds(path, held_out, counts, "held_out.")
    evaluations = results.get("evaluations") or []
    _check_kinds(path, {"evaluations": evaluations}, {"evaluations": (list, "a list")})
    for each in evaluations:
        if not isinstance(each, dict) or not all(
            _is_finite(each.get(k)) for k in ("step", "epoch")
        ):
            raise UserError(f"{path}: `evaluations` has {each!r:.80}, expected step and epoch")
        _check_numbers(path, "evaluations", each.get("metrics"))


def _check_prediction(path: Path, row: object) -> None:
    """An example's texts with its label and prediction: class names, or both finite scores."""
    if isinstance(row, dict) and isinstance(row.get("texts"), list):
        label, prediction = row.get("label"), row.get("prediction")
        names = isinstance(prediction, str) and isinstance(label, (str, type(None)))
        shares = row.get("probabilities") or {}
        names = names and isinstance(shares, dict) and all(map(_is_finite, shares.values()))
        scores = _is_finite(prediction) and (label is None or _is_finite(label))
        if names or scores:
            return
    raise UserError(
        f"{path}: `predictions` has {row!r:.80}, expected texts with a label and a prediction, "
        "both names or both numbers"
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a file; UserError if it is missing or something else."""
    try:
        found = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise UserError(f"{path}: JSON nested too deeply") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: found a {type(found).__name__}, expected a JSON object")
    return found


def _read_text(path: Path, errors: str = "strict") -> str:
    try:
        return path.read_text(encoding="utf-8", errors=errors)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: expected the files of a finished run") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _command(path: Path) -> str:
    command = read_object(path).get("command", "") if path.exists() else ""
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    return str(command)


def _is_finite(value: object) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
