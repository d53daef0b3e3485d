"""Shapes of the published models, and how they are computed.

Sources: BERT (arXiv 1810.04805) section 3 for Base and Large; google-research/bert's README for
the miniatures; microsoft/unilm's README for MiniLM.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from gptbert.errors import UserError, nearest

Activation = Literal["gelu", "gelu_tanh"]
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

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "inner", "vocabulary", "positions"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"model shape: {name} is {getattr(self, name)}, expected at least 1"
                )
        if self.width % self.heads:
            raise UserError(
                f"model shape: {self.heads} heads do not divide the width {self.width}; "
                "expected width = heads x head width"
            )
        if self.activation not in ("gelu", "gelu_tanh"):
            raise UserError(
                f"model shape: activation {self.activation!r} is unknown, "
                "expected 'gelu' (exact erf) or 'gelu_tanh'"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(
                    f"model shape: {name} is {getattr(self, name)}, expected 0 <= x < 1"
                )

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclasses.dataclass(frozen=True)
class Compute:
    """How the equations are computed; changes speed and memory, never what is computed.

    Attributes:
      dtype: Of the matrix products: `float32` or `bfloat16`. Parameters, softmax, LayerNorm and
        losses stay float32.
      scan_layers: One compiled layer looped over stacked parameters (compiles in seconds for any
        depth) instead of unrolled ones (faster steps on CPU).
      remat: Recompute each layer in the backward pass: memory of one layer instead of L.
    """

    dtype: str = "float32"
    scan_layers: bool = False
    remat: bool = False

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


PRESETS: dict[str, BertConfig] = {
    "bert-tiny": _bert(2, 128),
    "bert-mini": _bert(4, 256),
    "bert-small": _bert(4, 512),
    "bert-medium": _bert(8, 512),
    "bert-base": _bert(12, 768),
    "bert-large": _bert(24, 1024),
    "minilm-l6-h384": _bert(6, 384, head_width=32),
    "minilm-l12-h384": _bert(12, 384, head_width=32),
}


def preset(name: str) -> BertConfig:
    """Returns the shape called `name`; raises UserError with the nearest known name."""
    if name not in PRESETS:
        raise UserError(
            f"model {name!r} is unknown{nearest(name, PRESETS)}; "
            f"expected one of {', '.join(PRESETS)}"
        )
    return PRESETS[name]
