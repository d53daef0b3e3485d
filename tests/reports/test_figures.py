"""Figures: valid SVG that tells the right story, whatever the numbers and the names."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbert.reports.figures import HEIGHT, WIDTH, confusion_chart, line_chart, ticks
from gptbert.reports.svg import escape

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.floats(-1e6, 1e6, allow_subnormal=False)


def chart(series: dict[str, list[tuple[float, float]]], **options: str) -> ElementTree.Element:
    labels = {"title": "Loss", "x_label": "step", "y_label": "loss"} | options
    return ElementTree.fromstring(line_chart(series, **labels))


def texts(figure: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in figure.iter(f"{SVG}text")]


def lines(figure: ElementTree.Element) -> list[str]:
    """The paths of the data, without those of the legend (which end in a relative line)."""
    paths = [p for p in figure.iter(f"{SVG}path") if "gb-line" in p.attrib["class"]]
    return [path.attrib["d"] for path in paths if not path.attrib["d"].endswith("h26")]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)]


# --- Line charts ---


def test_line_goes_through_its_points() -> None:
    (path,) = lines(chart({"loss": [(0, 1.0), (10, 0.5), (20, 0.0)]}))
    (x0, y0), (x1, y1), (x2, y2) = points(path)
    assert x0 < x1 < x2 and y0 < y1 < y2  # SVG's y points down: the loss falls
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.11)


def test_axes_have_round_ticks_and_labels() -> None:
    found = texts(chart({"loss": [(0, 0.0), (1000, 1.0)]}, x_label="step", y_label="loss"))
    assert found == [
        "Loss", "loss",  # title and legend
        "0.0", "0.2", "0.4", "0.6", "0.8", "1.0",
        "0", "200", "400", "600", "800", "1,000",
        "step", "loss",
    ]  # fmt: skip


def test_points_are_drawn_in_the_order_of_x() -> None:
    (path,) = lines(chart({"a": [(3, 1.0), (1, 2.0), (2, 3.0)]}))
    xs = [x for x, _ in points(path)]
    assert xs == sorted(xs)


def test_nan_interrupts_the_line() -> None:
    (path,) = lines(chart({"a": [(1, 1.0), (2, 0.5), (3, math.nan), (4, 0.5), (5, math.inf)]}))
    assert path.count("M") == 2 and path.count("L") == 1
    assert "nan" not in path and "inf" not in path


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(1.0, math.nan)]}])
def test_a_chart_without_values_says_so(series: dict[str, list[tuple[float, float]]]) -> None:
    assert "no values were logged" in texts(chart(series))


def test_lines_differ_by_dashes_and_are_in_the_legend() -> None:
    names = [f"line {number}" for number in range(6)]
    figure = chart({name: [(0, 0.0), (1, 1.0)] for name in names})
    assert set(names) <= set(texts(figure))
    paths = [p for p in figure.iter(f"{SVG}path") if "gb-line" in p.attrib["class"]]
    assert len({path.attrib.get("stroke-dasharray") for path in paths}) == 6


def test_legend_wraps_and_stays_inside() -> None:
    names = [f"a rather long name of a line {number}" for number in range(8)]
    figure = chart({name: [(0, 0.0), (1, 1.0)] for name in names})
    places = [t for t in figure.iter(f"{SVG}text") if t.text in names]
    assert len({place.attrib["y"] for place in places}) > 1
    assert max(float(place.attrib["x"]) for place in places) < WIDTH - 100


def test_faint_line_lies_behind_in_the_same_colour() -> None:
    series = {"mean": [(0, 0.0), (1, 1.0)], "raw": [(0, 0.5), (1, 0.7)]}
    figure = ElementTree.fromstring(
        line_chart(series, title="t", x_label="x", y_label="y", faint=["raw"])
    )
    looks = [p.attrib["class"] for p in figure.iter(f"{SVG}path") if "gb-line" in p.attrib["class"]]
    assert looks[-2:] == ["gb-line gb-s0 gb-faint", "gb-line gb-s0"]


def test_screen_readers_hear_where_the_line_goes() -> None:
    figure = chart({"loss": [(1, 0.75), (20, 0.25)]})
    assert figure.attrib["role"] == "img"
    assert "loss goes from 0.75 at 1 to 0.25 at 20" in figure.attrib["aria-label"]


def test_long_logs_are_thinned_and_keep_their_peaks() -> None:
    values = [(float(step), 1.0) for step in range(50_000)]
    values[31_415] = (31_415.0, 9.0)
    figure = chart({"loss": values})
    (path,) = lines(figure)
    assert len(path) < 30_000
    assert min(y for _, y in points(path)) < 100  # the peak


def test_names_are_escaped() -> None:
    text = line_chart(
        {'<b>&"\x00\ud800': [(0, 0.0)]}, title="</svg><script>", x_label="<x>", y_label="&y"
    )
    text.encode("utf-8")  # a lone surrogate would not pass
    figure = ElementTree.fromstring(text)
    assert {"</svg><script>", '<b>&"\ufffd\ufffd', "<x>", "&y"} <= set(texts(figure))
    assert not list(figure.iter(f"{SVG}script"))


@pytest.mark.property
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20))
def test_every_point_lies_inside_the_picture(values: list[tuple[float, float]]) -> None:
    (path,) = lines(chart({"a": values}))
    for x, y in points(path):
        assert 0 <= x <= WIDTH and 0 <= y <= HEIGHT


@pytest.mark.property
@given(VALUES, VALUES, st.integers(3, 10))
def test_ticks_are_round_and_enclose(a: float, b: float, most: int) -> None:
    low, high = min(a, b), max(a, b)
    found = ticks(low, high, most)
    step = found[1] - found[0]
    assert found[0] <= low + 1e-6 * step and found[-1] >= high - 1e-6 * step
    assert 2 <= len(found) <= most + 2
    digits = round(step / 10 ** math.floor(math.log10(step) + 1e-6), 4)
    assert digits in (1, 2, 2.5, 5)


# --- Confusion matrices ---


def test_confusion_chart_shows_counts_and_shares_of_the_row() -> None:
    figure = ElementTree.fromstring(confusion_chart([[30, 10], [0, 1200]], ["no", "yes"]))
    found = texts(figure)
    assert {"30", "10", "0", "1,200", "75%", "25%", "100%", "label", "prediction"} <= set(found)
    assert "1,230 of 1,240 on the diagonal are right" in figure.attrib["aria-label"]


def test_shades_follow_the_share_and_the_diagonal_is_framed() -> None:
    figure = ElementTree.fromstring(confusion_chart([[3, 1], [2, 2]], ["a", "b"]))
    cells = list(figure.iter(f"{SVG}rect"))
    shades = [float(cell.attrib["fill-opacity"]) for cell in cells]
    assert shades[0] > shades[2] == shades[3] > shades[1]
    assert ["stroke-width" in cell.attrib for cell in cells] == [True, False, False, True]


def test_many_long_names_are_shortened_but_kept_as_hints() -> None:
    names = [f"a class with a very long name {number}" for number in range(10)]
    figure = ElementTree.fromstring(confusion_chart(np.eye(10, dtype=int), names))
    hints = {element.text for element in figure.iter(f"{SVG}title")}
    assert set(names) <= hints
    assert "a class with a …" in "".join(figure.itertext())


def test_class_without_examples_has_no_share() -> None:
    assert "0%" in texts(ElementTree.fromstring(confusion_chart([[0, 0], [0, 5]], ["a", "b"])))


@pytest.mark.parametrize(
    ("matrix", "classes"), [([[1]], ["a", "b"]), ([1, 2], ["a", "b"]), ([], [])]
)
def test_matrix_of_another_shape_is_refused(matrix: list[int], classes: list[str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        confusion_chart(matrix, classes)


def test_escape_keeps_ordinary_text() -> None:
    assert escape("naïve 東京 🙂\ttab") == "naïve 東京 🙂\ttab"
