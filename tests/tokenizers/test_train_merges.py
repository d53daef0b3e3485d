"""Merges against the algorithm as it is written down: count all pairs anew at each step."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.tokenizers.train_merges import MergeLearner, grow

Words = dict[tuple[str, ...], int]


def naive_merges(
    words: Words, join: Callable[[str, str], str] = str.__add__
) -> list[tuple[str, str, int]]:
    """All merges of pairs that occur twice: the most frequent, of these the first by name."""
    words, merges = dict(words), []
    while True:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for word, count in words.items():
            for place in range(len(word) - 1):
                pairs[word[place : place + 2]] += count
        ranked = sorted((-count, pair) for pair, count in pairs.items() if count >= 2)
        if not ranked:
            return merges
        count, pair = ranked[0]
        merges.append((*pair, -count))
        renewed: Words = {}
        for word, times in words.items():
            joined = tuple(naive_apply(list(word), pair, join(*pair)))
            renewed[joined] = renewed.get(joined, 0) + times
        words = renewed


def naive_apply(word: list[str], pair: tuple[str, str], name: str) -> list[str]:
    out: list[str] = []
    while word:
        if tuple(word[:2]) == pair:
            out.append(name)
            word = word[2:]
        else:
            out.append(word[0])
            word = word[1:]
    return out


def learned(words: Words) -> list[tuple[str, str, int]]:
    found = MergeLearner(words.items()).merges()
    return [(merge.first, merge.second, merge.count) for merge in found]


def split(counts: dict[str, int]) -> Words:
    return {tuple(word): count for word, count in counts.items()}


def test_a_case_by_hand() -> None:
    # "lo" and "ow" both 7: "lo" comes first by name; then "low" 7, then "er" 2.
    words = split({"low": 5, "lower": 2})
    assert learned(words) == [("l", "o", 7), ("lo", "w", 7), ("e", "r", 2), ("low", "er", 2)]


def test_runs_are_joined_from_the_left() -> None:
    assert learned(split({"aaaaa": 1})) == [("a", "a", 4)]
    assert learned(split({"aaaaa": 2})) == [("a", "a", 8), ("aa", "a", 2), ("aa", "aaa", 2)]


def test_two_merges_may_give_the_same_entry() -> None:
    words = {("ab", "c"): 9, ("a", "bc"): 5, ("abc", "x"): 2}
    found = list(MergeLearner(words.items()).merges())
    assert [(merge.name, merge.count) for merge in found[:2]] == [("abc", 9), ("abc", 5)]
    entries, merges = grow(["a", "ab", "bc", "c", "x"], MergeLearner(words.items()), 7)
    assert entries == ["a", "ab", "bc", "c", "x", "abc", "abcx"]
    assert merges == [("ab", "c"), ("a", "bc"), ("abc", "x")]


@pytest.mark.property
@settings(max_examples=150)
@given(
    counts=st.dictionaries(st.text(alphabet="aab\U0001f600é", max_size=12), st.integers(1, 5)),
    seed=st.integers(0, 9),
)
def test_equals_counting_anew_in_any_order(counts: dict[str, int], seed: int) -> None:
    expected = naive_merges(split(counts))
    assert learned(split(counts)) == expected
    shuffled = list(counts.items())
    random.Random(seed).shuffle(shuffled)
    assert learned(split(dict(shuffled))) == expected


def test_equals_counting_anew_on_many_words() -> None:
    draw = random.Random(7)
    syllables = ["ka", "na", "an", "ank", "i", "ni", "aa", "k"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 5))) for _ in range(400)]
    counts = split(dict(collections.Counter(words)))
    expected = naive_merges(counts)
    assert len(expected) > 90
    assert learned(counts) == expected


def test_grow_stops_at_the_size() -> None:
    learner = MergeLearner(split({"low": 5, "lower": 2}).items())
    entries, merges = grow(["<unk>", *"elorw"], learner, 8)
    assert entries == ["<unk>", *"elorw", "lo", "low"]
    assert merges == [("l", "o"), ("lo", "w")]


def test_grow_of_nothing_to_learn() -> None:
    entries, merges = grow(["a", "b"], MergeLearner([]), 2)
    assert (entries, merges) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (5, "5 entries are too few: 6 are needed .* expected at least --size=6"),
        (11, "11 entries are too many: the text gives 10 .* expected at most --size=10"),
    ],
)
def test_grow_refuses_sizes_that_cannot_be(size: int, message: str) -> None:
    learner = MergeLearner(split({"low": 5, "lower": 2}).items())
    with pytest.raises(UserError, match=message):
        grow(["<unk>", *"elorw"], learner, size)


def test_grow_shows_its_progress() -> None:
    seen = []

    def watch(merges, total):  # type: ignore[no-untyped-def]
        for merge in merges:
            seen.append((merge.name, total))
            yield merge

    grow(list("elorw"), MergeLearner(split({"low": 5, "lower": 2}).items()), 7, watch)
    assert seen == [("lo", 2), ("low", 2)]
