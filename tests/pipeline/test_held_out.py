"""Evaluations: a fixed set, all of it or a sample, with its denominators."""

import hashlib
import itertools

import numpy as np
import pytest

from gptbert.pipeline.held_out import held_out_instances, held_out_windows
from gptbert.pipeline.instances import Creation
from gptbert.pipeline.masking import Masking
from gptbert.pipeline.mixture import Mixture
from tests.pipeline.corpora import BERT, COSTS, END, GPT2, corpus, documents, leaves, same
from tests.tiny_store import make_store


def instances(mixture, **options):
    options = {"creation": Creation(length=32), "batch_size": 4, "most_tokens": 10**6} | options
    return held_out_instances(mixture, BERT, costs=COSTS, **options)


def windows(mixture, **options):
    options = {"length": 16, "batch_size": 4, "most_tokens": 10**6} | options
    return held_out_windows(mixture, GPT2, **options)


def totals(held):
    batches = [held.plan.batch(k) for k in range(held.plan.steps)]
    shapes = {tuple(x.shape for x in leaves(b).values()) for b in batches}
    announced = [tuple(x.shape for x in leaves(b).values()) for b in held.plan.abstract_batches()]
    assert shapes == set(announced) and len(announced) == 1
    read = sum(int((b.packed.segments > 0).sum()) for b in batches)
    return sum(b.targets.weights.sum() for b in batches), read


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("objective", ["mlm_nsp", "mlm", "left_to_right"])
def test_denominators_are_what_the_batches_hold(tmp_path, objective, whole):
    held = instances(
        corpus(tmp_path, split="heldout"),
        creation=Creation(objective, 32),
        masking=Masking(whole_words=whole),
        row_multiple=4,
    )
    assert totals(held) == (held.predictions, held.tokens)
    seen = [
        s for k in range(held.plan.steps) for s in np.unique(held.plan.batch(k).packed.segments)
    ]
    assert sum(s > 0 for s in seen) == held.examples


def test_the_set_is_fixed_and_bounded(tmp_path):
    mixture = corpus(tmp_path, split="heldout", heldout=60)
    one, again = instances(mixture), instances(mixture, creation=Creation(length=32, duplicates=4))
    assert one.plan.steps > 5
    assert all(same(one.plan.batch(k), again.plan.batch(k)) for k in range(one.plan.steps))
    some = instances(mixture, most_tokens=300)
    assert 250 < some.tokens <= 300 and some.examples < one.examples
    assert instances(mixture, most_tokens=1).examples == 1


DIGESTS = {
    "mlm_nsp": "1c4542d435d8627d",
    "mlm": "07b1f3c12ca348d4",
    "left_to_right": "07b1f3c12ca348d4",  # the same texts
    "next_token": "a6b9c83d6d1eef2d",
}


@pytest.mark.parametrize("objective", DIGESTS)
def test_the_set_is_the_same_for_ever(tmp_path, objective):
    """Figures of runs made with another version stay comparable: examples, their order, masks."""
    mixture = corpus(tmp_path, split="heldout", heldout=60)
    if objective == "next_token":
        fixed = windows(mixture, most_tokens=200).plan.windows
        arrays = fixed.read(np.arange(fixed.epoch_size))
    else:
        plan = instances(mixture, creation=Creation(objective, 32), most_tokens=200).plan
        picked = plan.examples.pick(np.arange(plan.examples.epoch_size))
        arrays = picked.first, picked.second, picked.random_next, picked.keys
    assert len(arrays[0]) > 5
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).astype("<u8").tobytes())
    assert found.hexdigest()[:16] == DIGESTS[objective]


def test_corpora_count_by_their_size(tmp_path):
    stores = [
        make_store(
            tmp_path / name, [[[5, 5]]], heldout=documents(count, first=first, last=last),
            split="heldout",
        )
        for name, count, first, last in (("low", 40, 5, 50), ("high", 10, 50, 101))
    ]  # fmt: skip
    held = instances(Mixture.of(stores, [1, 1]), masking=Masking(mixture=(0, 1, 0)))
    texts = [b.packed for b in map(held.plan.batch, range(held.plan.steps))]
    low = sum(int(((p.tokens > 3) & (p.tokens < 50)).sum()) for p in texts)
    high = sum(int((p.tokens >= 50).sum()) for p in texts)
    assert 2 < low / high < 8


def test_windows_cover_the_split(tmp_path):
    mixture = corpus(tmp_path, split="heldout")
    store = mixture.stores[0]
    held = windows(mixture)
    predicted, read = totals(held)
    length = store.tokens + store.documents
    assert predicted == read == held.predictions == length - 1
    assert held.bytes == pytest.approx(store.bytes * (length - 1) / length)
    assert held.plan.tokens_per_byte == held.predictions / held.bytes
    assert instances(mixture).plan.tokens_per_byte is None
    told = []
    for k in range(held.plan.steps):
        packed, targets = vars(held.plan.batch(k)).values()
        told += targets.labels[targets.weights > 0].tolist()
        assert (packed.tokens[targets.weights == 0] == 0).all()
    stream = []
    bounds = store.sentence_starts[store.document_starts]
    for start, stop in itertools.pairwise(bounds):
        stream += [*store.read(int(start), int(stop)).tolist(), END]
    assert told == stream[1:]


def test_a_sample_of_windows(tmp_path):
    mixture = corpus(tmp_path, split="heldout", heldout=40)
    whole, some = windows(mixture), windows(mixture, most_tokens=100)
    assert some.examples == 6 and some.predictions <= 96
    assert some.bytes / some.predictions == pytest.approx(whole.bytes / whole.predictions)
    assert totals(some) == (some.predictions, some.tokens)
    assert all(
        same(some.plan.batch(k), windows(mixture, most_tokens=100).plan.batch(k)) for k in (0, 1)
    )
    # A split shorter than a window is one window.
    assert windows(mixture, length=100_000).examples == 1
