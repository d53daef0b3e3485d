"""What fine-tuning does differently for a BERT and for a GPT: how texts become tokens."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gptbert.models.presets import GptConfig, ModelConfig
from gptbert.pipeline.encode import (
    GPT_TOKENS,
    Features,
    GptTokens,
    encode_texts,
    encode_texts_for_gpt,
)
from gptbert.tokenizers import Tokenizer
from gptbert.weights.sources import Weights

WORD_TABLE = "gpt/embeddings/word/table"


def with_gpt_tokens(config: ModelConfig) -> ModelConfig:
    """The shape of a GPT that has none of the three tokens yet, with rows for them; a BERT's."""
    if not isinstance(config, GptConfig):
        return config
    return dataclasses.replace(config, vocabulary=config.vocabulary + GPT_TOKENS)


def without_gpt_tokens(weights: Weights) -> Weights:
    """A fine-tuned GPT without the rows of its three tokens; anything else as it is."""
    if not weights.has_gpt_tokens:
        return weights
    assert isinstance(weights.config, GptConfig)
    rows = weights.config.vocabulary - GPT_TOKENS
    return dataclasses.replace(
        weights,
        config=dataclasses.replace(weights.config, vocabulary=rows),
        parameters=weights.parameters | {WORD_TABLE: weights.parameters[WORD_TABLE][:rows]},
        has_gpt_tokens=False,
        notes=(*weights.notes, "left out: the three tokens that fine-tuning has added"),
    )


def gpt_tokens(config: GptConfig) -> GptTokens:
    """The ids of the three tokens: the last rows of the table."""
    return GptTokens(config.vocabulary - 3, config.vocabulary - 2, config.vocabulary - 1)


def add_gpt_tokens(table: np.ndarray, config: GptConfig, seed: int) -> np.ndarray | jax.Array:
    """A word table [V,D] with new rows up to the config's vocabulary, N(0, 0.02) as published."""
    missing = config.vocabulary - len(table)
    if not missing:
        return table
    key = jax.random.fold_in(jax.random.key(seed), config.vocabulary)
    rows = config.initial_stddev * jax.random.normal(key, (missing, config.width), jnp.float32)
    return jnp.concatenate([table, rows])  # abstract in a dry run


def encode_for(
    config: ModelConfig,
    texts: Sequence[tuple[str, ...]],
    labels: np.ndarray,
    tokenizer: Tokenizer,
    max_length: int,
    *,
    unordered: bool,
) -> Features:
    """The input transform of the backbone; `unordered` says that a pair has no first text."""
    if isinstance(config, GptConfig):
        return encode_texts_for_gpt(
            texts, labels, tokenizer, max_length, gpt_tokens(config), unordered=unordered
        )
    features = encode_texts(texts, labels, tokenizer, max_length)
    if config.left_to_right:
        # [CLS] sees nothing but itself there; the last [SEP] sees everything.
        return dataclasses.replace(features, read_last=True)
    return features


def decode_for(config: ModelConfig, ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Encoded ids as text; GPT's three tokens, which no tokenizer knows, by their names."""
    if not isinstance(config, GptConfig):
        return tokenizer.decode(ids)
    names = {i: f"<{name}>" for name, i in dataclasses.asdict(gpt_tokens(config)).items()}
    runs = itertools.groupby(ids, names.get)
    return " ".join(name or tokenizer.decode(list(run)) for name, run in runs)
