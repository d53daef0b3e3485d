"""Small Hugging Face folders with random weights, for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from gptbert.models.presets import BertConfig
from gptbert.tokenizers import Tokenizer, load_tokenizer
from gptbert.weights.huggingface_names import parameter_shapes, to_huggingface
from gptbert.weights.safetensors_files import write_safetensors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "hello", "world", ",", "!", "?", "how", "are", "you", "fine", "thank", "##s"]
WORDS += ["a", "b", "c"]
CONFIG = BertConfig(
    layers=2,
    width=12,
    heads=3,
    inner=20,
    vocabulary=len(WORDS),
    positions=11,
    norm_epsilon=1e-6,
    initial_stddev=0.05,
    dropout=0.2,
    attention_dropout=0.0,
)
SETTINGS = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 11,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0,
    "layer_norm_eps": 1e-6,
    "initializer_range": 0.05,
}


def parameters(pooler: bool = True, classes: int | None = None, seed: int = 0) -> dict:
    """Random float32 parameters by path."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(CONFIG, pooler=pooler, classes=classes)
    return {path: rng.normal(0, 0.3, shape).astype(np.float32) for path, shape in shapes.items()}


def tensors(values: dict, prefix: str = "bert.") -> dict[str, np.ndarray]:
    """The parameters as `transformers` names them."""
    return {
        name if name.startswith("classifier") else prefix + name: tensor
        for name, tensor in to_huggingface(CONFIG, values)
    }


def write_folder(folder: Path, stored: dict | None = None, **settings) -> Path:
    """config.json (`settings` over the usual ones, None removes), weights, vocab.txt."""
    folder.mkdir(exist_ok=True)
    merged = {k: v for k, v in {**SETTINGS, **settings}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(merged))
    write_safetensors(
        folder / "model.safetensors", tensors(parameters()) if stored is None else stored
    )
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return folder


def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of WORDS."""
    path = folder / "words.txt"
    path.write_text("".join(f"{word}\n" for word in WORDS))
    return load_tokenizer(path, lowercase=True)
