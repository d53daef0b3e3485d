"""GPT's and GPT-2's ids beside those of `tokenizers` and `transformers`, from the same files."""

from __future__ import annotations

import collections
import itertools
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.tokenizers import gpt_words, load_tokenizer
from gptbert.tokenizers.bpe import GptBpe
from gptbert.tokenizers.byte_bpe import ByteBpe
from tests.tokenizers import nasty, tiny_bpe

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is not installed")
pytestmark = pytest.mark.parity

RELEASED = {"bpe": "encoder_bpe_40000.json", "byte-bpe": "encoder.json"}


class Pair:
    """Our tokenizer and the library's, from the same files."""

    def __init__(self, ours: Any, folder: Path) -> None:
        ours.save(folder)
        self.ours = ours
        self.library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.library.encode_special_tokens = True  # "<unk>" and the like are split in both

    def library_batch(self, texts: list[str]) -> list[list[int]]:
        batch = self.library.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def differing(self, texts: list[str]) -> list[str]:
        both = zip(texts, self.ours.encode_batch(texts), self.library_batch(texts), strict=True)
        return [text for text, here, there in both if here != there]


@pytest.fixture(scope="module", params=["bpe", "byte-bpe"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    ours = tiny_bpe.gpt() if request.param == "bpe" else tiny_bpe.gpt2()
    return Pair(ours, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=["bpe", "byte-bpe"])
def released(
    request: pytest.FixtureRequest, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    ours = load_tokenizer(data_dir / "vocab" / RELEASED[request.param])
    assert ours.kind == request.param
    return Pair(ours, tmp_path_factory.mktemp("released"))


def is_old(text: str) -> bool:
    """No character that Unicode added lately, and no capital sigma (final in Python only)."""
    return "Σ" not in text and all(unicodedata.category(c) not in ("Cn", "Cs") for c in text)


def test_nasty_lines(tiny: Pair) -> None:
    lines = list(filter(is_old, nasty.lines(4_000)))[::2]
    assert len(lines) > 1_900
    assert tiny.differing(lines) == []


def test_nasty_lines_of_released_vocabularies(released: Pair) -> None:
    lines = list(filter(is_old, nasty.lines(5_000, seed=1)))[::2]
    assert len(lines) > 2_400
    assert released.differing(lines) == []


@pytest.mark.property
@settings(max_examples=200)
@given(
    text=st.text().filter(is_old) | st.text(alphabet="aTs n't.'-\n\r\x85\x1c\x00é\u0301\u00a0Mr1")
)
def test_any_text_of_old_characters(tiny: Pair, text: str) -> None:
    assert tiny.differing([text, f"{text} {text}", f"the {text}."]) == []


def test_every_character(tiny: Pair) -> None:
    """In words, alone, after numbers and before contractions; above U+3000 every 101st."""
    codes = [c for c in [*range(0x3000), *range(0x3000, 0x110000, 211)] if is_old(chr(c))]
    templates = ("a{}b c{} {}1{}", "{} . 's{}")
    assert tiny.differing([t.replace("{}", chr(c)) for c in codes for t in templates]) == []


def test_difference_final_sigma(tmp_path: Path) -> None:
    pair = Pair(tiny_bpe.gpt(), tmp_path)
    assert pair.ours.tokenize("Σ ΑΣ")[-1] == "ς</w>"
    assert pair.differing(["ΑΣ", "ασ ας Σα"]) == ["ΑΣ"]


def test_real_text(released: Pair, data_dir: Path) -> None:
    path = data_dir / "corpora" / "sample" / "wiki_00"
    lines = path.read_text(encoding="utf-8").split("\n")
    assert len(lines) > 2_000
    if released.ours.kind == "bpe":  # whose rules take the library ten times as long
        lines = lines[::10]
    assert released.differing(list(filter(is_old, lines))) == []
    if released.ours.kind == "byte-bpe":
        text = "\n".join(lines)
        assert released.ours.decode(released.ours.encode(text)) == text


def plain_bpe(word: str, ranks: dict[tuple[str, str], int], ids: dict[str, int]) -> list[int]:
    """GPT's encoder once more, by recursion over the best pair, without the code tested."""

    def merge(pieces: tuple[str, ...]) -> tuple[str, ...]:
        known = [pair for pair in itertools.pairwise(pieces) if pair in ranks]
        if not known:
            return pieces
        first, second = min(known, key=ranks.__getitem__)
        at, made = 0, []
        while at < len(pieces):
            joins = pieces[at : at + 2] == (first, second)
            made.append(first + second if joins else pieces[at])
            at += 1 + joins
        return merge(tuple(made))

    return [ids.get(piece, 0) for piece in merge((*word[:-1], word[-1] + "</w>"))]


def test_gpt_words_three_ways(data_dir: Path) -> None:
    """Single words of real text and nasty ones: ours, the library's BPE alone, and a plain one."""
    folder = data_dir / "vocab"
    ours = load_tokenizer(folder / RELEASED["bpe"])
    assert isinstance(ours, GptBpe)
    ids = json.loads((folder / RELEASED["bpe"]).read_text(encoding="utf-8"))
    lines = (folder / "vocab_40000.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    merges = [tuple(line.split()) for line in lines]
    model = tokenizers.models.BPE(
        ids, merges, end_of_word_suffix="</w>", unk_token="<unk>", fuse_unk=False
    )
    text = (data_dir / "corpora" / "sample" / "wiki_00").read_text(encoding="utf-8")
    counted = collections.Counter(gpt_words.words(text[:500_000] + "\n".join(nasty.lines(3_000))))
    words = [word for word in counted if len(word) < 100]
    assert len(words) > 12_000
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    for word in words:
        here = ours._encode_word(word)
        assert here == plain_bpe(word, ranks, ids), word
        assert here == [token.id for token in model.tokenize(word)], word


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["bpe", "byte-bpe"])
@pytest.mark.parametrize("model_type", [None, "config"])
def test_transformers_loads_what_is_saved(
    tmp_path: Path, kind: str, model_type: str | None
) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    ours = tiny_bpe.gpt() if kind == "bpe" else tiny_bpe.gpt2()
    ours.save(tmp_path, max_length=77)
    if model_type:
        name = "openai-gpt" if kind == "bpe" else "gpt2"
        (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*nasty.lines(2_000)[::20], "Mr. Smith didn't walk\nin 1990. \n"):
        if is_old(text) and "<" not in text:
            assert theirs(text)["input_ids"] == ours.encode(text)
    assert (len(theirs), theirs.model_max_length) == (ours.vocabulary_size, 77)
    if kind == "byte-bpe":
        assert theirs.eos_token_id == ours.special.end_of_text
    else:
        assert theirs.unk_token_id == ours.special.unk == 0


@pytest.mark.torch
def test_transformers_saves_what_loads_here(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    for kind, ours, theirs in (
        ("gpt", tiny_bpe.gpt(), transformers.OpenAIGPTTokenizer),
        ("gpt2", tiny_bpe.gpt2(), transformers.GPT2Tokenizer),
    ):
        vocabulary = {entry: number for number, entry in enumerate(ours.entries)}
        theirs(vocab=vocabulary, merges=list(ours.merges)).save_pretrained(tmp_path / kind)
        loaded = load_tokenizer(tmp_path / kind)
        assert isinstance(loaded, GptBpe | ByteBpe)
        assert loaded.fingerprint == ours.fingerprint


@pytest.mark.torch
def test_transformers_own_words_differ_from_gpts() -> None:
    """Its OpenAIGPTTokenizer splits text as BERT does: contractions and abbreviations differ."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    ours = tiny_bpe.gpt()
    vocabulary = {entry: number for number, entry in enumerate(ours.entries)}
    theirs = transformers.OpenAIGPTTokenizer(vocab=vocabulary, merges=list(ours.merges))
    for text in ("The cat, hello (the) world!", "WALKING in the end?"):
        assert theirs(text)["input_ids"] == ours.encode(text)
    for text in ("didn't", "Mr. Smith", "it's 1.5", "the--world", "the\nworld", "café"):
        assert theirs(text)["input_ids"] != ours.encode(text)
