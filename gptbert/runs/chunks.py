"""Many texts, a few thousand at a time: bounded memory for files, quick answers through pipes."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from gptbert.datasets import Example

EXAMPLES = 4096
CHARACTERS = 1 << 22  # so that long documents do not take more memory than short texts
PATIENCE = 0.02  # seconds for the next line of a pipe: what a busy writer needs between two lines


def in_chunks(
    examples: Iterable[Example], has_more: Callable[[], bool] = lambda: True
) -> Iterator[list[Example]]:
    """Cuts a stream into lists in its order: full ones, or what has arrived by now.

    Args:
      examples: Any number of them.
      has_more: Whether the next one can be had without waiting for whoever writes them.
    """
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += sum(map(len, example.texts))
        if len(chunk) >= EXAMPLES or characters >= CHARACTERS or not has_more():
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


class Pipe:
    """Standard input that can tell whether a further line is there.

    A program at the other end may wait for its answer before it writes the next line, so that
    waiting for a full chunk would be for ever.
    """

    name = "standard input"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = bytearray()
        self._has_ended = False

    def readline(self, limit: int) -> bytes:
        """The next line with its end, at most `limit` bytes of it; nothing at the end."""
        searched = 0
        while (end := self._waiting.find(b"\n", searched, limit)) < 0:
            searched = len(self._waiting)
            if self._has_ended or searched >= limit:
                break
            self._read()
        length = end + 1 if end >= 0 else limit
        line = bytes(self._waiting[:length])
        del self._waiting[:length]
        return line

    def has_line(self) -> bool:
        """Whether `readline` would return at once (or within `PATIENCE`)."""
        while not self._has_ended and b"\n" not in self._waiting:
            if not select.select([self._descriptor], [], [], PATIENCE)[0]:
                return False
            self._read()
        return True

    def _read(self) -> None:
        arrived = os.read(self._descriptor, 1 << 16)
        self._waiting += arrived
        self._has_ended = not arrived


def standard_input() -> tuple[BinaryIO, Callable[[], bool]]:
    """Standard input as a stream of lines, and whether a further line is there."""
    try:
        pipe = Pipe(sys.stdin.fileno())
    except (io.UnsupportedOperation, AttributeError):  # replaced by something without descriptor
        return sys.stdin.buffer, lambda: True
    return cast(BinaryIO, pipe), pipe.has_line
