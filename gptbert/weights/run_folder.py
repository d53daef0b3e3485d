"""`model.json` and the checkpoints of a run folder, as weights to start from or to use."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.errors import UserError
from gptbert.models.presets import BertConfig
from gptbert.tokenizers import Tokenizer
from gptbert.weights.checkpoints import Checkpoints

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Description:
    """What is needed to use a run's checkpoints.

    Attributes:
      config: The shape.
      classes: In the order of the outputs; empty for a score.
      pooling: `cls` or `mean`.
      task: Name of the task that it was trained on.
    """

    config: BertConfig
    classes: tuple[str, ...]
    pooling: str
    task: str


def write_description(
    folder: Path,
    config: BertConfig,
    classes: tuple[str, ...],
    pooling: str,
    tokenizer: Tokenizer,
    task: str,
) -> None:
    """Writes `model.json` and `tokenizer/`."""
    record = {
        "format": FORMAT,
        "model": dataclasses.asdict(config),
        "classes": list(classes),
        "pooling": pooling,
        "task": task,
    }
    tokenizer.save(folder / "tokenizer", max_length=config.positions)
    partial = folder / "model.json.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / "model.json")


def is_run_folder(path: Path) -> bool:
    """True for the --workdir of a run."""
    return (path / "model.json").is_file()


def read_description(folder: Path) -> Description:
    """Reads `model.json`; raises UserError if it is missing or damaged."""
    path = folder / "model.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        shape = BertConfig(**record["model"])
        return Description(
            shape, tuple(record["classes"]), record["pooling"], record.get("task", "")
        )
    except FileNotFoundError:
        raise UserError(
            f"{folder} is not a run folder: model.json is missing there; "
            "expected the --workdir of a `gptbert finetune`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error})") from None


def read_run(
    folder: Path, step: int | None = None
) -> tuple[Description, dict[str, np.ndarray], int]:
    """Description and parameters (layers numbered) of a run.

    Which checkpoint: `step` if given; else the one whose figures `results.json` states; else, in
    an unfinished run, the newest.
    """
    description = read_description(folder)
    checkpoints = Checkpoints(folder / "checkpoints")
    if step is None and (folder / "results.json").is_file():
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        step = int(results["checkpoint"]["step"])
    step, rejected = checkpoints.find(step)
    tell_damaged(rejected)
    if step is None:
        raise UserError(f"{folder} has no checkpoint yet; run `gptbert finetune` there first")
    arrays = checkpoints.restore_arrays(step, prefix="parameters/")
    return description, arrays, step


def tell_damaged(rejected: dict[int, list[str]]) -> None:
    """Names checkpoints that were passed over, and what is wrong with them, on stderr."""
    for step, files in rejected.items():
        print(f"checkpoint {step} is damaged ({', '.join(files)}); not used", file=sys.stderr)
