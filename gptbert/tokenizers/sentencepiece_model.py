"""SentencePiece through its library: spiece.model (or tokenizer.model) to ids and back.

The library encodes; this module reads the file, names the special tokens, and cuts texts of
millions of characters at spaces, since the library takes about 100 bytes for each character.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from gptbert.errors import UserError
from gptbert.tokenizers import memory
from gptbert.tokenizers.files import MAX_FILE_BYTES, check_class, write_bytes, write_json
from gptbert.tokenizers.interface import SpecialTokens, known_ids

MODEL_NAMES = ("spiece.model", "tokenizer.model")

# Classes of `transformers` that hand text to the library as it is: the first adds nothing, the
# second what it is told to. Those of T5 and Llama imitate the library; others change text or ids.
_PLAIN_CLASS = "BertGenerationTokenizer"
_BERT_CLASS = "SentencePieceBackend"
_CLASSES = (_PLAIN_CLASS, _BERT_CLASS, "T5Tokenizer", "LlamaTokenizer")

_SPACE = "\u2581"
_BETWEEN_PLAIN_WORDS = re.compile(r"(?<=[A-Za-z0-9.,]) (?=[A-Za-z0-9])")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Names in use for each special token, the first found is taken.
_SPECIALS = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>"),
    "sep": ("[SEP]", "<sep>"),
    "mask": ("[MASK]", "<mask>"),
    "end_of_text": ("<|endoftext|>", "</s>"),
}


class SentencePiece:
    """A SentencePiece model.

    Args:
      data: The bytes of the model file.
      source: What error messages call it, usually its name.

    Raises:
      UserError: `data` is no SentencePiece model.
    """

    kind = "sentencepiece"

    def __init__(self, data: bytes, source: str = "model") -> None:
        self._data, self._source = data, source
        self._library, self.entries = _load(data, source)
        self.special = self._special_tokens()

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special ones included."""
        return len(self.entries)

    @functools.cached_property
    def continues(self) -> np.ndarray:
        """bool [V]: entries that begin with a letter or a digit instead of a space.

        The ideographs of a text without spaces are told to go on too.
        """
        return np.array([entry[:1].isalnum() for entry in self.entries])

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the file."""
        return hashlib.sha256(self._data).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; half of a surrogate pair, which UTF-8 cannot hold, counts as U+FFFD."""
        return [i for part in self._parts(text) for i in self._library.encode(_utf8(part))]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text, on as many threads as the library takes."""
        texts = list(texts)
        if any(len(text) > memory.BLOCK_CHARACTERS for text in texts):
            return [self.encode(text) for text in texts]
        return self._batch(texts)

    def encode_array(self, text: str) -> np.ndarray:
        """`encode` as int32 [ids]."""
        return np.concatenate(self._arrays(self._parts(text)))

    def encode_arrays(self, texts: Iterable[str]) -> list[np.ndarray]:
        """`encode_array` of each text, which the library gives faster than one after another."""
        texts = list(texts)
        if any(len(text) > memory.BLOCK_CHARACTERS for text in texts):
            return [self.encode_array(text) for text in texts]
        return self._arrays(texts)

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text`; "\u2581" is a space, and what has no piece is the unknown one."""
        return [self.entries[i] for i in self.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text, as far as the model's normalisation kept it; control tokens give nothing.

        Raises:
          IndexError: An id is not in [0, vocabulary_size).
        """
        ids = known_ids(ids, len(self.entries))
        return self._library.decode(ids)

    def save(
        self, folder: str | os.PathLike[str], *, max_length: int = 512, for_bert: bool = False
    ) -> None:
        """Writes the model and tokenizer_config.json (`write_sentencepiece`)."""
        write_sentencepiece(self._data, folder, max_length, for_bert=for_bert)

    def __reduce__(self) -> tuple[type[SentencePiece], tuple[bytes, str]]:
        return SentencePiece, (self._data, self._source)

    def _parts(self, text: str) -> Sequence[str]:
        return list(memory.blocks(text, _BETWEEN_PLAIN_WORDS)) if self._words_are_apart else [text]

    def _arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        return self._batch(texts, return_type="numpy", num_threads=1)

    def _batch(self, texts: Sequence[str], **how: Any) -> list[Any]:
        try:
            return self._library.encode(list(texts), **how)
        except TypeError:  # half of a surrogate pair, which UTF-8 cannot hold
            return self._library.encode([_utf8(text) for text in texts], **how)

    @functools.cached_property
    def _words_are_apart(self) -> bool:
        """Whether the pieces of a text are those of its words, as in all but unusual models."""
        first, second, both, wide = self._library.encode(["to", "be", "to be", " to  be"])
        return both == first + second == wide and not any(_SPACE in e[1:] for e in self.entries)

    def _special_tokens(self) -> SpecialTokens:
        library = self._library
        ids = {}
        for field, names in _SPECIALS.items():
            found = (library.piece_to_id(name) for name in names if name in self.entries)
            ids[field] = next((i for i in found if _is_special(library, i)), None)
        stated = {
            "pad": library.pad_id(),
            "unk": library.unk_id(),
            "end_of_text": library.eos_id(),
        }
        for field, number in stated.items():
            if ids[field] is None and number >= 0:
                ids[field] = number
        return SpecialTokens(**ids)


def read_sentencepiece(path: str | os.PathLike[str]) -> SentencePiece:
    """Reads a model file, or the one in a folder.

    Raises:
      UserError: Not there, far too large, no SentencePiece model, or in a folder whose files are
        for a tokenizer that changes text or ids besides.
    """
    path = Path(path)
    if path.is_dir():
        check_class(path, _CLASSES)
        path = next(path / name for name in MODEL_NAMES if (path / name).is_file())
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UserError(
                f"{path} has {size:,} bytes; expected a SentencePiece model, which has at most "
                f"{MAX_FILE_BYTES:,}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return SentencePiece(data, str(path))


def write_sentencepiece(
    data: bytes, folder: str | os.PathLike[str], max_length: int, *, for_bert: bool = False
) -> None:
    """Writes spiece.model and tokenizer_config.json.

    Args:
      data: The bytes of a model file.
      folder: Made if absent; files of these names are replaced one by one, each at once.
      max_length: `model_max_length`: how many positions the model has.
      for_bert: Whether `transformers` is to make BERT's input of texts and pairs, [CLS] a [SEP] b
        [SEP] and token types. The class that does so is new in its version 5, and has the model
        called tokenizer.model. It makes no difference without [CLS] and [SEP].

    Raises:
      UserError: `data` is no SentencePiece model, the folder cannot be written.
    """
    tokenizer, folder = SentencePiece(data), Path(folder)
    library, special = tokenizer._library, dataclasses.asdict(tokenizer.special)
    ids = {"bos": library.bos_id(), "eos": library.eos_id()}
    ids |= {role: special[role] for role in ("unk", "pad", "sep", "cls", "mask")}
    config: dict[str, Any] = {
        "tokenizer_class": _PLAIN_CLASS,
        "model_max_length": max_length,
        **{
            f"{role}_token": None if i is None or i < 0 else tokenizer.entries[i]
            for role, i in ids.items()
        },
    }
    name = MODEL_NAMES[0]
    if for_bert and None not in (tokenizer.special.cls, tokenizer.special.sep):
        name = MODEL_NAMES[1]
        config |= {
            "tokenizer_class": _BERT_CLASS,
            "special_tokens_pattern": "cls_sep",
            "token_type_ids_pattern": "bert_style",
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        }
    write_bytes(folder / name, data)
    write_json(folder / "tokenizer_config.json", config)


def _load(data: bytes, source: str) -> tuple[sentencepiece.SentencePieceProcessor, tuple[str, ...]]:
    """The library with a model, and the model's entries."""
    library = sentencepiece.SentencePieceProcessor()
    try:
        library.LoadFromSerializedProto(data)
        entries = tuple(library.id_to_piece(list(range(library.vocab_size()))))
    except (RuntimeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{source} is no SentencePiece model ({error}); expected a spiece.model or "
            "tokenizer.model as its library writes it"
        ) from None
    return library, entries


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


def _is_special(library: sentencepiece.SentencePieceProcessor, number: int) -> bool:
    return library.is_control(number) or library.is_unknown(number)
