"""GLUE folders of a few rows in the official form, and the commands that train on them.

Together with the tiny BERT of `tests/fixtures_runs.py` a whole run takes a few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gptbert.datasets.glue_tasks import GLUE_TASKS, GlueTask
from gptbert.weights.checkpoints import Checkpoints
from tests.fixtures_runs import WORDS, sentence

ROWS = {"train": 60, "dev": 20, "test": 20}
HINTS = ("bad", "good", "fine")  # the first word of a text tells the class


def make_glue(folder: Path, *names: str, words: int = 0) -> Path:
    """Train, dev and test of GLUE tasks as their archives have them.

    With `words` all texts are that long, so that tasks of one kind share their compiled shapes.
    """
    for name in names:
        task = GLUE_TASKS[name]
        rng = np.random.default_rng(len(name))
        (folder / task.folders[0]).mkdir(parents=True)
        for split in ROWS:
            path = folder / task.folders[0] / f"{split}.tsv"
            path.write_text("".join(f"{line}\n" for line in _lines(task, split, words, rng)))
    return folder


def _lines(task: GlueTask, split: str, words: int, rng: np.random.Generator) -> Iterator[str]:
    facts = task.splits[split]
    if facts.has_header:
        yield "\t".join(facts.columns)
    for row in range(ROWS[split]):
        number = int(rng.integers(max(2, len(task.classes))))
        label = task.labels[number] if task.classes else f"{4 * number + rng.random():.3f}"
        fields = {"index": str(row), "id": str(row), task.label: label}
        for text in facts.texts or task.texts:
            said = " ".join(rng.choice(WORDS, words)) if words else sentence(rng)
            fields[text] = f"{HINTS[number]} {said}"
        yield "\t".join(fields.get(column, "-") for column in facts.columns)


def flags(data: Path, bert: Path, workdir: Path, task: str = "mrpc", **fields: object) -> list[str]:
    """The arguments of `gptbert finetune` for 11 steps of 16 examples, unless `fields` differ."""
    values = {"data_dir": data, "init_from": bert, "batch_size": 16, "max_length": 32}
    values |= {"learning_rate": 1e-3, **fields}
    named = [f"--config.{name}={value}" for name, value in values.items() if value is not None]
    return ["finetune", f"--config=configs/glue.py:{task}", *named, f"--workdir={workdir}"]


def results(workdir: Path) -> dict:
    """results.json."""
    return json.loads((workdir / "results.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def saved_bits(workdir: Path, step: int) -> dict[str, bytes]:
    """Every array of a checkpoint, bit by bit."""
    arrays = Checkpoints(workdir / "checkpoints").restore_arrays(step)
    return {path: array.tobytes() for path, array in arrays.items()}
