"""A Hugging Face BERT folder -> our flat parameters, every tensor of the file accounted for.

Read: with or without the prefix `bert.`, old LayerNorm names, one file or shards, half precision.
A sequence classifier's head is taken; other heads are listed with the reason why they are not.
Missing and wrongly shaped tensors, and layers that config.json does not know, are refused by name.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.errors import UserError
from gptbert.models.presets import BertConfig
from gptbert.weights import huggingface_config, huggingface_names
from gptbert.weights.huggingface_config import read_config
from gptbert.weights.huggingface_names import Place
from gptbert.weights.safetensors_files import TensorFiles, open_tensors

__all__ = ["HuggingFaceWeights", "read_bert", "read_config"]

CLASSIFIER_CLASS = "BertForSequenceClassification"
_GENERIC_LABEL = re.compile(r"^LABEL_\d+$")
_CLASSIFIER = ("classifier.weight", "classifier.bias")
# Tensors (without prefix) that are not needed, and why.
_REASONS = (
    (r"embeddings\.position_ids$", "the numbers 0, 1, 2, ... of old files"),
    (r"cls\.predictions\.", "masked-word head of pre-training"),
    (r"cls\.seq_relationship\.", "next-sentence head of pre-training"),
    (r"qa_outputs\.", "question-answering head"),
)


@dataclasses.dataclass(frozen=True)
class HuggingFaceWeights:
    """What a Hugging Face folder holds of a BERT.

    Attributes:
      config: The shape, from config.json.
      parameters: float32 arrays by path: `bert/...`, and `pooler/...`, `classifier/...` if there.
      labels: The classifier's class names in the order of its outputs; None where there is no
        classifier, a score, or only the placeholders LABEL_0, LABEL_1.
      loaded: Names of the tensors that were used, as in the file.
      ignored: The other tensors, each with the reason in brackets.
      missing: Our paths that the file has not: of the pooler, of the classifier.
    """

    config: BertConfig
    parameters: dict[str, np.ndarray]
    labels: tuple[str, ...] | None
    loaded: list[str]
    ignored: list[str]
    missing: list[str]

    @property
    def classes(self) -> int | None:
        """Outputs of the classifier, None without one."""
        bias = self.parameters.get("classifier/bias")
        return None if bias is None else len(bias)


def read_bert(folder: str | os.PathLike[str]) -> HuggingFaceWeights:
    """Reads config.json and the safetensors of a folder.

    Raises:
      UserError: Another architecture, damaged files, tensors of the encoder missing or of other
        shapes than config.json says, labels that do not fit the classifier.
    """
    folder = Path(folder)
    config, settings = read_config(folder)
    files = open_tensors(folder)
    names = _by_canonical_name(files)
    _check_layers(config, names, folder)

    places = huggingface_names.bert_places(config)
    optional = [huggingface_names.pooler_places(config)]
    classes = _classes(names, files)
    why_no_head = _why_no_head(settings, classes)
    if classes and not why_no_head:
        optional.append(huggingface_names.classifier_places(config, classes))
    for group in optional:
        if any(name in names for name in group):
            places |= group

    _check_tensors(config, places, names, files, folder)
    shapes = huggingface_names.parameter_shapes(config, classes=classes or 1)
    parameters = huggingface_names.from_huggingface(
        places, shapes, lambda name: files.read(names[name])
    )
    return HuggingFaceWeights(
        config,
        parameters,
        _labels(settings, parameters.get("classifier/bias"), folder),
        loaded=[name for canonical, name in names.items() if canonical in places],
        ignored=[
            f"{name} ({_reason(canonical, why_no_head)})"
            for canonical, name in names.items()
            if canonical not in places
        ],
        missing=[path for path in shapes if path not in parameters],
    )


def _by_canonical_name(files: TensorFiles) -> dict[str, str]:
    """Canonical name -> name in the file, refusing two spellings of one tensor."""
    names: dict[str, str] = {}
    for name in sorted(files.shapes):
        short = huggingface_names.canonical(name)
        if short in names:
            raise UserError(
                f"{files.files[name]} has both {names[short]!r} and {name!r}, which are the same "
                "tensor of BERT; expected one of them"
            )
        names[short] = name
    return names


def _check_layers(config: BertConfig, names: Iterable[str], folder: Path) -> None:
    """Compares the numbers of layers first: this bounds all lists made from config.json."""
    numbers = {n for name in names if (n := huggingface_names.layer_number(name)) is not None}
    if not numbers:
        some = ", ".join(list(names)[:4]) or "none at all"
        raise UserError(
            f"the weights in {folder} have no tensor encoder.layer.0, with or without the prefix "
            f"'bert.'; expected a BERT (the tensors there: {some})"
        )
    absent = next(n for n in range(len(numbers) + 1) if n not in numbers)
    if absent != config.layers or max(numbers) >= config.layers:
        wrong = f"lack encoder.layer.{absent}" if absent < config.layers else "have more"
        raise UserError(
            f"the weights in {folder} have {len(numbers)} encoder layers where config.json says "
            f"num_hidden_layers {config.layers:,}: they {wrong}; expected weights and config.json "
            "of the same model"
        )


def _check_tensors(
    config: BertConfig,
    places: Mapping[str, Place],
    names: Mapping[str, str],
    files: TensorFiles,
    folder: Path,
) -> None:
    """Every tensor must be there, in the shape that config.json gives it."""
    if absent := [name for name in places if name not in names]:
        shown = ", ".join(absent[:6]) + (", ..." if len(absent) > 6 else "")
        raise UserError(
            f"the weights in {folder} lack {len(absent)} of the {len(places)} tensors of a BERT "
            f"with {config.layers} layers: {shown}"
        )
    for short, place in places.items():
        name = names[short]
        if files.shapes[name] != place.shape:
            raise UserError(
                f"{files.files[name]}: tensor {name!r} has shape {list(files.shapes[name])}, "
                f"expected {list(place.shape)} from config.json ({_sizes(config)})"
            )


def _sizes(config: BertConfig) -> str:
    fields = ("width", "inner", "vocabulary", "positions", "token_types")
    return ", ".join(huggingface_config.describe(f, getattr(config, f)) for f in fields)


def _classes(names: Mapping[str, str], files: TensorFiles) -> int:
    """C of the file's classifier weight [C,D], 0 without one; D is checked with all shapes."""
    if _CLASSIFIER[0] not in names:
        return 0
    shape = files.shapes[names[_CLASSIFIER[0]]]
    return max(1, shape[0]) if shape else 1


def _why_no_head(settings: Mapping[str, Any], classes: int) -> str:
    """Why `classifier.*` is not the head of a sequence classifier, or an empty string."""
    architectures = settings.get("architectures") or [CLASSIFIER_CLASS]
    problem = settings.get("problem_type")
    if CLASSIFIER_CLASS not in architectures:
        return f"config.json gives the architecture {architectures[0]}, not {CLASSIFIER_CLASS}"
    if problem == "multi_label_classification" or (problem == "regression" and classes > 1):
        return f"a head for {problem} with {classes} outputs"
    return ""


def _reason(canonical: str, why_no_head: str) -> str:
    if canonical in _CLASSIFIER and why_no_head:
        return why_no_head
    for pattern, reason in _REASONS:
        if re.match(pattern, canonical):
            return reason
    return "no tensor of BERT"


def _labels(
    settings: Mapping[str, Any], bias: np.ndarray | None, folder: Path
) -> tuple[str, ...] | None:
    """The class names of `id2label`, checked against the classifier."""
    names = settings.get("id2label")
    if bias is None or names is None:
        return None
    path = folder / huggingface_config.FILE_NAME
    count = len(bias)
    if not isinstance(names, dict) or set(names) != {str(n) for n in range(len(names))}:
        raise UserError(
            f"{path}: id2label is {_short(names)}; expected the keys '0', '1', ... each once"
        )
    if len(names) != count:
        raise UserError(
            f"{path}: id2label names {len(names)} classes, but classifier.weight has {count} "
            "outputs; expected config.json and weights of the same model"
        )
    labels = tuple(names[str(n)] for n in range(count))
    if not all(isinstance(label, str) and label for label in labels):
        raise UserError(f"{path}: id2label is {_short(names)}; expected names")
    if len(set(labels)) != count:
        raise UserError(f"{path}: id2label gives one name to two classes: {_short(names)}")
    return None if count == 1 or all(map(_GENERIC_LABEL.match, labels)) else labels


def _short(value: object) -> str:
    told = repr(value)
    return told if len(told) <= 200 else f"{told[:197]}..."
