"""Raw text -> `Document`s: files, folders, globs and archives, one after another in bounded memory.

    for source in find_sources(["books/**/*.md", "wikipedia-000.tar.xz"]):
        for read in read_documents(source):      # a Document, or a Reject with file and reason

Formats: `document_formats.py`; how they are recognised: `document_recognition.py`. Plain, `.gz` and
`.xz`; archives `.tar`, `.tar.gz`, `.tar.xz`, inside one another too (`MAX_DEPTH`), are read as
streams and never unpacked. What cannot be read never ends the work: it is one `Reject`, what stands
before it is kept, and reading goes on after it wherever documents have boundaries. Sources are
independent of each other: hand them to as many processes as there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from gptbert.datasets.document_archives import is_tar, read_members, tar_named
from gptbert.datasets.document_formats import read_format
from gptbert.datasets.document_recognition import PLAIN_BYTES, recognise
from gptbert.datasets.document_sources import Source, find_sources
from gptbert.datasets.document_streams import COMPRESSED, DAMAGE, ByteStream, Window, damage_reason
from gptbert.datasets.document_types import Document, ReadOptions, Reject, Unreadable

__all__ = [
    "Document",
    "Reject",
    "Source",
    "document_hash",
    "find_sources",
    "is_held_out",
    "read_documents",
]

# Archives within archives; collections of web pages have two levels.
MAX_DEPTH = 3


def read_documents(source: Source) -> Iterator[Document | Reject]:
    """Yields what a source holds, in its order, at least one thing; bad input raises nothing.

    Memory stays within a few times `ReadOptions.max_document_bytes` whatever the size of the
    source; each thing's `end` says how many of `source.bytes` have been consumed. Of a damaged
    `.gz` the last documents before its reject may be wrong: gzip's checksum stands at its end.
    """
    if source.problem:
        yield Reject(source.name, source.problem)
        return
    try:
        file = open(source.path, "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        yield Reject(source.name, damage_reason(error))
        return
    with file:
        raw = Window(file, source.bytes) if source.is_part else file
        start, size = source.start, source.bytes
        stream = ByteStream(source.name, source.path, raw, lambda: min(file.tell() - start, size))
        file.seek(start)
        yield from _read(stream, source.options, is_part=source.is_part)


def _read(
    stream: ByteStream, options: ReadOptions, depth: int = 0, is_part: bool = False
) -> Iterator[Document | Reject]:
    """Yields what is in a file or member; what ends its reading becomes the last `Reject`.

    A part is of the format that its file was recognised as, whatever the part begins with.
    """
    try:
        if is_part:
            yield from read_format(stream, options.format, options)
            return
        stream = _decompressed(stream)
        if is_tar(stream.head) or (tar_named(stream.path) and stream.head):
            yield from _read_archive(stream, options, depth)
        else:
            yield from read_format(stream, _format(stream, options.format), options)
    except (*DAMAGE, ValueError) as error:
        line = f":{stream.line}" if stream.line else ""
        yield Reject(stream.name + line, damage_reason(error), stream.consumed(), stream.line)


def _decompressed(stream: ByteStream) -> ByteStream:
    inner = stream.decompressed()
    if inner is None and stream.head and stream.path.endswith(COMPRESSED):
        raise Unreadable("not compressed as its name says")
    return inner or stream


def _format(stream: ByteStream, named: str) -> str:
    def size() -> int:
        return len(stream.read_ahead(PLAIN_BYTES + 1))

    return recognise(stream.head, stream.path, size, named)


def _read_archive(
    archive: ByteStream, options: ReadOptions, depth: int
) -> Iterator[Document | Reject]:
    if depth == MAX_DEPTH:
        raise Unreadable(f"archives within archives (more than {MAX_DEPTH} deep)")
    empty = True
    for member in read_members(archive):
        empty = False
        name = f"{archive.name}:{member.name}"
        if member.problem:
            yield Reject(name, member.problem, archive.consumed())
        else:
            stream = ByteStream(name, member.name, member.stream, archive.consumed)
            yield from _read(stream, options, depth + 1)
    if empty:
        raise Unreadable("an empty archive")


def document_hash(text: str) -> bytes:
    """Returns the 16-byte BLAKE2b of a text with each run of white space made one blank.

    Two texts with the same hash count as exact duplicates.
    """
    words = " ".join(text.split())
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_held_out(digest: bytes, share: float) -> bool:
    """Whether the document with this hash belongs to the held-out share (0 to 1) of a corpus.

    A pure function of the text and the share: order, other documents and machine do not matter,
    and what is held out at a small share is held out at a larger one.
    """
    return int.from_bytes(digest[:8], "big") < share * 2**64
