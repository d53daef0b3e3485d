"""What is put on top of an encoder: one small head a task family (BERT section 4)."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from gptbert.errors import UserError, nearest
from gptbert.models import dropout
from gptbert.models.dropout import Noise
from gptbert.models.encoder import Bert, Pooler
from gptbert.models.inputs import Packed
from gptbert.models.layers import Dense, Place, anywhere
from gptbert.models.presets import BertConfig, Compute

Pooling = Literal["cls", "mean"]
POOLINGS = ("cls", "mean")


def gather_slots(x: jax.Array, starts: jax.Array) -> jax.Array:
    """x [R,T,D], starts int32 [R,N] -> the vectors x[r, starts[r, n]], [R,N,D]."""
    return jnp.take_along_axis(x, starts[..., None], axis=1)


def mean_slots(x: jax.Array, segments: jax.Array, wanted: jax.Array) -> jax.Array:
    """x [R,T,D], segments [R,T], wanted int32 [R,N] -> mean vector of each segment, [R,N,D]."""
    member = (segments[:, None, :] == wanted[:, :, None]).astype(x.dtype)
    return jnp.einsum("rnt,rtd->rnd", member, x) / member.sum(-1, keepdims=True)


class SequenceClassifier(nnx.Module):
    """One score a class from the pooled vector of each example.

    Pooling `cls` is the published one: the pooler's tanh layer over the [CLS] vector. `mean`
    takes the mean of an example's last hidden states and has no pooler.
    """

    def __init__(
        self,
        config: BertConfig,
        compute: Compute,
        classes: int,
        rngs: nnx.Rngs,
        pooling: Pooling = "cls",
    ) -> None:
        if pooling not in POOLINGS:
            raise UserError(
                f"pooling {pooling!r} is unknown{nearest(pooling, POOLINGS)}; "
                "expected 'cls' (as published) or 'mean'"
            )
        self.bert = Bert(config, compute, rngs)
        self.pooler = Pooler(config, compute, rngs) if pooling == "cls" else None
        self.classifier = Dense(config.width, classes, config.initial_stddev, rngs)
        self.rate, self.compute = config.dropout, compute

    def __call__(
        self,
        packed: Packed,
        starts: jax.Array,
        noise: Noise | None = None,
        place: Place = anywhere,
    ) -> jax.Array:
        """Packed tokens [R,T], [CLS] positions [R,N] -> logits float32 [R,N,C]."""
        hidden = self.bert(packed, noise, place)
        segments = jnp.take_along_axis(packed.segments, starts, axis=1)
        if self.pooler is not None:
            pooled = self.pooler(gather_slots(hidden, starts))
        else:
            pooled = mean_slots(hidden, packed.segments, segments)
        if noise is not None:
            pooled = noise.vectors(pooled, segments, self.rate, dropout.CLASSIFIER)
        return self.classifier(pooled, self.compute.dtype).astype(jnp.float32)
