"""A run, or weights as they are, as a Hugging Face folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from gptbert.runs.using import Source, read_source
from gptbert.tokenizers import load_tokenizer
from gptbert.weights.export import ModelCard, check_output, export_huggingface
from gptbert.weights.huggingface_config import read_config
from gptbert.weights.pretrained import check_vocabulary

# What of the config a reader of the model card asks for.
_TOLD = (
    "learning_rate", "batch_size", "num_epochs", "steps", "phases", "max_length",
    "warmup_proportion", "warmup_steps", "optimizer", "weight_decay", "seed",
)  # fmt: skip


def export(folder: Path, output: Path, step: int | None = None) -> Source:
    """Writes the folder `output` and returns what was exported; `ignored` names what was not.

    Args:
      folder: The --workdir of a run, or a Hugging Face folder.
      output: New or empty.
      step: As in `read_source`.

    Raises:
      UserError: Weights that cannot be used, an output folder that is in use, a head that
        `transformers` has no class for.
    """
    check_output(output)  # before gigabytes are read
    source = read_source(folder, step)
    tokenizer = load_tokenizer(source.tokenizer_folder)
    check_vocabulary(source.config, tokenizer, str(folder))
    not_exported = export_huggingface(
        output,
        source.config,
        source.parameters,
        tokenizer,
        labels=source.classes or None,
        regression=source.is_regression,
        card=_card(source, output),
        stated=read_config(source.folder)[1] if source.step is None else None,
    )
    return dataclasses.replace(source, ignored=(*source.ignored, *not_exported))


def _card(source: Source, output: Path) -> ModelCard:
    base = source.training.get("init_from") or ""
    return ModelCard(
        name=output.absolute().name,
        base=Path(base).name if source.step is not None else source.folder.absolute().name,
        task=source.task,
        split=source.results.get("split", ""),
        metrics=metrics_at(source),
        from_scratch=source.step is not None and not base,
        training={name: source.training[name] for name in _TOLD if name in source.training},
    )


def metrics_at(source: Source) -> dict[str, Any]:
    """What the run measured at the exported step; empty if it did not measure there."""
    results = source.results
    if results.get("checkpoint", {}).get("step") == source.step:
        return results.get("metrics", {})
    measured = [e for e in results.get("evaluations", []) if e["step"] == source.step]
    return measured[-1]["metrics"] if measured else {}
