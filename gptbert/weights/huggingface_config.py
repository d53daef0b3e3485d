"""`config.json` of a Hugging Face BERT, in and out.

| ours | config.json |
| --- | --- |
| layers, width, heads | num_hidden_layers, hidden_size, num_attention_heads |
| inner, vocabulary | intermediate_size, vocab_size |
| positions, token_types | max_position_embeddings, type_vocab_size |
| activation | hidden_act: `gelu` exact; `gelu_new`, `gelu_pytorch_tanh` the tanh form |
| dropout, attention_dropout | hidden_dropout_prob, attention_probs_dropout_prob |
| norm_epsilon, initial_stddev | layer_norm_eps, initializer_range |

Fields that change nothing here (`use_cache`, `gradient_checkpointing`, `pooler_*` and so on) are
left alone; fields that ask for other equations are refused by name.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from gptbert.errors import UserError, nearest
from gptbert.models.presets import BertConfig

FILE_NAME = "config.json"
MAX_BYTES = 10_000_000  # 10,000 label names have half a megabyte
_COUNTS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
}
# With the values that the first configurations, which lack some of them, were written for.
_NUMBERS = {
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "norm_epsilon": ("layer_norm_eps", 1e-12),
    "initial_stddev": ("initializer_range", 0.02),
}
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
# Fields that ask for other equations, with the values that ask for BERT's.
_REQUIRED_VALUES: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "position_embedding_type": ("absolute", None),
    "pruned_heads": ({}, None),
}


def read_config(folder: str | os.PathLike[str]) -> tuple[BertConfig, dict[str, Any]]:
    """Reads the shape of a BERT, and returns the whole of config.json beside it.

    Raises:
      UserError: Missing, unreadable or not JSON; another architecture; a field that is missing, of
        the wrong type, or asks for what BERT does not do.
    """
    path = Path(folder) / FILE_NAME
    settings = _read_json(path)
    _check_architecture(settings, path)
    fields: dict[str, Any] = {f: _count(settings, key, path) for f, key in _COUNTS.items()}
    for field, (key, default) in _NUMBERS.items():
        fields[field] = _number(settings, key, default, path)
    fields["activation"] = _activation(settings, path)
    try:
        return BertConfig(**fields), settings
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def config_settings(config: BertConfig) -> dict[str, Any]:
    """The fields of config.json that give the shape; what `read_config` reads back."""
    names = _COUNTS | {field: key for field, (key, _) in _NUMBERS.items()}
    activation = "gelu" if config.activation == "gelu" else "gelu_new"
    return {
        "model_type": "bert",
        **{key: getattr(config, field) for field, key in names.items()},
        "hidden_act": activation,
        "position_embedding_type": "absolute",
    }


def describe(name: str, value: object) -> str:
    """`hidden_size 384` under config.json's name of one of our fields, for messages."""
    return f"{_COUNTS[name]} {value}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(f"{path} has {size:,} bytes; expected at most {MAX_BYTES:,}")
        settings = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(_nothing_there(path)) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds a JSON {type(settings).__name__}; expected an object")
    return settings


def _nothing_there(path: Path) -> str:
    folder = path.parent
    expected = "expected a Hugging Face folder with config.json, model.safetensors and vocab.txt"
    if folder.is_file():
        return f"{folder} is a file; {expected} (give the folder that holds them)"
    if not folder.exists():
        return (
            f"no folder {folder} (looked in {folder.absolute()}); {expected}, fetched for instance "
            "with: hf download google-bert/bert-base-uncased --local-dir DIR"
        )
    there = sorted(entry.name for entry in folder.iterdir())
    held = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else "nothing"
    return f"no config.json in {folder}, which holds {held}; {expected}"


def _check_architecture(settings: dict[str, Any], path: Path) -> None:
    """Refuses other models. The first files of 2018 and 2019 do not say what they are."""
    architectures = settings.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(a, str) for a in architectures):
        raise UserError(f"{path}: architectures is {architectures!r}; expected a list of names")
    kind = settings.get("model_type")
    if kind is None and all(name.startswith("Bert") for name in architectures):
        kind = "bert"
    if kind != "bert":
        found = f"model_type {kind!r}" if kind is not None else f"architectures {architectures}"
        raise UserError(f"{path}: {found} is not supported; expected model_type 'bert'")
    for key, expected in _REQUIRED_VALUES.items():
        if settings.get(key) not in expected:
            raise UserError(
                f"{path}: {key} is {settings[key]!r}, which is not BERT as published; expected "
                f"{expected[0]!r}"
            )


def _count(settings: dict[str, Any], key: str, path: Path) -> int:
    if key not in settings:
        raise UserError(f"{path} has no {key}{nearest(key, settings)}; expected a positive integer")
    value = settings[key]
    if type(value) is not int or value < 1:
        raise UserError(f"{path}: {key} is {value!r}; expected a positive integer")
    return value


def _number(settings: dict[str, Any], key: str, default: float, path: Path) -> float:
    value = settings.get(key, default)
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise UserError(f"{path}: {key} is {value!r}; expected a number of at least 0")
    return float(value)


def _activation(settings: dict[str, Any], path: Path) -> str:
    value = settings.get("hidden_act")
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise UserError(
            f"{path}: hidden_act is {value!r}; expected 'gelu' (exact erf), 'gelu_new' or "
            "'gelu_pytorch_tanh' (tanh form)"
        )
    return _ACTIVATIONS[value]
