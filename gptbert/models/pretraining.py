"""Models with the heads of pre-training: masked words and next sentences (BERT), next tokens (GPT).

BERT section 3.1:  log p(token | x_masked) = log softmax(LN(gelu(W x)) E^T + b);  softmax(W' pooled)
GPT section 3.1:   log p(next token | x)   = log softmax(x E^T)

E is the word table itself. The projection on it and the loss are one thing, `losses`, so that the
logits of all positions never exist together.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from gptbert.models.decoder import Gpt
from gptbert.models.dropout import Noise
from gptbert.models.encoder import Bert, Pooler
from gptbert.models.inputs import Packed
from gptbert.models.layers import Dense, LayerNorm, Place, anywhere, gelu, truncated_normal
from gptbert.models.losses import linear_cross_entropy
from gptbert.models.presets import BertConfig, Compute, GptConfig, ModelConfig

Sums = tuple[jax.Array, jax.Array]  # of losses and of right answers, float32 scalars


class WordHead(nnx.Module):
    """What a vector passes before it is compared with the word table, and the words' biases."""

    def __init__(self, config: BertConfig, compute: Compute, rngs: nnx.Rngs) -> None:
        draw = truncated_normal(config.initial_stddev)
        self.dense = Dense(config.width, config.width, draw, rngs)
        self.norm = LayerNorm(config.width, config.norm_epsilon)
        self.bias = nnx.Param(jnp.zeros((config.vocabulary,), jnp.float32))
        self.activation, self.compute = config.activation, compute

    def __call__(self, x: jax.Array) -> jax.Array:
        """[...,D] -> float32 [...,D]."""
        return self.norm(gelu(self.dense(x, self.compute.dtype), self.activation))


class MaskedLanguageModel(nnx.Module):
    """BERT with the head for masked words and, with `next_sentence`, pooler and sentence head."""

    def __init__(
        self, config: BertConfig, compute: Compute, rngs: nnx.Rngs, next_sentence: bool = True
    ) -> None:
        self.bert = Bert(config, compute, rngs)
        self.mlm = WordHead(config, compute, rngs)
        self.pooler = Pooler(config, compute, rngs) if next_sentence else None
        draw = truncated_normal(config.initial_stddev)
        self.nsp = Dense(config.width, 2, draw, rngs) if next_sentence else None
        self.config, self.compute = config, compute

    def __call__(
        self,
        packed: Packed,
        positions: jax.Array,
        starts: jax.Array,
        noise: Noise | None = None,
        place: Place = anywhere,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Vectors to compare with the word table, and scores of the two kinds of second text.

        Args:
          packed: Tokens [R,T], some of them masked.
          positions: int32 [R,M], where the masked ones lie.
          starts: int32 [R,N], where the examples' [CLS] lie.

        Returns:
          float32 [R,M,D] for `losses` or `logits`; float32 [R,N,2] (0: follows, 1: random), or None
          without `next_sentence`.
        """
        if self.pooler is None or self.nsp is None:
            return self.mlm(self.bert(packed, noise, place, read=positions)), None
        read = jnp.concatenate([positions, starts], axis=1)
        masked, first = jnp.split(
            self.bert(packed, noise, place, read=read), [positions.shape[1]], axis=1
        )
        vectors, pooled = self.mlm(masked), self.pooler(first)
        return vectors, self.nsp(pooled, self.compute.dtype).astype(jnp.float32)

    def losses(
        self,
        vectors: jax.Array,
        labels: jax.Array,
        weights: jax.Array,
        place: Place = anywhere,
        chunk: int | None = None,
    ) -> Sums:
        """Summed loss and right answers of masked words: vectors [R,M,D], labels, weights [R,M]."""
        table = place(self.bert.embeddings.word.table[...], "vocabulary")
        return linear_cross_entropy(
            vectors, table, self.mlm.bias[...], labels, weights,
            vocabulary=self.config.vocabulary, dtype=self.compute.dtype, chunk=chunk,
        )  # fmt: skip

    def logits(self, vectors: jax.Array) -> jax.Array:
        """Vectors [R,M,D] -> float32 [R,M,V], all at once."""
        table = self.bert.embeddings.word.table[...]
        return _logits(vectors, table, self.mlm.bias[...], self.config, self.compute)


class NextTokenModel(nnx.Module):
    """GPT or GPT-2, or a BERT that reads from left to right, predicting each next token."""

    def __init__(self, config: ModelConfig, compute: Compute, rngs: nnx.Rngs) -> None:
        self.gpt: Gpt | None
        self.bert: Bert | None
        self.mlm: WordHead | None
        if isinstance(config, GptConfig):
            self.gpt, self.bert, self.mlm = Gpt(config, compute, rngs), None, None
        elif config.left_to_right:
            self.gpt, self.bert = None, Bert(config, compute, rngs)
            self.mlm = WordHead(config, compute, rngs)
        else:
            raise ValueError("a BERT that sees what follows cannot predict it; left_to_right=True")
        self.config, self.compute = config, compute

    def __call__(
        self, packed: Packed, noise: Noise | None = None, place: Place = anywhere
    ) -> jax.Array:
        """Tokens [R,T] -> vectors float32 [R,T,D] to compare with the word table."""
        if self.gpt is not None:
            return self.gpt(packed, noise, place)
        assert self.bert is not None and self.mlm is not None
        return self.mlm(self.bert(packed, noise, place))

    def losses(
        self,
        vectors: jax.Array,
        labels: jax.Array,
        weights: jax.Array,
        noise: Noise | None = None,
        place: Place = anywhere,
        chunk: int | None = None,
    ) -> Sums:
        """Summed loss and right answers: vectors [R,T,D], next tokens and weights [R,T].

        `noise` is the one that the vectors were computed with: GPT's table is dropped alike.
        """
        return linear_cross_entropy(
            vectors, self._table(noise, place), self._bias(), labels, weights,
            vocabulary=self.config.vocabulary, dtype=self.compute.dtype, chunk=chunk,
        )  # fmt: skip

    def logits(self, vectors: jax.Array) -> jax.Array:
        """Vectors [R,T,D] -> float32 [R,T,V], all at once."""
        return _logits(vectors, self._table(), self._bias(), self.config, self.compute)

    def _table(self, noise: Noise | None = None, place: Place = anywhere) -> jax.Array:
        if self.gpt is not None:
            return self.gpt.embeddings.word_table(noise, place)
        assert self.bert is not None
        return place(self.bert.embeddings.word.table[...], "vocabulary")

    def _bias(self) -> jax.Array | None:
        return None if self.mlm is None else self.mlm.bias[...]


def _logits(
    vectors: jax.Array,
    table: jax.Array,
    bias: jax.Array | None,
    config: ModelConfig,
    compute: Compute,
) -> jax.Array:
    entries = table[: config.vocabulary].astype(compute.dtype)
    logits = (vectors.astype(compute.dtype) @ entries.T).astype(jnp.float32)
    return logits if bias is None else logits + bias[: config.vocabulary]
