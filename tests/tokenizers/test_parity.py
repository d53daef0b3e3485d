"""The same ids as the `tokenizers` library, except where the table in wordpiece.py says so."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.tokenizers import load_tokenizer
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.wordpiece import WordPiece
from tests.tokenizers import nasty

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is not installed")
pytestmark = pytest.mark.parity

CJK_GAP = range(0x2B820, 0x2B920)


class Pair:
    """Our tokenizer and the library's, from the same files."""

    def __init__(self, ours: WordPiece, folder: Path) -> None:
        ours.save(folder)
        self.ours = ours
        self.library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    def library_batch(self, texts: list[str], specials_in_text: bool = False) -> list[list[int]]:
        self.library.encode_special_tokens = not specials_in_text
        batch = self.library.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def differing(self, texts: list[str]) -> list[str]:
        both = zip(texts, self.ours.encode_batch(texts), self.library_batch(texts), strict=True)
        return [text for text, here, there in both if here != there]

    def library_pieces(self, text: str) -> list[str]:
        return [self.ours.entries[i] for i in self.library_batch([text])[0]]


@pytest.fixture(scope="module", params=["uncased", "cased"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    entries = request.getfixturevalue(f"{request.param}_entries")
    ours = WordPiece(entries, Rules(lowercase=request.param == "uncased"))
    return Pair(ours, tmp_path_factory.mktemp(request.param))


def is_listed(character: str) -> bool:
    """Whether a character may be treated differently, by the table in wordpiece.py."""
    category = unicodedata.category(character)
    moved = category != unicodedata.ucd_3_2_0.category(character)  # since 2002, or added since
    table = moved and (category[0] == "P" or category in ("Cf", "Mn", "Mc", "So", "Lu"))
    return table or category in ("Co", "Cs") or ord(character) in CJK_GAP or character == "Σ"


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_character(tmp_path: Path, lowercase: bool) -> None:
    """Inside words and alone; of the large uniform categories every 101st.

    The vocabulary holds every character below U+3000, so that ids tell which one came out.
    """
    letters = [chr(code) for code in range(0x21, 0x3000)]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    pair = Pair(WordPiece(list(dict.fromkeys(entries)), Rules(lowercase)), tmp_path)
    uniform = ("Co", "Cn", "Lo")
    characters = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in ("Cs", *uniform) or code % 101 == 0
        if not 0xD800 <= code < 0xE000
    ] + list(map(chr, CJK_GAP))
    for template in ("a{}b c{}", "{}"):
        texts = [template.replace("{}", character) for character in characters]
        differing = set(pair.differing(texts))
        wrong = [c for c, text in zip(characters, texts, strict=True) if text in differing]
        assert [hex(ord(c)) for c in wrong if not is_listed(c)] == []
        late = [c for c in wrong if unicodedata.category(c) not in ("Co", "Lo")]
        assert len(late) < 1500  # of some 35,000 tried; 0 if library and Python were of one age


STABLE = st.characters(exclude_categories=("Cs", "Co", "Cn")).filter(lambda c: not is_listed(c))


@settings(max_examples=200)
@given(
    text=st.text(alphabet=STABLE)
    | st.text(alphabet="aB1é\u0301\u0323ß İ中.,[]_'\t\n\x85\x1c\u00a0\u2028\u00ad\u200b\ufffd\0")
)
def test_any_text_of_old_characters(pair: Pair, text: str) -> None:
    assert pair.differing([text, text.upper().replace("Σ", ""), text + " " + text]) == []


def without_listed(line: str) -> str:
    """A line without the characters that the table in wordpiece.py names."""
    return "".join(c for c in line if unicodedata.category(c) != "Cn" and not is_listed(c))


def test_thousands_of_nasty_lines(pair: Pair) -> None:
    lines = list(map(without_listed, nasty.lines(6_000, seed=2)))
    assert len(set(lines)) > 5_000
    assert pair.differing(lines) == []


def test_thousands_of_nasty_lines_of_released_vocabularies(data_dir: Path, tmp_path: Path) -> None:
    lines = list(map(without_listed, nasty.lines(6_000, seed=3)))
    for name in ("uncased", "cased"):
        ours = load_tokenizer(data_dir / "vocab" / f"bert-base-{name}-vocab.txt")
        assert isinstance(ours, WordPiece)
        assert Pair(ours, tmp_path / name).differing(lines) == []


def test_nasty_lines(pair: Pair) -> None:
    lines = [
        "",
        " \t ",
        "a\u0085b\x0bc\x1cd\x7fe\u00ad\u200bf\ufeff",
        "a\u2028b\u2029c\u00a0d\u3000e\u1680f",
        "cafe\u0301 ca\u00e9 \u1e9b\u0323 \ufb01 \u212b \u2126 \u0340a",
        "İstanbul DİYARBAKIR ß ẞ",
        "中国a\U00020000b が가 \U0001f468\u200d\U0001f469 \U0001f1e9\U0001f1ea",
        "[MASK] [SEP]a[CLS] ##ing $1+1=2^`~ \u2014\u00bf\u3002",
        *("a" * n + " \u00e9" * 3 for n in (99, 100, 101, 199, 200, 201)),
    ]
    assert pair.differing(lines) == []


def test_limit_of_100_is_the_same(uncased_entries: list[str], tmp_path: Path) -> None:
    ours = WordPiece(uncased_entries, Rules(lowercase=True, max_characters=100))
    lines = ["a" * n for n in (99, 100, 101)] + ["\u00e9" * n for n in (100, 101)]
    assert Pair(ours, tmp_path).differing(lines) == []


@pytest.mark.parametrize("rules", [(True, False), (False, True), (True, None, False)])
def test_other_rules_are_the_same(
    cased_entries: list[str], tmp_path: Path, rules: tuple[Any, ...]
) -> None:
    lines = ["The É\u00e9 cafe\u0301 İ", "a中b 中国", "a\u200bb\x01c", "THE \u1e9b\u0323"]
    assert Pair(WordPiece(cased_entries, Rules(*rules)), tmp_path).differing(lines) == []


def test_uncleaned_differs_in_four_separators(uncased_entries: list[str], tmp_path: Path) -> None:
    pair = Pair(WordPiece(uncased_entries, Rules(True, clean_text=False)), tmp_path)
    codes = [chr(code) for code in range(0x3000) if not is_listed(chr(code))]
    differing = pair.differing([f"a{c}b" for c in codes])
    assert differing == [f"a{c}b" for c in "\x1c\x1d\x1e\x1f"]


def test_difference_special_tokens(pair: Pair) -> None:
    text = "the [MASK] a[SEP]"
    mask, sep = (pair.ours.entries.index(name) for name in ("[MASK]", "[SEP]"))
    there = pair.library_batch([text], specials_in_text=True)[0]
    assert (there.count(mask), there.count(sep)) == (1, 1)
    here = pair.ours.encode(text)
    assert (here.count(mask), here.count(sep)) == (0, 0)
    assert here == pair.library_batch([text])[0]  # asked to, the library does the same


def test_difference_final_sigma(uncased_entries: list[str], tmp_path: Path) -> None:
    pair = Pair(WordPiece(uncased_entries, Rules(lowercase=True)), tmp_path)
    assert pair.library_pieces("ΟΔΟΣ") == ["ο", "##δ", "##ο", "##σ"]
    assert pair.ours.tokenize("ΟΔΟΣ") == ["ο", "##δ", "##ο", "##ς"]
    words = ["ΟΔΟΣ", "ΣΑΣ.", "Σ ΣΟΣ", "ΑΣΟ", "οδοςΣ"]
    lowered = pair.library_batch([word.lower() for word in words])
    assert pair.ours.encode_batch(words) == lowered


def test_difference_private_use(pair: Pair) -> None:
    for character in "\ue000\uf8ff\U000f0000\U0010fffd":
        assert pair.library_pieces(f"a{character}b") == ["a", "##b"]
        assert pair.ours.tokenize(f"a{character}b c") == ["[UNK]", "c"]


def test_difference_ideographs(pair: Pair) -> None:
    for code in (CJK_GAP[0], CJK_GAP[-1]):
        text, spaced = f"a{chr(code)}b", f"a {chr(code)} b"
        assert pair.library_pieces(text) == ["[UNK]"]
        assert pair.ours.encode(text) == pair.library_batch([spaced])[0]
    for code in (CJK_GAP[0] - 1, CJK_GAP[-1] + 1):
        assert pair.differing([f"a{chr(code)}b"]) == []


def test_difference_late_characters(pair: Pair) -> None:
    late = "\u2e43"  # dash with left upturn, Unicode 8
    assert pair.library_pieces(f"a{late}b") == ["[UNK]"]
    assert pair.ours.tokenize(f"a{late}b") == ["a", "[UNK]", "b"]


def glue_texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("CoLA/*.tsv")) + sorted(folder.glob("MRPC/*.tsv")):
        with open(path, encoding="utf-8", newline="\n") as file:
            for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield from (field for field in row if len(field) > 15)


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_real_text(data_dir: Path, tmp_path: Path, name: str) -> None:
    ours = load_tokenizer(data_dir / "vocab" / f"bert-base-{name}-vocab.txt")
    assert isinstance(ours, WordPiece)
    texts = list(glue_texts(data_dir / "glue"))
    assert len(texts) > 20_000
    assert Pair(ours, tmp_path).differing(texts) == []
    assert ours.encode_batch(texts[::20]) == [ours.reference_encode(text) for text in texts[::20]]


def test_packaged_file_as_the_library_reads_it(minilm_dir: Path) -> None:
    ours = load_tokenizer(minilm_dir)
    library = tokenizers.Tokenizer.from_file(str(minilm_dir / "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    for text in ("Hello, world! " * 80, "a" * 100, "a" * 101, "naïve café — “quoted” 中国"):
        assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.torch
@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_transformers_loads_what_is_saved(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    entries = request.getfixturevalue(f"{name}_entries")
    ours = WordPiece(entries, Rules(lowercase=name == "uncased", max_characters=100))
    ours.save(tmp_path, max_length=77)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "The É caf\u00e9, UNAFFABLE playing! " + "a" * 101
    cls, sep = ours.special.cls, ours.special.sep
    assert theirs(text)["input_ids"] == [cls, *ours.encode(text), sep]
    assert theirs("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]
    assert (len(theirs), theirs.model_max_length) == (len(entries), 77)
    theirs.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == ours.fingerprint
