"""Which tokens are hidden and what stands in their place (BERT section 3.1, Appendix C.2).

A mask is a pure function of an example's key and the positions in it: every epoch has keys of its
own, so masks differ; the batch, process or row in which an example lies does not matter.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from gptbert.errors import UserError
from gptbert.pipeline import draws

_ORDER, _KIND, _ENTRY = range(3)


@dataclasses.dataclass(frozen=True)
class Masking:
    """How many tokens are predicted, and how they are shown.

    Attributes:
      rate: Share of an example's tokens, special ones counted, that is predicted.
      mixture: Of those, the shares shown as [MASK], as they are, and as a random entry.
      whole_words: All pieces of a word are hidden together or not at all (May 2019 release).
      most: Predictions of an example at most (`max_predictions_per_seq`); 0 for what `rate`
        of the longest gives.
    """

    rate: float = 0.15
    mixture: tuple[float, float, float] = (0.8, 0.1, 0.1)
    whole_words: bool = False
    most: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise UserError(f"mask rate {self.rate} is not between 0 and 1 (--config.masking.rate)")
        is_mixture = len(self.mixture) == 3 and all(share >= 0 for share in self.mixture)
        if not is_mixture or abs(sum(self.mixture) - 1) > 1e-6:
            raise UserError(
                f"masking mixture {tuple(self.mixture)}: expected the shares of [MASK], unchanged "
                "and random tokens, which sum to 1 (--config.masking.mixture)"
            )
        if self.most < 0:
            raise UserError(
                f"at most {self.most} predictions an example; expected 0 or more "
                "(--config.masking.most)"
            )

    def quota(self, lengths: np.ndarray) -> np.ndarray:
        """int64, predictions of examples of these lengths; halves are rounded to even."""
        wanted = np.maximum(1, np.rint(np.asarray(lengths) * self.rate)).astype(np.int64)
        return np.minimum(wanted, self.most) if self.most else wanted

    def slots(self, shortest: int, row: int, examples: int) -> int:
        """The most predictions that `examples` in a row of `row` tokens can have together."""
        lengths = np.arange(shortest, row + 1)
        # Rounding gives each example at most so much more than its share.
        rounded_up = float((self.quota(lengths) - lengths * self.rate).max())
        together = math.floor(row * self.rate + examples * max(0.0, rounded_up) + 1e-9)
        return min(together, examples * int(self.quota(lengths).max()))


def mask(
    tokens: np.ndarray,
    candidates: np.ndarray,
    lengths: np.ndarray,
    keys: np.ndarray,
    masking: Masking,
    *,
    mask_id: int,
    vocabulary_size: int,
    continues: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hides tokens of examples, one a row.

    Args:
      tokens: int32 [B,T].
      candidates: bool [B,T], what may be hidden: no special tokens, no empty space.
      lengths: int64 [B], tokens of each example, special ones counted.
      keys: uint64 [B], of each example in this epoch.
      masking: How many and how.
      mask_id: Of [MASK].
      vocabulary_size: Random entries are any of these: special, unused and "##" ones included.
      continues: bool [V], entries that continue a word; None where words are not kept whole.

    Returns:
      What is shown, int32 [B,T], and which positions are predicted, bool [B,T].
    """
    positions = np.arange(tokens.shape[1])
    heads = candidates.copy()
    if continues is not None:
        # As in the script, the first candidate begins a set even if it looks like a continuation,
        # and a set may go on behind [SEP] where truncation cut into a word.
        seen = np.cumsum(candidates, axis=1)
        heads &= ~continues[tokens] | (seen == 1)
    addressed = draws.bits(keys[:, None], positions[None, :])
    chosen = _choose(heads, candidates, draws.bits(addressed, _ORDER), masking.quota(lengths))
    rows, columns = np.nonzero(chosen)
    there = addressed[rows, columns]
    kind = draws.uniform(draws.bits(there, _KIND))
    entry = draws.below(draws.bits(there, _ENTRY), vocabulary_size)
    hidden, same, _ = masking.mixture
    shown = tokens.copy()
    shown[rows, columns] = np.where(
        kind < hidden, mask_id, np.where(kind < hidden + same, tokens[rows, columns], entry)
    )
    return shown, chosen


def _choose(
    heads: np.ndarray, candidates: np.ndarray, order: np.ndarray, quota: np.ndarray
) -> np.ndarray:
    """Takes sets in the order of their hashes; one that would exceed the quota is passed over.

    A set is a head and the candidates up to the next head: bool [B,T] of the chosen positions.
    """
    rows, width = heads.shape
    number = np.cumsum(heads, axis=1) - 1
    address = number + width * np.arange(rows)[:, None]
    sizes = np.bincount(address[candidates], minlength=rows * width).reshape(rows, width)
    priority = np.full((rows, width), np.iinfo(np.uint64).max)
    priority.reshape(-1)[address[heads]] = order[heads]
    ranked = np.argsort(priority, axis=1)
    taken = np.zeros((rows, width), bool)
    count, every = np.zeros(rows, np.int64), np.arange(rows)
    for rank in range(int(heads.sum(axis=1).max(initial=0))):
        sets = ranked[:, rank]
        size = sizes[every, sets]
        fits = (size > 0) & (count + size <= quota)
        taken[every, sets] = fits
        count += size * fits
        if (count >= quota).all():
            break
    return candidates & np.take_along_axis(taken, np.maximum(number, 0), axis=1)
