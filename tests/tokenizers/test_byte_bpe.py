"""GPT-2's byte-level BPE: the pattern, the bytes, the caches, and back to text."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.tokenizers import byte_bpe, memory
from gptbert.tokenizers.byte_bpe import BYTES, ByteBpe
from tests.tokenizers import nasty, tiny_bpe


@pytest.fixture(scope="module")
def tokenizer() -> ByteBpe:
    return tiny_bpe.gpt2()


def test_bytes_are_spelt_as_published() -> None:
    assert (len(BYTES), len(set(BYTES))) == (256, 256)
    assert [ord(BYTES[b]) for b in (0, 32, 33, 126, 127, 160, 161, 172, 173, 174, 255)] == [
        *(256, 288, 33, 126, 289, 322, 161, 172, 323, 174, 255)
    ]
    assert (BYTES[ord(" ")], BYTES[ord("\n")]) == ("Ġ", "Ċ")


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        ("Hello world", ["Hello", " world"]),
        ("it's we'll I'd'VE", ["it", "'s", " we", "'ll", " I", "'d", "'", "VE"]),
        ("a  b", ["a", " ", " b"]),
        ("a \n\n b", ["a", " \n\n", " b"]),
        ("a\nb", ["a", "\n", "b"]),
        ("a  ", ["a", "  "]),
        (" a", [" a"]),
        ("x1y² 3!? ...", ["x", "1", "y", "²", " 3", "!?", " ..."]),
        ("a\x1cb", ["a", "\x1c", "b"]),
        ("\u00a0a\u3000", ["\u00a0", "a", "\u3000"]),
        ("", []),
    ],
)
def test_cuts_written_by_hand(tokenizer: ByteBpe, text: str, cuts: list[str]) -> None:
    assert byte_bpe._CUT.findall(text) == cuts
    apart = [i for cut in cuts for i in tokenizer.encode(cut)]
    assert tokenizer.encode(text) == apart


def test_pieces(tokenizer: ByteBpe) -> None:
    assert tokenizer.tokenize("the walking") == ["the", "Ġwalking"]
    assert tokenizer.tokenize("é") == ["Ã©"]  # merged bytes
    assert tokenizer.tokenize("ü") == ["Ã", "¼"]


def test_end_of_text_is_split_like_any_text(tokenizer: ByteBpe) -> None:
    end = tokenizer.special.end_of_text
    assert end == tokenizer.vocabulary_size - 1
    assert end not in tokenizer.encode("a<|endoftext|>b <|endoftext|>")
    assert tokenizer.decode([end]) == "<|endoftext|>"


def test_other_special_tokens_are_absent(tokenizer: ByteBpe) -> None:
    special = tokenizer.special
    assert {special.pad, special.unk, special.cls, special.sep, special.mask} == {None}
    with pytest.raises(UserError, match="no special token cls, sep, which this input needs"):
        special.require("cls", "sep")
    assert special.require("end_of_text") == (special.end_of_text,)


def test_nasty_lines_and_back(tokenizer: ByteBpe) -> None:
    lines = nasty.lines(3_000)
    batch = tokenizer.encode_batch(iter(lines))
    assert batch == [tokenizer.reference_encode(line) for line in lines]
    assert [tokenizer.decode(ids) for ids in batch] == lines
    text = "\n".join(lines)
    assert tokenizer.encode_array(text).tolist() == tokenizer.reference_encode(text)


SPACED = st.text(alphabet="ab .'s\n\t\u00a0\u2028\x1c\x85é1", max_size=40)


@pytest.mark.property
@settings(max_examples=500)
@given(text=st.one_of(st.text(), SPACED, st.text(alphabet="a  \n", max_size=12)))
def test_fast_equals_slow(tokenizer: ByteBpe, text: str) -> None:
    assert tokenizer.encode(text) == tokenizer.reference_encode(text)


@pytest.mark.property
@settings(max_examples=300)
@given(text=st.text(alphabet="ab .'s\n\u00a0é", max_size=60), size=st.integers(1, 9))
def test_blocks_change_nothing(tokenizer: ByteBpe, text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "BLOCK_CHARACTERS", size)
        assert tokenizer.encode(text) == tokenizer.reference_encode(text)


def test_long_text_is_cut_into_blocks(tokenizer: ByteBpe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BLOCK_CHARACTERS", 10)
    text = "the cat " * 20 + "x" * 50 + " the end"
    blocks = list(memory.blocks(text))
    assert "".join(blocks) == text
    assert blocks[0] == "the cat the"
    assert all(block.startswith(" ") for block in blocks[1:])
    assert max(map(len, blocks)) < 50 + 20  # only where a word is longer than a block


def test_array_is_int32(tokenizer: ByteBpe) -> None:
    ids = tokenizer.encode_array("the cat\n\nthe end")
    assert ids.dtype == np.int32
    assert ids.tolist() == tokenizer.encode("the cat\n\nthe end")
    assert tokenizer.encode_array("").shape == (0,)


def test_word_of_a_megabyte(tokenizer: ByteBpe) -> None:
    ids = tokenizer.encode_array("walking" * 150_000)
    assert tokenizer.decode(ids.tolist()) == "walking" * 150_000
    assert len(ids) == 150_000 * len(tokenizer.encode("walking"))


def test_half_a_surrogate_pair_is_the_replacement_character(tokenizer: ByteBpe) -> None:
    expected = tokenizer.encode("a\ufffd the \ufffd\ufffd")
    assert tokenizer.encode("a\ud800 the \udfff\ud800") == expected
    assert tokenizer.reference_encode("a\ud800 the \udfff\ud800") == expected
    assert tokenizer.encode("\ud800" * 4_000) == tokenizer.encode("\ufffd" * 4_000)


def test_decode_of_half_a_character(tokenizer: ByteBpe) -> None:
    ids = tokenizer.encode("日")
    assert tokenizer.decode(ids[:-1]) == "\ufffd"
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("outside", [-1, 10_000])
def test_decode_refuses_ids_outside(tokenizer: ByteBpe, outside: int) -> None:
    with pytest.raises(IndexError, match=f"id {outside} is not in a vocabulary"):
        tokenizer.decode([0, outside])


def test_continues(tokenizer: ByteBpe) -> None:
    told = dict(zip(tokenizer.entries, tokenizer.continues, strict=True))
    assert (told["a"], told["the"], told["1"]) == (True, True, True)
    assert (told["Ġ"], told["Ġthe"], told["."], told["<|endoftext|>"]) == (False,) * 4
    assert told[BYTES[0xA9]]  # the rest of a character
    assert tokenizer.continues.dtype == bool


def test_fingerprint_follows_what_affects_ids() -> None:
    vocabulary, merges = tiny_bpe.gpt2_files(20)
    same = ByteBpe(vocabulary, merges).fingerprint
    swapped = [merges[1], merges[0], *merges[2:]]
    renamed = {**vocabulary, "a": vocabulary["b"], "b": vocabulary["a"]}
    others = [
        ByteBpe(vocabulary, swapped),
        ByteBpe(renamed, merges),
        ByteBpe(vocabulary, merges[:-1]),
    ]
    assert len({same, *(other.fingerprint for other in others)}) == 4
    assert same == ByteBpe(dict(reversed(vocabulary.items())), merges).fingerprint


def test_results_are_the_callers_own(tokenizer: ByteBpe) -> None:
    tokenizer.encode("the cat").append(-1)
    assert tokenizer.tokenize("the cat") == ["the", "Ġcat"]


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ENTRIES", 7)
    tokenizer = tiny_bpe.gpt2(20)
    texts = ["x" * 65 + " y", *(f"a{n}, b{n}" for n in range(50))]
    assert tokenizer.encode_batch(texts) == [tokenizer.reference_encode(text) for text in texts]
    assert len(tokenizer._words) == len(tokenizer._spaced) == 7
    assert max(map(len, [*tokenizer._words, *tokenizer._spaced])) <= 64


def test_copies_for_other_processes_start_empty(tokenizer: ByteBpe) -> None:
    tokenizer.encode("the cat")
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert not copy._spaced
    assert copy.encode_batch(nasty.lines(50)) == tokenizer.encode_batch(nasty.lines(50))
    assert copy.fingerprint == tokenizer.fingerprint


def test_refuses_a_vocabulary_without_all_bytes() -> None:
    vocabulary, merges = tiny_bpe.gpt2_files(5)
    entries = [entry for entry in vocabulary if entry != BYTES[200]]
    with pytest.raises(UserError, match=r"v.json has no entry for byte 0xc8 \(1 bytes without"):
        ByteBpe({entry: i for i, entry in enumerate(entries)}, merges, "v.json")
