"""GPT (Radford et al. 2018) and GPT-2 (2019): a Transformer that sees only what stands before.

x = word + position; GPT drops entries of both tables for the whole step, GPT-2 entries of the sum
x through L layers: post-LN (GPT), or pre-LN with one more LayerNorm at the end (GPT-2)
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gptbert.models import dropout
from gptbert.models.dropout import Noise
from gptbert.models.inputs import Packed
from gptbert.models.layers import LayerNorm, Place, Table, anywhere, normal
from gptbert.models.presets import Compute, GptConfig
from gptbert.models.stack import Layer, drop, make_layers, run_layers, same_segment


class GptEmbeddings(nnx.Module):
    """The sum of word and position vectors.

    GPT's released code drops entries of the tables, the tied output projection included. That of
    GPT-2 drops nothing; `transformers` drops entries of the sum, and so does the pre-LN model here.
    """

    def __init__(self, config: GptConfig, rngs: nnx.Rngs) -> None:
        self.word = Table(config.vocabulary, config.width, normal(config.initial_stddev), rngs)
        self.position = Table(config.positions, config.width, normal(config.position_stddev), rngs)
        self.rate = config.embedding_dropout
        self.drops_tables = config.norm_place == "post"

    def __call__(self, packed: Packed, noise: Noise | None, place: Place) -> jax.Array:
        """Tokens [R,T] -> float32 [R,T,D]; looks up before it drops a table, which is the same."""
        word, position = self.word(packed.tokens, place), self.position(packed.positions)
        if noise is not None and self.drops_tables:
            word = noise.table_rows(word, packed.tokens, self.rate, dropout.WORD_TABLE)
            position = noise.table_rows(
                position, packed.positions, self.rate, dropout.POSITION_TABLE
            )
            return word + position
        return drop(noise, self.rate, word + position, dropout.EMBEDDINGS)

    def word_table(self, noise: Noise | None = None, place: Place = anywhere) -> jax.Array:
        """The word table [V,D] as this step sees it: the output projection is tied to it."""
        table = place(self.word.table[...], "vocabulary")
        if noise is None or not self.drops_tables:
            return table
        return noise.table_rows(table, jnp.arange(len(table)), self.rate, dropout.WORD_TABLE)


class Gpt(nnx.Module):
    """The decoder. Its layers are a list, or one layer with stacked parameters to loop over."""

    def __init__(self, config: GptConfig, compute: Compute, rngs: nnx.Rngs) -> None:
        self.embeddings = GptEmbeddings(config, rngs)
        pre_norm = config.norm_place == "pre"
        scale = 1 / math.sqrt(2 * config.layers) if config.residual_scaling else 1.0
        draw, draw_residual = normal(config.initial_stddev), normal(config.initial_stddev * scale)
        build = functools.partial(Layer, config, compute, pre_norm, draw, draw_residual, rngs)
        self.layers: Any = make_layers(build, config.layers, compute)
        self.final_norm = LayerNorm(config.width, config.norm_epsilon) if pre_norm else None
        self.config, self.compute = config, compute

    def __call__(
        self,
        packed: Packed,
        noise: Noise | None = None,
        place: Place = anywhere,
        read: jax.Array | None = None,
    ) -> jax.Array:
        """Packed tokens [R,T] -> last hidden states, float32 [R,T,D]; token types are not read.

        With `read` int32 [R,N] only those at these places of each row, [R,N,D], for less work.
        """
        visible = same_segment(packed.segments, causal=True)
        x = place(self.embeddings(packed, noise, place), "hidden")
        x = run_layers(self.layers, self.compute, x, visible, noise, place, read)
        return x if self.final_norm is None else self.final_norm(x)
