"""The state of a run, in the form it is computed with and in the form it is saved in.

On disk every layer has its number in the path and vocabulary tables have their true size, whatever
mesh or compilation the run used; so a checkpoint of one layout continues on another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from gptbert.models.parameters import Parameters, stack_layers, unstack_layers
from gptbert.training.sharding import Layout, pad_vocabulary, strip_vocabulary


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a run needs to go on, and all that a checkpoint holds.

    Attributes:
      step: int32 scalar, how many updates were made.
      parameters: float32, by path.
      optimizer_state: Moments of the parameters that are trained.
    """

    step: Any
    parameters: Parameters
    optimizer_state: Any


def saved_form(state: Any, vocabulary: int) -> Any:
    """Layers numbered, padding of the vocabulary stripped; works on arrays and traced values."""
    return strip_vocabulary(_each_dictionary(unstack_layers, state), vocabulary)


def computed_form(state: Any, layout: Layout, *, scan_layers: bool) -> Any:
    """The inverse of `saved_form` for a mesh, placed on its devices.

    Compiled, so that no array is ever whole on one device where the mesh splits it.
    """

    def convert(state: Any) -> Any:
        if scan_layers:
            state = _each_dictionary(stack_layers, state)
        return pad_vocabulary(state, layout)

    shapes = jax.eval_shape(convert, abstract(state))
    return jax.jit(convert, out_shardings=layout.tree(shapes))(state)


def abstract(tree: Any) -> Any:
    """Shapes and types of a tree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _each_dictionary(change: Callable[[Parameters], Parameters], tree: Any) -> Any:
    """Applies `change` to every dictionary by path in a state (parameters and moments)."""
    is_dictionary = lambda node: isinstance(node, dict)  # noqa: E731
    return jax.tree.map(
        lambda node: change(node) if isinstance(node, dict) else node, tree, is_leaf=is_dictionary
    )
