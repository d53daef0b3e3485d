"""Which kind the files are of, and what all kinds have in common."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.tokenizers import KINDS, Tokenizer, load_tokenizer
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.wordpiece import WordPiece
from tests.tokenizers import tiny_bpe
from tests.tokenizers.tiny_sentencepiece import model

TEXTS = [
    "",
    " ",
    "The cat didn't walk.",
    "a\x00b \u3000 été [MASK] <unk> </s> <|endoftext|>",
    "a\ud800",
]


def make(kind: str, entries: list[str]) -> Tokenizer:
    if kind == "wordpiece":
        return WordPiece(entries, Rules(lowercase=True))
    if kind == "sentencepiece":
        return model("unigram")
    return tiny_bpe.gpt(20) if kind == "bpe" else tiny_bpe.gpt2(20)


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, uncased_entries: list[str]) -> Tokenizer:
    return make(request.param, uncased_entries)


def test_every_kind_is_recognised(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, max_length=99)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.kind, loaded.fingerprint) == (tokenizer.kind, tokenizer.fingerprint)
    assert loaded.special == tokenizer.special
    assert loaded.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "byte-bpe"])
def test_a_tokenizer_json_need_not_name_its_model(
    kind: str, uncased_entries: list[str], tmp_path: Path
) -> None:
    """GPT-2's and distilgpt2's on the hub do not."""
    tokenizer = make(kind, uncased_entries)
    tokenizer.save(tmp_path / "all")
    content = json.loads((tmp_path / "all" / "tokenizer.json").read_text())
    del content["model"]["type"]
    path = tmp_path / "alone" / "tokenizer.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    for place in (path, path.parent):
        assert load_tokenizer(place).fingerprint == tokenizer.fingerprint


def test_a_tokenizer_without_a_name_is_not_the_current_folder(
    uncased_entries: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("wordpiece", uncased_entries).save(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="a tokenizer without a name; expected a folder"):
        load_tokenizer("")


def test_what_all_kinds_promise(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.continues.dtype == bool
    assert tokenizer.continues.shape == (tokenizer.vocabulary_size,)
    assert len(tokenizer.fingerprint) == 64
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert all(0 <= i < tokenizer.vocabulary_size for i in ids)
        assert len(tokenizer.tokenize(text)) == len(ids)
        special = tokenizer.special
        placed = {special.pad, special.cls, special.sep, special.mask, special.end_of_text}
        assert not placed & set(ids)
    array = tokenizer.encode_array(TEXTS[2])
    assert array.dtype == np.int32
    assert array.tolist() == tokenizer.encode(TEXTS[2])
    assert tokenizer.decode(tokenizer.encode("the the")) == "the the"


def test_kinds_have_different_fingerprints(uncased_entries: list[str]) -> None:
    assert len({make(kind, uncased_entries).fingerprint for kind in KINDS}) == len(KINDS)


def test_refuses_two_kinds_in_a_folder(tmp_path: Path, uncased_entries: list[str]) -> None:
    tiny_bpe.gpt(20).save(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(uncased_entries))
    with pytest.raises(
        UserError, match=r"holds vocab.txt and vocab.json, of different kinds; .*name"
    ):
        load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path / "vocab.txt").kind == "wordpiece"
    assert load_tokenizer(tmp_path / "vocab.json").kind == "bpe"


def test_refuses_two_pairs_in_a_folder(tmp_path: Path) -> None:
    tiny_bpe.gpt2(20).save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    shutil.copy(tmp_path / "vocab.json", tmp_path / "encoder.json")
    shutil.copy(tmp_path / "merges.txt", tmp_path / "vocab.bpe")
    with pytest.raises(UserError, match=r"holds vocab.json and encoder.json; expected one"):
        load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path / "vocab.bpe").kind == "byte-bpe"


@pytest.mark.parametrize("kind", ["bpe", "byte-bpe", "sentencepiece"])
def test_case_is_for_wordpiece_only(kind: str, tmp_path: Path) -> None:
    make(kind, []).save(tmp_path)
    does = {"bpe": True, "byte-bpe": False, "sentencepiece": None}[kind]
    for lowercase in (True, False):
        if lowercase == does:
            assert load_tokenizer(tmp_path, lowercase=lowercase).kind == kind
            continue
        with pytest.raises(UserError, match=f"is of kind {kind}, whose files settle the case"):
            load_tokenizer(tmp_path, lowercase=lowercase)


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "vocab.json", "merges.txt", "encoder.json", "spiece.model", "x.model"],
)
def test_missing_file_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"{name}"):
        load_tokenizer(tmp_path / name)


def test_released_vocabularies(data_dir: Path) -> None:
    folder = data_dir / "vocab"
    gpt2 = load_tokenizer(folder / "encoder.json")
    assert (gpt2.kind, gpt2.vocabulary_size, gpt2.special.end_of_text) == (
        "byte-bpe",
        50_257,
        50_256,
    )
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode(" Hello world") == [18435, 995]
    gpt = load_tokenizer(folder / "vocab_40000.bpe")
    assert (gpt.kind, gpt.vocabulary_size, gpt.special.unk) == ("bpe", 40_478, 0)
    assert gpt.encode("very positive\nnegative") == [963, 6353, 40477, 9503]
    assert gpt.tokenize("Mr. Smith didn't") == ["mr.</w>", "smith</w>", "did</w>", "n't</w>"]
    with pytest.raises(UserError, match="holds encoder.json and encoder_bpe_40000.json"):
        load_tokenizer(folder)
