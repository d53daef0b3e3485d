"""The loop itself, with an update that computes nothing: what it is given and when it stops."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.errors import RunFailed
from gptbert.models.dropout import step_key
from gptbert.training.run_log import RunLog
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


class Update:
    """Notes what each step is given; `spoilt` are the scalars of one step."""

    share = (0, 1)

    def __init__(self, at=0, **spoilt):
        self.at, self.spoilt, self.given = at, spoilt, []

    def __call__(self, state, batch, rate, key):
        self.given.append((float(rate), np.asarray(key).tolist()))
        step = len(self.given)
        scalars = {"loss": 1.0, "gradient_norm": 2.0, "parameter_norm": 3.0}
        scalars |= self.spoilt if step == self.at else {}
        return TrainState(state.step + 1, {}, ()), {k: jnp.float32(v) for k, v in scalars.items()}


def run(update, saved, **cadence):
    cadence = Cadence((3, STEPS), **cadence)
    with RunLog(None, start_step=0, total_steps=STEPS, quiet=True) as log:
        return train(
            Plan(), TrainState(0, {}, ()), lambda step: 0.5**step,
            seed=7, cadence=cadence, evaluate=lambda state: {"f1": 0.5}, metric="f1",
            save=lambda state, progress, keep: saved.append(int(state.step)), log=log,
            progress=Progress(), steps=update,
        )  # fmt: skip


def test_every_step_has_its_own_rate_and_dropout_key():
    update, saved = Update(), []
    assert run(update, saved).step == STEPS and saved == [3, STEPS]
    assert update.given == [(0.5**step, step_key(7, step).tolist()) for step in range(STEPS)]
    assert len({tuple(key) for _, key in update.given}) == STEPS


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


def test_the_best_evaluation():
    def record(step, **metrics):
        return {"step": step, "epoch": step / 2, "metrics": metrics}

    values = [(3, 0.7), (6, 0.9), (9, 0.4), (12, 0.9), (15, 0.4)]
    progress = Progress([record(step, f1=value, loss=value) for step, value in values])
    assert progress.best("f1")["step"] == 6, "the highest, the earliest among equals"
    assert progress.best("loss")["step"] == 9, "the lowest, the earliest among equals"
    assert Progress().best("loss") is None
    assert Progress([record(3), record(6)]).best("loss") is None, "nothing was held out"
