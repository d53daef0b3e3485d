"""Bytes -> lines of text: the one way in which text files come into the project.

Lines end at `\\n` and nowhere else: `str.splitlines` also cuts at U+0085, U+2028 and others, and
universal newlines cut at a `\\r` inside a sentence. One `\\r` before the end is part of the end.
A UTF-8 byte order mark is accepted; any other encoding is refused with the place where it shows.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gptbert.datasets.document_streams import damage_reason, open_xz
from gptbert.errors import UserError, nearest

# Longer "lines" come from files that are not text; reading one must not take all memory.
MAX_LINE_BYTES = 1 << 24
COMPRESSIONS = ("", ".xz", ".gz")
# What reading a cut or fake compressed file raises.
DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_lines(
    source: Path | BinaryIO, *, keep_ends: bool = False, digest: Any = None
) -> Iterator[str]:
    """Yields the lines of a UTF-8 file (plain, `.gz` or `.xz`) in bounded memory.

    Args:
      source: A path, or an open binary stream such as `sys.stdin.buffer`.
      keep_ends: Leave the line's end in place, for CSV, whose quoted fields may hold line ends.
      digest: An object with `update`, for instance `hashlib.sha256()`, fed with the bytes as
        decompressed, so that a file and its compressed copy have one fingerprint.

    Raises:
      UserError: the file is missing, damaged, not UTF-8, or has NUL bytes or endless lines.
    """
    name = source_name(source)
    offset = 0
    for number, raw in enumerate(_raw_lines(source), start=1):
        if digest is not None:
            digest.update(raw)
        if len(raw) > MAX_LINE_BYTES:
            raise UserError(
                f"{name}:{number}: a line longer than {MAX_LINE_BYTES >> 20} MiB; is this text?"
            )
        line = _decode(raw, source, number, offset)
        offset += len(raw)
        yield line if keep_ends else line.removesuffix("\n").removesuffix("\r")


def read_rows(source: Path | BinaryIO, *, digest: Any = None) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, line) for the rows of a file of one row a line.

    Empty lines after the last row are no rows; one between rows is refused, because skipping it
    would shift every later row against what other programs count.

    Raises:
      UserError: as `read_lines`, or an empty line between rows.
    """
    empty_line = 0
    for number, line in enumerate(read_lines(source, digest=digest), start=1):
        if not line:
            empty_line = empty_line or number
            continue
        if empty_line:
            raise UserError(
                f"{source_name(source)}:{empty_line}: an empty line between the rows; remove it"
            )
        yield number, line


def source_name(source: Path | BinaryIO) -> str:
    """What messages call the source: its path, or `<stdin>` and the like."""
    return str(source) if isinstance(source, Path) else str(getattr(source, "name", "<stream>"))


def _raw_lines(source: Path | BinaryIO) -> Iterator[bytes]:
    """Yields lines as bytes, cut one byte after the longest length allowed."""
    try:
        if not isinstance(source, Path):
            yield from iter(lambda: source.readline(MAX_LINE_BYTES + 1), b"")
            return
        if not source.exists():
            raise UserError(_missing(source))
        with open_file(source) as stream:
            yield from iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b"")
    except DAMAGE as error:
        raise damaged(source, error) from error
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from error


def _missing(path: Path) -> str:
    """What is said of a file that is not there: where it was looked for, what lies beside it."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"{path}: cannot be read: No such file, and no folder {folder}"
    beside = sorted(each.name for each in folder.iterdir())
    there = ", ".join(beside[:10]) + (" …" if len(beside) > 10 else "") or "nothing"
    return (
        f"{path}: cannot be read: No such file{nearest(path.name, beside)}; in {folder} there is "
        f"{there}"
    )


def open_file(path: Path) -> BinaryIO:
    """The bytes of a plain, `.gz` or `.xz` file; reading them may raise one of `DAMAGE`."""
    if path.suffix == ".xz":
        return open_xz(path)
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def damaged(source: object, error: Exception) -> UserError:
    """What is said of a compressed file whose reading raised one of `DAMAGE`."""
    reason = damage_reason(error)
    help = "unpack it with xz" if "memory" in reason else "fetch it again"
    return UserError(f"{source}: {reason}; {help}")


def _decode(raw: bytes, source: Path | BinaryIO, number: int, offset: int) -> str:
    name = source_name(source)
    if number == 1:
        if raw.startswith(_UTF16_MARKS) or b"\0" in raw[:2]:
            raise UserError(
                f"{name}: this is UTF-16, UTF-8 is needed (byte 0 of line 1); convert it with "
                f"{_conversion(source, 'UTF-16')}"
            )
        raw = raw.removeprefix(_UTF8_MARK)
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at offset "
            f"{offset + error.start} of the file); if it is Latin-1 or Windows-1252, convert it "
            f"with {_conversion(source, 'WINDOWS-1252')}"
        ) from error
    if "\0" in line:
        raise UserError(
            f"{name}:{number}: a NUL byte at offset {offset + raw.index(0)} of the file; text "
            "files have none, so it is damaged or not text"
        )
    return line


def _conversion(source: Path | BinaryIO, encoding: str) -> str:
    """The command that makes UTF-8 of a file, or of what comes through a pipe."""
    command = f"iconv -f {encoding} -t UTF-8"
    if isinstance(source, Path):
        return f"`{command} {source} > NEW_FILE`"
    return f"`... | {command} | gptbert ...`"
