"""The loop: compile, step, log, evaluate, save; read it from top to bottom.

Whatever the objective, a run is a pure function of its plan: batch, learning rate and dropout key
of every step follow from (seed, step), so that a run continued from a checkpoint makes the updates
that it would have made: on CPU bit for bit, with as many cores (by whose number XLA divides its
sums), as tests show. On a GPU nothing makes XLA repeat its bits unless XLA_FLAGS has
--xla_gpu_deterministic_ops=true: products are chosen by timing, and scattered sums add in any
order. That is untested, and so are the bits of a TPU.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gptbert.errors import Interrupted, RunFailed
from gptbert.models.dropout import step_key
from gptbert.pipeline.batch import Batch, real_tokens
from gptbert.runtime import bound_heap, is_distributed
from gptbert.training.run_log import RunLog
from gptbert.training.state import TrainState, abstract
from gptbert.training.step import Training, jit_update
from gptbert.training.throughput import Throughput, memory_in_use

Metrics = dict[str, float]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclasses.dataclass
class Progress:
    """What a checkpoint remembers beside the state; JSON as it stands.

    Attributes:
      evaluations: One record an evaluation: `step`, `epoch`, `metrics`.
      seconds: Wall-clock of training so far, over all pieces of the run.
      compile_seconds: What it waited for compilation, which is not among them.
      tokens: Real tokens seen; `padded_tokens` with the empty space of the rows.
      wall_seconds: Wall-clock of all pieces of the run up to their last checkpoints, compiling,
        scoring and saving included.
      started: When the first piece began, ISO 8601.
    """

    evaluations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    compile_seconds: float = 0.0
    tokens: int = 0
    padded_tokens: int = 0
    wall_seconds: float = 0.0
    started: str = dataclasses.field(default_factory=_now)

    def best(self, metric: str) -> dict[str, Any] | None:
        """The evaluation with the highest `metric` (lowest `loss`); the earliest among equals.

        None where none was scored, for instance because nothing is held out.
        """
        sign = -1.0 if metric == "loss" else 1.0
        return max(
            (each for each in self.evaluations if metric in each["metrics"]),
            key=lambda e: (sign * e["metrics"][metric], -e["step"]),
            default=None,
        )


class Plan(Protocol):
    """Every batch of a run, by step."""

    @property
    def steps(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def pieces(self) -> int:
        """Gradient accumulation: how many equal pieces a batch's rows are cut into."""
        ...

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """The host arrays of batch `step`, or of `parts` equal shares of its rows one."""
        ...

    def abstract_batches(self) -> list[Batch]:
        """Every shape that `batch` gives, as ShapeDtypeStructs, the whole job's rows."""
        ...

    def epoch(self, step: int) -> float:
        """Passes over the data that are finished after `step` steps."""
        ...


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
      keep_at: Steps whose checkpoints are made and kept for good.
    """

    evaluate_at: Sequence[int]
    checkpoint_every: int = 0
    log_every: int = 10
    patience: int = 0
    keep_at: Collection[int] = ()

    def checkpoints(self, step: int) -> bool:
        """Whether a checkpoint is due after `step`."""
        regular = self.checkpoint_every and step % self.checkpoint_every == 0
        return bool(regular or step in self.keep_at)


class CompiledSteps:
    """The update compiled ahead for each shape of a plan; the first is needed at once.

    Shapes compile side by side in threads. After that nothing compiles any more: a batch of
    another shape is a bug and raises KeyError.

    Attributes:
      share: Which part of a batch's rows this process has, of how many.
      waited: Seconds that calls have waited for compilation.
    """

    def __init__(self, training: Training, state: TrainState, plan: Plan) -> None:
        self._pieces, self._layout = plan.pieces, training.layout
        self.share, self.waited = training.layout.share, 0.0
        step = jit_update(training, state, plan.pieces)
        scalar, key = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.uint32)
        every = [abstract_pieces(shapes, plan.pieces) for shapes in plan.abstract_batches()]
        lowered = [(each, step.lower(abstract(state), each, scalar, key)) for each in every]
        pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
        self._products, compiling = training.products, training.products.compile
        self.executables = {_shape(s): pool.submit(compiling, low) for s, low in lowered}
        pool.shutdown(wait=False)

    def __call__(
        self, state: TrainState, batch: Batch, learning_rate: float, key: np.ndarray
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        # Each process cuts its own rows: a piece has some of every share, whatever their number.
        cut = in_pieces(batch, self._pieces)
        whole = self._layout.global_batch(cut, leading=int(self._pieces > 1))
        began = time.perf_counter()
        compiled = self.executables[_shape(whole)].result()
        self.waited += time.perf_counter() - began
        return compiled(state, whole, np.float32(learning_rate), key)

    @property
    def products(self) -> str:
        """By which library, and in which precision, the shapes multiply."""
        found = (self._products.of(each.result()) for each in self.executables.values())
        return "; ".join(dict.fromkeys(map(str, found)))

    def wait(self) -> None:
        """Blocks until every shape is compiled."""
        for each in self.executables.values():
            each.result()


def in_pieces(batch: Batch, pieces: int) -> Batch:
    """Cuts the rows of a batch into equal pieces along a new leading axis."""
    if pieces == 1:
        return batch
    return jax.tree.map(lambda x: x.reshape(pieces, x.shape[0] // pieces, *x.shape[1:]), batch)


def abstract_pieces(batch: Batch, pieces: int) -> Batch:
    """As `in_pieces`, of ShapeDtypeStructs."""
    return jax.eval_shape(lambda batch: in_pieces(batch, pieces), batch)


def _shape(batch: Batch) -> tuple[tuple[int, ...], ...]:
    """What tells the compiled steps apart."""
    return tuple(leaf.shape for leaf in jax.tree.leaves(batch))


def train(
    plan: Plan,
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
    throughput: Throughput | None = None,
    evaluated: str = "dev",
    further: Callable[[Mapping[str, float]], Metrics] | None = None,
    shown: Sequence[str] = (),
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
      metric: Which of its metrics decides what is best (higher is better, but for `loss`).
      save: Writes a checkpoint.
      log: Where scalars go.
      progress: Updated in place.
      steps: The compiled update.
      throughput: What a token costs and what the devices can do; None leaves both out of the log.
      evaluated: What is scored, for messages.
      further: Figures that follow from the means of the logged steps, recorded beside them.
      shown: Which of both the progress line has beside the loss.
      stop: Becomes true when the run is asked to stop (without JAX's; see `stop_requested`).

    Returns:
      The last state.

    Raises:
      RunFailed: The loss is not a number any more.
      Interrupted: Asked to stop; the state was saved.
      Exception: A batch could not be built (a damaged shard: UserError); the state before it was
        saved, but in a job of several processes.
    """
    step = saved = int(state.step)
    clock = _Clock(progress)
    under_way = _UnderWay(plan, schedule, log, clock, throughput, steps.share, further, shown)
    batches = _Prefetched(plan, steps.share)
    # XLA on CPU takes the memory of a step when it is queued, and a batch is built in no time
    # compared with a step; elsewhere one step waits while one runs.
    queued = 0 if jax.default_backend() == "cpu" else 1

    def checkpoint() -> int:
        under_way.finish(saved)
        best = progress.best(metric)
        kept = {each for each in cadence.keep_at if each <= step}
        with clock.paused():
            save(state, progress, kept | ({best["step"]} if best else set()))
        return step

    while step < plan.steps:
        if _exhausted(progress, metric, cadence.patience):
            log.say(f"stopped early: no better {metric} in {cadence.patience} evaluations")
            break
        if stop_requested(stop, step):
            if saved != step:
                checkpoint()
            raise Interrupted(f"stopped on request after step {step}; the same command continues")
        try:
            batch, waited = batches.take(step)
        except Exception:
            # In a job of several processes a save would wait for those that have their batch.
            if saved != step and not is_distributed():
                _save_before_raising(checkpoint, step, log)
            raise
        under_way.leave(queued)
        compiling = steps.waited
        state, scalars = steps(state, batch, schedule(step), step_key(seed, step))
        clock.leave_out(steps.waited - compiling)
        step += 1
        under_way.add(step, scalars, batch, waited)
        if step % cadence.log_every == 0:
            under_way.finish(saved)
        if step in cadence.evaluate_at:
            under_way.finish(saved)
            with clock.paused(), _failing_after(step, saved):
                metrics = evaluate(state)
            epoch = plan.epoch(step)
            progress.evaluations.append({"step": step, "epoch": epoch, "metrics": metrics})
            if metrics:
                log.scalars(step, {f"eval/{name}": value for name, value in metrics.items()})
                told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
                log.say(f"step {step}, epoch {epoch:.2f}: {evaluated} {told}")
            saved = checkpoint()
        elif cadence.checkpoints(step):
            saved = checkpoint()
    return state


def _save_before_raising(checkpoint: Callable[[], object], step: int, log: RunLog) -> None:
    """Saves a good state while an error is on its way, which a failing save must not hide."""
    try:
        checkpoint()
    except Exception as failure:
        log.say(f"the state of step {step} could not be saved: {failure}")
    else:
        log.say(f"the state of step {step} was saved; the same command continues there")


def stop_requested(stop: Any, step: int) -> bool:
    """Whether the run is asked to stop; several processes agree on the step (JAX's sync point)."""
    if not is_distributed():
        return bool(stop)
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)


class _Prefetched:
    """This process's share of a plan's batches, the next ones built while a step runs."""

    def __init__(self, plan: Plan, share: tuple[int, int]) -> None:
        self._plan, self._share = plan, share
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, concurrent.futures.Future[Batch]] | None = None

    def take(self, step: int) -> tuple[Batch, float]:
        """The batch of a step, and the seconds that were spent waiting for it."""
        began = time.perf_counter()
        if self._next is None or self._next[0] != step:
            self._next = (step, self._build(step))
        batch = self._next[1].result()
        waited = time.perf_counter() - began
        if step + 1 < self._plan.steps:
            self._next = (step + 1, self._build(step + 1))
        return batch, waited

    def _build(self, step: int) -> concurrent.futures.Future[Batch]:
        """Begins with a batch: the rows of this process."""
        return self._pool.submit(self._plan.batch, step, *self._share)


class _UnderWay:
    """Steps that were handed to the device and whose losses nobody has looked at yet."""

    def __init__(
        self,
        plan: Plan,
        schedule: Callable[[int], float],
        log: RunLog,
        clock: _Clock,
        throughput: Throughput | None,
        share: tuple[int, int],
        further: Callable[[Mapping[str, float]], Metrics] | None,
        shown: Sequence[str],
    ) -> None:
        self._plan, self._schedule, self._log, self._clock = plan, schedule, log, clock
        self._throughput, self._parts = throughput, share[1]
        self._further, self._shown = further, shown
        self._steps: list[tuple[int, dict[str, jax.Array]]] = []
        self._tokens, self._flops, self._waited = 0, 0.0, 0.0

    def add(self, step: int, scalars: dict[str, jax.Array], batch: Batch, waited: float) -> None:
        """Notes a step; counts its tokens and the seconds that it waited for its data."""
        self._clock.progress.padded_tokens += batch.packed.tokens.size * self._parts
        self._steps.append((step, scalars))
        self._tokens += real_tokens(batch)
        self._waited += waited
        if self._throughput:
            self._flops += self._throughput.flops(batch)

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
        found = [{name: float(x) for name, x in scalars.items()} for _, scalars in self._steps]
        for (step, _), values in zip(self._steps, found, strict=True):
            # A gradient that is no number spoils the parameters while the loss still looks well.
            for name, told in (("loss", "loss"), ("gradient_norm", "gradient")):
                if not math.isfinite(values[name]):
                    what = f"the {told} became {values[name]} at step {step}"
                    raise _failed(what, saved, updated=step > 1 or name != "loss")
        last, count = self._steps[-1][0], len(found)
        bound_heap()
        seconds = self._clock.lap()
        tokens, flops = _of_all_parts(self._tokens, self._flops, self._parts)
        self._clock.progress.tokens += tokens
        figures = {
            name: found[-1][name] if name.endswith("_norm") else _mean(found, name)
            for name in found[0]
        }
        if self._further:
            figures |= self._further(figures)
        record = {f"train/{name}": value for name, value in figures.items()} | {
            "learning_rate": self._schedule(last - 1),
            "examples_per_second": count * self._plan.batch_size / seconds,
            "tokens_per_second": tokens / seconds,
            "data_wait": self._waited / seconds,
            "memory_bytes": memory_in_use(),
            "seconds_left": (self._plan.steps - last) * seconds / count,
        }
        if self._throughput:
            record |= self._throughput.rates(flops / seconds)
        self._log.scalars(last, record)
        shown = {name: figures[name] for name in ("loss", *self._shown) if name in figures}
        shown |= {"rate": record["learning_rate"], "tokens/s": record["tokens_per_second"]}
        self._log.progress(last, shown, record["seconds_left"])
        self._steps.clear()
        self._tokens, self._flops, self._waited = 0, 0.0, 0.0


def _of_all_parts(tokens: int, flops: float, parts: int) -> tuple[int, float]:
    """The sums over a batch's parts of what each process counted in its own."""
    if jax.process_count() == 1:
        return tokens, flops
    from jax.experimental import multihost_utils

    halves = np.array(divmod(tokens, 1 << 32), np.uint32)  # JAX may have no int64
    counted, cost = multihost_utils.process_allgather((halves, np.float32(flops)))
    high, low = np.asarray(counted, np.uint64).sum(axis=0).tolist()
    readers = jax.process_count() // parts  # of each part
    return ((high << 32) + low) // readers, float(np.sum(cost, dtype=np.float64)) / readers


def _mean(records: list[dict[str, float]], name: str) -> float:
    return sum(record[name] for record in records) / len(records)


def _failed(what: str, saved: int, *, updated: bool = True) -> RunFailed:
    good = (
        f"the last good checkpoint is that of step {saved}"
        if saved
        else "no checkpoint was saved yet"
    )
    helps = "A smaller --config.learning_rate (in another --workdir) usually helps"
    if not updated:
        helps = "No update was made yet, so it is the weights or the data"
    return RunFailed(f"{what}; {good}. {helps}")


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
    """Counts training seconds into `progress`; compiling, evaluation, saving are left out."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap or pause, added to the progress."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self.progress.seconds += seconds
        return max(seconds, 1e-9)

    def leave_out(self, seconds: float) -> None:
        """What has just been waited for compilation does not count."""
        self._last += seconds
        self.progress.compile_seconds += seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        self.lap()
        yield
        self._last = time.perf_counter()
