"""A pre-training run that is killed, stopped or damaged ends with the bits of one left alone.

As `test_resume.py`, whose server starts the runs; the position in the data is part of it.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gptbert.commands.config_flag import load_config, split_config_flags
from gptbert.pipeline.store_writer import StoreWriter
from gptbert.runs.assemble_pretraining import assemble_pretraining
from gptbert.weights.checkpoints import Checkpoints
from tests.fabricated import results, saved_bits
from tests.fixtures_pretraining import make_text_store
from tests.runs.test_resume import Run, records, saving, server  # noqa: F401
from tests.tiny_store import flip

pytestmark = pytest.mark.e2e

STEPS = 12
FIELDS = {
    "model": "bert-tiny", "phases": "((0.5,16),(0.5,32))", "batch_size": 8, "steps": STEPS,
    "warmup_steps": 2, "eval_every": 6, "checkpoint_every": 2, "keep": 9, "log_every": 1,
    "eval_tokens": 400, "scan_layers": True, "dropout": 0.1, "optimizer": "bert_adam",
}  # fmt: skip


def arguments(store: Path, workdir: Path) -> list[str]:
    named = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    return [
        "pretrain", "--config=configs/bert.py:tiny", f"--config.corpus={store}", *named,
        f"--workdir={workdir}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory, server, text_store) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("runs")
    run = Run(server, arguments(text_store, folder / "left_alone"), folder / "said.txt")
    code, said = run.wait()
    assert code == 0, said
    return folder / "left_alone"


@pytest.fixture
def start(server, text_store, tmp_path) -> Callable[[], Run]:  # noqa: F811
    given = arguments(text_store, tmp_path / "run")
    return lambda: Run(server, given, tmp_path / "said.txt")


def require_same(workdir: Path, left_alone: Path) -> None:
    assert saved_bits(workdir, STEPS) == saved_bits(left_alone, STEPS)
    assert records(workdir) == records(left_alone)
    for name in ("metrics", "evaluations", "steps", "tokens"):
        assert results(workdir)[name] == results(left_alone)[name], name


def test_kills_at_any_moment_and_during_saves(start, left_alone, tmp_path):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    random.seed(3)
    for kill in range(3):
        run, known = start(), len(checkpoints.steps())
        if kill == 1:
            run.kill_while(lambda run=run: saving(run.workdir))
        else:
            more = known + random.randint(1, 2)
            run.wait_for(lambda more=more: len(checkpoints.steps()) >= more)
            run.kill()
    code, said = start().wait()
    assert code == 0 and "continuing after step" in said, said
    require_same(tmp_path / "run", left_alone)


def test_sigterm_saves_and_ends_with_75(start, left_alone, tmp_path):
    run = start()
    run.wait_for(lambda: len(Checkpoints(run.workdir / "checkpoints").steps()) >= 1)
    os.kill(run.pid, signal.SIGTERM)
    code, said = run.wait()
    assert code == 75 and "the same command continues" in said, said
    assert start().wait()[0] == 0
    require_same(tmp_path / "run", left_alone)


@pytest.fixture
def shards(tmp_path, monkeypatch) -> Path:
    """A store of many shards, so that some are read late in a run."""
    monkeypatch.setitem(StoreWriter.__init__.__kwdefaults__, "shard_tokens", 60)
    return make_text_store(tmp_path / "store", documents=400)


def first_reads(store: Path, monkeypatch) -> dict[int, int]:
    """The step whose batch is the first to read of a shard, by the shard's number."""
    name, fields, _ = split_config_flags(arguments(store, Path("run")))
    plan, found = assemble_pretraining(load_config(name, fields, example="")).plan, {}
    blocks = plan.phases[0].examples.mixture.stores[0]._blocks
    read = blocks.read

    def noted(shard, *span):
        found.setdefault(shard, step)
        return read(shard, *span)

    monkeypatch.setattr(blocks, "read", noted)
    for step in range(STEPS):
        plan.batch(step)
    return found


def test_a_damaged_shard_is_named_and_nothing_is_lost(server, shards, tmp_path, monkeypatch):  # noqa: F811
    """Met between two checkpoints: the updates since the last one are saved first."""
    left_alone = Run(server, arguments(shards, tmp_path / "left_alone"), tmp_path / "said.txt")
    assert left_alone.wait()[0] == 0
    late = next(n for n, step in first_reads(shards, monkeypatch).items() if step == 9)
    damaged = shards / "train" / f"{late:05d}.tokens"
    whole = damaged.read_bytes()
    flip(damaged)
    run = Run(server, arguments(shards, tmp_path / "run"), tmp_path / "said.txt")
    code, said = run.wait()
    assert code == 2 and damaged.name in said and "checksum" in said, said
    assert "the state of step 9 was saved" in said and "Traceback" not in said
    assert Checkpoints(tmp_path / "run/checkpoints").latest_step() == 9
    damaged.write_bytes(whole)
    code, said = Run(server, arguments(shards, tmp_path / "run"), tmp_path / "said.txt").wait()
    assert code == 0 and f"continuing after step 9 of {STEPS}" in said, said
    require_same(tmp_path / "run", tmp_path / "left_alone")
