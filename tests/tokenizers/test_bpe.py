"""GPT's BPE: words to pieces, unknown characters, line feeds, caches."""

from __future__ import annotations

import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.tokenizers import gpt_words, memory
from gptbert.tokenizers.bpe import GptBpe
from tests.tokenizers import nasty, tiny_bpe


@pytest.fixture(scope="module")
def tokenizer() -> GptBpe:
    return tiny_bpe.gpt()


def released(word: str, tokenizer: GptBpe) -> list[int]:
    """One word as the released encoder makes pieces of it, from its description."""
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    ids = {entry: number for number, entry in enumerate(tokenizer.entries)}
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    while len(pieces) > 1:
        best = min(itertools.pairwise(pieces), key=lambda p: ranks.get(p, 10**9))
        if best not in ranks:
            break
        pieces = tiny_bpe.joined(pieces, *best)
    return [ids.get(piece, 0) for piece in pieces]


def test_pieces(tokenizer: GptBpe) -> None:
    assert tokenizer.tokenize("The walking cat.") == ["the</w>", "walking</w>", "cat</w>", ".</w>"]
    assert tokenizer.tokenize("q Q!") == ["q</w>", "q</w>", "!</w>"]
    assert tokenizer.tokenize("\n the \n\n cat\n") == ["the</w>", "\n</w>", "cat</w>"]
    assert tokenizer.tokenize("") == tokenizer.tokenize(" \n\t\x00") == []


def test_unknown_characters_are_id_0_each(tokenizer: GptBpe) -> None:
    assert tokenizer.special.unk == 0
    assert tokenizer.encode("☃ ж") == [0, 0]
    ids = tokenizer.encode("аж the")
    assert ids == [0, 0, *tokenizer.encode("the")]
    assert tokenizer.tokenize("<unk>") == ["<</w>", *tokenizer.tokenize("unk"), "></w>"]


def test_words_as_released(tokenizer: GptBpe) -> None:
    for line in filter(lambda line: len(line) < 300, nasty.lines(2_500)[::2]):
        expected = [i for word in gpt_words.words(line) for i in released(word, tokenizer)]
        assert tokenizer.encode(line) == expected


def test_batch_and_array_are_encode(tokenizer: GptBpe) -> None:
    lines = nasty.lines(2_000)[::2]
    batch = tokenizer.encode_batch(iter(lines))
    assert batch == [tokenizer.reference_encode(line) for line in lines]
    text = "\n".join(lines)
    assert tokenizer.encode_array(text).tolist() == tokenizer.reference_encode(text)


@pytest.mark.property
@settings(max_examples=400)
@given(
    text=st.one_of(
        st.text(), st.text(alphabet="aTs nt.'-\n\r\x85\x1c\x00é\u0301\u00a0Mr", max_size=30)
    ),
    size=st.integers(1, 20),
)
def test_fast_equals_slow_in_blocks_of_any_size(tokenizer: GptBpe, text: str, size: int) -> None:
    expected = tokenizer.reference_encode(text)
    assert tokenizer.encode(text) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "BLOCK_CHARACTERS", size)
        assert tokenizer.encode(text) == expected


def test_line_without_spaces(tokenizer: GptBpe) -> None:
    ids = tokenizer.encode_array("walking" * 50_000)
    assert tokenizer.decode(ids.tolist()) == "walking" * 50_000


def test_decode_loses_case_and_spacing(tokenizer: GptBpe) -> None:
    assert tokenizer.decode(tokenizer.encode("The  cat,didn't")) == "the cat , did n't"
    assert tokenizer.decode(tokenizer.encode("the\ncat")) == "the \n cat"
    assert tokenizer.decode([]) == ""
    with pytest.raises(IndexError, match="id 9999 is not in a vocabulary"):
        tokenizer.decode([9999])


def test_nothing_continues(tokenizer: GptBpe) -> None:
    assert tokenizer.continues.shape == (tokenizer.vocabulary_size,)
    assert not tokenizer.continues.any()


def test_only_unk_is_special(tokenizer: GptBpe) -> None:
    special = tokenizer.special
    others = (special.pad, special.cls, special.sep, special.mask, special.end_of_text)
    assert set(others) == {None}


def test_fingerprint_follows_rules(tokenizer: GptBpe, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tokenizer.fingerprint
    assert GptBpe(*tiny_bpe.gpt_files()).fingerprint == before
    assert GptBpe(*tiny_bpe.gpt_files(20)).fingerprint != before
    monkeypatch.setattr(gpt_words, "BREAKS", (*gpt_words.BREAKS, "x"))
    assert GptBpe(*tiny_bpe.gpt_files()).fingerprint != before


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ENTRIES", 7)
    tokenizer = tiny_bpe.gpt(20)
    texts = ["x" * 65, *(f"a{n}, b{n}" for n in range(50))]
    assert tokenizer.encode_batch(texts) == [tokenizer.reference_encode(text) for text in texts]
    assert {len(tokenizer._chunks), len(tokenizer._parts), len(tokenizer._words)} == {7}


def test_survives_pickling(tokenizer: GptBpe) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert not copy._words
    assert copy.encode_batch(nasty.lines(50)) == tokenizer.encode_batch(nasty.lines(50))
    assert copy.fingerprint == tokenizer.fingerprint


def test_refuses_a_vocabulary_without_unk() -> None:
    with pytest.raises(UserError, match="v.json has 2 entries but no <unk>"):
        GptBpe({"a": 0, "a</w>": 1}, [], "v.json")
