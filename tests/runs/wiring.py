"""A run stopped where its training would begin: what a config's fields have become by then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from gptbert.models.parameters import describe
from gptbert.training.state import TrainState
from gptbert.training.step import Training


@dataclasses.dataclass(frozen=True)
class Wired:
    """What the trainer was given: `more` are its keyword arguments; the state is one of shapes."""

    plan: Any
    state: Any
    schedule: Callable[[int], float]
    training: Training
    more: dict[str, Any]

    @property
    def rates(self) -> list[float]:
        return [self.schedule(step) for step in range(self.plan.steps)]

    def batch(self, step: int = 0) -> dict[str, np.ndarray]:
        """Every array of a batch."""
        leaves = jax.tree_util.tree_leaves_with_path(self.plan.batch(step))
        return {jax.tree_util.keystr(keys): value for keys, value in leaves}


class _Begun(Exception):
    """Raised in place of the training."""


def stop_at_training(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, start: Callable[[], object]
) -> Wired:
    """Calls `start`, a run of `module`, up to its loop; nothing is drawn or compiled for it."""
    given: dict[str, Any] = {}

    def start_state(assembly: Any) -> TrainState:
        shapes = jax.eval_shape(assembly.training.initial_state, describe(assembly.build)[1])
        return dataclasses.replace(shapes, step=np.int32(0))

    def compiled(training: Training, state: Any, plan: Any) -> None:
        given["training"] = training

    def train(plan: Any, state: Any, schedule: Any, **more: Any) -> None:
        given.update(plan=plan, state=state, schedule=schedule, more=more)
        raise _Begun

    monkeypatch.setattr(module, "start_state", start_state)
    monkeypatch.setattr(module, "CompiledSteps", compiled)
    monkeypatch.setattr(module, "train", train)
    with pytest.raises(_Begun):
        start()
    return Wired(**given)


# A matrix and a bias, and the gradients of two steps: the first is clipped to 1 where that is on,
# the second is smaller than all that is tried.
_START = {"a/kernel": np.full((2, 2), 0.5), "a/bias": np.full(2, 0.5)}
_GRADIENTS = [
    {"a/kernel": np.array([[3.0, -4.0], [1e-5, 2.0]]), "a/bias": np.array([5.0, -1.0])},
    {"a/kernel": np.array([[1e-3, 2e-6], [1e-5, 0.1]]), "a/bias": np.array([1e-6, 0.1])},
]


def updates_of(training: Training) -> np.ndarray:
    """The second update of a training's optimizer at a rate of 1, float32 [6]."""
    parameters = jax.tree.map(np.float32, _START)
    state = training.optimizer.init(parameters)
    for gradients in _GRADIENTS:
        updates, state = training.optimizer.update(
            jax.tree.map(np.float32, gradients), state, parameters, learning_rate=np.float32(1)
        )
    return _flat(updates)


def expected_updates(
    *, decay: float, clip: float, b2: float = 0.999, epsilon: float = 1e-6, corrected: bool = False
) -> np.ndarray:
    """The same by the equations."""
    first = second = np.zeros(6)
    for step, gradients in enumerate(_GRADIENTS, 1):
        g = _flat(gradients)
        g = g * min(1.0, clip / np.sqrt((g**2).sum())) if clip else g
        first, second = 0.9 * first + 0.1 * g, b2 * second + (1 - b2) * g**2
        m, v = first, second
        if corrected:
            m, v = m / (1 - 0.9**step), v / (1 - b2**step)
    decayed = _flat({"a/kernel": decay * _START["a/kernel"], "a/bias": np.zeros(2)})
    return -(m / (np.sqrt(v) + epsilon) + decayed)


def _flat(tree: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.ravel(tree[path]) for path in sorted(_START)])
