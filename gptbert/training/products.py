"""Which library multiplies matrices in training on a CPU, and in which precision it does so.

XLA multiplies by its own library (YNNPACK), in float32 always: oneDNN, a part of XLA too, was
tried beside it, and which is faster changed with the task and the state of the machine (the blocks
of `gptbert without oneDNN` in `experiments/speed/results/finetune_steps.jsonl`), while programs
without it can be cached. But oneDNN alone knows the processors' units for bfloat16: told so, it
rounds the factors of float32 arrays to bfloat16 and adds up in float32, while XLA's own products
gain nothing from arrays of bfloat16. So on such a CPU `compute_dtype=bfloat16` keeps arrays in
float32 and lets oneDNN round while the model is trained; it is scored in float32. Figures are in
`experiments/speed/results/`.

What it costs: a program with oneDNN in it cannot be kept in the compilation cache.

What it risks: XLA can hand oneDNN products together with what stands around them, and there it is
not to be trusted: some combinations abort the process, and a product of the vocabulary's loss gave
wrong gradients. So oneDNN gets single products and nothing else; a program in which it has more is
compiled again without it, and so is everything under a version of XLA that was not tried.

oneDNN reads its precision from the environment, once a process; what the user has set there holds.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib

from gptbert.processor import processor

_TRIED = ("0.10.", "0.12.")  # versions of jaxlib
_OPTIONS = {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    # YNNPACK would add up rows and columns; XLA does so itself beside oneDNN's products.
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}
_PRECISION = "ONEDNN_DEFAULT_FPMATH_MODE"
_ROUNDED = "BF16"


@dataclasses.dataclass(frozen=True)
class Products:
    """How the products of a run are computed.

    Attributes:
      library: `XLA` or `oneDNN`.
      precision: What factors are rounded to, `float32` or `bfloat16`; sums are float32.
      arrays: The type of the arrays that are multiplied, for `models.presets.Compute`.
    """

    library: str
    precision: str
    arrays: str

    def compile(self, lowered: Any) -> Any:
        """Compiles what `jax.jit(...).lower` gave."""
        if self.library == "oneDNN":
            compiled = lowered.compile(compiler_options=_OPTIONS)
            if is_safe(compiled.as_text()):
                return compiled
            warnings.warn(
                "this program is not safe with oneDNN; it is compiled without", stacklevel=2
            )
        return lowered.compile()

    def of(self, compiled: Any) -> Products:
        """How a program that `compile` gave multiplies: these products, or without oneDNN."""
        if self.library == "oneDNN" and "onednn_fusion" not in compiled.as_text():
            return Products("XLA", self.arrays, self.arrays)
        return self

    def __str__(self) -> str:
        return f"{self.library}, {self.precision}"


PLAIN = Products("XLA", "float32", "float32")


def choose_products(dtype: str) -> Products:
    """How a run multiplies on the devices at hand.

    Args:
      dtype: What the config asks for, `float32` or `bfloat16`.
    """
    plain = Products("XLA", dtype, dtype)
    if dtype != "bfloat16" or _is_decided() or not _rounds_fast() or not _is_known():
        return plain
    os.environ[_PRECISION] = _ROUNDED  # read at the first product
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    return Products("oneDNN", "bfloat16", "float32")


def is_safe(program: str) -> bool:
    """Whether all that a compiled program (as text) hands to oneDNN are single products."""
    called = set(re.findall(r"onednn_fusion[\w.]* = [^\n]* calls=%?([\w.\-]+)", program))
    for computation in re.split(r"\n(?=%|ENTRY)", program):
        name = re.match(r"%([\w.\-]+) ", computation)
        if name and name[1] in called:
            operations = re.findall(r"= \S+ ([\w\-]+)\(", computation)
            if [each for each in operations if each != "parameter"] != ["dot"]:
                return False
    return True


def _is_decided() -> bool:
    """Whether the user has set something that oneDNN's rounding would override."""
    return (
        os.environ.get("GPTBERT_ONEDNN") == "0"
        or "onednn" in os.environ.get("XLA_FLAGS", "")
        or os.environ.get(_PRECISION, _ROUNDED).upper() != _ROUNDED
    )


def _rounds_fast() -> bool:
    """Whether this processor has units for products of bfloat16."""
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return False
    return bool({"amx_bf16", "avx512_bf16"} & processor().features)


@functools.cache
def _is_known() -> bool:
    """Whether this version of XLA was tried and has the options."""
    if not jaxlib.__version__.startswith(_TRIED):
        return False
    try:
        jax.jit(jnp.negative, compiler_options=_OPTIONS).lower(1.0).compile()
    except Exception:  # whatever type the version at hand raises for an option it lacks
        return False
    return True
