"""The layers that all models share: dense, LayerNorm, embedding table, attention.

Parameters are float32; `dtype` is that of the matrix products (`Compute.dtype`). LayerNorm and
softmax are always computed in float32 (an epsilon of 1e-12 vanishes in half precision).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gptbert.models.dropout import Noise
from gptbert.models.presets import Compute

# Says where an activation of a given kind lives on the machine. Models call it with a name
# ('hidden', 'heads', 'inner', 'vocabulary') and know nothing of what it does; see
# `gptbert.training.sharding`.
Place = Callable[[jax.Array, str], jax.Array]


def anywhere(x: jax.Array, kind: str) -> jax.Array:
    """The `Place` of a single device: leaves everything where it is."""
    del kind
    return x


# Draws a parameter of a shape: `truncated_normal` and `normal` make such functions.
Draw = Callable[[nnx.Rngs, tuple[int, ...]], nnx.Param]


def truncated_normal(stddev: float) -> Draw:
    """Draws from a normal cut at two standard deviations, not re-normalised.

    As TensorFlow's `truncated_normal_initializer`, which BERT uses: the realised standard
    deviation is 0.88 `stddev`.
    """
    return _drawn_by(jax.nn.initializers.truncated_normal(stddev))


def normal(stddev: float) -> Draw:
    """Draws from a normal, as GPT and GPT-2 do."""
    return _drawn_by(jax.nn.initializers.normal(stddev))


def _drawn_by(initializer: jax.nn.initializers.Initializer) -> Draw:
    return lambda rngs, shape: nnx.Param(initializer(rngs.params(), shape, jnp.float32))


def gather_slots(x: jax.Array, starts: jax.Array) -> jax.Array:
    """x [R,T,...], starts int32 [R,N] -> what stands at x[r, starts[r, n]], [R,N,...]."""
    index = starts.reshape(*starts.shape, *(1,) * (x.ndim - starts.ndim))
    return jnp.take_along_axis(x, index, axis=1)


def affine(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: str, join: bool = False
) -> jax.Array:
    """x W + b over the last axes of `x` [R,T,I...], kernel [I...,O...], bias [O...] -> [R,T,O...].

    One flat product over all R T tokens, and one each in the backward pass, written out because
    what automatic differentiation makes of it on a CPU copies the operands of the kernel's gradient
    into the other order first, and sums the bias's gradient without a product. With `join` axes
    I... and O... are one each in the products, which spares copies of kernels with more.
    """
    inputs, outputs = kernel.shape[: kernel.ndim - bias.ndim], bias.shape
    outer = x.shape[: x.ndim - len(inputs)]
    if join:
        inputs = (math.prod(inputs),)
        kernel, bias = kernel.reshape(*inputs, -1), bias.reshape(-1)
    flat = x.astype(dtype).reshape(-1, *inputs)
    y = _affine(flat, kernel.astype(dtype), bias.astype(dtype))
    return y.reshape(*outer, *outputs)


@jax.custom_vjp
def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """x [N,I...] -> [N,O...]."""
    inputs = tuple(range(kernel.ndim - bias.ndim))
    return _contract(x, kernel, tuple(i + 1 for i in inputs), inputs) + bias


def _affine_forward(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
    return _affine(x, kernel, bias), (x, kernel)


def _affine_backward(kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel = kept
    outputs = dy.ndim - 1
    of_kernel = tuple(range(kernel.ndim - outputs, kernel.ndim))
    dx = _contract(dy, kernel, tuple(range(1, dy.ndim)), of_kernel)
    ones = jnp.ones(len(dy), dy.dtype)
    return dx, _contract(x, dy, (0,), (0,)), _contract(ones, dy, (0,), (0,))


_affine.defvjp(_affine_forward, _affine_backward)


def _contract(
    a: jax.Array, b: jax.Array, of_a: tuple[int, ...], of_b: tuple[int, ...]
) -> jax.Array:
    """Sums the products of `a` and `b` over some axes of both."""
    return jax.lax.dot_general(a, b, ((of_a, of_b), ((), ())))


class Dense(nnx.Module):
    """y = x W + b; kernel [D_in, D_out], bias [D_out]."""

    def __init__(self, inputs: int, outputs: int, draw: Draw, rngs: nnx.Rngs) -> None:
        self.kernel = draw(rngs, (inputs, outputs))
        self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))

    def __call__(self, x: jax.Array, dtype: str) -> jax.Array:
        """[..., D_in] -> [..., D_out] in `dtype`."""
        return affine(x, self.kernel[...], self.bias[...], dtype)


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis, in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.scale = nnx.Param(jnp.ones((width,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> float32 [..., D]; the variance is the biased one."""
        x = x.astype(jnp.float32)
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]


class Table(nnx.Module):
    """An embedding table [entries, D]."""

    def __init__(self, entries: int, width: int, draw: Draw, rngs: nnx.Rngs) -> None:
        self.table = draw(rngs, (entries, width))

    def __call__(self, ids: jax.Array, place: Place = anywhere) -> jax.Array:
        """int32 [...] -> float32 [..., D]; ids were checked when the data was encoded."""
        return jnp.take(place(self.table[...], "vocabulary"), ids, axis=0, mode="clip")


class Attention(nnx.Module):
    """Multi-head self-attention within segments (BERT section 3, Vaswani et al. 2017).

    The three projections are one product: `qkv` kernel [D,3,H,K]; `output` kernel [H,K,D].
    """

    def __init__(
        self, width: int, heads: int, draw: Draw, draw_output: Draw, rngs: nnx.Rngs
    ) -> None:
        head_width = width // heads
        self.qkv_kernel = draw(rngs, (width, 3, heads, head_width))
        self.qkv_bias = nnx.Param(jnp.zeros((3, heads, head_width), jnp.float32))
        self.output_kernel = draw_output(rngs, (heads, head_width, width))
        self.output_bias = nnx.Param(jnp.zeros((width,), jnp.float32))

    def __call__(
        self,
        x: jax.Array,
        visible: jax.Array,
        compute: Compute,
        noise: Noise | None,
        rate: float,
        site: jax.Array | int,
        place: Place,
        read: jax.Array | None = None,
    ) -> jax.Array:
        """x [R,T,D], visible bool [R,T,T] (query, key) -> [R,T,D].

        With `read` int32 [R,N] only these places ask: [R,N,D].
        """
        dtype, join = compute.dtype, compute.join_heads
        kernel, bias = self.qkv_kernel[...], self.qkv_bias[...]
        if read is None:
            qkv = affine(x, kernel, bias, dtype, join)
            query, key, value = (place(qkv[:, :, part], "heads") for part in range(3))
        else:
            query = affine(gather_slots(x, read), kernel[:, 0], bias[0], dtype, join)
            query = place(query, "heads")
            kv = affine(x, kernel[:, 1:], bias[1:], dtype, join)
            key, value = (place(kv[:, :, part], "heads") for part in range(2))
            visible = gather_slots(visible, read)
        scores = jnp.einsum("rqhk,rthk->rhqt", query, key).astype(jnp.float32)
        scores = scores * (query.shape[-1] ** -0.5)
        scores = jnp.where(visible[:, None], scores, -1e9)
        p = jax.nn.softmax(scores, axis=-1)
        if noise is not None:
            p = noise.probabilities(p, rate, site, read)
        mixed = jnp.einsum("rhqt,rthk->rqhk", p.astype(dtype), value)
        return affine(mixed, self.output_kernel[...], self.output_bias[...], dtype, join)


def gelu(x: jax.Array, form: str) -> jax.Array:
    """x Phi(x): exactly (`gelu`, erf) or by BERT's later tanh formula (`gelu_tanh`)."""
    if form == "gelu_tanh":
        return jax.nn.gelu(x, approximate=True)
    # JAX's own exact form goes through erfc: two branches and an exponential, twice the time.
    return x * (0.5 + 0.5 * jax.lax.erf(x * np.asarray(math.sqrt(0.5), x.dtype)))
