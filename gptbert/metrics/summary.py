"""What several runs of one experiment amount to, and when two experiments differ.

Fine-tuning results on small tasks move by several points with the seed (Devlin et al. 2019,
section 4.1, speak of unstable runs), so that distributions are compared, never single runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """One number (a metric, a duration) over n runs.

    Attributes:
      std: The sample's standard deviation (divisor n - 1); 0 for one run, whose spread is unknown.
    """

    mean: float
    std: float
    median: float
    minimum: float
    maximum: float
    n: int


def summarise(values: Iterable[float]) -> Summary:
    """Summarises the numbers of n >= 1 runs; ValueError if there are none or one is not finite."""
    numbers = np.asarray(list(values), dtype=np.float64)
    if numbers.size == 0:
        raise ValueError("no runs to summarise")
    if not np.isfinite(numbers).all():
        raise ValueError(f"runs gave {numbers.tolist()}, expected finite numbers")
    return Summary(
        mean=float(numbers.mean()),
        std=float(numbers.std(ddof=1)) if numbers.size > 1 else 0.0,
        median=float(np.median(numbers)),
        minimum=float(numbers.min()),
        maximum=float(numbers.max()),
        n=int(numbers.size),
    )


def differ(a: Summary, b: Summary) -> bool:
    """Whether two means differ by more than their joint spread allows.

    The rule: |mean_a - mean_b| > 2 sqrt(std_a^2 / n_a + std_b^2 / n_b), that is, by more than
    two standard errors of the difference (Welch's statistic above 2, about 95% for many runs;
    with 5 runs on each side equal distributions are told apart wrongly in about 8% of cases, so
    that the rule leans towards reporting a difference). ValueError below 2 runs on either side.
    """
    if min(a.n, b.n) < 2:
        raise ValueError(f"{a.n} and {b.n} runs, expected at least 2 on both sides")
    standard_error = math.sqrt(a.std**2 / a.n + b.std**2 / b.n)
    return abs(a.mean - b.mean) > 2 * standard_error
