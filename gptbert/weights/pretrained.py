"""`gptbert.load`: a model, its parameters and its tokenizer, from one folder, ready to use."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from flax import nnx

from gptbert.errors import UserError
from gptbert.models import parameters as flat
from gptbert.models.encoder import Bert, Pooler
from gptbert.models.heads import GptClassifier
from gptbert.models.inputs import Packed
from gptbert.models.layers import Dense, gather_slots, truncated_normal
from gptbert.models.presets import BertConfig, Compute, GptConfig, ModelConfig
from gptbert.models.pretraining import NextTokenModel, WordHead
from gptbert.pipeline.batch import Batch
from gptbert.pipeline.encode import GPT_TOKENS, Features, encode_texts
from gptbert.pipeline.packing import Shape
from gptbert.pipeline.plan import ScoringPlan
from gptbert.tokenizers import Tokenizer, load_tokenizer
from gptbert.weights.folders import is_run_folder
from gptbert.weights.huggingface import read_huggingface

BATCH_TOKENS = 2048  # of one batch of `encode`; about what keeps two CPU cores busy
_SLOTS = 16
# To multiples of these vocabulary tables are padded, for the sake of hardware.
_PADDED_TO = (8, 16, 32, 64, 128)


class Model(nnx.Module):
    """An encoder with what its weights have on top, or None.

    Attributes: `bert`; `pooler`, `classifier`; `mlm` and `nsp`, the heads of pre-training.
    """

    def __init__(
        self, config: BertConfig, compute: Compute, heads: Mapping[str, int], rngs: nnx.Rngs
    ) -> None:
        """`heads`: name -> number of outputs, of those that are there."""

        def dense(head: str) -> Dense | None:
            return Dense(config.width, heads[head], draw, rngs) if head in heads else None

        draw = truncated_normal(config.initial_stddev)
        self.bert = Bert(config, compute, rngs)
        self.pooler = Pooler(config, compute, rngs) if "pooler" in heads else None
        self.classifier = dense("classifier")
        self.mlm = WordHead(config, compute, rngs) if "mlm" in heads else None
        self.nsp = dense("nsp")

    def __call__(self, packed: Packed, starts: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Tokens [R,T], [CLS] at [R,N] -> last hidden states [R,T,D], pooled vectors [R,N,D]."""
        hidden = self.bert(packed)
        if self.pooler is None:
            return hidden, None
        return hidden, self.pooler(gather_slots(hidden, starts))

    def word_scores(self, vectors: jax.Array) -> jax.Array:
        """Log-probabilities before normalisation of every word: [...,D] -> float32 [...,V].

        For hidden states of masked positions, of weights that have the head for them.
        """
        assert self.mlm is not None, "these weights have no head for masked words"
        table = self.bert.embeddings.word.table[...]
        return self.mlm(vectors) @ table.T + self.mlm.bias[...]


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder says of some texts, all arrays float32 on the host.

    Attributes:
      hidden: For each text its last hidden states [tokens, D], [CLS] and [SEP] included.
      pooled: Pooler outputs [texts, D]; None where the weights have no pooler.
      tokens: For each text its tokens as in the vocabulary, one for each row of `hidden`.
      truncated: bool [texts], which texts were cut to `max_length`.
    """

    hidden: list[np.ndarray]
    pooled: np.ndarray | None
    tokens: list[list[str]]
    truncated: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """Weights and tokenizer of one folder.

    Attributes:
      config: The shape: a BertConfig or a GptConfig.
      parameters: float32 arrays on the host, by path; see `gptbert.models.parameters`.
      tokenizer: As the folder's files say.
      labels: The classifier's class names in the order of its outputs, None without names.
      compute: How `encode` and `model` compute.
      source: The folder.
      ignored: Tensors of a Hugging Face folder that are not among the parameters, each with the
        reason in brackets.
      missing: Paths that fine-tuning a BERT asks for and a Hugging Face folder has not: of the
        pooler, of the classifier.
    """

    config: ModelConfig
    parameters: dict[str, np.ndarray]
    tokenizer: Tokenizer
    labels: tuple[str, ...] | None
    compute: Compute
    source: str
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def model(self) -> Any:
        """The parameters as a Flax module, made anew at each call.

        Of a BERT `Model`; of a GPT `NextTokenModel`, or `GptClassifier` where it has a classifier.
        """
        return flat.merge(self._graph, self._on_device)

    def encode(
        self,
        texts: str | Sequence[str] | Sequence[tuple[str, str]],
        max_length: int | None = None,
    ) -> Encoded:
        """Hidden states and pooled vectors of texts, computed in packed rows without dropout.

        Args:
          texts: One text, or a list of texts and pairs of texts.
          max_length: The most tokens of a text, special ones included; longer ones are cut as in
            fine-tuning and counted in `Encoded.truncated`. As many as the model has positions if
            None.

        Raises:
          UserError: `max_length` is more than the model's positions, or too little for any text;
            there are pairs and the model has one token type; the model is no BERT.
          TypeError: `texts` holds something else.
        """
        if not isinstance(self.config, BertConfig):
            raise UserError(
                f"{self.source} holds a GPT, which `encode` does not know; expected a BERT (use "
                "`.model` and `.tokenizer`)"
            )
        features = self._features(texts, max_length)
        hidden: list[np.ndarray] = [np.empty(0)] * len(features)
        has_pooler = "pooler/dense/kernel" in self.parameters
        pooled = np.zeros((len(features), self.config.width), np.float32) if has_pooler else None
        for examples, batch in ScoringPlan(features, _shape(features)).iterate():
            outputs = _forward(self._graph, self._on_device, batch.packed, batch.targets.starts)
            states, vectors = jax.device_get(outputs)
            for example, row, slot, place in _slots(examples, batch):
                length = int(features.lengths[example])
                start = place - (length - 1) * features.read_last
                stop = start + length
                hidden[example] = states[row, start:stop].copy()
                if pooled is not None:
                    pooled[example] = vectors[row, slot]
        return Encoded(hidden, pooled, self._tokens(features), features.truncated)

    def _features(
        self, texts: str | Sequence[str] | Sequence[tuple[str, str]], max_length: int | None
    ) -> Features:
        limit = self.config.positions if max_length is None else max_length
        if limit > self.config.positions:
            raise UserError(
                f"max_length is {limit}, but the model in {self.source} has "
                f"{self.config.positions} positions; expected at most as many"
            )
        pairs = [_as_tuple(text) for text in ([texts] if isinstance(texts, str) else texts)]
        check_pairs(self.config, max(map(len, pairs), default=0), self.source)
        nothing = np.zeros(len(pairs), np.int32)
        features = encode_texts(pairs, nothing, cast(Any, self.tokenizer), limit)
        left_to_right = cast(BertConfig, self.config).left_to_right  # its [CLS] sees only itself
        return dataclasses.replace(features, read_last=left_to_right)

    def _tokens(self, features: Features) -> list[list[str]]:
        entries = self.tokenizer.entries
        bounds = zip(features.starts[:-1], features.starts[1:], strict=True)
        return [[entries[t] for t in features.tokens[start:end].tolist()] for start, end in bounds]

    @functools.cached_property
    def _graph(self) -> nnx.GraphDef:
        heads = {
            path.split("/")[0]: len(value)
            for path, value in self.parameters.items()
            if path.endswith("bias") and not path.startswith(("bert/", "gpt/"))
        }
        return flat.describe(lambda r: _build(self.config, self.compute, heads, r))[0]

    @functools.cached_property
    def _on_device(self) -> dict[str, jax.Array]:
        return jax.device_put(self.parameters)


def _build(
    config: ModelConfig, compute: Compute, heads: Mapping[str, int], rngs: nnx.Rngs
) -> nnx.Module:
    if isinstance(config, BertConfig):
        return Model(config, compute, heads, rngs)
    if "classifier" in heads:
        return GptClassifier(config, compute, heads["classifier"], rngs)
    return NextTokenModel(config, compute, rngs)


def load(path: str | os.PathLike[str], *, dtype: str = "float32") -> Pretrained:
    """Loads a Hugging Face folder, or the --workdir of a run, of a BERT, GPT or GPT-2.

    Args:
      path: The folder.
      dtype: Of the matrix products, `float32` or `bfloat16`; parameters stay float32.

    Raises:
      UserError: What is there cannot be used, or is not there; see `huggingface.read_huggingface`.
    """
    compute = Compute(dtype=dtype)
    folder = Path(path)
    if is_run_folder(folder):
        return _load_run(folder, compute)
    weights = read_huggingface(folder)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(weights.config, tokenizer, str(folder))
    return Pretrained(
        weights.config,
        weights.parameters,
        tokenizer,
        weights.labels,
        compute,
        str(folder),
        tuple(weights.ignored),
        tuple(weights.missing),
    )


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer, source: str) -> None:
    """Refuses a vocabulary of another model: its ids would mean other words.

    Fine-tuning adds three rows to a GPT's table.
    """
    ids = tokenizer.vocabulary_size
    added = (0, GPT_TOKENS) if isinstance(config, GptConfig) else (0,)
    if not any(is_table_of(config.vocabulary - more, ids) for more in added):
        raise UserError(
            f"the tokenizer has {ids:,} entries, but the weights in {source} have a table of "
            f"{config.vocabulary:,} (vocab_size); expected the tokenizer that the weights were "
            "trained with"
        )


def is_table_of(rows: int, ids: int) -> bool:
    """Whether a word table of so many rows is that of a vocabulary of `ids` entries.

    They are as many, or the table is padded to the next multiple of 8, 16, 32, 64 or 128.
    """
    return rows == ids or rows in (-(-ids // multiple) * multiple for multiple in _PADDED_TO)


def check_pairs(config: ModelConfig, texts: int, source: str) -> None:
    """Refuses pairs of texts for a BERT that cannot tell a second text from the first."""
    if texts > 1 and isinstance(config, BertConfig) and config.token_types < 2:
        raise UserError(
            f"the model in {source} has one token type (type_vocab_size 1), which cannot tell the "
            "two texts of a pair apart; expected single texts, or a BERT with two"
        )


def _load_run(folder: Path, compute: Compute) -> Pretrained:
    from gptbert.weights.run_folder import read_run

    description, parameters, _ = read_run(folder)
    tokenizer = load_tokenizer(folder / "tokenizer")
    check_vocabulary(description.config, tokenizer, str(folder))
    labels = description.classes or None
    return Pretrained(description.config, parameters, tokenizer, labels, compute, str(folder))


def _as_tuple(text: object) -> tuple[str, ...]:
    texts = (text,) if isinstance(text, str) else text
    if (
        isinstance(texts, (tuple, list))
        and 1 <= len(texts) <= 2
        and all(isinstance(each, str) for each in texts)
    ):
        return tuple(texts)
    raise TypeError(f"a text to encode is {text!r:.80}; expected a string or a pair of strings")


def _shape(features: Features) -> Shape:
    """Powers of two, so that many calls share a few compiled programs."""
    longest = int(features.lengths.max()) if len(features) else 1
    positions = max(32, _power_of_two(longest))
    rows = _power_of_two(-(-int(features.lengths.sum()) // positions))
    return Shape(min(rows, max(1, BATCH_TOKENS // positions)), positions, _SLOTS)


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


@functools.partial(jax.jit, static_argnums=0)
def _forward(
    graph: nnx.GraphDef, parameters: flat.Parameters, packed: Packed, starts: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    return flat.merge(graph, parameters)(packed, starts)


def _slots(examples: np.ndarray, batch: Batch) -> list[tuple[int, int, int, int]]:
    """Where each example lies: (example, row, slot, the position that the pooler reads)."""
    found = []
    for row, slot in zip(*np.nonzero(batch.targets.weights), strict=True):
        start = int(batch.targets.starts[row, slot])
        number = int(batch.packed.segments[row, start]) - 1
        found.append((int(examples[number]), int(row), int(slot), start))
    return found
