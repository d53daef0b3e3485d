"""The page of a pre-training run: losses, rate, held-out figures with their denominator, speed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptbert.reports.curves import smoothed
from gptbert.reports.examples import number
from gptbert.reports.figures import line_chart
from gptbert.reports.frame import (
    command_section,
    document,
    environment,
    facts_table,
    flattened,
    header,
    note,
    numbers_table,
    section,
    title,
    track,
)
from gptbert.reports.run_folder import Run, Series
from gptbert.reports.svg import escape

FOOTER = (
    "Losses are in nats; perplexity is that of the masked words or of the next tokens. Made by "
    "gptbert from results.json, config.json and metrics.jsonl."
)
_BEST_OF_CARDS = ("perplexity", "mlm_accuracy", "nsp_accuracy", "accuracy", "bits_per_byte")


def pretraining_page(run: Run, loss: str) -> str:
    """The whole page; `loss` is the figure of the loss."""
    parts = [
        _header(run),
        _cards(run.results),
        section("Training", f"<figure>{loss}</figure>{_further_curves(run.series)}"),
        section("Held-out evaluations", _evaluations(run.results)),
        section("Throughput", facts_table(_throughput(run))),
        _notes(run.results),
        command_section(run.command),
        section("Hyper-parameters", facts_table(flattened(run.config))),
        section("Environment", facts_table(environment(run.results))),
    ]
    return document(f"{run.results['task']} · {run.results['split']}", parts, FOOTER)


# --- What came out ---


def _header(run: Run) -> str:
    results = run.results
    recipe = results.get("hyperparameters") or {}
    facts = [str(recipe["model"])] if recipe.get("model") else []
    if recipe.get("init_from"):  # whose shape is taken, whatever the preset
        facts = [f"from {Path(str(recipe['init_from'])).name}"]
    facts += [
        f"{number(results[k])} {k}" for k in ("parameters", "steps", "tokens") if k in results
    ]
    if "epochs" in results:
        facts.append(f"{number(results['epochs'])} epochs")
    if "seed" in results:
        facts.append(f"seed {results['seed']}")
    return header("Pre-training report", results["task"], facts)


def _cards(results: Mapping[str, Any]) -> str:
    """The held-out metrics as large numbers; accuracies on a track from 0 to 1."""
    metrics, first = results["metrics"], (results.get("evaluations") or [{}])[0]
    cards = []
    for name in (name for name in _BEST_OF_CARDS if name in metrics):
        before = (first.get("metrics") or {}).get(name)
        then = f"{value_of(name, before)} at step {first['step']:,}" if before is not None else ""
        bar = track(metrics[name]) if name.endswith("accuracy") else ""
        cards.append(
            f'<section><h2>{escape(title(name))}</h2><p class="big">'
            f"{value_of(name, metrics[name])}</p>{bar}{note(then)}</section>"
        )
    return f'<div class="cards">{"".join(cards)}</div>\n' if cards else ""


def _evaluations(results: Mapping[str, Any]) -> str:
    held_out = results.get("held_out")
    if not held_out:
        return note("Nothing was held out, so nothing was scored.")
    told = (
        f"Over {held_out['predictions']:,} predictions in {held_out['examples']:,} examples "
        f"({held_out['tokens']:,} tokens), the same ones each time."
    )
    names = list(results["metrics"])
    rows = [
        (
            f"{each['step']:,}",
            [
                number(float(each["epoch"])),
                *(value_of(name, each["metrics"].get(name)) for name in names),
            ],
        )
        for each in results.get("evaluations") or []
    ]
    return note(told) + numbers_table(["Step", "Epoch", *map(title, names)], rows)


def value_of(name: str, value: float | None) -> str:
    """A held-out figure: perplexities in three digits, all else with four decimals."""
    if value is None:
        return "-"
    return number(float(value)) if name == "perplexity" else f"{value:.4f}"


def _notes(results: Mapping[str, Any]) -> str:
    found = [str(each) for each in results.get("notes") or []]
    return section("Notes", "".join(map(note, found))) if found else ""


# --- Curves and speed ---


def _further_curves(series: Series) -> str:
    """Accuracies, gradient norm and learning rate, as far as they were logged."""
    charts = [_accuracies(series)]
    for name, heading, label in (
        ("learning_rate", "Learning rate", "rate"),
        ("train/gradient_norm", "Gradient norm", "norm before clipping"),
    ):
        if points := series.get(name):
            lines, faint = smoothed(label, points) if "norm" in name else ({label: points}, ())
            charts.append(
                line_chart(lines, title=heading, x_label="step", y_label=label, faint=faint)
            )
    return "".join(f"<figure>{chart}</figure>" for chart in charts if chart)


def _accuracies(series: Series) -> str:
    lines: dict[str, list[tuple[float, float]]] = {}
    faint: tuple[str, ...] = ()
    for name, points in series.items():
        if name.startswith("train/") and name.endswith("accuracy"):
            metric = name.removeprefix("train/").removeprefix("token_")
            mean, pale = smoothed(f"{title(metric)}, training", points)
            lines, faint = lines | mean, faint + pale
            if scored := series.get(f"eval/{metric}"):
                lines[f"{title(metric)}, held out"] = scored
    if not lines:
        return ""
    return line_chart(lines, title="Accuracy", x_label="step", y_label="fraction", faint=faint)


def _waiting(series: Series) -> str:
    """Of the whole time, stretches without data to work on; each counts as long as it took."""
    waits, speeds = (dict(series.get(name, ())) for name in ("data_wait", "examples_per_second"))
    both = [step for step in waits if speeds.get(step)]
    # Steps through their speed: seconds, up to the size of a batch.
    seconds = [(at - last) / speeds[at] for last, at in zip([0.0, *both], both, strict=False)]
    waited = sum(waits[at] * took for at, took in zip(both, seconds, strict=True))
    return f"{waited / sum(seconds):.2%}" if both else ""


def _throughput(run: Run) -> list[tuple[str, object]]:
    """Speed over the whole run and as logged: the median, so that a pause counts for little."""
    results = run.results
    facts: list[tuple[str, object]] = [
        (name, number(results[key]))
        for key, name in (
            ("train_seconds", "seconds of training, without evaluations and saving"),
            ("tokens", "tokens read"),
            ("tokens_per_second", "tokens per second"),
            ("tokens_per_second_with_padding", "tokens per second, padding included"),
        )
        if key in results
    ]
    logged = {name: [value for _, value in points] for name, points in run.series.items()}
    if values := logged.get("model_flops_per_second"):
        facts.append(("model GFLOP/s, median", number(statistics.median(values) / 1e9)))
    if values := logged.get("utilisation"):
        facts.append(("share of the device's peak, median", f"{statistics.median(values):.1%}"))
    elif "device_kind" in results:
        facts.append(
            ("share of the device's peak", f"no published peak for {results['device_kind']}")
        )
    if share := _waiting(run.series):
        facts.append(("share of the time spent waiting for data", share))
    if values := logged.get("memory_bytes"):
        facts.append(("memory, largest", f"{max(values) / 2**30:.2f} GiB"))
    if shapes := results.get("shapes"):
        facts.append(("shapes of the batches", ", ".join(map(str, shapes))))
    return facts
