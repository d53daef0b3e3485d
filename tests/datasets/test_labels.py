"""Classes or scores: what a column of labels is taken for."""

from __future__ import annotations

import pytest

from gptbert.datasets.labels import LabelKind, resolve_labels
from gptbert.errors import UserError


def _resolve(labels: list[str], classes=None, kind: LabelKind = "auto"):
    return resolve_labels("data.tsv", list(enumerate(labels, start=2)), classes, kind)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["pos", "neg", "pos"], ("neg", "pos")),
        (["10", "9", "-1", "9"], ("-1", "9", "10")),
        (["1.0", "0.0"], ("0.0", "1.0")),
        (["1", "a", "2.5"], ("1", "2.5", "a")),
        ([str(number) for number in range(300)], tuple(str(number) for number in range(300))),
        (["1_000", "2"], ("1_000", "2")),
        (["infinity", "2"], ("2", "infinity")),
    ],
)
def test_classes_are_found_and_sorted(labels: list[str], classes: tuple[str, ...]) -> None:
    values, found = _resolve(labels)
    assert found == classes
    assert values == {name: name for name in classes}


def test_scores_are_numbers_of_which_one_is_not_whole() -> None:
    values, found = _resolve(["3.25", "1", "1.0", "-2e1"])
    assert found == ()
    assert values == {"3.25": 3.25, "1": 1.0, "1.0": 1.0, "-2e1": -20.0}


def test_scores_asked_for_may_all_be_whole() -> None:
    assert _resolve(["1", "2"], kind="score") == ({"1": 1.0, "2": 2.0}, ())


def test_names_asked_for_may_be_fractions_and_stand_by_value() -> None:
    assert _resolve(["10.5", "2.0", "0.5"], kind="classes")[1] == ("0.5", "2.0", "10.5")


def test_names_asked_for_may_be_equal_as_numbers() -> None:
    """Versions, sections, codes: 3.1 and 3.10 are two names."""
    labels = ["3.10", "01", "3.1", "1"]
    assert _resolve(labels, kind="classes")[1] == ("01", "1", "3.1", "3.10")
    with pytest.raises(UserError, match=r"if they are two: --config.label_kind=classes"):
        _resolve(["01", "1", "2"])
    with pytest.raises(UserError, match=r"'1 ', which line 2 writes as '1'; .* one way$"):
        _resolve(["1", "1 ", "2"], kind="classes")


@pytest.mark.parametrize("label", ["high", "nan", "1e999", ""])
def test_scores_asked_for_must_be_numbers(label: str) -> None:
    with pytest.raises(UserError, match=rf"data.tsv:3: label '{label}' is not a number"):
        _resolve(["1.5", label], kind="score")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1", "0", "1.0"], r"data.tsv:4: label '1.0', which line 2 writes as '1'"),
        (["01", "1"], r"data.tsv:3: label '1', which line 2 writes as '01'"),
        (["pos", "neg", "pos "], r"data.tsv:4: label 'pos ', which line 2 writes as 'pos'"),
        (["True", "False", "true"], r"data.tsv:4: label 'true', which line 2 writes as 'True'"),
        (["1", "0", "nan"], r"data.tsv:4: label 'nan' among numbers"),
        (["only", "only"], r"data.tsv: only the label 'only'; a classifier needs at least two"),
        ([], r"data.tsv: no labels; a classifier needs at least two classes"),
    ],
)
def test_columns_that_are_mistakes(labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _resolve(labels)


def test_given_classes_keep_their_order_and_admit_no_others() -> None:
    assert _resolve(["b"], classes=("b", "a")) == ({"b": "b"}, ("b", "a"))
    with pytest.raises(
        UserError, match=r"data.tsv:3: unknown label 'positiv' \(did you mean 'positive'\?\); known"
    ):
        _resolve(["positive", "positiv"], classes=("negative", "positive"))


def test_numbers_are_no_scores_where_classes_are_given() -> None:
    with pytest.raises(UserError, match=r"unknown label '1.5'"):
        _resolve(["1.5"], classes=("1", "2"))


def test_scores_beyond_float32_are_refused() -> None:
    labels = [(2, "0.5"), (3, "-1e39")]
    with pytest.raises(UserError, match=r"own\.csv:3: label '-1e39' is too large"):
        resolve_labels("own.csv", labels, None, "auto")
