"""BPE of characters and of bytes: layout as released, merges as counted anew, ids as elsewhere."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from gptbert.errors import UserError
from gptbert.tokenizers import gpt_words, load_tokenizer
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.bpe_files import write_bpe
from gptbert.tokenizers.byte_bpe import BYTES
from gptbert.tokenizers.train_bpe import NEW_LINE, train_bpe, train_byte_bpe
from gptbert.tokenizers.train_merges import Trained
from gptbert.tokenizers.train_words import count_words
from tests.tokenizers.test_train_merges import naive_merges

TEXT = """The quick brown fox doesn't jump over the lazy dogs; the dogs jumped, jumping 3 times.
    A naïve “quoted” line — 中国 — and an emoji \U0001f600, twice \U0001f600.

Lower lowest low slower slowest: “slow” isn't lowly.
"""


def counted(kind: str) -> dict[str, int]:
    return count_words([TEXT], kind, Rules(True)).words


def test_gpt_merges_are_those_of_counting_anew() -> None:
    words = {(*word[:-1], word[-1] + "</w>"): n for word, n in counted("bpe").items()}
    expected = [(first, second) for first, second, _ in naive_merges(words)]
    characters = len({c for word in counted("bpe") for c in word})
    trained = train_bpe(counted("bpe"), 1 + 2 * characters + 1 + len(expected))
    assert len(expected) > 20
    assert list(trained.merges) == expected


def test_byte_merges_are_those_of_counting_anew() -> None:
    cuts = counted("byte-bpe")
    words = {tuple(BYTES[byte] for byte in cut.encode()): n for cut, n in cuts.items()}
    expected = [(first, second) for first, second, _ in naive_merges(words)]
    trained = train_byte_bpe(cuts, 257 + len(expected))
    assert len(expected) > 20
    assert list(trained.merges) == expected
    assert "Ġ中".encode() not in [entry.encode() for entry in trained.entries]  # spelt by bytes


def test_gpt_entries_are_in_the_order_of_the_release() -> None:
    trained = train_bpe({"low": 5, "lower": 2}, 15)
    letters = tuple("elorw")
    assert trained.entries[0] == "<unk>"
    assert trained.entries[1:11] == (*letters, *(f"{letter}</w>" for letter in letters))
    assert trained.entries[11:] == ("lo", "low</w>", "er</w>", NEW_LINE)
    assert trained.merges == (("l", "o"), ("lo", "w</w>"), ("e", "r</w>"))


def test_byte_entries_are_in_the_order_of_the_release(data_dir: Path) -> None:
    released = load_tokenizer(data_dir / "vocab" / "encoder.json")
    trained = train_byte_bpe({"aa": 2}, 258)
    assert trained.entries[:256] == released.entries[:256]  # type: ignore[attr-defined]
    assert trained.entries[256:] == ("aa", "<|endoftext|>")


def test_rare_characters_become_unknown(tmp_path: Path) -> None:
    trained = train_bpe({"ab": 30, "a中": 2}, 6 + 1, alphabet=2)
    assert trained.entries == ("<unk>", "a", "b", "a</w>", "b</w>", "ab</w>", NEW_LINE)
    assert trained.unspelt == 2
    save("bpe", trained, tmp_path)
    assert load_tokenizer(tmp_path).encode("ab 中") == [5, 0]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (256, "256 entries are too few: 257 are needed"),
        (300, "300 entries are too many: the text gives 259 "),
    ],
)
def test_refuses_sizes_that_cannot_be(size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_byte_bpe({"abc": 2}, size)


def test_gpt_refuses_too_small_a_size() -> None:
    with pytest.raises(UserError, match="5 entries are too few: 6 are needed"):
        train_bpe({"ab": 9}, 5)
    assert train_bpe({"ab": 9}, 6).merges == ()


def test_half_a_surrogate_pair_does_no_harm() -> None:
    assert len(train_byte_bpe({"a\ud800b": 2, "ab": 3}, 258).entries) == 258
    assert "\ud800" not in "".join(train_bpe({"a\ud800b": 2, "ab": 3}, 7).entries)


def save(kind: str, trained: Trained, folder: Path) -> None:
    ids = {entry: number for number, entry in enumerate(trained.entries)}
    write_bpe(kind, ids, trained.merges, folder, 512)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["bpe", "byte-bpe"])
def test_ids_are_those_of_the_tokenizers_library(tmp_path: Path, kind: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is missing")
    train = train_bpe if kind == "bpe" else train_byte_bpe
    save(kind, train(counted(kind), 95 if kind == "bpe" else 290), tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    assert ours.kind == kind
    for line in [TEXT, *TEXT.split("\n"), "", "unseen zebras", "low\n\nlow "]:
        assert ours.encode(line) == library.encode(line, add_special_tokens=False).ids


@pytest.mark.parity
def test_byte_merges_are_those_of_the_tokenizers_library_but_for_ties() -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is missing")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    # No two pairs occur equally often: the words differ in all letters, the counts double.
    words = {"ab": 2, "cd": 4, "ef": 8, "gh": 16, "ij": 32, "klm": 64, "nop": 128}
    library.train_from_iterator(
        ("\n".join([word] * count) for word, count in words.items()), trainer
    )
    trained = train_byte_bpe(collections.Counter(words), 256 + 7 + 1 - 2)
    theirs = [entry for entry, n in sorted(library.get_vocab().items(), key=lambda x: x[1])]
    ours = [entry for entry in trained.entries[256:-1] if "Ċ" not in entry]
    assert ours == [entry for entry in theirs[256:] if "Ċ" not in entry][: len(ours)]
    assert gpt_words.words("ab") == ["ab"]
