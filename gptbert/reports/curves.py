"""What happened on the way, as line charts of a run's logged values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gptbert.reports.figures import line_chart
from gptbert.reports.frame import note
from gptbert.reports.frame import title as heading
from gptbert.reports.run_folder import Series

Points = list[tuple[float, float]]


def loss_chart(series: Series, *, scored: str = "evaluation", title: str = "Loss") -> str:
    """The training loss as logged (pale) with its moving average, and the evaluation's if any.

    Args:
      series: Of `metrics.jsonl`.
      scored: What the second line is called: "evaluation loss".
      title: Of the chart.
    """
    lines, faint = smoothed("training loss", series.get("train/loss", []))
    if "eval/loss" in series:
        lines[f"{scored} loss"] = series["eval/loss"]
    return line_chart(lines, title=title, x_label="step", y_label="loss", faint=faint)


def smoothed(name: str, logged: Points) -> tuple[dict[str, Points], tuple[str, ...]]:
    """A logged line, or its moving average with what was logged behind it where it is long.

    Returns:
      The lines by name, and the names of those to be drawn faint.
    """
    if len(logged) < 20:
        return {name: logged}, ()
    window = max(5, len(logged) // 20 | 1)  # odd, so that it has a centre
    raw = f"{name}, as logged"
    mean = f"{name}, mean of {window} values"
    return {mean: _moving_average(logged, window), raw: logged}, (raw,)


def evaluation_figure(series: Series, before: Mapping[str, float]) -> str:
    """The metrics on the way; the score before training is step 0."""
    lines = {}
    for name, points in series.items():
        metric = name.removeprefix("eval/")
        if name.startswith("eval/") and metric != "loss":
            start = [(0.0, float(before[metric]))] if metric in before else []
            lines[heading(metric)] = start + [point for point in points if point[0] > 0]
    if not lines:
        return note("No evaluation was logged on the way.")
    chart = line_chart(lines, title="Evaluation", x_label="step", y_label="fraction")
    return f"<figure>{chart}</figure>"


def _moving_average(points: Sequence[tuple[float, float]], window: int) -> Points:
    """Centred, with a shorter window at both ends, so that the line starts where the data does."""
    half = window // 2
    averaged = []
    for index, (x, _) in enumerate(points):
        reach = min(half, index, len(points) - 1 - index)
        values = [y for _, y in points[index - reach : index + reach + 1]]
        averaged.append((x, sum(values) / len(values)))
    return averaged
