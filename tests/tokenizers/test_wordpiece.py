"""WordPiece ids: Google's rules written a second time, the cache against them, properties."""

from __future__ import annotations

import pickle
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.tokenizers import memory
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.wordpiece import WordPiece

NASTY = [
    "",
    " ",
    " \t\r\n\u3000 ",
    "Unaffable, playing!",
    "ΟΔΟΣ ΟΔΟΣ, ΣΑΣ ΣΣ Σ ΑΣ\u0301 ΑΣ.Α",
    "a\ue000b \U000f0000",
    "a\u0085b \u0085",
    "a\u200bb\u200db\u2060c\ufeffd \u180e",
    "a\x0bb\x0cc\x1cd\x1fe\x7ff\x01g\x9fh",
    "a\x00b a\ufffdb \ufffd \ufffd\ufffd",
    "中国 a中b 国\U00020000\U0002b820が가",
    "cafe\u0301 caf\u00e9 \u0301 a\u0301\u0323b \u1e9b\u0323 \ufb01 \u212b",
    "İstanbul DİYARBAKIR ı İİ",
    "play\U0001f600ing \U0001f1e9\U0001f1ea \U0001f468\u200d\U0001f469",
    "a\u00a0b\u2003c\u202fd\u205fe\u1680f\u3000g\u2009h",
    "a\u2028b\u2029c",
    "so\u00adft \u00ad \u00ada",
    "[MASK] the [SEP] a[CLS]b [unused0] [mask]",
    "$1+1=2^`~|<>_'\"-- ##ing ##a # ## the##ing",
    "\u2014a\u2014b\u2019s \u00ab\u00bfa?\u00bb\u3002 \u20ac \u00a7",
    "\u0378 a\u0378b \U000e0001 \U0010ffff",
    "ß ẞ STRASSE",
    "\ud800 a\udfffb",
    "x\ty\nz\rw\r\nv",
    "\u1fefa\u037eb \u0340a \u2126 \u2000a\u2001b",
    *("a" * n for n in (99, 100, 101, 199, 200, 201)),
    *("\u00e9" * n for n in (200, 201)),
    "ΑΣ,Α ΑΣ:Α ΑΣ-Α 'ΑΣ' (ΑΣ) ΑΣ\u2019Α the.THE;Σ",
    "c++ #1 $5.00 a@b.c x=y {k: [v]} ~/.a_b/*.c 50%; \u2260 =\u0338 ,\u0301 .\u200b.\u00ad",
    "a" * 150 + "," + "b" * 201 + " " + "ab," * 500,
    "\u0301" * 201 + "a" * 200,
]

CJK = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)
ASCII_MARKS = {*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)}


def google(text: str, entries: list[str], lowercase: bool, limit: int = 200) -> list[str]:
    """The rules of the release once more, by character and recursion, without the code tested."""
    cleaned = ""
    for c in text:
        category = unicodedata.category(c)
        if c in "\t\n\r" or category == "Zs":
            cleaned += " "
        elif any(low <= ord(c) <= high for low, high in CJK):
            cleaned += f" {c} "
        elif category not in ("Cc", "Cf") and ord(c) not in (0, 0xFFFD):
            cleaned += c
    pieces: list[str] = []
    for token in cleaned.split():
        if lowercase:
            apart = unicodedata.normalize("NFD", token.lower())
            token = "".join(c for c in apart if unicodedata.category(c) != "Mn")
        for c in set(token):
            if ord(c) in ASCII_MARKS or unicodedata.category(c)[0] == "P":
                token = token.replace(c, f" {c} ")
        for word in token.split():
            found = longest_first(word, set(entries)) if len(word) <= limit else None
            pieces += ["[UNK]"] if found is None else found
    return pieces


def longest_first(rest: str, entries: set[str], prefix: str = "") -> list[str] | None:
    for size in range(len(rest), 0, -1):
        if prefix + rest[:size] in entries:
            if size == len(rest):
                return [prefix + rest]
            others = longest_first(rest[size:], entries, "##")
            return None if others is None else [prefix + rest[:size], *others]
    return None


@pytest.fixture(scope="module", params=["uncased", "cased"])
def tokenizer(request: pytest.FixtureRequest) -> WordPiece:
    entries = request.getfixturevalue(f"{request.param}_entries")
    return WordPiece(entries, Rules(lowercase=request.param == "uncased"))


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_nasty_text_follows_google(tokenizer: WordPiece, text: str) -> None:
    expected = google(text, list(tokenizer.entries), tokenizer.rules.lowercase)
    assert tokenizer.tokenize(text) == expected
    assert tokenizer.reference_encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" \u3000\t", []),
        ("Unaffable", ["un", "##aff", "##able"]),
        ("[MASK]", ["[", "mask", "]"]),
        ("ΟΔΟΣ", ["ο", "##δ", "##ο", "##ς"]),
        ("ΟΔΟΣ,", ["ο", "##δ", "##ο", "##ς", ","]),
        ("ΟΔΟΣΑ", ["ο", "##δ", "##ο", "##σ", "##α"]),
        ("İ É", ["i", "e"]),
        ("a\u0085b", ["a", "##b"]),
        ("a\x1cb", ["a", "##b"]),
        ("a\u00adb\u200bc", ["a", "##b", "##c"]),
        ("a\ufffdb", ["a", "##b"]),
        ("a\u2028b\u00a0c", ["a", "b", "c"]),
        ("a\ue000b c", ["[UNK]", "c"]),
        ("a中b", ["a", "中", "b"]),
        ("a\U0002b820b", ["a", "\U0002b820", "b"]),
        ("がa", ["[UNK]"]),  # NFD takes the mark off: U+304B is not in the vocabulary
        ("it's_a", ["i", "##t", "'", "s", "_", "a"]),
        ("\u0301", []),
        ("a\u0903b\u0903", ["a", "##\u0903", "##b", "##\u0903"]),  # category Mc is no accent
        ("##ing", ["#", "#", "i", "##n", "##g"]),
        ("play\u4e2d\u4e2cing", ["play", "中", "[UNK]", "i", "##n", "##g"]),
        ("a" * 200, ["a"] + ["##a"] * 199),
        ("a" * 201, ["[UNK]"]),
    ],
)
def test_pieces_written_by_hand(uncased_entries: list[str], text: str, pieces: list[str]) -> None:
    assert WordPiece(uncased_entries, Rules(lowercase=True)).tokenize(text) == pieces


def test_longest_entry_is_tried(uncased_entries: list[str]) -> None:
    long = "internationalisation"
    tokenizer = WordPiece([*uncased_entries, long, f"##{long}"], Rules(lowercase=True))
    assert tokenizer.tokenize(f"{long} {long}{long} a{long}") == [
        *(long, long, f"##{long}"),
        *("a", f"##{long}"),
    ]


def test_cased_keeps_case_and_accents(cased_entries: list[str]) -> None:
    tokenizer = WordPiece(cased_entries, Rules(lowercase=False))
    assert tokenizer.tokenize("The É\u00e9 THE") == ["The", "É", "##é", "T", "##H", "##E"]


@pytest.mark.parametrize("size", [99, 100, 101])
def test_limit_of_characters(uncased_entries: list[str], size: int) -> None:
    tokenizer = WordPiece(uncased_entries, Rules(lowercase=True, max_characters=100))
    assert len(tokenizer.encode("b" * size)) == (size if size <= 100 else 1)
    assert len(tokenizer.encode("\u00e9" * size)) == (size if size <= 100 else 1)


def test_rules_can_be_switched_off(cased_entries: list[str]) -> None:
    def pieces(text: str, **rules: bool) -> list[str]:
        return WordPiece(cased_entries, Rules(**{"lowercase": True, **rules})).tokenize(text)

    assert pieces("\u00c9", strip_accents=False) == ["é"]
    assert pieces("\u00e9T", lowercase=False, strip_accents=True) == ["e", "##T"]
    assert pieces("a中", handle_chinese_chars=False) == ["[UNK]"]
    assert pieces("a\x01b\u200bc a\tb", clean_text=False) == ["[UNK]", "a", "b"]
    assert pieces("a\x01b", clean_text=False) == ["[UNK]"]  # neither removed nor a mark


TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="aB1 .,_'$[]#\té\u0301Σσσςİ中\u00a0\u00ad\u200b\x85\x1c\ufffd\ue000\u2028"),
    st.lists(st.sampled_from([*NASTY, "play", "ing", "THE", "."])).map("".join),
)


@pytest.mark.property
@settings(max_examples=200)
@given(text=TEXTS, lowercase=st.booleans(), clean=st.booleans(), chinese=st.booleans())
def test_fast_equals_slow(
    cased_entries: list[str], text: str, lowercase: bool, clean: bool, chinese: bool
) -> None:
    rules = Rules(lowercase, handle_chinese_chars=chinese, clean_text=clean)
    tokenizer = WordPiece(cased_entries, rules)
    expected = tokenizer.reference_encode(text)
    assert tokenizer.encode(text) == expected  # empty caches
    assert tokenizer.encode(text) == expected  # filled ones
    if clean and chinese:
        assert tokenizer.tokenize(text) == google(text, cased_entries, lowercase)


def test_batch_is_encode_of_each(tokenizer: WordPiece) -> None:
    assert tokenizer.encode_batch(iter(NASTY)) == [tokenizer.encode(text) for text in NASTY]
    assert tokenizer.encode_batch([]) == []


def test_arrays_are_encode(tokenizer: WordPiece) -> None:
    for text in NASTY:
        array = tokenizer.encode_array(text)
        assert array.dtype == np.int32
        assert array.tolist() == tokenizer.encode(text)


def test_a_text_of_millions_of_characters(uncased_entries: list[str]) -> None:
    tokenizer = WordPiece(uncased_entries, Rules(lowercase=True))
    text = "Play, UNAFFABLE\n\t caf\u00e9 "
    assert tokenizer.encode_array(text * 100_000).tolist() == tokenizer.encode(text) * 100_000


def test_results_are_the_callers_own(tokenizer: WordPiece) -> None:
    tokenizer.encode("play").append(-1)
    assert tokenizer.tokenize("play") == ["play"]


def test_caches_are_bounded(uncased_entries: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ENTRIES", 7)
    tokenizer = WordPiece(uncased_entries, Rules(lowercase=True))
    texts = ["x" * 65, *(f"a{n}#b{n}" for n in range(50))]
    assert tokenizer.encode_batch(texts) == [tokenizer.reference_encode(text) for text in texts]
    assert len(tokenizer._chunks) == len(tokenizer._words) == 7
    assert max(map(len, tokenizer._chunks)) < 65


def test_decode(uncased_entries: list[str]) -> None:
    tokenizer = WordPiece(uncased_entries, Rules(lowercase=True))
    assert tokenizer.decode(tokenizer.encode("Unaffable, playing!")) == "unaffable , playing !"
    assert tokenizer.decode([tokenizer.special.cls, tokenizer.special.pad]) == "[CLS] [PAD]"
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("outside", [-1, 10_000])
def test_decode_refuses_ids_outside(tokenizer: WordPiece, outside: int) -> None:
    with pytest.raises(IndexError, match=f"id {outside} is not in a vocabulary"):
        tokenizer.decode([0, outside])


def test_special_tokens_and_size(uncased_entries: list[str]) -> None:
    tokenizer = WordPiece(uncased_entries, Rules(lowercase=True))
    special = tokenizer.special
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (0, 1, 2, 3, 4)
    assert tokenizer.vocabulary_size == len(uncased_entries)
    without = [entry for entry in uncased_entries if entry != "[MASK]"]
    assert WordPiece(without, Rules(lowercase=True)).special.mask is None


def test_fingerprint_follows_what_affects_ids(uncased_entries: list[str]) -> None:
    def of(entries: list[str] = uncased_entries, **rules: Any) -> str:
        return WordPiece(entries, Rules(**{"lowercase": True, **rules})).fingerprint

    others = [
        of(lowercase=False),
        of(strip_accents=False),
        of(handle_chinese_chars=False),
        of(clean_text=False),
        of(max_characters=100),
        of([*uncased_entries, "more"]),
        of([*uncased_entries[:-2], *reversed(uncased_entries[-2:])]),
    ]
    assert len({of(), *others}) == 1 + len(others)
    assert of() == of(strip_accents=True)  # what `lowercase` implies
    assert len(of()) == 64


def test_survives_pickling(tokenizer: WordPiece) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode_batch(NASTY) == tokenizer.encode_batch(NASTY)
    assert copy.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "v.txt is empty"),
        (["[PAD]", "[UNK]", "a"], r"3 entries but no \[CLS\], \[SEP\]"),
        (["[PAD]", "b", "b", "c", "b", "c"], r"line 3: 'b' stands on line 2 already \(3 repeated"),
        (["a\rb", "[PAD]"], "line 1: entry 'a.rb' holds a line break"),
        (["[PAD]", "a\ud800"], "half a surrogate"),
    ],
)
def test_refuses_bad_vocabularies(entries: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WordPiece(entries, Rules(lowercase=True), "v.txt")
