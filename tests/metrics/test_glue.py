"""GLUE's metrics: by hand, by property, and against scikit-learn and scipy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gptbert.errors import UserError
from gptbert.metrics import glue

# GLUE's MRPC dev: 279 of 408 pairs are equivalent (papers: F1 81.22, accuracy 68.38).
MRPC_DEV = [1] * 279 + [0] * 129
SCORES = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=40)


def classes(count: int) -> st.SearchStrategy[Any]:
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    return st.lists(pair, min_size=1, max_size=60)


def columns(rows: list[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = zip(*rows, strict=True)
    return np.array(labels), np.array(predictions)


# --- By hand ---


def test_values_by_hand() -> None:
    labels, predictions = [1, 1, 1, 0, 0], [1, 1, 0, 1, 0]
    assert glue.accuracy(labels, predictions) == 3 / 5
    assert glue.f1(labels, predictions) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert glue.matthews_correlation(labels, predictions) == pytest.approx(
        (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2)
    )


def test_f1_is_that_of_class_1() -> None:
    assert glue.f1([1, 0, 0, 0], [1, 1, 0, 0]) == pytest.approx(2 / 3)
    assert glue.f1([0, 1, 1, 1], [0, 0, 1, 1]) == pytest.approx(4 / 5)


def test_f1_without_class_1_is_0() -> None:
    assert glue.f1([0, 0], [0, 0]) == 0.0
    assert glue.f1([1, 1], [0, 0]) == 0.0


def test_f1_refuses_a_third_class() -> None:
    with pytest.raises(ValueError, match="third class"):
        glue.f1([0, 1, 2], [0, 1, 1])


@pytest.mark.parametrize("constant", [0, 1, 2])
def test_matthews_of_a_constant_is_0(constant: int) -> None:
    assert glue.matthews_correlation([0, 1, 2, 1], [constant] * 4) == 0.0
    assert glue.matthews_correlation([constant] * 4, [0, 1, 2, 1]) == 0.0


def test_matthews_does_not_overflow() -> None:
    labels = np.repeat([0, 1], 2_000_000)
    assert glue.matthews_correlation(labels, labels) == 1.0
    assert glue.matthews_correlation(labels, 1 - labels) == -1.0


@pytest.mark.parametrize("constant", [0.1, 0.0, -7.3, 1e300])
@pytest.mark.parametrize("correlation", [glue.pearson, glue.spearman])
def test_correlation_of_a_constant_is_0(
    correlation: Callable[[Any, Any], float], constant: float
) -> None:
    scores = [0.5, 3.0, 4.25]
    assert correlation(scores, [constant] * 3) == 0.0
    assert correlation([constant] * 3, scores) == 0.0


def test_spearman_shares_the_ranks_of_ties() -> None:
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4
    assert glue.spearman([1.0, 2.0, 2.0, 9.0], [0.0, 0.1, 0.2, 0.3]) == pytest.approx(
        4.5 / math.sqrt(4.5 * 5.0)
    )


def test_pearson_of_very_large_and_very_small_numbers() -> None:
    assert glue.pearson([1.0, 2.0, 3.0], [1e300, 2e300, 3e300]) == pytest.approx(1.0)
    assert glue.pearson([1.0, 2.0, 3.0], [3e-300, 2e-300, 1e-300]) == pytest.approx(-1.0)


def test_float32_predictions_of_a_device_are_scored() -> None:
    predictions = np.array([0.5, 2.5, 4.5], np.float32)
    assert glue.pearson([0.0, 2.0, 4.0], predictions) == pytest.approx(1.0)


def test_confusion_matrix_has_labels_in_rows() -> None:
    matrix = glue.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 0], 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_confusion_matrix_keeps_a_class_that_never_occurs() -> None:
    assert glue.confusion_matrix([0], [1], 4).shape == (4, 4)


def test_matthews_correlation_of_very_many_classes() -> None:
    """A matrix of all pairs would take 7 TB."""
    labels = np.arange(1_000_000)
    assert glue.matthews_correlation(labels, labels) == 1.0
    assert abs(glue.matthews_correlation(labels, labels[::-1])) < 1e-5


def test_confusion_matrix_refuses_a_class_too_many() -> None:
    with pytest.raises(ValueError, match="found class 3, expected numbers below 3"):
        glue.confusion_matrix([0, 3], [0, 1], 3)


# --- By name, and the baseline ---


def test_metrics_by_name_in_the_order_asked_for() -> None:
    found = glue.glue_metrics(("f1", "accuracy"), [1, 0], [1, 1])
    assert list(found.items()) == [("f1", pytest.approx(2 / 3)), ("accuracy", 0.5)]


def test_misspelt_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'matthews_correlation'"):
        glue.glue_metrics(["mathews_corelation"], [1], [1])


def test_majority_baseline_of_mrpc_is_the_papers() -> None:
    found = glue.majority_baseline(("f1", "accuracy"), MRPC_DEV)
    assert {name: round(100 * value, 2) for name, value in found.items()} == {
        "f1": 81.22,
        "accuracy": 68.38,
    }


def test_majority_baseline_when_the_negatives_are_more() -> None:
    names = ("f1", "accuracy", "matthews_correlation")
    found = glue.majority_baseline(names, [0, 0, 0, 1])
    assert found == {"f1": 0.0, "accuracy": 0.75, "matthews_correlation": 0.0}


def test_majority_baseline_of_scores_is_0() -> None:
    found = glue.majority_baseline(("pearson", "spearman"), [0.0, 2.5, 5.0])
    assert found == {"pearson": 0.0, "spearman": 0.0}


def test_collapsed_runs_are_flagged() -> None:
    assert glue.is_constant([1, 1, 1])
    assert not glue.is_constant([1, 1, 0])
    assert glue.is_constant(np.array([2.701, 2.7012, 2.7011], np.float32))
    assert not glue.is_constant([0.3, 4.7])
    assert glue.is_constant([0.0, 0.0])


# --- What is refused ---

EVERY_METRIC = pytest.mark.parametrize("metric", glue.METRICS.values(), ids=glue.METRICS)


@EVERY_METRIC
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_refused_not_scored(metric: glue.Metric, bad: float) -> None:
    with pytest.raises(ValueError, match=r"predictions\[1\] is (nan|inf)"):
        metric([0.0, 1.0, 1.0], [0.0, bad, 1.0])


@EVERY_METRIC
def test_mismatched_lengths_are_refused(metric: glue.Metric) -> None:
    with pytest.raises(ValueError, match="equally long"):
        metric([0, 1, 1], [0, 1])


@EVERY_METRIC
def test_nothing_to_score_is_refused(metric: glue.Metric) -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        metric([], [])


@EVERY_METRIC
def test_names_are_refused_where_numbers_belong(metric: glue.Metric) -> None:
    with pytest.raises(ValueError, match="expected numbers"):
        metric(["no", "yes"], ["no", "yes"])


@pytest.mark.parametrize("labels", [[0.5, 1.0], [-1, 1]])
def test_class_metrics_refuse_what_is_no_class(labels: list[float]) -> None:
    with pytest.raises(ValueError, match="expected class numbers"):
        glue.accuracy(labels, [0, 1])


# --- Properties ---


@pytest.mark.property
@given(classes(4))
def test_metrics_stay_in_their_range(rows: list[tuple[int, int]]) -> None:
    labels, predictions = columns(rows)
    assert 0.0 <= glue.accuracy(labels, predictions) <= 1.0
    assert 0.0 <= glue.f1(labels > 0, predictions > 0) <= 1.0
    assert -1.0 <= glue.matthews_correlation(labels, predictions) <= 1.0


@pytest.mark.property
@given(classes(4), st.permutations(range(4)))
def test_matthews_does_not_depend_on_the_numbering(
    rows: list[tuple[int, int]], renamed: list[int]
) -> None:
    labels, predictions = columns(rows)
    order = np.array(renamed)
    assert glue.matthews_correlation(order[labels], order[predictions]) == pytest.approx(
        glue.matthews_correlation(labels, predictions)
    )


@pytest.mark.property
@given(classes(3))
def test_confusion_matrix_counts_everything_once(rows: list[tuple[int, int]]) -> None:
    labels, predictions = columns(rows)
    matrix = glue.confusion_matrix(labels, predictions, 3)
    assert matrix.sum() == len(rows)
    assert np.trace(matrix) / len(rows) == pytest.approx(glue.accuracy(labels, predictions))


@pytest.mark.property
@given(SCORES)
def test_correlations_are_symmetric_and_bounded(rows: list[tuple[float, float]]) -> None:
    a, b = columns(rows)
    for correlation in (glue.pearson, glue.spearman):
        assert -1.0 <= correlation(a, b) <= 1.0
        assert correlation(a, b) == pytest.approx(correlation(b, a), abs=1e-12)


@pytest.mark.property
@given(hnp.arrays(np.int64, st.integers(2, 30), elements=st.integers(-50, 50)))
def test_spearman_sees_only_the_order(values: np.ndarray) -> None:
    expected = 0.0 if np.ptp(values) == 0 else 1.0
    assert glue.spearman(values, np.exp(values / 10)) == pytest.approx(expected)
    assert glue.spearman(values, -(values**3)) == pytest.approx(-expected)


# --- Against scikit-learn and scipy ---


@pytest.fixture(scope="module")
def sklearn_metrics() -> ModuleType:
    module: ModuleType = pytest.importorskip("sklearn.metrics", reason="scikit-learn is missing")
    return module


@pytest.fixture(scope="module")
def scipy_stats() -> ModuleType:
    module: ModuleType = pytest.importorskip("scipy.stats", reason="scipy is missing")
    return module


@pytest.mark.parity
@settings(max_examples=200)
@given(rows=classes(3))
def test_class_metrics_equal_scikit_learns(
    sklearn_metrics: ModuleType, rows: list[tuple[int, int]]
) -> None:
    labels, predictions = columns(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's word on a single class
        check_against(sklearn_metrics, labels, predictions)


def check_against(reference: ModuleType, labels: np.ndarray, predictions: np.ndarray) -> None:
    close = pytest.approx
    assert glue.accuracy(labels, predictions) == close(
        reference.accuracy_score(labels, predictions)
    )
    assert glue.matthews_correlation(labels, predictions) == close(
        reference.matthews_corrcoef(labels, predictions), abs=1e-12
    )
    assert glue.f1(labels == 1, predictions == 1) == close(
        reference.f1_score(labels == 1, predictions == 1, zero_division=0)
    )
    expected = reference.confusion_matrix(labels, predictions, labels=range(3))
    np.testing.assert_array_equal(glue.confusion_matrix(labels, predictions, 3), expected)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        (MRPC_DEV, [1] * 408),  # constant predictions
        (MRPC_DEV, [0] * 408),
        ([1] * 9, [1] * 9),  # a single class throughout
        ([0] * 9, [0] * 9),
        ([0] * 9, [1] * 9),
    ],
)
def test_degenerate_cases_equal_scikit_learns(
    sklearn_metrics: ModuleType, labels: list[int], predictions: list[int]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_against(sklearn_metrics, np.array(labels), np.array(predictions))


@pytest.mark.parity
@pytest.mark.parametrize("decimals", [0, 1, 8])  # 0 and 1: many ties, as STS-B's labels have
@pytest.mark.parametrize("size", [2, 3, 100, 1500])
def test_correlations_equal_scipys(scipy_stats: ModuleType, size: int, decimals: int) -> None:
    random = np.random.default_rng(size + decimals)
    labels = np.round(random.uniform(0, 5, size), decimals)
    predictions = np.round(labels + random.normal(size=size), decimals)
    labels[0], predictions[0] = -1.0, 9.0  # never constant: scipy gives NaN there, we give 0
    assert glue.pearson(labels, predictions) == pytest.approx(
        scipy_stats.pearsonr(labels, predictions).statistic, abs=1e-12
    )
    assert glue.spearman(labels, predictions) == pytest.approx(
        scipy_stats.spearmanr(labels, predictions).statistic, abs=1e-12
    )


@pytest.mark.parity
def test_constant_scores_are_nan_for_scipy_and_0_here(scipy_stats: ModuleType) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert math.isnan(scipy_stats.spearmanr([1, 2, 3], [4, 4, 4]).statistic)
    assert glue.spearman([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]) == 0.0
