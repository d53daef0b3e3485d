"""Where things lie, how commands are run, and what is kept of a run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptbert.processor import processor

RESULTS = Path(__file__).parent / "results"
# Fields of a config that say where something lies on one machine.
PATHS = ("corpus", "held_out_corpus", "init_from", "data_dir", "tokenizer")


@dataclasses.dataclass(frozen=True)
class Place:
    """Folders of one invocation.

    Attributes:
      data_dir: Raw text.
      glue_dir: GLUE.
      work: Vocabularies, stores, run folders.
      results: Raw results and the report.
      weights: A Hugging Face folder to adapt.
      compute_dtype: Of all runs.
      models: Those of `learn_cases.MODELS` that are asked for.
      quick: Whether everything is tiny.
    """

    data_dir: Path | None
    glue_dir: Path | None
    work: Path | None
    results: Path
    weights: Path | None
    compute_dtype: str
    models: tuple[str, ...]
    quick: bool

    def vocabulary(self, kind: str) -> Path:
        """The folder of a vocabulary."""
        return self.at("vocabularies", kind)

    def store(self, name: str, split: str = "train") -> Path:
        """The token store of a vocabulary (or of the books): text to train on, or held out."""
        return self.at("stores", f"{name}-{split}")

    def run(self, *names: str) -> Path:
        """A run folder."""
        return self.at("runs", "-".join(names))

    def at(self, *names: str) -> Path:
        """A path in the work folder."""
        assert self.work is not None
        return self.work.joinpath(*names)


def records(path: Path) -> list[dict]:
    """The lines of a file of raw results, none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def require_precision(place: Place) -> None:
    """Ends the program where raw results were made in another precision than is asked for."""
    for path in sorted(place.results.glob("*.jsonl")):
        recipes = (record.get("hyperparameters", {}) for record in records(path))
        others = {recipe.get("compute_dtype") for recipe in recipes} - {None, place.compute_dtype}
        if others:
            raise SystemExit(
                f"{path} has runs in {', '.join(sorted(others))}, expected {place.compute_dtype}: "
                "one table compares runs of one precision; see --compute_dtype and --results"
            )


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Adds a line to a file of raw results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def gptbert(*arguments: object) -> float:
    """Runs a command as a user would; returns the processor time that it took, in seconds."""
    words = [sys.executable, "-m", "gptbert", *map(str, arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code := subprocess.run(words).returncode:
        raise SystemExit(f"`gptbert {arguments[0]}` ended with {code}; see above")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(
    command: str, config: str, fields: Mapping[str, Any], workdir: Path
) -> tuple[dict[str, Any], float | None]:
    """A training run, begun or continued.

    Returns:
      Its results.json, and its processor time; None where some of it was taken before.
    """
    begun = (workdir / "checkpoints").exists()
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    seconds = gptbert(command, f"--config={config}", *flags, f"--workdir={workdir}", "--quiet")
    return json.loads((workdir / "results.json").read_text()), None if begun else round(seconds, 1)


def kept(found: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Of a results.json what is kept: `names`, the recipe, and what it ran on; no paths."""
    recipe = {k: v for k, v in found["hyperparameters"].items() if k not in PATHS}
    return {name: found[name] for name in names} | {
        "hyperparameters": recipe,
        "products": found["products"],
        "versions": found["versions"],
        "git_commit": found["git_commit"],
        "hardware": str(processor()),
        "timed": False,  # the machine may have had other work: wall-clock seconds compare nothing
    }


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()
