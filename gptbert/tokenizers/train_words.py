"""Counts the words of text in bounded memory: all that training a vocabulary needs to know of it.

What is a word is what encoding makes one. Chunks that are found fast (between white space, or what
a regular expression cuts) are counted first, and only distinct chunks are split into words: long
ones at once, and the rarest where there are more than memory is given for.

Where more distinct words are met than that, the rarest are forgotten. That happens at fixed places
of one portion of text, and again where portions are added in their order: so the counts depend on
the text and its portions, not on which process counted which.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import regex

from gptbert.tokenizers import basic, byte_bpe, gpt_words
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.memory import KEY_CHARACTERS, blocks

# And as many chunks; a million take about 150 MB.
MOST_WORDS = 2_000_000
# Longer ones are no words (WordPiece makes them [UNK]) and teach nothing.
MOST_CHARACTERS = 200

_cuts = regex.compile(byte_bpe.PATTERN).findall


@dataclasses.dataclass
class WordCounts:
    """How often words occur, and what was left out.

    Attributes:
      words: Word -> occurrences.
      documents: How many texts were counted.
      forgotten: Occurrences of words forgotten because they were rare.
      too_long: Occurrences of words longer than `MOST_CHARACTERS`.
    """

    words: dict[str, int] = dataclasses.field(default_factory=dict)
    documents: int = 0
    forgotten: int = 0
    too_long: int = 0

    @property
    def occurrences(self) -> int:
        return sum(self.words.values())

    def add(self, other: WordCounts, most: int = MOST_WORDS) -> None:
        """Adds another portion's counts."""
        mine = self.words
        for word, count in other.words.items():
            mine[word] = mine.get(word, 0) + count
        self.documents += other.documents
        self.forgotten += other.forgotten + forget_rare(mine, most)
        self.too_long += other.too_long

    def keep_most(self, number: int) -> None:
        """Forgets all but the most frequent words, of equally frequent ones the first by name."""
        ranked = sorted(self.words, key=lambda word: (-self.words[word], word))
        self.forgotten += sum(self.words.pop(word) for word in ranked[number:])


def count_words(
    texts: Iterable[str], kind: str, rules: Rules, most: int = MOST_WORDS
) -> WordCounts:
    """Counts the words of one portion of text.

    Args:
      texts: Documents.
      kind: The kind of tokenizer, whose words they are.
      rules: For `wordpiece`.
      most: How many distinct chunks and words are kept in memory.
    """
    chunks_of, words_of = _splitting(kind, rules)
    chunks: collections.Counter[str] = collections.Counter()
    counts = WordCounts()

    def split(chunk: str, count: int) -> None:
        for word in words_of(chunk):
            if len(word) <= MOST_CHARACTERS:
                counts.words[word] = counts.words.get(word, 0) + count
            else:
                counts.too_long += count

    for text in texts:
        counts.documents += 1
        for block in blocks(text):
            known = len(chunks)
            chunks.update(chunks_of(block))
            new = itertools.islice(reversed(chunks), len(chunks) - known)
            for chunk in [chunk for chunk in new if len(chunk) > KEY_CHARACTERS]:
                split(chunk, chunks.pop(chunk))
            for chunk in _rare(chunks, most):
                split(chunk, chunks.pop(chunk))
            counts.forgotten += forget_rare(counts.words, most)
    while chunks:
        split(*chunks.popitem())
    counts.forgotten += forget_rare(counts.words, most)
    return counts


def forget_rare(counts: dict[str, int], most: int) -> int:
    """Keeps `counts` at `most` entries; returns the sum of the counts that went.

    When there are more, the rarest go until at most half as many are left: all that occur as often
    as one that goes, go. So what is left does not depend on an order.
    """
    return sum(counts.pop(word) for word in _rare(counts, most))


def _rare(counts: dict[str, int], most: int) -> list[str]:
    """Those that are to go; none while there are at most `most`."""
    if len(counts) <= most:
        return []
    numbers = np.fromiter(counts.values(), np.int64, len(counts))
    threshold = int(np.partition(numbers, -(most // 2))[-(most // 2)])
    return [word for word, count in counts.items() if count <= threshold]


def keep_alphabet(words: Mapping[str, int], most: int) -> tuple[list[str], dict[str, int]]:
    """Finds the most frequent characters, and the words that are made of them only.

    Returns:
      At most `most` characters in the order of their code points (of those that occur equally
      often the first ones are kept), and the words.
    """
    counts: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    # Half of a surrogate pair is not text: no file of UTF-8 could hold it as an entry.
    known = (item for item in counts.items() if not "\ud800" <= item[0] <= "\udfff")
    ranked = sorted(known, key=lambda item: (-item[1], item[0]))
    kept = sorted(character for character, _ in ranked[:most])
    if len(kept) == len(counts):
        return kept, dict(words)
    spelt = frozenset(kept).issuperset
    return kept, {word: count for word, count in words.items() if spelt(word)}


def _splitting(
    kind: str, rules: Rules
) -> tuple[Callable[[str], Iterable[str]], Callable[[str], Iterable[str]]]:
    """From text to chunks, and from a chunk to words."""
    if kind == "wordpiece":
        return (
            functools.partial(basic.chunks, rules=rules),
            functools.partial(basic.words, rules=rules),
        )
    if kind == "bpe":
        return _gpt_chunks, gpt_words.chunk_words
    if kind == "byte-bpe":
        return _cuts, _itself
    return str.split, _itself


def _gpt_chunks(text: str) -> list[str]:
    return [chunk for line in gpt_words.lines_of(text) for chunk in line.split()]


def _itself(chunk: str) -> tuple[str]:
    return (chunk,)
