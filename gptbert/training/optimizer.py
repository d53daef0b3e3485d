"""BERT's optimizer as released, its bias-corrected relative, and the learning-rate schedule.

Source: google-research/bert `optimization.py`. What differs from textbook AdamW: no bias
correction anywhere (with constant gradients the first update is 3.16 times the corrected one),
epsilon 1e-6 added outside of the root, decay inside the learning rate, and a schedule that is 0 at
the first step and jumps down when warm-up ends.

Parameters are flat dictionaries (path -> array). The learning rate is an argument of `update`, not
state, so that one compiled step serves every rate of a sweep.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptbert.errors import UserError, nearest

OPTIMIZERS = ("bert_adam", "adamw")
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


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """g * min(1, limit / |g|) with the norm over all parameters, as TensorFlow's.

    Optax's own divides every gradient; a product with one scalar fuses into the passes after it.
    """

    def update(gradients: Any, state: Any, parameters: Any = None) -> Any:
        del parameters
        scale = jnp.minimum(1.0, limit / jnp.maximum(optax.tree.norm(gradients), 1e-30))
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
    name: str, *, weight_decay: float = 0.01, clip: float = 1.0, epsilon: float = 1e-6
) -> optax.GradientTransformationExtraArgs:
    """`bert_adam` as released, or `adamw` with bias correction; both clip by the global norm."""
    if name not in OPTIMIZERS:
        raise UserError(
            f"optimizer {name!r} is unknown{nearest(name, OPTIMIZERS)}; "
            "expected 'bert_adam' (as released) or 'adamw' (bias-corrected)"
        )
    adam = scale_by_bert_adam if name == "bert_adam" else optax.scale_by_adam
    return optax.chain(
        clip_by_global_norm(clip) if clip else optax.identity(),
        adam(0.9, 0.999, epsilon),
        optax.add_decayed_weights(
            weight_decay, mask=lambda p: {path: is_decayed(path) for path in p}
        ),
        scale_by_given_rate(),
    )


def bert_schedule(peak: float, warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """The released schedule: rate of each step, counted from 0.

    peak * step / warmup before `warmup_steps`, then peak * (1 - step / total): the first update
    has rate 0, the rate drops from just under `peak` to peak * (1 - warmup / total) at the end of
    warm-up, and the last update still has peak / total.
    """

    def rate(step: int) -> float:
        if step < warmup_steps:
            return peak * step / warmup_steps
        return peak * (1.0 - step / total_steps)

    return rate
