"""Folders written by TensorFlow Datasets itself, and what happens when they are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gptbert.datasets import Example, tfds
from gptbert.datasets.glue import read_glue
from gptbert.datasets.lines import read_lines
from gptbert.datasets.tfrecord import frame_record
from gptbert.errors import UserError

pytest.importorskip("tensorflow_datasets")

NAMES = ["entailment", "not_entailment"]
ROWS = 40


def _pair(number: int) -> tuple[str, str]:
    return (f'caf\u00e9 "{number}', "" if number == 3 else f"second {number}")


def _write_official(folder: Path, task: str, rows: int) -> None:
    """GLUE's own files, from which TFDS's builder prepares its folder."""
    folder.mkdir(parents=True)
    label_column = "label" if task == "rte" else "score"
    for split in ("train", "dev", "test"):
        header = "index\tsentence1\tsentence2" + f"\t{label_column}" * (split != "test")
        lines = [header]
        for number in range(rows):
            label = NAMES[number % 2] if task == "rte" else f"{number % 2}.800"
            lines.append("\t".join([str(number), *_pair(number)] + [label] * (split != "test")))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _prepare(data_dir: Path, file_format: str, task: str = "rte", rows: int = ROWS) -> None:
    """Lets TFDS's builder of GLUE write a folder, from files instead of a download."""
    import tensorflow_datasets as reference
    import tensorflow_datasets.text.glue

    official = data_dir / "official"
    builder = reference.builder(f"glue/{task}", data_dir=str(data_dir))
    _write_official(official / builder.builder_config.data_dir, task, rows)
    with pytest.MonkeyPatch.context() as patch:
        manager = reference.download.DownloadManager
        patch.setattr(manager, "download_and_extract", lambda self, url: str(official))
        builder.download_and_prepare(file_format=file_format)
    shutil.rmtree(official)


def _write_tfrecord(source: Path, target: Path) -> Path:
    """Copies a prepared array_record folder as TFDS with TensorFlow would have written it."""
    from array_record.python import array_record_module

    shutil.copytree(source, target)
    for path in target.glob("*.array_record-*"):
        records = array_record_module.ArrayRecordReader(str(path)).read_all()
        frames = b"".join(map(frame_record, records))
        path.with_name(path.name.replace("array_record", "tfrecord")).write_bytes(frames)
        path.unlink()
    path = target / "dataset_info.json"
    info = json.loads(path.read_text())
    del info["fileFormat"]  # absent means tfrecord, the default
    path.write_text(json.dumps(info))
    return target


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> dict[str, Path]:
    """format -> data folder; made once, copied by the tests that damage it."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("array_record", "parquet")}
    for name, folder in folders.items():
        _prepare(folder, name)
    folders["tfrecord"] = tmp_path_factory.mktemp("tfrecord")
    inner = Path("glue/rte/2.0.0")
    _write_tfrecord(folders["array_record"] / inner, folders["tfrecord"] / inner)
    return folders


@pytest.fixture
def copied(prepared: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        return shutil.copytree(prepared[name], tmp_path / name) / "glue/rte/2.0.0"

    return copy


FORMATS = ("array_record", "parquet", "tfrecord")


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("inner", ["", "glue", "glue/rte", "glue/rte/2.0.0"])
def test_every_format_from_every_level(prepared, file_format: str, inner: str) -> None:
    train = read_glue("rte", "train", prepared[file_format] / inner)
    assert train.examples == [
        Example(str(number), _pair(number), NAMES[number % 2]) for number in range(ROWS)
    ]
    assert train.classes == tuple(NAMES)
    test = read_glue("rte", "test", prepared[file_format] / inner)
    assert [example.label for example in test.examples] == [None] * ROWS
    assert len(train.fingerprint) == 64
    assert train.fingerprint != test.fingerprint


@pytest.mark.parametrize("file_format", ["array_record", "parquet"])
def test_scores_are_the_decimals_of_the_source(tmp_path: Path, file_format: str) -> None:
    _prepare(tmp_path, file_format, "stsb")
    train = read_glue("stsb", "train", tmp_path)
    assert [example.label for example in train.examples[:3]] == [0.8, 1.8, 0.8]
    assert read_glue("stsb", "test", tmp_path).examples[0].label is None


def test_rows_lost_by_tfds_parquet_writer_are_noticed(tmp_path: Path) -> None:
    _prepare(tmp_path, "parquet", rows=350)
    with pytest.raises(UserError, match=r"records instead of the 350 .*loses rows.*array_record"):
        read_glue("rte", "train", tmp_path)


def _change_info(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def test_class_numbers_are_mapped_by_the_stored_names(copied) -> None:
    folder = copied("array_record")
    (folder / "label.labels.txt").write_text("not_entailment\nentailment\n")
    examples = read_glue("rte", "train", folder).examples
    assert [example.label for example in examples[:2]] == ["not_entailment", "entailment"]


def test_other_class_names_are_refused(copied) -> None:
    folder = copied("array_record")
    (folder / "label.labels.txt").write_text("same\nother\n")
    with pytest.raises(UserError, match=r"the classes are 'same', 'other'; glue/rte has 'ent"):
        read_glue("rte", "train", folder)
    (folder / "label.labels.txt").unlink()
    with pytest.raises(UserError, match=r"class numbers without names"):
        read_glue("rte", "train", folder)


def test_the_folder_of_another_config_is_not_taken(prepared) -> None:
    with pytest.raises(UserError, match="glue/wnli train not found"):
        read_glue("wnli", "train", prepared["array_record"] / "glue/rte/2.0.0")


def test_the_newest_version_is_read(copied) -> None:
    folder = copied("array_record")
    shutil.copytree(folder, folder.with_name("10.0.0"))
    (folder.with_name("9.0.0")).mkdir()
    assert tfds.version_folder(folder.parent) == folder.with_name("10.0.0")
    assert tfds.version_folder(folder) == folder
    assert tfds.version_folder(folder.parent.parent) is None


def _shard(folder: Path) -> Path:
    return next(folder.glob("glue-train.*"))


@pytest.mark.parametrize("file_format", FORMATS)
def test_damaged_shards_are_named(copied, file_format: str) -> None:
    folder = copied(file_format)
    path = _shard(folder)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"nonsense" * 20000, b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{path}.*(damaged|instead of the {ROWS})"):
            tfds.read_prepared(folder, "train")
    path.unlink()
    with pytest.raises(UserError, match=rf"{path}: the file is missing; prepare the data again"):
        tfds.read_prepared(folder, "train")


def test_records_that_are_no_examples_are_refused(copied) -> None:
    folder = copied("tfrecord")
    _shard(folder).write_bytes(frame_record(b"\xff\xfe no protobuf") * ROWS)
    with pytest.raises(UserError, match=r"damaged \(record 0 is no tf.train.Example\)"):
        tfds.read_prepared(folder, "train")


def test_shards_of_other_lengths_than_stated_are_refused(copied) -> None:
    folder = copied("tfrecord")
    _change_info(folder, lambda info: info["splits"][0].update(shardLengths=["39"]))
    with pytest.raises(UserError, match=r"40 records instead of the 39"):
        tfds.read_prepared(folder, "train")


def test_several_shards_are_one_split(copied) -> None:
    folder = copied("tfrecord")
    path = _shard(folder)
    content = path.read_bytes()
    half = 0
    for _ in range(15):
        half += 16 + int.from_bytes(content[half : half + 8], "little")
    path.unlink()
    for number, part in enumerate((content[:half], content[half:])):
        (folder / f"glue-train.tfrecord-{number:05d}-of-00002").write_bytes(part)
    _change_info(folder, lambda info: info["splits"][0].update(shardLengths=["15", "25"]))
    assert len(read_glue("rte", "train", folder).examples) == ROWS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.pop("splits"), "glue/rte train not found"),
        (lambda info: info.pop("name"), "damaged .KeyError: 'name'"),
        (lambda info: info.update(splits=[{"name": "train", "shardLengths": ["x"]}]), "damaged"),
        (lambda info: info.update(fileFormat="riegeli"), "format 'riegeli' cannot be read"),
        (
            lambda info: info["splits"][0].update(filepathTemplate="../../{SPLIT}"),
            "'../../train' is not a file name",
        ),
    ],
)
def test_damaged_descriptions_are_refused(copied, change, message: str) -> None:
    folder = copied("array_record")
    _change_info(folder, change)
    with pytest.raises(UserError, match=message):
        read_glue("rte", "train", folder)


def test_description_that_is_no_json(copied) -> None:
    folder = copied("array_record")
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset_info.json: damaged"):
        read_glue("rte", "train", folder)


def _write_hub_file(path: Path, names: list[str] | None, **columns: list) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(columns)
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def test_columnar_parquet_of_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "rte" / "validation-00000-of-00001.parquet"
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0], "idx": [7, 5]}
    _write_hub_file(path, NAMES, **columns)
    expected = [Example("5", ("b", "d"), NAMES[0]), Example("7", ("a", "c"), NAMES[1])]
    assert read_glue("rte", "dev", tmp_path).examples == expected
    assert read_glue("rte", "dev", tmp_path / "rte").examples == expected
    _write_hub_file(path, None, **columns)
    with pytest.raises(UserError, match="class numbers without names"):
        read_glue("rte", "dev", tmp_path)
    _write_hub_file(path, NAMES, **{**columns, "label": [1, 2]})
    with pytest.raises(UserError, match=r"row 5: unknown label 2; known labels: 'entailment'"):
        read_glue("rte", "dev", tmp_path)
    _write_hub_file(path, NAMES, sentence1=["a"], label=[1])
    with pytest.raises(UserError, match=r"row 0 has no 'sentence2' \(did you mean 'sentence1'\?\)"):
        read_glue("rte", "dev", tmp_path)


def test_hub_files_must_be_complete(tmp_path: Path) -> None:
    _write_hub_file(tmp_path / "rte" / "train-00000-of-00002.parquet", NAMES, label=[1])
    with pytest.raises(UserError, match=r"some are missing"):
        read_glue("rte", "train", tmp_path)


def test_mnli_halves_in_configs_of_their_own(tmp_path: Path) -> None:
    names = ["entailment", "neutral", "contradiction"]
    row = {"premise": ["p"], "hypothesis": ["h"], "label": [2], "idx": [0]}
    _write_hub_file(tmp_path / "mnli_mismatched/validation-00000-of-00001.parquet", names, **row)
    examples = read_glue("mnli", "dev_mismatched", tmp_path).examples
    assert examples == [Example("0", ("p", "h"), "contradiction")]


@pytest.mark.parametrize("task", ["cola", "sst2", "stsb", "qnli", "rte", "wnli", "ax"])
def test_real_files_read_as_tfds_reads_them(data_dir: Path, tmp_path: Path, task: str) -> None:
    """TFDS's own parser of GLUE's files, on the smallest labelled file and the test file."""
    import tensorflow_datasets as reference
    import tensorflow_datasets.text.glue

    builder = reference.builder(f"glue/{task}", data_dir="/nonexistent")
    names = builder.info.features["label"].names if task != "stsb" else None
    for split in ("dev", "test") if task != "ax" else ("test",):
        dataset = read_glue(task, split, data_dir / "glue")
        plain = tmp_path / f"{split}.tsv"  # TFDS reads no compressed files
        plain.write_text("".join(read_lines(Path(dataset.source), keep_ends=True)))
        rows = [row for _, row in builder._generate_examples(plain, split)]
        texts = list(builder.builder_config.text_features)
        assert [example.texts for example in dataset.examples] == [
            tuple(row[name] for name in texts) for row in rows
        ]
        expected = [row["label"] for row in rows]
        if split == "test":
            assert set(expected) == {-1}
        elif names is None:
            found = [example.label for example in dataset.examples]
            np.testing.assert_allclose(found, expected, rtol=1e-7)
        else:
            written = [value if isinstance(value, str) else names[value] for value in expected]
            assert [example.label for example in dataset.examples] == written


@pytest.mark.parametrize(
    ("idx", "found"), [([None, 1], "NoneType, int"), ([[1], [2]], "list"), ([{"a": 1}] * 2, "dict")]
)
def test_an_idx_that_is_no_number(tmp_path: Path, idx: list, found: str) -> None:
    path = tmp_path / "cola" / "validation-00000-of-00001.parquet"
    _write_hub_file(path, ["0", "1"], sentence=["a", "b"], label=[0, 1], idx=idx)
    with pytest.raises(UserError, match=f"cola: the rows' idx are of type {found}; expected a num"):
        read_glue("cola", "dev", tmp_path)


def test_a_record_that_is_null(tmp_path: Path) -> None:
    path = tmp_path / "cola" / "validation-00000-of-00001.parquet"
    _write_hub_file(path, None, data=[b"", None])
    with pytest.raises(UserError, match=r"damaged \(record 1 is no tf.train.Example"):
        read_glue("cola", "dev", tmp_path)
