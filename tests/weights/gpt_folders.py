"""Small Hugging Face folders of GPT and GPT-2 with random weights, for tests of what reads them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from gptbert.models.presets import GptConfig
from gptbert.tokenizers import Tokenizer, load_tokenizer
from gptbert.tokenizers.bpe_files import write_bpe
from gptbert.weights.huggingface_names import parameter_shapes, to_huggingface
from gptbert.weights.safetensors_files import write_safetensors

LETTERS = "abcdefghijklmnopqrstuvwxyz"
GPT_ENTRIES = ["<unk>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "th", "the</w>"]
GPT_MERGES = [("t", "h"), ("th", "e</w>")]
# A byte-level vocabulary has all 256 bytes, spelt as printable characters, and the end of text.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [b for b in range(256) if b not in _PRINTABLE]
GPT2_ENTRIES = [chr(b) for b in _PRINTABLE] + [chr(256 + n) for n in range(len(_OTHERS))]
GPT2_ENTRIES += ["th", "the", "<|endoftext|>"]
GPT2_MERGES = [("t", "h"), ("th", "e")]

GPT = GptConfig(
    layers=2,
    width=12,
    heads=3,
    inner=48,
    vocabulary=len(GPT_ENTRIES),
    positions=11,
    dropout=0.2,
    attention_dropout=0.0,
    embedding_dropout=0.3,
    norm_epsilon=1e-6,
    initial_stddev=0.04,
    position_stddev=0.04,
)
GPT2 = dataclasses.replace(
    GPT,
    inner=20,
    vocabulary=len(GPT2_ENTRIES),
    norm_place="pre",
    position_stddev=0.02,
    residual_scaling=True,
)
CONFIGS = {"gpt": GPT, "gpt2": GPT2}
SETTINGS = {
    "gpt": {
        "architectures": ["OpenAIGPTLMHeadModel"],
        "model_type": "openai-gpt",
        "afn": "gelu",
        "n_layer": 2,
        "n_embd": 12,
        "n_head": 3,
        "n_positions": 11,
        "n_ctx": 11,
        "vocab_size": len(GPT_ENTRIES),
        "resid_pdrop": 0.2,
        "attn_pdrop": 0,
        "embd_pdrop": 0.3,
        "layer_norm_epsilon": 1e-6,
        "initializer_range": 0.04,
        "summary_type": "cls_index",
    }
}
SETTINGS["gpt2"] = {k: v for k, v in SETTINGS["gpt"].items() if k != "afn"} | {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "n_inner": 20,
    "vocab_size": len(GPT2_ENTRIES),
}


def parameters(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 parameters by path."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(CONFIGS[name])
    return {path: rng.normal(0, 0.3, shape).astype(np.float32) for path, shape in shapes.items()}


def tensors(name: str, values: dict, prefix: str = "transformer.") -> dict[str, np.ndarray]:
    """The parameters as `transformers` names them."""
    return {prefix + key: tensor for key, tensor in to_huggingface(CONFIGS[name], values)}


def write_folder(folder: Path, name: str, stored: dict | None = None, **settings) -> Path:
    """config.json (`settings` over the usual ones, ... removes), weights, the tokenizer's files."""
    folder.mkdir(exist_ok=True)
    merged = {k: v for k, v in {**SETTINGS[name], **settings}.items() if v is not ...}
    (folder / "config.json").write_text(json.dumps(merged))
    stored = tensors(name, parameters(name)) if stored is None else stored
    write_safetensors(folder / "model.safetensors", stored)
    write_tokenizer(folder, name)
    return folder


def write_tokenizer(folder: Path, name: str) -> None:
    """The files of a small vocabulary."""
    kind, entries, merges = (
        ("bpe", GPT_ENTRIES, GPT_MERGES)
        if name == "gpt"
        else ("byte-bpe", GPT2_ENTRIES, GPT2_MERGES)
    )
    write_bpe(kind, {entry: n for n, entry in enumerate(entries)}, merges, folder, 11)


def tokenizer(folder: Path, name: str) -> Tokenizer:
    """That tokenizer, from files in a new folder within `folder`."""
    path = folder / f"tokenizer of {name}"
    path.mkdir()
    write_tokenizer(path, name)
    return load_tokenizer(path)
