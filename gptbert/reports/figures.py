"""Figures as SVG, written by hand: a line chart and a confusion matrix.

Each is one `<svg>` element that stands alone as a file or inside an HTML page: it carries its
style, follows the reader's dark or light setting, names its content for screen readers, and
tells lines apart by dashes as well as by colour. All texts are escaped.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, BOTTOM = 68, 24, 52
LEGEND_LINE = 20
MOST_POINTS = 1000  # more would only make the file large: a point is wider than a pixel
MARKED_POINTS = 30  # up to so many points are drawn as dots, which show their values
LINES = 6  # colours and dashes before they repeat
STYLE = """
.gb{--ink:#1c2430;--dim:#5b6675;--rule:#d9dee6;--ground:#fff;--c0:#1f5fbf;--c1:#b4460f;--c2:#0b7468;
--c3:#7a3fc4;--c4:#8a6a00;--c5:#b3266b;background:var(--ground);max-width:100%;height:auto;
font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
@media (prefers-color-scheme:dark){.gb{--ink:#e8ecf2;--dim:#9aa5b4;--rule:#323b49;--ground:#161c26;
--c0:#7db0ff;--c1:#ff9d66;--c2:#54d3c2;--c3:#c3a4ff;--c4:#e6c455;--c5:#ff8fc0}}
.gb text{fill:var(--ink)}.gb .gb-dim{fill:var(--dim)}.gb .gb-title{font-size:16px;font-weight:600}
.gb .gb-grid{stroke:var(--rule);fill:none}.gb .gb-axis{stroke:var(--dim);fill:none}
.gb .gb-line{fill:none;stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}
.gb .gb-faint{stroke-width:1.25;opacity:.4}
.gb .gb-dot{stroke:var(--ground);stroke-width:1.5}
""" + "".join(
    f".gb .gb-s{i}{{stroke:var(--c{i})}}.gb .gb-f{i}{{fill:var(--c{i})}}\n" for i in range(LINES)
)
DASHES = ("", "7 5", "2 5", "12 4 2 4", "4 3", "1 4")


def escape(text: object) -> str:
    """Text for HTML and XML: markup escaped, characters that XML forbids shown as U+FFFD."""
    forbidden = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]"
    return html.escape(re.sub(forbidden, "\ufffd", str(text)), quote=True)


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
      faint: Names drawn thin and pale, for instance the raw values behind a smoothed line.
    """
    lines = {name: _thinned(sorted(points)) for name, points in series.items()}
    seen = [point for points in lines.values() for point in points if _finite(point)]
    legend, legend_height = _legend(list(lines), faint)
    top = 46 + legend_height
    plot = _Plot.around(seen, top)
    parts = [_axes(plot, x_label, y_label)]
    for index, (name, points) in enumerate(lines.items()):
        parts.append(_line(plot, name, points, index % LINES, name in faint))
    if not seen:
        middle = (top + HEIGHT - BOTTOM) / 2
        parts.append(f'<text class="gb-dim" x="{WIDTH / 2}" y="{middle}" text-anchor="middle">'
                     "no values were logged</text>")  # fmt: skip
    summary = "; ".join(_in_words(name, points) for name, points in lines.items())
    return _svg(WIDTH, HEIGHT, title, f"{y_label} over {x_label}: {summary}", legend + parts)


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
    for value, text in zip(plot.y_ticks, _tick_texts(plot.y_ticks), strict=True):
        y = plot.y(value)
        parts.append(f'<path class="gb-grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="gb-dim" x="{LEFT - 9}" y="{y + 4.5:.1f}" '
                     f'text-anchor="end">{text}</text>')  # fmt: skip
    for value, text in zip(plot.x_ticks, _tick_texts(plot.x_ticks), strict=True):
        x = plot.x(value)
        parts.append(f'<path class="gb-axis" d="M{x:.1f} {bottom}v5"/>')
        parts.append(f'<text class="gb-dim" x="{x:.1f}" y="{bottom + 20}" '
                     f'text-anchor="middle">{text}</text>')  # fmt: skip
    parts.append(f'<path class="gb-axis" d="M{LEFT} {bottom}H{right}"/>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" '
                 f'text-anchor="middle">{escape(x_label)}</text>')  # fmt: skip
    middle = (plot.top + bottom) / 2
    parts.append(f'<text transform="translate(18 {middle:.1f}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y_label)}</text>')  # fmt: skip
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


def _line(plot: _Plot, name: str, points: Points, index: int, faint: bool) -> str:
    path, pen_down = [], False
    for point in points:
        if _finite(point):
            command = "L" if pen_down else "M"
            path.append(f"{command}{plot.x(point[0]):.1f} {plot.y(point[1]):.1f}")
        pen_down = _finite(point)
    if not path:
        return ""
    look = f"gb-line gb-s{index}" + (" gb-faint" if faint else "")
    dashes = f' stroke-dasharray="{DASHES[index]}"' if DASHES[index] and not faint else ""
    line = f'<path class="{look}"{dashes} d="{"".join(path)}"/>'
    few = len(points) <= MARKED_POINTS and not faint
    dots = (_dot(plot, name, point, index) for point in points if few and _finite(point))
    return line + "".join(dots)


def _dot(plot: _Plot, name: str, point: tuple[float, float], index: int) -> str:
    x, y = point
    hint = f"{escape(name)}: {y:.4g} at {x:,.10g}"
    return (f'<circle class="gb-dot gb-f{index}" cx="{plot.x(x):.1f}" cy="{plot.y(y):.1f}" r="4">'
            f"<title>{hint}</title></circle>")  # fmt: skip


def _legend(names: Sequence[str], faint: Collection[str]) -> tuple[list[str], int]:
    """Returns the legend's elements and its height; entries wrap as words do."""
    parts, x, y = [], float(LEFT), 46
    for index, name in enumerate(names):
        width = 34 + 7.2 * len(name) + 22
        if x + width > WIDTH - RIGHT and x > LEFT:
            x, y = float(LEFT), y + LEGEND_LINE
        look = f"gb-line gb-s{index % LINES}" + (" gb-faint" if name in faint else "")
        dashes = DASHES[index % LINES] if name not in faint else ""
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(f'<path class="{look}"{dashed} d="M{x:.1f} {y}h26"/>')
        parts.append(f'<text x="{x + 34:.1f}" y="{y + 4.5}">{escape(name)}</text>')
        x += width
    return parts, (y - 46 + LEGEND_LINE if names else 0)


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
        parts.append(_class_name(name, left - 10, y + cell_height / 2 + 2.5, "end"))
        turn = f"rotate(-38 {x:.1f} {top - 10:.1f})" if steep else ""
        parts.append(_class_name(name, x, top - 10, "start" if steep else "middle", turn))
        for column in range(size):
            x = left + column * cell_width
            parts.append(_cell(counts, row, column, x, y, cell_width - 4, cell_height - 4))
    parts.append(f'<text class="gb-dim" x="{left + size * cell_width / 2:.1f}" y="56" '
                 'text-anchor="middle">prediction</text>')  # fmt: skip
    parts.append(f'<text class="gb-dim" text-anchor="middle" transform="translate(24 '
                 f'{top + size * cell_height / 2:.1f}) rotate(-90)">label</text>')  # fmt: skip
    right = f"{int(np.trace(counts)):,} of {int(counts.sum()):,} on the diagonal are right"
    width = max(left + size * cell_width + 16 + (0.8 * longest if steep else 0), 340)
    height = round(top + size * cell_height + 12)
    return _svg(round(width), height, "Confusion matrix", right, parts)


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
        f'<text x="{middle:.1f}" y="{y + 23:.1f}" text-anchor="middle" font-weight="600">{count:,}'
        f'</text><text class="gb-dim" x="{middle:.1f}" y="{y + 40:.1f}" text-anchor="middle" '
        f'font-size="11">{share:.0%}</text>'
    )


def _class_name(name: str, x: float, y: float, anchor: str, turn: str = "") -> str:
    turned = f' transform="{turn}"' if turn else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>'
            f"<title>{escape(name)}</title>{escape(_short(name))}</text>")  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"


def _svg(width: int, height: int, title: str, summary: str, parts: Sequence[str]) -> str:
    label = escape(f"{title}. {summary}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gb" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f'<text class="gb-title" x="16" y="26">{escape(title)}</text>{"".join(parts)}</svg>'
    )
