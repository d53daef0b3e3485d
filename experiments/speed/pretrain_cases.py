"""The models and shapes of the pre-training speed experiment, and the numbers both sides get.

Nothing here imports JAX or PyTorch: gptbert sets its process up before JAX is there.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from gptbert.models.presets import BertConfig, GptConfig, ModelConfig, preset

SEED = 0
_FIRST_WORD = 1_000  # ids below are special in BERT's vocabulary


@dataclasses.dataclass(frozen=True)
class Case:
    """One model's training step.

    Attributes:
      model: A preset's name.
      config: The config whose optimizer settings both sides take.
      rows, positions: R and T; every row is full.
      large: Whether all contestants at once would take more than 20 GB of memory.
    """

    model: str
    config: str
    rows: int
    positions: int
    large: bool = False

    @property
    def masked(self) -> bool:
        """Whether masked words are restored (BERT); otherwise next tokens are predicted (GPT)."""
        return isinstance(preset(self.model), BertConfig)

    @property
    def predictions(self) -> int:
        """Positions that count in the loss."""
        tokens = self.rows * self.positions
        return int(0.15 * tokens) if self.masked else tokens

    def shape(self, dropout: float) -> ModelConfig:
        """The model with the same dropout in all its places."""
        rates = {"dropout": dropout, "attention_dropout": dropout}
        shape = preset(self.model)
        if isinstance(shape, GptConfig):
            rates["embedding_dropout"] = dropout
        return dataclasses.replace(shape, **rates)


CASES = {
    case.model: case
    for case in (
        Case("minilm-l6-h384", "configs/bert.py:base", 8, 128),
        Case("bert-base", "configs/bert.py:base", 8, 128, large=True),
        Case("gpt2-124m", "configs/gpt2.py:124m", 2, 256),
    )
}
QUICK_CASES = {
    case.model: case
    for case in (
        Case("bert-tiny", "configs/bert.py:base", 2, 32),
        Case("gpt2-tiny", "configs/gpt2.py:tiny", 2, 32),
    )
}


def case_of(model: str) -> Case:
    """The case of a model."""
    return (CASES | QUICK_CASES)[model]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The random numbers of one step.

    Attributes:
      tokens: int32 [R,T].
      labels: int32 [R,T]: what stands at each position, or what follows it.
      positions: int32 [R,M], ascending places of masked tokens, each row's first `counts` of them.
      counts: int [R].
      next_labels: int32 [R], whether the row's second text is a random one.
    """

    tokens: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    counts: np.ndarray
    next_labels: np.ndarray

    @property
    def chosen(self) -> np.ndarray:
        """float32 [R,M], 1 where a slot of `positions` is filled."""
        return (np.arange(self.positions.shape[1]) < self.counts[:, None]).astype(np.float32)


def draw(case: Case, step: int) -> Drawn:
    """A pure function of both."""
    random = np.random.default_rng((SEED, step))
    rows, length = case.rows, case.positions
    stream = random.integers(_FIRST_WORD, preset(case.model).vocabulary, (rows, length + 1))
    stream = stream.astype(np.int32)
    labels = stream[:, :-1] if case.masked else stream[:, 1:]
    slots = -(-case.predictions // rows)
    counts = case.predictions // rows + (np.arange(rows) < case.predictions % rows)
    places = np.argsort(random.random((rows, length)), axis=1)[:, :slots]
    places = np.where(np.arange(slots) < counts[:, None], places, length)  # unused slots last
    positions = np.sort(places, axis=1) % length
    next_labels = random.integers(0, 2, rows)
    return Drawn(
        stream[:, :-1], labels, positions.astype(np.int32), counts, next_labels.astype(np.int32)
    )


@dataclasses.dataclass(frozen=True)
class Product:
    """A matrix product of the step, batch x [m,k] x [k,n], `count` times a step.

    `form` says how the operands lie: n as written, t the other way round.
    """

    name: str
    form: str
    batch: int
    m: int
    k: int
    n: int
    count: int

    @property
    def flops(self) -> float:
        """Of all of them in a step."""
        return 2.0 * self.batch * self.m * self.k * self.n * self.count


def products(case: Case, linear_layers: bool = False) -> list[Product]:
    """All matrix products of a step, forward and backward; the head's also for every position.

    Kernels lie as [inputs, outputs], or with `linear_layers` as [outputs, inputs]; the word table
    always as [entries, width].
    """
    shape = preset(case.model)
    tokens, width, inner, layers = (
        case.rows * case.positions,
        shape.width,
        shape.inner,
        shape.layers,
    )
    found = []
    for name, inputs, outputs in (
        ("qkv", width, 3 * width),
        ("attention output", width, width),
        ("up", width, inner),
        ("down", inner, width),
    ):
        found += _trio(name, tokens, inputs, outputs, layers, linear_layers)
    pairs, length, head = case.rows * shape.heads, case.positions, shape.head_width
    found.append(Product("scores", "nt", pairs, length, head, length, 2 * layers))
    found.append(Product("mixing", "nn", pairs, length, length, head, 4 * layers))
    found += _head("head", case.predictions, width, shape.vocabulary)
    if case.masked:
        found += _head("head of all", tokens, width, shape.vocabulary)
    return found


def _trio(
    name: str, rows: int, inputs: int, outputs: int, count: int, linear: bool
) -> list[Product]:
    """y = x W and both of its gradients."""
    forward, backward = ("nt", "nn") if linear else ("nn", "nt")
    kernel = (outputs, rows, inputs) if linear else (inputs, rows, outputs)
    return [
        Product(f"{name}: y", forward, 1, rows, inputs, outputs, count),
        Product(f"{name}: dx", backward, 1, rows, outputs, inputs, count),
        Product(f"{name}: dW", "tn", 1, *kernel, count),
    ]


def _head(name: str, rows: int, width: int, vocabulary: int) -> list[Product]:
    """y = x E^T and both of its gradients."""
    return [
        Product(f"{name}: y", "nt", 1, rows, width, vocabulary, 1),
        Product(f"{name}: dx", "nn", 1, rows, vocabulary, width, 1),
        Product(f"{name}: dE", "tn", 1, vocabulary, rows, width, 1),
    ]
