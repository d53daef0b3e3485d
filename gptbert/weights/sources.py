"""Weights to start from, wherever the user has them: a Hugging Face folder or one of our runs."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from gptbert.errors import UserError
from gptbert.models.presets import BertConfig
from gptbert.weights.huggingface import read_bert
from gptbert.weights.run_folder import is_run_folder, read_run


@dataclasses.dataclass(frozen=True)
class Weights:
    """Parameters with what is known of them.

    Attributes:
      config: The shape.
      parameters: float32 host arrays by path, layers numbered.
      classes: Names of the classifier's outputs, if it has one and they are known.
      regression: Whether the classifier gives a score.
      pooling: What the classifier reads: `cls` or `mean`.
      fingerprint: SHA-256 over all parameters.
      notes: What was ignored or is missing, one sentence each.
    """

    config: BertConfig
    parameters: dict[str, np.ndarray]
    classes: tuple[str, ...]
    regression: bool
    pooling: str
    fingerprint: str
    notes: tuple[str, ...] = ()


def read_weights(source: str) -> Weights:
    """Reads a Hugging Face folder or a run folder; raises UserError for anything else."""
    path = Path(source)
    if not path.is_dir():
        raise UserError(
            f"no folder {source!r}: expected a Hugging Face folder (config.json, "
            "model.safetensors, vocab.txt) or the --workdir of a run (--config.init_from=DIR)"
        )
    if is_run_folder(path):
        description, parameters, step = read_run(path)
        return Weights(
            description.config,
            parameters,
            description.classes,
            not description.classes,
            description.pooling,
            fingerprint(parameters),
            (f"weights of step {step} of the run in {source}",),
        )
    found = read_bert(path)
    outputs = found.parameters.get("classifier/bias", np.zeros(0)).shape[0]
    notes = [f"not used: {', '.join(found.ignored)}"] if found.ignored else []
    return Weights(
        found.config,
        found.parameters,
        found.labels or (),
        outputs == 1,
        "cls",
        fingerprint(found.parameters),
        tuple(notes),
    )


def fingerprint(parameters: dict[str, np.ndarray]) -> str:
    """SHA-256 (hex) over names and bits of all parameters."""
    digest = hashlib.sha256()
    for path in sorted(parameters):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(parameters[path]).data)
    return digest.hexdigest()
