"""Shapes of the published models, and how they are computed.

Sources: BERT (arXiv 1810.04805) section 3 for Base and Large; google-research/bert's README for
the miniatures; microsoft/unilm's README for MiniLM; GPT (Radford et al. 2018) section 4.1; GPT-2
(Radford et al. 2019) table 2, with the sizes as its README corrects them.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from gptbert.errors import UserError, nearest

Activation = Literal["gelu", "gelu_tanh"]
NormPlace = Literal["post", "pre"]
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The shape of one BERT, named by the glossary of `gptbert.models`.

    Attributes:
      layers, width, heads, inner: L, D, H, F.
      vocabulary: V; 30,522 (uncased English) or 28,996 (cased).
      positions: P, the longest input.
      token_types: Kinds of segment embeddings (sentence A and B).
      activation: `gelu` is the exact erf form of the released weights, `gelu_tanh` the
        approximation that the released code has used since February 2019.
      dropout: On embeddings, both sub-layer outputs and the classifier's input.
      attention_dropout: On the attention probabilities.
      norm_epsilon: Of every LayerNorm.
      initial_stddev: Of the truncated normal that kernels and tables start from.
      left_to_right: Each token sees only what stands before it (the ablation of section 5.1).
    """

    layers: int = 12
    width: int = 768
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 30_522
    positions: int = 512
    token_types: int = 2
    activation: Activation = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-12
    initial_stddev: float = 0.02
    left_to_right: bool = False

    def __post_init__(self) -> None:
        _check(self, ("dropout", "attention_dropout"))
        if self.token_types < 1:
            raise UserError(f"model shape: token_types is {self.token_types}, expected at least 1")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclasses.dataclass(frozen=True)
class GptConfig:
    """The shape of one GPT or GPT-2, named by the glossary of `gptbert.models`.

    Attributes:
      layers, width, heads, inner: L, D, H, F.
      vocabulary: V; 40,478 (GPT) or 50,257 (GPT-2).
      positions: P, the longest input.
      activation: The tanh form in both.
      dropout: On both sub-layer outputs and the classifier's input.
      attention_dropout: On the attention probabilities.
      embedding_dropout: Of GPT (`post`) on the entries of the embedding tables themselves, before
        the look-up; the tied output projection uses the same dropped table, as in the released
        code. Of GPT-2 (`pre`), whose code has none, on those of the sum, as in `transformers`.
      norm_place: LayerNorm after the residual sum (`post`, GPT) or at the input of each sub-layer
        and once more at the end (`pre`, GPT-2).
      norm_epsilon: Of every LayerNorm.
      initial_stddev: Of the normal that kernels and the word table start from.
      position_stddev: Of the normal that the position table starts from.
      residual_scaling: Whether the kernels that write to the residual stream (attention output,
        MLP down) start with `initial_stddev` / sqrt(2 L). The GPT-2 paper divides by sqrt(N), N
        the number of residual layers; each of the L layers has two, hence 2 L.
    """

    layers: int = 12
    width: int = 768
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 40_478
    positions: int = 512
    activation: Activation = "gelu_tanh"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    embedding_dropout: float = 0.1
    norm_place: NormPlace = "post"
    norm_epsilon: float = 1e-5
    initial_stddev: float = 0.02
    position_stddev: float = 0.02
    residual_scaling: bool = False

    def __post_init__(self) -> None:
        _check(self, ("dropout", "attention_dropout", "embedding_dropout"))
        if self.norm_place not in ("post", "pre"):
            raise UserError(
                f"model shape: norm_place {self.norm_place!r} is unknown, expected 'post' (GPT) or "
                "'pre' (GPT-2)"
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads


ModelConfig = BertConfig | GptConfig


def _check(config: ModelConfig, rates: tuple[str, ...]) -> None:
    for name in ("layers", "width", "heads", "inner", "vocabulary", "positions"):
        if getattr(config, name) < 1:
            raise UserError(f"model shape: {name} is {getattr(config, name)}, expected at least 1")
    if config.width % config.heads:
        raise UserError(
            f"model shape: {config.heads} heads do not divide the width {config.width}; "
            "expected width = heads x head width"
        )
    if config.activation not in ("gelu", "gelu_tanh"):
        raise UserError(
            f"model shape: activation {config.activation!r} is unknown, "
            "expected 'gelu' (exact erf) or 'gelu_tanh'"
        )
    for name in rates:
        if not 0.0 <= getattr(config, name) < 1.0:
            raise UserError(f"model shape: {name} is {getattr(config, name)}, expected 0 <= x < 1")


def matrix_parameters(config: ModelConfig) -> int:
    """Parameters that every token is multiplied by: those of the layers' kernels."""
    return config.layers * (4 * config.width**2 + 2 * config.width * config.inner)


def query_parameters(config: ModelConfig) -> int:
    """Those of one layer that only a token whose vector is read is multiplied by (all but k, v)."""
    return 2 * config.width**2 + 2 * config.width * config.inner


@dataclasses.dataclass(frozen=True)
class Compute:
    """How the equations are computed; changes speed and memory, never what is computed.

    Attributes:
      dtype: Of what is multiplied: `float32` or `bfloat16`. Parameters, softmax, LayerNorm and
        losses stay float32.
      scan_layers: One compiled layer looped over stacked parameters (compiles in seconds for any
        depth) instead of unrolled ones (faster steps on CPU).
      remat: Recompute each layer in the backward pass: memory of one layer instead of L.
      join_heads: Products of attention have one axis for all heads, and no kernel is copied into
        another order for them. Not where heads are split over devices: those would have to gather
        what they joined.
    """

    dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False
    join_heads: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(
                f"compute_dtype {self.dtype!r} is not supported{nearest(self.dtype, DTYPES)}; "
                f"expected one of {', '.join(DTYPES)}"
            )


def _bert(layers: int, width: int, head_width: int = 64, vocabulary: int = 30_522) -> BertConfig:
    return BertConfig(
        layers=layers,
        width=width,
        heads=width // head_width,
        inner=4 * width,
        vocabulary=vocabulary,
    )


def _gpt(layers: int, width: int) -> GptConfig:
    return GptConfig(layers=layers, width=width, heads=width // 64, inner=4 * width)


def _gpt2(layers: int, width: int) -> GptConfig:
    """Dropout is not published; 0 is what reproductions pre-train with."""
    return GptConfig(
        layers=layers,
        width=width,
        heads=width // 64,
        inner=4 * width,
        vocabulary=50_257,
        positions=1024,
        dropout=0.0,
        attention_dropout=0.0,
        embedding_dropout=0.0,
        norm_place="pre",
        position_stddev=0.01,
        residual_scaling=True,
    )


PRESETS: dict[str, ModelConfig] = {
    "bert-tiny": _bert(2, 128),
    "bert-mini": _bert(4, 256),
    "bert-small": _bert(4, 512),
    "bert-medium": _bert(8, 512),
    "bert-base": _bert(12, 768),
    "bert-large": _bert(24, 1024),
    "minilm-l6-h384": _bert(6, 384, head_width=32),
    "minilm-l12-h384": _bert(12, 384, head_width=32),
    "gpt-tiny": _gpt(2, 128),
    "gpt-mini": _gpt(4, 256),
    "gpt": _gpt(12, 768),
    "gpt2-tiny": _gpt2(2, 128),
    "gpt2-mini": _gpt2(4, 256),
    "gpt2-124m": _gpt2(12, 768),
    "gpt2-355m": _gpt2(24, 1024),
    "gpt2-774m": _gpt2(36, 1280),
    "gpt2-1558m": _gpt2(48, 1600),
}


def preset(name: str) -> ModelConfig:
    """Returns the shape called `name`; raises UserError with the nearest known name."""
    if name not in PRESETS:
        raise UserError(
            f"model {name!r} is unknown{nearest(name, PRESETS)}; "
            f"expected one of {', '.join(PRESETS)}"
        )
    return PRESETS[name]
