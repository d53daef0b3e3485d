"""What is counted is what encoding would make of the text; memory stays bounded."""

from __future__ import annotations

import collections
import random
import tracemalloc
from collections.abc import Iterator

import pytest
import regex

from gptbert.tokenizers import basic, byte_bpe, gpt_words, memory
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.train_words import WordCounts, count_words, forget_rare, keep_alphabet

TEXTS = [
    "",
    " \t\r\n\u3000 ",
    "Walks, walks! The U.S.A. don't\n\n  walk ``quoted'' 3.14% \u201cx\u201d\u2014y",
    "a\u0085b\x0bc\x1cd\x00e\u200bf\ufffd caf\u00e9 cafe\u0301 İ ΟΔΟΣ 中国a \ud800x",
    "one\r\ntwo\u2028three\u00a0four  five   six\n",
    "word " * 50 + "\n" + "tail",
]


def of_whole_text(kind: str, text: str, rules: Rules) -> list[str]:
    if kind == "wordpiece":
        return basic.words(text, rules)
    if kind == "bpe":
        return [word for word in gpt_words.words(text) if word != "\n"]
    if kind == "byte-bpe":
        return regex.findall(byte_bpe.PATTERN, text)
    return text.split()


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "byte-bpe", "sentencepiece"])
@pytest.mark.parametrize("lowercase", [True, False])
def test_words_are_those_of_encoding(
    kind: str, lowercase: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "BLOCK_CHARACTERS", 40)  # so that texts are cut
    rules = Rules(lowercase)
    expected = collections.Counter(w for text in TEXTS for w in of_whole_text(kind, text, rules))
    counted = count_words(TEXTS, kind, rules)
    assert counted.words == dict(expected)
    assert counted.documents == len(TEXTS)
    assert (counted.forgotten, counted.too_long) == (0, 0)
    assert counted.occurrences == sum(expected.values())


def test_long_words_are_counted_apart() -> None:
    counted = count_words(["a" * 200 + " " + "b" * 201 + " c"] * 3, "wordpiece", Rules(True))
    assert counted.words == {"a" * 200: 3, "c": 3}
    assert counted.too_long == 3


def test_rare_words_are_forgotten_whole_classes_at_once() -> None:
    counts = {"the": 9, "of": 5, "a": 2, "b": 2, "c": 2, "d": 1}
    assert forget_rare(dict(counts), 6) == 0
    kept = dict(counts)
    # Two may stay, and who is as rare as the second most frequent goes: only "the" is left.
    assert forget_rare(kept, 5) == 5 + 2 + 2 + 2 + 1
    assert kept == {"the": 9}


def test_forgetting_does_not_depend_on_order() -> None:
    draw = random.Random(1)
    counts = {f"w{n}": draw.randint(1, 6) for n in range(1000)}
    results = []
    for _ in range(5):
        items = list(counts.items())
        draw.shuffle(items)
        shuffled = dict(items)
        forgotten = forget_rare(shuffled, 500)
        assert 0 < len(shuffled) <= 250
        assert forgotten + sum(shuffled.values()) == sum(counts.values())
        results.append(shuffled)
    assert all(result == results[0] for result in results)


def test_memory_is_bounded_and_nothing_lost_untold() -> None:
    texts = [" ".join(f"w{doc}x{n}" for n in range(80)) + " the" * 5 for doc in range(50)]
    counted = count_words(texts, "wordpiece", Rules(True), most=100)
    assert len(counted.words) <= 100
    assert counted.occurrences + counted.forgotten == 50 * 85
    total = WordCounts({"of": 3}, documents=1, forgotten=2)
    total.add(counted, most=100)
    assert len(total.words) <= 101
    assert total.documents == 51
    assert total.occurrences + total.forgotten == 50 * 85 + 3 + 2


def test_the_most_frequent_words_are_kept() -> None:
    counts = WordCounts({"b": 2, "the": 9, "c": 2, "a": 2, "d": 1}, forgotten=4)
    counts.keep_most(3)
    assert counts.words == {"the": 9, "a": 2, "b": 2}
    assert counts.forgotten == 4 + 2 + 1
    counts.keep_most(3)
    assert counts.forgotten == 7


def test_alphabet_keeps_the_most_frequent() -> None:
    words = {"aab": 5, "cb": 2, "dc": 1, "x\ud800": 50}
    assert keep_alphabet(words, 3) == (["a", "b", "x"], {"aab": 5})
    # "b" 7, "c" 3, "d" 1; half a surrogate pair is never kept
    assert keep_alphabet(words, 99) == (["a", "b", "c", "d", "x"], {"aab": 5, "cb": 2, "dc": 1})
    tied = {"b": 1, "a": 1, "c": 1}
    assert keep_alphabet(tied, 2) == (["a", "b"], {"b": 1, "a": 1})
    assert keep_alphabet({}, 5) == ([], {})


def test_chunks_that_are_forgotten_count_their_words() -> None:
    """Text without spaces: a chunk is a sentence, a word one character of it or two."""
    draw = random.Random(3)
    letters = [chr(0x4E00 + n) for n in range(60)]
    texts = ["\n".join("".join(draw.choices(letters, k=40)) for _ in range(20)) for _ in range(10)]
    whole = count_words(texts, "wordpiece", Rules(True))
    assert whole.occurrences == 10 * 20 * 40
    for most in (50, 100):
        counted = count_words(texts, "wordpiece", Rules(True), most=most)
        assert counted.occurrences + counted.forgotten == whole.occurrences
        assert (counted.words == whole.words) == (most == 100)  # 60 words fit, 200 chunks do not


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "byte-bpe", "sentencepiece"])
def test_memory_does_not_grow_with_unbroken_chunks(kind: str) -> None:
    def texts(count: int) -> Iterator[str]:
        for number in range(count):
            yield f"x{number}x".translate(letters) + "acgt" * 20_000 + " the end"

    letters = str.maketrans("0123456789", "abcdefghij")
    count_words(texts(1), kind, Rules(True))  # tables are filled once
    tracemalloc.start()
    counted = count_words(texts(40), kind, Rules(True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counted.too_long == 40
    assert counted.occurrences == 80
    assert peak < 2_000_000
