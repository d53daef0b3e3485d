"""BERT (arXiv 1810.04805): a post-LN Transformer encoder over packed rows, and its pooler.

x   = LN(word + position + token type), then dropout
x   = LN(x + dropout(attention(x)))                    } L times
x   = LN(x + dropout(W2 gelu(W1 x)))                   }
pooled = tanh(W x_[CLS])
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gptbert.models import dropout
from gptbert.models.dropout import Noise
from gptbert.models.inputs import Packed
from gptbert.models.layers import Dense, LayerNorm, Place, Table, anywhere, truncated_normal
from gptbert.models.presets import BertConfig, Compute
from gptbert.models.stack import Layer, drop, make_layers, run_layers, same_segment


class Embeddings(nnx.Module):
    """The sum of word, position and token-type vectors, normalised."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        draw = truncated_normal(config.initial_stddev)
        table = functools.partial(Table, width=config.width, draw=draw, rngs=rngs)
        self.word = table(config.vocabulary)
        self.position = table(config.positions)
        self.token_type = table(config.token_types)
        self.norm = LayerNorm(config.width, config.norm_epsilon)

    def __call__(self, packed: Packed, place: Place) -> jax.Array:
        """Tokens [R,T] -> float32 [R,T,D]."""
        x = self.word(packed.tokens, place)
        x = x + self.position(packed.positions) + self.token_type(packed.token_types)
        return self.norm(x)


class Bert(nnx.Module):
    """The encoder. Its layers are a list, or one layer with stacked parameters to loop over."""

    def __init__(self, config: BertConfig, compute: Compute, rngs: nnx.Rngs) -> None:
        self.embeddings = Embeddings(config, rngs)
        draw = truncated_normal(config.initial_stddev)
        build = functools.partial(Layer, config, compute, False, draw, draw, rngs)
        self.layers: Any = make_layers(build, config.layers, compute)
        self.config, self.compute = config, compute

    def __call__(
        self,
        packed: Packed,
        noise: Noise | None = None,
        place: Place = anywhere,
        read: jax.Array | None = None,
    ) -> jax.Array:
        """Packed tokens [R,T] -> last hidden states, float32 [R,T,D].

        With `read` int32 [R,N] only those at these places of each row, [R,N,D], for less work.
        """
        visible = same_segment(packed.segments, causal=self.config.left_to_right)
        x = self.embeddings(packed, place)
        x = place(drop(noise, self.config.dropout, x, dropout.EMBEDDINGS), "hidden")
        return run_layers(self.layers, self.compute, x, visible, noise, place, read)


class Pooler(nnx.Module):
    """tanh(W x) of the [CLS] vector, trained by next sentence prediction."""

    def __init__(self, config: BertConfig, compute: Compute, rngs: nnx.Rngs) -> None:
        draw = truncated_normal(config.initial_stddev)
        self.dense = Dense(config.width, config.width, draw, rngs)
        self.compute = compute

    def __call__(self, cls: jax.Array) -> jax.Array:
        """[R,N,D] -> [R,N,D]."""
        return jnp.tanh(self.dense(cls, self.compute.dtype).astype(jnp.float32))
