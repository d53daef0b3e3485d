"""Trains a SentencePiece model with its library (Kudo and Richardson, 2018), made deterministic.

The library is given counts of words instead of sentences. It splits text at white space anyway, so
that no piece is lost by that, but memory is bounded and neither the order of the text nor a sample
of it decides. With one thread it gives the same bytes for the same counts; with two the pieces of
the unigram model differ.

Ids are those of ALBERT, BERT's variant with SentencePiece: <pad> 0, <unk> 1, [CLS] 2, [SEP] 3,
[MASK] 4. They are control symbols, which no text produces.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from gptbert.errors import UserError
from gptbert.tokenizers.train_merges import WrongSize, too_few
from gptbert.tokenizers.train_words import keep_alphabet

ALGORITHMS = ("unigram", "bpe")
# The unigram trainer writes all occurrences out again to find its first pieces, in about 130 bytes
# each; above this sum counts are scaled down.
MOST_OCCURRENCES = 10_000_000

_SPECIALS = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
_ROLES = ("pad", "unk", "bos", "eos")  # the library's names of the first of them

_TOO_LARGE = re.compile(r"Vocabulary size too high .* value <= (\d+)")
_TOO_SMALL = re.compile(r"smaller than required_chars. *(\d+) vs (\d+)")


def train_sentencepiece(
    words: Mapping[str, int],
    size: int,
    *,
    algorithm: str = "unigram",
    lowercase: bool = False,
    alphabet: int = 1000,
) -> tuple[bytes, int]:
    """Learns a model of `size` entries.

    Args:
      words: Strings between white space -> occurrences; the unigram model takes about a minute
        for 300,000 of them.
      size: Of the whole vocabulary.
      algorithm: One of `ALGORITHMS`.
      lowercase: Adds case folding to the library's normalisation (NFKC).
      alphabet: How many characters, the most frequent, are entries before that.

    Returns:
      The serialised model, and the occurrences of words with other characters.

    Raises:
      UserError: `size` is too small for the characters or too large for the text.
    """
    if size < len(_SPECIALS):
        raise UserError(f"{size:,} entries are too few: there are {len(_SPECIALS)} special tokens")
    _, spelt = keep_alphabet(words, alphabet)
    if not spelt:
        raise UserError("the text holds no words; expected text to learn a vocabulary from")
    given = _scaled(spelt, MOST_OCCURRENCES) if algorithm == "unigram" else spelt
    try:
        model = _train(given, size, algorithm, lowercase)
    except (RuntimeError, OSError) as error:
        raise _explained(str(error), size) from None
    return model, sum(words.values()) - sum(spelt.values())


def _scaled(words: Mapping[str, int], most: int) -> Mapping[str, int]:
    """Counts in proportion, but at least 1, with a sum of about `most`."""
    total = sum(words.values())
    if total <= most:
        return words
    return {word: max(1, count * most // total) for word, count in words.items()}


def _train(words: Mapping[str, int], size: int, algorithm: str, lowercase: bool) -> bytes:
    import sentencepiece

    roles: dict[str, Any] = {f"{role}_id": number for number, role in enumerate(_ROLES)}
    roles |= {f"{role}_piece": name for role, name in zip(_ROLES, _SPECIALS, strict=False)}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{word}\t{words[word]}" for word in sorted(words)),
        input_format="tsv",
        model_writer=model,
        model_type=algorithm,
        vocab_size=size,
        num_threads=1,
        shuffle_input_sentence=False,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
        **roles,
        control_symbols=[*_SPECIALS[len(_ROLES) :]],
        minloglevel=2,
    )
    return model.getvalue()


def _explained(message: str, size: int) -> UserError:
    if found := _TOO_LARGE.search(message):
        return WrongSize(size, "too many for the text", "at most", int(found[1]), "more text")
    if found := _TOO_SMALL.search(message):
        return too_few(size, int(found[2]))
    return UserError(f"SentencePiece cannot learn {size:,} entries: {' '.join(message.split())}")
