"""Mixing corpora: shares, places, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.pipeline.mixture import Mixture
from tests.tiny_store import make_store, random_documents

weights = st.lists(st.floats(0.01, 10), min_size=1, max_size=5)


def mixture(weights):
    total = sum(weights)
    return Mixture((None,) * len(weights), tuple(w / total for w in weights))


@pytest.mark.property
@settings(max_examples=60)
@given(weights, st.integers(1, 400))
def test_each_corpus_is_visited_in_order_and_by_its_weight(weights, count):
    mixed = mixture(weights)
    corpora, places = mixed.deal(np.arange(count))
    for corpus, weight in enumerate(mixed.weights):
        mine = places[corpora == corpus]
        assert mine.tolist() == list(range(len(mine)))
        assert abs(len(mine) - weight * count) <= len(weights)


@pytest.mark.property
@settings(max_examples=60)
@given(weights, st.integers(0, 10**12), st.integers(1, 64))
def test_a_number_is_dealt_alike_wherever_one_begins(weights, start, count):
    mixed = mixture(weights)
    corpora, places = mixed.deal(np.arange(start, start + count))
    for k in (0, count // 2, count - 1):
        one = mixed.deal(np.array([start + k]))
        assert (one[0][0], one[1][0]) == (corpora[k], places[k])
    for corpus in range(len(weights)):
        mine = places[corpora == corpus]
        assert (np.diff(mine) == 1).all()


def test_weights_are_normalised_or_follow_the_sizes(tmp_path):
    one = make_store(tmp_path / "a", [[[1] * 30]])
    two = make_store(tmp_path / "b", [[[1] * 10]])
    assert Mixture.of([one, two]).weights == (0.75, 0.25)
    assert Mixture.of([one, two], [1, 3]).weights == (0.25, 0.75)


def test_what_cannot_be_mixed_is_refused(tmp_path):
    documents = random_documents(3)
    one, copy = (make_store(tmp_path / name, documents) for name in ("a", "copy"))
    two = make_store(tmp_path / "b", random_documents(3, seed=1))
    other = make_store(tmp_path / "c", documents, tokenizer_fingerprint="f" * 64)
    empty = make_store(tmp_path / "d", documents, split="heldout")
    with pytest.raises(UserError, match="no corpus"):
        Mixture.of([])
    with pytest.raises(UserError, match="different tokenizers"):
        Mixture.of([one, other])
    with pytest.raises(UserError, match="heldout split.*no text.*prepare-corpus"):
        Mixture.of([one, empty])
    for again in (one, copy):
        with pytest.raises(UserError, match=f"{again.path} is named twice, or is a copy of"):
            Mixture.of([one, two, again], [1, 1, 1])
    for weights in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]):
        with pytest.raises(UserError, match="corpus_weights"):
            Mixture.of([one, two], weights)
