"""The formats of raw text: where documents begin and how they are read.

| format | a document is | its lines |
| --- | --- | --- |
| `text` | a file | as they are; hard-wrapped prose is joined to paragraphs and says so in a note |
| `paragraphs` | what stands between blank lines (Google's form: a sentence a line) | as in `text` |
| `markdown` | a file | see `document_markup.py`: paragraphs joined, marks and head dropped |
| `gutenberg` | a book, of several in a file each | as `markdown`; heads and feet are dropped |
| `wikiextractor` | `<doc id= url= title=>` to `</doc>` | without the repeated title, unescaped |
| `jsonl` | a line, its field `text` or the one named | as they are |

Which one a file has is told by `document_recognition.py`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from html.entities import html5
from pathlib import PurePosixPath

from gptbert.datasets.document_books import read_books
from gptbert.datasets.document_markup import (
    UNWRAPPED,
    is_wrapped,
    join_lines,
    read_markdown,
    unwrap,
)
from gptbert.datasets.document_streams import HEAD, ByteStream
from gptbert.datasets.document_types import UTF8_MARK, Document, ReadOptions, Reject, printable
from gptbert.errors import shown

_ATTRIBUTE = re.compile(r'(\w+)="(.*?)"(?=\s+\w+="|\s*>\s*$)')
# The tag is the line; if something else ends the line, what precedes that.
_TAG = re.compile(r'<doc [^\n]*"[ \t]*>[ \t\r]*(?=\n|\Z)|<doc [^\n]*?"[ \t]*>|[^\n]*')
_CLOSING = re.compile(rb"</doc>(?=\s*(?:\Z|<doc ))")
# A tag has an id, an address and a title.
_TAG_LENGTH = 4096
# WikiExtractor writes `&amp;`, `&lt;` and `&gt;`; a mere `&` in front of a word is none of its.
_ENTITY = re.compile(r"&(?:#[0-9]{1,9}|#[xX][0-9a-fA-F]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});")
_ID_LENGTH = 200


def is_boundary(format: str, previous: bytes, line: bytes) -> bool:
    """Whether a document begins at `line`, which follows `previous`."""
    if format == "wikiextractor":
        return line.startswith(b"<doc ")
    if format == "paragraphs":
        return previous.isspace() and not line.isspace()
    return format == "jsonl" and not line.isspace()


def read_format(
    stream: ByteStream, format: str, options: ReadOptions
) -> Iterator[Document | Reject]:
    """Yields the documents of plain text in a known format, at least one thing.

    Raises:
      What `document_streams.DAMAGE` lists: what came before has been yielded.
    """
    something = False
    for read in _READERS[format](_Maker(stream, format, options)):
        something = True
        yield read
    if not something:
        reason = "no text in it" if stream.head else "an empty file"
        yield Reject(stream.name, reason, stream.consumed())


class _Maker:
    """What the readers share: the stream, its lines, and bytes -> `Document` or `Reject`."""

    def __init__(self, stream: ByteStream, format: str, options: ReadOptions) -> None:
        self.stream, self.format, self.options = stream, format, options
        self.limit = options.max_document_bytes

    def lines(self) -> Iterator[bytes]:
        """Yields lines, without the byte order mark; longer ones than a document are cut."""
        for raw in self.stream.lines(self.limit):
            yield raw.removeprefix(UTF8_MARK) if self.stream.line == 1 else raw

    def document(
        self,
        id: str,
        line: int,
        text: str,
        notes: tuple[str, ...] = (),
        lost: bool | None = None,
    ) -> Document | Reject:
        """Makes a document of decoded text; `line` is where it begins, `id` may be anything.

        `lost` tells whether there was a U+FFFD already; None where every one of `text` was.
        """
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = text.strip()
        if not text:
            return self.reject(line, "a document without text")
        if "\ufffd" in text if lost is None else lost:
            notes = (*notes, "a character lost before (U+FFFD) is kept")
        source, end = self.stream.name, self.stream.consumed()
        id = printable(id[: _ID_LENGTH + 1])
        id = id if len(id) <= _ID_LENGTH else f"{id[: _ID_LENGTH - 1]}…"
        return Document(id, text, source, self.format, end, notes)

    def decode(self, line: int, raw: bytes) -> str | Reject:
        """Bytes that begin at a line -> text, or why not."""
        if len(raw) > self.limit:
            return self.reject(line, self.options.too_long)
        if b"\0" in raw:
            return self.reject(line + raw.count(b"\n", 0, raw.index(0)), "a NUL byte")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            at = line + raw.count(b"\n", 0, error.start)
            byte = (
                f"byte 0x{raw[error.start]:02x}; if it is Latin-1, iconv -f WINDOWS-1252 -t UTF-8"
            )
            return self.reject(at, f"not UTF-8 ({byte})")

    def reject(self, line: int, reason: str) -> Reject:
        return Reject(f"{self.stream.name}:{line}", reason, self.stream.consumed(), line)


Transform = Callable[[str], tuple[str, tuple[str, ...]]]


def _read_whole(transform: Transform) -> Callable[[_Maker], Iterator[Document | Reject]]:
    def read(make: _Maker) -> Iterator[Document | Reject]:
        text = _whole_text(make)
        if isinstance(text, Reject):
            yield text
        elif not text.isspace() and text:
            text, notes = transform(text)
            yield make.document(PurePosixPath(make.stream.path).name, 1, text, notes)

    return read


def _read_books(make: _Maker) -> Iterator[Document | Reject]:
    text = _whole_text(make)
    if isinstance(text, Reject):
        yield text
    elif not text.isspace() and text:
        name = PurePosixPath(make.stream.path).name
        for number, (book, notes) in enumerate(read_books(text)):
            id = f"{name}, text {number + 1}" if number else name
            yield make.document(id, 1, book, notes)


def _whole_text(make: _Maker) -> str | Reject:
    raw = make.stream.read(make.limit + 1)
    text = make.decode(1, raw.removeprefix(UTF8_MARK))
    return text if isinstance(text, Reject) else text.replace("\r\n", "\n")


def _read_paragraphs(make: _Maker) -> Iterator[Document | Reject]:
    block: list[bytes] = []
    first = size = 0
    wrapped = _has_wrapped_lines(make.stream.head)
    for raw in make.lines():
        if not raw.isspace():
            first = first if block else make.stream.line
            size += len(raw)
            # One line beyond the limit is enough for `decode` to refuse the block.
            if size - len(raw) <= make.limit:
                block.append(raw)
        elif block:
            yield _paragraph(make, first, block, wrapped)
            block, size = [], 0
    if block:
        yield _paragraph(make, first, block, wrapped)


def _has_wrapped_lines(head: bytes) -> bool:
    """Whether lines were cut at a column, so that none of them is a sentence."""
    text = head.decode("utf-8", "replace").replace("\r\n", "\n")
    return is_wrapped(text.rpartition("\n")[0] if len(head) == HEAD else text)


def _paragraph(make: _Maker, first: int, block: list[bytes], wrapped: bool) -> Document | Reject:
    text = make.decode(first, b"".join(block))
    if isinstance(text, Reject):
        return text
    if wrapped and len(block) > 1:
        text = join_lines(text.replace("\r\n", "\n"))
        return make.document(str(first), first, text, UNWRAPPED)
    return make.document(str(first), first, text)


def _read_jsonl(make: _Maker) -> Iterator[Document | Reject]:
    for raw in make.lines():
        if not raw.isspace():
            yield _json_document(make, make.stream.line, raw)


def _json_document(make: _Maker, line: int, raw: bytes) -> Document | Reject:
    decoded = make.decode(line, raw)
    if isinstance(decoded, Reject):
        return decoded
    try:
        row = json.loads(decoded)
    except (ValueError, RecursionError) as error:
        return make.reject(line, f"not JSON ({error})")
    field = make.options.text_field
    text = row.get(field) if isinstance(row, dict) else None
    if not isinstance(text, str) and isinstance(row, dict) and field in row:
        return make.reject(line, f"field {field!r} holds no text (found {shown(text)})")
    if not isinstance(text, str):
        found = ", ".join(map(repr, list(row)[:5])) if isinstance(row, dict) else type(row).__name__
        told = f"found {found[:200]}; --text_field names the field"
        return make.reject(line, f"no text in field {field!r} ({told})")
    if "\0" in text:
        return make.reject(line, "a NUL byte")
    notes: tuple[str, ...] = ()
    lost = "\ufffd" in text
    if "\\ud" in decoded or "\\uD" in decoded:
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        notes = () if whole == text else ("half of a surrogate pair became U+FFFD",)
        text = whole
    id = row.get("id", line)
    name = str(id) if isinstance(id, str | int) else str(line)
    return make.document(name, line, text, notes, lost=lost)


def _read_wikiextractor(make: _Maker) -> Iterator[Document | Reject]:
    body: list[bytes] = []
    first = size = 0
    inside = outside = False
    for raw in _wiki_lines(make):
        if raw.startswith(b"<doc "):
            if inside:
                yield make.reject(first, "<doc …> without </doc>")
            body, first, size = [raw], make.stream.line, len(raw)
            inside, outside = True, False
        elif raw.startswith(b"</doc>"):
            if inside:
                yield _wiki_document(make, first, body)
            inside = outside = False
        elif inside:
            size += len(raw)
            if size - len(raw) <= make.limit:
                body.append(raw)
        elif not outside and not raw.isspace():
            outside = True
            yield make.reject(make.stream.line, "text outside <doc …> and </doc>")
    if inside:
        yield make.reject(first, "<doc …> without </doc>")


def _wiki_lines(make: _Maker) -> Iterator[bytes]:
    """Yields lines, those cut that end a document behind its text or hold several."""
    for raw in make.lines():
        begin = 0
        for closing in _CLOSING.finditer(raw) if b"</doc>" in raw else ():
            if text := raw[begin : closing.start()].lstrip():
                yield text
            yield closing[0]
            begin = closing.end()
        if not begin:
            yield raw
        elif rest := raw[begin:].lstrip():
            yield rest


def _wiki_document(make: _Maker, first: int, body: list[bytes]) -> Document | Reject:
    text = make.decode(first, b"".join(body))
    if isinstance(text, Reject):
        return text
    tag = _TAG.match(text)
    assert tag is not None, "the pattern matches any line"
    attributes = dict(_ATTRIBUTE.findall(tag[0][:_TAG_LENGTH]))
    text = text[tag.end() :].lstrip(" \t\r").removeprefix("\n")
    title, _, rest = text.partition("\n")
    named = attributes.get("title", "").strip()
    if {title.strip(), _unescape(title).strip()} & {named, html.unescape(named)}:
        text = rest
    return make.document(_unescape(attributes.get("id", str(first))), first, _unescape(text))


def _unescape(text: str) -> str:
    """Characters for HTML's escapes, once; what only looks like one stays.

    None of them gives a NUL or half of a surrogate pair: they become U+FFFD.
    """
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    name = entity[0][1:]
    return html.unescape(entity[0]) if name[0] == "#" or name in html5 else entity[0]


_READERS: dict[str, Callable[[_Maker], Iterator[Document | Reject]]] = {
    "text": _read_whole(unwrap),
    "paragraphs": _read_paragraphs,
    "markdown": _read_whole(read_markdown),
    "gutenberg": _read_books,
    "wikiextractor": _read_wikiextractor,
    "jsonl": _read_jsonl,
}
FORMATS = tuple(_READERS)
# Formats of files with several documents.
SPLITTABLE = ("paragraphs", "wikiextractor", "jsonl")
