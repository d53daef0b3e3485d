"""Stage `pretrain`: the three models, one after the other, as a user would pre-train them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from learn_cases import MODELS, pretraining_fields
from learn_prepare import HELD_OUT
from learn_records import Place, append, kept, records, run

from gptbert.training.run_log import read_metrics

KEPT = (
    "task", "metrics", "evaluations", "held_out", "parameters", "seed", "steps", "epochs",
    "shapes", "tokens", "tokens_per_second", "train_seconds", "wall_clock_seconds",
)  # fmt: skip


def pretrain(place: Place) -> None:
    """Makes the runs that are missing, in the results or on the disk (fine-tuning needs them)."""
    for name in place.models:
        model = MODELS[name]
        about, workdir = place.results / "pretrain.jsonl", place.run("pretrain", name)
        known = any(r["model"] == name for r in records(about))
        if known and (workdir / "results.json").exists():
            continue
        fields = pretraining_fields(model, quick=place.quick) | {
            "corpus": place.store(model.vocabulary),
            "held_out_corpus": place.store(model.vocabulary, HELD_OUT),
            "compute_dtype": place.compute_dtype,
        }
        found, seconds = run("pretrain", model.config, fields, workdir)
        if not known:
            append(about, {"model": name, **kept(found, KEPT), "processor_seconds": seconds,
                           "curve": training_curve(workdir)})  # fmt: skip
        print(name, found["metrics"], flush=True)


def training_curve(workdir: Path) -> list[tuple[int, float]]:
    """(step, mean loss since the record before) of a run."""
    logged: list[dict[str, Any]] = read_metrics(workdir / "metrics.jsonl")
    return [(r["step"], round(r["train/loss"], 4)) for r in logged if "train/loss" in r]
