"""BERT's input transform: texts -> token ids with [CLS] and [SEP] (BERT section 3, papers' code).

    one text   [CLS] a [SEP]            token types 0
    a pair     [CLS] a [SEP] b [SEP]    token types 0 for [CLS] a [SEP], 1 for b [SEP]

A pair that is too long loses tokens from the end of its longer text, one at a time (of the second
on ties); a single text is cut at its end. What was cut is counted, never silent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from gptbert.errors import UserError
from gptbert.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Features:
    """All examples of a data set as token ids, without padding, end to end.

    Attributes:
      tokens: int32 [all tokens].
      starts: int64 [E+1]; example e is `tokens[starts[e]:starts[e+1]]`.
      first_lengths: int32 [E], how many tokens of each example have token type 0.
      labels: int32 (class numbers) or float32 (scores) [E]; -1 or 0 where there is none.
      truncated: bool [E].
    """

    tokens: np.ndarray
    starts: np.ndarray
    first_lengths: np.ndarray
    labels: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.first_lengths)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [E], tokens of each example."""
        return np.diff(self.starts)


def encode_texts(
    texts: Sequence[tuple[str, ...]],
    labels: np.ndarray,
    tokenizer: Tokenizer,
    max_length: int,
) -> Features:
    """Encodes single texts and pairs; raises UserError if `max_length` leaves no room."""
    widest = max((len(each) for each in texts), default=1)
    if max_length < 2 * widest + 1:
        raise UserError(
            f"max_length is {max_length}, which leaves no room for text beside the special tokens; "
            f"expected at least {2 * widest + 1} (--config.max_length)"
        )
    cls, sep = tokenizer.special.cls, tokenizer.special.sep
    columns = [
        iter(tokenizer.encode_batch([each[k] for each in texts if len(each) > k]))
        for k in range(widest)
    ]
    tokens: list[int] = []
    starts, first_lengths, truncated = [0], [], []
    for each in texts:
        parts = [next(columns[k]) for k in range(len(each))]
        limit = max_length - 1 - len(parts)
        cut = sum(map(len, parts)) > limit
        if cut:
            _truncate(parts, limit)
        tokens.append(cls)
        tokens += parts[0]
        tokens.append(sep)
        first_lengths.append(len(parts[0]) + 2)
        for part in parts[1:]:
            tokens += part
            tokens.append(sep)
        starts.append(len(tokens))
        truncated.append(cut)
    return Features(
        np.asarray(tokens, np.int32),
        np.asarray(starts, np.int64),
        np.asarray(first_lengths, np.int32),
        labels,
        np.asarray(truncated, bool),
    )


def _truncate(parts: list[list[int]], limit: int) -> None:
    """Cuts one or two token lists in place to `limit` tokens together (A.3.6 of the code)."""
    if len(parts) == 1:
        del parts[0][limit:]
        return
    first, second = map(len, parts)
    while first + second > limit:
        if first > second:
            first -= 1
        else:
            second -= 1
    del parts[0][first:], parts[1][second:]
