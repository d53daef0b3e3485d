"""The two input transforms: texts -> token ids with the special tokens of the model.

BERT (section 3, released code); the answer is read at [CLS]:

    one text   [CLS] a [SEP]            token types 0
    a pair     [CLS] a [SEP] b [SEP]    token types 0 for [CLS] a [SEP], 1 for b [SEP]

GPT (section 3.3); the answer is read at the extract token, and a pair without an order is two
sequences, whose vectors are added:

    one text                 [start] a [extract]
    a pair (entailment)      [start] a [delimiter] b [extract]
    a pair (similarity)      [start] a [delimiter] b [extract]
                             [start] b [delimiter] a [extract]

A pair that is too long loses tokens from the end of its longer text, one at a time (of the second
on ties); a single text is cut at its end. What was cut is counted, never silent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gptbert.errors import UserError
from gptbert.tokenizers import Tokenizer

GPT_TOKENS = 3  # start, delimiter, extract: rows that fine-tuning adds after the vocabulary


@dataclasses.dataclass(frozen=True)
class Features:
    """All examples of a data set as token ids, without padding, end to end.

    Attributes:
      tokens: int32 [all tokens].
      starts: int64 [E+1]; example e is `tokens[starts[e]:starts[e+1]]`.
      first_lengths: int32 [E], how many tokens of each example have token type 0.
      labels: int32 (class numbers) or float32 (scores) [E]; -1 or 0 where there is none.
      truncated: bool [E].
      sequences: K, how many sequences of equal length an example is made of; they do not see each
        other.
      read_last: Whether the answer is read at the last token of a sequence, not at the first.
    """

    tokens: np.ndarray
    starts: np.ndarray
    first_lengths: np.ndarray
    labels: np.ndarray
    truncated: np.ndarray
    sequences: int = 1
    read_last: bool = False

    def __len__(self) -> int:
        return len(self.first_lengths)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [E], tokens of each example."""
        return np.diff(self.starts)


@dataclasses.dataclass(frozen=True)
class GptTokens:
    """Ids of the three tokens that fine-tuning adds to GPT's vocabulary."""

    start: int
    delimiter: int
    extract: int


def encode_texts(
    texts: Sequence[tuple[str, ...]],
    labels: np.ndarray,
    tokenizer: Tokenizer,
    max_length: int,
) -> Features:
    """BERT's transform of single texts and pairs.

    Raises:
      UserError: `max_length` leaves no room, or the tokenizer lacks [CLS] or [SEP].
    """
    cls, sep = tokenizer.special.require("cls", "sep")
    tokens: list[int] = []
    starts, first_lengths, truncated = [0], [], []
    for parts, cut in _cut_to(max_length, texts, tokenizer):
        tokens.append(cls)
        first_lengths.append(len(parts[0]) + 2)
        for part in parts:
            tokens += part
            tokens.append(sep)
        starts.append(len(tokens))
        truncated.append(cut)
    return _features(tokens, starts, first_lengths, labels, truncated)


def encode_texts_for_gpt(
    texts: Sequence[tuple[str, ...]],
    labels: np.ndarray,
    tokenizer: Tokenizer,
    max_length: int,
    added: GptTokens,
    *,
    unordered: bool = False,
) -> Features:
    """GPT's transform of single texts and pairs; `unordered` pairs are read in both orders.

    Raises:
      UserError: `max_length` leaves no room.
    """
    both = unordered and any(len(each) == 2 for each in texts)
    tokens: list[int] = []
    starts, truncated = [0], []
    for parts, cut in _cut_to(max_length, texts, tokenizer):
        for ordered in (parts, parts[::-1]) if both else (parts,):
            tokens.append(added.start)
            for number, part in enumerate(ordered):
                tokens += [added.delimiter, *part] if number else part
            tokens.append(added.extract)
        starts.append(len(tokens))
        truncated.append(cut)
    lengths = np.diff(np.asarray(starts))
    found = _features(tokens, starts, lengths, labels, truncated)
    return dataclasses.replace(found, sequences=2 if both else 1, read_last=True)


def _cut_to(
    max_length: int, texts: Sequence[tuple[str, ...]], tokenizer: Tokenizer
) -> Iterator[tuple[list[list[int]], bool]]:
    """The ids of each example's texts, cut to leave room for one special and one more a text."""
    widest = max((len(each) for each in texts), default=1)
    if max_length < 2 * widest + 1:
        raise UserError(
            f"max_length is {max_length}, which leaves no room for text beside the special tokens; "
            f"expected at least {2 * widest + 1}"
        )
    columns = [
        iter(tokenizer.encode_batch([each[k] for each in texts if len(each) > k]))
        for k in range(widest)
    ]
    for each in texts:
        parts = [next(columns[k]) for k in range(len(each))]
        limit = max_length - 1 - len(parts)
        cut = sum(map(len, parts)) > limit
        if cut:
            _truncate(parts, limit)
        yield parts, cut


def _features(
    tokens: list[int], starts: list[int], first_lengths: Any, labels: np.ndarray, truncated: Any
) -> Features:
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
