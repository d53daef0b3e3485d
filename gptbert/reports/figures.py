"""Figures as SVG, written by hand: a line chart and a confusion matrix.

Each is one `<svg>` element that stands alone as a file or inside an HTML page: it carries its
style, follows the reader's dark or light setting, names its content for screen readers, and
tells lines apart by dashes as well as by colour. All texts are escaped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gptbert.reports.svg import LINES, escape, svg, text

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, BOTTOM = 68, 24, 52
LEGEND_LINE = 20
MOST_POINTS = 1000  # more would only make the file large: a point is wider than a pixel
MARKED_POINTS = 30  # up to so many points are drawn as dots, which show their values
DASHES = ("", "7 5", "2 5", "12 4 2 4", "4 3", "1 4")  # one for each of LINES colours


# --- Line chart ---


def line_chart(
    series: dict[str, list[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    faint: Collection[str] = (),
) -> str:
    """Draws lines over one pair of axes, 720 x 360, and returns the `<svg>` element.

    Args:
      series: {name: points (x, y)}, drawn in the order of x. A point that is not finite (a loss
        that became NaN) interrupts its line.
      faint: Names drawn thin and pale in the colour of the line before them, and behind all
        others: the raw values of a smoothed line.
    """
    lines = {name: _thinned(sorted(points)) for name, points in series.items()}
    seen = [point for points in lines.values() for point in points if _finite(point)]
    looks = _looks(list(lines), faint)
    legend, legend_height = _legend(looks)
    top = 46 + legend_height
    plot = _Plot.around(seen, top)
    drawn = [(name in faint, _line(plot, name, lines[name], looks[name])) for name in lines]
    parts = [_axes(plot, x_label, y_label)]
    parts += [line for _, line in sorted(drawn, key=lambda item: not item[0])]
    if not seen:
        middle = (top + HEIGHT - BOTTOM) / 2
        parts.append(text(WIDTH / 2, middle, "no values were logged", anchor="middle", look="dim"))
    summary = "; ".join(_in_words(name, points) for name, points in lines.items())
    return svg(WIDTH, HEIGHT, title, f"{y_label} over {x_label}: {summary}", legend + parts)


class _Plot:
    """Where a value lies on the picture: ranges, ticks, and the scaling of both axes."""

    def __init__(self, x_ticks: list[float], y_ticks: list[float], x_range: tuple[float, float],
                 top: float) -> None:  # fmt: skip
        self.x_ticks, self.y_ticks, self.top = x_ticks, y_ticks, top
        self.x_range, self.y_range = x_range, (y_ticks[0], y_ticks[-1])

    @classmethod
    def around(cls, points: Points, top: float) -> _Plot:
        xs = [x for x, _ in points] or [0.0, 1.0]
        ys = [y for _, y in points] or [0.0, 1.0]
        low, high = min(ys), max(ys)
        if 0 <= low < 0.4 * high:  # near enough to zero to show it
            low = 0.0
        x_ticks = ticks(min(xs), max(xs), 8)
        x_range = (min(xs), max(xs)) if min(xs) < max(xs) else (x_ticks[0], x_ticks[-1])
        inside = [x for x in x_ticks if x_range[0] <= x <= x_range[1]]
        return cls(inside, ticks(low, high, 5), x_range, top)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - self.top)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) from at most `low` to at least `high`.

    About `most` of them; for low == high three around it.
    """
    if low == high:
        low, high = low - (abs(low) / 10 or 1), high + (abs(high) / 10 or 1)
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _axes(plot: _Plot, x_label: str, y_label: str) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value, name in zip(plot.y_ticks, _tick_texts(plot.y_ticks), strict=True):
        y = plot.y(value)
        parts.append(f'<path class="gb-grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(text(LEFT - 9, y + 4.5, name, anchor="end", look="dim"))
    for value, name in zip(plot.x_ticks, _tick_texts(plot.x_ticks), strict=True):
        x = plot.x(value)
        parts.append(f'<path class="gb-axis" d="M{x:.1f} {bottom}v5"/>')
        parts.append(text(x, bottom + 20, name, anchor="middle", look="dim"))
    parts.append(f'<path class="gb-axis" d="M{LEFT} {bottom}H{right}"/>')
    parts.append(text((LEFT + right) / 2, HEIGHT - 12, x_label, anchor="middle"))
    parts.append(text(18, (plot.top + bottom) / 2, y_label, anchor="middle", turn=-90))
    return "".join(parts)


def _tick_texts(values: Sequence[float]) -> list[str]:
    """The same number of decimals for all ticks of an axis, exponents for extreme ones."""
    size = max(map(abs, values))
    step = values[1] - values[0] if len(values) > 1 else size
    if size >= 1e7 or 0 < size < 1e-3:
        return [f"{value:.4g}" for value in values]
    decimals = max(0, -math.floor(math.log10(abs(step) or 1)))
    if abs(round(step, decimals) - step) > 1e-9 * abs(step):
        decimals += 1  # a step of 2.5 times a power of ten
    return [f"{value + 0.0:,.{decimals}f}" for value in values]


@dataclasses.dataclass(frozen=True)
class _Look:
    """How a line is told from the others."""

    colour: int
    faint: bool

    @property
    def attributes(self) -> str:
        kind = f"gb-line gb-s{self.colour}" + (" gb-faint" if self.faint else "")
        dashes = "" if self.faint else DASHES[self.colour]
        return f'class="{kind}"' + (f' stroke-dasharray="{dashes}"' if dashes else "")


def _looks(names: Sequence[str], faint: Collection[str]) -> dict[str, _Look]:
    looks, colour = {}, -1
    for name in names:
        colour += name not in faint
        looks[name] = _Look(max(colour, 0) % LINES, name in faint)
    return looks


def _line(plot: _Plot, name: str, points: Points, look: _Look) -> str:
    path, pen_down = [], False
    for point in points:
        if _finite(point):
            command = "L" if pen_down else "M"
            path.append(f"{command}{plot.x(point[0]):.1f} {plot.y(point[1]):.1f}")
        pen_down = _finite(point)
    if not path:
        return ""
    few = len(points) <= MARKED_POINTS and not look.faint
    dots = (_dot(plot, name, point, look.colour) for point in points if few and _finite(point))
    return f'<path {look.attributes} d="{"".join(path)}"/>' + "".join(dots)


def _dot(plot: _Plot, name: str, point: tuple[float, float], index: int) -> str:
    x, y = point
    hint = f"{escape(name)}: {y:.4g} at {x:,.10g}"
    return (f'<circle class="gb-dot gb-f{index}" cx="{plot.x(x):.1f}" cy="{plot.y(y):.1f}" r="4">'
            f"<title>{hint}</title></circle>")  # fmt: skip


def _legend(looks: Mapping[str, _Look]) -> tuple[list[str], int]:
    """Returns the legend's elements and its height; entries wrap as words do."""
    parts, x, y = [], float(LEFT), 46
    for name, look in looks.items():
        width = 34 + 6.8 * len(name) + 18
        if x + width > WIDTH - RIGHT and x > LEFT:
            x, y = float(LEFT), y + LEGEND_LINE
        parts.append(f'<path {look.attributes} d="M{x:.1f} {y}h26"/>')
        parts.append(text(x + 34, y + 4.5, name))
        x += width
    return parts, (y - 46 + LEGEND_LINE if looks else 0)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `MOST_POINTS`: of each stretch the lowest and the highest, so peaks stay."""
    if len(points) <= MOST_POINTS:
        return points
    stretch = math.ceil(2 * len(points) / MOST_POINTS)
    kept = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        broken = [point for point in part if not _finite(point)]
        ends = [min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])]
        kept += sorted(set(broken[:1] or ends))
    return kept


def _finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _in_words(name: str, points: Points) -> str:
    values = [point for point in points if _finite(point)]
    if not values:
        return f"{name} has no values"
    (x0, y0), (x1, y1) = values[0], values[-1]
    return f"{name} goes from {y0:.4g} at {x0:,.10g} to {y1:.4g} at {x1:,.10g}"


# --- Confusion matrix ---


def confusion_chart(matrix: npt.ArrayLike, classes: Sequence[str]) -> str:
    """Draws counts [C, C], rows the labels and columns the predictions, as an `<svg>` element.

    A cell's shade is its share of the row; the correct ones, on the diagonal, have a frame.
    ValueError if the matrix is not [C, C] for C = len(classes) >= 1.
    """
    counts = np.asarray(matrix)
    size = len(classes)
    if counts.shape != (size, size) or size == 0:
        raise ValueError(f"matrix {counts.shape}, expected {size} x {size} for {size} classes")
    cell_width, cell_height = max(64, min(120, 480 // size)), 54
    longest = 7.2 * max(len(_short(name)) for name in classes)
    steep = longest > cell_width  # names over narrow columns are turned
    left, top = 64 + longest, 86 + (0.6 * longest if steep else 10)
    parts = []
    for row, name in enumerate(classes):
        x, y = left + (row + 0.5) * cell_width, top + row * cell_height
        short = _short(name)
        parts.append(text(left - 10, y + cell_height / 2 + 2.5, short, anchor="end", hint=name))
        anchor, turn = ("start", -38) if steep else ("middle", 0)
        parts.append(text(x, top - 10, short, anchor=anchor, turn=turn, hint=name))
        for column in range(size):
            x = left + column * cell_width
            parts.append(_cell(counts, row, column, x, y, cell_width - 4, cell_height - 4))
    middle = left + size * cell_width / 2, top + size * cell_height / 2
    parts.append(text(middle[0], 56, "prediction", anchor="middle", look="dim"))
    parts.append(text(24, middle[1], "label", anchor="middle", look="dim", turn=-90))
    right = f"{int(np.trace(counts)):,} of {int(counts.sum()):,} on the diagonal are right"
    width = max(left + size * cell_width + 16 + (0.8 * longest if steep else 0), 340)
    return svg(round(width), round(top + size * cell_height + 12), "Confusion matrix", right, parts)


def _cell(
    counts: np.ndarray, row: int, column: int, x: float, y: float, width: float, height: float
) -> str:
    count, total = int(counts[row, column]), int(counts[row].sum())
    share = count / total if total else 0.0
    shade = 0.06 + 0.5 * share  # never so dark that the text would need another colour
    frame = 'class="gb-f0 gb-s0" stroke-width="2"' if row == column else 'class="gb-f0"'
    middle = x + width / 2
    return (
        f'<rect {frame} fill-opacity="{shade:.2f}" x="{x:.1f}" y="{y:.1f}" '
        f'width="{width}" height="{height}" rx="5"/>'
        + text(middle, y + 23, f"{count:,}", anchor="middle", look="strong")
        + text(middle, y + 40, f"{share:.0%}", anchor="middle", look="dim small")
    )


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"
