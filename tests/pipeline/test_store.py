"""A token store gives back what was written, from any place, and says what it was made with."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.pipeline.store import TokenStore
from gptbert.pipeline.store_format import BLOCK_BYTES, MANIFEST
from gptbert.pipeline.store_writer import StoreWriter
from tests.tiny_store import ObjectStore, make_store, random_documents


def flat(documents):
    return np.array([i for document in documents for sentence in document for i in sentence])


@pytest.fixture(params=["folder", "object store", "fsspec"])
def place(request, tmp_path):
    """Three places for a store: a folder, one without rename, and a file system of fsspec."""
    if request.param == "fsspec":
        return f"file://{tmp_path}/store"
    return tmp_path / "store" if request.param == "folder" else ObjectStore()


def test_reads_any_stretch_across_shards(place):
    documents = random_documents(60)
    store = make_store(place, documents, shard_tokens=200)
    expected = flat(documents)
    assert len(store._shards) > 5
    assert store.tokens == len(expected)
    rng = np.random.default_rng(1)
    stretches = [(0, store.tokens), (0, 0), (store.tokens, store.tokens)]
    stretches += [sorted(rng.integers(0, store.tokens + 1, 2).tolist()) for _ in range(100)]
    for start, stop in stretches:
        found = store.read(start, stop)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected[start:stop])
    assert store.verify() == []


def test_knows_sentences_documents_and_totals(place):
    documents, heldout = random_documents(30), random_documents(4, seed=1)
    train = make_store(place, documents, heldout=heldout, shard_tokens=150)
    held = TokenStore.open(place, "heldout")
    for store, content in ((train, documents), (held, heldout)):
        lengths = [len(sentence) for document in content for sentence in document]
        np.testing.assert_array_equal(np.diff(store.sentence_starts), lengths)
        np.testing.assert_array_equal(np.diff(store.document_starts), list(map(len, content)))
        assert store.sentence_starts.dtype == store.document_starts.dtype == np.int64
        assert store.sentence_starts[0] == store.document_starts[0] == 0
        assert store.documents == len(content)
        assert (store.words, store.bytes) == (sum(lengths), 4 * sum(lengths))
        np.testing.assert_array_equal(store.read(0, store.tokens), flat(content))


@pytest.mark.property
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_documents_in_any_shards(data):
    ids = st.integers(0, 70_000)
    documents = data.draw(
        st.lists(
            st.lists(st.lists(ids, min_size=1, max_size=6), min_size=1, max_size=4), max_size=8
        )
    )
    shard_tokens = data.draw(st.integers(1, 12))
    store = make_store(ObjectStore(), documents, vocabulary_size=70_001, shard_tokens=shard_tokens)
    start = data.draw(st.integers(0, store.tokens))
    stop = data.draw(st.integers(start, store.tokens))
    np.testing.assert_array_equal(store.read(start, stop), flat(documents)[start:stop])
    np.testing.assert_array_equal(np.diff(store.document_starts), list(map(len, documents)))


def test_documents_are_not_cut_by_shards_and_shards_are_bounded(tmp_path):
    documents = random_documents(60)
    longest = max(len(flat([document])) for document in documents)
    store = make_store(tmp_path, documents, shard_tokens=200)
    borders = set(np.cumsum([shard.tokens for shard in store._shards]).tolist())
    assert borders <= set(store.sentence_starts[store.document_starts].tolist())
    assert max(shard.tokens for shard in store._shards) < 200 + longest


@pytest.mark.parametrize(("vocabulary", "itemsize"), [(65_536, 2), (65_537, 4)])
def test_ids_take_two_bytes_where_they_fit(tmp_path, vocabulary, itemsize):
    store = make_store(tmp_path, [[[0, vocabulary - 1]]], vocabulary_size=vocabulary)
    assert (tmp_path / "train" / "00000.tokens").stat().st_size == 2 * itemsize
    assert store.read(0, 2).tolist() == [0, vocabulary - 1]


def test_reading_beyond_the_end_is_an_error(tmp_path):
    store = make_store(tmp_path, [[[1, 2, 3]]])
    for start, stop in ((0, 4), (-1, 2), (2, 1)):
        with pytest.raises(IndexError, match="of a store of 3"):
            store.read(start, stop)


def test_the_manifest_is_written_last_and_nothing_is_renamed():
    files = ObjectStore()
    make_store(files, random_documents(30), shard_tokens=150)
    assert files.puts[-1] == MANIFEST
    assert files.puts.count(MANIFEST) == 1
    assert not hasattr(files, "rename")


def test_opening_reads_manifest_and_index_only():
    files = ObjectStore()
    make_store(files, random_documents(30), shard_tokens=150)
    files.gets.clear()
    TokenStore.open(files)
    read = [name for name, _, _ in files.gets]
    assert read[0] == MANIFEST
    assert all(name.endswith(".index") for name in read[1:])


def test_an_object_store_is_read_by_ranges_once():
    files = ObjectStore()
    per_block = BLOCK_BYTES // 2
    documents = [[[i % 100] * 1000] for i in range(5 * per_block // 1000)]
    store = make_store(files, documents)
    files.gets.clear()
    # Two blocks of five, by one request; then nothing more, the blocks being at hand.
    found = store.read(2 * per_block - 10, 2 * per_block + 10)
    np.testing.assert_array_equal(found, flat(documents)[2 * per_block - 10 : 2 * per_block + 10])
    assert files.gets == [("train/00000.tokens", BLOCK_BYTES, 3 * BLOCK_BYTES)]
    store.read(per_block, 3 * per_block)
    assert len(files.gets) == 1
    # Around the blocks at hand: the two gaps.
    np.testing.assert_array_equal(store.read(0, store.tokens), flat(documents))
    assert files.gets[1:] == [
        ("train/00000.tokens", 0, BLOCK_BYTES),
        ("train/00000.tokens", 3 * BLOCK_BYTES, 5 * BLOCK_BYTES),
    ]


def test_blocks_kept_in_memory_are_bounded(monkeypatch):
    monkeypatch.setattr("gptbert.pipeline.store.CACHE_BLOCKS", 2)
    documents = [[[i % 100] * 1000] for i in range(700)]
    store = make_store(ObjectStore(), documents)
    np.testing.assert_array_equal(store.read(0, store.tokens), flat(documents))
    assert len(store._blocks._kept) == 2


def test_fingerprint_is_that_of_the_contents(tmp_path):
    documents = random_documents(10)
    first = make_store(tmp_path / "a", documents, heldout=documents[:1])
    assert make_store(tmp_path / "b", documents).fingerprint == first.fingerprint
    assert TokenStore.open(tmp_path / "a", "heldout").fingerprint != first.fingerprint
    others = [
        make_store(tmp_path / "c", documents[1:]),
        make_store(tmp_path / "d", documents, tokenizer_fingerprint="0" * 64),
        make_store(tmp_path / "e", [[flat([document])] for document in documents]),
    ]
    assert len({store.fingerprint for store in [first, *others]}) == 4


def test_another_tokenizer_is_refused(tmp_path):
    store = make_store(tmp_path, [[[1]]], tokenizer_fingerprint="a" * 64)
    same = TokenStore.open(tmp_path, tokenizer_fingerprint="a" * 64)
    assert same.fingerprint == store.fingerprint
    with pytest.raises(UserError, match=r"another tokenizer \(wordpiece, 101 .*prepare-corpus"):
        TokenStore.open(tmp_path, tokenizer_fingerprint="b" * 64)


def test_writing_again_replaces_the_store(tmp_path):
    make_store(tmp_path, random_documents(60), shard_tokens=150)
    store = make_store(tmp_path, [[[7, 8]]], shard_tokens=150)
    assert store.read(0, 2).tolist() == [7, 8]
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [
        "00000.index",
        "00000.tokens",
    ]


def test_a_store_can_be_moved(tmp_path):
    documents = random_documents(5)
    make_store(tmp_path / "here", documents)
    shutil.move(tmp_path / "here", tmp_path / "there")
    store = TokenStore.open(tmp_path / "there")
    np.testing.assert_array_equal(store.read(0, store.tokens), flat(documents))


def test_lengths_that_do_not_add_up_are_refused():
    writer = StoreWriter(
        ObjectStore(), tokenizer_kind="bpe", tokenizer_fingerprint="", vocabulary_size=10
    )
    good = (np.arange(4), np.array([1, 3]), np.array([2]))
    for place, wrong in itertools.product(range(3), [np.array([1, 1, 1])]):
        arrays = [*good[:place], wrong, *good[place + 1 :]]
        with pytest.raises(ValueError, match="add up"):
            writer.add("train", *arrays, words=1, bytes=1)
    with pytest.raises(ValueError, match="token 10 is not in the vocabulary"):
        writer.add("train", np.array([10]), np.array([1]), np.array([1]), words=1, bytes=1)
