"""Several runs as one summary, and the rule that tells two experiments apart."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbert.metrics.summary import Summary, differ, summarise

ACCURACIES = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=20)


def test_summary_by_hand() -> None:
    assert summarise([0.5, 0.75, 1.0]) == Summary(
        mean=0.75, std=0.25, median=0.75, minimum=0.5, maximum=1.0, n=3
    )


def test_one_run_has_no_spread() -> None:
    assert summarise([0.5]) == Summary(0.5, 0.0, 0.5, 0.5, 0.5, 1)


@pytest.mark.parametrize("values", [[], [0.5, float("nan")]])
def test_runs_without_a_number_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="runs"):
        summarise(values)


@pytest.mark.property
@given(ACCURACIES)
def test_summary_equals_the_standard_librarys(values: list[float]) -> None:
    found = summarise(values)
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-12)
    assert found.std == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert found.median == pytest.approx(statistics.median(values), abs=1e-12)
    assert (found.minimum, found.maximum) == (min(values), max(values))


def test_differ_is_two_standard_errors() -> None:
    spread = Summary(0.0, 0.03, 0.0, 0.0, 0.0, 9)  # standard error 0.01 on each side
    limit = 2 * np.sqrt(2) * 0.01

    def shifted(mean: float) -> Summary:
        return Summary(mean, 0.03, mean, mean, mean, 9)

    assert not differ(spread, shifted(limit * 0.99))
    assert differ(spread, shifted(limit * 1.01))
    assert differ(shifted(limit * 1.01), spread)


@pytest.mark.property
@given(ACCURACIES)
def test_a_result_does_not_differ_from_itself(values: list[float]) -> None:
    assert not differ(summarise(values), summarise(values))


def test_single_runs_are_not_compared() -> None:
    with pytest.raises(ValueError, match="expected at least 2"):
        differ(summarise([0.5]), summarise([0.5, 0.6]))


def test_equal_distributions_are_seldom_told_apart() -> None:
    """The rate that the docstring states for 5 runs a side: about 8%."""
    runs = np.random.default_rng(0).normal(0.8, 0.02, size=(1000, 2, 5))
    rate = np.mean([differ(summarise(a), summarise(b)) for a, b in runs])
    assert 0.05 < rate < 0.11
