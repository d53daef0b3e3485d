"""Dropout of gptbert and of PyTorch: the same loss and gradient on average, spread as widely?

Question: the masks of the two sides can never be equal, so that `parity_steps.py` leaves them out;
is dropout the same in every other respect (places, rate, scale, pooled output included)? The same
batches of the same weights are drawn again and again with fresh masks, nothing is learnt meanwhile,
and means and standard deviations over the draws are compared. Weights that have learnt the task say
more than fresh ones, whose head does not see the encoder yet:

    gptbert finetune --config=configs/glue.py:cola --config.data_dir=GLUE --config.init_from=DIR \
        --config.num_epochs=1 --workdir=RUN
    gptbert export --workdir=RUN --output=LEARNT
    python experiments/bert/parity_dropout.py --data_dir=GLUE --init_from=LEARNT --task=cola

Appends one line to results/parity_dropout.jsonl; `parity_glue.py report` tells it. Needs torch and
transformers. Cost: draws times batches steps of both sides, some minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from parity_steps import TASKS, Ours, Theirs, provenance

RESULTS = Path(__file__).parent / "results" / "parity_dropout.jsonl"
DROPOUT = 0.1


def compare(flags: argparse.Namespace) -> dict:
    """Draws on both sides, in turns; returns the line of the raw results."""
    torch.manual_seed(flags.seed)
    given = (flags.data_dir.resolve(), flags.init_from.resolve(), DROPOUT)
    ours = Ours(flags.task, flags.seed, *given)
    theirs = Theirs(flags.task, ours, *given)
    batches = []
    for batch in range(flags.batches):
        found: dict[str, list[dict[str, float]]] = {"gptbert": [], "transformers": []}
        for draw in range(flags.draws):
            found["gptbert"].append(ours.draw(batch, batch * flags.draws + draw))
            found["transformers"].append(theirs.draw(batch))
        batches.append(found)
        for side, values in found.items():
            mean = sum(each["loss"] for each in values) / len(values)
            print(f"batch {batch}: {side} loss {mean:.4f} over {len(values)} draws", flush=True)
    return {
        "task": flags.task,
        "seed": flags.seed,
        "dropout": DROPOUT,
        "weights": flags.weights,
        "batches": batches,
        "products": ours.products,
        **provenance(),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="GLUE's folder")
    parser.add_argument("--init_from", type=Path, required=True, help="weights of both sides")
    parser.add_argument("--weights", default="", help="what they are, for the report")
    parser.add_argument("--task", choices=TASKS, default="cola")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    record = compare(flags)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
