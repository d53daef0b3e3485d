"""What reading raw text gives: a `Document` that was read, or a `Reject` that was not."""

from __future__ import annotations

import dataclasses

from gptbert.errors import UserError

MAX_DOCUMENT_BYTES = 1 << 26
TEXT_FIELD = "text"  # of JSONL objects, unless another one is named
UTF8_MARK = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One document of raw text.

    Attributes:
      id: Its name within `source`: WikiExtractor's id, JSONL's field `id`, else the number of its
        first line; a whole file has its own name, and so has the first of several books in it, the
        next ones `NAME, text 2` and so on.
      text: Valid Unicode without NUL, lines end at `\\n`, no white space at either end, never
        empty. A line is a paragraph, a heading or, where the file has it so, a sentence.
      source: `FILE` or `ARCHIVE:MEMBER`, with `[start:stop]` (bytes) for a part of a large file.
      format: The format it was read as; one of `document_formats.FORMATS`.
      end: Bytes on disk of the `Source` consumed so far: never falls, at most `Source.bytes`.
      notes: What was repaired or noticed: fixed phrases, to be counted.
    """

    id: str
    text: str
    source: str
    format: str = ""
    end: int = 0
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Reject:
    """One thing that was not read.

    Attributes:
      source: As in `Document`, then `:LINE` where a line is to blame (counted from 1; in a part
        of a file from the first byte of the part).
      reason: A fixed phrase; what differs from case to case follows in parentheses.
      end: As in `Document`.
      line: The line that `source` ends with; 0 for none.
    """

    source: str
    reason: str
    end: int = 0
    line: int = 0

    @property
    def file(self) -> str:
        """`source` without the line."""
        return self.source.removesuffix(f":{self.line}") if self.line else self.source

    @property
    def kind(self) -> str:
        """The reason without what differs from case to case, for counting."""
        return self.reason.partition(" (")[0]


def printable(name: str) -> str:
    """A file name as messages and reports can hold it: what cannot be printed is escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


class Unreadable(Exception):
    """Ends the reading of one file or member; the message is the reason of its `Reject`."""


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How files are read.

    Attributes:
      format: A name of `document_formats.FORMATS`, or `auto`.
      text_field: The field of a JSONL object that holds the text.
      max_document_bytes: Longer documents are rejects; also bounds the memory of the reader.
    """

    format: str = "auto"
    text_field: str = TEXT_FIELD
    max_document_bytes: int = MAX_DOCUMENT_BYTES

    def __post_init__(self) -> None:
        if self.max_document_bytes < 1:
            raise UserError(
                f"the longest document must have at least 1 byte; found {self.max_document_bytes}"
            )

    @property
    def too_long(self) -> str:
        """The reason of rejects for their length."""
        return f"longer than a document may be ({self.max_document_bytes:,} bytes)"
