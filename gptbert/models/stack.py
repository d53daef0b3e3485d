"""The layers of a Transformer, and the loop over them: unrolled, scanned, recomputed.

post-LN (BERT, GPT):  x = LN(x + dropout(attention(x)));  x = LN(x + dropout(W2 gelu(W1 x)))
pre-LN (GPT-2):       x = x + dropout(attention(LN(x)));  x = x + dropout(W2 gelu(W1 LN(x)))

Whoever reads the last layer at a few places only (a classifier one of each example, masked language
modelling a seventh of the tokens) says so, and the others' vectors are not computed there. They
are still what that layer attends to: its keys and values are of all tokens.
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
from gptbert.models.layers import Attention, Dense, Draw, LayerNorm, Place, gather_slots, gelu
from gptbert.models.presets import Compute, ModelConfig


class Layer(nnx.Module):
    """Attention and MLP, each with a residual sum and a LayerNorm."""

    def __init__(
        self,
        config: ModelConfig,
        compute: Compute,
        pre_norm: bool,
        draw: Draw,
        draw_residual: Draw,
        rngs: nnx.Rngs,
    ) -> None:
        """`draw_residual` draws the two kernels that write to the residual stream."""
        self.attention = Attention(config.width, config.heads, draw, draw_residual, rngs)
        self.attention_norm = LayerNorm(config.width, config.norm_epsilon)
        self.up = Dense(config.width, config.inner, draw, rngs)
        self.down = Dense(config.inner, config.width, draw_residual, rngs)
        self.mlp_norm = LayerNorm(config.width, config.norm_epsilon)
        self.config, self.compute, self.pre_norm = config, compute, pre_norm

    def __call__(
        self,
        x: jax.Array,
        visible: jax.Array,
        noise: Noise | None,
        layer: jax.Array | int,
        place: Place,
        read: jax.Array | None = None,
    ) -> jax.Array:
        """x float32 [R,T,D], visible bool [R,T,T] -> float32 [R,T,D]; [R,N,D] at `read` [R,N]."""
        site = layer * dropout.SITES_PER_LAYER

        def here(x: jax.Array) -> jax.Array:
            return x if read is None else gather_slots(x, read)

        def attend(x: jax.Array) -> jax.Array:
            y = self._attention(x, visible, noise, site, place, read)
            return drop(noise, self.config.dropout, y, site + dropout.ATTENTION_OUTPUT, read)

        def transform(x: jax.Array) -> jax.Array:
            y = self._mlp(x, place)
            return drop(noise, self.config.dropout, y, site + dropout.MLP_OUTPUT, read)

        if self.pre_norm:
            x = here(x) + attend(self.attention_norm(x))
            x = x + transform(self.mlp_norm(x))
        else:
            x = self.attention_norm(here(x) + attend(x))
            x = self.mlp_norm(x + transform(x))
        return place(x, "hidden")

    def _attention(
        self,
        x: jax.Array,
        visible: jax.Array,
        noise: Noise | None,
        site: jax.Array | int,
        place: Place,
        read: jax.Array | None,
    ) -> jax.Array:
        site = site + dropout.ATTENTION_PROBABILITIES
        rate = self.config.attention_dropout
        return self.attention(x, visible, self.compute, noise, rate, site, place, read)

    def _mlp(self, x: jax.Array, place: Place) -> jax.Array:
        dtype = self.compute.dtype
        inner = gelu(self.up(x, dtype), self.config.activation)
        return self.down(place(inner, "inner"), dtype)


def make_layers(build: Callable[[], Layer], count: int, compute: Compute) -> Any:
    """A list of layers, or, to scan over, one layer whose parameters have a leading axis L."""
    layers = [build() for _ in range(count)]
    return _stack(layers) if compute.scan_layers else nnx.List(layers)


def run_layers(
    layers: Any,
    compute: Compute,
    x: jax.Array,
    visible: jax.Array,
    noise: Noise | None,
    place: Place,
    read: jax.Array | None = None,
) -> jax.Array:
    """x float32 [R,T,D] through all layers of `make_layers` -> float32 [R,T,D].

    With `read` int32 [R,N] only the vectors at these places of each row, [R,N,D]: the last layer
    computes no others, unless it is one of a loop, which all do the same.
    """
    if compute.scan_layers:
        x = _scan(layers, compute, x, visible, noise, place)
        return x if read is None else gather_slots(x, read)
    *body, last = layers
    for number, layer in enumerate(body):
        x = _recomputed(layer, compute, place)(x, visible, noise, number)
    return _recomputed(last, compute, place)(x, visible, noise, len(body), read=read)


def drop(
    noise: Noise | None,
    rate: float,
    x: jax.Array,
    site: jax.Array | int,
    read: jax.Array | None = None,
) -> jax.Array:
    """Drops features of `x` [R,T,D], or [R,N,D] at `read`; without noise, `x` as it is."""
    return x if noise is None else noise.features(x, rate, site, read)


def same_segment(segments: jax.Array, causal: bool) -> jax.Array:
    """What each token of segments [R,T] may look at: bool [R,T,T] (query, key).

    An example lies in one piece, so that what stands before a token of it in the row is also what
    stands before it in the example.
    """
    visible = segments[:, :, None] == segments[:, None, :]
    if not causal:
        return visible
    at = jnp.arange(segments.shape[1])
    return visible & (at[:, None] >= at[None, :])


def _recomputed(layer: Layer, compute: Compute, place: Place) -> Callable[..., jax.Array]:
    """The layer as a function, its activations recomputed in the backward pass if asked for."""
    if not compute.remat:
        return functools.partial(layer, place=place)
    graph, state = nnx.split(layer)

    def pure(state: Any, *inputs: Any, read: jax.Array | None = None) -> jax.Array:
        again: Any = nnx.merge(graph, state)
        return again(*inputs, place=place, read=read)

    return functools.partial(jax.checkpoint(pure), state)


def _scan(
    layers: Layer,
    compute: Compute,
    x: jax.Array,
    visible: jax.Array,
    noise: Noise | None,
    place: Place,
) -> jax.Array:
    graph, stacked = nnx.split(layers)

    def body(x: jax.Array, layer: tuple[Any, jax.Array]) -> tuple[jax.Array, None]:
        state, number = layer
        return nnx.merge(graph, state)(x, visible, noise, number, place), None

    if compute.remat:
        body = jax.checkpoint(body, prevent_cse=False)
    numbers = jnp.arange(layers.config.layers, dtype=jnp.uint32)
    return jax.lax.scan(body, x, (stacked, numbers))[0]


def _stack(layers: list[Layer]) -> Layer:
    """One layer whose parameters carry a leading axis L."""
    graph = nnx.split(layers[0])[0]
    states = [nnx.split(layer)[1] for layer in layers]
    return nnx.merge(graph, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
