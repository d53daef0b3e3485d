"""WordPiece as in Google's BERT release, with a cache that makes it fast.

`reference_encode` is the algorithm to read. The rest gives the same ids from memory: text is split
into chunks, which are looked up, and only a chunk never met before is made words and matched. Ids
are kept as the bytes of int32 numbers. So of a text whose words return, as they do in natural text,
nothing is left to the interpreter: splitting, looking up and joining are built-in functions.

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
from collections.abc import Iterable, Sequence

import numpy as np

from gptbert.errors import UserError
from gptbert.tokenizers import basic, files
from gptbert.tokenizers.interface import SpecialTokens, known_ids
from gptbert.tokenizers.memory import Memory, PackedTokenizer, blocks, packed, unpacked

# How many characters tell which sizes of entries are worth trying.
_BEGINNING = 3
_SHORT = tuple(range(_BEGINNING - 1, 0, -1))


class WordPiece(PackedTokenizer):
    """A vocabulary and the rules that map text to it.

    Args:
      entries: The vocabulary; an entry's id is its place.
      rules: Case, accents, CJK, limits.
      source: What error messages call the vocabulary, usually its file.

    Raises:
      UserError: `entries` is empty, repeats itself, holds line breaks, or lacks a special token.
    """

    kind = "wordpiece"

    def __init__(
        self, entries: Sequence[str], rules: basic.Rules, source: str = "vocabulary"
    ) -> None:
        self.entries = tuple(entries)
        self.rules = rules
        self._ids = _number(self.entries, source)
        self.special = _special_tokens(self._ids, source)
        self._unk = self._ids["[UNK]"]
        continuations = {e[2:]: i for e, i in self._ids.items() if e.startswith("##")}
        self._first, self._later = _Matches(self._ids), _Matches(continuations)
        self._unknown = packed([self._unk])
        self._chunks = Memory(self._encode_chunk)
        self._words = Memory(self._match)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special and unused ones included."""
        return len(self.entries)

    @functools.cached_property
    def continues(self) -> np.ndarray:
        """bool [V]: entries that begin with "##"."""
        return np.array([entry.startswith("##") for entry in self.entries])

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
        """What `encode` must return, by the rules and nothing else; much slower."""
        return unpacked(b"".join(map(self._match, basic.words(text, self.rules))))

    def decode(self, ids: Iterable[int]) -> str:
        """Joins pieces into words; case, accents and spacing of the text are lost.

        Raises:
          IndexError: An id is not in [0, vocabulary_size).
        """
        ids = known_ids(ids, len(self.entries))
        return " ".join(self.entries[i] for i in ids).replace(" ##", "")

    def save(
        self, folder: str | os.PathLike[str], *, max_length: int = 512, for_bert: bool = True
    ) -> None:
        """Writes vocab.txt, tokenizer.json and tokenizer_config.json (`files.write_wordpiece`)."""
        files.write_wordpiece(self.entries, self.rules, folder, max_length, for_bert=for_bert)

    def _encode_text(self, text: str) -> bytes:
        return b"".join(map(self._encode_block, blocks(text)))

    def _encode_block(self, text: str) -> bytes:
        return b"".join(map(self._chunks.__getitem__, basic.chunks(text, self.rules)))

    def _encode_chunk(self, chunk: str) -> bytes:
        if chunk.isascii() and chunk.isalnum():
            return self._match(chunk.lower() if self.rules.lowercase else chunk)
        return b"".join(map(self._words.__getitem__, basic.words(chunk, self.rules)))

    def _match(self, word: str) -> bytes:
        """Greedy longest match first; one piece without a match makes the whole word [UNK]."""
        if len(word) > self.rules.max_characters:
            return self._unknown
        ids, rest, entries = b"", word, self._first
        while rest:
            size = entries.longest(rest)
            if not size:
                return self._unknown
            ids += entries[rest[:size]]
            rest, entries = rest[size:], self._later
        return ids


class _Matches(dict[str, bytes]):
    """Entries, and which of them are worth trying where a word goes on in some way."""

    def __init__(self, ids: dict[str, int]) -> None:
        super().__init__((entry, packed([number])) for entry, number in ids.items())
        sizes: dict[str, set[int]] = {}
        for entry in ids:
            sizes.setdefault(entry[:_BEGINNING], set(_SHORT)).add(len(entry))
        # Beginning of an entry -> sizes of the entries that begin so, and those too small to tell.
        self._sizes = {key: tuple(sorted(found)[::-1]) for key, found in sizes.items()}

    def longest(self, rest: str) -> int:
        """The size of the longest entry that `rest` begins with; 0 if there is none."""
        if rest in self:
            return len(rest)
        for size in self._sizes.get(rest[:_BEGINNING], _SHORT):
            if rest[:size] in self:
                return size
        return 0


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
