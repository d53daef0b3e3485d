"""gptbert's contestant of the speed experiment: the trainer's own steps, on orders from a driver.

Same protocol as `reference_loops.py`: a line `steps N` on stdin is answered with one JSON line.
A step is everything from the plan's batch to an updated state whose loss was read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable

from gptbert import runtime

runtime.prepare()  # before JAX: the allocator, as the console script does

import numpy as np  # noqa: E402

from gptbert.commands.config_flag import load_config  # noqa: E402
from gptbert.models.dropout import step_key  # noqa: E402
from gptbert.pipeline.batch import real_tokens  # noqa: E402
from gptbert.pipeline.plan import TrainingPlan  # noqa: E402
from gptbert.runs.assemble import assemble  # noqa: E402
from gptbert.runs.finetune import lean_vocabulary, plan_run, start_state  # noqa: E402
from gptbert.runs.record import git_commit, versions  # noqa: E402
from gptbert.training.schedules import make_schedule  # noqa: E402
from gptbert.training.state import TrainState  # noqa: E402
from gptbert.training.step import Training  # noqa: E402
from gptbert.training.trainer import CompiledSteps  # noqa: E402


def set_up(
    task: str, data_dir: str, init_from: str, compute_dtype: str = "float32"
) -> tuple[Training, TrainingPlan, Callable[[int], float], TrainState]:
    """What a run of `gptbert finetune` takes its steps with, and where it starts."""
    fields = [("data_dir", data_dir), ("init_from", init_from), ("compute_dtype", compute_dtype)]
    config = load_config(f"configs/glue.py:{task}", fields, example="")
    assembly = assemble(config)
    plan = plan_run(assembly, [config.seed])[0]
    rate = make_schedule("bert", config.learning_rate, int(0.1 * plan.steps), plan.steps)
    state = start_state(assembly)
    if lean := lean_vocabulary(assembly, state, rate):
        state = lean.compact(state)
    return assembly.training, plan, rate, state


def main() -> None:
    """Sets a run up, then takes steps on orders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--init_from", required=True)
    parser.add_argument("--compute_dtype", default="float32")
    parser.add_argument("--started_at", type=float, default=time.time())
    flags = parser.parse_args()
    out = os.dup(1)
    os.dup2(2, 1)
    training, plan, rate, state = set_up(
        flags.task, flags.data_dir, flags.init_from, flags.compute_dtype
    )
    ready = time.time()
    steps = CompiledSteps(training, state, plan)
    steps.wait()
    compiled = time.time()
    _say(out, {
        "ready": True,
        "framework": "gptbert",
        "setup_seconds": ready - flags.started_at,
        "compile_seconds": compiled - ready,
        "products": str(training.products),
        "shapes": [str(shape) for shape in plan.shapes],
        "versions": versions(),
        "git_commit": git_commit(),
    })  # fmt: skip
    done = 0
    for order in sys.stdin:
        if order.split()[:1] != ["steps"]:
            return
        seconds, tokens, padded = [], 0, 0
        for _ in range(int(order.split()[1])):
            began = time.perf_counter()
            batch = plan.batch(done % plan.steps)
            state, scalars = steps(state, batch, rate(done % plan.steps), step_key(0, done))
            if not np.isfinite(float(scalars["loss"])):
                raise SystemExit("the loss is not finite")
            seconds.append(round(time.perf_counter() - began, 6))
            tokens += real_tokens(batch)
            padded += batch.packed.tokens.size
            done += 1
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _say(
            out, {"seconds": seconds, "tokens": tokens, "padded_tokens": padded, "max_rss_kib": rss}
        )


def _say(out: int, line: dict) -> None:
    os.write(out, (json.dumps(line) + "\n").encode())


if __name__ == "__main__":
    main()
