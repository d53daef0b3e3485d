"""A few lines from a model of the next token: the simplest thing that shows what it has learnt."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gptbert.models.inputs import Packed
from gptbert.models.parameters import Parameters, describe, merge
from gptbert.models.presets import Compute
from gptbert.models.pretraining import NextTokenModel
from gptbert.tokenizers import load_tokenizer
from gptbert.weights.run_folder import read_run


def sample_texts(
    folder: Path, prompts: Sequence[str], *, tokens: int, most_likely: int, seed: int
) -> list[str]:
    """Goes on after each prompt, token by token, each drawn from the likeliest ones.

    The whole text is computed again for every token: good for some dozens of a small model.

    Args:
      folder: The --workdir of a pre-training with the objective next_token.
      prompts: N texts of at least one token each.
      tokens: How many are drawn after the longest prompt's end; shorter prompts get more.
      most_likely: From how many of the likeliest tokens each is drawn, by their probabilities.
      seed: Of the draws.

    Returns:
      N texts, each with its prompt.
    """
    description, parameters, _ = read_run(folder)
    tokenizer = load_tokenizer(folder / "tokenizer")
    graph, _ = describe(functools.partial(NextTokenModel, description.config, Compute()))
    prefixes = tokenizer.encode_batch(list(prompts))
    length = min(max(map(len, prefixes)) + tokens, description.config.positions)
    ids = np.zeros((len(prefixes), length), np.int32)
    for row, prefix in zip(ids, prefixes, strict=True):
        row[: len(prefix)] = prefix
    known = np.array([len(prefix) for prefix in prefixes])

    @jax.jit
    def scores(parameters: Parameters, ids: jax.Array, last: jax.Array) -> jax.Array:
        """Logits [N,V] of what follows position `last` [N]."""
        model = merge(graph, parameters)
        where = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), ids.shape)
        segments = jnp.broadcast_to(1 + jnp.arange(len(ids), dtype=jnp.int32)[:, None], ids.shape)
        vectors = model(Packed(ids, where, segments, jnp.zeros_like(ids)))
        return model.logits(jnp.take_along_axis(vectors, last[:, None, None], axis=1))[:, 0]

    generator = np.random.default_rng(seed)
    for place in range(known.min(), length):
        logits = np.array(scores(parameters, ids, np.full(len(ids), place - 1)), np.float64)
        if tokenizer.special.unk is not None:
            logits[:, tokenizer.special.unk] = -np.inf
        drawn = [_draw(row, most_likely, generator) for row in logits]
        ids[:, place] = np.where(place < known, ids[:, place], drawn)
    return [tokenizer.decode(row.tolist()) for row in ids]


def _draw(logits: np.ndarray, most_likely: int, generator: np.random.Generator) -> int:
    """One of the `most_likely` entries of logits [V], by their probabilities."""
    likely = np.argsort(-logits, kind="stable")[:most_likely]
    weights = np.exp(logits[likely] - logits[likely[0]])
    return int(generator.choice(likely, p=weights / weights.sum()))
