"""Which parameters a run leaves as they are: `--config.frozen`.

Patterns are of paths in which layers have their number, `bert/layers/3/up/kernel`, on every
device. Where layers are scanned their parameters are stacked, and a stack gets updates as a whole:
patterns that tell its layers apart need unrolled ones.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

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


def with_frozen(
    patterns: Sequence[str], compute: Compute, build: Callable[[Compute], Any], *, asked: bool
) -> Compute:
    """`compute`, its layers unrolled if `patterns` freeze some of them and not others.

    Args:
      patterns: Of `--config.frozen`.
      compute: How the model is to be computed.
      build: Makes, for a `Compute`, what makes the module from nnx.Rngs.
      asked: Whether the user asked for scanned layers by name.

    Raises:
      UserError: Patterns that `check_frozen` refuses, or that scanned layers cannot follow.
    """
    parameters = describe(build(compute))[1]
    check_frozen(patterns, parameters)
    if not _tells_apart(patterns, parameters):
        return compute
    if asked:
        raise UserError(
            f"--config.frozen={tuple(patterns)} freezes some layers and not others, which scanned "
            "layers cannot follow; leave out --config.scan_layers=True"
        )
    return dataclasses.replace(compute, scan_layers=False)


def _tells_apart(patterns: Sequence[str], parameters: Parameters) -> bool:
    """Whether some layers of a stack are frozen and others are not."""

    def frozen(name: str) -> bool:
        return any(re.search(pattern, name) for pattern in patterns)

    stacks = (layer_paths(path, value) for path, value in parameters.items())
    return any(len({frozen(name) for name in stack}) > 1 for stack in stacks)
