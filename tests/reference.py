"""Our side of a comparison with `transformers`: its batch in our rows, its gradients by our names.

The rule of every comparison: the largest difference within an array is at most 1e-5 of the largest
entry of the reference's array. Arrays are ours, so query, key and value are compared as one: the
gradient by a key's bias is zero but for rounding (softmax ignores what is added to a whole row),
and has no scale of its own.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from gptbert.models.heads import SequenceClassifier
from gptbert.models.layers import anywhere
from gptbert.models.parameters import describe, merge
from gptbert.models.presets import BertConfig, Compute
from gptbert.pipeline.batch import Batch
from gptbert.pipeline.encode import Features
from gptbert.pipeline.packing import Shape, assemble, pack
from gptbert.tasks.classification import TextObjective
from gptbert.weights import huggingface_names
from tests import tiny

LAYOUTS = ("padded", "packed")


@dataclasses.dataclass(frozen=True)
class Results:
    """What a model says of a batch.

    Attributes:
      logits: [E,C].
      hidden: [all real tokens, D], example after example.
      loss: The mean over the batch.
      gradients: Of the loss, by our paths.
    """

    logits: np.ndarray
    hidden: np.ndarray
    loss: float
    gradients: dict[str, np.ndarray]


def assert_same(ours: Results, reference: Results) -> None:
    """Logits, hidden states, loss and every gradient agree by the rule above."""
    found, expected = (
        {"logits": r.logits, "hidden": r.hidden, "loss": r.loss, **r.gradients}
        for r in (ours, reference)
    )
    tiny.assert_close(found, expected)


def gradients_by_path(config: BertConfig, gradients: dict[str, np.ndarray]) -> dict:
    """A reference's gradients (by its names) as ours."""
    classes = len(gradients["classifier.bias"])
    places = huggingface_names.all_places(config, classes=classes)
    shapes = huggingface_names.parameter_shapes(config, classes=classes)
    by_name = {huggingface_names.canonical(name): value for name, value in gradients.items()}
    assert by_name.keys() == places.keys()
    return huggingface_names.from_huggingface(places, shapes, by_name.__getitem__)


def as_features(
    input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray, labels
) -> Features:
    """The real tokens of a padded batch."""
    real = attention_mask.astype(bool)
    return Features(
        tokens=input_ids[real].astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(real.sum(1))]),
        first_lengths=(real & (token_type_ids == 0)).sum(1).astype(np.int32),
        labels=labels.astype(np.float32 if labels.dtype.kind == "f" else np.int32),
        truncated=np.zeros(len(labels), bool),
    )


def lay_out(features: Features, layout: str) -> Batch:
    """One example a row with padding behind, or several examples a row."""
    longest = int(features.lengths.max())
    if layout == "padded":
        rows, shape = [[e] for e in range(len(features))], Shape(len(features), longest, 1)
    else:
        rows = pack(features.lengths.tolist(), longest + 13)
        assert max(map(len, rows)) > 1
        shape = Shape(len(rows) + 1, longest + 13, len(features))
    return assemble(features, np.arange(len(features)), rows, shape)


def compute(
    config: BertConfig, parameters: dict, features: Features, layout: str, gradients: bool = True
) -> Results:
    """Our results in float32, from one layout of the batch."""
    batch = lay_out(features, layout)
    classes = len(parameters["classifier/bias"])
    graph, _ = describe(lambda rngs: SequenceClassifier(config, Compute(), classes, rngs))
    objective = TextObjective(regression=classes == 1)

    def loss(parameters, batch):
        model = merge(graph, parameters)
        total = objective.sums(model, batch, None, anywhere)["loss"]
        outputs = objective.outputs(model, batch, anywhere), model.bert(batch.packed)
        return total / batch.targets.weights.sum(), outputs

    # Half the time of compilation is the machine code's last few percent, of no use here.
    quickly = {"xla_backend_optimization_level": 0}
    if gradients:
        run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=quickly)
        (value, (scores, hidden)), by_path = jax.device_get(run(parameters, batch))
    else:
        run = jax.jit(loss, compiler_options=quickly)
        value, (scores, hidden) = jax.device_get(run(parameters, batch))
        by_path = {}
    slots = np.nonzero(batch.targets.weights)
    segments = batch.packed.segments[slots[0], batch.targets.starts[slots]]
    real = batch.packed.segments > 0
    tokens = np.argsort(batch.packed.segments[real], kind="stable")
    return Results(scores[slots][np.argsort(segments)], hidden[real][tokens], float(value), by_path)
