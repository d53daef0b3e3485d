"""The loop: compile, step, log, evaluate, save; read it from top to bottom.

Whatever the objective, a run is a pure function of its plan: batch, learning rate and dropout key
of every step follow from (seed, step), so that a run continued from a checkpoint makes the updates
that it would have made, bit for bit on the same devices (on CPU: with as many cores, by whose
number XLA divides its sums).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gptbert.errors import Interrupted, RunFailed
from gptbert.models.dropout import step_key
from gptbert.pipeline.batch import Batch, real_tokens
from gptbert.pipeline.packing import Shape
from gptbert.pipeline.plan import TrainingPlan
from gptbert.training.run_log import RunLog
from gptbert.training.state import TrainState, abstract
from gptbert.training.step import Training, jit_update

Metrics = dict[str, float]


@dataclasses.dataclass
class Progress:
    """What a checkpoint remembers beside the state; JSON as it stands.

    Attributes:
      evaluations: One record an evaluation: `step`, `epoch`, `metrics`.
      seconds: Wall-clock of training so far, over all pieces of the run.
      tokens: Real tokens seen; `padded_tokens` with the empty space of the rows.
    """

    evaluations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    padded_tokens: int = 0

    def best(self, metric: str) -> dict[str, Any] | None:
        """The evaluation with the highest `metric`; the earliest among equals."""
        return max(self.evaluations, key=lambda e: (e["metrics"][metric], -e["step"]), default=None)


class Saver(Protocol):
    """Where checkpoints go."""

    def __call__(self, state: TrainState, progress: Progress, keep_also: set[int]) -> None: ...


@dataclasses.dataclass(frozen=True)
class Cadence:
    """When things happen besides training.

    Attributes:
      evaluate_at: Steps after which the dev set is scored, ascending; the last step is one.
      checkpoint_every: Steps between further checkpoints; 0 for none.
      log_every: Steps between records of loss and rate.
      patience: Evaluations without a better one before the run stops early; 0 never.
    """

    evaluate_at: Sequence[int]
    checkpoint_every: int = 0
    log_every: int = 10
    patience: int = 0


class CompiledSteps:
    """The update compiled ahead for each planned shape; the first is needed at once.

    Shapes compile side by side in threads. After that nothing compiles any more: a batch of
    another shape is a bug and raises KeyError.
    """

    def __init__(self, training: Training, state: TrainState, plan: TrainingPlan) -> None:
        self._pieces = plan.pieces
        step = jit_update(training, state, plan.pieces)
        scalar, key = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.uint32)
        lowered = {
            shape: step.lower(abstract(state), abstract_batch(plan, shape), scalar, key)
            for shape in plan.shapes
        }
        pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
        self.executables = {shape: pool.submit(low.compile) for shape, low in lowered.items()}
        pool.shutdown(wait=False)

    def __call__(
        self, state: TrainState, batch: Batch, learning_rate: float, key: np.ndarray
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        rows, positions = batch.packed.tokens.shape
        shape = Shape(rows, positions, batch.targets.starts.shape[1])
        compiled = self.executables[shape].result()
        return compiled(state, in_pieces(batch, self._pieces), np.float32(learning_rate), key)

    def wait(self) -> None:
        """Blocks until every shape is compiled."""
        for each in self.executables.values():
            each.result()


def in_pieces(batch: Batch, pieces: int) -> Batch:
    """Cuts the rows of a batch into equal pieces along a new leading axis."""
    if pieces == 1:
        return batch
    return jax.tree.map(lambda x: x.reshape(pieces, x.shape[0] // pieces, *x.shape[1:]), batch)


def abstract_batch(plan: TrainingPlan, shape: Shape) -> Batch:
    """Shapes and types of the batches of one planned shape."""
    probe = plan.batch(0)
    rows = shape.rows // plan.pieces
    leading = (plan.pieces,) if plan.pieces > 1 else ()

    def arrays(part: Any, width: int) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*leading, rows, width), x.dtype), part)

    return Batch(arrays(probe.packed, shape.positions), arrays(probe.targets, shape.slots))


def train(
    plan: TrainingPlan,
    state: TrainState,
    schedule: Callable[[int], float],
    *,
    seed: int,
    cadence: Cadence,
    evaluate: Callable[[TrainState], Metrics],
    metric: str,
    save: Saver,
    log: RunLog,
    progress: Progress,
    steps: CompiledSteps,
    stop: Any = False,
) -> TrainState:
    """Trains from `state.step` to the end of the plan.

    Args:
      plan: Its batches.
      state: Donated: not usable afterwards.
      schedule: Learning rate by step.
      seed: Of dropout.
      cadence: When to log, evaluate, save.
      evaluate: Scores the dev set; FloatingPointError where the outputs are no numbers any more.
      metric: Which of its metrics decides what is best (higher is better).
      save: Writes a checkpoint.
      log: Where scalars go.
      progress: Updated in place.
      steps: The compiled update.
      stop: Becomes true when the run is asked to stop.

    Returns:
      The last state.

    Raises:
      RunFailed: The loss is not a number any more.
      Interrupted: Asked to stop; the state was saved.
    """
    step = saved = int(state.step)
    clock = _Clock(progress)
    under_way = _UnderWay(plan, schedule, log, clock)
    # XLA on CPU takes the memory of a step when it is queued, and a batch is built in no time
    # compared with a step; elsewhere one step waits while one runs.
    queued = 0 if jax.default_backend() == "cpu" else 1

    def checkpoint() -> int:
        under_way.finish(saved)
        best = progress.best(metric)
        with clock.paused():
            save(state, progress, {best["step"]} if best else set())
        return step

    while step < plan.steps:
        if _exhausted(progress, metric, cadence.patience):
            log.say(f"stopped early: no better {metric} in {cadence.patience} evaluations")
            break
        if stop:
            if saved != step:
                checkpoint()
            raise Interrupted(f"stopped on request after step {step}; the same command continues")
        batch = plan.batch(step)
        under_way.leave(queued)
        state, scalars = steps(state, batch, schedule(step), step_key(seed, step))
        step += 1
        under_way.add(step, scalars, batch)
        if step % cadence.log_every == 0:
            under_way.finish(saved)
        if step in cadence.evaluate_at:
            under_way.finish(saved)
            with clock.paused(), _failing_after(step, saved):
                metrics = evaluate(state)
            epoch = step * plan.batch_size / len(plan.features)
            progress.evaluations.append({"step": step, "epoch": epoch, "metrics": metrics})
            log.scalars(step, {f"eval/{name}": value for name, value in metrics.items()})
            told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            log.say(f"step {step}, epoch {epoch:.2f}: dev {told}")
            saved = checkpoint()
        elif cadence.checkpoint_every and step % cadence.checkpoint_every == 0:
            saved = checkpoint()
    return state


class _UnderWay:
    """Steps that were handed to the device and whose losses nobody has looked at yet."""

    def __init__(
        self, plan: TrainingPlan, schedule: Callable[[int], float], log: RunLog, clock: _Clock
    ) -> None:
        self._plan, self._schedule, self._log, self._clock = plan, schedule, log, clock
        self._steps: list[tuple[int, dict[str, jax.Array], int]] = []

    def add(self, step: int, scalars: dict[str, jax.Array], batch: Batch) -> None:
        """Notes a step; counts its tokens."""
        tokens = real_tokens(batch)
        self._clock.progress.tokens += tokens
        self._clock.progress.padded_tokens += batch.packed.tokens.size
        self._steps.append((step, scalars, tokens))

    def leave(self, count: int) -> None:
        """Waits until at most `count` steps are unfinished."""
        if len(self._steps) > count:
            jax.block_until_ready(self._steps[-1 - count][1])

    def finish(self, saved: int) -> None:
        """Waits for the steps, refuses losses that are no numbers, records the rest.

        `saved` is the step of the last checkpoint, for the message.
        """
        if not self._steps:
            return
        losses, norms = [], []
        for step, scalars, _ in self._steps:
            losses.append(float(scalars["loss"]))
            norms.append(float(scalars["gradient_norm"]))
            # A gradient that is no number spoils the parameters while the loss still looks well.
            for name, value in (("loss", losses[-1]), ("gradient", norms[-1])):
                if not math.isfinite(value):
                    raise _failed(f"the {name} became {value} at step {step}", saved)
        last = self._steps[-1][0]
        seconds = self._clock.lap()
        record = {
            "train/loss": sum(losses) / len(losses),
            "train/gradient_norm": norms[-1],
            "learning_rate": self._schedule(last - 1),
            "examples_per_second": len(losses) * self._plan.batch_size / seconds,
            "tokens_per_second": sum(tokens for _, _, tokens in self._steps) / seconds,
        }
        self._log.scalars(last, record)
        self._log.progress(last, {"loss": record["train/loss"], "rate": record["learning_rate"]})
        self._steps.clear()


def _failed(what: str, saved: int) -> RunFailed:
    good = f"that of step {saved}" if saved else "none: it was too early"
    return RunFailed(
        f"{what}; the last good checkpoint is {good}. "
        "A smaller --config.learning_rate (in another --workdir) usually helps"
    )


@contextlib.contextmanager
def _failing_after(step: int, saved: int) -> Iterator[None]:
    """Adds to a FloatingPointError where the run was."""
    try:
        yield
    except FloatingPointError as error:
        raise _failed(f"{error} after step {step}", saved) from None


def _exhausted(progress: Progress, metric: str, patience: int) -> bool:
    best = progress.best(metric)
    if not patience or best is None:
        return False
    since = [e for e in progress.evaluations if e["step"] > best["step"]]
    return len(since) >= patience


class _Clock:
    """Counts training seconds into `progress`; evaluation and saving are left out."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap or pause, added to the progress."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self.progress.seconds += seconds
        return max(seconds, 1e-9)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        self.lap()
        yield
        self._last = time.perf_counter()
