"""SentencePiece through its library: deterministic, special tokens, sizes."""

from __future__ import annotations

import random

import pytest

from gptbert.errors import UserError
from gptbert.tokenizers import train_sentencepiece as train_sentencepiece_module
from gptbert.tokenizers.sentencepiece_model import SentencePiece
from gptbert.tokenizers.train_sentencepiece import ALGORITHMS, train_sentencepiece

WORDS = {f"{first}{last}": n for n, (first, last) in enumerate(
    ((a, b) for a in ("play", "walk", "talk", "sing", "Jump") for b in ("s", "ed", "ing", "er,")), 1
)}  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_counts_give_the_same_bytes(algorithm: str) -> None:
    first, _ = train_sentencepiece(WORDS, 34, algorithm=algorithm)
    items = list(WORDS.items())
    random.Random(5).shuffle(items)
    assert train_sentencepiece(dict(items), 34, algorithm=algorithm)[0] == first
    assert len(SentencePiece(first).entries) == 34


def test_large_counts_are_scaled_for_the_unigram_model(monkeypatch: pytest.MonkeyPatch) -> None:
    total, large = sum(WORDS.values()), {word: 7 * count for word, count in WORDS.items()}
    plain, _ = train_sentencepiece(WORDS, 34)
    monkeypatch.setattr(train_sentencepiece_module, "MOST_OCCURRENCES", total)
    scaled, unspelt = train_sentencepiece(large | {"\ud800": 5}, 34)
    assert (scaled, unspelt) == (plain, 5)


def test_special_tokens_are_alberts_and_not_in_text() -> None:
    tokenizer = SentencePiece(train_sentencepiece(WORDS | {"[MASK]": 3}, 35)[0])
    assert tokenizer.entries[:5] == ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
    special = tokenizer.special
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (0, 1, 2, 3, 4)
    assert not set(tokenizer.encode("[MASK] plays [CLS]")) & {0, 2, 3, 4}
    assert tokenizer.decode(tokenizer.encode("walking plays")) == "walking plays"


def test_case_is_kept_or_folded() -> None:
    kept = SentencePiece(train_sentencepiece(WORDS, 34)[0])
    folded = SentencePiece(train_sentencepiece(WORDS, 34, lowercase=True)[0])
    assert kept.encode("Jumps") != kept.encode("jumps")
    assert folded.encode("Jumps") == folded.encode("jumps")


def test_rare_characters_become_unknown_and_are_counted() -> None:
    model, unspelt = train_sentencepiece(WORDS | {"é": 2, "x\ud800": 1}, 30, alphabet=18)
    assert unspelt == 3
    assert SentencePiece(model).special.unk in SentencePiece(model).encode("é")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("size", "message"),
    [
        (3, "3 entries are too few"),
        (10, "10 entries are too few: 24 are needed .* at least --size=24"),
        (99_999, "99,999 entries are too many for the text; expected at most --size="),
    ],
)
def test_refuses_sizes_that_cannot_be(size: int, message: str, algorithm: str) -> None:
    with pytest.raises(UserError, match=message):
        train_sentencepiece(WORDS, size, algorithm=algorithm)


def test_the_size_named_as_smallest_works() -> None:
    assert len(SentencePiece(train_sentencepiece(WORDS, 24)[0]).entries) == 24


def test_refuses_no_words() -> None:
    with pytest.raises(UserError, match="holds no words"):
        train_sentencepiece({}, 100)
