"""Our parameters -> a Hugging Face folder that `transformers` loads as it stands.

Written: config.json, model.safetensors, vocab.txt, tokenizer.json, tokenizer_config.json and a
model card, README.md. The folder is made under another name and moved, so that it is whole or
absent.
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
from gptbert.models.presets import BertConfig
from gptbert.tokenizers import Tokenizer
from gptbert.weights import huggingface_config, model_card, safetensors_files
from gptbert.weights.huggingface import CLASSIFIER_CLASS
from gptbert.weights.huggingface_names import PREFIX, to_huggingface
from gptbert.weights.model_card import ModelCard

__all__ = ["ModelCard", "check_output", "export_huggingface"]


def export_huggingface(
    output: str | os.PathLike[str],
    config: BertConfig,
    parameters: Mapping[str, Any],
    tokenizer: Tokenizer,
    *,
    labels: tuple[str, ...] | None,
    regression: bool,
    card: ModelCard,
) -> None:
    """Writes a folder that loads as BertForSequenceClassification, or as BertModel without a head.

    Args:
      output: The folder to make; it may exist if it is empty.
      config: The shape.
      parameters: By path, layers numbered; with `classifier/...` for a classifier.
      tokenizer: Saved beside the weights.
      labels: The classes in the order of the outputs; None for a score, or where they have no
        names.
      regression: Whether the classifier's one output is a score.
      card: What the model card says beyond that.

    Raises:
      UserError: `output` is in use, cannot be written, or transformers has no class for the head.
      ValueError: Parameters, labels and `config` do not fit together.
    """
    output = Path(output)
    check_output(output)
    arrays = {path: np.asarray(value, np.float32) for path, value in parameters.items()}
    has_pooler = "pooler/dense/kernel" in arrays
    classes = len(arrays.get("classifier/bias", ()))
    _check_head(classes, has_pooler, labels, regression)
    tensors = {
        name if name.startswith("classifier.") or not classes else PREFIX + name: tensor
        for name, tensor in to_huggingface(config, arrays)
    }
    settings = _settings(config, tokenizer, classes, labels, regression)
    readme = model_card.render(
        card, config, is_classifier=bool(classes), has_pooler=has_pooler, labels=labels
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


def _check_head(
    classes: int, has_pooler: bool, labels: tuple[str, ...] | None, regression: bool
) -> None:
    if classes and not has_pooler:
        raise UserError(
            "the classifier reads the mean of the hidden states (pooling 'mean'), for which "
            "transformers has no class; expected pooling 'cls' (--config.pooling=cls)"
        )
    if labels is not None and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for {classes} outputs")
    if regression and (classes != 1 or labels is not None):
        raise ValueError(f"a score has one output without a name, not {classes} with {labels}")


def _settings(
    config: BertConfig,
    tokenizer: Tokenizer,
    classes: int,
    labels: tuple[str, ...] | None,
    regression: bool,
) -> dict[str, Any]:
    """config.json; its order is that of the reader's interest."""
    settings: dict[str, Any] = {"architectures": [CLASSIFIER_CLASS if classes else "BertModel"]}
    settings |= huggingface_config.config_settings(config)
    settings |= {
        "classifier_dropout": None,
        "pad_token_id": tokenizer.special.pad,
        "torch_dtype": "float32",
        "use_cache": True,
    }
    if classes:
        unnamed = ("score",) if regression else tuple(f"LABEL_{c}" for c in range(classes))
        names = labels or unnamed
        settings |= {
            "id2label": {str(number): name for number, name in enumerate(names)},
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": "regression" if regression else "single_label_classification",
        }
    return settings


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
