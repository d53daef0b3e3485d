"""From text to words as in Google's BERT release: clean, space CJK, split, fold case, punctuation.

The order of the steps and the character classes are those of the released `BasicTokenizer` (after
March 2019, when private-use characters stopped being removed). The classes come from Python's
Unicode tables, so a newer Python can know a newer punctuation mark.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """How text becomes words, named as in the `BertNormalizer` of a tokenizer.json.

    Attributes:
      lowercase: True for uncased vocabularies.
      strip_accents: None follows `lowercase`, as in Google's code.
      handle_chinese_chars: Makes every CJK ideograph a word of its own.
      clean_text: Removes control characters.
      max_characters: A longer word becomes [UNK]: 200 in Google's code, often 100 in a
        tokenizer.json.
    """

    lowercase: bool
    strip_accents: bool | None = None
    handle_chinese_chars: bool = True
    clean_text: bool = True
    max_characters: int = 200

    @property
    def removes_accents(self) -> bool:
        return self.lowercase if self.strip_accents is None else self.strip_accents


def words(text: str, rules: Rules) -> list[str]:
    """Splits text into words and single punctuation marks; the readable reference of the rules."""
    if rules.clean_text:
        text = clean(text)
    if rules.handle_chinese_chars:
        text = _CHINESE.sub(r" \g<0> ", text)
    found = []
    for token in text.split():
        # The whole token at once: str.lower makes a capital sigma final at the end of a word.
        if rules.lowercase:
            token = token.lower()
        if rules.removes_accents:
            token = unicodedata.normalize("NFD", token).translate(_WITHOUT_ACCENTS)
        found += token.translate(_SPACED_PUNCTUATION).split()
    return found


def chunks(text: str, rules: Rules) -> list[str]:
    """Splits text at white space and around common marks, with built-in functions only.

    `words` of each chunk are together those of the text; most chunks are words already.
    """
    if rules.clean_text and not text.isprintable() and _REMOVED_SEPARATORS.search(text):
        text = clean(text)
    # What a capital sigma becomes may depend on what stands beyond a mark ("ΑΣ.Α").
    if text.isascii() or "Σ" not in text:
        if rules.lowercase:
            text = text.lower()
        for mark, spaced in _COMMON_MARKS:
            if mark in text:
                text = text.replace(mark, spaced)
    return text.split()


def clean(text: str) -> str:
    """Removes U+0000, U+FFFD and control characters; makes white space (tab, LF, CR, Zs) spaces."""
    return text.translate(_CLEANED)


def is_punctuation(character: str) -> bool:
    """Every ASCII mark ("$", "+", "_" and "`" too) and category P."""
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")


class _Cleaned(dict[int, int | str | None]):
    """The table of `str.translate`, filled as characters are met (at most all of Unicode)."""

    def __missing__(self, code: int) -> int | str | None:
        self[code] = cleaned = self._clean(code)
        return cleaned

    @staticmethod
    def _clean(code: int) -> int | str | None:
        category = unicodedata.category(chr(code))
        if chr(code) in "\t\n\r" or category == "Zs":
            return " "
        return None if code == 0xFFFD or category in ("Cc", "Cf") else code


_CLEANED = _Cleaned()


_COMMON_MARKS = tuple((mark, f" {mark} ") for mark in ".,\"'-();:?!/")

# `str.split` splits at these, which `clean` removes; all else that it removes stays in a chunk.
_REMOVED_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")

# CJK ideographs only: Hangul, Hiragana and Katakana are written with spaces or left whole.
_CHINESE = re.compile(
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f]"
)


class _WithoutAccents(dict[int, int | None]):
    """The table that removes category Mn, filled like `_Cleaned`."""

    def __missing__(self, code: int) -> int | None:
        self[code] = kept = None if unicodedata.category(chr(code)) == "Mn" else code
        return kept


class _SpacedPunctuation(dict[int, int | str]):
    """The table that puts a space on both sides of each mark, filled like `_Cleaned`."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        self[code] = spaced = f" {character} " if is_punctuation(character) else code
        return spaced


_WITHOUT_ACCENTS = _WithoutAccents()
_SPACED_PUNCTUATION = _SpacedPunctuation()
