"""Tables of text and Markdown."""

from __future__ import annotations

import pytest

from gptbert.reports.tables import markdown_table, text_table

ROWS = [["CoLA", "0.4211", "yes"], ["MRPC | x", "-1.5", "no\nway"]]
HEADER = ["task", "score", "done"]


def test_text_table_aligns_words_left_and_numbers_right() -> None:
    assert text_table(ROWS, HEADER).split("\n") == [
        "task       score  done",
        "--------  ------  ------",
        "CoLA      0.4211  yes",
        "MRPC | x    -1.5  no way",
    ]


def test_markdown_table_escapes_bars() -> None:
    assert markdown_table(ROWS, HEADER).split("\n") == [
        "| task      |  score | done   |",
        "| --------- | -----: | ------ |",
        "| CoLA      | 0.4211 | yes    |",
        r"| MRPC \| x |   -1.5 | no way |",
    ]


@pytest.mark.parametrize("cell", ["1", "-0.25", "+3.5%", "1,234.5", "5e-05", ""])
def test_what_counts_as_a_number(cell: str) -> None:
    lines = text_table([[cell], ["10"]], ["a long header"]).split("\n")
    assert lines[2] == cell.rjust(13).rstrip()


@pytest.mark.parametrize("cell", ["five", "1 of 2", "v2"])
def test_one_word_makes_a_column_of_words(cell: str) -> None:
    assert text_table([[cell], ["10"]], ["a long header"]).split("\n")[3] == "10"


def test_wide_characters_take_two_columns() -> None:
    lines = text_table([["東京", "a"], ["abcd", "b"]], ["x", "y"]).split("\n")
    assert lines[2:] == ["東京  a", "abcd  b"]


def test_table_without_rows_is_its_header() -> None:
    assert text_table([], ["a", "bc"]) == "a  bc\n-  --"


def test_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="row 2 has 1 cells, expected 2"):
        text_table([["a", "b"], ["a"]], ["x", "y"])
