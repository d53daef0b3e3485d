"""WordPiece vocabularies: what is in them, and that the same counts give the same ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gptbert.errors import UserError
from gptbert.tokenizers import load_tokenizer
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.train_wordpiece import train_wordpiece
from gptbert.tokenizers.train_words import count_words
from gptbert.tokenizers.wordpiece import WordPiece
from tests.tokenizers.test_train_merges import naive_merges

WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3, ",": 20, "中": 1}


def test_entries_are_in_the_order_documented() -> None:
    trained = train_wordpiece(WORDS, 42, unused=2)
    letters = sorted(set("".join(WORDS)))
    assert trained.entries[:7] == (
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *("[unused0]", "[unused1]"),
    )
    start = 7 + 2 * len(letters)
    assert trained.entries[7:start] == (*letters, *(f"##{letter}" for letter in letters))
    # es 9 and st 9 (by name), then est 9, then lo 7 and ow 7 as "l" comes after "##"
    assert trained.entries[start : start + 4] == ("##es", "##est", "##ow", "low")
    assert len(trained.entries) == 42
    assert trained.characters == len(letters)
    assert trained.unspelt == 0


def test_learned_pieces_by_hand() -> None:
    words = {"newest": 6, "widest": 3, "low": 5, "lower": 2}
    trained = train_wordpiece(words, 5 + 20 + 5)
    # "##e ##s" and "##s ##t" occur 9 times; the first by name is joined first.
    assert trained.merges == (
        *(("##e", "##s"), ("##es", "##t")),
        *(("##o", "##w"), ("l", "##ow")),
        ("##e", "##w"),
    )
    assert trained.entries[-5:] == ("##es", "##est", "##ow", "low", "##ew")


def test_merges_are_those_of_counting_anew() -> None:
    words = count_words([Path(__file__).read_text()], "wordpiece", Rules(True)).words
    split = {(word[0], *(f"##{c}" for c in word[1:])): count for word, count in words.items()}
    expected = naive_merges(split, lambda a, b: a + b.removeprefix("##"))
    start = 5 + 2 * len(set("".join(words)))
    trained = train_wordpiece(words, start + 150)
    assert list(trained.merges) == [(a, b) for a, b, _ in expected[: len(trained.merges)]]
    assert len(trained.merges) >= 150


def test_words_of_known_characters_are_never_unknown() -> None:
    trained = train_wordpiece({"ab": 3, "cd": 1, ",": 2, "é": 1}, 5 + 10 + 1, alphabet=5)
    tokenizer = WordPiece(trained.entries, Rules(lowercase=False))
    assert tokenizer.special.unk not in tokenizer.encode("bacd dcba ,a, , b,c")


def test_rare_characters_become_unknown_and_are_counted() -> None:
    trained = train_wordpiece({"ab": 30, "éb": 2, "ü": 1}, 10, alphabet=2)
    assert trained.entries[5:9] == ("a", "b", "##a", "##b")
    assert (trained.characters, trained.unspelt) == (2, 3)
    tokenizer = WordPiece(trained.entries, Rules(lowercase=False))
    assert tokenizer.tokenize("ab éb ü") == ["ab", "[UNK]", "[UNK]"]


def test_order_of_the_words_does_not_matter() -> None:
    draw = random.Random(3)
    items = [("".join(draw.choices("abcde", k=6)), draw.randint(1, 4)) for _ in range(500)]
    first = train_wordpiece(dict(items), 120)
    for _ in range(3):
        words = list(dict(items).items())
        draw.shuffle(words)
        assert train_wordpiece(dict(words), 120) == first


@pytest.mark.parametrize(
    ("size", "message"), [(10, "too few: 27 are needed"), (9999, "too many: the text gives 4")]
)
def test_refuses_sizes_that_cannot_be(size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_wordpiece({"newest": 6, "widest": 3, "low": 5, "lover": 2}, size)


def test_no_words_give_the_special_tokens_only() -> None:
    assert train_wordpiece({}, 5).entries == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    with pytest.raises(UserError, match="expected at most --size=5, or more text"):
        train_wordpiece({}, 6)


@pytest.mark.parity
@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_are_those_of_the_tokenizers_library(tmp_path: Path, lowercase: bool) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is missing")
    texts = [Path(__file__).read_text(), "The naïve café, “quoted” — 中国! " * 3]
    rules = Rules(lowercase, max_characters=100)
    trained = train_wordpiece(count_words(texts, "wordpiece", rules).words, 380)
    WordPiece(trained.entries, rules).save(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    library.encode_special_tokens = True
    ours = load_tokenizer(tmp_path)
    for line in "\n".join(texts).split("\n"):
        assert ours.encode(line) == library.encode(line, add_special_tokens=False).ids
