"""Which folders are those of runs, told without the library that reads checkpoints."""

from __future__ import annotations

from pathlib import Path


def is_run_folder(path: Path) -> bool:
    """True for the --workdir of a run."""
    return (path / "model.json").is_file()


def tokenizer_beside(weights: str | Path) -> Path:
    """Where the tokenizer of a run folder or a Hugging Face folder lies."""
    folder = Path(weights)
    return folder / "tokenizer" if is_run_folder(folder) else folder
