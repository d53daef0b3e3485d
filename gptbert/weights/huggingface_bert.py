"""What a BERT's tensors are called in Hugging Face files, without the prefix `bert.`."""

from __future__ import annotations

from gptbert.models.presets import BertConfig
from gptbert.weights.huggingface_places import Place, linear, norm

_PROJECTIONS = ("query", "key", "value")


def bert_places(config: BertConfig) -> dict[str, Place]:
    """Every tensor of embeddings and layers."""
    places = {
        f"embeddings.{kind}_embeddings.weight": Place(
            f"bert/embeddings/{kind}/table", (entries, config.width)
        )
        for kind, entries in (
            ("word", config.vocabulary),
            ("position", config.positions),
            ("token_type", config.token_types),
        )
    }
    places |= norm("embeddings.LayerNorm", "bert/embeddings/norm", config.width)
    for number in range(config.layers):
        places |= _layer(number, config)
    return places


def head_places(config: BertConfig, classes: int) -> dict[str, dict[str, Place]]:
    """The tensors of what may be on top, by the first part of our paths; C = `classes`."""
    width, vocabulary = config.width, config.vocabulary
    masked = linear("cls.predictions.transform.dense", "mlm/dense", width, width)
    masked |= norm("cls.predictions.transform.LayerNorm", "mlm/norm", width)
    masked |= {"cls.predictions.bias": Place("mlm/bias", (vocabulary,))}
    return {
        "pooler": linear("pooler.dense", "pooler/dense", width, width),
        "classifier": linear("classifier", "classifier", width, classes),
        "mlm": masked,
        "nsp": linear("cls.seq_relationship", "nsp", width, 2),
    }


def _layer(number: int, config: BertConfig) -> dict[str, Place]:
    there, here = f"encoder.layer.{number}", f"bert/layers/{number}"
    width, inner = config.width, config.inner
    places = {}
    for part, projection in enumerate(_PROJECTIONS):
        name = f"{there}.attention.self.{projection}"
        kernel, bias = f"{here}/attention/qkv_kernel", f"{here}/attention/qkv_bias"
        places[f"{name}.weight"] = Place(kernel, (width, width), linear=True, part=part)
        places[f"{name}.bias"] = Place(bias, (width,), part=part)
    output = f"{there}.attention.output.dense"
    places[f"{output}.weight"] = Place(
        f"{here}/attention/output_kernel", (width, width), linear=True
    )
    places[f"{output}.bias"] = Place(f"{here}/attention/output_bias", (width,))
    places |= norm(f"{there}.attention.output.LayerNorm", f"{here}/attention_norm", width)
    places |= linear(f"{there}.intermediate.dense", f"{here}/up", width, inner)
    places |= linear(f"{there}.output.dense", f"{here}/down", inner, width)
    places |= norm(f"{there}.output.LayerNorm", f"{here}/mlp_norm", width)
    return places
