"""Weights to start from, wherever the user has them: a Hugging Face folder or one of our runs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.errors import UserError
from gptbert.models.presets import GptConfig, ModelConfig
from gptbert.weights.folders import is_run_folder
from gptbert.weights.huggingface import read_config, read_huggingface
from gptbert.weights.huggingface_names import naming
from gptbert.weights.run_folder import Head, read_description, read_run

# First parts of the paths of what each kind of training puts on the backbone.
_HEADS = {
    "classification": ("pooler", "classifier"),
    "masked-lm": ("pooler", "mlm", "nsp"),
    "next-token": ("mlm",),
}


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
      has_gpt_tokens: Whether the word table ends with the three tokens of a fine-tuned GPT.
    """

    config: ModelConfig
    parameters: dict[str, np.ndarray]
    classes: tuple[str, ...]
    regression: bool
    pooling: str
    fingerprint: str
    notes: tuple[str, ...] = ()
    has_gpt_tokens: bool = False


def read_weights(source: str, head: Head = "classification") -> Weights:
    """Reads a Hugging Face folder or a run folder; raises UserError for anything else.

    Of the heads those are kept that a training of the kind `head` has; the notes name the others.
    """
    path = _folder(source)
    weights = _of_run(path) if is_run_folder(path) else _of_folder(path, head)
    kept = {
        name: value
        for name, value in weights.parameters.items()
        if name.startswith(("bert/", "gpt/")) or name.split("/")[0] in _HEADS[head]
    }
    left = sorted({name.split("/")[0] for name in weights.parameters if name not in kept})
    notes = weights.notes + ((f"not used of the weights: {', '.join(left)}",) if left else ())
    return dataclasses.replace(weights, parameters=kept, notes=notes, fingerprint=fingerprint(kept))


def read_shape(source: str) -> ModelConfig:
    """The shape of weights, from the files that describe them alone; errors as `read_weights`."""
    path = _folder(source)
    return read_description(path).config if is_run_folder(path) else read_config(path)[0]


def _folder(source: str) -> Path:
    path = Path(source)
    if not path.is_dir():
        raise UserError(
            f"no folder {source!r}: expected a Hugging Face folder (config.json, "
            "model.safetensors, the files of a tokenizer) or the --workdir of a run "
            "(--config.init_from=DIR)"
        )
    return path


def start_from(
    weights: Weights, wanted: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The parameters of a model that `weights` has, and notes of what it has not.

    Args:
      weights: Of the same kind of backbone.
      wanted: The model's parameters by path (anything with a `shape`), layers numbered.

    Returns:
      Those of `wanted` that are there (the others are to be drawn), and one sentence each for
      heads that are newly initialised and for heads that are left behind.

    Raises:
      UserError: The backbone is another one: its parameters are missing, more, or of other shapes.
    """
    found = weights.parameters
    backbone = "gpt/" if any(path.startswith("gpt/") for path in wanted) else "bert/"
    odd = [
        path
        for path in dict.fromkeys([*wanted, *found])
        if (path in found and path in wanted and found[path].shape != wanted[path].shape)
        or (path.startswith(backbone) and (path in found) != (path in wanted))
    ]
    if odd:
        told = ", ".join(
            f"{p} {_shape(found, p)} where the model has {_shape(wanted, p)}" for p in odd[:3]
        )
        raise UserError(
            f"the weights of a {naming(weights.config).model} do not fit the model, in {len(odd)} "
            f"parameters: {told}; expected weights of the same shape (leave --config.model out to "
            "take the shape of the weights)"
        )
    new = sorted({path.split("/")[0] for path in wanted if path not in found})
    left = sorted({path.split("/")[0] for path in found if path not in wanted})
    notes = [f"newly initialised: {', '.join(new)}"] if new else []
    notes += [f"not used of the weights: {', '.join(left)}"] if left else []
    return {path: found[path] for path in wanted if path in found}, tuple(notes)


def _shape(parameters: Mapping[str, Any], path: str) -> str:
    return str(tuple(parameters[path].shape)) if path in parameters else "(absent)"


def _of_run(path: Path) -> Weights:
    description, parameters, step = read_run(path)
    is_classifier = description.head == "classification"
    return Weights(
        description.config,
        parameters,
        description.classes,
        is_classifier and not description.classes,
        description.pooling,
        "",
        (f"weights of step {step} of the run in {path}",),
        has_gpt_tokens=is_classifier and isinstance(description.config, GptConfig),
    )


def _of_folder(path: Path, head: Head) -> Weights:
    found = read_huggingface(path)
    outputs = found.parameters.get("classifier/bias", np.zeros(0)).shape[0]
    notes = [f"not used: {', '.join(found.ignored)}"] if found.ignored else []
    stated, rate = found.settings.get("classifier_dropout"), found.config.dropout
    if head == "classification" and stated not in (None, rate):
        notes += [
            f"not used: classifier_dropout {stated!r} of config.json; the classifier's dropout is "
            "that of the hidden states (--config.dropout)"
        ]
    return Weights(
        found.config,
        found.parameters,
        found.labels or (),
        outputs == 1,
        "cls",
        "",
        tuple(notes),
    )


def fingerprint(parameters: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) over names and bits of all parameters."""
    digest = hashlib.sha256()
    for path in sorted(parameters):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(parameters[path]).data)
    return digest.hexdigest()
