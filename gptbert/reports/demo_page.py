"""The page and the table of the demonstration: both stages, and what the first is good for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptbert.errors import UserError
from gptbert.reports.curves import loss_chart
from gptbert.reports.examples import number
from gptbert.reports.figures import line_chart
from gptbert.reports.frame import (
    document,
    environment,
    facts_table,
    fraction,
    header,
    note,
    numbers_table,
    percent,
    section,
    track,
    write_text,
)
from gptbert.reports.run_folder import Run, read_object, read_run
from gptbert.reports.svg import escape
from gptbert.reports.tables import text_table

NAMES = {"bert": "BERT", "gpt": "GPT"}
QUESTION = "Which module of the standard library does a function's description come from?"
HEADER = (
    "model", "parameters", "held-out text, after pre-training",
    "from random weights", "from pre-trained", "gain",
)  # fmt: skip
FOOTER = "Made by gptbert from demo.json and the run folders beside it."


def demo_table(summary: Mapping[str, Any]) -> str:
    """The table for a terminal: accuracies on the dev set from both starts, with their error."""
    return f"{text_table(_rows(summary), HEADER)}\n{_told(summary)}"


def write_demo_page(workdir: Path) -> tuple[Path, Path]:
    """Writes `report.html` and `accuracy.svg` into a finished demonstration's folder.

    Read are `demo.json` and the run folders that it names.

    Returns:
      The paths of the page and of the picture.

    Raises:
      UserError: A file is missing or damaged, or the folder cannot be written.
    """
    path = workdir / "demo.json"
    summary = read_object(path)
    try:
        runs = {
            model["name"]: [read_run(workdir / folder) for folder in model["folders"]]
            for model in summary["models"]
        }
        picture = _accuracy_chart(runs)
        page = _page(summary, runs, picture)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error!r}); expected that of gptbert demo") from None
    paths = workdir / "report.html", workdir / "accuracy.svg"
    write_text(paths[1], picture)
    write_text(paths[0], page)
    return paths


def _page(summary: Mapping[str, Any], runs: Mapping[str, list[Run]], picture: str) -> str:
    texts = summary["texts"]
    facts = [
        f"Python {summary['python']}",
        f"{texts['documents']:,} documents",
        f"{texts['words']:,} words",
        f"{texts['bytes'] / 1e6:.1f} MB",
        f"{texts['train']:,} labelled descriptions",
    ]
    losses = "".join(_losses(name, each[0]) for name, each in runs.items())
    parts = [
        header("Demonstration", "What pre-training is good for", facts),
        _cards(summary),
        section(QUESTION, _table(summary)),
        section("Fine-tuning", f"<figure>{picture}</figure>"),
        section("Pre-training", losses),
        _samples(summary["samples"]),
        section("Models and time", facts_table(_details(summary))),
        section("Environment", facts_table(_environment(runs))),
    ]
    return document("gptbert demo", parts, FOOTER)


def _cards(summary: Mapping[str, Any]) -> str:
    """Accuracy from pre-trained weights, with that from random weights as a mark."""
    cards = []
    for model in summary["models"]:
        after, before = model["pretrained"]["accuracy"], model["random"]["accuracy"]
        mark = f'<div class="mark" style="left:{percent(before)}"></div>'
        cards.append(
            f"<section><h2>{escape(_name(model))}, accuracy on the dev set</h2>"
            f'<p class="big">{fraction(after)}</p>{track(after, mark)}'
            f"{note(f'{fraction(before)} from random weights (mark)')}</section>"
        )
    return f'<div class="cards">{"".join(cards)}</div>\n'


def _table(summary: Mapping[str, Any]) -> str:
    rows = [(row[0], [escape(cell) for cell in row[1:]]) for row in _rows(summary)]
    return numbers_table([text.capitalize() for text in HEADER], rows) + note(_told(summary))


def _rows(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for model in summary["models"]:
        after, before = model["pretrained"]["accuracy"], model["random"]["accuracy"]
        rows.append(
            [
                _name(model), f"{model['parameters']:,}", _held_out(model["pretraining"]),
                fraction(before), fraction(after), fraction(after - before, sign="+"),
            ]
        )  # fmt: skip
    return rows


def _held_out(pretraining: Mapping[str, Any]) -> str:
    metrics = pretraining["metrics"]
    told = f"perplexity {number(float(metrics['perplexity']))}"
    if "nsp_accuracy" in metrics:
        return f"{told}, next sentence {metrics['nsp_accuracy']:.3f}"
    return f"{told}, {metrics['bits_per_byte']:.2f} bits a byte"


def _told(summary: Mapping[str, Any]) -> str:
    """What the accuracies are of, and how far chance alone may carry them."""
    texts = summary["texts"]
    examples, classes = texts["dev"], ", ".join(texts["classes"])
    majority = summary["models"][0]["majority"]["accuracy"]
    error = math.sqrt(0.25 / examples)
    return (
        f"Accuracy over {examples:,} descriptions of functions in {classes}, after fine-tuning "
        f"on {texts['train']:,} others; the most frequent module alone gives {majority:.3f}, the "
        f"standard error of an accuracy is at most {error:.3f}. The functions that are scored are "
        "not in the text of the pre-training."
    )


def _accuracy_chart(runs: Mapping[str, list[Run]]) -> str:
    lines = {}
    for name, (_, pretrained, random) in runs.items():
        for start, run in (("pre-trained", pretrained), ("random", random)):
            lines[f"{NAMES.get(name, name)}, {start}"] = run.series.get("eval/accuracy", [])
    return line_chart(
        lines, title="Accuracy on the dev set while fine-tuning", x_label="step",
        y_label="accuracy",
    )  # fmt: skip


def _losses(name: str, run: Run) -> str:
    chart = loss_chart(
        run.series, scored="held-out", title=f"{NAMES.get(name, name)}: loss of pre-training"
    )
    return f"<figure>{chart}</figure>"


def _samples(samples: list[str]) -> str:
    told = "The GPT goes on after the first words, each next token drawn from the ten likeliest."
    lines = "\n\n".join(escape(sample) for sample in samples)
    return section("What the GPT writes", f"{note(told)}<pre>{lines}</pre>")


def _details(summary: Mapping[str, Any]) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = []
    for model in summary["models"]:
        name, seconds, learnt = _name(model), model["seconds"], model["pretraining"]
        facts += [
            (f"{name}: vocabulary", f"{model['vocabulary']:,} entries ({model['kind']})"),
            (f"{name}: text", f"{model['tokens']:,} tokens"),
            (
                f"{name}: pre-training",
                f"{learnt['steps']:,} steps, {learnt['epochs']:.1f} passes, "
                f"{seconds['pretrain']:,.0f} s",
            ),
            (
                f"{name}: held-out",
                f"{learnt['held_out']['predictions']:,} predictions",
            ),
            (
                f"{name}: fine-tuning",
                f"{seconds['finetune']:,.0f} s; from random weights {seconds['random']:,.0f} s",
            ),
        ]
    return facts


def _environment(runs: Mapping[str, list[Run]]) -> list[tuple[str, object]]:
    results = next(iter(runs.values()))[0].results
    kept = ("device_kind", "device_count", "processor", "git_commit", "versions")
    return environment({name: results[name] for name in kept if name in results})


def _name(model: Mapping[str, Any]) -> str:
    return NAMES.get(model["name"], str(model["name"]))
