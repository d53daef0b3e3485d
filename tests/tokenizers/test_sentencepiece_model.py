"""SentencePiece: the library's ids, special tokens, long texts, untrusted files."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from gptbert.errors import UserError
from gptbert.tokenizers import load_tokenizer, memory, sentencepiece_model
from gptbert.tokenizers.sentencepiece_model import SentencePiece, read_sentencepiece
from tests.tokenizers import nasty
from tests.tokenizers.tiny_sentencepiece import model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> SentencePiece:
    return model(request.param)


def test_ids_are_the_librarys(tokenizer: SentencePiece) -> None:
    library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer._data)
    lines = nasty.lines(3_000)
    expected = [library.encode(line) for line in lines]
    assert tokenizer.encode_batch(iter(lines)) == expected
    assert [tokenizer.encode(line) for line in lines[::10]] == expected[::10]
    arrays = tokenizer.encode_arrays(iter(lines))
    assert [ids.tolist() for ids in arrays] == expected and arrays[1].dtype == np.int32
    assert tokenizer.encode_arrays([]) == []
    assert tokenizer.encode_array(lines[0]).shape == (0,)
    for line, ids in zip(lines[::10], expected[::10], strict=True):
        assert tokenizer.encode_array(line).tolist() == ids
        assert tokenizer.tokenize(line) == [library.id_to_piece(i) for i in ids]


def test_back_to_text(tokenizer: SentencePiece) -> None:
    assert tokenizer.decode(tokenizer.encode("The cat  didn't see.")) == "The cat didn't see."
    assert tokenizer.decode([]) == ""
    for outside in (-1, 10_000):
        with pytest.raises(IndexError, match=f"id {outside} is not in a vocabulary"):
            tokenizer.decode([5, outside])


def test_special_tokens(tokenizer: SentencePiece) -> None:
    special = tokenizer.special
    assert (special.pad, special.unk, special.end_of_text) == (0, 1, 3)
    assert [tokenizer.entries[i] for i in special.require("cls", "sep", "mask")] == [
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]
    ids = tokenizer.encode("[CLS] [MASK] </s> <pad> <unk>")
    assert not {special.pad, special.cls, special.mask, special.end_of_text} & set(ids)


def test_absent_special_tokens() -> None:
    bare = model("bpe", pad_id=-1, unk_id=0, bos_id=-1, eos_id=-1)
    assert (bare.special.pad, bare.special.unk, bare.special.end_of_text) == (None, 0, None)


def test_pieces_that_text_produces_are_not_special() -> None:
    written = model("bpe", control_symbols="[CLS]", user_defined_symbols="[MASK]")
    number = written.entries.index("[MASK]")
    assert number in written.encode("the [MASK]")
    assert (written.special.mask, written.special.sep) == (None, None)
    assert written.special.cls == written.entries.index("[CLS]")


def test_long_texts_are_cut_at_spaces(
    tokenizer: SentencePiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "BLOCK_CHARACTERS", 40)
    text = "The cats walk, and the world\nwas in 1990.  It's naïve " * 10 + "x" * 100 + " the end"
    blocks = list(memory.blocks(text, sentencepiece_model._BETWEEN_PLAIN_WORDS))
    assert "".join(blocks) == text
    assert len(blocks) > 8
    whole = sentencepiece.SentencePieceProcessor(model_proto=tokenizer._data).encode(text)
    assert tokenizer.encode(text) == whole
    assert tokenizer.encode_batch([text, "a"]) == [whole, tokenizer.encode("a")]
    assert tokenizer.encode_array(text).tolist() == whole
    assert [ids.tolist() for ids in tokenizer.encode_arrays([text, "a"])] == [
        whole,
        tokenizer.encode("a"),
    ]


def test_models_with_pieces_across_spaces_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    crossing = model("bpe", split_by_whitespace=False)
    assert not crossing._words_are_apart
    assert model("bpe")._words_are_apart
    monkeypatch.setattr(memory, "BLOCK_CHARACTERS", 10)
    text = "the walker's cat, the world of the cat"
    library = sentencepiece.SentencePieceProcessor(model_proto=crossing._data)
    assert crossing.encode(text) == library.encode(text)


def test_continues(tokenizer: SentencePiece) -> None:
    told = dict(zip(tokenizer.entries, tokenizer.continues, strict=True))
    assert told["e"] and told["t"]
    assert not (told["▁the"] or told["."] or told["[CLS]"] or told["<pad>"])


def test_half_a_surrogate_pair(tokenizer: SentencePiece) -> None:
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a\ufffdb")


def test_save_and_load(tokenizer: SentencePiece, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "new")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["spiece.model", "tokenizer_config.json"]
    other = tmp_path / "new" / "spiece.model"
    assert read_sentencepiece(other).fingerprint == tokenizer.fingerprint
    other.rename(tmp_path / "tokenizer.model")
    for path in (tmp_path, tmp_path / "tokenizer.model"):
        assert load_tokenizer(path).fingerprint == tokenizer.fingerprint


def test_save_for_bert(tokenizer: SentencePiece, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "bert", for_bert=True)
    names = sorted(path.name for path in (tmp_path / "bert").iterdir())
    assert names == ["tokenizer.model", "tokenizer_config.json"]
    assert load_tokenizer(tmp_path / "bert").fingerprint == tokenizer.fingerprint
    bare = model("bpe", pad_id=-1, unk_id=0, bos_id=-1, eos_id=-1, control_symbols="")
    bare.save(tmp_path / "bare", for_bert=True)
    assert (tmp_path / "bare" / "spiece.model").is_file()
    assert "cls_sep" not in (tmp_path / "bare" / "tokenizer_config.json").read_text()


@pytest.mark.parametrize("name", ["AlbertTokenizer", "XLMRobertaTokenizerFast", "BertTokenizer"])
def test_refuses_classes_that_change_text_or_ids(
    tokenizer: SentencePiece, tmp_path: Path, name: str
) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(f'{{"tokenizer_class": "{name}"}}')
    with pytest.raises(UserError, match=f"{path}: tokenizer_class is '{name}'.*expected BertGen"):
        load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path / "spiece.model").fingerprint == tokenizer.fingerprint
    path.write_text('{"tokenizer_class": "T5TokenizerFast"}')
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


def test_survives_pickling(tokenizer: SentencePiece) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("the cat") == tokenizer.encode("the cat")
    assert copy.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"\0" * 1000, b"[PAD]\n[UNK]\n", b"\x0a\xff\xff\xff\xff\x0f"]
)
def test_refuses_rubbish(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(content)
    for place in (path, tmp_path):
        with pytest.raises(UserError, match=r"spiece.model is no SentencePiece model \(") as error:
            load_tokenizer(place)
        assert "\n" not in str(error.value)


def test_refuses_huge_files_unread(tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    path.touch()
    os.truncate(path, 10**12)  # sparse
    with pytest.raises(UserError, match="1,000,000,000,000 bytes; expected a SentencePiece model"):
        load_tokenizer(path)


DAMAGE = """
import random, sys
from gptbert.errors import UserError
from gptbert.tokenizers.sentencepiece_model import SentencePiece
whole, draw, refused = sys.stdin.buffer.read(), random.Random(0), 0
for number in range(150):
    damaged = bytearray(whole[: draw.randrange(len(whole))] if number % 3 == 0 else whole)
    for _ in range(number % 5 and draw.randrange(1, 20)):
        if damaged:
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
    try:
        SentencePiece(bytes(damaged)).encode("The cat didn't\\0see \\u00e9 </s>")
    except UserError:
        refused += 1
print(refused)
"""


def test_damaged_models_never_crash(tokenizer: SentencePiece) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE],
        input=tokenizer._data,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert int(done.stdout) > 50


def test_refuses_a_model_whose_pieces_are_not_utf8(tokenizer: SentencePiece) -> None:
    assert tokenizer._data.count("▁the".encode()) == 1
    damaged = tokenizer._data.replace("▁the".encode(), b"\xff\xff\xffthe")
    with pytest.raises(UserError, match=r"x.model is no SentencePiece model \('utf-8' codec"):
        SentencePiece(damaged, "x.model")
