"""What a step costs in floating-point operations, and which share of the devices' peak that is.

Model FLOPs count the matrix products of the model once forward and twice backward, whatever is
recomputed: 6 a parameter and token that pass through it, and 12 D a layer for each pair of a token
and one that it may see. Where the last layer is read at the masked words and [CLS] alone, only they
pass through its query, output and MLP (`models.stack`). Look-ups, normalisation and the optimizer
count as nothing, so that utilisation is the share of the peak that does the model's own work.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
from typing import Any

import jax
import numpy as np

from gptbert.models.presets import ModelConfig, matrix_parameters, query_parameters
from gptbert.pipeline.batch import Batch, MaskedTargets, TokenTargets

# Published dense bfloat16 peaks, FLOP/s of one device as JAX counts them (a v2 or v3 chip is two).
PEAKS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
}


@dataclasses.dataclass(frozen=True)
class Throughput:
    """The costs of one model on the devices at hand.

    Attributes:
      model: Its shape.
      peak: FLOP/s of all devices together; None where no published figure is known (a CPU).
    """

    model: ModelConfig
    peak: float | None

    def flops(self, batch: Batch) -> float:
        """Model FLOPs of one update with a host batch, its empty space left out."""
        segments = batch.packed.segments
        tokens = int(np.count_nonzero(segments))
        causal = isinstance(batch.targets, TokenTargets)
        pairs = _pairs(segments) / (2 if causal else 1)
        body = 6.0 * matrix_parameters(self.model) * tokens
        attention = 12.0 * self.model.width * pairs
        unread = 1.0 - _read(batch.targets, tokens) / tokens if tokens else 0.0
        spared = unread * (6.0 * query_parameters(self.model) * tokens + attention)
        return body + self.model.layers * attention - spared + self._head(batch.targets)

    def _head(self, targets: Any) -> float:
        if not isinstance(targets, MaskedTargets | TokenTargets):
            return 0.0
        projected = float(np.count_nonzero(targets.weights))
        width = self.model.width
        dense = width**2 if isinstance(targets, MaskedTargets) else 0
        return 6.0 * (width * self.model.vocabulary + dense) * projected

    def rates(self, flops_per_second: float) -> dict[str, float]:
        """What the log records of a rate."""
        found = {"model_flops_per_second": flops_per_second}
        return found | ({"utilisation": flops_per_second / self.peak} if self.peak else {})


def _read(targets: Any, tokens: int) -> float:
    """At how many of the tokens the last layer is read."""
    if isinstance(targets, MaskedTargets):
        return float(np.count_nonzero(targets.weights) + np.count_nonzero(targets.next_weights))
    return float(tokens)


def _pairs(segments: np.ndarray) -> float:
    """How many (query, key) pairs lie within segments."""
    flat = segments[segments > 0]
    return float(np.square(np.unique(flat, return_counts=True)[1].astype(np.float64)).sum())


def device_peak() -> float | None:
    """Published bfloat16 FLOP/s of all devices of the job; None where a kind is not known."""
    peak = PEAKS.get(jax.devices()[0].device_kind)
    return peak * jax.device_count() if peak else None


def memory_in_use() -> float:
    """Most bytes that the first device held so far; on a CPU the process's largest size."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "peak_bytes_in_use" in statistics:
        return float(statistics["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
