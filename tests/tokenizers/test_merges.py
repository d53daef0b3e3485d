"""The merges of a word: short and long words by the same rule, whatever the order of the merges."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbert.tokenizers import merges
from gptbert.tokenizers.merges import Merges

Pairs = Sequence[tuple[str, str]]


def vocabulary(pairs: Pairs) -> dict[str, int]:
    names = dict.fromkeys([*"abc", *(part for a, b in pairs for part in (a, b, a + b))])
    return {name: 7 + 3 * number for number, name in enumerate(names)}


def released(word: list[str], pairs: Pairs) -> list[str]:
    """The loop of the released encoders, written from its description."""
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(pairs)))}
    while True:
        present = {pair: ranks[pair] for pair in itertools.pairwise(word) if pair in ranks}
        if not present:
            return word
        first, second = min(present, key=present.__getitem__)
        merged, at = [], 0
        while at < len(word):
            here = word[at : at + 2] == [first, second]
            merged.append(first + second if here else word[at])
            at += 2 if here else 1
        word = merged


def both_ways(word: str, pairs: Pairs) -> list[list[str]]:
    ids = vocabulary(pairs)
    names = {number: name for name, number in ids.items()}
    table, symbols = Merges(ids, pairs), [ids[c] for c in word]
    many = table.apply_to_array(np.array(symbols, np.int32))
    return [[names[i] for i in found] for found in (table.apply(symbols), many.tolist())]


@pytest.mark.parametrize(
    ("word", "pairs", "pieces"),
    [
        ("", [("a", "b")], []),
        ("a", [("a", "b")], ["a"]),
        ("ab", [], ["a", "b"]),
        ("abc", [("b", "c"), ("a", "b")], ["a", "bc"]),
        ("abc", [("a", "b"), ("ab", "c")], ["abc"]),
        ("aaaa", [("a", "a")], ["aa", "aa"]),
        ("aaaaa", [("a", "a"), ("aa", "a")], ["aa", "aaa"]),
        ("abab", [("b", "a"), ("a", "b")], ["a", "ba", "b"]),
        # The result of a merge may have a lower rank than the merge: the round is finished first.
        ("abcab", [("ab", "c"), ("c", "ab"), ("a", "b")], ["abc", "ab"]),
        ("aabab", [("ab", "ab"), ("a", "ab"), ("a", "b")], ["a", "abab"]),
    ],
)
def test_written_by_hand(word: str, pairs: Pairs, pieces: list[str]) -> None:
    assert released(list(word), pairs) == pieces
    assert both_ways(word, pairs) == [pieces, pieces]


PARTS = st.text("ab", min_size=1, max_size=3)


@pytest.mark.property
@given(
    word=st.text("abc", max_size=60),
    pairs=st.lists(st.tuples(PARTS, PARTS), unique=True, max_size=12),
)
def test_any_word_and_merges(word: str, pairs: Pairs) -> None:
    pieces = released(list(word), pairs)
    assert both_ways(word, pairs) == [pieces, pieces]


def test_words_of_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merges, "_BLOCK", 7)
    pairs = [("a", "b"), ("ab", "ab"), ("c", "c"), ("abab", "cc"), ("b", "b"), ("cc", "cc")]
    draw = np.random.default_rng(0)
    for length in (2, 3, 5, 8, 50, 501):
        word = "".join(draw.choice(list("abc"), length))
        pieces = released(list(word), pairs)
        assert both_ways(word, pairs) == [pieces, pieces]


def test_long_words_take_the_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def apply_to_array(self: Merges, symbols: np.ndarray) -> np.ndarray:
        seen.append(len(symbols))
        return symbols

    monkeypatch.setattr(Merges, "apply_to_array", apply_to_array)
    table = Merges(vocabulary([("a", "b")]), [("a", "b")])
    for length in (merges.LONG - 1, merges.LONG):
        table.apply([7] * length)
    assert seen == [merges.LONG]


def test_time_grows_with_length_only() -> None:
    pairs = [("a" * n, "a" * n) for n in (1, 2, 4, 8)]
    ids = vocabulary(pairs)
    table, start = Merges(ids, pairs), time.perf_counter()
    pieces = table.apply([ids["a"]] * 1_000_001)
    assert pieces == [ids["a" * 16]] * 62_500 + [ids["a"]]
    assert time.perf_counter() - start < 30  # the loop over lists would take hours
