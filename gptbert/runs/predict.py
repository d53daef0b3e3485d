"""Labels new texts: a line out for every text in, in order, in bounded memory."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gptbert.datasets import Dataset, Example
from gptbert.datasets.columns import FORMATS, Columns, format_of, read_columns
from gptbert.errors import UserError, nearest
from gptbert.runs.chunks import in_chunks, standard_input
from gptbert.runs.finetune import prediction_records
from gptbert.runs.output import json_line
from gptbert.runs.using import Classifier
from gptbert.tasks.classification import probabilities

OUTPUT_FORMATS = ("jsonl", "tsv", "csv")


@dataclasses.dataclass(frozen=True)
class Stream:
    """Texts to come, and whether the next one can be had without waiting."""

    examples: Iterable[Example]
    has_more: Callable[[], bool] = lambda: True


def typed(texts: Sequence[tuple[str, ...]]) -> Stream:
    """Texts or pairs from the command line; raises UserError if one is not UTF-8."""
    for number, each in enumerate(texts, start=1):
        for text in each:
            # What is not UTF-8 on the command line arrives as lone surrogates.
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise UserError(f"text {number} of the command line is not UTF-8")
    return Stream([Example(str(number), each) for number, each in enumerate(texts)])


def from_file(name: str, text_columns: tuple[str, ...], file_format: str = "") -> Stream:
    """Texts of a file, or of standard input for `-`; read as they are asked for.

    Args:
      name: The file.
      text_columns: One column, or two for pairs; plain text has a text a line, pairs with a tab.
      file_format: One of `FORMATS`; by default as the suffix says, plain text for `-`.

    Raises:
      UserError: An unknown format; the rest while reading, with file and line.
    """
    if file_format and file_format not in FORMATS:
        raise UserError(
            f"--input_format={file_format}: unknown{nearest(file_format, FORMATS)}; expected one "
            f"of {', '.join(FORMATS)}"
        )
    columns = Columns(text_columns, "", labelled=False)
    if name == "-":
        source, has_more = standard_input()
        return Stream(_numbered(read_columns(source, file_format or "txt", columns)), has_more)
    path = Path(name)
    return Stream(_numbered(read_columns(path, file_format or format_of(path), columns)))


def _numbered(rows: Iterable) -> Iterator[Example]:  # type: ignore[type-arg]
    return (Example(str(number), row.texts) for number, row in enumerate(rows))


def predict(
    classifier: Classifier, stream: Stream, file: BinaryIO, file_format: str = "jsonl"
) -> tuple[int, int]:
    """Writes a line for each text, flushed whenever a chunk is done.

    Args:
      classifier: The model.
      stream: Single texts or pairs.
      file: Where the lines go.
      file_format: `jsonl`: id, texts, prediction, probabilities. `tsv` and `csv`: prediction and
        one column of probabilities a class, their names in a first line.

    Returns:
      How many texts there were, and how many of them were cut to the model's length.

    Raises:
      UserError: The texts cannot be read.
      RunFailed: The model gives numbers that are not finite.
    """
    if file_format == "jsonl":
        lines = functools.partial(_json_lines, classifier.source.classes)
    else:
        write = _csv_row if file_format == "csv" else _tsv_row
        lines = functools.partial(_table_lines, write, classifier.source.classes)
        file.write(write(["prediction", *classifier.source.classes]))
    count = truncated = 0
    for chunk in in_chunks(stream.examples, stream.has_more):
        features = classifier.encode([example.texts for example in chunk])
        file.writelines(lines(chunk, classifier.outputs(features)))
        file.flush()
        count += len(chunk)
        truncated += int(features.truncated.sum())
    file.flush()
    return count, truncated


def _json_lines(
    classes: tuple[str, ...], chunk: list[Example], outputs: np.ndarray
) -> Iterator[bytes]:
    for record in prediction_records(Dataset("", chunk, classes, "", ""), outputs, classes):
        del record["label"]
        yield json_line(record)


def _table_lines(
    write: Callable[[Sequence[str]], bytes],
    classes: tuple[str, ...],
    chunk: list[Example],
    outputs: np.ndarray,
) -> Iterator[bytes]:
    if not classes:
        yield from (write([f"{score:.6f}"]) for score in outputs[:, 0])
        return
    for row in probabilities(outputs):
        yield write([classes[int(row.argmax())], *(f"{share:.6f}" for share in row)])


def _tsv_row(cells: Sequence[str]) -> bytes:
    """TSV has no quoting: a tab or a line end in a class name becomes a space."""
    tame = str.maketrans("\t\r\n", "   ")
    return "\t".join(cell.translate(tame) for cell in cells).encode("utf-8", "replace") + b"\n"


def _csv_row(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode("utf-8", "replace")
