"""What a backbone needs of a tokenizer, whichever algorithm is behind it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from gptbert.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids that no text produces (`unk` apart); the input transforms place them. None where absent.

    BERT's vocabularies have all but `end_of_text`; GPT's has `unk` only (its start, delimiter and
    extract tokens are rows added after the vocabulary); GPT-2's has `end_of_text` only.
    """

    pad: int | None = None
    unk: int | None = None
    cls: int | None = None
    sep: int | None = None
    mask: int | None = None
    end_of_text: int | None = None

    def require(self, *names: str) -> tuple[int, ...]:
        """The ids of these fields.

        Raises:
          UserError: The tokenizer has no such token.
        """
        ids = [getattr(self, name) for name in names]
        if missing := [name for name, number in zip(names, ids, strict=True) if number is None]:
            raise UserError(
                f"the tokenizer has no special token {', '.join(missing)}, which this input needs; "
                "expected another kind of tokenizer (BERT's is wordpiece)"
            )
        return tuple(ids)


class Tokenizer(Protocol):
    """Text to ids and back, without special tokens, truncation or padding."""

    @property
    def kind(self) -> str:
        """One of "wordpiece", "bpe" (GPT), "byte-bpe" (GPT-2) and "sentencepiece"."""
        ...

    @property
    def special(self) -> SpecialTokens: ...

    @property
    def entries(self) -> tuple[str, ...]:
        """The vocabulary by id, as its file spells it."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special and unused ones included."""
        ...

    @property
    def continues(self) -> np.ndarray:
        """bool [V]: the entries that go on with a word which the entry before them began.

        Whole-word masking reads it. All False where entries do not tell.
        """
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the vocabulary and every rule that affects ids."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def encode_array(self, text: str) -> np.ndarray:
        """`encode` as int32 [ids], for long documents."""
        ...

    def encode_arrays(self, texts: Iterable[str]) -> list[np.ndarray]:
        """`encode_array` of each text, in this thread."""
        ...

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]: ...

    def tokenize(self, text: str) -> list[str]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def save(
        self, folder: str | os.PathLike[str], *, max_length: int = 512, for_bert: bool = False
    ) -> None:
        """Writes the files that `load_tokenizer` and `transformers` read.

        Args:
          folder: Made if absent.
          max_length: How many positions the model has.
          for_bert: Whether `transformers` is to put [CLS] and [SEP] around texts, where the
            vocabulary has them. WordPiece's default is yes, that of the other kinds no.
        """
        ...


def known_ids(ids: Iterable[int], vocabulary_size: int) -> list[int]:
    """The ids to decode.

    Raises:
      IndexError: One is not in [0, vocabulary_size).
    """
    ids = list(ids)
    if outside := [i for i in ids if not 0 <= i < vocabulary_size]:
        raise IndexError(f"id {outside[0]} is not in a vocabulary of {vocabulary_size}")
    return ids
