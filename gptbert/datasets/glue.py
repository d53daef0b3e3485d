"""GLUE's splits -> `Dataset`, from GLUE's own files or from TensorFlow Datasets.

GLUE's TSV files have no quoting: a quote is a letter, and a reader that believes otherwise merges
rows without a word. Columns are found by their names where line 1 has them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

from gptbert.datasets import Dataset, Example, tfds
from gptbert.datasets.glue_files import (
    hub_files,
    mrpc_originals,
    not_found,
    official_file,
    prepared_folder,
)
from gptbert.datasets.glue_tasks import (
    GLUE_TASKS,
    GlueSplit,
    GlueTask,
    find_split,
    find_task,
)
from gptbert.datasets.lines import read_rows
from gptbert.errors import UserError, nearest

__all__ = [
    "GLUE_TASKS",
    "GlueSplit",
    "GlueTask",
    "find_split",
    "find_task",
    "has_glue",
    "read_glue",
]

MAX_SCORE = 5.0  # of STS-B


def read_glue(task: str, split: str, data_dir: Path) -> Dataset:
    """Reads one split of a GLUE task.

    Args:
      task: A key of `GLUE_TASKS`.
      split: `train`, `dev` or `test`; MNLI also has `dev_matched` (which `dev` means there),
        `dev_mismatched`, `test_matched`, `test_mismatched`; AX has `test` and, where
        `diagnostic-full.tsv` is at hand, a labelled `dev`.
      data_dir: GLUE's folder (with `MRPC/train.tsv`, `.tsv.xz` or `.tsv.gz`), the task's own
        folder, a TFDS data folder (with `glue/mrpc/2.0.0`) or a version folder of it.

    Raises:
      UserError: unknown task or split, nothing found, or a file that is not as the task's
        files are; the message names file, line and what was expected.
    """
    facts = find_task(task)
    split = find_split(facts, split)
    if path := official_file(facts, split, data_dir):
        return _read_official(facts, split, path)
    if place := prepared_folder(facts, split, data_dir):
        return _from_rows(facts, split, tfds.read_prepared(*place))
    if files := hub_files(facts, split, data_dir):
        return _from_rows(facts, split, tfds.read_parquet_files(files))
    if originals := mrpc_originals(facts, split, data_dir):
        return _read_mrpc_originals(facts, split, *originals)
    raise not_found(facts, split, data_dir)


def has_glue(task: str, split: str, data_dir: Path) -> bool:
    """Whether `read_glue` would find files of the split; `UserError` for an unknown one."""
    facts = find_task(task)
    split = find_split(facts, split)
    finders = (official_file, prepared_folder, hub_files, mrpc_originals)
    return any(finder(facts, split, data_dir) for finder in finders)


def _read_official(task: GlueTask, split: str, path: Path) -> Dataset:
    facts = task.splits[split]
    digest = hashlib.sha256()
    rows = read_rows(path, digest=digest)
    names = _header(task, facts, path, rows) if facts.has_header else facts.columns
    text_columns = [names.index(name) for name in facts.texts or task.texts]
    label_name = facts.label or task.label
    label_column = names.index(label_name) if label_name in names else None
    index_column = next((names.index(name) for name in ("index", "id") if name in names), None)
    is_test = split.startswith("test")
    examples: list[Example] = []
    dropped: list[int] = []
    for row, (line, content) in enumerate(rows):
        fields = content.split("\t")
        if task.drops_short_rows and _lacks_fields(fields, names, label_column):
            dropped.append(line)
            continue
        if len(fields) != len(names):
            raise _wrong_count(path, line, fields, names)
        label = None
        if label_column is not None and not (is_test and fields[label_column] in ("-1", "")):
            label = _label(task, fields[label_column], f"{path}:{line}")
        index = str(row) if index_column is None else fields[index_column]
        examples.append(Example(index, tuple(fields[column] for column in text_columns), label))
    if not examples:
        problem = "a header and no rows" if facts.has_header else "the file is empty"
        raise UserError(f"{path}: {problem}; expected about {facts.rows} rows")
    return _dataset(task, split, examples, path, digest.hexdigest(), _dropped_note(dropped, path))


def _header(
    task: GlueTask, facts: GlueSplit, path: Path, rows: Iterator[tuple[int, str]]
) -> tuple[str, ...]:
    """The column names of line 1; refuses a header that lacks a column that is read."""
    _, content = next(rows, (0, ""))
    if not content:
        raise UserError(f"{path}: the file is empty; expected the columns {_listed(facts.columns)}")
    names = tuple(content.split("\t"))
    needed = facts.texts or task.texts
    label = facts.label or task.label
    for name in (*needed, label) if label in facts.columns else needed:
        if name not in names:
            raise UserError(
                f"{path}:1: no column {name!r}{nearest(name, names)}; expected "
                f"{_listed(facts.columns)}; found {_listed(names)}{_whose(names)}"
            )
    return names


def _label(task: GlueTask, value: str, where: str) -> str | float:
    """A label as the file writes it -> class name, or STS-B's score."""
    if task.classes:
        if value in task.labels:
            return task.classes[task.labels.index(value)]
        raise UserError(f"{where}: unknown label {value!r}; known labels: {', '.join(task.labels)}")
    try:
        score = float(value)
    except ValueError:
        score = math.nan
    if not 0 <= score <= MAX_SCORE:
        raise UserError(f"{where}: label {value!r} is not a score from 0 to {MAX_SCORE:g}")
    return score


def _lacks_fields(fields: list[str], names: tuple[str, ...], label_column: int | None) -> bool:
    if len(fields) < len(names):
        return True
    return label_column is not None and not fields[label_column]


def _dataset(
    task: GlueTask,
    split: str,
    examples: list[Example],
    source: Path | str,
    fingerprint: str,
    notes: tuple[str, ...] = (),
) -> Dataset:
    name = f"glue/{task.name} {split}"
    official = task.splits[split].rows
    if len(examples) != official:
        version = " (QNLI has an older version with other splits)" if task.name == "qnli" else ""
        notes += (f"{name} has {len(examples)} examples, the official {official}{version}",)
    return Dataset(name, examples, task.classes, str(source), fingerprint, notes)


def _from_rows(task: GlueTask, split: str, prepared: tfds.PreparedSplit) -> Dataset:
    """Rows of TFDS -> Dataset; class numbers are read through the names stored with them."""
    texts = _tfds_texts(task)
    names = prepared.class_names.get("label", ())
    if names and set(names) != set(task.classes):
        raise UserError(
            f"{prepared.source}: the classes are {_listed(names)}; glue/{task.name} has "
            f"{_listed(task.classes)}"
        )
    examples = []
    for number, row in enumerate(prepared.rows):
        where = f"{prepared.source}: row {row.get('idx', number)}"
        for name in (*texts, "label"):
            if name not in row:
                raise UserError(f"{where} has no {name!r}{nearest(name, row)}")
        label = _prepared_label(task, split, row["label"], names, where)
        words = tuple(row[name] for name in texts)
        if not all(isinstance(word, str) for word in words):
            raise UserError(f"{where}: {_listed(texts)} should be text; found {words!r:.80}")
        examples.append(Example(str(row.get("idx", number)), words, label))
    if not examples:
        raise UserError(f"{prepared.source}: split {split!r} has no rows")
    return _dataset(task, split, examples, prepared.source, prepared.fingerprint)


def _prepared_label(
    task: GlueTask, split: str, value: object, names: tuple[str, ...], where: str
) -> str | float | None:
    if split.startswith("test") and value in (-1, None):
        return None
    if not task.classes:
        return _label(task, str(value), where)
    if isinstance(value, int) and not names:
        raise UserError(f"{where}: class numbers without names (no label.labels.txt); cannot map")
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if value in task.classes:
        return str(value)
    raise UserError(f"{where}: unknown label {value!r}; known labels: {_listed(task.classes)}")


def _tfds_texts(task: GlueTask) -> tuple[str, ...]:
    if task.name in ("mnli", "ax"):
        return ("premise", "hypothesis")
    return ("sentence1", "sentence2") if task.name == "mrpc" else task.texts


def _read_mrpc_originals(task: GlueTask, split: str, path: Path, dev_ids: Path | None) -> Dataset:
    """Cuts MRPC's split from Microsoft's files: listed pairs are dev, the others train.

    The test file has labels; they are left out, as in GLUE.
    """
    digest = hashlib.sha256()
    listed = _pairs(dev_ids, digest) if dev_ids else set()
    official = GlueSplit((path.name,), task.splits["train"].columns, 0)
    rows = read_rows(path, digest=digest)
    names = _header(task, official, path, rows)
    columns = [names.index(name) for name in ("#1 ID", "#2 ID", *task.texts, task.label)]
    examples = []
    for number, (line, content) in enumerate(rows):
        fields = content.split("\t")
        if len(fields) != len(names):
            raise _wrong_count(path, line, fields, names)
        first, second, text1, text2, label = (fields[column] for column in columns)
        if split != "test" and ((first, second) in listed) != (split == "dev"):
            continue
        known = None if split == "test" else _label(task, label, f"{path}:{line}")
        examples.append(Example(str(number), (text1, text2), known))
    if not examples:
        raise UserError(f"{path}: no rows of the split {split!r}")
    by_ids = f" by {dev_ids.name}" if dev_ids else ""
    note = f"glue/mrpc {split} was cut from {path.name}{by_ids}"
    return _dataset(task, split, examples, path, digest.hexdigest(), (note,))


def _pairs(path: Path, digest: object) -> set[tuple[str, ...]]:
    pairs = {tuple(content.split("\t")) for _, content in read_rows(path, digest=digest)}
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise UserError(f"{path}: expected two ids a line, found {wrong[0]}")
    return pairs


def _wrong_count(path: Path, line: int, fields: list[str], names: tuple[str, ...]) -> UserError:
    return UserError(
        f"{path}:{line}: {len(fields)} columns instead of {len(names)} ({_listed(names)}); "
        f"the line begins {fields[0][:40]!r}"
    )


def _dropped_note(lines: list[int], path: Path) -> tuple[str, ...]:
    if not lines:
        return ()
    shown = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
    note = f"{len(lines)} rows of {path} left out for missing fields, as GLUE's own readers do"
    return (f"{note} (lines {shown})",)


def _whose(names: tuple[str, ...]) -> str:
    """Names the task that has these columns: archives have been served under wrong names."""
    for task in GLUE_TASKS.values():
        if any(names == split.columns and split.has_header for split in task.splits.values()):
            return f" (the columns of {task.folders[0]})"
    return ""


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names)
