"""gptbert's contestant: the update that `gptbert pretrain` compiles, on random tokens.

Kinds: `gptbert` projects the slots of masked tokens on the vocabulary, as pre-training does;
`gptbert all` every position, as `transformers` does (through the same loss); `gptbert bfloat16` is
the first with `compute_dtype=bfloat16`.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable

from gptbert import runtime

runtime.prepare()  # before JAX: the allocator, as the console script does

import jax  # noqa: E402
import numpy as np  # noqa: E402
from pretrain_cases import SEED, Case, case_of, draw  # noqa: E402
from pretrain_orders import answers, contestant_flags, obey, timed  # noqa: E402

from gptbert.commands.config_flag import load_config  # noqa: E402
from gptbert.models.dropout import step_key  # noqa: E402
from gptbert.models.inputs import Packed  # noqa: E402
from gptbert.models.parameters import describe, initialize  # noqa: E402
from gptbert.models.presets import Compute  # noqa: E402
from gptbert.models.pretraining import MaskedLanguageModel, NextTokenModel  # noqa: E402
from gptbert.pipeline.batch import Batch, MaskedTargets, TokenTargets  # noqa: E402
from gptbert.pipeline.instance_plan import SLOTS  # noqa: E402
from gptbert.runs.record import git_commit, versions  # noqa: E402
from gptbert.tasks.pretraining import objective_of  # noqa: E402
from gptbert.training.optimizer import make_optimizer  # noqa: E402
from gptbert.training.products import WORTHWHILE, Products, choose_products  # noqa: E402
from gptbert.training.schedules import make_schedule  # noqa: E402
from gptbert.training.sharding import make_layout  # noqa: E402
from gptbert.training.state import TrainState, abstract  # noqa: E402
from gptbert.training.step import Training  # noqa: E402
from gptbert.training.trainer import CompiledSteps  # noqa: E402

# Kind -> compute_dtype.
KINDS = {"gptbert": "float32", "gptbert all": "float32", "gptbert bfloat16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class RandomPlan:
    """Batches in the layout of the real plans: one full example a row."""

    case: Case
    every_position: bool
    steps: int
    pieces: int = 1

    @property
    def batch_size(self) -> int:
        return self.case.rows

    def batch(self, step: int) -> Batch:
        drawn = draw(self.case, step)
        rows, length = drawn.tokens.shape
        positions = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
        segments = np.broadcast_to(np.arange(1, rows + 1, dtype=np.int32)[:, None], (rows, length))
        types = (positions >= length // 2).astype(np.int32) * self.case.masked
        packed = Packed(drawn.tokens, positions, segments, types)
        if not self.case.masked:
            return Batch(packed, TokenTargets(drawn.labels, np.ones((rows, length), np.float32)))
        places, weights = drawn.positions, drawn.chosen
        labels = np.take_along_axis(drawn.labels, places, axis=1)
        if self.every_position:
            weights = _spread(places, weights, length)
            places, labels = positions, drawn.labels
        starts, next_labels = np.zeros((2, rows, SLOTS), np.int32)
        next_labels[:, 0] = drawn.next_labels
        next_weights = np.zeros((rows, SLOTS), np.float32)
        next_weights[:, 0] = 1
        targets = MaskedTargets(places, labels, weights, starts, next_labels, next_weights)
        return Batch(packed, targets)

    def abstract_batches(self) -> list[Batch]:
        return [abstract(self.batch(0))]

    def epoch(self, step: int) -> float:
        return step / self.steps


def _spread(places: np.ndarray, weights: np.ndarray, length: int) -> np.ndarray:
    """Weights of slots [R,M] -> weights of positions [R,T]."""
    found = np.zeros((len(places), length), np.float32)
    rows, slots = np.nonzero(weights)
    found[rows, places[rows, slots]] = 1
    return found


def set_up(
    case: Case, products: Products, *, dropout: float, every_position: bool = False
) -> tuple[Training, RandomPlan, Callable[[int], float], TrainState]:
    """What `gptbert.runs.pretrain` takes its steps with, and where it starts."""
    config = load_config(case.config, [], example="")
    kind = MaskedLanguageModel if case.masked else NextTokenModel
    compute = Compute(products.arrays, join_heads=True)  # as `runs.layers.choose_compute`
    build = functools.partial(kind, case.shape(dropout), compute)
    optimizer = make_optimizer(
        config.optimizer, weight_decay=config.weight_decay, clip=config.clip_norm,
        b2=config.b2, epsilon=config.epsilon,
    )  # fmt: skip
    objective = objective_of(config.objective)
    training = Training(
        describe(build)[0], objective, optimizer, make_layout(-1, 1, 1),
        products=products,
    )  # fmt: skip
    make_state = jax.jit(training.initial_state, donate_argnums=0)
    state: TrainState = make_state(initialize(build, SEED))
    plan = RandomPlan(case, every_position, config.steps)
    rate = make_schedule(config.schedule, config.learning_rate, config.warmup_steps, config.steps)
    return training, plan, rate, state


def main() -> None:
    """Sets a run up, then takes steps on orders."""
    flags = contestant_flags((__doc__ or "").splitlines()[0], tuple(KINDS))
    began = time.perf_counter()
    with answers() as say:
        case = case_of(flags.model)
        # As in a long run.
        products = choose_products(KINDS[flags.kind], WORTHWHILE, case.rows * case.positions)
        training, plan, rate, state = set_up(
            case, products, dropout=flags.dropout, every_position=flags.kind == "gptbert all"
        )
        ready = time.perf_counter()
        compiled = CompiledSteps(training, state, plan)
        compiled.wait()
        about = {
            "setup_seconds": round(ready - began, 2),
            "compile_seconds": round(time.perf_counter() - ready, 2),
            "products": str(products),
            "versions": versions(),
            "git_commit": git_commit(),
        }

        def step(number: int) -> float:
            nonlocal state
            batch = plan.batch(number)
            state, scalars = compiled(state, batch, rate(number), step_key(SEED, number))
            return float(scalars["loss"])

        obey(say, timed(step), about)


if __name__ == "__main__":
    main()
