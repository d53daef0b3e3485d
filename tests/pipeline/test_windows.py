"""Windows of a stream: nothing missed, nothing twice, end-of-text between documents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.pipeline.windows import Windows
from tests.tiny_store import make_store

END = 99


def make(folder, lengths, length, end=END):
    """Tokens are 10, 11, … through the documents, mod 80."""
    at, documents = 0, []
    for n in lengths:
        documents.append([[10 + t % 80 for t in range(at, at + n)]])
        at += n
    return Windows(make_store(folder, documents, kind="byte-bpe"), length, end)


def ring(lengths, end=END):
    stream, at = [], 0
    for n in lengths:
        stream += [10 + t % 80 for t in range(at, at + n)] + ([end] if end is not None else [])
        at += n
    return stream


@pytest.mark.property
@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(0, 99),
    st.sampled_from([END, None]),
)
def test_an_epoch_covers_the_stream(tmp_path_factory, lengths, length, epoch, end):
    windows = make(tmp_path_factory.mktemp("w"), lengths, length, end)
    expected = ring(lengths, end)
    assert windows.tokens == len(expected)
    if len(expected) <= length:
        assert windows.count == 0 and f"{len(expected)} tokens" in str(windows.too_short())
        return
    starts = windows.starts(3, epoch)
    assert len(starts) == windows.count == len(expected) // length
    met = np.concatenate([(start + np.arange(length)) % len(expected) for start in starts])
    assert len(set(met.tolist())) == len(met)  # no overlap
    assert len(expected) - len(met) < length  # no gap but the rest
    twice = expected + expected
    for start in starts:
        assert windows.read(int(start), length + 1).tolist() == twice[start : start + length + 1]


def test_epochs_begin_elsewhere_and_go_in_another_order(tmp_path):
    windows = make(tmp_path, [500, 300], 16)
    first, second = windows.starts(0, 0), windows.starts(0, 1)
    assert len(set((first % 16).tolist()) | set((second % 16).tolist())) > 1
    assert (np.diff(first) != 16).any()
    assert (first == windows.starts(0, 0)).all()
    assert (first != windows.starts(1, 0)).any() and (first != second).any()


def test_every_epoch_cuts_the_stream_elsewhere(tmp_path):
    """Where windows divide the ring, all of an epoch start at one offset: that of the epoch."""
    windows = make(tmp_path, [500, 298], 16)
    assert windows.tokens == 50 * 16
    offsets = [set((windows.starts(0, epoch) % 16).tolist()) for epoch in range(8)]
    assert all(len(each) == 1 for each in offsets)
    assert len(set.union(*offsets)) > 4
    assert len(set.union(*(set((windows.starts(seed, 0) % 16).tolist()) for seed in range(8)))) > 4


def test_documents_end_with_end_of_text_where_there_is_one(tmp_path):
    assert make(tmp_path / "a", [3, 2], 4).read(0, 7).tolist() == [10, 11, 12, 99, 13, 14, 99]
    assert make(tmp_path / "b", [3, 2], 4, None).read(0, 5).tolist() == [10, 11, 12, 13, 14]


def test_windows_of_ten_thousand_million_tokens_begin_anywhere(tmp_path):
    windows = make(tmp_path, [30], 12)
    windows.tokens, windows.length, windows.count = 10**10, 6 * 10**9, 1
    starts = np.concatenate([windows.starts(0, epoch) for epoch in range(200)])
    histogram = np.bincount(starts // 10**9, minlength=10)
    assert len(histogram) == 10 and histogram.min() >= 8
