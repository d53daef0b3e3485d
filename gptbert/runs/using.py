"""A finished run, or weights with a head, ready to label texts.

Texts are encoded as in training, packed into rows of a few fixed shapes and computed without
dropout; the outputs come back in the order of the texts, each text exactly once on any number of
devices.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gptbert.datasets.glue_tasks import GLUE_TASKS
from gptbert.errors import RunFailed, UserError
from gptbert.models.heads import GptClassifier, SequenceClassifier, make_classifier
from gptbert.models.parameters import Parameters, describe, unstack_layers
from gptbert.models.presets import Compute, ModelConfig
from gptbert.pipeline.encode import Features
from gptbert.pipeline.packing import Shape
from gptbert.pipeline.plan import ScoringPlan
from gptbert.runs.backbone import encode_for
from gptbert.runs.layers import scans_layers
from gptbert.runs.scoring import collect
from gptbert.tasks.classification import TextObjective
from gptbert.tasks.glue import UNORDERED
from gptbert.tokenizers import Tokenizer, load_tokenizer
from gptbert.training.optimizer import make_optimizer
from gptbert.training.products import choose_products
from gptbert.training.sharding import make_layout, usable_devices
from gptbert.training.state import computed_form
from gptbert.training.step import Training, jit_score
from gptbert.weights.folders import is_run_folder
from gptbert.weights.huggingface import read_huggingface
from gptbert.weights.pretrained import check_pairs, check_vocabulary
from gptbert.weights.run_folder import read_run
from gptbert.weights.sources import fingerprint

# Tokens of one batch: what keeps a CPU's caches, or one accelerator, busy.
_CPU_TOKENS, _ACCELERATOR_TOKENS = 2048, 16384
_SHORTEST_ROW = 32
_SHORTEST = 3  # of a text in tokens: [CLS], one token, [SEP]
_TOKENS_A_SLOT = 4

Texts = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """What a folder says of a classifier; nothing is on a device yet.

    Attributes:
      folder: The run folder, or the Hugging Face folder.
      config: The shape.
      parameters: float32 host arrays by path, layers numbered.
      classes: In the order of the outputs; empty where they are scores or have no names.
      pooling: `cls` or `mean`.
      task: What it was trained on; empty if unknown.
      step: Of the run's checkpoint; None for a Hugging Face folder.
      training: The run's config; empty for a Hugging Face folder.
      results: The run's results.json; empty if there is none.
      ignored: Tensors of a Hugging Face folder that are not used, each with the reason.
    """

    folder: Path
    config: ModelConfig
    parameters: dict[str, np.ndarray]
    classes: tuple[str, ...]
    pooling: str
    task: str = ""
    step: int | None = None
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """C, how many numbers the head gives; 0 without a head."""
        return len(self.parameters.get("classifier/bias", ()))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of the texts that it was trained on, so also how many; empty if unknown."""
        if self.task == "docstrings":
            return ("description", "signature")
        task = GLUE_TASKS.get(self.task.removeprefix("glue/"))
        return task.texts if task else tuple(self.training.get("text_columns", ()))

    @property
    def is_regression(self) -> bool:
        return self.outputs == 1 and not self.classes

    @property
    def tokenizer_folder(self) -> Path:
        return self.folder if self.step is None else self.folder / "tokenizer"

    def check_texts(self, count: int) -> None:
        """Refuses single texts for a model of pairs, and the reverse; any where it is unknown."""
        check_pairs(self.config, count, str(self.folder))
        trained = len(self.text_columns)
        if trained and trained != count:
            kinds = {1: "single texts", 2: "pairs of texts"}
            helps = {
                1: "one text each (TEXT, or one name in --text_columns)",
                2: "two texts each (--pair A B, or two names in --text_columns)",
            }
            raise UserError(
                f"the model in {self.folder} was trained on {kinds[trained]} ({self.task}) and is "
                f"given {kinds.get(count, f'{count} texts')}; expected {helps[trained]}"
            )


def read_source(folder: str | Path, step: int | None = None) -> Source:
    """Reads the --workdir of a run, or a Hugging Face folder.

    Args:
      folder: Which one.
      step: A checkpoint of the run; by default the one whose figures results.json states, or of
        an unfinished run the newest.

    Raises:
      UserError: Not there, damaged, no such checkpoint, a platform that is not there.
    """
    usable_devices()  # before anything is loaded
    path = Path(folder)
    if not is_run_folder(path):
        if step is not None:
            raise UserError(f"--step={step} names a checkpoint, but {path} is not a run folder")
        found = read_huggingface(path)
        return Source(
            path, found.config, found.parameters, found.labels or (), "cls",
            ignored=tuple(found.ignored),
        )  # fmt: skip
    description, parameters, found_step = read_run(path, step)
    return Source(
        path,
        description.config,
        parameters,
        description.classes,
        description.pooling,
        description.task,
        found_step,
        _config_of_run(path),
        read_json(path / "results.json"),
    )


def _config_of_run(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    found = read_json(path).get("config", {})
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged (`config` is {found!r:.40}); expected an object")
    return found


def check_compute(max_length: int | None, compute_dtype: str | None) -> None:
    """Refuses, before anything is loaded, what no model could be asked for."""
    if max_length is not None and max_length < _SHORTEST:
        raise UserError(f"--max_length={max_length}: expected at least {_SHORTEST}")
    Compute(compute_dtype or "float32")


def read_classifier(
    folder: str | Path, *, step: int | None = None, classes: tuple[str, ...] = ()
) -> Source:
    """As `read_source`, of weights that must have a head.

    Args:
      folder: The --workdir of a run, or a Hugging Face folder with a classifier.
      step: As in `read_source`.
      classes: Names for outputs that have none, in their order; else LABEL_0, LABEL_1, ...

    Raises:
      UserError: There is no classifier, or `classes` does not fit it.
    """
    source = read_source(folder, step)
    if not source.outputs:
        unused = f" (not used: {'; '.join(source.ignored[:3])})" if source.ignored else ""
        raise UserError(
            f"the weights in {folder} have no classifier{unused}; expected the --workdir of a "
            "`gptbert finetune`, or a folder with classifier.weight and classifier.bias"
        )
    return dataclasses.replace(source, classes=_name_classes(source, classes))


class Classifier:
    """A model on its devices, with its tokenizer.

    Attributes:
      source: Where it is from, with the names of its classes.
      tokenizer, max_length: How texts are encoded.
      layout: Over all devices.
    """

    def __init__(
        self, source: Source, *, max_length: int | None = None, compute_dtype: str | None = None
    ) -> None:
        """Places the parameters on all devices.

        Args:
          source: From `read_classifier`.
          max_length: Of a text in tokens; by default that of training, or all positions.
          compute_dtype: By default that of training, or float32.

        Raises:
          UserError: The parameters, the tokenizer or an argument do not fit the shape.
        """
        self.source = source
        self.max_length = _max_length(source, max_length)
        trained = Compute(source.training.get("compute_dtype", "float32")).dtype
        dtype = compute_dtype or choose_products(trained).arrays  # as it was scored there
        compute = Compute(dtype, scan_layers=scans_layers())
        self.tokenizer: Tokenizer = load_tokenizer(source.tokenizer_folder)
        check_vocabulary(source.config, self.tokenizer, str(source.folder))
        self.layout = make_layout()
        graph, wanted = describe(
            functools.partial(_build, source.config, compute, source.outputs, source.pooling)
        )
        parameters = _checked(source, jax.eval_shape(unstack_layers, wanted))
        self._parameters: Parameters = computed_form(
            parameters, self.layout, scan_layers=compute.scan_layers
        )
        objective = TextObjective(regression=source.is_regression)
        # Scoring updates nothing: the optimizer is there for the form.
        training = Training(graph, objective, make_optimizer("bert_adam"), self.layout)
        self._score = jit_score(training, self._parameters)
        self._shapes: set[Shape] = set()

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 (hex) of weights and tokenizer."""
        weights = fingerprint(self.source.parameters)
        return {"weights": weights, "tokenizer": self.tokenizer.fingerprint}

    def encode(self, texts: Sequence[Texts]) -> Features:
        """Token ids as in training; `truncated` says which texts were cut to `max_length`."""
        labels = np.zeros(len(texts), np.int32)
        return encode_for(
            self.source.config, texts, labels, self.tokenizer, self.max_length,
            unordered=self.source.task.removeprefix("glue/") in UNORDERED,
        )  # fmt: skip

    def outputs(self, features: Features) -> np.ndarray:
        """Logits, or scores, of encoded texts in their order: float32 [E,C].

        Raises:
          RunFailed: One of them is not a finite number.
        """
        plan = ScoringPlan(features, self._shape(features))
        score = functools.partial(self._score, self._parameters)
        collected = collect(plan, score, self.source.outputs)
        if bad := int((~np.isfinite(collected).all(-1)).sum()):
            raise RunFailed(
                f"the model in {self.source.folder} gives numbers that are not finite for {bad} of "
                f"{len(features)} texts; its weights are damaged or its training went astray"
            )
        return collected

    def _shape(self, features: Features) -> Shape:
        """Powers of two, reused where one fits: a stream of chunks compiles a few times only."""
        longest = int(features.lengths.max()) if len(features) else 1
        positions = max(_SHORTEST_ROW, _power_of_two(longest))
        on_cpu = jax.default_backend() == "cpu"
        tokens = _CPU_TOKENS if on_cpu else _ACCELERATOR_TOKENS * self.layout.mesh.size
        needed = _power_of_two(-(-int(features.lengths.sum()) // positions))
        rows = max(1, min(needed, tokens // positions))
        multiple = self.layout.row_multiple
        wanted = Shape(-(-rows // multiple) * multiple, positions, positions // _TOKENS_A_SLOT)
        fitting = [s for s in self._shapes if s.positions == positions and s.rows >= wanted.rows]
        shape = min(fitting, default=wanted)
        self._shapes.add(shape)
        return shape


def _name_classes(source: Source, given: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the outputs: the model's own, else those given, else placeholders."""
    if given and source.classes:
        raise UserError(
            f"--classes={','.join(given)}: the classes in {source.folder} have names already "
            f"({', '.join(source.classes)}); leave the flag out"
        )
    if given and source.outputs == 1:
        raise UserError(
            f"--classes={','.join(given)}: the model in {source.folder} gives a score, which has "
            "no classes; leave the flag out"
        )
    if given and (len(set(given)) != source.outputs or len(given) != source.outputs):
        raise UserError(
            f"--classes={','.join(given)}: expected {source.outputs} different names, one for each "
            f"output of the classifier in {source.folder}"
        )
    if given or source.classes or source.outputs == 1:
        return given or source.classes
    return tuple(f"LABEL_{number}" for number in range(source.outputs))


def _max_length(source: Source, wanted: int | None) -> int:
    positions = source.config.positions
    length = source.training.get("max_length", positions) if wanted is None else wanted
    shortest = 2 * max(1, len(source.text_columns)) + 1  # a token of each, and the special ones
    if not shortest <= length <= positions:
        raise UserError(
            f"--max_length={length}: expected {shortest} to {positions}, the positions that the "
            f"model in {source.folder} knows"
        )
    return length


def _checked(source: Source, wanted: Parameters) -> dict[str, np.ndarray]:
    """The parameters of the classifier, all there and of the shapes that its config says."""
    found = source.parameters
    bad = [path for path in wanted if path not in found or found[path].shape != wanted[path].shape]
    if bad:
        raise UserError(
            f"the weights in {source.folder} lack {bad[0]} in the shape {wanted[bad[0]].shape} "
            f"({len(bad)} such parameters); expected weights and description of the same model"
        )
    return {path: found[path] for path in wanted}


def _build(
    config: ModelConfig, compute: Compute, outputs: int, pooling: Any, rngs: Any
) -> SequenceClassifier | GptClassifier:
    return make_classifier(config, compute, outputs, rngs, pooling)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of the run folder; empty if the file is not there."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error})") from None
    return found if isinstance(found, dict) else {}


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()
