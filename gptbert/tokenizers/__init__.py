"""Text to ids and back. BERT's WordPiece; what a backbone may ask of any tokenizer.

`basic.py` makes words of text, `wordpiece.py` pieces of words; `files.py` and `tokenizer_json.py`
read and write vocabularies. Special tokens, truncation and padding are not made here: the
pipeline's input transforms place them.
"""

from __future__ import annotations

import os

from gptbert.tokenizers import files
from gptbert.tokenizers.interface import SpecialTokens, Tokenizer
from gptbert.tokenizers.wordpiece import WordPiece

__all__ = ["SpecialTokens", "Tokenizer", "load_tokenizer"]


def load_tokenizer(path: str | os.PathLike[str], *, lowercase: bool | None = None) -> Tokenizer:
    """Loads the WordPiece tokenizer of a BERT.

    Args:
      path: A folder with vocab.txt, tokenizer.json or both, or one of these files.
      lowercase: False for cased, True for uncased; None as the files say, or, for a bare vocab.txt,
        cased if the vocabulary holds a capitalised word such as "The".

    Raises:
      UserError: Nothing there, not UTF-8, not a WordPiece vocabulary with BERT's special tokens,
        repeated entries, gaps in the ids, or files that contradict each other.
    """
    return WordPiece(*files.read_wordpiece(path, lowercase))
