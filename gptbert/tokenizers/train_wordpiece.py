"""Trains a WordPiece vocabulary. Google never released how BERT's was made.

Here pieces are learnt as in byte pair encoding: of the pairs of pieces that stand side by side
within words the most frequent is joined, until there are enough (`train_merges.py`). This is what
the `tokenizers` library calls its WordPiece trainer, except that ties are settled by name, so that
the same text always gives the same file. The method of Schuster and Nakajima (2012), whose name it
has, joins the pair that raises the likelihood of the text most.
"""

from __future__ import annotations

from collections.abc import Mapping

from gptbert.tokenizers.train_merges import MergeLearner, Trained, Watch, grow, unwatched
from gptbert.tokenizers.train_words import keep_alphabet

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece(
    words: Mapping[str, int],
    size: int,
    *,
    alphabet: int = 1000,
    unused: int = 0,
    watch: Watch = unwatched,
) -> Trained:
    """Learns `size` entries: special tokens, unused ones, characters, pieces in order of merging.

    Each character is an entry with "##" and without, so that a word of known characters is never
    [UNK].

    Args:
      words: Word -> occurrences, as `basic.words` makes words.
      size: Of the whole vocabulary.
      alphabet: How many characters, the most frequent, are entries.
      unused: Entries [unused0], [unused1] and so on that a user may rename.
      watch: Shows the progress.

    Raises:
      UserError: `size` is too small for the characters or too large for the text.
    """
    characters, spelt = keep_alphabet(words, alphabet)
    start = [
        *SPECIALS,
        *(f"[unused{number}]" for number in range(unused)),
        *characters,
        *(f"##{character}" for character in characters),
    ]
    continued = {character: f"##{character}" for character in characters}
    learner = MergeLearner(
        (([word[0], *map(continued.__getitem__, word[1:])], n) for word, n in spelt.items()), _join
    )
    entries, merges = grow(start, learner, size, watch)
    unspelt = sum(words.values()) - sum(spelt.values())
    return Trained(tuple(entries), tuple(merges), len(characters), unspelt)


def _join(first: str, second: str) -> str:
    return first + second.removeprefix("##")
