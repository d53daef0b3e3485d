"""`model.json` and the checkpoints of a run folder, as weights to start from or to use."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from gptbert.errors import UserError
from gptbert.models.presets import BertConfig, GptConfig, ModelConfig
from gptbert.tokenizers import Tokenizer
from gptbert.weights.checkpoints import Checkpoints

# 2 added `family` and `head`; without them a run fine-tuned a BERT.
FORMAT = 2
Head = Literal["classification", "masked-lm", "next-token"]
_FAMILIES: dict[str, type[BertConfig] | type[GptConfig]] = {"bert": BertConfig, "gpt": GptConfig}


@dataclasses.dataclass(frozen=True)
class Description:
    """What is needed to use a run's checkpoints.

    Attributes:
      config: The shape.
      classes: In the order of the outputs; empty for a score, and for other heads.
      pooling: `cls` or `mean`.
      task: Name of the task that it was trained on.
      head: What is on top: a classifier (or a score), masked words and next sentences, or the
        next token.
    """

    config: ModelConfig
    classes: tuple[str, ...]
    pooling: str
    task: str
    head: Head = "classification"


def write_description(
    folder: Path,
    config: ModelConfig,
    classes: tuple[str, ...],
    pooling: str,
    tokenizer: Tokenizer,
    task: str,
    head: Head = "classification",
) -> None:
    """Writes `model.json` and `tokenizer/`; UserError where they are of another shape already."""
    _check_same_shape(folder, config)
    record = {
        "format": FORMAT,
        "family": "gpt" if isinstance(config, GptConfig) else "bert",
        "head": head,
        "model": dataclasses.asdict(config),
        "classes": list(classes),
        "pooling": pooling,
        "task": task,
    }
    tokenizer.save(folder / "tokenizer", max_length=config.positions)
    partial = folder / "model.json.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / "model.json")


def _check_same_shape(folder: Path, config: ModelConfig) -> None:
    """Refuses to go on with other equations than those that a run began with."""
    try:
        began = dataclasses.asdict(read_description(folder).config)
    except UserError:  # none yet, or damaged: it is written anew
        return
    changed = [
        f"{name} was {began.get(name)!r} and is now {value!r}"
        for name, value in dataclasses.asdict(config).items()
        if began.get(name) != value
    ]
    if changed:
        raise UserError(
            f"{folder} holds a run of a model in which {'; '.join(changed)} (config.json of the "
            "weights has changed); bring that file back, or use another --workdir"
        )


def read_description(folder: Path) -> Description:
    """Reads `model.json`; raises UserError if it is missing or damaged."""
    path = folder / "model.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record.get("format", FORMAT) > FORMAT:
            raise ValueError(f"format {record['format']}, expected at most {FORMAT}")
        shape = _FAMILIES[record.get("family", "bert")](**record["model"])
        head = record.get("head", "classification")
        if head not in get_args(Head):
            raise ValueError(f"head {head!r}, expected one of {', '.join(get_args(Head))}")
        classes, pooling = tuple(record["classes"]), record["pooling"]
        return Description(shape, classes, pooling, record.get("task", ""), head)
    except FileNotFoundError:
        raise UserError(
            f"{folder} is not a run folder: model.json is missing there; expected the --workdir "
            f"of a `gptbert finetune` or `gptbert pretrain`{_of_sweep(folder)}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error})") from None


def _of_sweep(folder: Path) -> str:
    """Where the best run of a sweep lies, if the folder is that of one; else nothing."""
    try:
        best = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["best_run"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"; this is a sweep, whose best run is {folder / str(best)}"


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
        step = _step_of_results(folder / "results.json")
    step, rejected = checkpoints.find(step)
    tell_damaged(rejected)
    if step is None:
        verb = "finetune" if description.head == "classification" else "pretrain"
        raise UserError(f"{folder} has no checkpoint yet; run `gptbert {verb}` there first")
    arrays = checkpoints.restore_arrays(step, prefix="parameters/")
    return description, arrays, step


def _step_of_results(path: Path) -> int:
    """The step of the checkpoint whose figures a results.json states."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["checkpoint"]["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}); --step=N names a checkpoint by hand"
        ) from None


def tell_damaged(rejected: dict[int, list[str]]) -> None:
    """Names checkpoints that were passed over, and what is wrong with them, on stderr."""
    for step, files in rejected.items():
        print(f"checkpoint {step} is damaged ({', '.join(files)}); not used", file=sys.stderr)
