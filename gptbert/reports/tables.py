"""Tables of text: aligned for a terminal, or in Markdown for a README."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]
NUMBER = re.compile(r"[-+]?[\d.,]+([eE][-+]?\d+)?%?")
NOTHING = ("", "-")


def text_table(rows: Rows, header: Sequence[str]) -> str:
    """Aligns columns two spaces apart, columns of numbers to the right, under a ruled header.

    A cell's line breaks become spaces. Returns lines without trailing spaces, the last without
    a newline. ValueError if a row is not as long as the header.
    """
    cells = [[" ".join(cell.split()) for cell in row] for row in _checked(rows, header)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    right = _numeric_columns(cells)
    rule = ["-" * width for width in widths]
    lines = [_aligned(row, widths, right) for row in cells]
    return "\n".join("  ".join(line).rstrip() for line in (lines[0], rule, *lines[1:]))


def markdown_table(rows: Rows, header: Sequence[str]) -> str:
    r"""The same as a Markdown table, aligned to be read as text too; `|` is written as `\|`."""
    cells = [
        [" ".join(cell.split()).replace("|", r"\|") for cell in row]
        for row in _checked(rows, header)
    ]
    widths = [max(3, *map(_width, column)) for column in zip(*cells, strict=True)]
    right = _numeric_columns(cells)
    rule = [
        "-" * (width - 1) + ":" if to_right else "-" * width
        for width, to_right in zip(widths, right, strict=True)
    ]
    lines = [_aligned(row, widths, right) for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _checked(rows: Rows, header: Sequence[str]) -> list[Sequence[str]]:
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, expected {len(header)}")
    return [header, *rows]


def _numeric_columns(cells: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns have numbers below the header, and nothing else but gaps."""
    columns = [
        [cell for cell in column[1:] if cell not in NOTHING] for column in zip(*cells, strict=True)
    ]
    return [bool(column) and all(map(NUMBER.fullmatch, column)) for column in columns]


def _aligned(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    padded = []
    for cell, width, to_right in zip(row, widths, right, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if to_right else cell + space)
    return padded


def _width(text: str) -> int:
    """Columns that a terminal takes: wide East Asian characters two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
