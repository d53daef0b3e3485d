"""Cross-entropy over a large vocabulary without ever holding all of its logits.

loss = - sum over positions of weight * log softmax(x E^T + b)[label]

The logits of a row of 1,024 positions over 50,257 entries are 206 MB. Here they exist for a chunk
of positions at a time, `chunk` of each row and at most `POSITIONS` over all rows: where gradients
are wanted, those of the chunk are made at once, while its logits are there, and only they are kept.
Nothing is computed twice.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

# Positions of each row, and over all rows (of the whole mesh, at least one of each row), whose
# logits exist at a time: 3.3 GB in float32 over 50,257 entries. Up to 128 rows a chunk has 128
# positions of each; of fewer than 4 rows it has `AT_LEAST` over all, since each chunk adds a pass
# over the table's gradient. The words that BERT predicts, 20 of a row of 128, are one chunk up to
# 819 rows. Fewer positions would do (about 512 on a CPU, some thousands on an accelerator); but on
# a mesh the table's gradient is summed over devices once a chunk, so that few large chunks are
# better there.
CHUNK, POSITIONS, AT_LEAST = 128, 16_384, 512


def linear_cross_entropy(
    x: jax.Array,
    table: jax.Array,
    bias: jax.Array | None,
    labels: jax.Array,
    weights: jax.Array,
    *,
    vocabulary: int,
    dtype: str = "float32",
    chunk: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Summed loss and summed right answers of projecting `x` on a vocabulary.

    Args:
      x: float32 [R,T,D].
      table: float32 [V',D], of which the first `vocabulary` rows are entries and the rest padding.
      bias: float32 [V] or [V'], or None.
      labels: int32 [R,T], each below `vocabulary`.
      weights: float32 [R,T]. No gradient goes to them.
      vocabulary: V.
      dtype: Of the matrix products; softmax and sums are float32.
      chunk: Positions of each row whose logits [R,chunk,V'] exist at a time, at most; by default
        `CHUNK`, but `AT_LEAST` and at most `POSITIONS` over all rows.

    Returns:
      The weighted sums, float32 scalars: of the negative log-likelihoods (differentiable in `x`,
      `table` and `bias`), and of the positions where no entry has more than the label's logit.
    """
    entries = table.shape[0]
    if bias is not None:
        bias = jnp.pad(bias, (0, entries - bias.shape[0]))
    if chunk is None:
        chunk = max(CHUNK, AT_LEAST // x.shape[0])
    chunk = min(chunk, max(1, POSITIONS // x.shape[0]))
    count = -(-x.shape[1] // chunk)
    chunk = -(-x.shape[1] // count)  # equal chunks, with as little filler as can be
    fixed = (vocabulary, dtype, chunk)
    loss, correct = _chunked(fixed, x, table, bias, labels, weights)
    return loss, jax.lax.stop_gradient(correct)


_Fixed = tuple[int, str, int]  # vocabulary, dtype, chunk


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked(
    fixed: _Fixed,
    x: jax.Array,
    table: jax.Array,
    bias: jax.Array | None,
    labels: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    vocabulary, dtype, chunk = fixed
    cast = table.astype(dtype)

    def add(total: Any, piece: Any) -> tuple[Any, None]:
        loss, correct, _ = _losses(vocabulary, cast, bias, *piece)
        return (total[0] + loss, total[1] + correct), None

    zero = jnp.zeros((), jnp.float32)
    return jax.lax.scan(add, (zero, zero), _pieces(chunk, x, labels, weights))[0]


def _forward(
    fixed: _Fixed,
    x: jax.Array,
    table: jax.Array,
    bias: jax.Array | None,
    labels: jax.Array,
    weights: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], Any]:
    """As `_chunked`, and the gradients of the loss by x, table and bias."""
    vocabulary, dtype, chunk = fixed
    cast = table.astype(dtype)

    def add(total: Any, piece: Any) -> tuple[Any, jax.Array]:
        part, labels, weights = piece
        loss, correct, error = _losses(vocabulary, cast, bias, part, labels, weights)
        error = error.astype(dtype)
        dx = _product("rtv,vd->rtd", error, cast).astype(x.dtype)
        # Summed over one axis: over two, XLA would copy the errors into another order first.
        flat, vectors = error.reshape(-1, len(cast)), part.astype(dtype).reshape(-1, part.shape[-1])
        dtable = _product("nv,nd->vd", flat, vectors)
        # A sum over rows of this width is fast as a matrix product only.
        dbias = bias if bias is None else _product("n,nv->v", jnp.ones_like(flat[:, 0]), flat)
        return jax.tree.map(jnp.add, total, (loss, correct, (dtable, dbias))), dx

    zero = jnp.zeros((), jnp.float32)
    nothing = jax.tree.map(jnp.zeros_like, (table, bias))
    pieces = _pieces(chunk, x, labels, weights)
    (loss, correct, by_head), dx = jax.lax.scan(add, (zero, zero, nothing), pieces)
    dx = jnp.moveaxis(dx, 0, 1).reshape(x.shape[0], -1, x.shape[2])[:, : x.shape[1]]
    return (loss, correct), (dx, *by_head)


def _backward(fixed: _Fixed, gradients: Any, cotangents: Any) -> tuple[Any, ...]:
    scaled = jax.tree.map(lambda gradient: gradient * cotangents[0], gradients)
    return (*scaled, None, None)


_chunked.defvjp(_forward, _backward)


def _losses(
    vocabulary: int,
    table: jax.Array,
    bias: jax.Array | None,
    x: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss and right answers of one chunk, and the loss's gradient by its logits [R,c,V']."""
    logits = _product("rtd,vd->rtv", x.astype(table.dtype), table)
    entry = jax.lax.broadcasted_iota(jnp.int32, (1, 1, len(table)), 2)
    if bias is not None:
        logits = logits + bias
    if vocabulary < len(table):
        logits = jnp.where(entry < vocabulary, logits, -1e9)
    largest = logits.max(-1, keepdims=True)
    powers = jnp.exp(logits - largest)
    total = powers.sum(-1, keepdims=True)
    is_label = entry == labels[..., None]
    chosen = jnp.where(is_label, logits, 0).sum(-1)
    loss = (jnp.log(total) + largest)[..., 0] - chosen
    correct = chosen >= largest[..., 0]
    error = (powers / total - is_label) * weights[..., None]
    return (loss * weights).sum(), (correct * weights).sum(), error


def _product(form: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(form, a, b, preferred_element_type=jnp.float32)


def _pieces(
    chunk: int, x: jax.Array, labels: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[R,T,...] -> [pieces,R,chunk,...], the last one filled up with weight 0."""
    missing = -x.shape[1] % chunk

    def cut(array: jax.Array) -> jax.Array:
        array = jnp.pad(array, ((0, 0), (0, missing)) + ((0, 0),) * (array.ndim - 2))
        return jnp.moveaxis(array.reshape(array.shape[0], -1, chunk, *array.shape[2:]), 1, 0)

    return cut(x), cut(labels), cut(weights)
