"""Our parameters -> a Hugging Face folder that `transformers` loads as it stands.

Written: config.json, model.safetensors, the tokenizer's files and a model card, README.md. The
class is the one of the heads that are there; heads that it lacks are left out and named. The folder
is made under another name and moved, so that it is whole or absent.
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
from gptbert.models.presets import BertConfig, GptConfig, ModelConfig
from gptbert.tokenizers import Tokenizer
from gptbert.tokenizers.sentencepiece_model import SentencePiece
from gptbert.weights import huggingface_config, model_card, safetensors_files
from gptbert.weights.huggingface import CLASSIFIER_CLASS
from gptbert.weights.huggingface_names import naming, places_of
from gptbert.weights.model_card import ModelCard

__all__ = ["ModelCard", "check_output", "export_huggingface"]

# Class of transformers -> the heads that it has.
_HEADS = {
    CLASSIFIER_CLASS: {"pooler", "classifier"},
    "BertForPreTraining": {"pooler", "mlm", "nsp"},
    "BertForNextSentencePrediction": {"pooler", "nsp"},
    "BertForMaskedLM": {"mlm"},
    "BertLMHeadModel": {"mlm"},
    "BertModel": {"pooler"},
}
_NOTE_ON_SENTENCEPIECE = (
    "The tokenizer is a SentencePiece model; it needs version 5 of `transformers` and the package "
    "`sentencepiece`. What `save_pretrained` of `transformers` 5.23 writes of it no longer adds "
    "[CLS] and [SEP]: put the `tokenizer_config.json` that is here in its place."
)


def export_huggingface(
    output: str | os.PathLike[str],
    config: ModelConfig,
    parameters: Mapping[str, Any],
    tokenizer: Tokenizer,
    *,
    labels: tuple[str, ...] | None,
    regression: bool,
    card: ModelCard,
    stated: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Writes a folder that `transformers` loads, with the heads that `parameters` has.

    BERT with a classifier is BertForSequenceClassification; with the heads of pre-training
    BertForPreTraining, BertForNextSentencePrediction (no word head), BertForMaskedLM (no sentence
    head) or BertLMHeadModel (left to right); without heads BertModel. GPT and GPT-2 are
    OpenAIGPTLMHeadModel and GPT2LMHeadModel.

    Args:
      output: The folder to make; it may exist if it is empty.
      config: The shape.
      parameters: By path, layers numbered; `classifier/...`, `mlm/...`, `nsp/...` are heads.
      tokenizer: Saved beside the weights.
      labels: The classes in the order of the outputs; None for a score, or where they have no
        names.
      regression: Whether the classifier's one output is a score.
      card: What the model card says beyond that.
      stated: The config.json that the weights came with: what it says of the classifier's dropout
        and calls a score is kept.

    Returns:
      The heads that the class lacks, each with the reason in brackets; they are left out.

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
    lacking = sorted(heads - _HEADS.get(architecture, set()))
    not_exported = tuple(f"{head} ({architecture} has none)" for head in lacking)
    arrays = {path: value for path, value in arrays.items() if path.split("/")[0] not in lacking}
    heads -= set(lacking)
    has_prefix = bool(heads - {"pooler"}) or isinstance(config, GptConfig)
    prefix = naming(config).prefix if has_prefix else ""
    tensors = {
        prefix * place.in_backbone + name: place.to_file(arrays[place.path])
        for name, place in places_of(config, arrays).items()
    }
    settings = {"architectures": [architecture], **huggingface_config.config_settings(config)}
    settings |= _more_settings(config, tokenizer, stated or {})
    if "classifier" in heads:
        names = labels or _placeholders(len(arrays["classifier/bias"]), regression, stated or {})
        settings |= _label_settings(names, regression)
    notes = [f"Not exported: {', '.join(not_exported)}."] if not_exported else []
    if isinstance(config, BertConfig) and isinstance(tokenizer, SentencePiece):
        notes += [_NOTE_ON_SENTENCEPIECE]
    readme = model_card.render(
        card,
        config,
        architecture=architecture,
        has_pooler="pooler" in heads,
        labels=labels,
        notes=notes,
    )

    partial = output.absolute().with_name(f".{output.absolute().name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_text(partial / "README.md", readme)
        _write_text(partial / huggingface_config.FILE_NAME, json.dumps(settings, indent=2) + "\n")
        for_bert = isinstance(config, BertConfig)
        tokenizer.save(partial, max_length=config.positions, for_bert=for_bert)
        safetensors_files.write_safetensors(partial / safetensors_files.FILE_NAME, tensors)
        os.replace(partial, output)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return not_exported


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
    if config.left_to_right:
        return "BertLMHeadModel" if "mlm" in heads else "BertModel"
    for architecture in ("BertForPreTraining", "BertForNextSentencePrediction"):
        if heads >= _HEADS[architecture]:
            return architecture
    return "BertForMaskedLM" if "mlm" in heads else "BertModel"


def _more_settings(
    config: ModelConfig, tokenizer: Tokenizer, stated: Mapping[str, Any]
) -> dict[str, Any]:
    """What config.json says beyond the shape."""
    special = tokenizer.special
    settings: dict[str, Any] = {"pad_token_id": special.pad}
    if isinstance(config, GptConfig):
        settings |= {"bos_token_id": special.end_of_text, "eos_token_id": special.end_of_text}
    else:
        settings["classifier_dropout"] = stated.get("classifier_dropout")
    return settings | {"torch_dtype": "float32", "use_cache": True}


def _placeholders(classes: int, regression: bool, stated: Mapping[str, Any]) -> tuple[str, ...]:
    """What outputs without names are called: a score as it was called before, if it was."""
    if not regression:
        return tuple(f"LABEL_{c}" for c in range(classes))
    named = stated.get("id2label")
    name = named.get("0") if isinstance(named, dict) else None
    return (name if isinstance(name, str) and name else "score",)


def _label_settings(names: tuple[str, ...], regression: bool) -> dict[str, Any]:
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "regression" if regression else "single_label_classification",
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
