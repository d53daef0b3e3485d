"""A user's own files: labels found or required, streams, shares split off by hash."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import sys
import tracemalloc
from pathlib import Path

import pytest

from gptbert.datasets import Dataset, Example
from gptbert.datasets.text_files import read_text_file, split_by_hash, stream_text_file
from gptbert.errors import UserError

TSV = "sentence\tlabel\nfine\tpos\npoor\tneg\n"
EXAMPLES = [Example("0", ("fine",), "pos"), Example("1", ("poor",), "neg")]


def _file(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.tsv", TSV),
        ("data.TSV", "\ufeff" + TSV.replace("\n", "\r\n")),
        ("data.csv", '"sentence",label\nfine,pos\n"poor",neg\n'),
        ("data.jsonl", '{"sentence": "fine", "label": "pos"}\n{"sentence":"poor","label":"neg"}'),
        ("data.tsv.gz", gzip.compress(TSV.encode())),
        ("data.tsv.xz", lzma.compress(TSV.encode())),
    ],
)
def test_every_format_gives_the_same_examples(tmp_path: Path, name: str, content) -> None:
    dataset = read_text_file(_file(tmp_path, name, content))
    assert dataset.examples == EXAMPLES
    assert (dataset.name, dataset.classes, dataset.notes) == (name, ("neg", "pos"), ())


def test_pairs_and_columns_of_other_names(tmp_path: Path) -> None:
    path = _file(tmp_path, "d.csv", "y,q2,q1\n1,b,a\n0,d,c\n")
    dataset = read_text_file(path, text_columns=("q1", "q2"), label_column="y")
    assert dataset.examples == [Example("0", ("a", "b"), "1"), Example("1", ("c", "d"), "0")]
    assert dataset.classes == ("0", "1")


def test_scores_are_recognised_and_said(tmp_path: Path) -> None:
    dataset = read_text_file(_file(tmp_path, "d.tsv", "sentence\tlabel\na\t3.25\nb\t4\n"))
    assert [example.label for example in dataset.examples] == [3.25, 4.0]
    assert dataset.is_regression
    assert "are scores, for instance 3.25; to tell them apart as names" in dataset.notes[0]
    path = _file(tmp_path, "halves.tsv", "sentence\tlabel\na\t3.5\nb\t4\n")
    named = read_text_file(path, label_kind="classes")
    assert named.classes == ("3.5", "4") and named.notes == ()


def test_evaluation_file_is_read_with_the_models_labels(tmp_path: Path) -> None:
    path = _file(tmp_path, "d.tsv", "sentence\tlabel\na\t1\nb\t1\n")
    assert read_text_file(path, classes=("1", "0")).classes == ("1", "0")
    assert read_text_file(path, label_kind="score").examples[0].label == 1.0
    with pytest.raises(UserError, match=r"d.tsv: only the label '1'; a classifier needs at least"):
        read_text_file(path)
    with pytest.raises(UserError, match=r"d.tsv:2: unknown label '1'; known labels: no, yes"):
        read_text_file(path, classes=("no", "yes"))


def test_files_without_labels(tmp_path: Path) -> None:
    path = _file(tmp_path, "d.tsv", "sentence\nfine\n")
    with pytest.raises(UserError, match=r"d.tsv:1: no column 'label'; found 'sentence'"):
        read_text_file(path)
    for dataset in (
        read_text_file(path, label_column=""),
        read_text_file(path, require_labels=False),
        read_text_file(_file(tmp_path, "d.jsonl", '{"sentence": "fine"}'), require_labels=False),
    ):
        assert dataset.examples == [Example("0", ("fine",))]


def test_gaps_among_labels_are_counted_where_they_are_allowed(tmp_path: Path) -> None:
    path = _file(tmp_path, "d.tsv", "sentence\tlabel\na\tx\nb\t\nc\ty\n")
    dataset = read_text_file(path, require_labels=False)
    assert [example.label for example in dataset.examples] == ["x", None, "y"]
    assert dataset.notes == (f"1 of 3 rows of {path} have no label",)


def test_rows_without_agreement_are_left_out_and_counted(tmp_path: Path) -> None:
    content = "sentence\tgold_label\na\tx\nb\t-\nc\ty\n"
    path = _file(tmp_path, "snli.tsv", content)
    dataset = read_text_file(path, label_column="gold_label")
    assert dataset.examples == [Example("0", ("a",), "x"), Example("2", ("c",), "y")]
    assert dataset.classes == ("x", "y")
    assert dataset.notes == (f"1 rows of {path} without agreement (label '-') were left out",)
    # Anywhere else, and for a model that has the class, it is a label as any other.
    other = _file(tmp_path, "d.tsv", content.replace("gold_label", "sign"))
    assert read_text_file(other, label_column="sign").classes == ("-", "x", "y")
    known = read_text_file(path, label_column="gold_label", classes=("-", "x", "y"))
    assert len(known.examples) == 3 and known.notes == ()
    with pytest.raises(UserError, match=r"e.tsv: no rows with a label"):
        read_text_file(
            _file(tmp_path, "e.tsv", "sentence\tgold_label\nb\t-\n"), label_column="gold_label"
        )


def test_many_whole_numbers_are_said_to_be_classes(tmp_path: Path) -> None:
    def notes(count: int) -> tuple[str, ...]:
        rows = "".join(f"text\t{number}\n" for number in range(count))
        path = _file(tmp_path, "d.tsv", f"sentence\tlabel\n{rows}")
        return read_text_file(path).notes

    assert notes(10) == ()
    (note,) = notes(11)
    assert (
        "whole numbers, taken for 11 classes; to learn them as a score: --config.label_kind=score"
        in note
    )


def test_truth_values_of_json_are_classes(tmp_path: Path) -> None:
    rows = '{"sentence": "a", "label": true}\n{"sentence": "b", "label": false}\n'
    dataset = read_text_file(_file(tmp_path, "d.jsonl", rows))
    assert [example.label for example in dataset.examples] == ["true", "false"]
    assert dataset.classes == ("false", "true")


def test_empty_texts_are_counted(tmp_path: Path) -> None:
    dataset = read_text_file(_file(tmp_path, "d.tsv", "sentence\tlabel\na\tx\n\ty\n"))
    assert dataset.examples[1].texts == ("",)
    assert "1 rows of" in dataset.notes[0]
    assert "(lines 3)" in dataset.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.tsv", "", r"d.tsv: the file is empty"),
        ("d.csv", "sentence,label\n", r"d.csv: no rows"),
        ("d.jsonl", "", r"d.jsonl: no rows"),
        ("d.xlsx", "x", r"d.xlsx: unknown kind of file; expected one of .tsv, .csv, .jsonl"),
        ("d.txt", "x", r"d.txt: plain text has no columns; expected one of .tsv, .csv, .jsonl$"),
        ("d", "x", r"d: unknown kind of file; expected one of .tsv, .csv, .jsonl \(also"),
        ("d.tsv", TSV.encode("utf-16"), r"d.tsv: this is UTF-16.*iconv"),
        ("d.csv", "sentence,label\ncaf\xe9,x\n".encode("latin-1"), r"d.csv:2: not UTF-8.*iconv"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_text_file(_file(tmp_path, name, content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no.csv: cannot be read: No such file"):
        read_text_file(tmp_path / "no.csv")


def test_stream_reads_texts_and_no_labels(tmp_path: Path) -> None:
    expected = [Example("0", ("fine",)), Example("1", ("poor",))]
    assert list(stream_text_file(_file(tmp_path, "d.tsv", TSV))) == expected
    assert list(stream_text_file(_file(tmp_path, "d.txt", "fine\npoor\n"))) == expected


def test_stream_from_standard_input(monkeypatch) -> None:
    class Input:
        buffer = io.BytesIO(b"fine\n\npoor")

    monkeypatch.setattr(sys, "stdin", Input)
    assert [example.texts for example in stream_text_file("-")] == [("fine",), ("",), ("poor",)]
    Input.buffer = io.BytesIO(TSV.encode())
    assert [e.texts for e in stream_text_file("-", file_format="tsv")] == [("fine",), ("poor",)]
    with pytest.raises(UserError, match=r"unknown file format 'xml'"):
        next(stream_text_file("-", file_format="xml"))


def test_stream_takes_no_more_memory_for_a_longer_file(tmp_path: Path) -> None:
    line = json.dumps({"sentence": "word " * 200}) + "\n"
    path = _file(tmp_path, "d.jsonl.gz", gzip.compress((line * 5_000).encode(), 1))
    tracemalloc.start()
    try:
        assert sum(1 for _ in stream_text_file(path)) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # the file unpacks to 5 MB
    finally:
        tracemalloc.stop()


def _dataset(texts: list[str]) -> Dataset:
    examples = [Example(str(i), (text,), "ab"[i % 2]) for i, text in enumerate(texts)]
    return Dataset("d", examples, ("a", "b"), "d.tsv", "0" * 64)


def test_held_out_share_is_about_what_was_asked_for() -> None:
    texts = [f"text {number}" for number in range(4000)]
    rest, held_out = split_by_hash(_dataset(texts), 0.1, seed=1)
    assert 320 < len(held_out.examples) < 480
    found = {example.texts[0] for example in rest.examples + held_out.examples}
    assert len(rest.examples) + len(held_out.examples) == 4000
    assert found == set(texts)
    assert held_out.classes == rest.classes == ("a", "b")
    assert len({rest.fingerprint, held_out.fingerprint, "0" * 64}) == 3
    assert (
        held_out.notes[-1] == f"{len(held_out.examples)} of 4000 examples held out by hash, seed 1"
    )


def test_a_renamed_or_compressed_file_has_the_same_parts(tmp_path: Path) -> None:
    content = "sentence\tlabel\n" + "".join(f"text {k}\t{'ab'[k % 2]}\n" for k in range(40))
    parts = [
        split_by_hash(read_text_file(_file(tmp_path, name, data)), 0.3, 0)
        for name, data in (("d.tsv", content), ("other.tsv.gz", gzip.compress(content.encode())))
    ]
    found = [[part.fingerprint for part in pair] for pair in parts]
    assert found[0] == found[1] and found[0][0] != found[0][1]


def test_held_out_texts_depend_on_nothing_but_text_and_seed() -> None:
    texts = [f"text {number}" for number in range(300)]
    _, first = split_by_hash(_dataset(texts), 0.2, seed=0)
    _, shuffled = split_by_hash(_dataset(texts[::-1]), 0.2, seed=0)
    _, fewer = split_by_hash(_dataset(texts[:100]), 0.2, seed=0)
    _, other = split_by_hash(_dataset(texts), 0.2, seed=1)
    chosen = {example.texts for example in first.examples}
    assert {example.texts for example in shuffled.examples} == chosen
    assert {example.texts for example in fewer.examples} == chosen & {(t,) for t in texts[:100]}
    assert {example.texts for example in other.examples} != chosen
    # Fixed for all time: a resumed run must find the same split.
    assert [example.id for example in first.examples][:5] == ["2", "14", "23", "25", "28"]


def test_duplicates_stay_on_one_side() -> None:
    rest, held_out = split_by_hash(_dataset([f"text {i % 50}" for i in range(200)]), 0.3, seed=3)
    assert not {e.texts for e in rest.examples} & {e.texts for e in held_out.examples}


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_share_must_be_a_share(share: float) -> None:
    with pytest.raises(UserError, match="must lie between 0 and 1"):
        split_by_hash(_dataset(["a", "b"]), share, seed=0)


def test_neither_part_may_be_empty() -> None:
    with pytest.raises(UserError, match="leaves one part empty"):
        split_by_hash(_dataset(["same"] * 10), 0.5, seed=0)
