"""Several corpora in one run: which of them an example comes from, and which of its examples.

Examples of a run are numbered through. Each number belongs to one corpus, by a fixed pattern in
which any stretch of numbers holds each corpus by its weight, to within a few; and each corpus is
visited in epochs of its own. Both are closed formulas: nothing has to be counted up on a resume.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from gptbert.errors import UserError
from gptbert.pipeline.store import TokenStore


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Corpora and their shares of the examples.

    Attributes:
      stores: The corpora, all in the ids of one tokenizer.
      weights: Their shares, which sum to 1.
    """

    stores: tuple[TokenStore, ...]
    weights: tuple[float, ...]

    @staticmethod
    def of(stores: Sequence[TokenStore], weights: Sequence[float] = ()) -> Mixture:
        """Checks and normalises; without weights, each corpus counts by its tokens.

        Raises:
          UserError: No corpus, an empty one, weights that do not match, or different tokenizers.
        """
        if not stores:
            raise UserError("no corpus to train on; expected a token store (--config.corpus=STORE)")
        for store in stores:
            if not store.tokens:
                raise UserError(
                    f"the {store.split} split of {store.path} has no text; expected documents: "
                    "prepare more text with `gptbert prepare-corpus --input='GLOB'`"
                )
            if store.tokenizer_fingerprint != stores[0].tokenizer_fingerprint:
                raise UserError(
                    f"{store.path} and {stores[0].path} were made with different tokenizers; "
                    "prepare both with the same `gptbert prepare-corpus --tokenizer=DIR`"
                )
        for number, store in enumerate(stores):
            if store.fingerprint in [other.fingerprint for other in stores[:number]]:
                raise UserError(
                    f"{store.path} is named twice, or is a copy of a store before it; expected "
                    "each once (--config.corpus_weights says how often its text is read)"
                )
        weights = list(weights) or [float(store.tokens) for store in stores]
        if len(weights) != len(stores) or not all(0 < w < math.inf for w in weights):
            raise UserError(
                f"{len(weights)} mixing weights {weights} for {len(stores)} corpora; expected "
                "one positive number for each (--config.corpus_weights)"
            )
        total = sum(weights)
        return Mixture(tuple(stores), tuple(w / total for w in weights))

    def deal(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each example number its corpus, and its place among that corpus's examples.

        Args:
          numbers: int64 [B], from 0.

        Returns:
          Corpora int64 [B] and places int64 [B]; the places of a corpus are 0, 1, 2, ….
        """
        corpora = np.full(len(numbers), len(self.stores) - 1, np.int64)
        places = np.array(numbers, np.int64)
        open_, rest = np.ones(len(numbers), bool), 1.0
        for corpus, weight in enumerate(self.weights[:-1]):
            # Of what earlier corpora left over, this one takes a number where n x share passes
            # an integer; before number n it has taken floor(n x share).
            share = weight / rest
            before = np.floor(places * share).astype(np.int64)
            mine = open_ & (np.floor((places + 1) * share) > before)
            corpora[mine] = corpus
            places = np.where(mine, before, np.where(open_, places - before, places))
            open_ &= ~mine
            rest -= weight
        return corpora, places
