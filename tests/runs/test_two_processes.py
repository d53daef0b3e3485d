"""Two processes of one job (gloo on a CPU): disjoint data, and the losses of one process."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
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
coordinator, processes, process, devices, out, store, workdir, steps, fields = sys.argv[1:]
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
config = tiny_config(
    "test-bert", store, steps=8, warmup_steps=2, eval_every=4, keep=9, **json.loads(fields))
if int(steps) < 8:  # stop on request after so many steps
    from gptbert.training import trainer
    trainer.stop_requested = lambda stop, step: step == int(steps)
try:
    pretrain(config, Path(workdir), quiet=True)
finally:
    Path(out).write_text(json.dumps(read))
"""


# A user's command; the time that all must have come together in may be shorter.
COMMAND = """
import sys
from gptbert import cli, runtime
from gptbert.models.presets import PRESETS
from tests.fixtures_pretraining import TINY
PRESETS.update(TINY)
runtime.JOIN_SECONDS = int(sys.argv[1])
sys.exit(cli.main(sys.argv[2:]))
"""
EVEN = {"data": 2, "fsdp": 2, "tensor": 1}
ROOT = Path(__file__).parents[2]


def address() -> str:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def started(program: str, *arguments: str) -> subprocess.Popen:
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit code and standard error of each."""
    said = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def job(
    folder: Path, store: Path, workdir: Path, processes: int, steps: int = 8, **fields: object
) -> list[list]:
    """Runs a job on the devices of its mesh; what each process read."""
    coordinator = address()
    fields = {"mesh": EVEN} | fields
    devices = math.prod(fields["mesh"].values()) // processes
    outs = [folder / f"{workdir.name}-{steps}-{n}.json" for n in range(processes)]
    running = [
        started(PROGRAM, coordinator, str(processes), str(n), str(devices), str(out), str(store),
                str(workdir), str(steps), json.dumps(fields))
        for n, out in enumerate(outs)
    ]  # fmt: skip
    for code, said in ended(running):
        assert code == 0 or (steps < 8 and "Interrupted" in said), said[-3000:]
    return [json.loads(out.read_text()) for out in outs]


def command(store: Path, workdir: Path, *more: str, seconds: int = 300) -> subprocess.Popen:
    """`gptbert pretrain` of a tiny BERT, one device a process."""
    flags = [
        "--config=configs/bert.py:tiny", f"--config.corpus={store}", "--config.model=test-bert",
        "--config.phases=((1.0,32),)", "--config.batch_size=8", "--config.steps=100000",
        "--config.warmup_steps=2", "--config.checkpoint_every=20", "--config.eval_every=100000",
        "--config.log_every=20",
    ]  # fmt: skip
    return started(COMMAND, str(seconds), "pretrain", *flags, f"--workdir={workdir}", *more)


def both(store: Path, workdir: Path, *of_the_second: str) -> list[subprocess.Popen]:
    """A job of two such commands."""
    shared = [f"--coordinator={address()}", "--processes=2"]
    return [
        command(store, workdir, *shared, "--process=0"),
        command(store, workdir, *shared, "--process=1", *of_the_second),
    ]


def wait_for_checkpoint(workdir: Path, processes: list[subprocess.Popen]) -> None:
    while not Checkpoints(workdir / "checkpoints").steps():
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)


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


@pytest.mark.parametrize(
    "fields",
    [{"accumulate": 2}, {"mesh": {"data": 1, "fsdp": 1, "tensor": 2}}],
    ids=["accumulated", "rows in common"],
)
def test_losses_and_tokens_are_those_of_one_process_however_rows_lie(
    runs, tmp_path, text_store, fields
):
    folder, (alone,), _ = runs
    read = job(tmp_path, text_store, tmp_path / "run", 2, **fields)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(folder / "alone"), rtol=1e-5)
    assert results(tmp_path / "run")["tokens"] == results(folder / "alone")["tokens"]
    if "mesh" in fields:  # both hold all rows
        assert read == [alone, alone]


def test_processes_that_were_told_different_things_are_refused_by_name(text_store, tmp_path):
    found = ended(both(text_store, tmp_path / "run", "--config.seed=1"))
    for code, said in found:
        assert code == 2, said[-3000:]
        assert "told different things (seed); expected the same command for each" in said
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_process_that_lost_another_says_so(text_store, tmp_path):
    processes = both(text_store, tmp_path / "run")
    wait_for_checkpoint(tmp_path / "run", processes)
    processes[1].kill()
    (code, said), _ = ended(processes)
    assert code == 3, said[-3000:]
    assert "the run failed: another process of the job ended or cannot be reached" in said
    assert "Traceback" not in said


def test_who_is_waited_for_in_vain_is_told_in_one_sentence(text_store, tmp_path):
    job = ["--processes=2", "--process=0", f"--coordinator={address()}"]
    ((code, said),) = ended([command(text_store, tmp_path / "run", *job, seconds=6)])
    assert code == 3, said[-3000:]
    waits, failed = said.strip().splitlines()
    assert waits.startswith("gptbert: process 0 waits for the others of the job at 127.0.0.1:")
    assert "after 6 s not all processes of the job had come together" in failed
    assert not (tmp_path / "run").exists()


def test_a_job_of_one_process_stops_on_request_too(text_store, tmp_path):
    job = ["--processes=1", "--process=0", f"--coordinator={address()}"]
    process = command(text_store, tmp_path / "run", *job)
    wait_for_checkpoint(tmp_path / "run", [process])
    process.send_signal(signal.SIGTERM)
    ((code, said),) = ended([process])
    assert code == 75, said[-3000:]
    assert "stopped on request after step" in said
