"""The demonstration: both stages, from raw text to a table in which the first one pays.

Its parts are those of the commands: vocabulary, token store, pre-training, fine-tuning. Each of
them leaves its own finished folder, so that the same call continues wherever it was stopped.

    corpus.jsonl                         the text
    train.jsonl, dev.jsonl               the labelled sets
    vocabulary-FAMILY/, store-FAMILY/    for FAMILY bert (WordPiece) and gpt (byte pairs)
    pretrain-FAMILY/                     run folders
    finetune-FAMILY/, finetune-FAMILY-random/
    demo.json                            written last: what the table and the page are made of
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gptbert.corpora.prepare import Request as StoreRequest
from gptbert.corpora.prepare import prepare_corpus
from gptbert.corpora.vocabulary import Request as VocabularyRequest
from gptbert.corpora.vocabulary import train_vocabulary
from gptbert.datasets.demo_corpus import library_documents, read_origins
from gptbert.errors import UserError
from gptbert.pipeline.store_format import MANIFEST
from gptbert.runs.finetune import finetune
from gptbert.runs.folder import RunFolder, write_json
from gptbert.runs.output import json_line, make_folder, whole_file
from gptbert.runs.pretrain import pretrain
from gptbert.runs.sampling import sample_texts

SUMMARY = "demo.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Family:
    """One of the two models: the names of its folders begin with `name`."""

    name: str
    kind: str  # of tokenizer
    preset: str


FAMILIES = (Family("bert", "wordpiece", "bert-tiny"), Family("gpt", "bpe", "gpt-tiny"))


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the configs do not say.

    Attributes:
      vocabulary: Entries.
      held_out: Share of the documents that pre-training is scored on.
      labels: Descriptions to fine-tune on; with very few a BERT that read little gains nothing.
      prompts: What the GPT goes on after.
      sample: Tokens that it adds.
    """

    vocabulary: int = 2048
    held_out: float = 0.05
    labels: int = 600
    prompts: tuple[str, ...] = ("return", "raised when", "the", "if the file")
    sample: int = 40


def demo(
    configs: Mapping[str, ConfigDict], workdir: Path, sizes: Sizes | None = None
) -> dict[str, Any]:
    """Does everything that is not done yet in `workdir`; returns the contents of demo.json.

    Args:
      configs: The four of `configs/demo.py`, by stage, unlocked or with all fields.
      workdir: A folder of its own; the same call continues there.
      sizes: For tests.

    Raises:
      UserError: The folder holds something else, the disk is full.
      RunFailed: A loss became NaN.
      Interrupted: SIGTERM; the state was saved.
    """
    sizes = sizes or Sizes()
    if (workdir / SUMMARY).exists():
        summary = RunFolder(workdir).read(SUMMARY)
        if _is_whole(workdir):
            print(f"{workdir} is already finished", file=sys.stderr)
            return summary
    make_folder(workdir)
    _tell("the texts: documentation topics and docstrings of the standard library")
    texts = _write_texts(workdir, sizes.labels)
    models = [_both_stages(family, configs, workdir, sizes) for family in FAMILIES]
    gpt = workdir / "pretrain-gpt"
    samples = sample_texts(gpt, sizes.prompts, tokens=sizes.sample, most_likely=10, seed=0)
    summary = {
        "format": FORMAT,
        "python": platform.python_version(),
        "texts": texts,
        "models": models,
        "samples": samples,
    }
    write_json(workdir / SUMMARY, summary)
    return summary


def _is_whole(workdir: Path) -> bool:
    """Whether all runs are there still, as the page needs them."""
    names = (f"{stage}-{family.name}" for family in FAMILIES for stage in ("pretrain", "finetune"))
    folders = [*names, *(f"finetune-{family.name}-random" for family in FAMILIES)]
    return all((workdir / folder / "results.json").is_file() for folder in folders)


def _write_texts(workdir: Path, labels: int) -> dict[str, Any]:
    """Writes the labelled sets, and the text without the dev set; returns what they amount to."""
    train, dev = read_origins()
    documents = library_documents(left_out=dev)
    used = {"train": train.examples[:labels], "dev": dev.examples}  # in the order of a hash
    for split, examples in used.items():
        rows = [{"description": e.texts[0], "module": e.label} for e in examples]
        _write_lines(workdir / f"{split}.jsonl", rows)
    rows = [{"id": document.id, "text": document.text} for document in documents]
    _write_lines(workdir / "corpus.jsonl", rows)
    return {
        "documents": len(documents),
        "words": sum(len(document.text.split()) for document in documents),
        "bytes": sum(len(document.text.encode()) for document in documents),
        "train": len(used["train"]),
        "dev": len(used["dev"]),
        "classes": list(train.classes),
    }


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    lines = b"".join(map(json_line, rows))
    if path.exists():
        if path.read_bytes() == lines:
            return
        raise UserError(
            f"{path} holds something else, perhaps of another version of Python; expected a new "
            "folder (--workdir) or that of an unfinished demonstration"
        )
    with whole_file(path) as file:
        file.write(lines)


def _both_stages(
    family: Family, configs: Mapping[str, ConfigDict], workdir: Path, sizes: Sizes
) -> dict[str, Any]:
    """Vocabulary, store, pre-training, and fine-tuning from there and from random weights."""
    name = family.name
    vocabulary, store = workdir / f"vocabulary-{name}", workdir / f"store-{name}"
    _tell(f"{name}: vocabulary ({family.kind}) and token store")
    report = _prepare(family.kind, workdir / "corpus.jsonl", vocabulary, store, sizes)

    _tell(f"{name}: pre-training")
    folder = workdir / f"pretrain-{name}"
    learnt = pretrain(_with(configs[f"pretrain-{name}"], corpus=str(store)), folder)

    files = {"train_file": str(workdir / "train.jsonl"), "eval_file": str(workdir / "dev.jsonl")}
    recipe, tuned = _with(configs[f"finetune-{name}"], **files), workdir / f"finetune-{name}"
    _tell(f"{name}: fine-tuning")
    after = finetune(_with(recipe, init_from=str(folder)), tuned)
    _tell(f"{name}: fine-tuning from random weights")
    start = {"model": family.preset, "tokenizer": str(vocabulary)}
    without = finetune(_with(recipe, **start), workdir / f"finetune-{name}-random")
    return {
        "name": name,
        "kind": family.kind,
        "vocabulary": report["tokenizer"]["vocabulary_size"],
        "tokens": report["train"]["tokens"],
        "parameters": learnt["parameters"],
        "pretraining": {k: learnt[k] for k in ("steps", "epochs", "metrics", "held_out")},
        "majority": after["majority_baseline"],
        "random": without["metrics"],
        "pretrained": after["metrics"],
        "folders": [folder.name, tuned.name, f"{tuned.name}-random"],
        "seconds": {
            stage: results["wall_clock_seconds"]
            for stage, results in (("pretrain", learnt), ("finetune", after), ("random", without))
        },
    }


def _prepare(
    kind: str, corpus: Path, vocabulary: Path, store: Path, sizes: Sizes
) -> dict[str, Any]:
    """Trains the vocabulary and fills the store, unless they are there; returns its report."""
    if not (store / MANIFEST).exists():
        request = VocabularyRequest(
            kind=kind, inputs=(str(corpus),), output=str(vocabulary), size=sizes.vocabulary
        )
        train_vocabulary(request, quiet=True)
    return prepare_corpus(
        StoreRequest(
            tokenizer=str(vocabulary),
            inputs=(str(corpus),),
            output=str(store),
            held_out=sizes.held_out,
        ),
        quiet=True,
    )


def _with(config: ConfigDict, **fields: Any) -> ConfigDict:
    """A copy of a config with some fields set."""
    changed = ConfigDict(json.loads(config.to_json()))
    changed.update(fields)
    return changed


def _tell(message: str) -> None:
    print(f"--- {message}", file=sys.stderr, flush=True)
