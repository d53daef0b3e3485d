"""Vocabularies on disk: Google's vocab.txt and Hugging Face's three files, in and out.

| file | says |
| --- | --- |
| vocab.txt | entries, one a line, the line is the id; nothing stripped but the line end |
| tokenizer.json | entries and all rules (`tokenizer_json.py`) |
| tokenizer_config.json | `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` |
| added_tokens.json | nothing that the vocabulary does not say |

Where tokenizer.json and tokenizer_config.json disagree, `tokenizers` follows the one and
`transformers` the other; here such a folder is refused. So are files that say they are for a
tokenizer that treats text in another way than BERT's.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptbert.errors import UserError
from gptbert.tokenizers import tokenizer_json
from gptbert.tokenizers.basic import Rules

MAX_FILE_BYTES = 100_000_000  # the largest tokenizer.json in use have about 20 MB

# tokenizer_config.json's name for a rule -> tokenizer.json's.
_CONFIG_NAMES = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# Classes of `transformers` that treat text as BERT's; their fast forms are called "...Fast".
_CLASSES = tuple(
    f"{model}Tokenizer" for model in ("Bert", "DistilBert", "Electra", "MobileBert", "ConvBert")
)
# Those that treat it as the files say.
_GENERAL_CLASSES = ("PreTrainedTokenizer", "TokenizersBackend")
# Fields of tokenizer_config.json that ask for other words, with the values that do not.
_PLAIN = {
    "do_basic_tokenize": (True, None),
    "word_tokenizer_type": ("basic", None),
    "subword_tokenizer_type": ("wordpiece", None),
}


def read_wordpiece(
    path: str | os.PathLike[str], lowercase: bool | None = None
) -> tuple[list[str], Rules, str]:
    """Reads a folder, a vocab.txt or a tokenizer.json.

    Args:
      path: A folder with vocab.txt, tokenizer.json or both, or one of these files (no other file
        is read then).
      lowercase: Overrides what the files say; None takes it from them, or, where they say
        nothing, from the vocabulary: cased if it holds a capitalised word.

    Returns:
      Entries in the order of their ids, rules, and the name of the file for messages.

    Raises:
      UserError: Nothing there, or not a WordPiece vocabulary, or files that contradict each other
        or ask for what BERT does not do.
    """
    vocab_path, json_path, config_path = _locate(Path(path))
    rules: dict[str, Any] = {}
    if json_path is not None:
        entries, own_entries, rules = tokenizer_json.parse(read_json(json_path), str(json_path))
        if vocab_path is not None:
            _check_same(_read_vocab(vocab_path), vocab_path, own_entries, json_path)
    elif vocab_path is not None:
        entries = _read_vocab(vocab_path)
    if Path(path).is_dir():
        check_class(Path(path), _CLASSES)
        _check_added(Path(path), config_path, entries)
    if config_path is not None:
        _check_words(config_path)
        rules = _with_config(rules, config_path, case_is_settled=lowercase is not None)
    if lowercase is not None:
        rules["lowercase"] = lowercase
    rules.setdefault("lowercase", not is_cased(entries))
    return entries, Rules(**rules), str(json_path or vocab_path)


def check_class(folder: Path, classes: tuple[str, ...]) -> None:
    """Refuses files that are for another class of `transformers` than `classes` or a general one.

    tokenizer_config.json says which class, else config.json, else nothing does.
    """
    for path in (folder / "tokenizer_config.json", folder / "config.json"):
        stated = read_json(path).get("tokenizer_class") if path.is_file() else None
        if stated is None:
            continue
        if str(stated).removesuffix("Fast") not in (*classes, *_GENERAL_CLASSES):
            raise UserError(
                f"{path}: tokenizer_class is {stated!r}, which does something else to text than "
                f"{classes[0]}; expected {', '.join(classes)}, or none"
            )
        return


def is_cased(entries: Sequence[str]) -> bool:
    """Whether a vocabulary holds a capitalised word such as "The"; brackets ("[MASK]") are none."""
    return any(entry.isalpha() and entry != entry.lower() for entry in entries)


def write_wordpiece(
    entries: Sequence[str],
    rules: Rules,
    folder: str | os.PathLike[str],
    max_length: int,
    *,
    for_bert: bool = True,
) -> None:
    """Writes the three files, so that old and new versions of `transformers` load the folder.

    `transformers` sets the limit of characters to 100 whatever the files say (5.23); for words of
    101 to 200 characters its ids then differ from those of Google's limit.

    Args:
      entries: The vocabulary in the order of ids.
      rules: Written to tokenizer.json in full, to tokenizer_config.json as far as it has names.
      folder: Made if absent; files of these names are replaced one by one, each at once.
      max_length: `model_max_length`: how many positions the model has.
      for_bert: Whether `transformers` is to make BERT's input of texts and pairs, [CLS] a [SEP] b
        [SEP] and token types; a GPT wants the pieces alone.

    Raises:
      UserError: The folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    specials = [name for name in _SPECIALS if name in entries]
    config: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer" if for_bert else "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        **{name: getattr(rules, rule) for name, rule in _CONFIG_NAMES.items()},
    }
    if not for_bert:  # by default there would be token types, which a GPT does not know
        config["model_input_names"] = ["input_ids", "attention_mask"]
    for name in _SPECIALS:
        # A name without an entry would be given a new id, beyond the embedding table.
        config[f"{name[1:-1].lower()}_token"] = name if name in specials else None
    tokenizer = tokenizer_json.build(entries, rules, specials, for_bert=for_bert)
    write_text(folder / "vocab.txt", "".join(f"{entry}\n" for entry in entries))
    write_text(
        folder / "tokenizer.json", json.dumps(tokenizer, ensure_ascii=False, indent=2) + "\n"
    )
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")


def _locate(path: Path) -> tuple[Path | None, Path | None, Path | None]:
    """The paths of vocab.txt, tokenizer.json and tokenizer_config.json, None where absent."""
    if path.is_file():
        return (None, path, None) if path.suffix == ".json" else (path, None, None)
    if not path.is_dir():
        raise UserError(
            f"no tokenizer at {path}: there is no such file or folder; expected a folder with "
            "vocab.txt or tokenizer.json, or a vocab.txt"
        )
    names = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")
    vocab, tokenizer, config = (p if (p := path / name).is_file() else None for name in names)
    if vocab is None and tokenizer is None:
        there = sorted(p.name for p in path.iterdir())
        held = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else "nothing"
        raise UserError(
            f"no WordPiece vocabulary in {path}: looked for {path / names[0]} and "
            f"{path / names[1]}, but the folder holds {held}"
        )
    return vocab, tokenizer, config


def _read_vocab(path: Path) -> list[str]:
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object; each key once, or a `UserError`."""
    try:
        content = json.loads(read_text(path), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON of a vocabulary: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}; expected an object")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; a vocabulary with an entry twice would lose one of them unseen."""
    if len(made := dict(pairs)) < len(pairs):
        counts = collections.Counter(key for key, _ in pairs)
        raise ValueError(f"{next(k for k in counts if counts[k] > 1)!r} stands there twice")
    return made


def read_text(path: Path) -> str:
    """The text of a file of UTF-8, with or without a byte order mark, or a `UserError`."""
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UserError(
                f"{path} has {size:,} bytes; expected a vocabulary, which has at most "
                f"{MAX_FILE_BYTES:,}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        looks = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "LATIN1"
        raise _not_utf8(path, data, error.start, looks) from None
    if "\0" in text:
        raise _not_utf8(path, data, data.index(b"\0"), "UTF-16LE")
    return text


def _not_utf8(path: Path, data: bytes, place: int, looks: str) -> UserError:
    line = data.count(b"\n", 0, place) + 1
    return UserError(
        f"{path}, line {line}: byte 0x{data[place]:02x} is not UTF-8 text; expected UTF-8 "
        f"(if the file is {looks}: iconv -f {looks} -t UTF-8)"
    )


def _check_same(listed: list[str], path: Path, entries: list[str], json_path: Path) -> None:
    if listed == entries:
        return
    shorter = min(len(listed), len(entries))
    place = next((i for i in range(shorter) if listed[i] != entries[i]), shorter)
    here, there = (repr(them[place]) if place < len(them) else "none" for them in (listed, entries))
    raise UserError(
        f"{path} and {json_path.name} beside it hold different vocabularies: id {place} is {here} "
        f"(of {len(listed)} entries) and {there} (of {len(entries)}); remove the wrong file"
    )


def _with_config(rules: dict[str, Any], path: Path, case_is_settled: bool) -> dict[str, Any]:
    """`rules` of tokenizer.json (empty where absent) with what tokenizer_config.json states."""
    config, stated = read_json(path), dict(rules)
    for name, rule in _CONFIG_NAMES.items():
        value = config.get(name)
        if value is None or (rule == "lowercase" and case_is_settled):
            continue
        if not isinstance(value, bool):
            raise UserError(f"{path}: {name} is {value!r}; expected true or false")
        if rules and value != (there := _in_effect(rules, rule)):
            raise UserError(
                f"{path}: {name} is {value} but by tokenizer.json beside it {rule} is {there}; "
                "make the two files agree"
            )
        stated[rule] = value
    return stated


def _check_words(path: Path) -> None:
    """Refuses rules for words that are not BERT's."""
    config = read_json(path)
    for name, values in _PLAIN.items():
        if config.get(name) not in values:
            raise UserError(
                f"{path}: {name} is {config[name]!r}; expected {values[0]!r}, as in BERT"
            )
    kept = config.get("never_split") or []
    if not isinstance(kept, list) or any(word not in _SPECIALS for word in kept):
        raise UserError(
            f"{path}: never_split is {tokenizer_json.shown(kept)}, words to be kept whole, which "
            "gptbert does not do; expected none but special tokens"
        )


def _check_added(folder: Path, config_path: Path | None, entries: Sequence[str]) -> None:
    """Refuses added tokens beyond the vocabulary; special ones that it lacks stand in no text."""
    ids = {entry: number for number, entry in enumerate(entries)}
    for path in (folder / "added_tokens.json", config_path):
        if path is None or not path.is_file():
            continue
        for text, number in _added_tokens(read_json(path), path).items():
            if ids.get(text) != number and (text in ids or text not in _SPECIALS):
                raise UserError(
                    f"{path}: added token {text!r} has id {number} and is matched before all else, "
                    f"where the vocabulary gives it {ids.get(text, 'none')}; expected added tokens "
                    "to be in the vocabulary"
                )


def _added_tokens(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Added tokens and their ids."""
    if path.name == "added_tokens.json":
        return content
    listed = content.get("added_tokens_decoder") or {}
    try:
        return {token["content"]: int(number) for number, token in listed.items()}
    except (ValueError, TypeError, LookupError, AttributeError):
        raise UserError(
            f"{path}: added_tokens_decoder is {tokenizer_json.shown(listed)}; expected an object "
            "with a number and a content for each token"
        ) from None


def _in_effect(rules: dict[str, Any], rule: str) -> bool:
    return bool(Rules(**rules).removes_accents if rule == "strip_accents" else rules[rule])


def write_json(path: Path, content: dict[str, Any]) -> None:
    """`write_bytes` of JSON that people can read."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of the text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes under another name and moves, so that `path` is never half-written.

    Raises:
      UserError: The folder cannot be made or written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
