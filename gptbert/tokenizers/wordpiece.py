"""WordPiece as in Google's BERT release, with a cache that makes it fast.

`reference_encode` is the algorithm to read. `encode` gives the same ids from two levels of memory:
chunks between white space ("walks,") and, where a chunk is new, words ("walks" and ","). A chunk
met before costs one dictionary look-up and no call of a Python function.

Where the `tokenizers` library departs from Google's code, this module does not follow it:

| text | here, as in Google's code | `tokenizers` 0.23 |
| --- | --- | --- |
| special tokens written in the text, "[MASK]" | split like any text: "[", "mask", "]" | one id |
| capital sigma at the end of a word, uncased | small final sigma | small sigma |
| private-use characters (category Co) | kept, so the word is unknown | removed |
| ideographs U+2B820 to U+2B91F | each a word of its own | letters |
| characters that Unicode added or moved lately | by the tables of the running Python | older |
| U+001C to U+001F where `clean_text` is off | white space, as for `str.split` | part of a word |
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence

from gptbert.errors import UserError
from gptbert.tokenizers import basic, files
from gptbert.tokenizers.interface import SpecialTokens

# Of natural text, a million entries of either cache take about 160 MB; longer keys rarely return.
CACHE_ENTRIES = 1_000_000
CACHE_KEY_CHARACTERS = 64

_ASCII_WORDS = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]")


class WordPiece:
    """A vocabulary and the rules that map text to it.

    Args:
      entries: The vocabulary; an entry's id is its place.
      rules: Case, accents, CJK, limits.
      source: What error messages call the vocabulary, usually its file.

    Raises:
      UserError: `entries` is empty, repeats itself, holds line breaks, or lacks a special token.
    """

    def __init__(
        self, entries: Sequence[str], rules: basic.Rules, source: str = "vocabulary"
    ) -> None:
        self.entries = tuple(entries)
        self.rules = rules
        self._ids = _number(self.entries, source)
        self.special = _special_tokens(self._ids, source)
        self._longest = max(map(len, self.entries))
        self._chunks = _Memory(self._encode_chunk)
        self._words = _Memory(self._match)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special and unused ones included."""
        return len(self.entries)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over entries and rules (not over Python's Unicode version)."""
        rules = [
            self.rules.lowercase,
            self.rules.removes_accents,
            self.rules.handle_chinese_chars,
            self.rules.clean_text,
            self.rules.max_characters,
        ]
        told = json.dumps(["WordPiece", rules, self.entries])
        return hashlib.sha256(told.encode()).hexdigest()

    def reference_encode(self, text: str) -> list[int]:
        """What `encode` must return, by the rules and nothing else; about eight times slower."""
        return [i for word in basic.words(text, self.rules) for i in self._match(word)]

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of `text`, without special tokens."""
        return self.encode_batch((text,))[0]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text."""
        pieces_of, clean = self._chunks.__getitem__, self.rules.clean_text
        batch = []
        for text in texts:
            # Before str.split, which splits at control characters that are to be removed. Spaces
            # apart, all that `clean` changes is unprintable (U+FFFD is left to the chunk).
            if clean and not text.isprintable():
                text = basic.clean(text)
            ids: list[int] = []
            for pieces in map(pieces_of, text.split()):
                ids += pieces
            batch.append(ids)
        return batch

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text` as in the vocabulary: "##" marks a continuation."""
        return [self.entries[i] for i in self.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Joins pieces into words; case, accents and spacing of the text are lost.

        Raises:
          IndexError: An id is not in [0, vocabulary_size).
        """
        ids = list(ids)
        if outside := [i for i in ids if not 0 <= i < len(self.entries)]:
            raise IndexError(f"id {outside[0]} is not in a vocabulary of {len(self.entries)}")
        return " ".join(self.entries[i] for i in ids).replace(" ##", "")

    def save(self, folder: str | os.PathLike[str], *, max_length: int = 512) -> None:
        """Writes vocab.txt, tokenizer.json and tokenizer_config.json (`files.write_wordpiece`)."""
        files.write_wordpiece(self.entries, self.rules, folder, max_length)

    def _encode_chunk(self, chunk: str) -> tuple[int, ...]:
        """A chunk without white space to ids: by regular expression if ASCII, else by the rules."""
        if chunk.isascii() and chunk.isprintable():
            if self.rules.lowercase:
                chunk = chunk.lower()
            found = [chunk] if chunk.isalnum() else _ASCII_WORDS.findall(chunk)
        else:
            found = basic.words(chunk, self.rules)
        ids: list[int] = []
        for word in found:
            ids += self._words[word]
        return tuple(ids)

    def _match(self, word: str) -> tuple[int, ...]:
        """Greedy longest match first; one piece without a match makes the whole word [UNK]."""
        if len(word) > self.rules.max_characters:
            return (self.special.unk,)
        pieces: list[int] = []
        start, prefix = 0, ""
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                piece = self._ids.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return (self.special.unk,)
            pieces.append(piece)
            start, prefix = end, "##"
        return tuple(pieces)


class _Memory(dict[str, tuple[int, ...]]):
    """A function's results by argument: `memory[key]` calls it only for a new key."""

    def __init__(self, function: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, key: str) -> tuple[int, ...]:
        result = self._function(key)
        if len(self) < CACHE_ENTRIES and len(key) <= CACHE_KEY_CHARACTERS:
            self[key] = result
        return result


def _number(entries: Sequence[str], source: str) -> dict[str, int]:
    """Entry -> id, refusing what could not be one entry a line of a vocab.txt."""
    if not entries:
        raise UserError(f"{source} is empty; expected a vocabulary with one entry a line")
    if any("\ud800" <= c <= "\udfff" for c in set("".join(entries))):
        raise UserError(f"{source} holds half a surrogate pair; expected entries that are text")
    ids: dict[str, int] = {}
    repeated: list[int] = []
    for number, entry in enumerate(entries):
        if "\n" in entry or "\r" in entry:
            raise UserError(
                f"{source}, line {number + 1}: entry {entry!r} holds a line break within; "
                "expected one entry a line, ended by \\n or \\r\\n"
            )
        if ids.setdefault(entry, number) != number:
            repeated.append(number)
    if repeated:
        first = entries[repeated[0]]
        raise UserError(
            f"{source}, line {repeated[0] + 1}: {first!r} stands on line {ids[first] + 1} already "
            f"({len(repeated)} repeated entries in all); expected every entry once, since its "
            "line is its id"
        )
    return ids


def _special_tokens(ids: dict[str, int], source: str) -> SpecialTokens:
    missing = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if name not in ids]
    if missing:
        raise UserError(
            f"{source} has {len(ids)} entries but no {', '.join(missing)}; expected a BERT "
            "vocabulary, which holds [PAD], [UNK], [CLS] and [SEP]"
        )
    return SpecialTokens(ids["[PAD]"], ids["[UNK]"], ids["[CLS]"], ids["[SEP]"], ids.get("[MASK]"))
