"""Which library multiplies matrices on a CPU, and in which precision it does so.

XLA multiplies by its own library (YNNPACK). On Intel's processors oneDNN, which is a part of XLA
too, takes a fifth less time for a whole step in float32, and it alone knows the processors' units
for bfloat16: told so, it rounds the factors of float32 arrays to bfloat16 and adds up in float32.
That is three times as fast where there is AMX, while arrays of type bfloat16 make XLA's own
products no faster at all. So on such a CPU `compute_dtype=bfloat16` keeps arrays in float32 and
lets oneDNN round. `experiments/speed/results` has the figures.

What it costs: a program with oneDNN in it cannot be kept in the compilation cache. Short runs,
whose products take less time than compiling again, do without it in float32.

oneDNN reads its precision from the environment, once a process. The first choice holds: whoever
asks for another one in the same process gets XLA's own products.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import re
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

WORTHWHILE = 1e13  # FLOP of a run: about a minute of products on two cores
_OPTIONS = {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_DOT",
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
      compiler_options: For `jax.jit`.
    """

    library: str
    precision: str
    arrays: str
    compiler_options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.library}, {self.precision}"


def choose_products(dtype: str, flops: float) -> Products:
    """How a run multiplies on the devices at hand.

    Args:
      dtype: What the config asks for, `float32` or `bfloat16`.
      flops: Of all products of the run, roughly.
    """
    plain = Products("XLA", dtype, dtype)
    switch = os.environ.get("GPTBERT_ONEDNN", "")
    if switch == "0" or "onednn" in os.environ.get("XLA_FLAGS", ""):
        return plain  # the user has decided
    worthwhile = dtype == "bfloat16" or flops >= WORTHWHILE or switch == "1"
    if not worthwhile or not _is_fast(dtype) or not _may_be(dtype) or not _is_known():
        return plain
    _chosen.add(dtype)
    os.environ[_PRECISION] = _MODES[dtype]  # read at the first product
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    return Products("oneDNN", dtype, "float32", dict(_OPTIONS))


def _is_fast(dtype: str) -> bool:
    """Whether oneDNN is the faster one here, by what was measured."""
    if jax.default_backend() != "cpu":
        return False
    vendor, features = processor()
    if dtype == "bfloat16":
        return bool({"amx_bf16", "avx512_bf16"} & features)
    return vendor == "GenuineIntel" and "avx512f" in features


def _may_be(dtype: str) -> bool:
    """Whether this process's oneDNN has that precision, or none yet."""
    given = os.environ.get(_PRECISION, _MODES[dtype]).upper()
    return given == _MODES[dtype] and _chosen <= {dtype}


@functools.cache
def processor() -> tuple[str, frozenset[str]]:
    """The vendor and the features of the processor as Linux tells them; empty elsewhere."""
    told = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not told.exists():
        return "", frozenset()
    text = told.read_text(errors="replace")
    vendor = re.search(r"vendor_id\s*:\s*(\S+)", text)
    flags = re.search(r"flags\s*:\s*(.+)", text)
    return vendor[1] if vendor else "", frozenset(flags[1].split() if flags else ())


@functools.cache
def _is_known() -> bool:
    """Whether this version of XLA has the options."""
    try:
        jax.jit(jnp.negative, compiler_options=_OPTIONS).lower(1.0).compile()
    except Exception:  # whatever type the version at hand raises for an option it lacks
        return False
    return True
