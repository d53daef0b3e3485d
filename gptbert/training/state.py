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


def computed_form(state: Any, layout: Layout, *, scan_layers: bool, consume: bool = False) -> Any:
    """The inverse of `saved_form` for a mesh, placed on its devices.

    Compiled, so that no array is ever whole on one device where the mesh splits it.

    With `consume` the arrays of `state` are gone afterwards: one dictionary by path (parameters, a
    moment of them) after the other is converted and freed, so that at most one is held twice.
    """

    def convert(part: Any) -> Any:
        if scan_layers:
            part = _each_dictionary(stack_layers, part)
        return pad_vocabulary(part, layout)

    def placed(part: Any) -> Any:
        shapes = jax.eval_shape(convert, abstract(part))
        return jax.jit(convert, out_shardings=layout.tree(shapes))(part)

    def moved(part: Any) -> Any:
        found = jax.block_until_ready(placed(part))
        for leaf in jax.tree.leaves(part):
            leaf.delete()
        return found

    return jax.tree.map(moved, state, is_leaf=_is_dictionary) if consume else placed(state)


def abstract(tree: Any) -> Any:
    """Shapes and types of a tree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _each_dictionary(change: Callable[[Parameters], Parameters], tree: Any) -> Any:
    """Applies `change` to every dictionary by path in a state (parameters and moments)."""
    return jax.tree.map(
        lambda node: change(node) if _is_dictionary(node) else node, tree, is_leaf=_is_dictionary
    )


def _is_dictionary(node: Any) -> bool:
    return isinstance(node, dict)
