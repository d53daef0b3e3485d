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
from pathlib import Path
from typing import Any, TypeGuard

from gptbert.errors import UserError

Series = dict[str, list[tuple[float, float]]]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder in memory.

    Attributes:
      folder: Where it lies.
      results: `results.json`; `task`, `split` (str), `metrics` ({name: fraction}) and `examples`
        (count) are there, everything else is optional.
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
    return Run(
        folder=workdir,
        results=_checked_results(results_path),
        config=_read_object(workdir / "config.json"),
        series=read_series(workdir / "metrics.jsonl"),
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


def _checked_results(path: Path) -> dict[str, Any]:
    results = _read_object(path)
    kinds: dict[str, tuple[type, str]] = {
        "task": (str, "a name"),
        "split": (str, "a name"),
        "metrics": (dict, "an object of numbers"),
        "examples": (int, "a count"),
    }
    for key, (kind, wanted) in kinds.items():
        if not isinstance(results.get(key), kind):
            found = f"is {results[key]!r}"[:80] if key in results else "is missing"
            raise UserError(f"{path}: `{key}` {found}, expected {wanted}")
    for key in ("metrics", "majority_baseline", "before"):
        for name, value in (results.get(key) or {}).items():
            if not _is_number(value):
                raise UserError(f"{path}: `{key}` has {value!r} for {name}, expected a number")
    for row in results.get("predictions") or []:
        _check_prediction(path, row)
    return results


def _check_prediction(path: Path, row: object) -> None:
    """An example's texts with its label and prediction: class names, or both finite scores."""
    if isinstance(row, dict) and isinstance(row.get("texts"), list):
        label, prediction = row.get("label"), row.get("prediction")
        names = isinstance(prediction, str) and isinstance(label, (str, type(None)))
        scores = _is_finite(prediction) and (label is None or _is_finite(label))
        if names or scores:
            return
    raise UserError(
        f"{path}: `predictions` has {row!r:.80}, expected texts with a label and a prediction, "
        "both names or both numbers"
    )


def _read_object(path: Path) -> dict[str, Any]:
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
    command = _read_object(path).get("command", "") if path.exists() else ""
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    return str(command)


def _is_finite(value: object) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
