"""What makes the tokenizers fast on natural text, whose words return: results kept by argument.

Ids are found as the bytes of int32 numbers, which join at the speed of copying; a long text is cut
into blocks first, so that it takes memory for the words of one of them.
"""

from __future__ import annotations

import abc
import array
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

# Of natural text, a million entries take about 140 MB; longer keys rarely return.
ENTRIES = 1_000_000
KEY_CHARACTERS = 64

BLOCK_CHARACTERS = 1 << 20  # of a text are split into chunks at once
BETWEEN_WORDS = re.compile(r"(?<=\S) (?=\S)")


class Memory(dict[str, bytes]):
    """A function's results, ids that are `packed`, by argument: `memory[key]` calls it once."""

    def __init__(self, function: Callable[[str], bytes]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, key: str) -> bytes:
        result = self._function(key)
        if len(self) < ENTRIES and len(key) <= KEY_CHARACTERS:
            self[key] = result
        return result

    def __reduce__(self) -> tuple[type[Memory], tuple[Callable[[str], bytes]]]:
        return Memory, (self._function,)  # a copy for another process starts empty


def packed(ids: Sequence[int]) -> bytes:
    """Ids as the bytes of int32 numbers."""
    return array.array("i", ids).tobytes()


def unpacked(data: bytes) -> list[int]:
    """The ids that `packed` packed."""
    return array.array("i", data).tolist()


def blocks(text: str, between: re.Pattern[str] = BETWEEN_WORDS) -> Iterable[str]:
    """`text`, or the parts of a long one, cut where `between` matches past `BLOCK_CHARACTERS`.

    By default before a single space between words, where WordPiece and byte-level BPE cut anyway.
    """
    return (text,) if len(text) <= BLOCK_CHARACTERS else _parts(text, between)


def _parts(text: str, between: re.Pattern[str]) -> Iterator[str]:
    start = 0
    while start < len(text):
        space = between.search(text, min(start + BLOCK_CHARACTERS, len(text)))
        stop = space.start() if space else len(text)
        yield text[start:stop]
        start = stop


class PackedTokenizer(abc.ABC):
    """What the kinds share that find the ids of a text as `packed` bytes."""

    entries: tuple[str, ...]

    @abc.abstractmethod
    def _encode_text(self, text: str) -> bytes: ...

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without special tokens; one that `text` spells is split like any text."""
        return unpacked(self._encode_text(text))

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [unpacked(self._encode_text(text)) for text in texts]

    def encode_array(self, text: str) -> np.ndarray:
        """`encode` as int32 [ids], read-only; a long text is cut into `blocks` first."""
        return np.frombuffer(self._encode_text(text), np.int32)

    def encode_arrays(self, texts: Iterable[str]) -> list[np.ndarray]:
        """`encode_array` of each text."""
        return list(map(self.encode_array, texts))

    def tokenize(self, text: str) -> list[str]:
        """The entries of `text`, spelt as in the vocabulary."""
        return [self.entries[i] for i in self.encode(text)]
