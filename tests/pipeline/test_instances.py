"""Instances of a pass, against BERT's data creation written down plainly (A.3.2 of the papers)."""

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.pipeline import draws
from gptbert.pipeline.instances import (
    Creation,
    _Corpus,
    _targets,
    _truncate,
    has_pairs,
    make_instances,
)
from gptbert.pipeline.store import TokenStore
from tests.tiny_store import make_store


def script(documents, length, rng, short=0.1):
    """One pass of `create_instances_from_document`, sentences being lists of token addresses."""
    made = []
    limit = length - 3
    for number, document in enumerate(documents):
        target = rng.randint(2, limit) if rng.random() < short else limit
        chunk, i = [], 0
        while i < len(document):
            chunk.append(document[i])
            if i == len(document) - 1 or sum(map(len, chunk)) >= target:
                a_end = 1 if len(chunk) == 1 else rng.randint(1, len(chunk) - 1)
                a = [t for sentence in chunk[:a_end] for t in sentence]
                b = []
                random_next = len(chunk) == 1 or rng.random() < 0.5
                if random_next:
                    for _ in range(10):
                        other = rng.randint(0, len(documents) - 1)
                        if other != number:
                            break
                    for sentence in documents[other][rng.randint(0, len(documents[other]) - 1) :]:
                        b += sentence
                        if len(b) >= target - len(a):
                            break
                    i -= len(chunk) - a_end
                else:
                    b = [t for sentence in chunk[a_end:] for t in sentence]
                cut_pair(a, b, limit, rng)
                made.append((a, b, random_next))
                chunk = []
            i += 1
    return made


def cut_pair(a, b, limit, rng):
    while len(a) + len(b) > limit:
        longer = a if len(a) > len(b) else b
        del longer[0 if rng.random() < 0.5 else -1]


def addresses(lengths):
    """Documents whose tokens are their own places in the stream."""
    at, documents = 0, []
    for document in lengths:
        sentences = []
        for n in document:
            sentences.append(list(range(at, at + n)))
            at += n
        documents.append(sentences)
    return documents


def some_lengths(documents=60, seed=0, longest=45):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, longest, rng.integers(1, 60)).tolist() for _ in range(documents)]


def store_of(tmp_path, lengths, **options):
    documents = [[[7] * n for n in document] for document in lengths]
    return make_store(tmp_path / "store", documents, **options)


def test_statistics_are_those_of_the_script(tmp_path):
    lengths, length, passes = some_lengths(), 64, 40
    documents, store = addresses(lengths), store_of(tmp_path, lengths)
    theirs = [script(documents, length, random.Random(k)) for k in range(passes)]
    ours = [make_instances(store, Creation(length=length), 5, k) for k in range(passes)]

    def compare(name, theirs, ours):
        theirs, ours = np.array(theirs, float), np.array(ours, float)
        error = np.hypot(theirs.std(), ours.std()) / np.sqrt(passes)
        assert abs(theirs.mean() - ours.mean()) < 4 * error, (name, theirs.mean(), ours.mean())
        assert error < 0.1 * max(theirs.mean(), 0.01), (name, error)

    compare("count", [len(each) for each in theirs], [len(each) for each in ours])
    compare(
        "random",
        [np.mean([r for *_, r in t]) for t in theirs],
        [o.random_next.mean() for o in ours],
    )
    size = {
        "first": (lambda a, b: len(a), lambda o: o.first[:, 1] - o.first[:, 0]),
        "second": (lambda a, b: len(b), lambda o: o.second[:, 1] - o.second[:, 0]),
        "whole": (lambda a, b: len(a) + len(b) + 3, lambda o: o.lengths),
        "full": (lambda a, b: len(a) + len(b) == length - 3, lambda o: o.lengths == length),
        "short": (lambda a, b: len(a) + len(b) < 20, lambda o: o.lengths < 23),
    }
    for name, (their, our) in size.items():
        compare(
            name, [np.mean([their(a, b) for a, b, _ in t]) for t in theirs],
            [our(o).mean() for o in ours],
        )  # fmt: skip
    # Documents' ends and single sentences always get a random second text, so the share of true
    # second texts lies under one half.
    assert 0.5 < np.mean([o.random_next.mean() for o in ours]) < 0.6


def test_pairs_are_made_as_described(tmp_path):
    lengths = some_lengths()
    store = store_of(tmp_path, lengths)
    made = make_instances(store, Creation(length=64), 0, 0)
    assert (made.lengths <= 64).all() and (made.lengths == 64).mean() > 0.5
    assert (made.first[:, 0] < made.first[:, 1]).all()
    assert (made.second[:, 0] < made.second[:, 1]).all()
    starts = store.sentence_starts[store.document_starts]
    document = [np.searchsorted(starts, side[:, 0], "right") for side in (made.first, made.second)]
    for side, place in zip((made.first, made.second), document, strict=True):
        assert (side[:, 1] <= starts[place]).all()  # no text runs over the end of its document
    # In 60 documents the tenth draw of another one never fails.
    assert ((document[0] != document[1]) == made.random_next).all()
    follows = ~made.random_next
    assert (made.second[follows, 0] >= made.first[follows, 1]).all()
    uncut = follows & (made.lengths < 64)
    assert uncut.any()
    assert (made.second[uncut, 0] == made.first[uncut, 1]).all()
    assert set(made.first[uncut].ravel()) <= set(store.sentence_starts)


def test_short_targets_are_those_of_the_script_but_evenly_spread(tmp_path):
    """Each document is short once in ten passes, at any length; a pass has its share of them."""
    lengths = [*some_lengths(200), [10] * 900]  # a book of a tenth of the text
    store, creation = store_of(tmp_path, lengths), Creation(length=66)
    corpus, passes = _Corpus.of(store, creation), 400
    targets = np.array([
        _targets(corpus, creation, draws.bits(draws.key(k), np.arange(15))) for k in range(passes)
    ])  # fmt: skip
    short = targets < 63
    assert short.mean(axis=0) == pytest.approx(0.1, abs=4.5 * (0.09 / passes) ** 0.5)
    assert targets.min() == 2 and targets.max() == 63
    drawn = targets[short]
    # Uniform on 2 to 62 here: the 63 of a short document cannot be told from a full one.
    assert drawn.mean() == pytest.approx(32, abs=4 * 17.6 / len(drawn) ** 0.5)
    assert np.bincount(drawn, minlength=63)[2:].min() > 0.6 * len(drawn) / 61
    share = (short * store_sizes(lengths)).sum(axis=1) / store.tokens
    assert share.std() < 0.04 and share.max() < 0.22  # 0.04 and more where draws are independent
    assert (
        _targets(corpus, dataclasses.replace(creation, short_share=0.0), np.arange(15)) == 63
    ).all()


def store_sizes(lengths):
    return np.array([sum(document) for document in lengths])


@pytest.mark.property
@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=2, max_size=8),
    st.integers(0, 1000),
)
def test_what_a_random_text_replaces_is_put_back(tmp_path_factory, lengths, seed):
    if max(map(len, lengths)) < 2:
        lengths[0] = [1, 1]
    store = store_of(tmp_path_factory.mktemp("s"), lengths)
    # Nothing is cut where the length leaves room for a sentence more than the target.
    made = make_instances(store, Creation(length=2000), seed, 0)
    assert made.cut == 0
    parts = [*made.first.tolist(), *made.second[~made.random_next].tolist()]
    assert sorted(t for a, b in parts for t in range(a, b)) == list(range(store.tokens))


def test_no_sentence_is_missed_in_a_pass(tmp_path):
    """With cuts: every sentence that is no longer than a text can be appears in part."""
    lengths = some_lengths(longest=20)
    store = store_of(tmp_path, lengths)
    made = make_instances(store, Creation(length=64, short_share=0.0), 1, 0)
    met = np.zeros(store.tokens + 1, np.int64)
    for side in (made.first, made.second[~made.random_next]):
        np.add.at(met, side[:, 0], 1)
        np.add.at(met, side[:, 1], -1)
    assert met.cumsum().max() == 1  # nothing twice
    assert (met.cumsum()[:-1] > 0).sum() + made.cut >= store.tokens
    assert met.cumsum()[:-1].mean() > 0.85


def test_a_pass_is_a_function_of_seed_and_number(tmp_path):
    store = store_of(tmp_path, some_lengths())

    def same(one, other):
        return len(one) == len(other) and all(
            (getattr(one, name) == getattr(other, name)).all()
            for name in ("first", "second", "random_next")
        )

    creation = Creation(length=64)
    first = make_instances(store, creation, 0, 0)
    assert same(first, make_instances(store, creation, 0, 0))
    assert not same(first, make_instances(store, creation, 0, 1))
    assert not same(first, make_instances(store, creation, 1, 0))
    assert [Creation(duplicates=3).draws_of(e) for e in range(5)] == [0, 1, 2, 0, 1]
    assert [creation.draws_of(e) for e in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.property
@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=20),
       st.integers(2, 50))  # fmt: skip
def test_truncation_keeps_what_the_script_keeps(sizes, limit):
    rng = random.Random(0)
    first = np.array([[100, 100 + a] for a, _ in sizes])
    second = np.array([[900, 900 + b] for _, b in sizes])
    cut = _truncate(first, second, limit, key=7)
    kept = []
    for a, b in sizes:
        a, b = list(range(a)), list(range(b))
        cut_pair(a, b, limit, rng)
        kept.append((len(a), len(b)))
    assert np.stack([np.diff(first)[:, 0], np.diff(second)[:, 0]], 1).tolist() == [
        list(each) for each in kept
    ]
    assert cut == sum(max(0, a + b - limit) for a, b in sizes)
    for side, column in ((first, 0), (second, 1)):
        whole = np.array([pair[column] for pair in sizes])
        offset = 100 if column == 0 else 900
        assert (side[:, 0] >= offset).all() and (side[:, 1] <= offset + whole).all()


def test_truncation_takes_front_and_back_alike():
    first, second = np.tile([0, 30], (4000, 1)), np.tile([0, 10], (4000, 1))
    _truncate(first, second, 30, key=1)
    assert (second == [0, 10]).all()
    front = first[:, 0]
    assert front.mean() == pytest.approx(5, abs=0.15)  # binomial of 10 and 1/2
    assert front.var() == pytest.approx(2.5, abs=0.25)


@pytest.mark.parametrize("objective", ["mlm", "left_to_right"])
def test_single_texts_are_the_documents_cut_up(tmp_path, objective):
    lengths = [*some_lengths(), [300], [1]]
    store = store_of(tmp_path, lengths)
    made = make_instances(store, Creation(objective, 64), 0, 0)
    order = np.argsort(made.first[:, 0])
    stretches = made.first[order]
    assert stretches[0, 0] == 0 and stretches[-1, 1] == store.tokens
    assert (stretches[1:, 0] == stretches[:-1, 1]).all()  # every token once
    assert made.lengths.max() == 64 and made.cut == 0 and not made.random_next.any()
    bounds = set(store.sentence_starts[store.document_starts].tolist())
    for start, stop in stretches.tolist():
        assert not any(start < bound < stop for bound in bounds & set(range(start, stop)))
        full = stop - start == 62
        assert full or stop in store.sentence_starts or stop in bounds


def test_one_document_follows_itself(tmp_path):
    """As in the script: after ten vain draws the random second text is of the same document."""
    store = store_of(tmp_path, [[5] * 200])
    made = make_instances(store, Creation(length=32), 0, 0)
    assert made.random_next.any() and not made.random_next.all()
    assert (made.second[:, 1] <= 1000).all()


def test_documents_of_one_sentence_get_random_texts(tmp_path):
    store = store_of(tmp_path, [[9]] * 30 + [[4, 4]])
    made = make_instances(store, Creation(length=32), 0, 0)
    alone = made.first[:, 0] < 9 * 30
    assert made.random_next[alone].all() and alone.sum() == 30


def test_sentences_longer_than_an_example_are_cut_at_random_ends(tmp_path):
    store = store_of(tmp_path, [[500, 500, 3]] * 40)
    made = make_instances(store, Creation(length=32, short_share=0.0), 0, 0)
    assert (made.lengths <= 32).all() and made.cut > 0
    assert len(set((made.first[:, 0] % 1003).tolist())) > 20


def test_stores_that_give_no_pairs_are_refused(tmp_path):
    empty = make_store(tmp_path / "empty", [[[1, 2]]], split="heldout")
    with pytest.raises(UserError, match="heldout split of .* has no text.*prepare-corpus"):
        make_instances(empty, Creation(), 0, 0)
    whole = make_store(tmp_path / "whole", [[[1, 2, 3]], [[4, 5]]], kind="byte-bpe")
    with pytest.raises(UserError, match="wordpiece, or sentencepiece.*is byte-bpe.*objective=mlm"):
        make_instances(whole, Creation(), 0, 0)
    lines = make_store(tmp_path / "lines", [[[1, 2, 3]]] * 7, heldout=[[[1, 2], [3]], [[4]]])
    with pytest.raises(
        UserError, match=r"document \(7\) has one sentence.*--format.*objective=mlm"
    ):
        make_instances(lines, Creation(), 0, 0)
    assert not has_pairs(whole) and not has_pairs(lines)
    assert has_pairs(TokenStore.open(tmp_path / "lines", "heldout"))
    assert len(make_instances(whole, Creation("mlm"), 0, 0)) == 2


def test_settings_are_checked():
    with pytest.raises(UserError, match="did you mean 'mlm_nsp'"):
        Creation("mlm_nps")
    with pytest.raises(UserError, match="at least 5"):
        Creation(length=4)
    for share in (15, 1.01, -0.1, float("nan")):
        with pytest.raises(UserError, match="expected 0 to 1"):
            Creation(short_share=share)
    assert Creation("mlm", 4).specials == 2 and Creation(length=5).specials == 3
