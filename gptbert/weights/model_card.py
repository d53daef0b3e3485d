"""The README.md of exported weights: what they are, what they score, how to use them.

The head of the file is YAML in the form that model hubs index (`model-index` holds the figures).
Its texts are written as JSON strings, which are YAML strings whatever they contain.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from gptbert.models.presets import GptConfig, ModelConfig

# Class of the model -> class to load it with, and the hub's word for what it does.
_PURPOSES = {
    "BertModel": ("AutoModel", "feature-extraction"),
    "BertForSequenceClassification": (
        "AutoModelForSequenceClassification",
        "text-classification",
    ),
    "BertForPreTraining": ("AutoModelForPreTraining", "fill-mask"),
    "BertForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    # The hub has no word for it.
    "BertForNextSentencePrediction": ("AutoModelForNextSentencePrediction", "feature-extraction"),
    "BertLMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "OpenAIGPTLMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "GPT2LMHeadModel": ("AutoModelForCausalLM", "text-generation"),
}


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What only the caller knows of the weights.

    Attributes:
      name: What the model is called.
      base: What it was fine-tuned from; empty if unknown.
      task: For instance `glue/mrpc`; empty for weights without a task.
      split: Which part of the task the figures are of.
      metrics: Name -> value, fractions; empty where nothing was measured.
      training: How it was trained: name -> value, as the run folder has them.
      language: A code such as `en`; empty if unknown.
      license: The hub's name of the license; `other` where the weights' own terms apply.
      from_scratch: It was trained from random weights: no terms of others apply.
    """

    name: str
    base: str = ""
    task: str = ""
    split: str = ""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    training: Mapping[str, object] = dataclasses.field(default_factory=dict)
    language: str = ""
    license: str = "other"
    from_scratch: bool = False


def render(
    card: ModelCard,
    config: ModelConfig,
    *,
    architecture: str,
    has_pooler: bool,
    labels: tuple[str, ...] | None,
    notes: Sequence[str] = (),
) -> str:
    """The text of README.md.

    Args:
      card: What only the caller knows.
      config: The shape.
      architecture: The model's class in transformers.
      has_pooler: Whether the file has one.
      labels: The classes in the order of the outputs.
      notes: What whoever uses the folder should know, a sentence or two each.
    """
    kind, purpose = _PURPOSES[architecture]
    lines = ["---", *_head(card, config, purpose), "---", ""]
    lines += [f"# {card.name}", "", _what(card, config, purpose), ""]
    if labels:
        named = ", ".join(f"`{label}`" for label in labels)
        lines += [f"Classes, in the order of the outputs: {named}.", ""]
    if card.metrics:
        title = f"{card.task} {card.split}".strip() or "metric"
        lines += ["## Results", "", *_table(title, card.metrics), ""]
    if card.training:
        lines += ["## Training", "", *_table("setting", card.training), ""]
    # A BertModel makes itself a random pooler where the file has none.
    option = "" if has_pooler or kind != "AutoModel" else ", add_pooling_layer=False"
    lines += ["## Use", "", "```python", *_use(card.name, kind, option), "```", ""]
    return "\n".join([*lines, *(line for note in notes for line in (note, ""))])


def _head(card: ModelCard, config: ModelConfig, purpose: str) -> list[str]:
    lines = [f"language: {json.dumps(card.language)}"] if card.language else []
    if not card.from_scratch or card.license != "other":
        lines += [f"license: {json.dumps(card.license)}"]
    if not card.from_scratch and card.license == "other":
        lines += ['license_name: "terms-of-the-base-model"']
    lines += [
        "library_name: transformers",
        f"pipeline_tag: {purpose}",
        "tags:",
        *(f"- {tag}" for tag in (_name(config).lower(), "gptbert", "jax", purpose)),
    ]
    if card.metrics:
        lines += _model_index(card, purpose)
    return lines


def _model_index(card: ModelCard, purpose: str) -> list[str]:
    dataset = json.dumps(card.task or "unnamed")
    lines = [
        "model-index:",
        f"- name: {json.dumps(card.name)}",
        "  results:",
        f"  - task: {{type: {purpose}}}",
        f"    dataset: {{name: {dataset}, type: {dataset}, split: {json.dumps(card.split)}}}",
        "    metrics:",
    ]
    return lines + [
        f"    - {{type: {json.dumps(name)}, value: {json.dumps(value)}}}"
        for name, value in card.metrics.items()
    ]


def _name(config: ModelConfig) -> str:
    if isinstance(config, GptConfig):
        return "GPT" if config.norm_place == "post" else "GPT-2"
    return "BERT"


def _what(card: ModelCard, config: ModelConfig, purpose: str) -> str:
    verb = "fine-tuned" if purpose == "text-classification" else "trained"
    origin = f", from `{card.base}`" if card.base else ""
    origin = ", from random weights" if card.from_scratch else origin
    told = f", {verb} on {card.task}" if card.task and purpose != "feature-extraction" else ""
    return (
        f"A {_name(config)} with {config.layers} layers, width {config.width}, {config.heads} "
        f"heads and {config.vocabulary:,} vocabulary entries{told}{origin}. Inputs have at most "
        f"{config.positions} tokens. Written by gptbert."
    )


def _table(title: str, rows: Mapping[str, object]) -> list[str]:
    def cell(value: object) -> str:
        told = f"{value}"
        if isinstance(value, float) and abs(value) > 1e-3:
            told = f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
        return told.replace("|", "\\|").replace("\n", " ")

    lines = [f"| {cell(name)} | {cell(value)} |" for name, value in rows.items()]
    return [f"| {cell(title)} | |", "| --- | --- |", *lines]


def _use(name: str, kind: str, option: str) -> list[str]:
    return [
        f"from transformers import AutoTokenizer, {kind}",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(name)})",
        f"model = {kind}.from_pretrained({json.dumps(name)}{option})",
    ]
