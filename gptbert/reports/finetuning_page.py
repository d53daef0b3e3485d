"""The page of a fine-tuning run. Right and wrong are told by a word and a sign, never by colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gptbert.metrics.glue import is_constant
from gptbert.reports.curves import evaluation_figure
from gptbert.reports.examples import examples_table, number
from gptbert.reports.figures import confusion_chart
from gptbert.reports.frame import (
    command_section,
    document,
    environment,
    facts_table,
    flattened,
    fraction,
    header,
    note,
    numbers_table,
    percent,
    section,
    title,
    track,
)
from gptbert.reports.run_folder import Run
from gptbert.reports.svg import escape

MOST_CLASSES = 20  # a larger confusion matrix would not be readable
FOOTER = (
    "Metrics are fractions; papers print them times 100. Made by gptbert from results.json, "
    "config.json and metrics.jsonl."
)


def finetuning_page(run: Run, loss: str) -> str:
    """The whole page; `loss` is the figure of the loss."""
    before = run.results.get("before") or {}
    curves = f"<figure>{loss}</figure>{evaluation_figure(run.series, before)}"
    parts = [
        _header(run),
        _cards(run.results),
        _warning(run.results),
        _metrics_table(run.results),
        section("Training", curves),
        _confusion(run.results),
        _examples(run.results),
        command_section(run.command),
        section("Hyper-parameters", facts_table(flattened(run.config))),
        section("Environment", facts_table(environment(run.results))),
    ]
    return document(f"{run.results['task']} · {run.results['split']}", parts, FOOTER)


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
    return header("Fine-tuning report", results["task"], facts)


def _cards(results: Mapping[str, Any]) -> str:
    """Each metric as a large number on a track from 0 to 1, with the baseline as a mark."""
    cards = []
    for name, value in results["metrics"].items():
        baseline = (results.get("majority_baseline") or {}).get(name)
        before = (results.get("before") or {}).get(name)
        marks, notes = "", []
        if before is not None:
            notes.append(f"{fraction(before)} before training")
        if baseline is not None:
            marks = f'<div class="mark" style="left:{percent(baseline)}"></div>'
            notes.append(f"{fraction(baseline)} majority class (mark)")
        cards.append(
            f'<section><h2>{escape(title(name))}</h2><p class="big">{fraction(value)}</p>'
            f'{track(value, marks)}<p class="note">{"<br>".join(notes)}</p></section>'
        )
    return f'<div class="cards">{"".join(cards)}</div>\n'


def _warning(results: Mapping[str, Any]) -> str:
    predictions = [row["prediction"] for row in results.get("predictions") or []]
    if not predictions or not _is_collapsed(results, predictions):
        return ""
    return (
        f'<section><p class="warning"><strong>Collapsed run:</strong> every prediction is '
        f"{escape(number(predictions[0]))}. "
        "Another seed, a lower learning rate or more warm-up helps.</p></section>\n"
    )


def _is_collapsed(results: Mapping[str, Any], predictions: Sequence[str | float]) -> bool:
    """As recorded of the whole split; else seen from the predictions, if all of them are here."""
    if "collapsed" in results:
        return bool(results["collapsed"])
    return 2 <= len(predictions) == results["examples"] and is_constant(predictions)


def _metrics_table(results: Mapping[str, Any]) -> str:
    before = results.get("before") or {}
    baseline = results.get("majority_baseline") or {}
    head = ["Metric", *(["Before training"] if before else []), "Majority class", "After training",
            "Gain over the majority class"]  # fmt: skip
    rows = []
    for name, value in results["metrics"].items():
        cells = [fraction(before.get(name))] if before else []
        cells += [fraction(baseline.get(name)), f"<strong>{fraction(value)}</strong>"]
        gain = value - baseline[name] if name in baseline else None
        rows.append((title(name), [*cells, fraction(gain, sign="+")]))
    of = results.get("f1_of")
    told = note(f"F1 is that of the class {of}.") if of else ""
    return section("Metrics", f"{numbers_table(head, rows)}{told}{_other_splits(results)}")


def _other_splits(results: Mapping[str, Any]) -> str:
    """A table of the splits that do not decide, for instance MNLI's mismatched one."""
    baselines = results.get("majority_baselines") or {}
    rows = [
        (
            f"{title(name)}, {split}",
            [
                fraction((baselines.get(split) or {}).get(name)),
                f"<strong>{fraction(value)}</strong>",
            ],
        )
        for split, metrics in (results.get("splits") or {}).items()
        if split != results["split"]
        for name, value in metrics.items()
    ]
    return numbers_table(["Other splits", "Majority class", "After training"], rows) if rows else ""


def _confusion(results: Mapping[str, Any]) -> str:
    recorded = results.get("confusion")
    if not recorded or len(recorded["classes"]) > MOST_CLASSES:
        return ""
    classes, matrix = list(recorded["classes"]), np.asarray(recorded["matrix"], int)
    chart = confusion_chart(matrix, classes)
    count = int(matrix.sum())
    of = "all" if count == results["examples"] else f"{count:,} of {results['examples']:,}"
    told = f'<p class="note">Over {of} examples; a cell\'s shade is its share of the row.</p>'
    return section("Which classes are confused", f'{told}<div class="scroll">{chart}</div>')


def _examples(results: Mapping[str, Any]) -> str:
    rows, examples = results.get("predictions") or [], results["examples"]
    right = int(np.trace(results["confusion"]["matrix"])) if results.get("confusion") else None
    table = examples_table(rows, examples, right)
    return section("Examples", table) if table else ""
