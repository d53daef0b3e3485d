"""Which format raw text has, from its first bytes, its name and, at need, its size.

`auto` looks at the content first: a line `<doc id=… title=…>`, an object a line, the head of a
book. Then at the name: `.jsonl`, `.ndjson`, `.md`, `.markdown`. All else is plain text, read as
`paragraphs` if it is larger than 16 MiB or looks like a sentence a line with blank lines between
documents, otherwise as `text`. `Document.format` says what was chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from gptbert.datasets.document_books import is_book
from gptbert.datasets.document_types import UTF8_MARK, Unreadable

# No single work in English is longer; a larger plain file is a collection.
PLAIN_BYTES = 1 << 24

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_WIKI = re.compile(rb'^<doc [^\n>]*\b(?:id|title)="', re.MULTILINE)
_JSON_OBJECT = re.compile(rb'\{\s*("|\})')
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\Z")
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\x0b\x0c\r\x1b")) + b"\x7f"
# So few wrong bytes are damage in a text, told line by line, whatever their share.
_FEW = 8
# Binary formats with names of their own, so that a user learns what to do.
_KNOWN = (
    (b"PK\x03\x04", "a zip archive, which is not read (unpack it)"),
    (b"BZh", "bzip2, which is not read (bunzip2 it)"),
    (b"\x28\xb5\x2f\xfd", "Zstandard, which is not read (unzstd it)"),
    (b"7z\xbc\xaf", "a 7z archive, which is not read (unpack it)"),
    (b"PAR1", "Parquet, which is not read (write it as JSONL)"),
)


def recognise(head: bytes, name: str, size: Callable[[], int], format: str = "auto") -> str:
    """Returns the format of plain text, from its first bytes, its name and, at need, its size.

    Raises:
      Unreadable: it is not text, or a kind of text that has to be converted first.
    """
    _check_text(head)
    if format != "auto":
        return format
    start = head.removeprefix(UTF8_MARK).lstrip()
    line, complete, _ = start.partition(b"\n")
    suffix = _suffix(name)
    if _WIKI.search(start):
        return "wikiextractor"
    if suffix in (".jsonl", ".ndjson") or _is_json_object(line, bool(complete)):
        return "jsonl"
    _check_convertible(start, suffix)
    text = start.decode("utf-8", "replace").replace("\r\n", "\n")
    if is_book(text):
        return "gutenberg"
    if suffix in (".md", ".markdown"):
        return "markdown"
    return "paragraphs" if _has_sentence_lines(text) or size() > PLAIN_BYTES else "text"


def _suffix(name: str) -> str:
    path = PurePosixPath(name.lower())
    while path.suffix in (".gz", ".xz"):
        path = path.with_suffix("")
    return path.suffix


def _check_text(head: bytes) -> None:
    if head.startswith(_UTF16_MARKS):
        raise Unreadable("UTF-16, and UTF-8 is needed (iconv -f UTF-16 -t UTF-8)")
    if head.startswith(b"%PDF-"):  # its first pages may be spelt in ASCII
        raise Unreadable("PDF, which is not read (convert it with pdftotext)")
    if len(head) - len(head.translate(None, _CONTROLS)) > max(_FEW, len(head) / 50):
        known = (reason for mark, reason in _KNOWN if head.startswith(mark))
        raise Unreadable(next(known, "binary data, not text"))
    wrong = head.decode("utf-8", "replace").count("\ufffd") - head.count("\ufffd".encode())
    if wrong > max(_FEW, len(head) / 10):
        raise Unreadable("not UTF-8 (convert it with iconv)")


def _check_convertible(start: bytes, suffix: str) -> None:
    """Refuses markup whose marks would be learnt as if they were text."""
    beginning = start[:1000].lower()
    if b"<mediawiki" in beginning:
        raise Unreadable("a MediaWiki dump, which is not read (run WikiExtractor on it)")
    if beginning.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise Unreadable("HTML or XML, which is not read (convert it to text, or name a format)")
    if beginning.startswith(b"{\\rtf"):
        raise Unreadable("RTF, which is not read (convert it to text, or name a format)")
    if suffix == ".json" and beginning.startswith((b"[", b"{")):
        raise Unreadable("JSON that is not one object a line (write it as JSONL)")


def _is_json_object(line: bytes, complete: bool) -> bool:
    if not _JSON_OBJECT.match(line):
        return False
    try:
        return not complete or isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _has_sentence_lines(text: str) -> bool:
    """Google's form: blocks of several lines that nearly all end as sentences do."""
    blocks = [block.split("\n") for block in _BLANK_LINES.split(text.strip())]
    lines = [line for block in blocks for line in block]
    ends = sum(bool(_SENTENCE_END.search(line.rstrip())) for line in lines)
    return len(blocks) > 1 and len(lines) >= 2 * len(blocks) and ends >= 0.9 * len(lines)
