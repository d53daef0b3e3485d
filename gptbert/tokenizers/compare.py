"""In what two tokenizers differ, in words: weights know the ids of one tokenizer only."""

from __future__ import annotations

from typing import Any

from gptbert.tokenizers.interface import Tokenizer
from gptbert.tokenizers.wordpiece import WordPiece

# What a fingerprint of WordPiece covers beside the entries.
_RULES = (
    "lowercase", "removes_accents", "handle_chinese_chars", "clean_text", "max_characters"
)  # fmt: skip


def difference(one: Tokenizer, other: Tokenizer, places: tuple[str, str]) -> str:
    """What tells two tokenizers apart; empty if nothing does.

    Kinds come first, then sizes, then entries, then the rules that make words of text.

    Args:
      one: A tokenizer.
      other: Another one.
      places: What the message says of each, as in "'cat' {with the weights}".
    """

    def told(what: str, first: object, second: object) -> str:
        return f"{what} {first} {places[0]} and {second} {places[1]}"

    if one.fingerprint == other.fingerprint:
        return ""
    if one.kind != other.kind:
        return told("its kind is", one.kind, other.kind)
    ours, theirs = _entries(one), _entries(other)
    if len(ours) != len(theirs):
        return told("it has", f"{len(ours):,} entries", f"{len(theirs):,}")
    odd = [n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    if odd:
        first = odd[0]
        return (
            told(f"entry {first} is", repr(ours[first]), repr(theirs[first]))
            + f"; {len(odd):,} of {len(ours):,} differ"
        )
    if isinstance(one, WordPiece) and isinstance(other, WordPiece):
        values = ((name, *(getattr(t.rules, name) for t in (one, other))) for name in _RULES)
        return "; ".join(told(f"{name} is", a, b) for name, a, b in values if a != b)
    return "the same entries, other merges or rules"


def _entries(tokenizer: Any) -> tuple[str, ...]:
    """Every kind has them; the protocol does not ask for them."""
    return tuple(tokenizer.entries)
