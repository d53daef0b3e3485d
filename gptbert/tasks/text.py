"""A user's own labelled file, and the pairs that every Python installation carries, as `Task`s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gptbert.datasets import Dataset
from gptbert.datasets.docstrings import read_docstrings
from gptbert.datasets.labels import LABEL_KINDS, LabelKind
from gptbert.datasets.text_files import read_text_file, split_by_hash
from gptbert.errors import UserError
from gptbert.tasks.classification import Task


def metrics_of(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Scores get correlations; two classes F1 as well; more classes accuracy and correlation."""
    if not classes:
        return ("pearson", "spearman")
    return ("accuracy", "f1") if len(classes) == 2 else ("accuracy", "matthews_correlation")


def read_own_files(
    train_file: str,
    eval_file: str,
    *,
    text_columns: tuple[str, ...],
    label_column: str,
    label_kind: LabelKind,
    eval_share: float,
) -> Task:
    """Reads the user's file(s); raises UserError for bad input."""
    if not train_file:
        raise UserError("no data: expected --config.train_file=FILE (TSV, CSV or JSONL)")
    if not label_column:
        raise UserError("no labels: expected --config.label_column=NAME, the column they stand in")
    if label_column in text_columns:
        raise UserError(
            f"the column {label_column!r} is named as text and as label (--config.text_columns, "
            "--config.label_column); expected two columns"
        )
    if label_kind not in LABEL_KINDS:
        raise UserError(
            f"--config.label_kind is {label_kind!r}, expected {' or '.join(map(repr, LABEL_KINDS))}"
        )
    columns: dict[str, Any] = {"text_columns": tuple(text_columns), "label_column": label_column}
    train = read_text_file(Path(train_file), **columns, label_kind=label_kind)
    if eval_file:
        kind: LabelKind = "score" if train.is_regression else "classes"
        held_out = read_text_file(
            Path(eval_file), **columns, classes=train.classes, label_kind=kind
        )
        name = "dev"
    else:
        if not 0 < eval_share < 1:
            raise UserError(
                f"--config.eval_share is {eval_share}, expected a share between 0 and 1"
            )
        train, held_out = split_by_hash(train, eval_share, 0)
        name = "held_out"
    _check(train, held_out)
    return Task("text", metrics_of(train.classes), train, {name: held_out}, {})


def read_docstring_task(seed: int = 0) -> Task:
    """Does this description belong to this function? Pairs from the standard library."""
    train, dev = read_docstrings(seed)
    return Task("docstrings", ("accuracy", "f1"), train, {"dev": dev}, {})


def _check(train: Dataset, held_out: Dataset) -> None:
    for dataset in (train, held_out):
        if not dataset.examples:
            raise UserError(f"{dataset.source}: no examples are left in {dataset.name}")
