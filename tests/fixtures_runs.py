"""Tiny things that look like the real ones: a BERT folder, GLUE folders, finished runs.

The weights are random, the data is fabricated in GLUE's official form, and a run takes seconds.
`tests/runs/conftest.py` makes the fixtures known to the tests there.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gptbert import cli
from gptbert.datasets.glue_tasks import GLUE_TASKS
from gptbert.models.presets import BertConfig
from gptbert.runs.finetune import finetune
from gptbert.runs.recipe import finetuning, finetuning_on_own_files
from gptbert.weights.huggingface_config import config_settings
from gptbert.weights.huggingface_names import PREFIX, all_places
from gptbert.weights.safetensors_files import open_tensors, write_safetensors

WORDS = (
    "a", "the", "no", "not", "every", "some", "man", "woman", "dog", "cat", "child", "bird",
    "sleeps", "runs", "eats", "sings", "reads", "plays", "good", "bad", "fine", "poor", "great",
    "dull", "film", "book", "song", "story", "very", "and", "or", "in", "house", "garden",
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"!,.?"]
VOCABULARY += [*WORDS, *LETTERS[1:], *(f"##{letter}" for letter in LETTERS)]
SHAPE = BertConfig(
    layers=2, width=16, heads=2, inner=32, vocabulary=len(VOCABULARY), positions=40,
    initial_stddev=0.5,
)  # fmt: skip
NLI = ("entailment", "neutral", "contradiction")
SENTIMENT = ("negative", "positive")


def make_bert_folder(folder: Path, classes: Sequence[str] | int = (), seed: int = 0) -> Path:
    """A Hugging Face folder with random weights; with `classes` (names or a count) and a head."""
    count = classes if isinstance(classes, int) else len(classes)
    rng = np.random.default_rng(seed)
    tensors = {
        (name if name.startswith("classifier.") else PREFIX + name): (
            (1.0 if "LayerNorm.weight" in name else 0.0)
            + SHAPE.initial_stddev * rng.standard_normal(place.shape)
        ).astype(np.float32)
        for name, place in all_places(SHAPE, classes=count or None).items()
    }
    settings = config_settings(SHAPE)
    if count and not isinstance(classes, int):
        settings["id2label"] = {str(number): name for number, name in enumerate(classes)}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in VOCABULARY))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def keep_one_token_type(folder: Path) -> None:
    """Makes the BERT of a folder one that cannot tell the second text of a pair from the first."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"type_vocab_size": 1}))
    files = open_tensors(folder)
    tensors = {name: files.read(name) for name in files.shapes}
    name = next(name for name in tensors if "token_type_embeddings" in name)
    tensors[name] = tensors[name][:1]
    write_safetensors(folder / "model.safetensors", tensors)


def sentence(rng: np.random.Generator) -> str:
    """Three to nine words of the vocabulary."""
    return " ".join(rng.choice(WORDS, rng.integers(3, 10))) + " ."


def _mnli_row(index: int, rng: np.random.Generator, labels: Sequence[str]) -> str:
    parses = ["( a )", "( b )", "(ROOT a)", "(ROOT b)"]
    texts = [sentence(rng), sentence(rng)]
    return "\t".join([str(index), "1", "1n", "fiction", *parses, *texts, *labels])


def make_mnli_folder(folder: Path) -> Path:
    """MNLI and AX in the official form, a few rows each; AX in both forms."""
    rng = np.random.default_rng(1)
    columns = GLUE_TASKS["mnli"].splits["test_matched"].columns
    gold = {"train": 1, "dev_matched": 5, "dev_mismatched": 5}
    for split, rows in (
        ("train", 48), ("dev_matched", 17), ("dev_mismatched", 12),
        ("test_matched", 7), ("test_mismatched", 6),
    ):  # fmt: skip
        extra = [f"label{k + 1}" for k in range(gold.get(split, 0))]
        header = [*columns, *extra, "gold_label"] if extra else columns
        lines = ["\t".join(header)]
        for index in range(rows):
            labels = [NLI[index % 3]] * len(extra) + [NLI[index % 3]] if extra else []
            lines.append(_mnli_row(index, rng, labels))
        _write(folder / "MNLI" / f"{split}.tsv", lines)
    pairs = [(sentence(rng), sentence(rng), NLI[index % 2]) for index in range(9)]
    marks = ["Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge", "Domain"]
    rows = ["\t".join([*marks, "Premise", "Hypothesis", "Label"])]
    _write(
        folder / "diagnostic" / "diagnostic-full.tsv",
        rows + ["\t".join(["", "", "Negation", "", "News", *pair]) for pair in pairs],
    )
    _write(
        folder / "diagnostic" / "diagnostic.tsv",
        ["index\tsentence1\tsentence2"]
        + [f"{index}\t{first}\t{second}" for index, (first, second, _) in enumerate(pairs)],
    )
    return folder


def make_reviews(path: Path, rows: int = 40) -> Path:
    """A CSV of single texts with named classes, quotes and commas."""
    rng = np.random.default_rng(2)
    lines = ["review,verdict"]
    for index in range(rows):
        lines.append(f'"a, ""{sentence(rng)}""",{SENTIMENT[index % 2]}')
    _write(path, lines)
    return path


def _write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


class Called(NamedTuple):
    """What a command gave: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def call(*arguments: object, stdin: bytes = b"") -> Called:
    """Runs `gptbert ARGUMENTS` in this process."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            code = cli.main([str(argument) for argument in arguments])
    finally:
        sys.stdin = before
    told = []
    for stream in streams:
        stream.flush()
        told.append(stream.buffer.getvalue().decode("utf-8"))
    return Called(code, *told)


def refused(*arguments: object) -> str:
    """The one sentence of a command that must end with exit code 2 and print nothing else."""
    called = call(*arguments)
    assert called.code == 2, called
    assert called.out == "" and called.err.startswith("gptbert: "), called
    assert called.err.count("\n") == 1, called.err
    return called.err


@contextlib.contextmanager
def quick_compilation() -> Iterator[None]:
    """XLA without its costly passes: for programs that run a few times."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def quick_run(config: ConfigDict, bert: Path, workdir: Path) -> Path:
    """Fine-tunes the heads alone: a backward pass through all layers takes long to compile."""
    config.init_from, config.frozen = str(bert), ("^bert/",)
    config.batch_size, config.learning_rate = 16, 1e-2
    with quick_compilation():
        finetune(config.lock(), workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module")
def quickly() -> Iterator[None]:
    """For tests that compile much and compute little."""
    with quick_compilation():
        yield


@pytest.fixture(scope="session")
def bert_dir(tmp_path_factory) -> Path:
    """A tiny BERT without a head."""
    return make_bert_folder(tmp_path_factory.mktemp("weights") / "tiny-bert")


@pytest.fixture(scope="session")
def mnli_data(tmp_path_factory) -> Path:
    return make_mnli_folder(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="session")
def mnli_run(tmp_path_factory, bert_dir, mnli_data) -> Path:
    """A finished run on pairs with three classes; two checkpoints are kept."""
    config = finetuning("glue/mnli")
    config.data_dir, config.max_length, config.num_epochs = str(mnli_data), 24, 2.0
    config.eval_every, config.keep = 3, 4
    return quick_run(config, bert_dir, tmp_path_factory.mktemp("runs") / "mnli")


@pytest.fixture(scope="session")
def reviews_run(tmp_path_factory, bert_dir) -> Path:
    """A finished run on single texts of a user's own file."""
    config = finetuning_on_own_files()
    config.train_file = str(make_reviews(tmp_path_factory.mktemp("own") / "reviews.csv"))
    config.eval_share, config.max_length = 0.3, 32
    config.text_columns, config.label_column = ("review",), "verdict"
    return quick_run(config, bert_dir, tmp_path_factory.mktemp("runs") / "reviews")
