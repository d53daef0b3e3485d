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
    """A matrix product of the step, batch x [m,k] x [k,n].

    `form` says how the operands lie: n as written, t the other way round. It is done `count` times
    in a step that computes only the masked positions, `count_all` times in one that computes all.
    """

    name: str
    form: str
    batch: int
    m: int
    k: int
    n: int
    count: int
    count_all: int

    @property
    def flops(self) -> float:
        """Of one."""
        return 2.0 * self.batch * self.m * self.k * self.n


def products(case: Case, linear_layers: bool = False) -> list[Product]:
    """All matrix products of a step, forward and backward.

    Of masked positions alone the head is computed, and of the last layer what follows its keys and
    values; [CLS] is read too, once a row. Kernels lie as [inputs, outputs], or with `linear_layers`
    as [outputs, inputs]; the word table always as [entries, width].
    """
    shape = preset(case.model)
    tokens, width, inner = case.rows * case.positions, shape.width, shape.inner
    kernels = (
        ("qkv", width, 3 * width),
        ("attention output", width, width),
        ("up", width, inner),
        ("down", inner, width),
    )
    whole = (shape.layers - case.masked, shape.layers)  # layers computed at every position
    found = []
    for name, inputs, outputs in kernels:
        found += _trio(name, tokens, inputs, outputs, whole, linear_layers)
    found += _attention("", case, case.positions, whole)
    if case.masked:
        read = 1 + -(-case.predictions // case.rows)
        last = (1, 0)
        found += _trio("last kv", tokens, width, 2 * width, last, linear_layers)
        found += _trio("last q", case.rows * read, width, width, last, linear_layers)
        for name, inputs, outputs in kernels[1:]:
            found += _trio(f"last {name}", case.rows * read, inputs, outputs, last, linear_layers)
        found += _attention("last ", case, read, last)
        found += _head("head of all", tokens, width, shape.vocabulary, (0, 1))
    return found + _head("head", case.predictions, width, shape.vocabulary, (1, 1 - case.masked))


def _trio(
    name: str, rows: int, inputs: int, outputs: int, counts: tuple[int, int], linear: bool
) -> list[Product]:
    """y = x W and both of its gradients."""
    forward, backward = ("nt", "nn") if linear else ("nn", "nt")
    kernel = (outputs, rows, inputs) if linear else (inputs, rows, outputs)
    return [
        Product(f"{name}: y", forward, 1, rows, inputs, outputs, *counts),
        Product(f"{name}: dx", backward, 1, rows, outputs, inputs, *counts),
        Product(f"{name}: dW", "tn", 1, *kernel, *counts),
    ]


def _attention(of: str, case: Case, asking: int, counts: tuple[int, int]) -> list[Product]:
    """Scores of `asking` queries a row and mixed values, and their gradients."""
    shape = preset(case.model)
    pairs, length, head = case.rows * shape.heads, case.positions, shape.head_width
    count, count_all = counts
    twice, four_times = (2 * count, 2 * count_all), (4 * count, 4 * count_all)
    return [
        Product(f"{of}scores", "nt", pairs, asking, head, length, *twice),
        Product(f"{of}mixing", "nn", pairs, asking, length, head, *four_times),
    ]


def _head(
    name: str, rows: int, width: int, vocabulary: int, counts: tuple[int, int]
) -> list[Product]:
    """y = x E^T and both of its gradients."""
    return [
        Product(f"{name}: y", "nt", 1, rows, width, vocabulary, *counts),
        Product(f"{name}: dx", "nn", 1, rows, vocabulary, width, *counts),
        Product(f"{name}: dE", "tn", 1, vocabulary, rows, width, *counts),
    ]
