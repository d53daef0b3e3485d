"""How fast one pre-training step is on this CPU, against `transformers` + PyTorch, and why.

Claim: a step that projects only the masked words on the vocabulary, draws its dropout from a hash
and keeps its memory is a multiple faster than the usual loop; the report separates what is less
work from what is the same work done faster. Contestants are processes of their own that take
blocks of steps in turn (A B C A B C …), so that a machine whose speed drifts drifts for all.

    python experiments/speed/pretrain.py steps                        # all models, both dropouts
    python experiments/speed/pretrain.py steps --models gpt2-124m --dropouts 0
    python experiments/speed/pretrain.py report                       # results/pretrain.md
    python experiments/speed/pretrain.py steps --quick                # tiny models, nothing kept

Models and shapes are in `pretrain_cases.py`, contestants in `pretrain_gptbert.py` and
`pretrain_reference.py`; `pretrain_products.py` times the matrix products of the step alone. A step
is everything from the host's batch to the updated state: forward, backward, clipping at 1.0, the
optimizer, the loss read. Tokens and weights are random, both sides get the same shapes.

Raw results go to results/pretrain.jsonl, all contestants of a block at once; what a machine of the
same name has done is not done again, unless float32 is multiplied otherwise since. Nothing else may
run on the machine meanwhile. About 20 GB of memory are taken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from finetune import records
from pretrain_cases import CASES, QUICK_CASES, SEED, Case
from pretrain_orders import Contestant
from pretrain_report import is_superseded, report, unit_of

from gptbert.processor import processor
from gptbert.runs.record import git_commit

RESULTS = Path(__file__).parent / "results"
# Kind -> script, in the order of their turns. Only BERT has those of `MASKED_ONLY`.
SCRIPTS = {
    "gptbert": "pretrain_gptbert.py",
    "gptbert bfloat16": "pretrain_gptbert.py",
    "eager": "pretrain_reference.py",
    "gptbert all": "pretrain_gptbert.py",
    "eager gathered": "pretrain_reference.py",
    "compiled": "pretrain_reference.py",
    "autocast": "pretrain_reference.py",
    "products xla": "pretrain_products.py",
    "products torch": "pretrain_products.py",
}
MASKED_ONLY = ("gptbert all", "eager gathered")
PRODUCTS = ("products xla", "products torch")
# A contestant's turn takes about so long, at most so many steps.
TURN_SECONDS, TURN_STEPS = 10.0, 8
# Who is so many times slower than eager PyTorch is not asked again after the first block.
TOO_SLOW = 5.0


def groups_of(case: Case) -> list[list[str]]:
    """Who takes turns with whom; all of a group are in memory at once.

    A large model's contestants come in two groups, with gptbert and eager PyTorch in both.
    """
    steps = [
        kind
        for kind in SCRIPTS
        if kind not in PRODUCTS and (case.masked or kind not in MASKED_ONLY)
    ]
    if not (case.large and case.masked):
        return [steps, list(PRODUCTS)]
    first = [kind for kind in steps if kind not in MASKED_ONLY]
    return [first, ["gptbert", "eager", *MASKED_ONLY], list(PRODUCTS)]


def kinds_of(kinds: list[str], known: list[dict]) -> list[str]:
    """Who of a group takes part in the next block."""
    fastest = {
        kind: min((s for r in known if r["contestant"] == kind for s in r["seconds"]), default=0.0)
        for kind in kinds
    }
    limit = TOO_SLOW * (fastest.get("eager") or float("inf"))
    return [kind for kind in kinds if fastest[kind] <= limit]


def start(kinds: list[str], case: Case, dropout: float) -> list[tuple[Contestant, int]]:
    """Starts and warms up one process a kind, one after another; with the steps of its turns."""
    ready = []
    for kind in kinds:
        each = Contestant(SCRIPTS[kind], kind, case.model, dropout)
        each.wait_until_ready()
        if kind in PRODUCTS:
            ready.append((each, 3))
            continue
        first, last = each.steps(1)["seconds"][0], each.steps(1)["seconds"][0]
        each.about["first_step_seconds"] = first
        ready.append((each, max(1, min(TURN_STEPS, round(TURN_SECONDS / last)))))
        print(f"{case.model}, dropout {dropout:g}: {kind} ready, {last:.2f} s a step", flush=True)
    return ready


def time_case(path: Path, case: Case, dropout: float, blocks: int) -> None:
    """The blocks of one model and dropout that are not there yet."""
    unit = (str(processor()), case.model, dropout)
    for number, kinds in enumerate(groups_of(case)):
        known = [
            r
            for r in records(path)
            if unit_of(r) == unit and r["group"] == number and not is_superseded(r)
        ]
        _time_group(path, case, dropout, blocks, number, kinds, known)


def _time_group(
    path: Path,
    case: Case,
    dropout: float,
    blocks: int,
    group: int,
    kinds: list[str],
    known: list[dict],
) -> None:
    missing = [block for block in range(blocks) if block not in {r["block"] for r in known}]
    if not missing:
        return
    ready = start(kinds_of(kinds, known), case, dropout)
    about = {"hardware": str(processor()), "git_commit": git_commit(), "seed": SEED}
    for block in missing:
        taking_part = kinds_of(kinds, known)
        found = [
            {"model": case.model, "dropout": dropout, "group": group, "block": block}
            | {"contestant": each.kind}
            | each.steps(count)
            | {"tokens_a_step": case.rows * case.positions, "about": each.about | about}
            for each, count in ready
            if each.kind in taking_part
        ]
        _append(path, found)
        known += found
        for record in found:
            median = statistics.median(record["seconds"])
            print(f"  block {block}: {record['contestant']} {median:.3f} s", flush=True)
    for each, _ in ready:
        each.end()


def _append(path: Path, found: list[dict]) -> None:
    """Adds the measurements of one block, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in found))


def time_steps(path: Path, cases: list[Case], dropouts: list[float], blocks: int) -> None:
    """Everything that is not there yet."""
    for case in cases:
        for dropout in dropouts:
            time_case(path, case, dropout, blocks)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("steps", "report"))
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--dropouts", nargs="+", type=float, default=[0.1, 0.0])
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny models, one block, not kept")
    flags = parser.parse_args()
    if flags.quick:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pretrain.jsonl")
            time_steps(path, list(QUICK_CASES.values()), [0.1], 1)
            print(report(records(path)))
        return
    path = RESULTS / "pretrain.jsonl"
    if flags.what == "steps":
        time_steps(path, [CASES[model] for model in flags.models], flags.dropouts, flags.blocks)
        return
    text = report(records(path))
    (RESULTS / "pretrain.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
