"""Small corpora and tokenizers for the tests of plans."""

from types import SimpleNamespace

import numpy as np

from gptbert.models.presets import BertConfig
from gptbert.pipeline.mixture import Mixture
from gptbert.pipeline.plan import cost_model
from gptbert.tokenizers.interface import SpecialTokens
from tests.tiny_store import make_store

COSTS = cost_model(BertConfig(layers=2, width=64, heads=2, inner=256), on_cpu=True)
CLS, SEP, MASK, END = 1, 2, 3, 4
VOCABULARY = 101
BERT = SimpleNamespace(
    special=SpecialTokens(pad=0, unk=0, cls=CLS, sep=SEP, mask=MASK),
    vocabulary_size=VOCABULARY,
    continues=np.arange(VOCABULARY) >= 70,
    decode=lambda ids: " ".join(f"w{i}" for i in ids),
)
GPT = SimpleNamespace(special=SpecialTokens(unk=0), vocabulary_size=VOCABULARY)
GPT2 = SimpleNamespace(special=SpecialTokens(end_of_text=END), vocabulary_size=VOCABULARY)


def documents(count=20, seed=0, first=5, last=VOCABULARY, sentences=9, longest=16):
    rng = np.random.default_rng(seed)
    return [
        [
            rng.integers(first, last, rng.integers(1, longest)).tolist()
            for _ in range(rng.integers(1, sentences))
        ]
        for _ in range(count)
    ]


def corpus(folder, count=20, heldout=8, **options):
    """A mixture of one store."""
    split = options.pop("split", "train")
    held = documents(heldout, seed=99)
    return Mixture.of([make_store(folder, documents(count, **options), heldout=held, split=split)])


def leaves(batch):
    """All arrays of a batch by name."""
    return {
        f"{part}.{name}": array
        for part in ("packed", "targets")
        for name, array in vars(getattr(batch, part)).items()
    }


def same(one, other):
    """Whether two batches are equal, types included."""
    one, other = leaves(one), leaves(other)
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and np.array_equal(one[k], other[k]) for k in one
    )


def instances_of(batch):
    """Example number -> its text as (token, type), masked tokens restored; and its label."""
    packed, targets = batch.packed, batch.targets
    tokens = packed.tokens.copy()
    rows, slots = np.nonzero(targets.weights)
    tokens[rows, targets.positions[rows, slots]] = targets.labels[rows, slots]
    found = {}
    for row, slot in zip(*np.nonzero(targets.next_weights), strict=True):
        start = targets.starts[row, slot]
        number = packed.segments[row, start]
        mine = packed.segments[row] == number
        assert (packed.positions[row, mine] == np.arange(mine.sum())).all()
        assert np.flatnonzero(mine)[0] == start
        text = tuple(
            zip(tokens[row, mine].tolist(), packed.token_types[row, mine].tolist(), strict=True)
        )
        found[int(number)] = (text, int(targets.next_labels[row, slot]))
    return found
