"""Contiguous windows of a corpus, for models that predict the next token (GPT, GPT-2).

The documents lie end to end, each followed by the end-of-text token where the vocabulary has one
(GPT-2's does, GPT's does not), and the stream is closed to a ring. An epoch cuts the ring from a
random place on into windows that do not overlap and visits them in a random order; fewer than T
tokens are left over, other ones each time.

GPT's paper samples windows "at random" (section 4.1): drawn that way, an epoch's worth of windows
would meet only 63% of the tokens. Cutting the stream keeps the places random and meets them all.
"""

from __future__ import annotations

import numpy as np

from gptbert.errors import UserError
from gptbert.pipeline import draws
from gptbert.pipeline.plan import epoch_order
from gptbert.pipeline.store import TokenStore


class Windows:
    """The windows of one store.

    Args:
      store: The corpus.
      length: T, tokens that a model reads; a window has one more, the last to be predicted.
      end_of_text: Id of the token that follows each document; None for none.

    Attributes:
      tokens: Length of the ring: the store's tokens and the end-of-text tokens.
      count: Windows an epoch; 0 if the corpus is shorter than one.
    """

    def __init__(self, store: TokenStore, length: int, end_of_text: int | None) -> None:
        self._store, self.length, self._end_of_text = store, length, end_of_text
        stops = store.sentence_starts[store.document_starts[1:]]
        separators = stops + np.arange(len(stops)) if end_of_text is not None else stops[:0]
        self._separators = separators
        self.tokens = store.tokens + len(separators)
        self.count = self.tokens // length if self.tokens > length else 0

    def too_short(self) -> UserError:
        """What to tell of a corpus without a window."""
        return UserError(
            f"the {self._store.split} split of {self._store.path} has {self.tokens:,} tokens, "
            f"fewer than one window of {self.length} + 1; prepare more text with "
            "`gptbert prepare-corpus`, or make windows shorter (--config.phases)"
        )

    def starts(self, seed: int, epoch: int) -> np.ndarray:
        """int64 [count], where the windows of an epoch start, in the order of the visit."""
        offset = int(draws.below(draws.bits(draws.key(seed, "windows", epoch), 0), self.tokens)[0])
        return (offset + self.length * epoch_order(self.count, seed, epoch)) % self.tokens

    def read(self, start: int, tokens: int) -> np.ndarray:
        """int32 [tokens] of the ring from `start` on; across its end at most once."""
        stop = start + tokens
        if stop <= self.tokens:
            return self._read(start, stop)
        return np.concatenate([self._read(start, self.tokens), self._read(0, stop - self.tokens)])

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Tokens of the store and the separators between them."""
        before, through = np.searchsorted(self._separators, [start, stop])
        found = np.empty(stop - start, np.int32)
        is_text = np.ones(stop - start, bool)
        is_text[self._separators[before:through] - start] = False
        found[is_text] = self._store.read(int(start - before), int(stop - through))
        if self._end_of_text is not None:
            found[~is_text] = self._end_of_text
        return found
