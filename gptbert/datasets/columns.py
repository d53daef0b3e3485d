"""TSV, CSV, JSON lines and plain text -> the columns asked for, row by row.

TSV has no quoting (a quote is a letter), CSV has RFC 4180's; both have their column names in
line 1. JSON lines hold an object a line, plain text a text a line. All may be `.gz` or `.xz`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gptbert.datasets.lines import MAX_LINE_BYTES, read_lines, read_rows, source_name
from gptbert.errors import UserError, nearest

TABLES = ("tsv", "csv", "jsonl")  # have columns, so also labels
FORMATS = (*TABLES, "txt")

Source = Path | BinaryIO
Record = tuple[int, list[str]]  # line number, fields


class Row(NamedTuple):
    """One row as written; `line` counts from 1, `label` is None where there is none."""

    line: int
    texts: tuple[str, ...]
    label: str | None


class Columns(NamedTuple):
    """What to read: `label` is empty for none; with `labelled`, rows without it are refused."""

    texts: tuple[str, ...]
    label: str
    labelled: bool


def check_text_columns(names: Sequence[object]) -> None:
    """Refuses anything but one column of texts, or two for pairs."""
    if not 1 <= len(names) <= 2 or not all(isinstance(name, str) and name for name in names):
        found = ", ".join(map(str, names)) or "nothing"
        raise UserError(f"text_columns={found}: expected the name of one column, or two for pairs")


def format_of(path: Path, accepted: Sequence[str] = FORMATS) -> str:
    """The format that a file's suffix tells; `UserError` for one that is not accepted."""
    name = path.name.removesuffix(".gz").removesuffix(".xz")
    suffix = Path(name).suffix[1:].lower()
    if suffix not in accepted:
        known = ", ".join(f".{known}" for known in accepted)
        if suffix in FORMATS:
            raise UserError(f"{path}: plain text has no columns; expected one of {known}")
        raise UserError(f"{path}: unknown kind of file; expected one of {known} (also .gz, .xz)")
    return suffix


def read_columns(
    source: Source, file_format: str, columns: Columns, digest: Any = None
) -> Iterator[Row]:
    """Yields the rows of a source in bounded memory, feeding the bytes read to `digest`.

    Raises:
      UserError: a column is missing, a row has other columns than line 1, a label is missing
        where one is required, the CSV or JSON is malformed; names file and line.
    """
    if file_format == "jsonl":
        return _json_rows(source, columns, digest)
    if file_format == "txt":
        return _plain_rows(source, columns)
    table = _csv_table(source, digest) if file_format == "csv" else _tsv_table(source, digest)
    return _table_rows(table, source_name(source), columns)


def _table_rows(table: Iterator[Record], name: str, columns: Columns) -> Iterator[Row]:
    _, header = next(table, (0, []))
    texts, label = _places(header, name, columns)
    for line, fields in table:
        if len(fields) != len(header):
            raise UserError(
                f"{name}:{line}: {len(fields)} columns instead of {len(header)} "
                f"({', '.join(map(repr, header))}); the row begins {fields[0][:40]!r}"
            )
        value = fields[label] if label is not None else ""
        if columns.labelled and not value:
            raise UserError(f"{name}:{line}: no label in column {columns.label!r}")
        yield Row(line, tuple(fields[place] for place in texts), value or None)


def _places(header: list[str], name: str, columns: Columns) -> tuple[list[int], int | None]:
    """Where the text columns and the label column are."""
    if not header:
        raise UserError(f"{name}: the file is empty; line 1 must name the columns")
    needed = [*columns.texts, columns.label] if columns.labelled else columns.texts
    for column in needed:
        if column not in header:
            raise UserError(
                f"{name}:1: no column {column!r}{nearest(column, header)}; found "
                f"{', '.join(map(repr, header))}{_separator_hint(header)}"
            )
        if header.count(column) > 1:
            raise UserError(f"{name}:1: two columns are called {column!r}")
    places = [header.index(column) for column in columns.texts]
    return places, header.index(columns.label) if columns.label in header else None


def _separator_hint(header: list[str]) -> str:
    for separator, kind in (("\t", "TSV"), (",", "CSV"), (";", "neither TSV nor CSV")):
        if len(header) == 1 and separator in header[0]:
            return f" (columns separated by {separator!r}, which is {kind})"
    return ""


def _tsv_table(source: Source, digest: Any) -> Iterator[Record]:
    for line, content in read_rows(source, digest=digest):
        yield line, content.split("\t")


def _csv_table(source: Source, digest: Any) -> Iterator[Record]:
    """Yields (line where the record begins, fields)."""
    # The limit is the process's, and its default of 128 KiB is less than a long document.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    name = source_name(source)
    reader = csv.reader(read_lines(source, keep_ends=True, digest=digest), strict=True)
    empty_line = 0
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{name}:{line}: the record that begins here is not CSV ({error}); quoted fields "
                "must be closed, and a quote in them is written twice"
            ) from error
        if not fields:
            empty_line = empty_line or line
        elif empty_line:
            raise UserError(f"{name}:{empty_line}: an empty line between the rows; remove it")
        else:
            yield line, fields
        line = reader.line_num + 1


def _plain_rows(source: Source, columns: Columns) -> Iterator[Row]:
    for line, content in enumerate(read_lines(source), start=1):
        texts = tuple(content.split("\t")) if len(columns.texts) > 1 else (content,)
        if len(texts) != len(columns.texts):
            raise UserError(
                f"{source_name(source)}:{line}: {len(texts)} texts instead of "
                f"{len(columns.texts)}, to be separated by tabs"
            )
        yield Row(line, texts, None)


class _Number(str):
    """A JSON number as written, so that 1 and 1.0 can be told apart."""


def _json_rows(source: Source, columns: Columns, digest: Any) -> Iterator[Row]:
    for line, content in read_rows(source, digest=digest):
        where = f"{source_name(source)}:{line}"
        record = _json_object(content, where)
        texts = tuple(_json_field(record, column, where) for column in columns.texts)
        for column, text in zip(columns.texts, texts, strict=True):
            if not isinstance(text, str) or isinstance(text, _Number):
                raise UserError(f"{where}: {column!r} should be a text; found {text!r:.80}")
        label = record.get(columns.label)
        if isinstance(label, bool):
            label = json.dumps(label)
        if columns.labelled and (label is None or label == ""):
            label = _json_field(record, columns.label, where)
            raise UserError(f"{where}: no label in {columns.label!r} (found {label!r})")
        if columns.label and label is not None and not isinstance(label, str):
            raise UserError(
                f"{where}: a label is a text, a number, true or false; found {label!r:.80}"
            )
        yield Row(line, texts, str(label) if columns.label and label else None)


def _json_object(content: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(content, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}); expected one object a line") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object, found {content[:40]!r}")
    return record


def _json_field(record: dict[str, Any], column: str, where: str) -> Any:
    if column not in record:
        raise UserError(
            f"{where}: no {column!r}{nearest(column, record)}; found {', '.join(map(repr, record))}"
        )
    return record[column]
