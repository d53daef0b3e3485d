"""Makes bert_*.npz: what `transformers` computes with small random BERTs of odd sizes.

    python tests/golden/make_bert.py        (needs torch and transformers; the tests do not)

Each file holds config.json, the weights under their Hugging Face names, a padded batch, and what
came out in float64: logits, last hidden states of the real tokens, loss, and the gradient of the
loss by every weight. Weights are multiples of 1/16 (exact in half precision) and results are
rounded to 2^-19 of the largest entry of their array, which keeps the files small.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers

# File -> fields of config.json; 2 labels: cross-entropy, 1 label: mean squared error.
MODELS = {
    "bert_erf": {
        "num_hidden_layers": 2,
        "hidden_size": 60,
        "num_attention_heads": 5,
        "intermediate_size": 40,
        "vocab_size": 101,
        "max_position_embeddings": 77,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "num_labels": 2,
    },
    "bert_tanh": {
        "num_hidden_layers": 2,
        "hidden_size": 15,
        "num_attention_heads": 3,
        "intermediate_size": 11,
        "vocab_size": 37,
        "max_position_embeddings": 23,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-5,
        "num_labels": 1,
    },
}


def main() -> None:
    """Writes all files beside this script."""
    for seed, (name, fields) in enumerate(MODELS.items()):
        arrays = make(fields, np.random.default_rng(seed))
        path = Path(__file__).with_name(f"{name}.npz")
        np.savez_compressed(path, **arrays)
        print(f"{path}: {len(arrays)} arrays, {path.stat().st_size:,} bytes")


def make(fields: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One model, one batch, and what PyTorch makes of them."""
    config = transformers.BertConfig(**fields, attn_implementation="eager")
    model = transformers.BertForSequenceClassification(config).double().eval()
    weights = {name: draw(name, p.shape, rng) for name, p in model.named_parameters()}
    model.load_state_dict(
        {name: torch.from_numpy(w.astype(np.float64)) for name, w in weights.items()}, strict=False
    )
    batch = draw_batch(config, rng)
    output = model(**batch, output_hidden_states=True)
    output.loss.backward()
    real = batch["attention_mask"].numpy().astype(bool)
    return {
        "config": np.array(json.dumps({**fields, **more_fields(config)})),
        **{name: tensor.numpy() for name, tensor in batch.items()},
        **{f"weights/{name}": w for name, w in weights.items()},
        "logits": shortened(output.logits),
        "hidden": shortened(output.hidden_states[-1])[real],
        "loss": np.float64(output.loss.item()),
        **{f"gradients/{name}": shortened(p.grad) for name, p in model.named_parameters()},
    }


def more_fields(config: transformers.BertConfig) -> dict:
    """What else a config.json must say."""
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "type_vocab_size": config.type_vocab_size,
        "problem_type": "regression" if config.num_labels == 1 else "single_label_classification",
    }


def draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Weights large enough that attention is uneven and every bias and scale matters."""
    values = rng.normal(0.0, 0.25 if "embeddings" in name else 0.12, shape)
    if "LayerNorm.weight" in name:
        values += 1.0
    return (np.round(values * 16) / 16).astype(np.float16)


def draw_batch(
    config: transformers.BertConfig, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Four examples of very different lengths, the longest as long as the model allows.

    No token is number 0: PyTorch's embedding leaves out the gradient of the padding entry.
    """
    lengths = [3, config.max_position_embeddings, 17, 9]
    shape = (len(lengths), max(lengths))
    mask = np.arange(shape[1])[None] < np.array(lengths)[:, None]
    first = np.array([3, 12, 8, 9])[:, None]
    scores = config.num_labels == 1
    labels = rng.normal(2, 1, len(lengths)).astype(np.float32) if scores else np.array([0, 1, 1, 0])
    return {
        "input_ids": torch.from_numpy(rng.integers(1, config.vocab_size, shape) * mask),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "token_type_ids": torch.from_numpy((np.arange(shape[1])[None] >= first) * mask * 1),
        "labels": torch.from_numpy(labels.astype(np.float64) if scores else labels),
    }


def shortened(tensor: torch.Tensor) -> np.ndarray:
    """float32, rounded to multiples of 2^-19 of the largest entry (or a little finer)."""
    values = tensor.detach().numpy()
    step = 2.0 ** (np.ceil(np.log2(np.abs(values).max())) - 19)
    return (np.round(values / step) * step).astype(np.float32)


if __name__ == "__main__":
    main()
