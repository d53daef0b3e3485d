"""Patterns -> `Source`s: the units in which raw text is read, by as many processes as there are.

Each file is read once, however many patterns or links lead to it. Large plain files whose format
has visible boundaries between documents are cut there into parts of about `PART_BYTES`; archives
and compressed files are one unit each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO

from gptbert.datasets.document_archives import is_tar, tar_named
from gptbert.datasets.document_formats import FORMATS, SPLITTABLE, is_boundary
from gptbert.datasets.document_paths import expand, nothing_found
from gptbert.datasets.document_recognition import recognise
from gptbert.datasets.document_streams import COMPRESSED, HEAD
from gptbert.datasets.document_types import (
    MAX_DOCUMENT_BYTES,
    TEXT_FIELD,
    ReadOptions,
    Unreadable,
    printable,
)
from gptbert.errors import UserError, nearest

PART_BYTES = 1 << 26
# Files up to this size are fingerprinted by their content, larger ones by their ends and times.
_CHEAP_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """One unit of reading: a file, an archive, or a part of a large plain file. Picklable.

    Attributes:
      path: The file, as the pattern gave it.
      bytes: Its size on disk (of the part, for a part).
      options: How it is read; for parts the format is resolved.
      start: First byte.
      is_part: Whether it is `bytes` bytes from `start` rather than the whole file.
      problem: Why it cannot be read at all (a broken link, a loop); reading gives one `Reject`.
    """

    path: str
    bytes: int = 0
    options: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    start: int = 0
    is_part: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        """The path, safe to print, with `[start:stop]` for a part; unique among the sources."""
        part = f"[{self.start}:{self.start + self.bytes}]" if self.is_part else ""
        return printable(self.path) + part

    def fingerprint(self) -> str:
        """SHA-256 (hex) that changes when the input does, cheap whatever its size.

        It covers the options and the part, and of the file up to 1 MiB the content, so that a copy
        or a `touch` changes nothing; of a larger one the size, the time of modification and the
        first and last 64 KiB. A file that is gone or closed to us has a fingerprint too.
        """
        digest = hashlib.sha256(
            repr((self.options, self.start, self.bytes, self.is_part, self.problem)).encode()
        )
        if self.problem:
            return digest.hexdigest()
        try:
            with open(self.path, "rb") as file:
                state = os.fstat(file.fileno())
                if state.st_size <= _CHEAP_BYTES:
                    digest.update(file.read(_CHEAP_BYTES + 1))
                else:
                    digest.update(repr((state.st_size, state.st_mtime_ns)).encode())
                    digest.update(file.read(HEAD))
                    file.seek(-HEAD, os.SEEK_END)
                    digest.update(file.read(HEAD))
        except OSError as error:
            digest.update(repr(error.errno).encode())
        return digest.hexdigest()


def find_sources(
    patterns: Sequence[str],
    format: str = "auto",
    *,
    text_field: str = TEXT_FIELD,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    part_bytes: int = PART_BYTES,
) -> list[Source]:
    """Returns the sources that the patterns name, sorted by path and start, each file once.

    Args:
      patterns: Files, folders, globs, archives.
      format: How to read all of them, a name of `FORMATS`; `auto` decides for each file.
      text_field: The field of JSONL objects that holds the text.
      max_document_bytes: Longer documents become rejects.
      part_bytes: Size of the parts of large files.

    Raises:
      UserError: a pattern names nothing, the format is unknown, or a field is named and the format
        has none.
    """
    if format not in ("auto", *FORMATS):
        known = ", ".join(FORMATS)
        raise UserError(
            f"unknown format {format!r}{nearest(format, FORMATS)}; known: auto, {known}"
        )
    if text_field != TEXT_FIELD and format not in ("auto", "jsonl"):
        raise UserError(
            f"--text_field={text_field} does nothing with --format={format}: only jsonl has fields"
        )
    if not patterns:
        raise UserError("no input; name files, folders or globs of raw text")
    options = ReadOptions(format, text_field, max_document_bytes)
    found: dict[str, str] = {}
    for pattern in patterns:
        matches = list(expand(pattern))
        if not matches:
            raise UserError(nothing_found(pattern))
        for path, problem in matches:
            # A hidden file is a problem of the folder around it, and none where it is named.
            found[path] = min(found.get(path, problem), problem)
    sources: list[Source] = []
    seen: set[str] = set()
    for path in sorted(found):
        if not found[path]:
            real = os.path.realpath(path)
            if real in seen:
                continue
            seen.add(real)
        sources.extend(_sources(path, found[path], options, part_bytes))
    return sources


def _sources(path: str, problem: str, options: ReadOptions, part_bytes: int) -> list[Source]:
    try:
        state = os.stat(path)
        if not problem and not stat.S_ISREG(state.st_mode):
            problem = "not a file (a pipe, socket or device)"
        if problem:
            return [Source(path, 0, options, problem=problem)]
        whole = Source(path, state.st_size, options)
        return _parts(whole, part_bytes) if state.st_size > part_bytes else [whole]
    except OSError as error:
        reason = problem or f"cannot be read ({error.strerror})"
        return [Source(path, 0, options, problem=reason)]


def _parts(whole: Source, part_bytes: int) -> list[Source]:
    """Cuts a file where documents begin, or leaves it whole where none can be seen."""
    with open(whole.path, "rb", buffering=1 << 16) as file:
        head = file.read(HEAD)
        try:
            name = recognise(head, whole.path, lambda: whole.bytes, whole.options.format)
        except Unreadable:
            return [whole]
        packed = whole.path.endswith(COMPRESSED) or tar_named(whole.path) or is_tar(head)
        if packed or name not in SPLITTABLE:
            return [whole]
        options = dataclasses.replace(whole.options, format=name)
        cuts = [0]
        while (cut := _boundary(file, cuts[-1] + part_bytes, name)) is not None:
            cuts.append(cut)
    if len(cuts) == 1:
        return [whole]
    ends = [*cuts[1:], whole.bytes]
    return [
        Source(whole.path, end - start, options, start, is_part=True)
        for start, end in zip(cuts, ends, strict=True)
    ]


def _boundary(file: BinaryIO, at: int, name: str) -> int | None:
    """Returns where the first document at or after a byte begins; None if none does."""
    file.seek(at - 1)
    complete = file.read(1) == b"\n"
    previous = b"x\n"
    while line := file.readline(HEAD):
        if complete:
            if is_boundary(name, previous, line):
                return file.tell() - len(line)
            previous = line
        complete = line.endswith(b"\n")
    return None
