"""GPT's BPE: words of `gpt_words.py`, their characters merged, "</w>" at the end of each word.

`reference_encode` is the algorithm to read. `encode` gives the same ids from three levels of
memory: chunks between white space ("It's,"); where a chunk is new, its parts between punctuation
("It's" and ","); where a part is new, its words ("it" and "'s").
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gptbert.errors import UserError
from gptbert.tokenizers import bpe_files, gpt_words
from gptbert.tokenizers.interface import SpecialTokens, known_ids
from gptbert.tokenizers.memory import Memory, PackedTokenizer, blocks, packed
from gptbert.tokenizers.merges import Merges

_END = bpe_files.END_OF_WORD
_SPACE = re.compile(" ")


class GptBpe(PackedTokenizer):
    """A vocabulary of GPT's kind and its merges.

    Args:
      vocabulary: Entry -> id; ids are 0, 1, 2 and so on. Holds "<unk>".
      merges: Pairs of entries, the strongest first.
      source: What error messages call the vocabulary, usually its file.

    Raises:
      UserError: There is no "<unk>", or what `bpe_files.check` refuses.
    """

    kind = "bpe"

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        source: str = "vocabulary",
    ) -> None:
        self.entries = bpe_files.check(vocabulary, merges, source)
        if bpe_files.UNKNOWN not in vocabulary:
            raise UserError(
                f"{source} has {len(vocabulary)} entries but no {bpe_files.UNKNOWN}; expected a "
                "vocabulary of GPT, in which unknown characters have id 0"
            )
        self.merges = tuple(merges)
        self._unk = vocabulary[bpe_files.UNKNOWN]
        self.special = SpecialTokens(unk=self._unk)
        self._ids = dict(vocabulary)
        self._table = Merges(vocabulary, merges)
        self._line_feed = packed(self._encode_word("\n"))
        self._chunks = Memory(self._encode_chunk)
        self._parts = Memory(self._encode_part)
        self._words = Memory(self._pack_word)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, without the start, delimiter and extract tokens of fine-tuning."""
        return len(self.entries)

    @functools.cached_property
    def continues(self) -> np.ndarray:
        """bool [V], all False: an entry tells whether it ends a word, not whether it begins one."""
        return np.zeros(len(self.entries), bool)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over entries, merges and the rules that make words."""
        rules = [gpt_words.DELETED, gpt_words.REPAIRED, gpt_words.RELEASED, gpt_words.BREAKS]
        told = json.dumps(["GPT's BPE", rules, gpt_words.PADDED, self.entries, self.merges])
        return hashlib.sha256(told.encode()).hexdigest()

    def reference_encode(self, text: str) -> list[int]:
        """What `encode` must return, by the rules and nothing else."""
        return [i for word in gpt_words.words(text) for i in self._encode_word(word)]

    def decode(self, ids: Iterable[int]) -> str:
        """Joins entries into words; case and spacing of the text are lost.

        Raises:
          IndexError: An id is not in [0, vocabulary_size).
        """
        ids = known_ids(ids, len(self.entries))
        return "".join(self.entries[i] for i in ids).replace(_END, " ").rstrip(" ")

    def save(
        self, folder: str | os.PathLike[str], *, max_length: int = 512, for_bert: bool = False
    ) -> None:
        """Writes vocab.json, merges.txt, tokenizer.json, tokenizer_config.json.

        It makes no difference whether they are `for_bert`: the kind has no [CLS] and [SEP].
        """
        bpe_files.write_bpe(self.kind, self._ids, self.merges, folder, max_length)

    def _encode_text(self, text: str) -> bytes:
        lines = map(self._encode_line, gpt_words.lines_of(text))
        return self._line_feed.join(filter(None, lines))

    def _encode_line(self, line: str) -> bytes:
        find = self._chunks.__getitem__
        return b"".join(b"".join(map(find, block.split())) for block in blocks(line, _SPACE))

    def _encode_chunk(self, chunk: str) -> bytes:
        return b"".join(map(self._parts.__getitem__, gpt_words.chunk_parts(chunk)))

    def _encode_part(self, part: str) -> bytes:
        return b"".join(map(self._words.__getitem__, gpt_words.part_words(part)))

    def _pack_word(self, word: str) -> bytes:
        return packed(self._encode_word(word))

    def _encode_word(self, word: str) -> list[int]:
        find, unk = self._ids.get, self._unk
        symbols = [find(character, unk) for character in word[:-1]]
        return self._table.apply([*symbols, find(word[-1] + _END, unk)])
