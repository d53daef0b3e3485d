"""What a backbone needs of a tokenizer, whichever algorithm is behind it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids that no text produces; the input transforms place them. `mask` is None where absent."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int | None


class Tokenizer(Protocol):
    """Text to ids and back, without special tokens, truncation or padding."""

    @property
    def special(self) -> SpecialTokens: ...

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special and unused ones included."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the vocabulary and every rule that affects ids."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]: ...

    def tokenize(self, text: str) -> list[str]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def save(self, folder: str | os.PathLike[str], *, max_length: int = 512) -> None: ...
