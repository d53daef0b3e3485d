"""One training step and one scoring step: pure functions, compiled once for each shape.

    gradients = d (sum of the examples' losses / number of examples) / d parameters
    parameters, optimizer_state = optimizer(gradients, learning rate)

The learning rate and the dropout key are arguments, so that nothing compiles again when they
change. With gradient accumulation the batch comes in equal pieces whose gradients are added up;
the result is that of the large batch.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gptbert.models.dropout import Noise
from gptbert.models.parameters import Parameters, layer_paths, merge
from gptbert.pipeline.batch import Batch
from gptbert.training.objective import Objective, Sums
from gptbert.training.optimizer import global_norm
from gptbert.training.products import PLAIN, Products
from gptbert.training.sharding import Layout
from gptbert.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Training:
    """What is fixed for a run: the graph, the objective, the optimizer, the layout.

    Attributes:
      graph: The model's static part; see `gptbert.models.parameters`.
      objective: Whose loss is minimised.
      optimizer: From `gptbert.training.optimizer.make_optimizer`.
      layout: Where arrays live.
      frozen: Patterns of parameter paths, layers numbered, that are not trained. Layers that are
        stacked to be scanned are frozen together or not at all (`runs.layers`).
      dropout: False switches dropout off (tests, the exactness of packing).
      products: By which library the update multiplies; scoring is always XLA's own.
    """

    graph: Any
    objective: Objective
    optimizer: optax.GradientTransformationExtraArgs
    layout: Layout
    frozen: Sequence[str] = ()
    dropout: bool = True
    products: Products = PLAIN

    def is_trained(self, path: str, value: Any) -> bool:
        """Whether the parameter (or abstract parameter) `value` at `path` gets updates."""
        names = layer_paths(path, value)
        return not any(re.search(pattern, names[0]) for pattern in self.frozen)

    def initial_state(self, parameters: Parameters) -> TrainState:
        """The state before the first update; works on arrays and, under eval_shape, on shapes."""
        trained = {k: v for k, v in parameters.items() if self.is_trained(k, v)}
        return TrainState(jnp.zeros((), jnp.int32), parameters, self.optimizer.init(trained))

    def update(
        self, state: TrainState, batch: Batch, learning_rate: jax.Array, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update. Batch arrays are [R,…], or [pieces,R,…] when gradients are accumulated.

        Returns the new state and scalars: `loss`, every sum of the objective divided by its count,
        `gradient_norm` (global, before clipping) and `parameter_norm` (of what is trained, after
        the update: for the norm before it XLA copies every parameter, so as not to overwrite one
        before it was read).
        """
        trained = {k: v for k, v in state.parameters.items() if self.is_trained(k, v)}
        fixed = {k: v for k, v in state.parameters.items() if k not in trained}
        counts = self.objective.counts(batch)

        def loss(trained: Parameters, piece: Batch) -> tuple[jax.Array, Parameters]:
            model = merge(self.graph, trained | fixed)
            packed = piece.packed
            noise = Noise(key, packed.segments, packed.positions) if self.dropout else None
            sums = self.objective.sums(model, piece, noise, self.layout.place)
            means = {name: value / counts[name] for name, value in sums.items()}
            return sum_of_terms(self.objective, means), means

        value_and_gradient = jax.value_and_grad(loss, has_aux=True)
        if batch.packed.tokens.ndim == 2:
            (value, means), gradients = value_and_gradient(trained, batch)
        else:
            (value, means), gradients = _accumulate(value_and_gradient, trained, batch)
        updates, optimizer_state = self.optimizer.update(
            gradients, state.optimizer_state, trained, learning_rate=learning_rate
        )
        updated = optax.apply_updates(trained, updates)
        scalars = means | {
            "loss": value,
            "gradient_norm": global_norm(gradients),
            "parameter_norm": global_norm(updated),
        }
        return TrainState(state.step + 1, updated | fixed, optimizer_state), scalars

    def score(self, parameters: Parameters, batch: Batch) -> jax.Array:
        """The objective's outputs of a batch without dropout: float32 [R,N,C]."""
        model = merge(self.graph, parameters)
        objective: Any = self.objective  # a ScoringObjective where anything is scored
        return objective.outputs(model, batch, self.layout.place)

    def measure(self, parameters: Parameters, batch: Batch) -> tuple[Sums, Sums]:
        """Sums and counts of the objective over a batch without dropout."""
        model = merge(self.graph, parameters)
        sums = self.objective.sums(model, batch, None, self.layout.place)
        return sums, self.objective.counts(batch)


def sum_of_terms(objective: Objective, means: Mapping[str, Any]) -> Any:
    """The loss: the weighted sum of the objective's terms."""
    return sum(weight * means[name] for name, weight in objective.terms.items())


def _accumulate(value_and_gradient: Callable[..., Any], trained: Parameters, batch: Batch) -> Any:
    """Adds up losses, means and gradients over the leading axis of `batch`."""

    def add(total: Any, piece: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, value_and_gradient(trained, piece)), None

    first = jax.tree.map(lambda x: x[0], batch)
    shapes = jax.eval_shape(value_and_gradient, trained, first)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zero, batch)[0]


def jit_update(training: Training, state: Any, pieces: int = 1) -> Any:
    """`Training.update` compiled over the mesh; `state` (arrays or shapes) gives the shardings."""
    layout = training.layout
    states, whole = layout.tree(state), layout.replicated()
    return jax.jit(
        training.update,
        in_shardings=(states, layout.rows(leading=pieces > 1), whole, whole),
        out_shardings=(states, whole),
        donate_argnums=0,
    )


def jit_score(training: Training, parameters: Any) -> Any:
    """`Training.score` compiled over the mesh."""
    layout = training.layout
    return jax.jit(
        training.score,
        in_shardings=(layout.tree(parameters), layout.rows()),
        out_shardings=layout.replicated(),
    )


def jit_measure(training: Training, parameters: Any) -> Any:
    """`Training.measure` compiled over the mesh."""
    layout = training.layout
    return jax.jit(
        training.measure,
        in_shardings=(layout.tree(parameters), layout.rows()),
        out_shardings=layout.replicated(),
    )
