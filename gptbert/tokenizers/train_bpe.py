"""Trains byte pair encodings: GPT's, of characters, and GPT-2's, of bytes (`train_merges.py`)."""

from __future__ import annotations

from collections.abc import Mapping

from gptbert.tokenizers.bpe_files import END_OF_TEXT, END_OF_WORD, UNKNOWN
from gptbert.tokenizers.byte_bpe import BYTES
from gptbert.tokenizers.train_merges import MergeLearner, Trained, Watch, grow, unwatched
from gptbert.tokenizers.train_words import keep_alphabet

NEW_LINE = f"\n{END_OF_WORD}"


def train_bpe(
    words: Mapping[str, int], size: int, *, alphabet: int = 238, watch: Watch = unwatched
) -> Trained:
    """Learns GPT's kind of vocabulary, in the order of the released one.

    That has 40,478 entries: "<unk>", 238 characters, the same with "</w>" (at the end of a word),
    40,000 merges, and the line feed.

    Args:
      words: Word -> occurrences, as `gpt_words` makes words.
      size: Of the whole vocabulary.
      alphabet: How many characters, the most frequent, are entries.
      watch: Shows the progress.

    Raises:
      UserError: `size` is too small for the characters or too large for the text.
    """
    characters, spelt = keep_alphabet(words, alphabet)
    ends = {character: character + END_OF_WORD for character in characters}
    learner = MergeLearner(((*word[:-1], ends[word[-1]]), n) for word, n in spelt.items())
    # The line feed stands in front while entries are counted.
    entries, merges = grow([NEW_LINE, UNKNOWN, *characters, *ends.values()], learner, size, watch)
    unspelt = sum(words.values()) - sum(spelt.values())
    return Trained((*entries[1:], NEW_LINE), tuple(merges), len(characters), unspelt)


def train_byte_bpe(words: Mapping[str, int], size: int, *, watch: Watch = unwatched) -> Trained:
    """Learns GPT-2's kind of vocabulary, in the order of the released one.

    That has 50,257 entries: the 256 bytes, 50,000 merges, and "<|endoftext|>".

    Args:
      words: Word -> occurrences, as `byte_bpe.PATTERN` cuts text.
      size: Of the whole vocabulary.
      watch: Shows the progress.

    Raises:
      UserError: `size` is below 257 or too large for the text.
    """
    learner = MergeLearner(
        (map(BYTES.__getitem__, word.encode("utf-8", "surrogatepass")), n)
        for word, n in words.items()
    )
    entries, merges = grow([END_OF_TEXT, *sorted(BYTES)], learner, size, watch)
    return Trained((*entries[1:], END_OF_TEXT), tuple(merges), len(BYTES), 0)
