"""GLUE's tasks (Wang et al. 2018): which metrics each reports, and its splits as a `Task`."""

from __future__ import annotations

from pathlib import Path

from gptbert.datasets import Dataset
from gptbert.datasets.glue import has_glue, read_glue
from gptbert.datasets.glue_tasks import nearest_task
from gptbert.errors import UserError
from gptbert.tasks.classification import Task

# The first one decides which checkpoint or run is best; GLUE prints them in this order.
METRICS: dict[str, tuple[str, ...]] = {
    "cola": ("matthews_correlation", "accuracy"),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "qqp": ("f1", "accuracy"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
    "ax": ("matthews_correlation", "accuracy"),
}
# Pairs in which neither text comes first: similarity, for GPT (section 3.3).
UNORDERED = frozenset({"mrpc", "qqp", "stsb"})
_MNLI_SPLITS = {
    "evaluation": ("dev_matched", "dev_mismatched"),
    "test": ("test_matched", "test_mismatched"),
}


def read_glue_task(name: str, data_dir: str) -> Task:
    """Reads train, dev and (where present) test of `name`; raises UserError for bad input."""
    if name not in METRICS:
        raise UserError(
            f"task 'glue/{name}' is unknown{nearest_task(name)}; "
            f"expected one of {', '.join(METRICS)} (--config=configs/glue.py:TASK)"
        )
    if not data_dir:
        raise UserError(
            f"no data: expected --config.data_dir=DIR, a folder with GLUE's files; "
            f"`gptbert prepare glue/{name} --data_dir=DIR` makes one"
        )
    if name == "ax":
        raise UserError(
            "AX has no training data; score it with a model trained on MNLI: "
            "gptbert evaluate --workdir=RUN --task=glue/ax --data_dir=DIR"
        )
    folder = Path(data_dir)
    splits = _MNLI_SPLITS if name == "mnli" else {"evaluation": ("dev",), "test": ("test",)}
    return Task(
        name=f"glue/{name}",
        metrics=METRICS[name],
        train=read_glue(name, "train", folder),
        evaluation={split: read_glue(name, split, folder) for split in splits["evaluation"]},
        test=_tests(name, splits["test"], folder),
        unordered=name in UNORDERED,
    )


def _tests(name: str, splits: tuple[str, ...], folder: Path) -> dict[str, Dataset]:
    """Unlabelled splits to predict; MNLI's model predicts the diagnostics too."""
    found: dict[str, Dataset] = {}
    for split in splits:
        found |= _optional(name, split, folder)
    return found | (_optional("ax", "test", folder) if name == "mnli" else {})


def _optional(name: str, split: str, folder: Path) -> dict[str, Dataset]:
    """A test split if its file is there: nobody needs test files to fine-tune."""
    key = "ax" if name == "ax" else split
    return {key: read_glue(name, split, folder)} if has_glue(name, split, folder) else {}
