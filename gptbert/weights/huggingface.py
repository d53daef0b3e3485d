"""A Hugging Face folder of BERT, GPT or GPT-2 -> our flat parameters, every tensor accounted for.

Read: with or without the prefix `bert.` or `transformer.`, old LayerNorm names, one file or shards,
half precision. Taken: the heads of BERT's pre-training and of a sequence classifier; other heads
are listed with the reason why they are not. Missing and wrongly shaped tensors, layers that
config.json does not know, and output projections that are not the word table, are refused by name.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.errors import UserError, shown
from gptbert.models.presets import BertConfig, ModelConfig
from gptbert.weights import huggingface_config, huggingface_names
from gptbert.weights.huggingface_bert import head_places
from gptbert.weights.huggingface_config import read_config
from gptbert.weights.huggingface_names import Naming
from gptbert.weights.huggingface_places import Place
from gptbert.weights.safetensors_files import TensorFiles, open_tensors

__all__ = ["HuggingFaceWeights", "read_bert", "read_config", "read_huggingface"]

CLASSIFIER_CLASS = "BertForSequenceClassification"
_GENERIC_LABEL = re.compile(r"^LABEL_\d+$")
_CLASSIFIER = ("classifier.weight", "classifier.bias")
# Tensors (without prefix) that are not needed, and why.
_REASONS = (
    (r"embeddings\.position_ids$", "the numbers 0, 1, 2, ... of old files"),
    (r"h\.\d+\.attn\.(masked_)?bias$", "the mask of old files"),
    (r"qa_outputs\.", "question-answering head"),
    (r"score\.weight$", "a classifier as transformers puts it on a GPT, which has no bias"),
    (r"multiple_choice_head\.", "multiple-choice head"),
)


@dataclasses.dataclass(frozen=True)
class HuggingFaceWeights:
    """What a Hugging Face folder holds of a model.

    Attributes:
      config: The shape, from config.json.
      parameters: float32 arrays by path: `bert/...` or `gpt/...`, and `pooler/...`,
        `classifier/...`, `mlm/...`, `nsp/...` if there.
      labels: The classifier's class names in the order of its outputs; None where there is no
        classifier, a score, or only the placeholders LABEL_0, LABEL_1.
      loaded: Names of the tensors that were used, as in the file.
      ignored: The other tensors, each with the reason in brackets.
      missing: Paths that BERT's fine-tuning asks for and the file has not: of the pooler, of the
        classifier.
      settings: The whole of config.json.
    """

    config: ModelConfig
    parameters: dict[str, np.ndarray]
    labels: tuple[str, ...] | None
    loaded: list[str]
    ignored: list[str]
    missing: list[str]
    settings: dict[str, Any]

    @property
    def classes(self) -> int | None:
        """Outputs of the classifier, None without one."""
        bias = self.parameters.get("classifier/bias")
        return None if bias is None else len(bias)


def read_huggingface(folder: str | os.PathLike[str]) -> HuggingFaceWeights:
    """Reads config.json and the safetensors of a folder.

    Raises:
      UserError: Another architecture, damaged files, tensors of the backbone missing or of other
        shapes than config.json says, labels that do not fit the classifier.
    """
    folder = Path(folder)
    config, settings = read_config(folder)
    files = open_tensors(folder)
    naming = huggingface_names.naming(config)
    names = _by_canonical_name(files, naming)
    _check_layers(config, naming, names, folder)

    places = huggingface_names.backbone_places(config)
    copies = _take_copies(naming, names)
    why_no_head = ""
    if isinstance(config, BertConfig):
        classes = _classes(names, files)
        why_no_head = _why_no_head(settings, classes)
        heads = head_places(config, classes)
        if why_no_head:
            del heads["classifier"]
        for group in heads.values():
            if any(name in names for name in group):
                places |= group

    _check_tensors(config, places, names, files, folder)
    shapes = huggingface_names.shapes_of(config, places)
    parameters = huggingface_names.from_huggingface(
        places, shapes, lambda name: files.read(names[name])
    )
    _check_copies(copies, naming, names, files)
    loaded = [name for canonical, name in names.items() if canonical in places]
    return HuggingFaceWeights(
        config,
        parameters,
        _labels(settings, parameters.get("classifier/bias"), folder),
        loaded=[*loaded, *copies.values()],
        ignored=[
            f"{name} ({_reason(canonical, naming, why_no_head)})"
            for canonical, name in names.items()
            if canonical not in places
        ],
        missing=_missing(config, parameters),
        settings=settings,
    )


def read_bert(folder: str | os.PathLike[str]) -> HuggingFaceWeights:
    """As `read_huggingface`, of a folder that must hold a BERT."""
    found = read_huggingface(folder)
    if not isinstance(found.config, BertConfig):
        model = huggingface_names.naming(found.config).model
        raise UserError(f"{folder} holds a {model}; expected a BERT")
    return found


def _by_canonical_name(files: TensorFiles, naming: Naming) -> dict[str, str]:
    """Canonical name -> name in the file, refusing two spellings of one tensor."""
    names: dict[str, str] = {}
    for name in sorted(files.shapes):
        short = huggingface_names.canonical(name, naming.prefix)
        if short in names:
            raise UserError(
                f"{files.files[name]} has both {names[short]!r} and {name!r}, which are the same "
                f"tensor of {naming.model}; expected one of them"
            )
        names[short] = name
    return names


def _check_layers(config: ModelConfig, naming: Naming, names: Iterable[str], folder: Path) -> None:
    """Compares the numbers of layers first: this bounds all lists made from config.json."""
    numbers = {n for name in names if (n := naming.layer_number(name)) is not None}
    if not numbers:
        some = ", ".join(list(names)[:4]) or "none at all"
        raise UserError(
            f"the weights in {folder} have no tensor {naming.layer}0, with or without the prefix "
            f"{naming.prefix!r}; expected a {naming.model} (the tensors there: {some})"
        )
    absent = next(n for n in range(len(numbers) + 1) if n not in numbers)
    if absent != config.layers or max(numbers) >= config.layers:
        wrong = f"lack {naming.layer}{absent}" if absent < config.layers else "have more"
        raise UserError(
            f"the weights in {folder} have {len(numbers)} layers where config.json says "
            f"{huggingface_config.key_of(config, 'layers')} {config.layers:,}: they {wrong}; "
            "expected weights and config.json of the same model"
        )


def _take_copies(naming: Naming, names: dict[str, str]) -> dict[str, str]:
    """Takes tensors that repeat another one out of `names`; alone, they stand for the other."""
    copies = {}
    for copy, original in naming.ties.items():
        if copy in names and original in names:
            copies[copy] = names.pop(copy)
        elif copy in names:
            names[original] = names.pop(copy)
    return copies


def _check_copies(
    copies: Mapping[str, str], naming: Naming, names: Mapping[str, str], files: TensorFiles
) -> None:
    """Refuses an output projection of its own: all three models use the word table."""
    for copy, name in copies.items():
        original = names[naming.ties[copy]]
        same_shape = files.shapes[name] == files.shapes[original]
        if not same_shape or not np.array_equal(files.read(name), files.read(original)):
            raise UserError(
                f"{files.files[name]}: {name!r} is not the same as {original!r}; expected tied "
                f"weights, as {naming.model} has them"
            )


def _check_tensors(
    config: ModelConfig,
    places: Mapping[str, Place],
    names: Mapping[str, str],
    files: TensorFiles,
    folder: Path,
) -> None:
    """Every tensor must be there, in the shape that config.json gives it."""
    if absent := [name for name in places if name not in names]:
        shown = ", ".join(absent[:6]) + (", ..." if len(absent) > 6 else "")
        model = huggingface_names.naming(config).model
        raise UserError(
            f"the weights in {folder} lack {len(absent)} of the {len(places)} tensors of a {model} "
            f"with {config.layers} layers: {shown}"
        )
    for short, place in places.items():
        name = names[short]
        if files.shapes[name] != place.shape:
            raise UserError(
                f"{files.files[name]}: tensor {name!r} has shape {list(files.shapes[name])}, "
                f"expected {list(place.shape)} from config.json "
                f"({huggingface_config.describe(config)})"
            )


def _missing(config: ModelConfig, parameters: Mapping[str, np.ndarray]) -> list[str]:
    if not isinstance(config, BertConfig):
        return []
    heads = head_places(config, 1)
    wanted = [*heads["pooler"].values(), *heads["classifier"].values()]
    return [place.path for place in wanted if place.path not in parameters]


def _classes(names: Mapping[str, str], files: TensorFiles) -> int:
    """C of the file's classifier weight [C,D], 1 without one; D is checked with all shapes."""
    if _CLASSIFIER[0] not in names:
        return 1
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


def _reason(canonical: str, naming: Naming, why_no_head: str) -> str:
    if canonical in _CLASSIFIER and why_no_head:
        return why_no_head
    for pattern, reason in _REASONS:
        if re.match(pattern, canonical):
            return reason
    return f"no tensor of {naming.model}"


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
            f"{path}: id2label is {shown(names)}; expected the keys '0', '1', ... each once"
        )
    if len(names) != count:
        raise UserError(
            f"{path}: id2label names {len(names)} classes, but classifier.weight has {count} "
            "outputs; expected config.json and weights of the same model"
        )
    labels = tuple(names[str(n)] for n in range(count))
    if not all(isinstance(label, str) and label for label in labels):
        raise UserError(f"{path}: id2label is {shown(names)}; expected names")
    if len(set(labels)) != count:
        raise UserError(f"{path}: id2label gives one name to two classes: {shown(names)}")
    return None if count == 1 or all(map(_GENERIC_LABEL.match, labels)) else labels
