"""The tokenizer.json of GPT and GPT-2 (format 1.0 of the `tokenizers` library), parsed and built.

GPT-2's rules are what the library calls ByteLevel. GPT's rules (`gpt_words.py`) are spelt out as
replacements, in the order in which the library applies them; texts with a capital sigma at the end
of a word, with half of a surrogate pair or with a special token written out apart, ids are equal.
`transformers` itself stands in for GPT's rules with those of BERT; a file that says so is read as
GPT's, since that is what the weights were trained with.

The blocks `truncation`, `padding`, `post_processor` and `decoder` are ignored, as for WordPiece.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gptbert.errors import UserError
from gptbert.tokenizers import gpt_words
from gptbert.tokenizers.tokenizer_json import added_token, added_tokens, in_order, section, shown

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BERT = ({"type": "BertNormalizer", "lowercase": True}, {"type": "BertPreTokenizer"})

# Settings of the model that change ids, and the values that mean nothing is changed.
_PLAIN = {
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
    "fuse_unk": (None, False),
}


def parse(content: dict[str, Any], path: str) -> tuple[str, dict[str, int], list[tuple[str, str]]]:
    """Reads what affects ids.

    Returns:
      The kind ("bpe" or "byte-bpe"), entry -> id with added tokens, the merges.

    Raises:
      UserError: Rules that are neither GPT's nor GPT-2's, or what is no vocabulary.
    """
    model = section(content, "model", path)
    for name, values in _PLAIN.items():
        if model.get(name) not in values:
            raise UserError(
                f"{path}: {name} of the model is {shown(model[name])}; expected "
                f"{shown(values[-1])}, as in GPT and GPT-2"
            )
    suffix = model.get("end_of_word_suffix") or ""
    if suffix not in ("", "</w>"):
        raise UserError(
            f'{path}: end_of_word_suffix is {shown(suffix)}; expected "</w>" (GPT) or "" (GPT-2)'
        )
    kind = "bpe" if suffix else "byte-bpe"
    _check_rules(kind, content, path)
    vocab = section(model, "vocab", path)
    vocab = vocab | added_tokens(content, vocab, path)
    in_order(vocab, path)
    return kind, vocab, _merges(model.get("merges"), path)


def build(
    kind: str, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The whole file; `kind` is "bpe" or "byte-bpe"."""
    special = "<unk>" if kind == "bpe" else "<|endoftext|>"
    normalizer, pre_tokenizer = _rules(kind)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(vocabulary[s], s) for s in (special,) if s in vocabulary],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None if kind == "bpe" else {**byte_level, "use_regex": True},
        "decoder": (
            {"type": "BPEDecoder", "suffix": "</w>"}
            if kind == "bpe"
            else {**byte_level, "use_regex": True}
        ),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>" if kind == "bpe" else None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>" if kind == "bpe" else "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(vocabulary),
            "merges": [list(pair) for pair in merges],
        },
    }


def _rules(kind: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Normaliser and pre-tokeniser."""
    if kind == "byte-bpe":
        return None, {**_BYTE_LEVEL, "trim_offsets": True}
    steps = [
        _replace(r"\r\n|[\r\x{85}\x{2028}\x{2029}]", "\n"),
        _replace(gpt_words.DELETED_IN_ONIGURUMA, ""),
        *_replacements(gpt_words.REPAIRED),
        {"type": "NFC"},
        *_replacements(gpt_words.RELEASED),
        # A space at both ends of every run of one of these.
        _replace(
            "|".join(
                f"(?<!{mark})(?={mark})|(?<={mark})(?!{mark})"
                for mark in map(_escaped, gpt_words.PADDED)
            ),
            " ",
        ),
        _replace("|".join(gpt_words.BREAKS), " "),
        _replace(r"\s*\n\s*", " \n "),
        # Not the library's Strip, which loses count after places were replaced (0.23).
        _replace(r"\A\s+|\s+\z", ""),
        {"type": "Lowercase"},
    ]
    split = {
        "type": "Split",
        "pattern": {"Regex": r"\n|\S+"},
        "behavior": "Removed",
        "invert": True,
    }
    return {"type": "Sequence", "normalizers": steps}, split


def _replace(pattern: str, by: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": by}


def _replacements(table: Mapping[str, str]) -> list[dict[str, Any]]:
    """A step for each different replacement."""
    grouped: dict[str, str] = {}
    for character, by in table.items():
        grouped[by] = grouped.get(by, "") + character
    return [_replace(f"[{characters}]", by) for by, characters in grouped.items()]


def _escaped(mark: str) -> str:
    return re.escape(mark) if mark in "-~?+)(/*[]}{|" else mark


def _check_rules(kind: str, content: dict[str, Any], path: str) -> None:
    found = content.get("normalizer"), content.get("pre_tokenizer")
    if kind == "bpe":
        if found == _rules(kind) or (_says(found[0], _BERT[0]) and _says(found[1], _BERT[1])):
            return
        raise UserError(
            f"{path}: normalizer {_kind_of(found[0])} and pre_tokenizer {_kind_of(found[1])} are "
            "not those of GPT; expected the rules that this version of gptbert writes, or "
            "BertNormalizer (which transformers uses in their place); to have this version's rules "
            "in any case, name vocab.json beside it, or remove this file"
        )
    if found[0] is not None:
        raise UserError(
            f"{path}: normalizer is of type {_kind_of(found[0])}; expected null, as in GPT-2"
        )
    if not isinstance(found[1], dict) or found[1].get("type") != "ByteLevel":
        raise UserError(
            f"{path}: pre_tokenizer is of type {_kind_of(found[1])}; expected ByteLevel, as in "
            "GPT-2"
        )
    for name, expected in _BYTE_LEVEL.items():
        if found[1].get(name, expected) != expected:
            raise UserError(
                f"{path}: {name} of the pre_tokenizer is {shown(found[1][name])}; expected "
                f"{shown(expected)}, as in GPT-2"
            )


def _says(found: object, expected: dict[str, Any]) -> bool:
    return isinstance(found, dict) and all(found.get(k) == v for k, v in expected.items())


def _kind_of(rules: object) -> str:
    return shown(rules.get("type") if isinstance(rules, dict) else rules)


def _merges(listed: object, path: str) -> list[tuple[str, str]]:
    """Merges as pairs, or as strings with one space within (files before 2024)."""
    if not isinstance(listed, list):
        raise UserError(f"{path}: merges are {shown(listed)}; expected a list")
    merges = []
    for number, merge in enumerate(listed, 1):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(part, str) and part for part in pair)
        ):
            raise UserError(f"{path}: merge {number} is {shown(merge)}; expected two entries")
        merges.append((pair[0], pair[1]))
    return merges
