"""TSV, CSV, JSON lines and plain text, row by row, and how each can be wrong."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbert.datasets import columns as module
from gptbert.datasets.columns import Columns, Row, read_columns
from gptbert.errors import UserError

PAIR = Columns(("a", "b"), "label", True)
ONE = Columns(("a",), "", False)


def _read(content: str, file_format: str, wanted: Columns = PAIR) -> list[Row]:
    return list(read_columns(io.BytesIO(content.encode()), file_format, wanted))


def test_tsv_quotes_are_letters() -> None:
    content = 'label\tb\ta\nx\t"open\the said "so"\ny\tq"\t""\n'
    assert _read(content, "tsv") == [
        Row(2, ('he said "so"', '"open'), "x"),
        Row(3, ('""', 'q"'), "y"),
    ]


def test_csv_quotes_are_those_of_rfc_4180() -> None:
    content = (
        'a,b,label\r\n"one, two","she said ""so""",x\r\n'
        '"line 1\nline 2\r\nline 3",plain "word",y\r\n"",last,z'
    )
    assert _read(content, "csv") == [
        Row(2, ("one, two", 'she said "so"'), "x"),
        Row(3, ("line 1\nline 2\r\nline 3", 'plain "word"'), "y"),
        Row(6, ("", "last"), "z"),
    ]


@pytest.mark.property
@given(st.lists(st.text('ab,"\t\n\r\u2028 \xe9'), min_size=1))
def test_csv_comes_back_as_python_wrote_it(texts: list[str]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(["a"])
    writer.writerows([text] for text in texts)
    assert [row.texts for row in _read(buffer.getvalue(), "csv", ONE)] == [(t,) for t in texts]


@pytest.mark.property
@given(st.lists(st.text(), min_size=1))
def test_json_comes_back_as_python_wrote_it(texts: list[str]) -> None:
    content = "".join(json.dumps({"a": text}) + "\n" for text in texts)
    assert [row.texts for row in _read(content, "jsonl", ONE)] == [(t,) for t in texts]


def test_json_labels_keep_the_way_they_are_written() -> None:
    labels = ["1", "1.0", "3.25", '"pos"']
    content = "".join(f'{{"a": "x", "b": "y", "label": {label}, "c": []}}\n' for label in labels)
    assert [row.label for row in _read(content, "jsonl")] == ["1", "1.0", "3.25", "pos"]


def test_plain_text_is_a_text_a_line_empty_lines_too() -> None:
    assert [row.texts for row in _read("one\ttab\n\n two \n", "txt", ONE)] == [
        ("one\ttab",),
        ("",),
        (" two ",),
    ]
    assert _read("one\ttwo\n", "txt", PAIR) == [Row(1, ("one", "two"), None)]
    with pytest.raises(UserError, match=r":2: 1 texts instead of 2, to be separated by tabs"):
        _read("one\ttwo\nthree\n", "txt", PAIR)


@pytest.mark.parametrize("file_format", ["tsv", "csv"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"the file is empty; line 1 must name the columns"),
        ("a|b|lable\n1|2|3\n", r":1: no column 'label' \(did you mean 'lable'\?\); found 'a', 'b'"),
        ("a|b|label|a\n", r":1: two columns are called 'a'"),
        ("a|b|label\n1|2|x\n1|2\n", r":3: 2 columns instead of 3 \('a', 'b', 'label'\); the row"),
        ("a|b|label\n1|2|x|4\n", r":2: 4 columns instead of 3"),
        ("a|b|label\n1|2|\n", r":2: no label in column 'label'"),
        ("a|b|label\n1|2|x\n\n1|2|y\n", r":3: an empty line between the rows"),
    ],
)
def test_wrong_tables(file_format: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(content.replace("|", "\t" if file_format == "tsv" else ","), file_format)


@pytest.mark.parametrize("file_format", ["tsv", "csv"])
def test_empty_lines_at_the_end_are_no_rows(file_format: str) -> None:
    assert len(_read("a\nx\n\n\r\n", file_format, ONE)) == 1


@pytest.mark.parametrize(
    ("file_format", "header", "hint"),
    [("tsv", "a,b,label", "CSV"), ("csv", "a\tb\tlabel", "TSV"), ("csv", "a;b;label", "neither")],
)
def test_wrong_separator_is_recognised(file_format: str, header: str, hint: str) -> None:
    with pytest.raises(UserError, match=rf"no column 'a'.*columns separated by .*{hint}"):
        _read(header + "\n", file_format)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b,label\n1,2,x\n1,"2,x\n1,2,x\n', r":3: the record that begins here is not CSV"),
        ('a,b,label\n1,"2"2,x\n', r":2: the record that begins here is not CSV"),
        ("a,b,label\n1,2\rx,y\n", r":2: the record that begins here is not CSV"),
    ],
)
def test_malformed_csv(content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(content, "csv")


def test_csv_fields_may_be_long_documents() -> None:
    text = "word " * 100_000
    assert _read(f'a\n"{text}"\n', "csv", ONE) == [Row(2, (text,), None)]


def test_csv_quote_that_swallows_the_file_is_stopped(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 1 << 10)
    before = csv.field_size_limit(1 << 10)
    stream = io.BytesIO(b'a\n"open\n' + b"text\n" * (1 << 20))
    try:
        with pytest.raises(UserError, match=r":2: .*field larger than field limit"):
            list(read_columns(stream, "csv", ONE))
    finally:
        csv.field_size_limit(before)
    assert stream.tell() < 1 << 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r":1: not JSON"),
        ("[1]", r":1: expected a JSON object, found '\[1\]'"),
        ("[" * 100_000, r":1: not JSON"),
        ('{"a": 1, "b": "y", "label": 1}', r":1: 'a' should be a text; found '1'"),
        ('{"a": null, "b": "y", "label": 1}', r":1: 'a' should be a text; found None"),
        ('{"a": "x", "B": "y", "label": 1}', r":1: no 'b'.*; found 'a', 'B', 'label'"),
        ('{"a": "x", "b": "y", "lable": 1}', r":1: no 'label' \(did you mean 'lable'\?\)"),
        ('{"a": "x", "b": "y", "label": null}', r":1: no label in 'label'"),
        ('{"a": "x", "b": "y", "label": [1]}', r":1: a label is a text, a number, true or false"),
        ('{"a": "x", "b": "y", "label": NaN}', r":1: a label is a text, .* or false; found nan"),
    ],
)
def test_wrong_json_lines(content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(content + "\n", "jsonl")


@pytest.mark.parametrize("file_format", ["tsv", "csv", "jsonl", "txt"])
def test_nul_bytes_are_refused_in_every_format(file_format: str) -> None:
    with pytest.raises(UserError, match=r"NUL byte"):
        _read("a\nb\0\n" if file_format != "jsonl" else '{"a": "x\0"}\n', file_format, ONE)
