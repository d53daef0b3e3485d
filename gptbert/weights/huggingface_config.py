"""`config.json` of a Hugging Face BERT, GPT or GPT-2, in and out.

| ours | BERT | GPT, GPT-2 |
| --- | --- | --- |
| layers, width | num_hidden_layers, hidden_size | n_layer, n_embd |
| heads | num_attention_heads | n_head |
| inner | intermediate_size | n_inner; without it 4 n_embd |
| vocabulary, positions | vocab_size, max_position_embeddings | vocab_size, n_positions |
| token_types | type_vocab_size | |
| activation | hidden_act | GPT-2: activation_function; GPT: afn |
| dropout, attention_dropout | hidden_dropout_prob, attention_probs_dropout_prob | resid_pdrop, \
attn_pdrop |
| embedding_dropout | | embd_pdrop |
| norm_epsilon | layer_norm_eps | layer_norm_epsilon |
| initial_stddev | initializer_range | initializer_range |
| left_to_right | is_decoder | |

The exact GELU is called `gelu`, its tanh form `gelu_new` or `gelu_pytorch_tanh`; in afn `gelu`
is the tanh form.

Fields that change nothing here (`use_cache`, `gradient_checkpointing`, `pooler_*`, `summary_*` and
so on) are left alone; fields that ask for other equations are refused by name.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptbert.errors import UserError, nearest
from gptbert.models.presets import BertConfig, GptConfig, ModelConfig

FILE_NAME = "config.json"
MAX_BYTES = 10_000_000  # 10,000 label names have half a megabyte


@dataclasses.dataclass(frozen=True)
class _Fields:
    """How one model's config.json says what ours says.

    Attributes:
      counts: Our field -> key, of positive integers.
      numbers: Our field -> key and the value that the first configurations, which lack some of
        them, were written for.
      activation: Key of the activation.
      activations: Its values -> ours; the first that means a form of ours is written.
      required: Keys that may ask for other equations, with the values that do not.
      architecture: Beginning of the names in `architectures`, for files without model_type.
    """

    counts: Mapping[str, str]
    numbers: Mapping[str, tuple[str, float]]
    activation: str
    activations: Mapping[str, str]
    required: Mapping[str, tuple[Any, ...]]
    architecture: str


_FORMS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
_GPT_COUNTS = {
    "layers": "n_layer",
    "width": "n_embd",
    "heads": "n_head",
    "vocabulary": "vocab_size",
    "positions": "n_positions",
}
_GPT_NUMBERS = {
    "dropout": ("resid_pdrop", 0.1),
    "attention_dropout": ("attn_pdrop", 0.1),
    "embedding_dropout": ("embd_pdrop", 0.1),
    "norm_epsilon": ("layer_norm_epsilon", 1e-5),
    "initial_stddev": ("initializer_range", 0.02),
}
_NO_CROSS_ATTENTION = {
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "pruned_heads": ({}, None),
}
_MODELS = {
    "bert": _Fields(
        counts={
            "layers": "num_hidden_layers",
            "width": "hidden_size",
            "heads": "num_attention_heads",
            "inner": "intermediate_size",
            "vocabulary": "vocab_size",
            "positions": "max_position_embeddings",
            "token_types": "type_vocab_size",
        },
        numbers={
            "dropout": ("hidden_dropout_prob", 0.1),
            "attention_dropout": ("attention_probs_dropout_prob", 0.1),
            "norm_epsilon": ("layer_norm_eps", 1e-12),
            "initial_stddev": ("initializer_range", 0.02),
        },
        activation="hidden_act",
        activations=_FORMS,
        required={
            "is_decoder": (False, None, True),
            "position_embedding_type": ("absolute", None),
            **_NO_CROSS_ATTENTION,
        },
        architecture="Bert",
    ),
    "openai-gpt": _Fields(_GPT_COUNTS, _GPT_NUMBERS, "afn", {"gelu": "gelu_tanh"}, {}, "OpenAIGPT"),
    "gpt2": _Fields(
        _GPT_COUNTS,
        _GPT_NUMBERS,
        "activation_function",
        _FORMS,
        {
            "scale_attn_weights": (True, None),
            "scale_attn_by_inverse_layer_idx": (False, None),
            **_NO_CROSS_ATTENTION,
        },
        "GPT2",
    ),
}


def read_config(folder: str | os.PathLike[str]) -> tuple[ModelConfig, dict[str, Any]]:
    """Reads the shape of a BERT, GPT or GPT-2, and returns the whole of config.json beside it.

    What config.json does not say of a GPT is how it starts: its preset's rule is taken.

    Raises:
      UserError: Missing, unreadable or not JSON; another architecture; a field that is missing, of
        the wrong type, or asks for what the model does not do.
    """
    path = Path(folder) / FILE_NAME
    settings = _read_json(path)
    kind = _check_architecture(settings, path)
    names = _MODELS[kind]
    fields: dict[str, Any] = {f: _count(settings, key, path) for f, key in names.counts.items()}
    for field, (key, default) in names.numbers.items():
        fields[field] = _number(settings, key, default, path)
    fields["activation"] = _activation(settings, names, path)
    try:
        if kind == "bert":
            return BertConfig(**fields, left_to_right=bool(settings.get("is_decoder"))), settings
        return GptConfig(**fields, **_more_of_gpt(kind, settings, fields, path)), settings
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _more_of_gpt(
    kind: str, settings: dict[str, Any], fields: dict[str, Any], path: Path
) -> dict[str, Any]:
    """What is not simply a field: the inner width, and how the two models differ."""
    has_inner = kind == "gpt2" and settings.get("n_inner") is not None
    inner = _count(settings, "n_inner", path) if has_inner else 4 * fields["width"]
    if kind == "openai-gpt":
        return {"inner": inner, "position_stddev": fields["initial_stddev"]}
    return {
        "inner": inner,
        "norm_place": "pre",
        "position_stddev": fields["initial_stddev"] / 2,
        "residual_scaling": True,
    }


def model_type(config: ModelConfig) -> str:
    """`bert`, `openai-gpt` or `gpt2`."""
    if isinstance(config, BertConfig):
        return "bert"
    return "openai-gpt" if config.norm_place == "post" else "gpt2"


def config_settings(config: ModelConfig) -> dict[str, Any]:
    """The fields of config.json that give the shape; what `read_config` reads back.

    Raises:
      UserError: `transformers` has no such model: a GPT whose inner width is not four times its
        width, or with the exact GELU.
    """
    kind = model_type(config)
    names = _MODELS[kind]
    spelt = [s for s, form in names.activations.items() if form == config.activation]
    if not spelt or (kind == "openai-gpt" and config.inner != 4 * config.width):
        raise UserError(
            f"transformers has no GPT with activation {config.activation!r} and inner width "
            f"{config.inner} at width {config.width}; expected 'gelu_tanh' and {4 * config.width}"
        )
    keys = dict(names.counts) | {field: key for field, (key, _) in names.numbers.items()}
    settings = {"model_type": kind, **{key: getattr(config, f) for f, key in keys.items()}}
    settings[names.activation] = spelt[0]
    if isinstance(config, BertConfig):
        settings |= {"position_embedding_type": "absolute", "is_decoder": config.left_to_right}
    elif kind == "gpt2":
        settings["n_inner"] = None if config.inner == 4 * config.width else config.inner
    return settings


def describe(config: ModelConfig) -> str:
    """The sizes that decide the shapes of tensors, by config.json's names, for messages."""
    counts = _MODELS[model_type(config)].counts
    return ", ".join(
        f"{key} {getattr(config, field)}"
        for field, key in counts.items()
        if field not in ("layers", "heads")
    )


def key_of(config: ModelConfig, field: str) -> str:
    """config.json's name of one of our counts."""
    return _MODELS[model_type(config)].counts[field]


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
    expected = (
        "expected a Hugging Face folder with config.json, model.safetensors and the files of a "
        "tokenizer"
    )
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


def _check_architecture(settings: dict[str, Any], path: Path) -> str:
    """Refuses other models. The first files of 2018 and 2019 do not say what they are."""
    architectures = settings.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(a, str) for a in architectures):
        raise UserError(f"{path}: architectures is {architectures!r}; expected a list of names")
    kind = settings.get("model_type")
    if kind is None:
        starts = {kind: names.architecture for kind, names in _MODELS.items() if architectures}
        fits = [k for k, start in starts.items() if all(a.startswith(start) for a in architectures)]
        kind = fits[0] if fits else (None if architectures else "bert")
    if not isinstance(kind, str) or kind not in _MODELS:
        found = f"model_type {kind!r}" if kind is not None else f"architectures {architectures}"
        known = ", ".join(repr(known) for known in _MODELS)
        raise UserError(f"{path}: {found} is not supported; expected model_type {known}")
    for key, expected in _MODELS[kind].required.items():
        if settings.get(key) not in expected:
            raise UserError(
                f"{path}: {key} is {settings[key]!r}, which is not this model as published; "
                f"expected {expected[0]!r}"
            )
    return kind


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


def _activation(settings: dict[str, Any], names: _Fields, path: Path) -> str:
    value = settings.get(names.activation)
    if not isinstance(value, str) or value not in names.activations:
        forms = {"gelu": "exact erf", "gelu_tanh": "tanh form"}
        told = [f"{s!r} ({forms[form]})" for s, form in names.activations.items()]
        raise UserError(f"{path}: {names.activation} is {value!r}; expected {' or '.join(told)}")
    return names.activations[value]
