"""The optimizers of BERT and GPT as released, and the textbook's AdamW that GPT-2's readers use.

| name | update | source |
| --- | --- | --- |
| `bert_adam` | rate (m / (sqrt(v) + 1e-6) + decay p), nothing corrected | `optimization.py` |
| `gpt_adam` | the same with 1e-8; the rate carries the correction | `opt.py` |
| `adamw` | rate (m' / (sqrt(v') + epsilon) + decay p), m' and v' corrected | Loshchilov, Hutter |

With constant gradients the first update of `bert_adam` is 3.16 times the corrected one. The factor
of `gpt_adam` is in `schedules.with_bias_correction`. Decay leaves out biases and LayerNorms: in
every model here these are the tensors of rank 1.

Parameters are flat dictionaries (path -> array). The learning rate is an argument of `update`, not
state, so that one compiled step serves every rate of a sweep.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptbert.errors import UserError, nearest

OPTIMIZERS = {"bert_adam": 1e-6, "gpt_adam": 1e-8, "adamw": 1e-6}  # with their epsilons
_UNDECAYED = re.compile(r"norm/(scale|bias)$|bias$")


class BertAdamState(NamedTuple):
    """First and second moments, float32, one for each trained parameter."""

    first: Any
    second: Any


def scale_by_bert_adam(
    b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-6
) -> optax.GradientTransformation:
    """m / (sqrt(v) + epsilon) with m and v never corrected for their start at zero."""

    def init(parameters: Any) -> BertAdamState:
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return BertAdamState(zeros, jax.tree.map(jnp.zeros_like, parameters))

    def update(gradients: Any, state: BertAdamState, parameters: Any = None) -> Any:
        del parameters
        first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.first, gradients)
        second = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.second, gradients)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), first, second)
        return updates, BertAdamState(first, second)

    return optax.GradientTransformation(init, update)


def global_norm(tree: Any) -> jax.Array:
    """The root of the sum of all squares, float32: every array multiplied with itself.

    A product, where Optax's own norm has XLA on a CPU write all squares down before it adds them.
    """

    def square(x: jax.Array) -> jax.Array:
        every = tuple(range(x.ndim))  # no axis is flattened: each may be on several devices
        numbers = (every, every), ((), ())
        return jax.lax.dot_general(x, x, numbers, jax.lax.Precision.HIGHEST)

    return jnp.sqrt(sum(map(square, jax.tree.leaves(tree)), jnp.float32(0)))


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """g * min(1, limit / |g|) with the norm over all parameters, as TensorFlow's.

    Optax's own divides every gradient; a product with one scalar fuses into the passes after it.
    """

    def update(gradients: Any, state: Any, parameters: Any = None) -> Any:
        del parameters
        scale = jnp.minimum(1.0, limit / jnp.maximum(global_norm(gradients), 1e-30))
        return jax.tree.map(lambda g: g * scale, gradients), state

    return optax.GradientTransformation(lambda parameters: optax.EmptyState(), update)


def scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by minus the `learning_rate` that is passed to `update`."""

    def update(updates: Any, state: Any, parameters: Any = None, **extra: Any) -> Any:
        del parameters
        return jax.tree.map(lambda u: -extra["learning_rate"] * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda parameters: optax.EmptyState(), update)


def is_decayed(path: str) -> bool:
    """Weight decay leaves out LayerNorms and biases, and nothing else: embeddings decay."""
    return not _UNDECAYED.search(path)


def make_optimizer(
    name: str,
    *,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    b2: float = 0.999,
    epsilon: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer called `name` after clipping by the global norm; `epsilon` None is its own."""
    if name not in OPTIMIZERS:
        raise UserError(
            f"optimizer {name!r} is unknown{nearest(name, OPTIMIZERS)}; "
            "expected 'bert_adam' or 'gpt_adam' (as released) or 'adamw' (bias-corrected)"
        )
    adam = optax.scale_by_adam if name == "adamw" else scale_by_bert_adam
    epsilon = OPTIMIZERS[name] if epsilon is None else epsilon
    return optax.chain(
        clip_by_global_norm(clip) if clip else optax.identity(),
        adam(0.9, b2, epsilon),
        optax.add_decayed_weights(
            weight_decay, mask=lambda p: {path: is_decayed(path) for path in p}
        ),
        scale_by_given_rate(),
    )
