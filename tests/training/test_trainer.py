"""The loop itself, with an update that computes nothing: what it is given and when it stops."""

from __future__ import annotations

import re
import time

import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.errors import RunFailed, UserError
from gptbert.models.dropout import step_key
from gptbert.training import trainer
from gptbert.training.run_log import RunLog, read_metrics
from gptbert.training.state import TrainState
from gptbert.training.trainer import Cadence, Progress, train
from tests import tiny

STEPS = 6


class Plan:
    """The same batch over and over."""

    steps, batch_size, pieces = STEPS, 4, 1

    def __init__(self):
        self._batch = tiny.packed(tiny.features(4, longest=6))

    def batch(self, step, part=0, parts=1):
        return self._batch

    def abstract_batches(self):
        return [self._batch]

    def epoch(self, step):
        return step / 2


class BrokenPlan(Plan):
    """Has no batch for one step."""

    def __init__(self, at, error):
        super().__init__()
        self.at, self.error = at, error

    def batch(self, step, part=0, parts=1):
        if step == self.at:
            raise self.error
        return super().batch(step, part, parts)


class Update:
    """Notes what each step is given; `spoilt` are the scalars of one step."""

    share = (0, 1)

    def __init__(self, at=0, compiling=0.0, **spoilt):
        self.at, self.spoilt, self.given = at, spoilt, []
        self.compiling, self.waited = compiling, 0.0

    def __call__(self, state, batch, rate, key):
        if not self.given:
            time.sleep(self.compiling)
            self.waited += self.compiling
        self.given.append((float(rate), np.asarray(key).tolist()))
        step = len(self.given)
        scalars = {"loss": 1.0, "gradient_norm": 2.0, "parameter_norm": 3.0}
        scalars |= self.spoilt if step == self.at else {}
        return TrainState(state.step + 1, {}, ()), {k: jnp.float32(v) for k, v in scalars.items()}


def run(update, saved, plan=None, save=None, folder=None, more=None, **cadence):
    def note(state, progress, keep):
        saved.append(int(state.step))

    cadence = Cadence((3, STEPS), **cadence)
    with RunLog(folder, start_step=0, total_steps=STEPS, quiet=False) as log:
        return train(
            plan or Plan(), TrainState(0, {}, ()), lambda step: 0.5**step,
            seed=7, cadence=cadence, evaluate=lambda state: {"f1": 0.5}, metric="f1",
            save=save or note, log=log, steps=update, **({"progress": Progress()} | (more or {})),
        )  # fmt: skip


def test_every_step_has_its_own_rate_and_dropout_key():
    update, saved = Update(), []
    assert run(update, saved).step == STEPS and saved == [3, STEPS]
    assert update.given == [(0.5**step, step_key(7, step).tolist()) for step in range(STEPS)]
    assert len({tuple(key) for _, key in update.given}) == STEPS


def test_what_is_waited_for_compilation_is_told_apart():
    progress = Progress()
    run(Update(compiling=1.0), [], more={"progress": progress})
    assert progress.compile_seconds == 1.0 and 0 < progress.seconds < 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("name", "told"), [("loss", "loss"), ("gradient_norm", "gradient")])
def test_a_number_that_is_none_stops_the_run(name, told, value):
    """Also a gradient alone, at a loss that still looks well; nothing spoilt is saved."""
    update, saved = Update(at=5, **{name: value}), []
    wanted = f"the {told} became {value} at step 5; the last good checkpoint is that of step 3"
    with pytest.raises(RunFailed, match=wanted):
        run(update, saved, log_every=10)
    assert saved == [3]
    with pytest.raises(RunFailed, match=f"the {told} became {value} at step 5"):
        run(Update(at=5, **{name: value}), saved := [], checkpoint_every=1, log_every=10)
    assert saved == [1, 2, 3, 4]
    with pytest.raises(RunFailed, match=f"{value} at step 2; no checkpoint was saved yet. A sm"):
        run(Update(at=2, **{name: value}), saved := [], log_every=10)
    assert saved == []


@pytest.mark.parametrize("error", [UserError("a shard is damaged"), KeyError("a bug of ours")])
def test_a_batch_that_cannot_be_built_costs_no_update(error, capsys):
    saved = []
    with pytest.raises(type(error)) as raised:
        run(Update(), saved, BrokenPlan(5, error))
    assert raised.value is error and saved == [3, 5]
    assert "the state of step 5 was saved; the same command continues there" in (
        capsys.readouterr().err
    )
    for at, known in ((3, [3]), (0, [])):  # nothing is new since the last one
        with pytest.raises(type(error)):
            run(Update(), saved := [], BrokenPlan(at, error))
        assert saved == known
    assert "was saved" not in capsys.readouterr().err


def test_what_fails_while_saving_hides_no_error(capsys):
    def full(state, progress, keep):
        if state.step == 5:
            raise OSError("the disk is full")

    error = UserError("a shard is damaged")
    with pytest.raises(UserError) as raised:
        run(Update(), [], BrokenPlan(5, error), full)
    assert raised.value is error
    assert "the state of step 5 could not be saved: the disk is full" in capsys.readouterr().err
    with pytest.raises(UserError) as raised:  # the loss of step 5 was not looked at before
        run(Update(at=5, loss=np.nan), saved := [], BrokenPlan(5, error))
    assert raised.value is error and saved == [3]
    assert "could not be saved: the loss became nan at step 5" in capsys.readouterr().err


def test_one_process_of_several_saves_nothing_alone(monkeypatch):
    monkeypatch.setattr(trainer, "is_distributed", lambda: True)
    monkeypatch.setattr(trainer, "stop_requested", lambda stop, step: False)
    with pytest.raises(UserError):
        run(Update(), saved := [], BrokenPlan(5, UserError("a shard is damaged")))
    assert saved == [3]


def test_what_follows_from_the_means_is_recorded_and_shown(tmp_path, capsys):
    more = {
        "further": lambda means: {"doubled": 2 * means["loss"], "halved": means["loss"] / 2},
        "shown": ("halved", "unknown"),
    }
    run(Update(at=2, loss=4.0), [], folder=tmp_path, more=more, log_every=3)
    told = capsys.readouterr().err
    records = [each for each in read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in each]
    assert [each["train/loss"] for each in records] == [2.0, 1.0]  # of three steps each
    assert [each["train/doubled"] for each in records] == [4.0, 2.0]
    assert [each["train/halved"] for each in records] == [1.0, 0.5]
    assert re.search(
        r"step 3/6: loss 2, halved 1, rate 0.25, tokens/s [\d.e+]+, \d\d:\d\d left", told
    )
    assert re.search(r"step 6/6: .*, 00:00 left", told)


def test_without_further_figures_nothing_is_added(tmp_path, capsys):
    run(Update(), [], folder=tmp_path, log_every=STEPS)
    record = next(each for each in read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in each)
    assert {name for name in record if name.startswith("train/")} == {
        "train/loss", "train/gradient_norm", "train/parameter_norm"
    }  # fmt: skip
    assert "loss 1, rate" in capsys.readouterr().err


def test_the_best_evaluation():
    def record(step, **metrics):
        return {"step": step, "epoch": step / 2, "metrics": metrics}

    values = [(3, 0.7), (6, 0.9), (9, 0.4), (12, 0.9), (15, 0.4)]
    progress = Progress([record(step, f1=value, loss=value) for step, value in values])
    assert progress.best("f1")["step"] == 6, "the highest, the earliest among equals"
    assert progress.best("loss")["step"] == 9, "the lowest, the earliest among equals"
    assert Progress().best("loss") is None
    assert Progress([record(3), record(6)]).best("loss") is None, "nothing was held out"
