"""Our parameters -> a Hugging Face folder that `transformers` loads as it stands.

Written: config.json, model.safetensors, the tokenizer's files and a model card, README.md. The
class is the one of the heads that are there. The folder is made under another name and moved, so
that it is whole or absent.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gptbert.errors import UserError
from gptbert.models.presets import GptConfig, ModelConfig
from gptbert.tokenizers import Tokenizer
from gptbert.weights import huggingface_config, model_card, safetensors_files
from gptbert.weights.huggingface import CLASSIFIER_CLASS
from gptbert.weights.huggingface_names import naming, places_of
from gptbert.weights.model_card import ModelCard

__all__ = ["ModelCard", "check_output", "export_huggingface"]


def export_huggingface(
    output: str | os.PathLike[str],
    config: ModelConfig,
    parameters: Mapping[str, Any],
    tokenizer: Tokenizer,
    *,
    labels: tuple[str, ...] | None,
    regression: bool,
    card: ModelCard,
) -> None:
    """Writes a folder that `transformers` loads, with the heads that `parameters` has.

    BERT with a classifier is BertForSequenceClassification; with the heads of pre-training
    BertForPreTraining, BertForMaskedLM (no sentence head) or BertLMHeadModel (left to right);
    without heads BertModel. GPT and GPT-2 are OpenAIGPTLMHeadModel and GPT2LMHeadModel.

    Args:
      output: The folder to make; it may exist if it is empty.
      config: The shape.
      parameters: By path, layers numbered; `classifier/...`, `mlm/...`, `nsp/...` are heads.
      tokenizer: Saved beside the weights.
      labels: The classes in the order of the outputs; None for a score, or where they have no
        names.
      regression: Whether the classifier's one output is a score.
      card: What the model card says beyond that.

    Raises:
      UserError: `output` is in use, cannot be written, or transformers has no class for the head.
      ValueError: Parameters, labels and `config` do not fit together.
    """
    check_output(output)
    output = Path(output).resolve()  # a link stays one
    arrays = {path: np.asarray(value, np.float32) for path, value in parameters.items()}
    heads = {path.split("/")[0] for path in arrays} - {"bert", "gpt"}
    _check_labels(len(arrays.get("classifier/bias", ())), labels, regression)
    architecture = _architecture(config, heads)
    has_prefix = bool(heads - {"pooler"}) or isinstance(config, GptConfig)
    prefix = naming(config).prefix if has_prefix else ""
    tensors = {
        prefix * place.in_backbone + name: place.to_file(arrays[place.path])
        for name, place in places_of(config, arrays).items()
    }
    settings = {"architectures": [architecture], **huggingface_config.config_settings(config)}
    settings |= _more_settings(config, tokenizer)
    if "classifier" in heads:
        settings |= _label_settings(len(arrays["classifier/bias"]), labels, regression)
    readme = model_card.render(
        card, config, architecture=architecture, has_pooler="pooler" in heads, labels=labels
    )

    partial = output.absolute().with_name(f".{output.absolute().name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_text(partial / "README.md", readme)
        _write_text(partial / huggingface_config.FILE_NAME, json.dumps(settings, indent=2) + "\n")
        tokenizer.save(partial, max_length=config.positions)
        safetensors_files.write_safetensors(partial / safetensors_files.FILE_NAME, tensors)
        os.replace(partial, output)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_output(output: str | os.PathLike[str]) -> None:
    """Raises UserError unless `output` can be made: absent or an empty folder."""
    path = Path(output)
    if path.is_dir():
        if held := sorted(entry.name for entry in path.iterdir()):
            shown = ", ".join(held[:4]) + (", ..." if len(held) > 4 else "")
            raise UserError(
                f"the output folder {path} is not empty (it holds {shown}); expected a new or "
                "empty folder, nothing is overwritten"
            )
    elif path.exists() or path.is_symlink():
        raise UserError(f"the output {path} is no folder; expected a new or empty folder")


def _check_labels(classes: int, labels: tuple[str, ...] | None, regression: bool) -> None:
    if labels is not None and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for {classes} outputs")
    if regression and (classes != 1 or labels is not None):
        raise ValueError(f"a score has one output without a name, not {classes} with {labels}")


def _architecture(config: ModelConfig, heads: set[str]) -> str:
    """The class of transformers that computes what our heads compute."""
    if isinstance(config, GptConfig):
        if "classifier" in heads:
            raise UserError(
                "this GPT has a classifier, for which transformers has no class (its classifiers "
                "have no bias and read the last token); expected weights without one"
            )
        return "OpenAIGPTLMHeadModel" if config.norm_place == "post" else "GPT2LMHeadModel"
    if "classifier" in heads:
        if "pooler" not in heads:
            raise UserError(
                "the classifier reads the mean of the hidden states (pooling 'mean'), for which "
                "transformers has no class; expected pooling 'cls' (--config.pooling=cls)"
            )
        if config.left_to_right:
            raise UserError(
                "this BERT reads from left to right, and its classifier the last token, for which "
                "transformers has no class (its classifiers read [CLS]); expected a BERT that was "
                "pre-trained with --config.objective=mlm_nsp or mlm"
            )
        return CLASSIFIER_CLASS
    if "mlm" not in heads:
        return "BertModel"
    if config.left_to_right:
        return "BertLMHeadModel"
    return "BertForPreTraining" if "nsp" in heads else "BertForMaskedLM"


def _more_settings(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """What config.json says beyond the shape."""
    special = tokenizer.special
    settings: dict[str, Any] = {"pad_token_id": special.pad}
    if isinstance(config, GptConfig):
        settings |= {"bos_token_id": special.end_of_text, "eos_token_id": special.end_of_text}
    else:
        settings["classifier_dropout"] = None
    return settings | {"torch_dtype": "float32", "use_cache": True}


def _label_settings(
    classes: int, labels: tuple[str, ...] | None, regression: bool
) -> dict[str, Any]:
    unnamed = ("score",) if regression else tuple(f"LABEL_{c}" for c in range(classes))
    names = labels or unnamed
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "regression" if regression else "single_label_classification",
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
