"""What is put on top of a backbone: one small head a task family (BERT section 4, GPT 3.2)."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from gptbert.errors import UserError, nearest
from gptbert.models import dropout
from gptbert.models.decoder import Gpt
from gptbert.models.dropout import Noise
from gptbert.models.encoder import Bert, Pooler
from gptbert.models.inputs import Packed
from gptbert.models.layers import Dense, Place, anywhere, gather_slots, normal, truncated_normal
from gptbert.models.presets import BertConfig, Compute, GptConfig, ModelConfig

Pooling = Literal["cls", "mean"]
POOLINGS = ("cls", "mean")


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
        draw = truncated_normal(config.initial_stddev)
        self.classifier = Dense(config.width, classes, draw, rngs)
        self.rate, self.compute = config.dropout, compute

    def __call__(
        self,
        packed: Packed,
        starts: jax.Array,
        noise: Noise | None = None,
        place: Place = anywhere,
    ) -> jax.Array:
        """Packed tokens [R,T], [CLS] positions [R,N] -> logits float32 [R,N,C]."""
        segments = gather_slots(packed.segments, starts)
        if self.pooler is not None:
            pooled = self.pooler(self.bert(packed, noise, place, read=starts))
        else:
            pooled = mean_slots(self.bert(packed, noise, place), packed.segments, segments)
        if noise is not None:
            pooled = noise.vectors(pooled, segments, self.rate, dropout.CLASSIFIER)
        return self.classifier(pooled, self.compute.dtype).astype(jnp.float32)


class GptClassifier(nnx.Module):
    """One score a class from the vector of each example's last token (GPT section 3.2).

    Where an example is several sequences (the two orders of a similarity pair), their vectors are
    added up before the linear layer.
    """

    def __init__(self, config: GptConfig, compute: Compute, classes: int, rngs: nnx.Rngs) -> None:
        self.gpt = Gpt(config, compute, rngs)
        self.classifier = Dense(config.width, classes, normal(config.initial_stddev), rngs)
        self.rate, self.compute = config.dropout, compute

    def __call__(
        self,
        packed: Packed,
        starts: jax.Array,
        noise: Noise | None = None,
        place: Place = anywhere,
    ) -> jax.Array:
        """Packed tokens [R,T], where to read [R,N] or [R,N,K] -> logits float32 [R,N,C].

        The K sequences of an example are segments of one row.
        """
        each = starts if starts.ndim == 3 else starts[..., None]
        rows, slots, sequences = each.shape
        x = self.gpt(packed, noise, place, read=each.reshape(rows, slots * sequences))
        x = x.reshape(rows, slots, sequences, -1).sum(2)
        if noise is not None:
            segments = gather_slots(packed.segments, each[..., 0])
            x = noise.vectors(x, segments, self.rate, dropout.CLASSIFIER)
        return self.classifier(x, self.compute.dtype).astype(jnp.float32)


def make_classifier(
    config: ModelConfig,
    compute: Compute,
    classes: int,
    rngs: nnx.Rngs,
    pooling: Pooling = "cls",
) -> SequenceClassifier | GptClassifier:
    """The classifier of a shape; raises UserError where the backbone has no such pooling."""
    if isinstance(config, BertConfig):
        return SequenceClassifier(config, compute, classes, rngs, pooling)
    if pooling != "cls":
        raise UserError(
            f"pooling {pooling!r} is one of BERT's; a GPT is read at its extract token "
            "(pooling 'cls')"
        )
    return GptClassifier(config, compute, classes, rngs)
