"""BERT (arXiv 1810.04805): a post-LN Transformer encoder over packed rows, and its pooler.

x   = LN(word + position + token type), then dropout
x   = LN(x + dropout(attention(x)))                    } L times
x   = LN(x + dropout(W2 gelu(W1 x)))                   }
pooled = tanh(W x_[CLS])
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gptbert.models import dropout
from gptbert.models.dropout import Noise
from gptbert.models.inputs import Packed
from gptbert.models.layers import Attention, Dense, LayerNorm, Place, Table, anywhere, gelu
from gptbert.models.presets import BertConfig, Compute


class Embeddings(nnx.Module):
    """The sum of word, position and token-type vectors, normalised."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
        table = functools.partial(
            Table, width=config.width, stddev=config.initial_stddev, rngs=rngs
        )
        self.word = table(config.vocabulary)
        self.position = table(config.positions)
        self.token_type = table(config.token_types)
        self.norm = LayerNorm(config.width, config.norm_epsilon)

    def __call__(self, packed: Packed, place: Place) -> jax.Array:
        """Tokens [R,T] -> float32 [R,T,D]."""
        x = self.word(packed.tokens, place)
        x = x + self.position(packed.positions) + self.token_type(packed.token_types)
        return self.norm(x)


class Layer(nnx.Module):
    """One encoder layer: attention and MLP, each followed by residual sum and LayerNorm."""

    def __init__(self, config: BertConfig, compute: Compute, rngs: nnx.Rngs) -> None:
        stddev = config.initial_stddev
        self.attention = Attention(config.width, config.heads, stddev, rngs)
        self.attention_norm = LayerNorm(config.width, config.norm_epsilon)
        self.up = Dense(config.width, config.inner, stddev, rngs)
        self.down = Dense(config.inner, config.width, stddev, rngs)
        self.mlp_norm = LayerNorm(config.width, config.norm_epsilon)
        self.config, self.compute = config, compute

    def __call__(
        self,
        x: jax.Array,
        visible: jax.Array,
        noise: Noise | None,
        layer: jax.Array | int,
        place: Place,
    ) -> jax.Array:
        """x float32 [R,T,D], visible bool [R,T,T] -> float32 [R,T,D]."""
        config, dtype = self.config, self.compute.dtype
        site = layer * dropout.SITES_PER_LAYER
        drop = functools.partial(_drop, noise, config.dropout)
        y = self.attention(
            x,
            visible,
            dtype,
            noise,
            config.attention_dropout,
            site + dropout.ATTENTION_PROBABILITIES,
            place,
        )
        x = self.attention_norm(x + drop(y, site + dropout.ATTENTION_OUTPUT))
        y = self.down(place(gelu(self.up(x, dtype), config.activation), "inner"), dtype)
        x = self.mlp_norm(x + drop(y, site + dropout.MLP_OUTPUT))
        return place(x, "hidden")


class Bert(nnx.Module):
    """The encoder. Its layers are a list, or one layer with stacked parameters to loop over."""

    def __init__(self, config: BertConfig, compute: Compute, rngs: nnx.Rngs) -> None:
        self.embeddings = Embeddings(config, rngs)
        layers = [Layer(config, compute, rngs) for _ in range(config.layers)]
        self.layers: Any = _stack(layers) if compute.scan_layers else nnx.List(layers)
        self.config, self.compute = config, compute

    def __call__(
        self, packed: Packed, noise: Noise | None = None, place: Place = anywhere
    ) -> jax.Array:
        """Packed tokens [R,T] -> last hidden states, float32 [R,T,D]."""
        visible = packed.segments[:, :, None] == packed.segments[:, None, :]
        x = self.embeddings(packed, place)
        x = place(_drop(noise, self.config.dropout, x, dropout.EMBEDDINGS), "hidden")
        if self.compute.scan_layers:
            return self._scan(x, visible, noise, place)
        for number, layer in enumerate(self.layers):
            x = self._run(layer, place)(x, visible, noise, number)
        return x

    def _run(self, layer: Layer, place: Place) -> Callable[..., jax.Array]:
        """The layer as a function, its activations recomputed in the backward pass if asked for."""
        run = functools.partial(layer, place=place)
        if not self.compute.remat:
            return run
        graph, state = nnx.split(layer)

        def pure(state: Any, *inputs: Any) -> jax.Array:
            again: Any = nnx.merge(graph, state)
            return again(*inputs, place=place)

        return functools.partial(jax.checkpoint(pure), state)

    def _scan(
        self, x: jax.Array, visible: jax.Array, noise: Noise | None, place: Place
    ) -> jax.Array:
        graph, stacked = nnx.split(self.layers)

        def body(x: jax.Array, layer: tuple[Any, jax.Array]) -> tuple[jax.Array, None]:
            state, number = layer
            return nnx.merge(graph, state)(x, visible, noise, number, place), None

        if self.compute.remat:
            body = jax.checkpoint(body, prevent_cse=False)
        numbers = jnp.arange(self.config.layers, dtype=jnp.uint32)
        return jax.lax.scan(body, x, (stacked, numbers))[0]


class Pooler(nnx.Module):
    """tanh(W x) of the [CLS] vector, trained by next sentence prediction."""

    def __init__(self, config: BertConfig, compute: Compute, rngs: nnx.Rngs) -> None:
        self.dense = Dense(config.width, config.width, config.initial_stddev, rngs)
        self.compute = compute

    def __call__(self, cls: jax.Array) -> jax.Array:
        """[R,N,D] -> [R,N,D]."""
        return jnp.tanh(self.dense(cls, self.compute.dtype).astype(jnp.float32))


def _drop(noise: Noise | None, rate: float, x: jax.Array, site: jax.Array | int) -> jax.Array:
    return x if noise is None else noise.features(x, rate, site)


def _stack(layers: list[Layer]) -> Layer:
    """One layer whose parameters carry a leading axis L."""
    graph = nnx.split(layers[0])[0]
    states = [nnx.split(layer)[1] for layer in layers]
    return nnx.merge(graph, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
