"""A user's own texts, in a file or a stream -> `Dataset` or `Example`s; see `columns.py`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gptbert.datasets import Dataset, Example
from gptbert.datasets.columns import (
    FORMATS,
    TABLES,
    Columns,
    Row,
    Source,
    check_text_columns,
    format_of,
    read_columns,
)
from gptbert.datasets.labels import LabelKind, are_whole_numbers, resolve_labels
from gptbert.errors import UserError

MOST_PLAIN_CLASSES = 10  # of whole numbers; more of them are often meant as scores


def read_text_file(
    path: Path,
    *,
    text_columns: Sequence[str] = ("sentence",),
    label_column: str = "label",
    classes: tuple[str, ...] | None = None,
    label_kind: LabelKind = "auto",
    require_labels: bool = True,
) -> Dataset:
    """Reads a whole `.tsv`, `.csv` or `.jsonl` file (also `.gz`, `.xz`).

    Labels are scores when every one is a number and one of them is not whole; otherwise they are
    class names, sorted (by value if all are numbers). `label_kind` decides it instead. Rows of
    SNLI and MNLI on whose label the annotators did not agree (`is_undecided`) are left out and
    counted.

    Args:
      path: The file.
      text_columns: One column, or two for pairs.
      label_column: Where the labels stand; empty for a file to be read without labels.
      classes: The classes of a model in its order; other labels are refused. Default: found.
      label_kind: `score` or `classes` where it is known what the labels are, as for the
        evaluation file of a model.
      require_labels: Refuse rows without label; else a missing column or label gives None.

    Raises:
      UserError: names file and line, what was found and what was expected.
    """
    check_text_columns(text_columns)
    file_format = format_of(path, TABLES)
    digest = hashlib.sha256()
    columns = Columns(tuple(text_columns), label_column, require_labels and bool(label_column))
    numbered, undecided = [], 0
    for number, row in enumerate(read_columns(path, file_format, columns, digest)):
        if is_undecided(label_column, row.label) and row.label not in (classes or ()):
            undecided += 1
        else:
            numbered.append((number, row))
    rows = [row for _, row in numbered]
    if not rows:
        raise UserError(f"{path}: no rows{' with a label' if undecided else ''}")
    labels = [(row.line, row.label) for row in rows if row.label is not None]
    values: Any = {}
    found = classes or ()
    if labels:
        values, found = resolve_labels(str(path), labels, classes, label_kind)
    examples = [
        Example(str(number), row.texts, None if row.label is None else values[row.label])
        for number, row in numbered
    ]
    notes = list(_notes(path, rows, labels))
    guessed = label_kind == "auto" and classes is None and bool(labels)
    if guessed and not found:
        notes.append(
            f"the labels of {path} are scores, for instance {labels[0][1]}; to tell them apart as "
            "names instead: --config.label_kind=classes"
        )
    if undecided:
        notes.append(f"{undecided} rows of {path} without agreement (label '-') were left out")
    if guessed and len(found) > MOST_PLAIN_CLASSES and are_whole_numbers(found):
        notes.append(
            f"the labels of {path} are whole numbers, taken for {len(found)} classes; to learn "
            "them as a score: --config.label_kind=score"
        )
    return Dataset(path.name, examples, found, str(path), digest.hexdigest(), tuple(notes))


def is_undecided(label_column: str, label: str | None) -> bool:
    """Whether the annotators of SNLI or MNLI did not agree: `-` in a column `gold_label`."""
    return label_column == "gold_label" and label == "-"


def stream_text_file(
    source: Path | str,
    *,
    text_columns: Sequence[str] = ("sentence",),
    file_format: str | None = None,
) -> Iterator[Example]:
    """Yields texts to be labelled, in bounded memory; labels in the file are not read.

    Args:
      source: A path, or `-` for standard input.
      text_columns: One column, or two for pairs. Plain text has no columns: a line is a text
        (empty lines too, so that lines out match lines in), or with two columns a text, a tab
        and a text.
      file_format: One of `FORMATS`; default by the file's suffix, `txt` for standard input.

    Raises:
      UserError: as `read_text_file`.
    """
    check_text_columns(text_columns)
    stream: Source = sys.stdin.buffer if str(source) == "-" else Path(source)
    if file_format is None:
        file_format = format_of(stream) if isinstance(stream, Path) else "txt"
    if file_format not in FORMATS:
        raise UserError(f"unknown file format {file_format!r}; known: {', '.join(FORMATS)}")
    columns = Columns(tuple(text_columns), "", False)
    for number, row in enumerate(read_columns(stream, file_format, columns)):
        yield Example(str(number), row.texts)


def split_by_hash(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Splits off a share of the examples, chosen by SHA-256 of (seed, texts).

    Where an example goes depends on nothing but its texts: not on order, other rows or machine,
    and exact duplicates stay together, so that no training text is held out as well.

    Args:
      dataset: What to split.
      share: The share to hold out, between 0 and 1.
      seed: Another seed gives another split.

    Returns:
      (the rest, the held-out part), both in file order and with all classes.

    Raises:
      UserError: the share is not between 0 and 1, or one of the parts is empty.
    """
    if not 0 < share < 1:
        raise UserError(f"the share to hold out must lie between 0 and 1; found {share}")
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in dataset.examples:
        key = json.dumps([seed, *example.texts]).encode()
        fraction = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
        parts[fraction < share].append(example)
    if not all(parts):
        raise UserError(
            f"{dataset.source}: holding out a share of {share} of {len(dataset.examples)} examples "
            f"({len({example.texts for example in dataset.examples})} different) leaves one part "
            "empty; name a file to evaluate on, or another share"
        )
    names = (f"{dataset.name} without held-out share", f"{dataset.name} held-out share")
    note = f"{len(parts[1])} of {len(dataset.examples)} examples held out by hash, seed {seed}"
    rest, held_out = (
        dataclasses.replace(
            dataset,
            name=name,
            examples=part,
            fingerprint=_part_fingerprint(dataset.fingerprint, share, seed, role),
            notes=(*dataset.notes, note),
        )
        for name, part, role in zip(names, parts, ("rest", "held out"), strict=True)
    )
    return rest, held_out


def _part_fingerprint(fingerprint: str, share: float, seed: int, role: str) -> str:
    """Of the bytes, whatever the file is called, so that it may be renamed or compressed."""
    return hashlib.sha256(json.dumps([fingerprint, share, seed, role]).encode()).hexdigest()


def _notes(path: Path, rows: list[Row], labels: list[tuple[int, str]]) -> Iterator[str]:
    empty = [row.line for row in rows if not all(row.texts)]
    if empty:
        shown = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
        yield f"{len(empty)} rows of {path} have an empty text (lines {shown})"
    if labels and len(labels) < len(rows):
        yield f"{len(rows) - len(labels)} of {len(rows)} rows of {path} have no label"
