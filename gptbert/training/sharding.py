"""Where every array lives: one table from parameter paths to the axes of a device mesh.

The mesh has three axes. `data` and `fsdp` both split the rows of a batch; `fsdp` splits parameters
and optimizer state as well (gathered where they are used); `tensor` splits heads, the inner width
of the MLP and the vocabulary. Modules know nothing of this: they call `place(x, kind)`.

Sizes that do not divide have a written rule:

| what | rule |
| --- | --- |
| vocabulary over `tensor` | the table gets rows of zeros up to a multiple, stripped when saved |
| rows of a batch over `data` x `fsdp` | rounded up with empty rows when shapes are planned |
| width over `fsdp` | that parameter stays whole on its devices (replicated) |
| heads or inner width over `tensor` | refused by name: it would not do what was asked for |
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gptbert.errors import UserError
from gptbert.models.presets import ModelConfig

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")

# First match wins. Specs are those of one layer; stacked layers get a leading None.
RULES: tuple[tuple[str, P], ...] = (
    (r"word/table$", P("tensor", "fsdp")),
    (r"attention/qkv_kernel$", P("fsdp", None, "tensor", None)),
    (r"attention/qkv_bias$", P(None, "tensor", None)),
    (r"attention/output_kernel$", P("tensor", None, "fsdp")),
    (r"up/kernel$", P("fsdp", "tensor")),
    (r"up/bias$", P("tensor")),
    (r"down/kernel$", P("tensor", "fsdp")),
    (r"(position|token_type)/table$", P(None, "fsdp")),
    (r"(pooler|mlm)/dense/kernel$", P("fsdp", None)),
    (r"mlm/bias$", P("tensor")),
    (r"", P()),
)

# Activations by the name that models call them: hidden [R,T,D], heads [R,T,H,K], inner [R,T,F],
# and the vocabulary table [V,D], gathered over fsdp before it is looked up.
ACTIVATIONS: dict[str, P] = {
    "hidden": P(ROWS, None, None),
    "heads": P(ROWS, None, "tensor", None),
    "inner": P(ROWS, None, "tensor"),
    "vocabulary": P("tensor", None),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh and the table applied to it."""

    mesh: Mesh

    @property
    def row_multiple(self) -> int:
        """Rows of a batch must be a multiple of this."""
        return self.mesh.shape["data"] * self.mesh.shape["fsdp"]

    def place(self, x: jax.Array, kind: str) -> jax.Array:
        """The `Place` that models call: constrains an activation to its axes."""
        if self.mesh.size == 1:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, ACTIVATIONS[kind]))

    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    def rows(self, leading: int = 0) -> NamedSharding:
        """Of batch arrays: rows split, after `leading` whole axes (pieces)."""
        return NamedSharding(self.mesh, P(*(None,) * leading, ROWS))

    @functools.cached_property
    def share(self) -> tuple[int, int]:
        """(part, parts): of so many equal parts of a batch's rows, this process reads that one.

        Processes over which only `tensor` is split read the same part.

        Raises:
          UserError: The mesh splits the rows so that processes have some in common, others not.
        """
        if jax.process_count() == 1:
            return 0, 1
        held: dict[int, set[int]] = {}
        places: dict[Any, Any] = dict(self.rows().devices_indices_map((self.row_multiple,)))
        for device, (rows,) in places.items():
            held.setdefault(device.process_index, set()).update(range(self.row_multiple)[rows])
        parts = sorted({tuple(sorted(rows)) for rows in held.values()})
        if sum(map(len, parts)) != self.row_multiple or len(set(map(len, parts))) > 1:
            raise UserError(
                f"the mesh {dict(self.mesh.shape)} splits batches unevenly over "
                f"{jax.process_count()} processes; expected tensor to divide the devices of a "
                "process, or to be a multiple of them (--config.mesh.tensor)"
            )
        return parts.index(tuple(sorted(held[jax.process_index()]))), len(parts)

    def global_batch(self, batch: Any, leading: int = 0) -> Any:
        """Host arrays of this process's `share` of the rows as arrays of the whole job.

        Where there is one process they stay as they are. Rows follow `leading` whole axes.
        """
        if jax.process_count() == 1:
            return batch
        place = self.rows(leading)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, x), batch)

    def parameter(self, path: str, shape: tuple[int, ...]) -> NamedSharding:
        """Of a parameter or a moment of it; raises UserError where the table cannot hold."""
        spec = _rule(path)
        if len(shape) > len(spec) and re.search(r"layers/[^/\d]", path):
            spec = P(None, *spec)
        axes = [
            self._fit(path, size, axis)
            for size, axis in zip(shape, (*spec, *(None,) * len(shape)), strict=False)
        ]
        return NamedSharding(self.mesh, P(*axes))

    def _fit(self, path: str, size: int, axis: str | None) -> str | None:
        if axis is None or size % self.mesh.shape[axis] == 0:
            return axis
        if axis == "fsdp":
            return None
        raise UserError(
            f"{path}: a size of {size} does not divide over {self.mesh.shape[axis]} devices on the "
            f"mesh axis {axis!r}; choose --config.mesh.{axis} so that it does"
        )

    def stored_tree(self, tree: Any) -> Any:
        """Shardings of a state in its saved form, to restore it in parts: what divides is split."""

        def place(keys: tuple[Any, ...], leaf: Any) -> NamedSharding:
            spec = _rule(_last_name(keys))
            axes = zip(leaf.shape, (*spec, *(None,) * leaf.ndim), strict=False)
            return NamedSharding(self.mesh, P(*(_fitting(*pair, self.mesh) for pair in axes)))

        return jax.tree_util.tree_map_with_path(place, tree)

    def tree(self, tree: Any) -> Any:
        """Shardings of a state: dictionaries by path get the table, everything else is whole."""
        return jax.tree_util.tree_map_with_path(
            lambda keys, leaf: self.parameter(_last_name(keys), leaf.shape), tree
        )


def _rule(path: str) -> P:
    return next(spec for pattern, spec in RULES if re.search(pattern, path))


def _fitting(size: int, axis: str | None, mesh: Mesh) -> str | None:
    return axis if axis is not None and size % mesh.shape[axis] == 0 else None


def _last_name(keys: tuple[Any, ...]) -> str:
    named = [key.key for key in keys if isinstance(key, jax.tree_util.DictKey)]
    return str(named[-1]) if named else ""


def usable_devices() -> list[Any]:
    """JAX's devices; raises UserError if the platform asked for cannot be used."""
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where a plugin is missing
        reason = (str(error).splitlines() or ["it is not installed"])[0].split(" (set JAX_")[0]
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX_PLATFORMS={asked!r} cannot be used: {reason}; expected the name of a platform "
            "that is there, such as cpu, or nothing for the best one"
        ) from None


def make_layout(
    data: int = -1, fsdp: int = 1, tensor: int = 1, devices: list[Any] | None = None
) -> Layout:
    """A mesh over the devices; -1 for one axis takes what is left."""
    devices = usable_devices() if devices is None else devices
    sizes = [data, fsdp, tensor]
    known = int(np.prod([size for size in sizes if size > 0]))
    if sizes.count(-1) == 1 and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if any(size < 1 for size in sizes) or int(np.prod(sizes)) != len(devices):
        raise UserError(
            f"mesh data={data}, fsdp={fsdp}, tensor={tensor} does not cover {len(devices)} "
            "device(s); expected sizes whose product is that number, one of them may be -1 "
            "(--config.mesh.data and so on)"
        )
    auto = (AxisType.Auto,) * 3
    return Layout(jax.make_mesh(tuple(sizes), AXES, axis_types=auto, devices=devices))


def check_model(config: ModelConfig, layout: Layout) -> None:
    """Raises UserError if heads or inner width cannot be split as the mesh asks."""
    tensor = layout.mesh.shape["tensor"]
    for name, size in (("heads", config.heads), ("inner width", config.inner)):
        if size % tensor:
            raise UserError(
                f"mesh axis tensor={tensor} does not divide the model's {name} ({size}); "
                "choose a divisor (--config.mesh.tensor)"
            )


def pad_vocabulary(tree: Any, layout: Layout) -> Any:
    """Adds rows of zeros to vocabulary tables (arrays or shapes) so that `tensor` divides them."""
    return _resize_vocabulary(tree, lambda rows: -(-rows // _tensor(layout)) * _tensor(layout))


def strip_vocabulary(tree: Any, vocabulary: int) -> Any:
    """Takes the rows away again that `pad_vocabulary` added."""
    return _resize_vocabulary(tree, lambda rows: vocabulary)


def parameter_count(parameters: Mapping[str, Any], vocabulary: int) -> int:
    """How many numbers a model has, without what a mesh added to its vocabulary."""
    stripped = strip_vocabulary(parameters, vocabulary)
    return sum(int(math.prod(value.shape)) for value in stripped.values())


def is_vocabulary(keys: tuple[Any, ...]) -> bool:
    """Whether a leaf of a state (by its key path) has an entry a word, or is a moment of one."""
    return _last_name(keys).endswith(("word/table", "mlm/bias"))


def _tensor(layout: Layout) -> int:
    return layout.mesh.shape["tensor"]


def _resize_vocabulary(tree: Any, size: Any) -> Any:
    def resize(keys: tuple[Any, ...], leaf: Any) -> Any:
        if not is_vocabulary(keys) or size(leaf.shape[0]) == leaf.shape[0]:
            return leaf
        rows = size(leaf.shape[0])
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype)
        if rows < leaf.shape[0]:
            return leaf[:rows]
        return jnp.pad(leaf, ((0, rows - leaf.shape[0]), *((0, 0),) * (leaf.ndim - 1)))

    return jax.tree_util.tree_map_with_path(resize, tree)
