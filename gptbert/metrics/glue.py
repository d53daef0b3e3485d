"""GLUE's metrics in pure NumPy: accuracy, F1, Matthews correlation, Pearson and Spearman.

Classes are numbers from 0 in the order of `Dataset.classes` (TFDS's order), scores are floats.
All results are fractions (papers print them times 100). A metric that is undefined, such as the
correlation of a constant, is 0: so does GLUE's table, and so a collapsed run is seen for what
it is. Sources: Wang et al. 2018 (GLUE), section 3; Gorodkin 2004 for R_K, the Matthews
correlation of more than two classes that the AX diagnostics need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gptbert.errors import UserError, nearest

# A run whose scores all lie within this share of their size has learnt nothing but a number.
CONSTANT_SPREAD = 1e-3


def accuracy(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """The share of predictions [E] that equal labels [E] (class numbers).

    Raises ValueError, as all metrics here: lengths differ, nothing to score, NaN or infinity, or
    class numbers that are negative or no integers.
    """
    true, predicted = _class_numbers(labels, predictions)
    return float(np.mean(true == predicted))


def f1(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """The F1 of class 1, the second in TFDS's order ("equivalent", "duplicate").

    0 if class 1 is neither there nor predicted. ValueError if there is a class beyond 0 and 1.
    """
    true, predicted = _class_numbers(labels, predictions)
    if max(true.max(), predicted.max()) > 1:
        raise ValueError("F1 is that of class 1 against class 0, found a third class")
    positives = int(true.sum() + predicted.sum())
    return 2 * int((true & predicted).sum()) / positives if positives else 0.0


def matthews_correlation(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """The Matthews correlation of two or more classes, in [-1, 1]; 0 if either side is constant.

    Gorodkin's R_K; for two classes it is (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)).
    """
    true, predicted = _class_numbers(labels, predictions)
    classes = int(max(true.max(), predicted.max())) + 1
    # Python's integers, since products of three counts leave int64 and float64 early.
    total, correct = len(true), int((true == predicted).sum())
    are = np.bincount(true, minlength=classes).tolist()
    said = np.bincount(predicted, minlength=classes).tolist()
    covariance = total * correct - sum(a * s for a, s in zip(are, said, strict=True))
    variance_are = total**2 - sum(a * a for a in are)
    variance_said = total**2 - sum(s * s for s in said)
    if variance_are == 0 or variance_said == 0:
        return 0.0
    # One rounding step beyond 1 is possible where the counts exceed 2^53.
    return max(-1.0, min(1.0, covariance / math.sqrt(variance_are * variance_said)))


def pearson(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """Pearson's correlation of two lists of scores [E], in [-1, 1]; 0 if either is constant."""
    true, predicted = _scores(labels, predictions)
    if (true == true[0]).all() or (predicted == predicted[0]).all():
        return 0.0
    a, b = _direction(true), _direction(predicted)
    return float(np.clip(np.dot(a, b), -1.0, 1.0))


def spearman(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
    """Spearman's correlation: Pearson's of the ranks; equal scores share their mean rank."""
    true, predicted = _scores(labels, predictions)
    return pearson(_average_ranks(true), _average_ranks(predicted))


Metric = Callable[[npt.ArrayLike, npt.ArrayLike], float]
METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews_correlation": matthews_correlation,
    "pearson": pearson,
    "spearman": spearman,
}
CORRELATIONS_OF_SCORES = ("pearson", "spearman")


def glue_metrics(
    names: Sequence[str], labels: npt.ArrayLike, predictions: npt.ArrayLike
) -> dict[str, float]:
    """Returns {name: fraction} for the named metrics, in the order of `names`.

    Raises UserError for a name that is not in `METRICS`, with the nearest one.
    """
    for name in names:
        if name not in METRICS:
            known = ", ".join(METRICS)
            raise UserError(
                f"unknown metric {name!r}{nearest(name, METRICS)}, expected one of {known}"
            )
    return {name: METRICS[name](labels, predictions) for name in names}


def majority_baseline(names: Sequence[str], labels: npt.ArrayLike) -> dict[str, float]:
    """The same metrics if every prediction were the most frequent class of `labels` [E].

    For scores it is their mean, whose correlations count as 0. Of equally frequent classes the
    first is taken. On GLUE's dev sets: MRPC 0.8122 / 0.6838, RTE 0.5271, CoLA 0.
    """
    if any(name in CORRELATIONS_OF_SCORES for name in names):
        scores, _ = _scores(labels, labels)
        return glue_metrics(names, scores, np.full(scores.shape, scores.mean()))
    classes, _ = _class_numbers(labels, labels)
    return glue_metrics(names, classes, np.full(classes.shape, np.bincount(classes).argmax()))


def is_constant(predictions: npt.ArrayLike) -> bool:
    """Whether a run has collapsed: always one class, or scores that are one number throughout.

    Scores count as one number if they spread less than a thousandth of the largest of them.
    """
    values = np.asarray(predictions)
    if values.size == 0:
        raise ValueError("no predictions")
    if np.issubdtype(values.dtype, np.floating):
        scores, _ = _scores(values, values)
        return bool(np.ptp(scores) <= CONSTANT_SPREAD * np.abs(scores).max())
    return bool((values == values[0]).all())


def confusion_matrix(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, classes: int
) -> npt.NDArray[np.int64]:
    """Counts [C, C]: row the label, column the prediction, C = `classes`.

    ValueError if a label or a prediction is not below `classes`.
    """
    true, predicted = _class_numbers(labels, predictions)
    largest = int(max(true.max(), predicted.max()))
    if largest >= classes:
        raise ValueError(f"found class {largest}, expected numbers below {classes}")
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


# --- What goes in ---


def _class_numbers(
    labels: npt.ArrayLike, predictions: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    true, predicted = _checked(labels, predictions)
    for what, values in (("labels", true), ("predictions", predicted)):
        if not (np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_):
            raise ValueError(f"{what} are {values.dtype}, expected class numbers (integers)")
        if values.min() < 0:
            raise ValueError(f"{what} contain {values.min()}, expected class numbers from 0")
    return true.astype(np.int64), predicted.astype(np.int64)


def _scores(
    labels: npt.ArrayLike, predictions: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    true, predicted = _checked(labels, predictions)
    return true.astype(np.float64), predicted.astype(np.float64)


def _checked(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true, predicted = np.asarray(labels), np.asarray(predictions)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ValueError(
            f"labels {true.shape} and predictions {predicted.shape}, "
            "expected two equally long lists"
        )
    if true.size == 0:
        raise ValueError("nothing to score: no labels")
    for what, values in (("labels", true), ("predictions", predicted)):
        if values.dtype.kind not in "biuf":
            raise ValueError(f"{what} are {values.dtype}, expected numbers")
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"{what}[{bad}] is {values[bad]}, expected finite numbers")
    return true, predicted


def _direction(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centred and of length 1; scaled first, so that squares neither overflow nor vanish."""
    scaled = values / np.abs(values).max()
    centred = scaled - scaled.mean()
    centred = centred / np.abs(centred).max()
    return centred / np.sqrt(np.dot(centred, centred))


def _average_ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)  # rank of a group's last member, from 1
    ranks: npt.NDArray[np.float64] = (last - (sizes - 1) / 2)[group]
    return ranks
