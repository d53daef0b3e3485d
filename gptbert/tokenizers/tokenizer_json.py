"""The tokenizer.json of a BERT (format 1.0 of the `tokenizers` library), parsed and built.

Its blocks `truncation` and `padding` are ignored: they are settings of whoever saved the file (a
sentence encoder's may cut every text to 128 pieces), not properties of the vocabulary. So are the
post-processor and the decoder, which the input transforms replace.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gptbert.errors import UserError
from gptbert.tokenizers.basic import Rules

_NORMALIZER_FIELDS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")


def parse(content: dict[str, Any], path: str) -> tuple[list[str], list[str], dict[str, Any]]:
    """Reads what affects ids.

    Args:
      content: The file's JSON.
      path: Its name, for messages.

    Returns:
      Entries by id with added tokens, the model's own entries, and the fields of `Rules`.

    Raises:
      UserError: Another model or normaliser than BERT's, or ids that are not 0, 1, 2 and so on.
    """
    model = section(content, "model", path)
    _check_model(model, path)
    vocab = section(model, "vocab", path)
    own_entries = in_order(vocab, path)
    entries = in_order(vocab | added_tokens(content, vocab, path), path)
    limit = model.get("max_input_chars_per_word", 100)
    if type(limit) is not int or limit < 1:
        raise UserError(f"{path}: max_input_chars_per_word is {shown(limit)}; expected a count")
    return entries, own_entries, _normalizer_rules(content, path) | {"max_characters": limit}


def build(
    entries: Sequence[str], rules: Rules, specials: Sequence[str], *, for_bert: bool = True
) -> dict[str, Any]:
    """The whole file for a vocabulary; `for_bert` with the post-processor [CLS] A [SEP] B [SEP]."""
    ids = {entry: number for number, entry in enumerate(entries)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(ids[name], name) for name in sorted(specials, key=ids.__getitem__)
        ],
        "normalizer": {
            "type": "BertNormalizer",
            **{field: getattr(rules, field) for field in _NORMALIZER_FIELDS},
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _post_processor(ids) if for_bert else None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": rules.max_characters,
            "vocab": ids,
        },
    }


def section(content: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    """A block that must be there."""
    section = content.get(name)
    if not isinstance(section, dict):
        raise UserError(
            f"{path}: {name} is {shown(section)}; expected an object, as in the tokenizer.json "
            "of a BERT"
        )
    return section


def _check_model(model: dict[str, Any], path: str) -> None:
    kind = model.get("type")
    if kind is None and "continuing_subword_prefix" in model:
        kind = "WordPiece"  # the files of 2019 do not name their model
    if kind != "WordPiece":
        raise UserError(
            f"{path} is a tokenizer of type {shown(kind)}; expected WordPiece, which BERT uses"
        )
    for name, expected in (("unk_token", "[UNK]"), ("continuing_subword_prefix", "##")):
        if model.get(name, expected) != expected:
            raise UserError(f"{path}: {name} is {shown(model[name])}; expected {expected!r}")


def in_order(vocab: dict[str, Any], path: str) -> list[str]:
    """Entries by id, which must be 0, 1, 2 and so on."""
    for text, number in vocab.items():
        if type(number) is not int:
            raise UserError(f"{path}: entry {text!r} has id {shown(number)}; expected a number")
    entries = sorted(vocab, key=vocab.__getitem__)
    for expected, text in enumerate(entries):
        if vocab[text] != expected:
            raise UserError(
                f"{path}: entry {text!r} has id {vocab[text]} where {expected} was expected; "
                "ids must be 0, 1, 2 and so on, each once"
            )
    return entries


def added_tokens(content: dict[str, Any], vocab: dict[str, Any], path: str) -> dict[str, Any]:
    """Added tokens and their ids, which the vocabulary need not hold if they are special."""
    added: dict[str, Any] = {}
    listed = content.get("added_tokens") or []
    for token in listed if isinstance(listed, list) else [listed]:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise UserError(f"{path}: added token {shown(token)}; expected an object with content")
        text, number = token["content"], token.get("id")
        if vocab.get(text, number) != number:
            raise UserError(
                f"{path}: added token {text!r} has id {shown(number)}, but {vocab[text]} in the "
                "vocabulary; expected the same"
            )
        if text not in vocab and not token.get("special"):
            raise UserError(
                f"{path}: added token {text!r} is matched before all else, which gptbert does "
                "not do; expected added tokens to be special or in the vocabulary"
            )
        added[text] = number
    return added


def _normalizer_rules(content: dict[str, Any], path: str) -> dict[str, Any]:
    for name, expected in (("normalizer", "BertNormalizer"), ("pre_tokenizer", "BertPreTokenizer")):
        kind = section(content, name, path).get("type")
        if kind != expected:
            raise UserError(f"{path}: {name} is of type {shown(kind)}; expected {expected}")
    rules = {}
    for field in _NORMALIZER_FIELDS:
        rules[field] = value = content["normalizer"].get(field)
        if not isinstance(value, bool) and not (value is None and field == "strip_accents"):
            raise UserError(
                f"{path}: {field} of the normalizer is {shown(value)}; expected true or false"
            )
    return rules


def added_token(number: int, name: str) -> dict[str, Any]:
    """A special token as the file lists it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": name, **flags, "special": True}


def _post_processor(ids: dict[str, int]) -> dict[str, Any]:
    def special(name: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": segment}}

    def text(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), special("[SEP]", 1)],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")
        },
    }


def shown(value: object) -> str:
    """A short spelling of a JSON value."""
    told = json.dumps(value, ensure_ascii=False)
    return told if len(told) <= 60 else f"{told[:57]}..."
