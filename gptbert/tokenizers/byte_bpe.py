"""GPT-2's byte-level BPE: any text to ids and back without loss.

Text is cut by `PATTERN`; the UTF-8 bytes of each cut, spelt as printable characters, are merged.
`reference_encode` is the algorithm to read. `encode` gives the same ids from memory: chunks between
single spaces are looked up, with the space before them or without, and only new ones are cut.

Special tokens written in the text are split like any text ("<|endoftext|>" never becomes its id),
as in the released code; `tokenizers` and `transformers` make it one id. Half of a surrogate pair,
which UTF-8 cannot hold, is encoded as U+FFFD.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import regex

from gptbert.errors import UserError
from gptbert.tokenizers import bpe_files
from gptbert.tokenizers.interface import SpecialTokens, known_ids
from gptbert.tokenizers.memory import Memory, PackedTokenizer, blocks, packed
from gptbert.tokenizers.merges import LONG, Merges

# The first alternative that matches wins: contractions; then letters, numbers or marks, each with
# the one space before them; then white space, of which the last character before a word is left.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_CUT = regex.compile(PATTERN)

# White space as `regex` knows it; `re` counts U+001C to U+001F too.
_SPACE = r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
# More of it than one space between two words; such a text cannot simply be split at spaces.
_IRREGULAR = re.compile(rf"({_SPACE}(?:{_SPACE}+|(?<! )))")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _spelling() -> tuple[str, ...]:
    """The character that stands for each byte: itself if printable, else one from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTES = _spelling()


class ByteBpe(PackedTokenizer):
    """A byte-level vocabulary and its merges.

    Args:
      vocabulary: Entry -> id; ids are 0, 1, 2 and so on. Entries spell bytes as `BYTES` does.
      merges: Pairs of entries, the strongest first.
      source: What error messages call the vocabulary, usually its file.

    Raises:
      UserError: A byte has no entry, or what `bpe_files.check` refuses.
    """

    kind = "byte-bpe"

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        source: str = "vocabulary",
    ) -> None:
        self.entries = bpe_files.check(vocabulary, merges, source)
        self.merges = tuple(merges)
        self.special = SpecialTokens(end_of_text=vocabulary.get(bpe_files.END_OF_TEXT))
        self._ids = dict(vocabulary)
        self._table = Merges(vocabulary, merges)
        self._of_byte = _ids_of_bytes(vocabulary, source)
        self._words = Memory(self._encode_word)
        self._spaced = Memory(self._encode_spaced)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, the end of text included."""
        return len(self.entries)

    @functools.cached_property
    def continues(self) -> np.ndarray:
        """bool [V]: entries that begin with a letter, a digit or the rest of a character.

        The first word of a text, and a word after an opening mark, begin with such an entry too.
        """
        firsts = [text[:1].decode(errors="replace") for text in self._texts]
        special = self.special.end_of_text
        return np.array([c.isalnum() or c == "\ufffd" for c in firsts]) & (
            np.arange(len(firsts)) != (-1 if special is None else special)
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over entries and merges."""
        told = json.dumps(["byte-level BPE", self.entries, self.merges])
        return hashlib.sha256(told.encode()).hexdigest()

    def reference_encode(self, text: str) -> list[int]:
        """What `encode` must return, by the rules and nothing else."""
        cuts = _CUT.findall(_SURROGATE.sub("\ufffd", text))
        spelt = ([self._of_byte[byte] for byte in cut.encode()] for cut in cuts)
        return [number for symbols in spelt for number in self._table.apply(symbols)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text; what is not UTF-8 (half a character at the end) becomes U+FFFD.

        Raises:
          IndexError: An id is not in [0, vocabulary_size).
        """
        ids = known_ids(ids, len(self.entries))
        return b"".join(self._texts[i] for i in ids).decode(errors="replace")

    def save(
        self, folder: str | os.PathLike[str], *, max_length: int = 1024, for_bert: bool = False
    ) -> None:
        """Writes vocab.json, merges.txt, tokenizer.json, tokenizer_config.json.

        It makes no difference whether they are `for_bert`: the kind has no [CLS] and [SEP].
        """
        bpe_files.write_bpe(self.kind, self._ids, self.merges, folder, max_length)

    @functools.cached_property
    def _texts(self) -> list[bytes]:
        byte_of = {character: bytes([byte]) for byte, character in enumerate(BYTES)}
        return [b"".join(byte_of.get(c, c.encode()) for c in entry) for entry in self.entries]

    def _encode_text(self, text: str) -> bytes:
        return b"".join(map(self._encode_block, blocks(text)))

    def _encode_block(self, text: str) -> bytes:
        words, spaced = self._words.__getitem__, self._spaced.__getitem__
        runs = _IRREGULAR.split(text)  # words, white space, words, white space, ..., words
        found, first = [], words
        for at in range(0, len(runs), 2):
            if runs[at]:
                head, *rest = runs[at].split(" ")
                found.append(first(head))
                found += map(spaced, rest)
            if at + 1 < len(runs):
                before, last = runs[at + 1][:-1], runs[at + 1][-1]
                if not runs[at + 2]:  # the text ends here
                    found.append(words(before + last))
                    continue
                found.append(words(before))
                if last != " ":
                    found.append(words(last))
                first = spaced if last == " " else words
        return b"".join(found)

    def _encode_word(self, word: str) -> bytes:
        return self._encode_cuts(word)

    def _encode_spaced(self, word: str) -> bytes:
        return self._encode_cuts(" " + word)

    def _encode_cuts(self, chunk: str) -> bytes:
        """A chunk: cuts that come alone are encoded, others remembered."""
        cuts = _CUT.findall(chunk)
        if len(cuts) > 1:
            parts = (self._spaced[c[1:]] if c[0] == " " else self._words[c] for c in cuts)
            return b"".join(parts)
        if len(chunk) >= LONG:
            spelt = np.frombuffer(_SURROGATE.sub("\ufffd", chunk).encode(), np.uint8)
            symbols = np.array(self._of_byte, np.int32)[spelt]
            return self._table.apply_to_array(symbols).tobytes()
        try:
            data = chunk.encode()
        except UnicodeEncodeError:
            data = _SURROGATE.sub("\ufffd", chunk).encode()
        return packed(self._table.apply([self._of_byte[byte] for byte in data]))


def _ids_of_bytes(vocabulary: Mapping[str, int], source: str) -> list[int]:
    if missing := [byte for byte, character in enumerate(BYTES) if character not in vocabulary]:
        raise UserError(
            f"{source} has no entry for byte 0x{missing[0]:02x} ({len(missing)} bytes without in "
            "all); expected a byte-level vocabulary, which holds all 256"
        )
    return [vocabulary[character] for character in BYTES]
