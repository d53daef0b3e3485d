"""Between modules and flat dictionaries: `bert/layers/3/up/kernel` -> array.

Outside of the equations a model's parameters are one flat dictionary from path to array: easy to
list, shard by a table of patterns, freeze by name, compare, and save. On disk and in every
exchange layers have their number in the path; `stack_layers` makes the form that a scanned model
computes with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Parameters = dict[str, Any]
_LAYER = re.compile(r"^(.*layers)/(\d+)/(.*)$")


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Parameters]:
    """Splits a module into its static graph and its flat parameters."""
    graph, state = nnx.split(model, nnx.Param)
    flat = nnx.to_flat_state(state)
    return graph, {"/".join(map(str, path)): variable[...] for path, variable in flat}


def describe(build: Callable[[nnx.Rngs], nnx.Module]) -> tuple[nnx.GraphDef, Parameters]:
    """The graph and the abstract parameters (ShapeDtypeStruct) of `build`, nothing computed."""
    graph, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param)
    flat = nnx.to_flat_state(state)
    return graph, {
        "/".join(map(str, path)): jax.ShapeDtypeStruct(variable.shape, variable.dtype)
        for path, variable in flat
    }


def merge(graph: nnx.GraphDef, parameters: Mapping[str, Any]) -> Any:
    """The module again, from its graph and flat parameters; works inside a traced function."""
    flat: dict[Any, Any] = {
        tuple(int(part) if part.isdigit() else part for part in path.split("/")): nnx.Param(value)
        for path, value in parameters.items()
    }
    return nnx.merge(graph, nnx.from_flat_state(flat))


def initialize(
    build: Callable[[nnx.Rngs], nnx.Module], seed: int, only: set[str] | None = None
) -> Parameters:
    """Draws the initial parameters, a pure function of (seed, order of construction).

    With `only`, just the named ones are computed (a new head on loaded weights), with the values
    that they would have in a full draw.
    """

    def draw(key: jax.Array) -> Parameters:
        _, parameters = split(build(nnx.Rngs(params=key)))
        return {k: v for k, v in parameters.items() if only is None or k in only}

    return jax.jit(draw)(jax.random.key(seed))


def stack_layers(parameters: Mapping[str, Any]) -> Parameters:
    """`layers/0/x`, `layers/1/x`, … -> `layers/x` with a leading layer axis."""
    stacked: Parameters = {}
    numbered: dict[str, list[tuple[int, Any]]] = {}
    for path, value in parameters.items():
        if match := _LAYER.match(path):
            prefix, number, rest = match.groups()
            numbered.setdefault(f"{prefix}/{rest}", []).append((int(number), value))
        else:
            stacked[path] = value
    for path, values in numbered.items():
        stacked[path] = jnp.stack([value for _, value in sorted(values, key=lambda nv: nv[0])])
    return stacked


def layer_paths(path: str, value: Any) -> list[str]:
    """What the parameters of a (maybe stacked) path are called where layers have their number."""
    prefix, found, rest = path.partition("layers/")
    if not found or _LAYER.match(path):
        return [path]
    return [f"{prefix}layers/{number}/{rest}" for number in range(value.shape[0])]


def unstack_layers(parameters: Mapping[str, Any]) -> Parameters:
    """The inverse of `stack_layers`; leaves a dictionary without stacked layers as it is."""
    flat: Parameters = {}
    for path, value in parameters.items():
        names = layer_paths(path, value)
        if names == [path]:
            flat[path] = value
        else:
            flat |= {name: value[number] for number, name in enumerate(names)}
    return flat
