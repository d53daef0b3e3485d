"""Every file of which something was not read, with the reason: `rejects.jsonl` in the store.

A line for each file and reason, in the order of the input:

    {"file": "a.jsonl", "reason": "not JSON (...)", "count": 2, "first": "a.jsonl:6"}

`reason` and `first` are those of the first case. The report counts the same by reason alone. What
is listed is no part of the store, which is the same without it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from gptbert.pipeline.store_files import Files

NAME = "rejects.jsonl"
FILE_BYTES = 1 << 24  # what comes then goes on in rejects-2.jsonl and so on


@dataclasses.dataclass(frozen=True)
class Row:
    """What was not read of a file for one reason.

    Attributes:
      file: Its name, as in `Document.source`.
      reason: Of the first case, as in `Reject.reason`.
      count: How many cases.
      first: Where the first one is, `FILE:LINE` or `FILE (DOCUMENT)`.
    """

    file: str
    reason: str
    count: int
    first: str

    @property
    def kind(self) -> str:
        """The reason without what differs from case to case."""
        return self.reason.partition(" (")[0]


class Grouping:
    """Adds up cases of one kind, as long as the file stays the same.

    So groups can be cut anywhere and put together again: the rows come out the same.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._file: str | None = None

    def add(self, row: Row) -> list[Row]:
        """Counts cases; returns the rows of the file before, when another one begins."""
        done = self.rest() if row.file != self._file else []
        self._file = row.file
        before = self._rows.get(row.kind)
        self._rows[row.kind] = (
            row if before is None else dataclasses.replace(before, count=before.count + row.count)
        )
        return done

    def rest(self) -> list[Row]:
        """The rows of the last file, which is at its end."""
        rows, self._rows = list(self._rows.values()), {}
        return rows


class RejectList:
    """Writes the rows of all pieces, at most `FILE_BYTES` and one file's rows in memory.

    Attributes:
      files: How many files have rows.
      names: Of what has been written, for the report.
    """

    def __init__(self, place: Files) -> None:
        self._place = place
        self._grouping, self._lines = Grouping(), list[bytes]()
        self._size = self.files = 0
        self.names: list[str] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Takes the rows of the next piece."""
        for row in rows:
            self._hold(self._grouping.add(row))

    def finish(self) -> None:
        """Writes what is still held."""
        self._hold(self._grouping.rest())
        self._write()

    def withdraw(self) -> None:
        """Takes back what was written."""
        for name in self.names:
            self._place.delete(name)

    def _hold(self, rows: list[Row]) -> None:
        self.files += bool(rows)
        for row in rows:
            line = _line(row)
            if self._size + len(line) > FILE_BYTES:
                self._write()
            self._lines.append(line)
            self._size += len(line)

    def _write(self) -> None:
        if self._lines:
            number = len(self.names) + 1
            name = NAME if number == 1 else NAME.replace(".", f"-{number}.")
            self._place.write(name, b"".join(self._lines))
            self.names.append(name)
            self._lines, self._size = [], 0


def _line(row: Row) -> bytes:
    text = json.dumps(dataclasses.asdict(row), ensure_ascii=False)
    return text.encode(errors="backslashreplace") + b"\n"
