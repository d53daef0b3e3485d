"""Bytes of files, parts of files and members of archives as one kind of stream, in bounded memory.

Nothing is ever written to disk. What is compressed is recognised by its first bytes; lengths are
checked before memory is taken, and a stream that grows as only a decompression bomb does is ended.
"""

from __future__ import annotations

import functools
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gptbert.datasets.document_types import Unreadable, printable

BUFFER = 1 << 18
HEAD = 1 << 16
# Text shrinks 3 to 10 times, logs up to 100 times; bombs 1,000 times (gzip) and more (xz).
MAX_RATIO, RATIO_FROM = 200, 1 << 28
# `xz -9` needs 65 MB; without a limit the file says how much memory its reader takes.
XZ_MEMORY = 1 << 28

COMPRESSED = (".gz", ".xz", ".tgz", ".txz")
GZIP_MARK, XZ_MARK = b"\x1f\x8b", b"\xfd7zXZ\x00"
# What reading may raise when the bytes are to blame.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, Unreadable)


def damage_reason(error: BaseException) -> str:
    """The reason of the `Reject` for an exception of `DAMAGE`, or one that nobody foresaw."""
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, ValueError):
        return f"cannot be read ({printable(str(error))[:200]})"
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return f"cannot be read ({error.strerror or error})"
    if "Memory usage limit" in str(error):
        return f"xz that takes too much memory to read (more than {XZ_MEMORY:,} bytes)"
    return f"the compressed file is damaged or cut short ({error})"


class _Raw(io.RawIOBase):
    """A stream that is told what comes next, at most `size` bytes; none at the end."""

    def _next(self, size: int) -> Any:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer)) if len(buffer) else b""
        buffer[: len(data)] = data
        return len(data)


class Window(_Raw):
    """The next `size` bytes of a stream; fewer are an error."""

    def __init__(self, stream: Any, size: int) -> None:
        self._stream, self.size, self._left = stream, size, size

    def _next(self, size: int) -> bytes:
        data = _some(self._stream, min(size, self._left))
        if not data and self._left:
            raise Unreadable(f"the file is cut short ({self._left:,} bytes are missing)")
        self._left -= len(data)
        return data

    def skip(self) -> None:
        """Reads to the end of the window."""
        while self._left:
            self._next(BUFFER)


class _Rejoined(_Raw):
    """Bytes already read, then the rest of their stream or what became of it."""

    def __init__(self, head: bytes, stream: Any, damage: BaseException | None = None) -> None:
        self._head, self._stream, self._damage = memoryview(head), stream, damage

    def _next(self, size: int) -> Any:
        if head := self._head[:size]:
            self._head = self._head[size:]
            return head
        if self._damage:
            raise self._damage
        return _some(self._stream, size)


def open_xz(path: Path) -> io.BufferedReader:
    """The content of an .xz file, read within `XZ_MEMORY`."""
    return _buffered(_XzFile(path.open("rb")))


class _Xz(_Raw):
    """Decompresses .xz, streams one after another included, within `XZ_MEMORY`."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._input = stream, b""
        self._decoder: lzma.LZMADecompressor | None = _xz_decoder()

    def _next(self, size: int) -> bytes:
        data = b""
        while self._decoder is not None and not data:
            if self._decoder.eof:
                self._next_stream(self._decoder.unused_data)
                continue
            if self._decoder.needs_input and not self._input:
                self._input = _some(self._stream, BUFFER)
                if not self._input:
                    raise EOFError("it ends before its end mark")
            data = self._decoder.decompress(self._input, size)
            self._input = b""
        return data

    def _next_stream(self, rest: bytes) -> None:
        """After a stream: zero padding, then another one or the end."""
        while not (rest := rest.lstrip(b"\0")):
            rest = _some(self._stream, BUFFER)
            if not rest:
                self._decoder = None
                return
        self._decoder, self._input = _xz_decoder(), rest


class _XzFile(_Xz):
    """An `_Xz` that closes what it reads."""

    def close(self) -> None:
        self._stream.close()
        super().close()


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


class _Bounded(_Raw):
    """Ends a decompressed stream that has grown beyond `MAX_RATIO` times its input."""

    def __init__(self, stream: Any, consumed: Callable[[], int]) -> None:
        self._stream, self._consumed, self._made = stream, consumed, 0

    def _next(self, size: int) -> bytes:
        data = _some(self._stream, size)
        self._made += len(data)
        if self._made > RATIO_FROM and self._made > MAX_RATIO * self._consumed():
            raise Unreadable(f"a decompression bomb (it expands more than {MAX_RATIO} times)")
        return data


class ByteStream:
    """A buffered stream with its first bytes in view and lines cut at a limit.

    Its methods raise what `DAMAGE` lists, and for ever after the first time; what comes before the
    damage is delivered.

    Attributes:
      name: What messages call it.
      path: Of the file, or of the member in its archive.
      consumed: Says how many bytes of the file on disk have been consumed.
      line: The number of the line read last, from 1; 0 before.
    """

    def __init__(self, name: str, path: str, stream: Any, consumed: Callable[[], int]) -> None:
        self.name, self.path, self.consumed, self.line = name, path, consumed, 0
        self._stream = stream
        self._damage: BaseException | None = None

    @functools.cached_property
    def head(self) -> bytes:
        """The first `HEAD` bytes, fewer if there are fewer; they are read again."""
        return self.read_ahead(HEAD)

    def read_ahead(self, size: int) -> bytes:
        """Returns the next `size` bytes (fewer at the end) without consuming them."""
        data, damage = _gather(self._stream, size)
        self._stream = _buffered(_Rejoined(data, self._stream, damage))
        return data

    def read(self, size: int) -> bytes:
        """Returns `size` bytes, fewer only at the end."""
        data = b""
        if not self._damage:
            data, self._damage = _gather(self._stream, size)
        if self._damage:
            raise self._damage
        return data

    def read1(self, size: int) -> bytes:
        """Returns at most `size` bytes, as many as are at hand; none at the end."""
        try:
            if not self._damage:
                return _some(self._stream, size)
        except DAMAGE as error:
            self._damage = error
        raise self._damage

    def lines(self, limit: int) -> Iterator[bytes]:
        """Yields lines with their ends; of a longer one only its first `limit` + 1 bytes."""
        while raw := self._stream.readline(limit + 1):
            self.line += 1
            yield raw
            while len(raw) > limit and not raw.endswith(b"\n"):
                raw = self._stream.readline(limit + 1)

    def decompressed(self) -> ByteStream | None:
        """The stream inside, if this one is gzip or xz, else None."""
        if self.head.startswith(GZIP_MARK):
            inner: Any = gzip.GzipFile(fileobj=self._stream, mode="rb")
        elif self.head.startswith(XZ_MARK):
            inner = _Xz(self._stream)
        else:
            return None
        bounded = _buffered(_Bounded(inner, self.consumed))
        return ByteStream(self.name, self.path, bounded, self.consumed)


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, BUFFER)


def _some(stream: Any, size: int) -> bytes:
    """At most `size` bytes: what precedes damage has to come out before the damage shows."""
    return stream.read1(size) if hasattr(stream, "read1") else stream.read(size)


def _gather(stream: Any, size: int) -> tuple[bytes, BaseException | None]:
    """Returns `size` bytes, or fewer and what ended them: damage, or None for the end."""
    parts: list[bytes] = []
    try:
        while size and (data := _some(stream, size)):
            parts.append(data)
            size -= len(data)
    except DAMAGE as error:
        return b"".join(parts), error
    return b"".join(parts), None
