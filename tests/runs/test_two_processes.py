"""Two processes of one job (gloo on a CPU): disjoint data, and the losses of one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gptbert.training.run_log import read_metrics
from gptbert.weights.checkpoints import Checkpoints
from tests.fabricated import results

pytestmark = pytest.mark.e2e

# A process of the job; its share of every batch that it reads is written down.
PROGRAM = """
import json, sys
coordinator, processes, process, devices, out, store, workdir, steps = sys.argv[1:]
import jax
jax.config.update("jax_num_cpu_devices", int(devices))
jax.config.update("jax_disable_most_optimizations", True)
from gptbert import runtime
if int(processes) > 1:
    runtime.start_distributed(coordinator, int(processes), int(process))
from pathlib import Path
from gptbert.models.presets import PRESETS
from gptbert.pipeline.pretraining_plan import PhasedPlan
from gptbert.runs.pretrain import pretrain
from tests.fixtures_pretraining import TINY, tiny_config
PRESETS.update(TINY)
read, whole = [], PhasedPlan.batch
def batch(self, step, part=0, parts=1):
    found = whole(self, step, part, parts)
    read.append([step, sorted(set(found.packed.segments.flatten().tolist()) - {0})])
    return found
PhasedPlan.batch = batch
mesh = {"data": 2, "fsdp": 2, "tensor": 1}
config = tiny_config(
    "test-bert", store, steps=8, warmup_steps=2, eval_every=4, mesh=mesh, keep=9)
if int(steps) < 8:  # stop on request after so many steps
    from gptbert.training import trainer
    trainer.stop_requested = lambda stop, step: step == int(steps)
try:
    pretrain(config, Path(workdir), quiet=True)
finally:
    Path(out).write_text(json.dumps(read))
"""


def job(folder: Path, store: Path, workdir: Path, processes: int, steps: int = 8) -> list[list]:
    """Runs a job; what each process read."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    root = Path(__file__).parents[2]
    outs = [folder / f"{workdir.name}-{steps}-{n}.json" for n in range(processes)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, coordinator, str(processes), str(n),
             str(4 // processes), str(out), str(store), str(workdir), str(steps)],
            env=env, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for n, out in enumerate(outs)
    ]  # fmt: skip
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in running]
    for said, code in ended:
        assert code == 0 or (steps < 8 and "Interrupted" in said), said[-3000:]
    return [json.loads(out.read_text()) for out in outs]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, text_store):
    """One process with four devices; two with two each; two that were stopped, then one."""
    folder = tmp_path_factory.mktemp("jobs")
    alone = job(folder, text_store, folder / "alone", 1)
    both = job(folder, text_store, folder / "both", 2)
    job(folder, text_store, folder / "changed", 2, steps=5)
    job(folder, text_store, folder / "changed", 1)
    return folder, alone, both


def losses(workdir: Path) -> list[float]:
    records = read_metrics(workdir / "metrics.jsonl")
    return [record["train/loss"] for record in records if "train/loss" in record]


def test_two_processes_read_disjoint_halves_of_the_same_batches(runs):
    _, (alone,), (first, second) = runs
    whole = {step: set(read) for step, read in alone}
    for (step, mine), (other_step, other) in zip(first, second, strict=True):
        assert step == other_step
        assert mine and other and not set(mine) & set(other)
        assert set(mine) | set(other) == whole[step]


def test_losses_and_figures_are_those_of_one_process(runs):
    folder, _, _ = runs
    assert len(losses(folder / "alone")) == 8
    np.testing.assert_allclose(losses(folder / "both"), losses(folder / "alone"), rtol=1e-5)
    one, two = (results(folder / name)["metrics"] for name in ("alone", "both"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-4), name


def test_a_run_goes_on_with_another_number_of_processes(runs):
    folder, _, _ = runs
    assert 5 in Checkpoints(folder / "changed/checkpoints").steps()
    np.testing.assert_allclose(losses(folder / "changed"), losses(folder / "alone"), rtol=1e-5)
