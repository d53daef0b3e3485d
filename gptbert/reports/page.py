"""One finished run as one HTML page that opens anywhere: no script, no network, no other file.

Whatever comes from data or config is escaped, and a content security policy in the page forbids
scripts and requests even if a text should ever slip through. Right and wrong are told by a word
and a sign, never by colour alone.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.errors import UserError
from gptbert.metrics.glue import confusion_matrix, is_constant
from gptbert.reports.examples import examples_table, folded, number
from gptbert.reports.figures import confusion_chart, line_chart
from gptbert.reports.run_folder import Run, Series, read_run
from gptbert.reports.style import STYLE
from gptbert.reports.svg import escape

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
MOST_CLASSES = 20  # a larger confusion matrix would not be readable
ACRONYMS = {"f1": "F1"}


def write_page(workdir: Path) -> Path:
    """Writes `report.html` and `loss.svg` into a finished run's folder; returns the page's path.

    Read are `results.json`, `config.json`, `metrics.jsonl` and, if there, `run.json`. UserError
    if one is missing, torn or without a required key, or the folder cannot be written.
    """
    run = read_run(Path(workdir))
    loss = loss_chart(run.series)
    _write(run.folder / "loss.svg", loss)
    page = run.folder / "report.html"
    _write(page, _page(run, loss))
    return page


def _page(run: Run, loss: str) -> str:
    title = f"{run.results['task']} · {run.results['split']}"
    parts = [
        _header(run),
        _cards(run.results),
        _warning(run.results),
        _metrics_table(run.results),
        _section("Training", f"<figure>{loss}</figure>{_evaluation_figure(run)}"),
        _confusion(run.results),
        _examples(run.results),
        _section("Command", f"<pre>{escape(run.command)}</pre>") if run.command else "",
        _section("Hyper-parameters", _facts(_flattened(run.config))),
        _section("Environment", _facts(_environment(run.results))),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}<footer>Metrics are fractions; papers print them times "
        "100. Made by gptbert from results.json, config.json and metrics.jsonl.</footer>"
        "</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


# --- What came out ---


def _header(run: Run) -> str:
    results = run.results
    facts = [f"split {results['split']}", f"{results['examples']:,} examples"]
    if "seed" in results:
        facts.append(f"seed {results['seed']}")
    checkpoint = results.get("checkpoint") or {}
    if checkpoint:
        facts.append(
            f"{checkpoint.get('which', '')} checkpoint: step {checkpoint.get('step', '?')}, "
            f"epoch {number(checkpoint.get('epoch', '?'))}"
        )
    return (
        f'<header><p class="eyebrow">Fine-tuning report</p><h1>{escape(results["task"])}</h1>'
        f"<p>{escape(' · '.join(facts))}</p></header>\n"
    )


def _cards(results: Mapping[str, Any]) -> str:
    """Each metric as a large number on a track from 0 to 1, with the baseline as a mark."""
    cards = []
    for name, value in results["metrics"].items():
        baseline = (results.get("majority_baseline") or {}).get(name)
        before = (results.get("before") or {}).get(name)
        marks, notes = "", []
        if before is not None:
            notes.append(f"{_fraction(before)} before training")
        if baseline is not None:
            marks = f'<div class="mark" style="left:{_percent(baseline)}"></div>'
            notes.append(f"{_fraction(baseline)} majority class (mark)")
        cards.append(
            f'<section><h2>{escape(_title(name))}</h2><p class="big">{_fraction(value)}</p>'
            f'<div class="track" aria-hidden="true"><div class="fill" '
            f'style="width:{_percent(value)}"></div>{marks}</div>'
            f'<p class="note">{"<br>".join(notes)}</p></section>'
        )
    return f'<div class="cards">{"".join(cards)}</div>\n'


def _warning(results: Mapping[str, Any]) -> str:
    predictions = [row["prediction"] for row in results.get("predictions") or []]
    if len(predictions) < 2 or not is_constant(predictions):
        return ""
    return (
        f'<section><p class="warning"><strong>Collapsed run:</strong> every prediction is '
        f"{escape(number(predictions[0]))}. "
        "Another seed, a lower learning rate or more warm-up helps.</p></section>\n"
    )


def _metrics_table(results: Mapping[str, Any]) -> str:
    before = results.get("before") or {}
    baseline = results.get("majority_baseline") or {}
    head = ["Metric", *(["Before training"] if before else []), "Majority class", "After training",
            "Gain over the majority class"]  # fmt: skip
    rows = []
    for name, value in results["metrics"].items():
        cells = [_fraction(before.get(name))] if before else []
        cells += [_fraction(baseline.get(name)), f"<strong>{_fraction(value)}</strong>"]
        gain = value - baseline[name] if name in baseline else None
        cells.append(_fraction(gain, sign="+"))
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(_title(name))}</th>{numbers}</tr>')
    columns = "".join(
        f'<th scope="col"{" class=number" if index else ""}>{text}</th>'
        for index, text in enumerate(head)
    )
    table = f"<table><thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return _section("Metrics", f'<div class="scroll">{table}</div>')


def _confusion(results: Mapping[str, Any]) -> str:
    classes, matrix = _counts(results)
    if not classes or len(classes) > MOST_CLASSES:
        return ""
    chart = confusion_chart(matrix, classes)
    count = int(matrix.sum())
    of = "all" if count == results["examples"] else f"{count:,} of {results['examples']:,}"
    note = f'<p class="note">Over {of} examples; a cell\'s shade is its share of the row.</p>'
    return _section("Which classes are confused", f'{note}<div class="scroll">{chart}</div>')


def _counts(results: Mapping[str, Any]) -> tuple[list[str], np.ndarray]:
    """Class names and counts [C,C]: of the whole split if recorded, else of the predictions."""
    if recorded := results.get("confusion"):
        return list(recorded["classes"]), np.asarray(recorded["matrix"], int)
    rows = [row for row in results.get("predictions") or [] if isinstance(row.get("label"), str)]
    classes = _class_names(rows)
    labels, predictions = (
        [classes.index(row[key]) for row in rows] for key in ("label", "prediction")
    )
    empty = np.zeros((0, 0), int)
    return classes, confusion_matrix(labels, predictions, len(classes)) if rows else empty


def _class_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The classes that occur, in the model's order where the probabilities tell it."""
    occurring = {row[key] for row in rows for key in ("label", "prediction")}
    told = rows[0].get("probabilities") if rows else None
    order = list(told) if isinstance(told, Mapping) else []
    return [name for name in order if name in occurring] + sorted(occurring - set(order))


def _examples(results: Mapping[str, Any]) -> str:
    table = examples_table(results.get("predictions") or [])
    return _section("Examples", table) if table else ""


# --- Curves ---


def loss_chart(series: Series) -> str:
    """The training loss as logged (pale) with its moving average, and the evaluation's if any."""
    logged = series.get("train/loss", [])
    lines = {"training loss": logged}
    faint: tuple[str, ...] = ()
    if len(logged) >= 20:
        window = max(5, len(logged) // 20 | 1)  # odd, so that it has a centre
        faint = ("training loss, as logged",)
        lines = {
            f"training loss, mean of {window} values": _moving_average(logged, window),
            faint[0]: logged,
        }
    if "eval/loss" in series:
        lines["evaluation loss"] = series["eval/loss"]
    return line_chart(lines, title="Loss", x_label="step", y_label="loss", faint=faint)


def _evaluation_figure(run: Run) -> str:
    """The metrics on the way; the score before training is step 0."""
    before = run.results.get("before") or {}
    lines = {}
    for name, points in run.series.items():
        metric = name.removeprefix("eval/")
        if name.startswith("eval/") and metric != "loss":
            start = [(0.0, float(before[metric]))] if metric in before else []
            lines[_title(metric)] = start + [point for point in points if point[0] > 0]
    if not lines:
        return '<p class="note">No evaluation was logged on the way.</p>'
    chart = line_chart(lines, title="Evaluation", x_label="step", y_label="fraction")
    return f"<figure>{chart}</figure>"


def _moving_average(
    points: Sequence[tuple[float, float]], window: int
) -> list[tuple[float, float]]:
    """Centred, with a shorter window at both ends, so that the line starts where the data does."""
    half = window // 2
    averaged = []
    for index, (x, _) in enumerate(points):
        reach = min(half, index, len(points) - 1 - index)
        values = [y for _, y in points[index - reach : index + reach + 1]]
        averaged.append((x, sum(values) / len(values)))
    return averaged


# --- Facts ---


def _facts(facts: Iterable[tuple[str, object]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="mono">{folded(value)}</td></tr>'
        for name, value in facts
    )
    return f'<div class="scroll"><table class="facts"><tbody>{rows}</tbody></table></div>'


def _flattened(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            facts += _flattened(value, f"{prefix}{key}.")
        else:
            facts.append((prefix + key, value if isinstance(value, str) else json.dumps(value)))
    return facts


def _environment(results: Mapping[str, Any]) -> list[tuple[str, object]]:
    named = {
        "device_kind": "device",
        "device_count": "devices",
        "steps": "steps",
        "wall_clock_seconds": "wall-clock seconds",
        "examples_per_second": "examples per second",
        "tokens_per_second": "tokens per second",
        "tokens_per_second_with_padding": "tokens per second, padding included",
        "git_commit": "git commit",
    }
    facts = [(text, number(results[key])) for key, text in named.items() if key in results]
    return facts + _flattened(results.get("versions") or {})


def _fraction(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.4f}"


def _percent(fraction: float) -> str:
    """A place on the track; correlations below 0 lie at its start, NaN too."""
    return f"{100 * min(1.0, max(0.0, fraction if math.isfinite(fraction) else 0.0)):.2f}%"


def _title(name: str) -> str:
    return ACRONYMS.get(name, name.replace("_", " ").capitalize())


def _write(path: Path, text: str) -> None:
    """Writes beside the target and moves: a page is whole or absent, an older one stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from None
