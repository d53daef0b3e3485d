"""Fine-tuning only the embedding rows that the training data uses; the others in closed form.

A row whose word never occurs has gradient zero, hence moments zero, hence the update

    p <- p - rate * (0 + decay * p) = p * (1 - rate * decay)

at every step: after s steps it is its start times a product of scalars. A small task uses few of
BERT's 30,522 rows; leaving the others out of the state spares the optimizer's passes over them,
a visible share of a packed step on a CPU, and changes nothing but rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptbert.pipeline.encode import Features
from gptbert.training.sharding import is_vocabulary
from gptbert.training.state import TrainState

WORD_TABLE = "bert/embeddings/word/table"


@dataclasses.dataclass(frozen=True)
class UsedVocabulary:
    """Which rows are trained, and what the others are.

    Attributes:
      used: int32 [U], ids that occur, ascending.
      start: float32 [V,D], the table before the first update.
      decay: Of the weights each step, times the rate; 0 if the table is frozen.
      schedule: Learning rate by step.
    """

    used: np.ndarray
    start: jax.Array
    decay: float
    schedule: Callable[[int], float]

    def compact(self, state: Any) -> Any:
        """Keeps the used rows of vocabulary tables: parameters and moments."""
        return take_rows(state, self.used)

    def expand(self, state: TrainState) -> TrainState:
        """The whole state again: unused rows from their start, their moments zero."""
        rates = np.asarray([self.schedule(s) for s in range(int(state.step))], np.float64)
        factor = np.float32(np.prod(1.0 - rates * self.decay))

        def whole(path: str, rows: jax.Array) -> jax.Array:
            rest = self.start * factor if path == "parameters" else jnp.zeros_like(self.start)
            return rest.at[self.used].set(rows[: len(self.used)])

        return dataclasses.replace(
            state,
            parameters=_on_tables(lambda rows: whole("parameters", rows), state.parameters),
            optimizer_state=_on_tables(lambda rows: whole("moments", rows), state.optimizer_state),
        )


def renumbered(features: Features, used: np.ndarray) -> Features:
    """The same examples with tokens numbered among the used ones."""
    tokens = np.searchsorted(used, features.tokens).astype(np.int32)
    return dataclasses.replace(features, tokens=tokens)


def take_rows(state: Any, used: np.ndarray) -> Any:
    """A state with only the `used` rows of vocabulary tables."""
    return _on_tables(lambda table: table[used], state)


def used_ids(features: Features) -> np.ndarray:
    """int32 [U], the ids that occur in a data set; 0 (empty space) always among them."""
    return np.union1d(features.tokens, [0]).astype(np.int32)


def _on_tables(change: Callable[[Any], Any], tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: change(leaf) if is_vocabulary(keys) else leaf, tree
    )
