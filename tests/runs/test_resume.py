"""A run that is killed, stopped or damaged ends with the bits of one that was left alone.

The runs are processes of their own: a server imports everything once and forks before JAX starts
its backend. On CPU, XLA repeats its bits from process to process, freshly compiled or from the
compilation cache: the first test finds that out, the others build on it. It does so for one
number of cores: the 6-layer BERT gave other last bits on one core than on two.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gptbert.training.run_log import read_metrics
from gptbert.weights.checkpoints import Checkpoints
from tests.fabricated import flags, make_glue, results, saved_bits
from tests.fixtures_runs import refused

pytestmark = pytest.mark.e2e

STEPS = 18
# Saves at every third step and at evaluations, so that a kill often falls into one.
FIELDS = {"num_epochs": 5, "checkpoint_every": 3, "eval_every": 8, "keep": 3, "log_every": 1}
SERVER = """
    import json, os, signal, sys, traceback
    import gptbert.commands.finetune, gptbert.reports.page, gptbert.runs.finetune
    import gptbert.commands.pretrain, gptbert.runs.pretrain
    from gptbert import cli

    for line in sys.stdin:
        arguments, said = json.loads(line)
        pid = os.fork()
        if not pid:
            signal.alarm(120)  # whatever goes wrong, it ends
            file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            try:
                code = cli.main(arguments)
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Run:
    """A `gptbert finetune` in a process of its own."""

    def __init__(self, server: subprocess.Popen[str], arguments: list[str], said: Path) -> None:
        assert server.stdin is not None and server.stdout is not None
        self._ends, self._said = server.stdout, said
        self.workdir = Path(arguments[-1].removeprefix("--workdir="))
        self.began = time.monotonic()
        server.stdin.write(json.dumps([arguments, str(said)]) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def wait(self) -> tuple[int, str]:
        """Exit code (minus the signal's number if one ended it) and all that was printed."""
        return int(self._ends.readline()), self._said.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns as soon as the condition holds; fails after a minute."""
        while not condition():
            assert time.monotonic() < self.began + 60, self._said.read_text()
            time.sleep(0.0005)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait()[0] == -signal.SIGKILL

    def kill_while(self, condition: Callable[[], bool]) -> None:
        """Kills it in a moment in which the condition holds: it stands still when that is seen."""
        while True:
            self.wait_for(condition)
            os.kill(self.pid, signal.SIGSTOP)
            if condition():
                return self.kill()
            os.kill(self.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SERVER)]
    pipe = subprocess.PIPE
    options = {"stdin": pipe, "stdout": pipe, "text": True}
    with subprocess.Popen(command, env=environment(), **options) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def environment(*, cached: bool = True) -> dict[str, str]:
    """Of the test session, with its compilation cache (which tests/conftest.py sets) or without."""
    own = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    own["GPTBERT_COMPILATION_CACHE"] = "0"
    inherited = {k: v for k, v in os.environ.items() if cached or not k.startswith("JAX_COMP")}
    return inherited | own


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_glue(tmp_path_factory.mktemp("glue"), "mrpc", words=5)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory, data: Path, bert_dir: Path) -> Path:
    """A run that nobody disturbed, started as a user does, compiled without the cache."""
    workdir = tmp_path_factory.mktemp("runs") / "left_alone"
    command = [sys.executable, "-m", "gptbert", *flags(data, bert_dir, workdir, **FIELDS)]
    done = subprocess.run(command, env=environment(cached=False), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results(workdir)["steps"] == STEPS
    told = json.loads((workdir / "run.json").read_text())
    assert told["command"] == shlex.join(["gptbert", *command[3:]])
    return workdir


@pytest.fixture
def start(server, data: Path, bert_dir: Path, tmp_path: Path) -> Callable[[], Run]:
    arguments = flags(data, bert_dir, tmp_path / "run", **FIELDS)
    return lambda: Run(server, arguments, tmp_path / "said.txt")


def require_same(workdir: Path, left_alone: Path) -> None:
    """The same bits in all arrays, the same record of every step, the same figures."""
    assert saved_bits(workdir, STEPS) == saved_bits(left_alone, STEPS)
    assert records(workdir) == records(left_alone)
    for name in ("metrics", "evaluations", "predictions", "checkpoint", "best", "steps"):
        assert results(workdir)[name] == results(left_alone)[name], name


def records(workdir: Path) -> list[dict]:
    """metrics.jsonl without what a clock measured."""
    found = read_metrics(workdir / "metrics.jsonl")
    measured = ("per_second", "data_wait", "memory_bytes", "seconds_left", "utilisation")
    return [{k: v for k, v in each.items() if not any(m in k for m in measured)} for each in found]


def saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written: its folder is there, its manifest is not."""
    folder = workdir / "checkpoints"
    steps = list(folder.iterdir()) if folder.is_dir() else []
    return any(not (step / "manifest.json").exists() for step in steps if step.is_dir())


def saved(run: Run) -> int:
    """The newest whole checkpoint; 0 if there is none."""
    return Checkpoints(run.workdir / "checkpoints").latest_step() or 0


def reached(workdir: Path, step: int) -> bool:
    return any(record["step"] >= step for record in read_metrics(workdir / "metrics.jsonl"))


def test_another_process_repeats_the_bits(start: Callable[[], Run], left_alone: Path) -> None:
    run = start()
    code, said = run.wait()
    assert code == 0, said
    require_same(run.workdir, left_alone)
    steps = [record["step"] for record in records(run.workdir) if "train/loss" in record]
    assert steps == list(range(1, STEPS + 1))


def test_killed_at_random_moments_and_while_saving(
    start: Callable[[], Run], left_alone: Path
) -> None:
    run = start()
    run.kill_while(lambda: saving(run.workdir))
    assert saving(run.workdir), "an unfinished checkpoint was left"
    drawn = random.Random(5)
    for step in sorted(drawn.sample(range(4, 9), 2)):  # early enough for two more saves
        known, run = saved(run), start()
        run.wait_for(
            lambda run=run, known=known, step=step: (
                saved(run) > known and reached(run.workdir, step)
            )
        )
        time.sleep(drawn.uniform(0, 0.02))  # into the step, the scoring or the save that follows
        run.kill()
    run, before = start(), saved(run)
    run.kill_while(lambda: saved(run) > before and saving(run.workdir))
    last = saved(run)
    code, said = start().wait()
    assert code == 0 and f"continuing after step {last} of {STEPS}" in said, said
    require_same(run.workdir, left_alone)


def test_sigterm_saves_and_exits_75(start: Callable[[], Run], left_alone: Path) -> None:
    run = start()
    run.wait_for(lambda: reached(run.workdir, 4))
    os.kill(run.pid, signal.SIGTERM)
    code, said = run.wait()
    last, stopped = saved(run), datetime.datetime.now(datetime.UTC)
    assert code == 75 and f"gptbert: stopped on request after step {last}; the same command" in said
    assert 4 <= last < STEPS
    assert not (run.workdir / "results.json").exists()
    code, said = start().wait()
    assert code == 0 and f"continuing after step {last} of {STEPS}" in said, said
    require_same(run.workdir, left_alone)
    found = results(run.workdir)
    assert found["wall_clock_seconds"] >= found["train_seconds"], "of both processes"
    assert datetime.datetime.fromisoformat(found["started"]) <= stopped


def test_sigterm_before_the_first_step(start: Callable[[], Run]) -> None:
    run = start()
    run.wait_for(lambda: (run.workdir / "config.json").exists())
    os.kill(run.pid, signal.SIGTERM)
    code, said = run.wait()
    assert code == 75 and "gptbert: stopped on request after step" in said


def test_a_flipped_bit_and_a_cut_file(
    start: Callable[[], Run], left_alone: Path, tmp_path: Path
) -> None:
    """The newest two checkpoints are damaged, each in its own way: the one before is used."""
    workdir = shutil.copytree(left_alone, tmp_path / "run")
    (workdir / "results.json").unlink()
    good, cut, flipped = Checkpoints(workdir / "checkpoints").steps()[-3:]
    names = {}
    for step in (cut, flipped):
        folder = workdir / "checkpoints" / f"{step:08d}"
        file = max((path for path in folder.rglob("*") if path.is_file()), key=os.path.getsize)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content if step == flipped else content[:-1])
        names[step] = file.relative_to(folder)
    code, said = start().wait()
    assert code == 0, said
    assert f"checkpoint {flipped} is damaged ({names[flipped]} (checksum)); not used" in said
    assert f"checkpoint {cut} is damaged ({names[cut]} (size " in said
    assert f"continuing after step {good} of {STEPS}" in said
    require_same(workdir, left_alone)


def test_all_checkpoints_damaged(
    start: Callable[[], Run], left_alone: Path, tmp_path: Path
) -> None:
    workdir = shutil.copytree(left_alone, tmp_path / "run")
    (workdir / "results.json").unlink()
    for manifest in (workdir / "checkpoints").rglob("manifest.json"):
        manifest.write_bytes(manifest.read_bytes()[:-20])
    code, said = start().wait()
    told = [line for line in said.splitlines() if line.startswith("gptbert: ")]
    assert code == 2 and len(told) == 1 and "no good checkpoint in" in told[0]


def test_two_processes_in_one_folder(start: Callable[[], Run], data, bert_dir, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = refused(*flags(data, bert_dir, tmp_path / "run", **FIELDS))
    assert "another process is working in" in said
