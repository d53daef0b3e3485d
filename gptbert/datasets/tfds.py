"""Data prepared by TensorFlow Datasets, read without TensorFlow.

A version folder (`glue/mrpc/2.0.0`) holds `dataset_info.json` (splits, shards, file format), one
`FEATURE.labels.txt` for every class label, and shards of serialized `tf.train.Example`s in
array_record, tfrecord or parquet files (there in one binary column `data`). Parquet files with a
column for every feature, as the Hugging Face hub has them, are told apart by their schema.

TFDS shuffles what it writes: rows are put back in order by `idx` where there is one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.datasets.lines import read_lines
from gptbert.datasets.tfrecord import read_tfrecord
from gptbert.errors import UserError

Row = dict[str, Any]

# Seen in 4.9.10, whose batching of an iterator skips rows that it has passed already.
_LOSSY_WRITER = " (TFDS's parquet writer loses rows after the first hundred; use array_record)"

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclasses.dataclass(frozen=True)
class PreparedInfo:
    """What `dataset_info.json` says: `shards` maps a split to its files and their row counts."""

    name: str
    config: str
    file_format: str
    shards: dict[str, dict[Path, int]]


@dataclasses.dataclass(frozen=True)
class PreparedSplit:
    """The rows of one split (feature -> text, number or list) and the names of its classes."""

    rows: list[Row]
    class_names: dict[str, tuple[str, ...]]
    source: str
    fingerprint: str


def version_folder(root: Path) -> Path | None:
    """`root` or its newest version folder that holds a `dataset_info.json`, else None."""
    if (root / "dataset_info.json").is_file():
        return root
    versions = [path for path in root.glob("*.*.*") if _VERSION.fullmatch(path.name)]
    versions = [path for path in versions if (path / "dataset_info.json").is_file()]
    newest = sorted(versions, key=lambda path: [int(part) for part in path.name.split(".")])
    return newest[-1] if newest else None


def read_info(folder: Path) -> PreparedInfo:
    """Parses `folder/dataset_info.json`; `UserError` if it is damaged."""
    path = folder / "dataset_info.json"
    try:
        info = json.loads("\n".join(read_lines(path)))
        name = str(info["name"])
        file_format = str(info.get("fileFormat", "tfrecord"))
        shards = {
            str(split["name"]): _shards(folder, name, file_format, split)
            for split in info.get("splits", [])
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: damaged ({type(error).__name__}: {error}); prepare the data again"
        ) from error
    return PreparedInfo(name, str(info.get("configName", "")), file_format, shards)


def read_prepared(folder: Path, split: str) -> PreparedSplit:
    """Reads one split of a version folder.

    Raises:
      UserError: no such split, a shard is missing, damaged or of another length than stated.
    """
    info = read_info(folder)
    if split not in info.shards:
        raise UserError(f"{folder} has no split {split!r}; it has: {', '.join(info.shards)}")
    reader = _READERS.get(info.file_format)
    if reader is None:
        raise UserError(
            f"{folder}: files in the format {info.file_format!r} cannot be read; prepare the data "
            "again as one of: " + ", ".join(_READERS)
        )
    rows: list[Row] = []
    for path, expected in info.shards[split].items():
        found = _read_shard(path, reader)
        if len(found) != expected:
            raise UserError(
                f"{path}: {len(found)} records instead of the {expected} of dataset_info.json"
                f"{_LOSSY_WRITER if info.file_format == 'parquet' else ''}; prepare the data again"
            )
        rows += found
    files = list(info.shards[split])
    return PreparedSplit(_by_index(rows, folder), _class_names(folder), str(folder), _digest(files))


def parquet_files(folder: Path, split: str) -> list[Path]:
    """The hub's files of a split, `train-00000-of-00001.parquet`; empty if there are none.

    Raises:
      UserError: some of the numbered files are missing.
    """
    files = sorted(folder.glob(f"{split}-[0-9]*-of-[0-9]*.parquet"))
    if files and len(files) != int(files[0].stem.rsplit("-", 1)[1]):
        raise UserError(f"{folder}: {len(files)} files like {files[0].name}, some are missing")
    return files


def read_parquet_files(files: list[Path]) -> PreparedSplit:
    """Reads a split given as parquet files; class names come from the hub's schema metadata."""
    rows = [row for path in files for row in _read_shard(path, _parquet_rows)]
    folder = files[0].parent
    names = _class_names(folder) | _hub_class_names(files[0])
    return PreparedSplit(_by_index(rows, folder), names, str(folder), _digest(files))


def _shards(folder: Path, name: str, file_format: str, split: dict[str, Any]) -> dict[Path, int]:
    lengths = [int(length) for length in split.get("shardLengths", [])]
    shards = {}
    for number, length in enumerate(lengths):
        file_name = str(split.get("filepathTemplate") or _TEMPLATE)
        for key, value in {
            "DATASET": name,
            "SPLIT": str(split["name"]),
            "FILEFORMAT": file_format,
            "SHARD_X_OF_Y": f"{number:05d}-of-{len(lengths):05d}",
            "SHARD_INDEX": f"{number:05d}",
            "NUM_SHARDS": f"{len(lengths):05d}",
        }.items():
            file_name = file_name.replace(f"{{{key}}}", value)
        if Path(file_name).name != file_name:
            raise ValueError(f"{file_name!r} is not a file name")
        shards[folder / file_name] = length
    return shards


def _read_shard(path: Path, reader: Callable[[Path], list[Row]]) -> list[Row]:
    if not path.is_file():
        raise UserError(f"{path}: the file is missing; prepare the data again")
    try:
        return reader(path)
    except ImportError as error:
        raise UserError(f"{path}: reading it needs the package {error.name}") from error
    # array_record raises RuntimeError; pyarrow's errors derive from one of these four.
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: damaged ({reason:.200}); prepare the data again") from error


def _array_record_rows(path: Path) -> list[Row]:
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return _parse(reader.read_all() if reader.num_records() else [])
    finally:
        reader.close()


def _tfrecord_rows(path: Path) -> list[Row]:
    return _parse(read_tfrecord(path))


def _parquet_rows(path: Path) -> list[Row]:
    import pyarrow
    from pyarrow import parquet

    table = parquet.ParquetFile(path, page_checksum_verification=True).read()
    types = {field.name: field.type for field in table.schema}
    if list(types) == ["data"] and pyarrow.types.is_binary(types["data"]):
        return _parse(table.column("data").to_pylist())
    rows = table.to_pylist()
    for name in [name for name, type_ in types.items() if type_ == pyarrow.float32()]:
        for row in rows:
            row[name] = _shortest_decimal(row[name])
    return rows


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    "array_record": _array_record_rows,
    "parquet": _parquet_rows,
    "tfrecord": _tfrecord_rows,
}


def _parse(records: list[bytes]) -> list[Row]:
    """Parses serialized `tf.train.Example`s; a feature of one value becomes that value."""
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_generated_pb2 as proto

    rows = []
    for number, record in enumerate(records):
        try:
            features = proto.Example.FromString(record).features.feature
        except (DecodeError, TypeError) as error:  # the second of a null
            raise ValueError(f"record {number} is no tf.train.Example") from error
        rows.append({name: _values(feature) for name, feature in features.items()})
    return rows


def _values(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    if kind == "bytes_list":
        values = [value.decode("utf-8") for value in values]
    elif kind == "float_list":
        values = [_shortest_decimal(value) for value in values]
    return values[0] if len(values) == 1 else values


def _shortest_decimal(value: float | None) -> float | None:
    """The number as the source had it before it became a float32: 3.8, not 3.799999952."""
    return None if value is None else float(str(np.float32(value)))


def _by_index(rows: list[Row], folder: Path) -> list[Row]:
    if not all("idx" in row for row in rows):
        return rows
    kinds = {type(row["idx"]) for row in rows}
    if len(kinds) > 1 or not kinds <= {int, float, str}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UserError(
            f"{folder}: the rows' idx are of type {found}; expected a number in every row; prepare "
            "the data again"
        )
    if len({row["idx"] for row in rows}) != len(rows):
        raise UserError(f"{folder}: two rows have the same idx; prepare the data again")
    return sorted(rows, key=lambda row: row["idx"])


def _class_names(folder: Path) -> dict[str, tuple[str, ...]]:
    return {
        path.name.removesuffix(".labels.txt"): tuple(line for line in read_lines(path) if line)
        for path in sorted(folder.glob("*.labels.txt"))
    }


def _hub_class_names(path: Path) -> dict[str, tuple[str, ...]]:
    from pyarrow import parquet

    metadata = parquet.read_schema(path).metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})["features"]
        return {
            name: tuple(str(value) for value in feature["names"])
            for name, feature in features.items()
            if "names" in feature
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
