"""Vocabularies of byte pair encoding on disk, GPT's and GPT-2's, in and out.

| names | what |
| --- | --- |
| vocab.json, merges.txt | entry -> id; a header line, then a merge a line, the best first |
| encoder.json, vocab.bpe | the same two, as OpenAI released GPT-2 |
| encoder_bpe_40000.json, vocab_40000.bpe | the same two, as OpenAI released GPT |
| tokenizer.json | both in one, and the rules (`bpe_json.py`) |

What GPT and GPT-2 do to text is told apart by the end-of-word mark "</w>" of GPT's entries.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptbert.errors import UserError
from gptbert.tokenizers import bpe_json, tokenizer_json
from gptbert.tokenizers.files import check_class, read_json, read_text, write_json, write_text

END_OF_WORD = "</w>"
END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<unk>"

# The vocabulary and its merges, by whose custom they are named.
NAMES = (
    ("vocab.json", "merges.txt"),
    ("encoder.json", "vocab.bpe"),
    ("encoder_bpe_40000.json", "vocab_40000.bpe"),
)

# The classes of `transformers` that are for such files.
_CLASSES = {"bpe": ("OpenAIGPTTokenizer",), "byte-bpe": ("GPT2Tokenizer",)}

_PARTNERS = {name: names for names in NAMES for name in names}

Merge = tuple[str, str]


def write_bpe(
    kind: str,
    vocabulary: Mapping[str, int],
    merges: Sequence[Merge],
    folder: str | os.PathLike[str],
    max_length: int,
) -> None:
    """Writes vocab.json, merges.txt, tokenizer.json and tokenizer_config.json.

    Args:
      kind: "bpe" (GPT: "<unk>" is entry 0, ends of words carry "</w>") or "byte-bpe" (GPT-2).
      vocabulary: Entry -> id; ids are 0, 1, 2 and so on.
      merges: Pairs of entries, the first the strongest; joined, each pair is an entry.
      folder: Made if absent; files of these names are replaced one by one, each at once.
      max_length: `model_max_length`: how many positions the model has.

    Raises:
      UserError: The vocabulary does not fit its merges (`check`), the folder cannot be written, or
        the disk is full.
    """
    folder = Path(folder)
    check(vocabulary, merges, f"the vocabulary for {folder}")
    for rank, (first, second) in enumerate(merges):
        if len(f"{first} {second}".split()) != 2 or (first + second).split() != [first + second]:
            raise UserError(
                f"the vocabulary for {folder}: merge {rank + 1} joins {first!r} and {second!r}; "
                "merges.txt cannot hold white space within entries"
            )
    ordered = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))
    lines = "".join(f"{first} {second}\n" for first, second in merges)
    tokenizer = bpe_json.build(kind, ordered, merges)
    write_text(folder / "vocab.json", json.dumps(ordered, ensure_ascii=False) + "\n")
    write_text(folder / "merges.txt", f"#version: 0.2\n{lines}")
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", _config(kind, ordered, max_length))


def read_bpe(path: str | os.PathLike[str]) -> tuple[str, dict[str, int], list[Merge], str]:
    """Reads a folder, a tokenizer.json, or a vocabulary with the merges beside it.

    Returns:
      The kind ("bpe" or "byte-bpe"), the vocabulary, the merges, and the file's name for messages.

    Raises:
      UserError: Nothing there, files that belong to different vocabularies, or rules that are
        neither GPT's nor GPT-2's.
    """
    path = Path(path)
    if path.is_dir():
        pair, json_path = files_of(path), path / "tokenizer.json"
    elif path.name in _PARTNERS:
        pair, json_path = _pair_of(path.parent, _PARTNERS[path.name]), None
    else:
        pair, json_path = None, path
    if json_path is not None and (pair is None or json_path.is_file()):
        kind, vocabulary, merges = bpe_json.parse(read_json(json_path), str(json_path))
        if pair is not None:
            _check_same(*_read_pair(*pair), pair, vocabulary, merges, json_path)
        source = json_path
    else:
        assert pair is not None
        vocabulary, merges = _read_pair(*pair)
        kind = "bpe" if any(entry.endswith(END_OF_WORD) for entry in vocabulary) else "byte-bpe"
        source = pair[0]
    if path.is_dir():
        check_class(path, _CLASSES[kind])
    _check_config(source.with_name("tokenizer_config.json"), kind)
    return kind, vocabulary, merges, str(source)


def files_of(folder: Path) -> tuple[Path, Path] | None:
    """The vocabulary and the merges in a folder, None without.

    Raises:
      UserError: One without the other, or two pairs.
    """
    there = [names for names in NAMES if any((folder / name).is_file() for name in names)]
    if len(there) > 1:
        raise UserError(
            f"{folder} holds {' and '.join(vocabulary for vocabulary, _ in there)}; expected one "
            f"vocabulary (name the file: --tokenizer={folder / there[0][0]})"
        )
    return _pair_of(folder, there[0]) if there else None


def check(vocabulary: Mapping[str, int], merges: Sequence[Merge], source: str) -> tuple[str, ...]:
    """Entries by id of a vocabulary that fits its merges.

    Raises:
      UserError: Ids that are not 0, 1, 2 and so on, entries that are not text, a merge that names
        or makes what is no entry, or stands there twice.
    """
    entries = tuple(tokenizer_json.in_order(dict(vocabulary), source))
    if not entries:
        raise UserError(f"{source} is empty; expected a vocabulary")
    if any("\ud800" <= c <= "\udfff" for c in set("".join(entries))):
        raise UserError(f"{source} holds half a surrogate pair; expected entries that are text")
    seen: dict[Merge, int] = {}
    for rank, (first, second) in enumerate(merges):
        for part in (first, second, first + second):
            if part not in vocabulary:
                raise UserError(
                    f"{source}: merge {rank + 1} joins {first!r} and {second!r}, but {part!r} is "
                    f"no entry of the vocabulary ({len(entries)} entries); expected the vocabulary "
                    "and the merges of one model"
                )
        if seen.setdefault((first, second), rank) != rank:
            raise UserError(
                f"{source}: merge {rank + 1} joins {first!r} and {second!r}, as merge "
                f"{seen[first, second] + 1} does already; expected every merge once"
            )
    return entries


def _pair_of(folder: Path, names: tuple[str, str]) -> tuple[Path, Path]:
    missing = [name for name in names if not (folder / name).is_file()]
    if len(missing) == 2:
        raise UserError(
            f"no tokenizer at {folder / names[0]}: there is no such file, nor {names[1]}"
        )
    if missing:
        (there,) = set(names) - set(missing)
        raise UserError(
            f"{folder} holds {there} but no {missing[0]}; expected both (a vocabulary and its "
            "merges belong together)"
        )
    return folder / names[0], folder / names[1]


def _read_pair(vocabulary: Path, merges: Path) -> tuple[dict[str, int], list[Merge]]:
    entries = read_json(vocabulary)
    tokenizer_json.in_order(entries, str(vocabulary))
    read = _read_merges(merges)
    check(entries, read, f"{vocabulary.name} and {merges.name} in {vocabulary.parent}")
    return entries, read


def _read_merges(path: Path) -> list[Merge]:
    """The lines of a file of merges: a header that begins with "#version", then two entries a line.

    Merges made by hand may lack the header; a first line "# #" is a merge.
    """
    lines = read_text(path).split("\n")
    start = 1 if lines[0].startswith("#version") else 0
    while lines and not lines[-1].strip("\r"):
        lines.pop()
    merges = []
    for number, line in enumerate(lines[start:], start + 1):
        first, space, second = line.removesuffix("\r").partition(" ")
        if not (first and space and second) or " " in second:
            raise UserError(
                f"{path}, line {number}: {line[:60]!r} is no merge; expected two entries with one "
                "space between them"
            )
        merges.append((first, second))
    return merges


def _check_same(
    listed: dict[str, int],
    listed_merges: list[Merge],
    pair: tuple[Path, Path],
    vocabulary: dict[str, int],
    merges: list[Merge],
    json_path: Path,
) -> None:
    # tokenizer.json may add special tokens that vocab.json does not list.
    differing = [entry for entry, number in listed.items() if vocabulary.get(entry) != number]
    if differing:
        there = vocabulary.get(differing[0], "none")
        raise UserError(
            f"{pair[0]} and {json_path.name} beside it hold different vocabularies: "
            f"{differing[0]!r} has id {listed[differing[0]]} and {there}; remove the wrong file"
        )
    if listed_merges != merges:
        shorter = min(len(merges), len(listed_merges))
        place = next((i for i in range(shorter) if merges[i] != listed_merges[i]), shorter)
        raise UserError(
            f"{pair[1]} and {json_path.name} beside it hold different merges, from merge "
            f"{place + 1} on (of {len(listed_merges)} and {len(merges)}); remove the wrong file"
        )


def _check_config(path: Path, kind: str) -> None:
    if kind == "byte-bpe" and path.is_file() and read_json(path).get("add_prefix_space"):
        raise UserError(
            f"{path}: add_prefix_space is true; expected false, as in GPT-2 (RoBERTa's texts begin "
            "with a space)"
        )


def _config(kind: str, vocabulary: Mapping[str, int], max_length: int) -> dict[str, Any]:
    if kind == "bpe":
        # The class of this name in `transformers`, OpenAIGPTTokenizer, splits text as BERT does.
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "unk_token": UNKNOWN,
        }
    end = END_OF_TEXT if END_OF_TEXT in vocabulary else None
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": max_length,
        "add_prefix_space": False,
        "errors": "replace",
        **{f"{role}_token": end for role in ("bos", "eos", "unk")},
    }
