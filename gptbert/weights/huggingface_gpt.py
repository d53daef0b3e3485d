"""What the tensors of GPT and GPT-2 are called in Hugging Face files, without `transformer.`."""

from __future__ import annotations

from gptbert.models.presets import GptConfig
from gptbert.weights.huggingface_places import Place, conv1d, norm

# LayerNorm after or before a sub-layer: names of the word and position tables.
TABLES = {"post": ("tokens_embed", "positions_embed"), "pre": ("wte", "wpe")}


def gpt_places(config: GptConfig) -> dict[str, Place]:
    """Every tensor; the output projection is the word table."""
    word, position = TABLES[config.norm_place]
    places = {
        f"{word}.weight": Place("gpt/embeddings/word/table", (config.vocabulary, config.width)),
        f"{position}.weight": Place(
            "gpt/embeddings/position/table", (config.positions, config.width)
        ),
    }
    for number in range(config.layers):
        places |= _layer(number, config)
    if config.norm_place == "pre":
        places |= norm("ln_f", "gpt/final_norm", config.width)
    return places


def _layer(number: int, config: GptConfig) -> dict[str, Place]:
    there, here = f"h.{number}", f"gpt/layers/{number}"
    width, inner = config.width, config.inner
    attention = f"{here}/attention"
    return {
        **conv1d(
            f"{there}.attn.c_attn", f"{attention}/qkv_kernel", f"{attention}/qkv_bias",
            width, 3 * width,
        ),
        **conv1d(
            f"{there}.attn.c_proj", f"{attention}/output_kernel", f"{attention}/output_bias",
            width, width,
        ),
        **norm(f"{there}.ln_1", f"{here}/attention_norm", width),
        **conv1d(f"{there}.mlp.c_fc", f"{here}/up/kernel", f"{here}/up/bias", width, inner),
        **conv1d(f"{there}.mlp.c_proj", f"{here}/down/kernel", f"{here}/down/bias", inner, width),
        **norm(f"{there}.ln_2", f"{here}/mlp_norm", width),
    }  # fmt: skip
