"""Which library multiplies matrices in training on a CPU, and in which precision it does so.

XLA multiplies by its own library (YNNPACK). oneDNN, a part of XLA too, is faster in two cases:

- `compute_dtype=bfloat16` on processors with units for it, which oneDNN alone knows: told so, it
  rounds the factors of float32 arrays to bfloat16 and adds up in float32, while XLA's own products
  gain nothing from arrays of bfloat16. So there arrays stay in float32 and oneDNN rounds while the
  model is trained; it is scored in float32.
- float32 on Intel's processors, when a step computes many tokens at once: from about 1,500 on it
  was the faster one in every comparison; below, which one is faster depends on the model and on the
  state of the machine (`experiments/speed/results/libraries.md`).

What it costs: a program with oneDNN in it cannot be kept in the compilation cache. Short runs,
which would win less than compiling again takes, do without it in float32.

What it risks: XLA can hand oneDNN products together with what stands around them, and there it is
not to be trusted: some combinations abort the process, and a product of the vocabulary's loss gave
wrong gradients. So oneDNN gets single products and nothing else; a program in which it has more is
compiled again without it, and so is everything under a version of XLA that was not tried.

oneDNN reads its precision from the environment, once a process. The first choice holds, and before
it what the user has set: whoever asks for another one gets XLA's own products.
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
MANY_TOKENS = 1536  # computed at once: from there on oneDNN always won in float32
WORTHWHILE = 3e13  # FLOP of a run: what it wins there is what compiling again takes
_OPTIONS = {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    # YNNPACK would add up rows and columns; XLA does so itself beside oneDNN's products.
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}
_PRECISION = "ONEDNN_DEFAULT_FPMATH_MODE"
_MODES = {"float32": "STRICT", "bfloat16": "BF16"}
_chosen: set[str] = set()  # the precision of oneDNN in this process, once there is one


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


def choose_products(dtype: str, flops: float = 0.0, tokens: float = 0.0) -> Products:
    """How a run multiplies on the devices at hand.

    Args:
      dtype: What the config asks for, `float32` or `bfloat16`.
      flops: Of all products of the run, roughly.
      tokens: That a step (a piece, where gradients are accumulated) computes at once, roughly.
    """
    plain = Products("XLA", dtype, dtype)
    switch = os.environ.get("GPTBERT_ONEDNN", "")
    if switch == "0" or "onednn" in os.environ.get("XLA_FLAGS", ""):
        return plain  # the user has decided
    enough = flops >= WORTHWHILE and tokens >= MANY_TOKENS
    wanted = dtype == "bfloat16" or enough or switch == "1"
    if not wanted or not _is_fast(dtype) or not _may_be(dtype) or not _is_known():
        return plain
    _chosen.add(dtype)
    os.environ[_PRECISION] = _MODES[dtype]  # read at the first product
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    return Products("oneDNN", dtype, "float32")


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


def _is_fast(dtype: str) -> bool:
    """Whether this processor is one on which oneDNN was seen to be fast."""
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return False
    here = processor()
    if dtype == "bfloat16":
        return bool({"amx_bf16", "avx512_bf16"} & here.features)
    return here.vendor == "GenuineIntel" and "avx512f" in here.features


def _may_be(dtype: str) -> bool:
    """Whether this process's oneDNN has that precision, or none yet."""
    given = os.environ.get(_PRECISION, _MODES[dtype]).upper()
    return given == _MODES[dtype] and _chosen <= {dtype}


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
