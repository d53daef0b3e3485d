"""Text to ids and back, for the four kinds of vocabulary; what a backbone may ask of any of them.

| kind | words | pieces | files |
| --- | --- | --- | --- |
| "wordpiece" (BERT) | `basic.py` | `wordpiece.py` | `files.py`, `tokenizer_json.py` |
| "bpe" (GPT) | `gpt_words.py` | `bpe.py`, `merges.py` | `bpe_files.py`, `bpe_json.py` |
| "byte-bpe" (GPT-2) | `byte_bpe.py` | `byte_bpe.py`, `merges.py` | `bpe_files.py`, `bpe_json.py` |
| "sentencepiece" | its library | its library | `sentencepiece_model.py` |

Special tokens, truncation and padding are not made here: the pipeline's input transforms place
them, and no special token written in a text becomes its id.
"""

from __future__ import annotations

import os
from pathlib import Path

from gptbert.errors import UserError
from gptbert.tokenizers import bpe_files, files
from gptbert.tokenizers.bpe import GptBpe
from gptbert.tokenizers.byte_bpe import ByteBpe
from gptbert.tokenizers.interface import SpecialTokens, Tokenizer
from gptbert.tokenizers.sentencepiece_model import MODEL_NAMES, read_sentencepiece
from gptbert.tokenizers.wordpiece import WordPiece

__all__ = ["KINDS", "SpecialTokens", "Tokenizer", "holds_tokenizer", "load_tokenizer"]

KINDS = ("wordpiece", "bpe", "byte-bpe", "sentencepiece")

_CASE = {"bpe": True, "byte-bpe": False}


def load_tokenizer(path: str | os.PathLike[str], *, lowercase: bool | None = None) -> Tokenizer:
    """Loads a tokenizer, whichever kind the files are of.

    Args:
      path: A folder, or one of its files: vocab.txt (or any text file with an entry a line),
        tokenizer.json, vocab.json or merges.txt (or one of their released names), spiece.model or
        tokenizer.model (or any *.model). In a folder, a tokenizer.json beside a SentencePiece model
        is not read.
      lowercase: For WordPiece, False for cased, True for uncased; None as the files say, or, for a
        bare vocab.txt, cased if the vocabulary holds a capitalised word such as "The". For another
        kind, what it does anyway, or None.

    Raises:
      UserError: No name, nothing there, files of several kinds or that contradict each other, not
        UTF-8, repeated entries, gaps in the ids, missing special tokens, rules that are not
        implemented, files that are for another class of tokenizer.
    """
    if not os.fspath(path):
        raise UserError("a tokenizer without a name; expected a folder or one of its files")
    kind = _kind_of(Path(path))
    if kind == "wordpiece":
        return WordPiece(*files.read_wordpiece(path, lowercase))
    tokenizer = _read_other(kind, Path(path))
    if lowercase is not None and lowercase != _CASE.get(tokenizer.kind):
        raise UserError(
            f"{path} is of kind {tokenizer.kind}, whose files settle the case of letters; expected "
            "lowercase (--cased) to be given for wordpiece only"
        )
    return tokenizer


def holds_tokenizer(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has a file of a tokenizer, of any kind and whether it can be read or not."""
    pairs = (name for pair in bpe_files.NAMES for name in pair)
    names = ("vocab.txt", "tokenizer.json", *pairs, *MODEL_NAMES)
    return any((Path(folder) / name).is_file() for name in names)


def _read_other(kind: str, path: Path) -> Tokenizer:
    if kind == "sentencepiece":
        return read_sentencepiece(path)
    kind, vocabulary, merges, source = bpe_files.read_bpe(path)
    return (GptBpe if kind == "bpe" else ByteBpe)(vocabulary, merges, source)


def _kind_of(path: Path) -> str:
    """ "wordpiece", "bpe" (of either kind) or "sentencepiece", by the files that are there."""
    if path.is_dir():
        return _kind_of_folder(path)
    if path.suffix == ".model":
        return "sentencepiece"
    if any(path.name in names for names in bpe_files.NAMES):
        return "bpe"
    if path.suffix == ".json" and path.is_file():
        return _kind_of_json(path)
    return "wordpiece"


def _kind_of_folder(folder: Path) -> str:
    def there(*names: str) -> list[str]:
        return [name for name in names if (folder / name).is_file()]

    found = {
        "wordpiece": there("vocab.txt"),
        "bpe": [pair[0] for pair in bpe_files.NAMES if len(there(*pair)) == 2],
        "sentencepiece": there(*MODEL_NAMES),
    }
    kinds = [kind for kind, names in found.items() if names]
    if len(kinds) > 1:
        held = " and ".join(found[kind][0] for kind in kinds)
        first = folder / found[kinds[0]][0]
        raise UserError(
            f"{folder} holds {held}, of different kinds; expected one tokenizer a folder (name the "
            f"file: --tokenizer={first})"
        )
    if kinds:
        return kinds[0]
    if there("tokenizer.json"):
        return _kind_of_json(folder / "tokenizer.json")
    if holds_tokenizer(folder / "tokenizer"):
        raise UserError(
            f"{folder} holds no tokenizer itself; expected the one in it: {folder / 'tokenizer'}"
        )
    return "bpe" if there(*(name for pair in bpe_files.NAMES for name in pair)) else "wordpiece"


def _kind_of_json(path: Path) -> str:
    model = files.read_json(path).get("model")
    if not isinstance(model, dict):
        return "wordpiece"
    # The files of 2019, GPT-2's among them, do not name their model.
    unnamed = "BPE" if "merges" in model else "WordPiece"
    return "bpe" if (model.get("type") or unnamed) == "BPE" else "wordpiece"
