"""A finished run folder as the trainer leaves it, small and made here."""

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
