"""How a run goes through its layers, and which parameters it leaves as they are.

Unrolled layers step faster on a CPU; scanned ones compile in seconds on accelerators. Patterns of
`--config.frozen` are of paths in which layers have their number, `bert/layers/3/up/kernel`, on
every device. Where layers are scanned their parameters are stacked, and a stack gets updates as a
whole: patterns that tell its layers apart need unrolled ones.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from gptbert.errors import UserError
from gptbert.models.parameters import Parameters, describe, layer_paths
from gptbert.models.presets import Compute


def check_frozen(patterns: Sequence[str], parameters: Parameters) -> None:
    """Refuses patterns that are no regular expressions, match nothing or leave nothing over."""
    paths = {name for path, value in parameters.items() for name in layer_paths(path, value)}
    left = set(paths)
    for pattern in patterns:
        try:
            matched = {path for path in paths if re.search(pattern, path)}
        except (re.error, TypeError) as error:
            raise UserError(
                f"--config.frozen: {pattern!r} is not a regular expression ({error})"
            ) from None
        if not matched:
            raise UserError(
                f"--config.frozen: {pattern!r} matches no parameter; expected a pattern of paths "
                f"such as {', '.join(sorted(paths)[:3])}"
            )
        left -= matched
    if not left:
        raise UserError("--config.frozen matches every parameter; expected some left to train")


def choose_compute(config: ConfigDict, arrays: str, build: Callable[[Compute], Any]) -> Compute:
    """What `scan_layers`, `remat` and `frozen` of a config come to.

    Args:
      config: Of fine-tuning or pre-training.
      arrays: The type of the arrays that are multiplied (`training.products`).
      build: Makes, for a `Compute`, what makes the module from nnx.Rngs.

    Raises:
      UserError: Patterns that `check_frozen` refuses, or that scanned layers cannot follow where
        they are asked for by name.
    """
    asked = config.scan_layers
    scan = scans_layers() if asked is None else asked
    compute = Compute(arrays, scan, config.remat, join_heads=config.mesh.tensor == 1)
    if not config.frozen:
        return compute
    parameters = describe(build(compute))[1]
    check_frozen(config.frozen, parameters)
    if not _tells_apart(config.frozen, parameters):
        return compute
    if asked:
        raise UserError(
            f"--config.frozen={tuple(config.frozen)} freezes some layers and not others, which "
            "scanned layers cannot follow; leave out --config.scan_layers=True"
        )
    return dataclasses.replace(compute, scan_layers=False)


def scans_layers() -> bool:
    """Whether layers are scanned on the devices at hand, unless something else is asked for."""
    return jax.default_backend() != "cpu"


def _tells_apart(patterns: Sequence[str], parameters: Parameters) -> bool:
    """Whether some layers of a stack are frozen and others are not."""

    def frozen(name: str) -> bool:
        return any(re.search(pattern, name) for pattern in patterns)

    stacks = (layer_paths(path, value) for path, value in parameters.items())
    return any(len({frozen(name) for name in stack}) > 1 for stack in stacks)
