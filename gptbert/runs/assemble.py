"""Everything that a config names, read and put together, before anything is trained."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from gptbert.errors import UserError
from gptbert.models.heads import GptClassifier, SequenceClassifier, make_classifier
from gptbert.models.parameters import (
    Parameters,
    describe,
    initialize,
    stack_layers,
    unstack_layers,
)
from gptbert.models.presets import (
    BertConfig,
    Compute,
    GptConfig,
    ModelConfig,
    matrix_parameters,
    preset,
)
from gptbert.pipeline.encode import Features
from gptbert.pipeline.plan import cost_model
from gptbert.runs.backbone import WORD_TABLE, add_gpt_tokens, encode_for, with_gpt_tokens
from gptbert.runs.folder import RunFolder
from gptbert.runs.layers import choose_compute
from gptbert.tasks.classification import Task, TextObjective, label_numbers
from gptbert.tasks.glue import read_glue_task
from gptbert.tasks.text import read_docstring_task, read_own_files
from gptbert.tokenizers import Tokenizer, holds_tokenizer, load_tokenizer
from gptbert.tokenizers.compare import difference
from gptbert.training.optimizer import make_optimizer
from gptbert.training.products import choose_products
from gptbert.training.schedules import make_schedule
from gptbert.training.sharding import Layout, check_model, make_layout, pad_vocabulary
from gptbert.training.step import Training
from gptbert.weights.folders import is_run_folder, tokenizer_beside
from gptbert.weights.pretrained import check_pairs, check_vocabulary
from gptbert.weights.sources import Weights, read_shape, read_weights

MOST_DRAWN = 100_000_000  # examples of all steps: a plan of so many takes minutes and gigabytes
LARGEST_SEED = 2**32 - 1  # what JAX's keys hold without 64-bit integers


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A run's parts.

    Attributes:
      config: Resolved.
      task: The data, with its metrics.
      classes: In the order of the model's outputs, which is that of the data.
      model: The shape; of a GPT with the three tokens that fine-tuning adds.
      compute: How it is computed.
      tokenizer: Of the texts.
      features: By split: `train`, then every evaluation and test split.
      training: Graph, objective, optimizer, layout.
      build: Makes the module from nnx.Rngs.
      start: Loaded parameters, host arrays, layers numbered; empty for random weights.
      notes: What the user should know: repaired rows, new heads.
      fingerprints: Of data, tokenizer and weights.
    """

    config: ConfigDict
    task: Task
    classes: tuple[str, ...]
    model: ModelConfig
    compute: Compute
    tokenizer: Tokenizer
    features: dict[str, Features]
    training: Training
    build: Any
    start: Parameters
    notes: tuple[str, ...]
    fingerprints: dict[str, str]

    @property
    def told(self) -> list[str]:
        """The notes, and what the batch size of this very config does."""
        examples, batch_size = len(self.features["train"]), self.config.batch_size
        repeats = (
            f"--config.batch_size={batch_size} is more than the {examples:,} training examples: a "
            "batch holds some of them several times"
        )
        return [*self.notes, *([repeats] if batch_size > examples else [])]

    @property
    def layout(self) -> Layout:
        return self.training.layout

    @property
    def leans(self) -> bool:
        """Whether only the used rows of the vocabulary are trained (`training.vocabulary`)."""
        one_device = self.layout.mesh.size == 1
        # GPT drops rows of its table by their numbers, which leaning would change.
        return self.config.lean_vocabulary and one_device and isinstance(self.model, BertConfig)

    @property
    def costs(self) -> Any:
        return cost_model(self.model, on_cpu=jax.default_backend() == "cpu")

    def initial_parameters(self, seed: int) -> Parameters:
        """Loaded parameters with newly drawn heads, placed on the mesh."""
        _, wanted = describe(self.build)
        whole = unstack_layers if not self.compute.scan_layers else stack_layers
        loaded = whole(self.start)
        if isinstance(self.model, GptConfig) and WORD_TABLE in loaded:
            loaded[WORD_TABLE] = add_gpt_tokens(loaded[WORD_TABLE], self.model, seed)
        missing = {path for path in wanted if path not in loaded}
        drawn = initialize(self.build, seed, missing) if missing else {}
        parameters = pad_vocabulary({path: (loaded | drawn)[path] for path in wanted}, self.layout)
        return jax.device_put(parameters, self.layout.tree(parameters))


def read_task(config: ConfigDict) -> Task:
    """The data that a config names."""
    if config.task != "text" and config.get("train_file"):
        raise UserError(
            f"--config.train_file={config.train_file} is not read with --config.task="
            f"{config.task}; expected one of them"
        )
    if config.task.startswith("glue/"):
        return read_glue_task(config.task.removeprefix("glue/"), config.data_dir)
    if config.task == "text":
        if "train_file" not in config:
            raise UserError(
                "--config.task=text reads your own files, which this config has no fields for; "
                "expected --config=configs/text_classification.py"
            )
        return read_own_files(
            config.train_file,
            config.eval_file,
            text_columns=config.text_columns,
            label_column=config.label_column,
            label_kind=config.label_kind,
            eval_share=config.eval_share,
        )
    if config.task == "docstrings":
        return read_docstring_task()
    raise UserError(
        f"task {config.task!r} is unknown; expected 'glue/TASK', 'text' or 'docstrings'"
    )


def check_numbers(config: ConfigDict) -> None:
    """Refuses sizes that cannot work before anything is loaded."""
    if "task" not in config:
        raise UserError(
            "this config is none of fine-tuning (it names no task); expected one such as "
            "configs/glue.py:mrpc, or `gptbert pretrain` with this one"
        )
    for name in ("batch_size", "max_length", "keep", "log_every", "accumulate"):
        if config[name] < 1:
            raise UserError(f"--config.{name} is {config[name]}, expected at least 1")
    for name in ("eval_every", "checkpoint_every", "early_stopping", "row_length", "seed"):
        if config[name] < 0:
            raise UserError(f"--config.{name} is {config[name]}, expected 0 or more")
    for name in ("num_epochs", "learning_rate"):
        if not 0 < config[name] < float("inf"):
            raise UserError(f"--config.{name} is {config[name]}, expected a positive number")
    for name in ("weight_decay", "clip_norm"):
        if not 0 <= config[name] < float("inf"):
            raise UserError(f"--config.{name} is {config[name]}, expected 0 or a positive number")
    if config.seed > LARGEST_SEED:
        raise UserError(f"--config.seed is {config.seed}, expected at most {LARGEST_SEED}")
    if config.batch_size % config.accumulate:
        raise UserError(
            f"--config.accumulate={config.accumulate} does not divide "
            f"--config.batch_size={config.batch_size}"
        )
    if not 0 <= config.warmup_proportion <= 1:
        raise UserError(
            f"--config.warmup_proportion is {config.warmup_proportion}, expected 0 to 1"
        )
    if config.select not in ("last", "best"):
        raise UserError(f"--config.select is {config.select!r}, expected 'last' or 'best'")
    if not config.init_from and not config.model:
        raise UserError(
            "nothing to start from: expected --config.init_from=DIR (pre-trained weights) "
            "or --config.model=bert-mini with --config.tokenizer=DIR|vocab.txt (random weights)"
        )
    Compute(dtype=config.compute_dtype)
    make_optimizer(config.optimizer)
    make_schedule(config.schedule, 1.0, 0, 1)


def assemble(config: ConfigDict) -> Assembly:
    """Reads what `config` names and puts it together; raises UserError for bad input."""
    check_numbers(config)
    mesh = config.mesh
    layout = make_layout(mesh.data, mesh.fsdp, mesh.tensor)
    model = _shape(config)
    check_model(model, layout)
    task = read_task(config)
    assert task.train is not None
    weights = read_weights(config.init_from) if config.init_from else None
    vocabulary = config.tokenizer or str(tokenizer_beside(config.init_from))
    tokenizer = load_tokenizer(vocabulary)
    check_vocabulary(model, tokenizer, config.init_from or vocabulary)
    if config.init_from and config.tokenizer:
        _check_tokenizer(config, tokenizer)
    if not (weights and weights.has_gpt_tokens):
        model = with_gpt_tokens(model)
    if config.max_length > model.positions:
        raise UserError(
            f"--config.max_length={config.max_length} is longer than the {model.positions} "
            "positions that the model knows"
        )
    notes = [*(weights.notes if weights else ()), *task.train.notes]
    for dataset in (*task.evaluation.values(), *task.test.values()):
        notes += dataset.notes
    classes, start = _adopt_head(task, weights, config.pooling, notes)
    examples = len(task.train.examples)
    if (drawn := max(examples * config.num_epochs, config.batch_size)) > MOST_DRAWN:
        raise UserError(
            f"--config.num_epochs={config.num_epochs:g} of {examples:,} examples, in batches of "
            f"{config.batch_size:,}, plans {drawn:.3g} examples; expected at most {MOST_DRAWN:,}"
        )
    datasets = {"train": task.train, **task.evaluation, **task.test}
    check_pairs(model, len(task.train.examples[0].texts), config.init_from or config.model)
    features = {
        split: encode_for(
            model,
            [example.texts for example in dataset.examples],
            label_numbers(dataset, classes),
            tokenizer,
            config.max_length,
            unordered=task.unordered,
        )
        for split, dataset in datasets.items()
    }
    notes += [*_told(config, features), *_untrained(config, features)]
    if weights and weights.config.dropout != config.dropout:
        notes.append(
            f"dropout {config.dropout:g}, as in the papers, where the weights were trained with "
            f"{weights.config.dropout:g}; --config.dropout={weights.config.dropout:g} keeps theirs"
        )
    longest = int(features["train"].lengths.max())
    if 0 < config.row_length < longest:
        raise UserError(
            f"--config.row_length={config.row_length} is shorter than the longest example "
            f"({longest} tokens)"
        )
    tokens = int(features["train"].lengths.sum())
    flops = 6.0 * matrix_parameters(model) * tokens * config.num_epochs
    at_once = tokens / examples * config.batch_size / config.accumulate
    products = choose_products(config.compute_dtype, flops, at_once)

    def building(compute: Compute) -> Any:
        outputs = max(1, len(classes))
        return functools.partial(_classifier, model, compute, outputs, pooling=config.pooling)

    compute = choose_compute(config, products.arrays, building)
    build = building(compute)
    graph, _ = describe(build)
    optimizer = make_optimizer(
        config.optimizer, weight_decay=config.weight_decay, clip=config.clip_norm
    )
    objective = TextObjective(regression=not classes)
    training = Training(
        graph, objective, optimizer, layout, tuple(config.frozen),
        products=products,
    )  # fmt: skip
    fingerprints = {f"data of {split}": dataset.fingerprint for split, dataset in datasets.items()}
    fingerprints |= {"tokenizer": tokenizer.fingerprint}
    fingerprints |= {"weights": weights.fingerprint} if weights else {}
    told = tuple(dict.fromkeys(notes))  # readers of both splits may say the same
    return Assembly(
        config, task, classes, model, compute, tokenizer, features, training, build,
        start, told, fingerprints,
    )  # fmt: skip


def _told(config: ConfigDict, features: dict[str, Features]) -> list[str]:
    """What a run does that may surprise: texts cut, no way to export."""
    cut = {split: int(each.truncated.sum()) for split, each in features.items()}
    told = [f"{n:,} of {len(features[split]):,} of {split}" for split, n in cut.items() if n]
    notes = []
    if config.pooling == "mean":
        notes.append(
            "--config.pooling=mean: `gptbert export` will refuse the classifier, for which "
            "transformers has no class"
        )
    if told:
        notes.append(
            f"texts longer than --config.max_length={config.max_length} are cut: {', '.join(told)}"
        )
    return notes


def _untrained(config: ConfigDict, features: dict[str, Features]) -> list[str]:
    """A word where texts are longer than any example that a pre-training run of ours has seen."""
    folder = Path(config.init_from)
    if not config.init_from or not (is_run_folder(folder) and (folder / "config.json").is_file()):
        return []
    began = RunFolder(folder).read("config.json").get("config", {})
    if not began.get("phases") or began.get("init_from"):  # no pre-training, or not from scratch
        return []
    trained = max(length for _, length in began["phases"])
    longest = max(int(each.lengths.max()) // each.sequences for each in features.values())
    if longest <= trained:
        return []
    return [
        f"texts of up to {longest} tokens, but {config.init_from} was pre-trained on examples of "
        f"{trained}: the vectors of later positions are as they were drawn; "
        f"--config.max_length={trained} cuts texts there"
    ]


def _check_tokenizer(config: ConfigDict, tokenizer: Tokenizer) -> None:
    """Refuses a tokenizer named beside weights that have another one."""
    beside = tokenizer_beside(config.init_from)
    if not holds_tokenizer(beside):
        return
    places = ("with the weights", f"in {config.tokenizer}")
    if odd := difference(load_tokenizer(beside), tokenizer, places):
        raise UserError(
            f"--config.tokenizer={config.tokenizer} is not the tokenizer of the weights in "
            f"{config.init_from} ({odd}); leave it out: theirs is used"
        )


def _classifier(
    model: ModelConfig, compute: Compute, outputs: int, rngs: Any, *, pooling: Any
) -> SequenceClassifier | GptClassifier:
    return make_classifier(model, compute, outputs, rngs, pooling)


def _shape(config: ConfigDict) -> ModelConfig:
    """The shape of the weights or of the preset, before anything large is read."""
    changes: dict[str, Any] = {"dropout": config.dropout}
    changes["attention_dropout"] = (
        config.dropout if config.attention_dropout is None else config.attention_dropout
    )
    if config.init_from:
        shape = read_shape(config.init_from)
        if config.model and preset(config.model) != shape:
            raise UserError(
                f"--config.model={config.model} is not the shape of the weights in "
                f"{config.init_from}; leave it out: the shape is read from the weights"
            )
    else:
        shape = preset(config.model)
        if not config.tokenizer:
            raise UserError("random weights need --config.tokenizer=DIR|vocab.txt")
        changes["vocabulary"] = load_tokenizer(config.tokenizer).vocabulary_size
    if isinstance(shape, GptConfig):
        changes["embedding_dropout"] = config.dropout
    return dataclasses.replace(shape, **changes)


def _adopt_head(
    task: Task, weights: Weights | None, pooling: str, notes: list[str]
) -> tuple[tuple[str, ...], Parameters]:
    """Keeps a classifier whose classes are those of the task (by name), else makes a new one."""
    if weights is None:
        notes.append("starting from random weights")
        return task.classes, {}
    start = {k: v for k, v in weights.parameters.items() if not k.startswith("classifier/")}
    if pooling == "mean" and any(path.startswith("pooler/") for path in start):
        start = {k: v for k, v in start.items() if not k.startswith("pooler/")}
        notes.append("not used of the weights: pooler (--config.pooling=mean)")
    head = {k: v for k, v in weights.parameters.items() if k.startswith("classifier/")}
    is_bert = isinstance(weights.config, BertConfig)
    new = ["pooler"] if is_bert and pooling == "cls" and "pooler/dense/kernel" not in start else []
    same_kind = head and weights.pooling == pooling and not new
    if same_kind and weights.classes and set(weights.classes) == set(task.classes):
        # In the order of the data: F1 is that of the second class there.
        order = [weights.classes.index(name) for name in task.classes]
        return task.classes, start | {path: value[..., order] for path, value in head.items()}
    if same_kind and weights.regression and task.is_regression:
        return (), start | head
    if head and weights.pooling != pooling:
        notes.append(
            f"the weights have a classifier that reads the {weights.pooling} vector; a new one for "
            f"--config.pooling={pooling} replaces it"
        )
    elif head and new:
        notes.append(
            "the weights have a classifier but not the pooler that it reads; a new one replaces it"
        )
    elif head:
        placeholders = "one score" if weights.regression else "without names"
        had = ", ".join(weights.classes) or placeholders
        wants = ", ".join(task.classes) or "one score"
        notes.append(
            f"the weights have a classifier for other labels ({had}); a new one for {wants} "
            "replaces it"
        )
    notes.append(f"newly initialised: {', '.join([*new, 'classifier'])}")
    return task.classes, start
