"""Finished run folders as the trainer leaves them, small and made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "<script>document.title = 'taken over'</script>"


def results() -> dict[str, Any]:
    """A `results.json` whose texts try to break out of the page."""
    predictions = []
    for number in range(40):
        label = "yes" if number % 2 else "no"
        right = number % 5 != 0
        prediction = label if right else ("no" if label == "yes" else "yes")
        predictions.append(
            {
                "id": f"dev-{number}",
                "texts": [f"text {number} {SCRIPT}", '"><img src=x onerror=alert(1)> שלום'],
                "label": label,
                "prediction": prediction,
                "probabilities": {prediction: 0.5 + number / 100, "other": 0.5 - number / 100},
            }
        )
    return {
        "task": "descriptions",
        "split": "dev",
        "metrics": {"accuracy": 0.8, "matthews_correlation": 0.6125},
        "majority_baseline": {"accuracy": 0.5, "matthews_correlation": 0.0},
        "before": {"accuracy": 0.4875, "matthews_correlation": -0.03},
        "examples": 40,
        "seed": 7,
        "steps": 60,
        "wall_clock_seconds": 93.25,
        "examples_per_second": 101.5,
        "tokens_per_second": 3456.0,
        "tokens_per_second_with_padding": 3789.0,
        "device_kind": "cpu",
        "device_count": 1,
        "versions": {"jax": "0.10.2", "python": "3.11.7"},
        "git_commit": "0123abc",
        "checkpoint": {"step": 40, "epoch": 2, "which": "best"},
        "predictions": predictions,
        "confusion": {"classes": ["no", "yes"], "matrix": [[16, 4], [4, 16]]},
    }


def log_lines() -> list[str]:
    records: list[dict[str, Any]] = [
        {"step": step, "train/loss": 0.7 - step / 100, "learning_rate": 5e-5 * (1 - step / 60)}
        for step in range(1, 61)
    ]
    for epoch in (1, 2, 3):
        records[20 * epoch - 1] |= {"eval/accuracy": 0.5 + epoch / 10, "eval/loss": 0.6}
    return [json.dumps(record) for record in records]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results()))
    config = {"seed": 7, "model": {"name": "bert-mini", "dropout": 0.1}, "note": SCRIPT}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("\n".join(log_lines()) + "\n")
    command = ["gptbert", "finetune", "--workdir=my runs/a"]
    (folder / "run.json").write_text(json.dumps({"command": command}))
    return folder


# --- Pre-training ---


def pretraining_results() -> dict[str, Any]:
    """The `results.json` of a BERT's pre-training."""

    def scores(loss: float) -> dict[str, float]:
        return {
            "loss": loss + 0.6875, "mlm_loss": loss, "perplexity": 100 * loss,
            "mlm_accuracy": 0.25, "nsp_accuracy": 0.5625, "nsp_loss": 0.6875,
        }  # fmt: skip

    return {
        "task": "pretraining/mlm_nsp",
        "split": "heldout",
        "metrics": scores(5.5),
        "checkpoint": {"step": 60, "epoch": 1.5, "which": "last"},
        "evaluations": [
            {"step": 30, "epoch": 0.75, "metrics": scores(6.25)},
            {"step": 60, "epoch": 1.5, "metrics": scores(5.5)},
        ],
        "held_out": {"examples": 376, "tokens": 23950, "predictions": 3738, "bytes": 0.0},
        "parameters": 4433468,
        "notes": [f"newly initialised: {SCRIPT}"],
        "seed": 3,
        "steps": 60,
        "epochs": 1.5,
        "shapes": ["32 x 64"],
        "hyperparameters": {"model": "bert-tiny"},
        "train_seconds": 32.25,
        "tokens": 117022,
        "tokens_per_second": 3628.5,
        "tokens_per_second_with_padding": 3807.25,
        "device_kind": "cpu",
        "versions": {"jax": "0.10.2"},
        "wall_clock_seconds": 59.5,
    }


def pretraining_log() -> list[dict[str, Any]]:
    """What it logged on the way."""
    records: list[dict[str, Any]] = [
        {
            "step": step, "train/loss": 8.0 - step / 50, "train/mlm_accuracy": step / 300,
            "train/gradient_norm": 1.5, "learning_rate": 1e-3 * (1 - step / 60),
            "tokens_per_second": 3600.0, "memory_bytes": 2.0**30,
            # The first two steps take fifty times as long, and wait for a tenth of it.
            "examples_per_second": 100.0 if step > 2 else 2.0,
            "data_wait": 0.0025 if step > 2 else 0.1,
            "model_flops_per_second": 2.5e10,
        }
        for step in range(2, 61, 2)
    ]  # fmt: skip
    for record in pretraining_results()["evaluations"]:
        scores = {f"eval/{name}": value for name, value in record["metrics"].items()}
        records.insert(
            record["step"] // 2 + record["step"] // 60, {"step": record["step"]} | scores
        )
    return records


def write_pretraining_folder(folder: Path) -> Path:
    """Makes the folder of a finished pre-training."""
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(pretraining_results()))
    (folder / "config.json").write_text(json.dumps({"config": {"corpus": "store"}}))
    lines = [json.dumps(record) for record in pretraining_log()]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "run.json").write_text(json.dumps({"command": "gptbert pretrain --workdir=run"}))
    return folder


@pytest.fixture
def pretraining_folder(tmp_path: Path) -> Path:
    return write_pretraining_folder(tmp_path / "run")
