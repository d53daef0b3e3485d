"""SentencePiece models trained on a page, in process."""

from __future__ import annotations

import functools
import io
from typing import Any

import sentencepiece

from gptbert.tokenizers.sentencepiece_model import SentencePiece
from tests.tokenizers.tiny_bpe import TEXT

BERT: dict[str, Any] = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": 2,
    "eos_id": 3,
    "control_symbols": "[CLS],[SEP],[MASK]",
}


@functools.cache
def data(kind: str, **options: Any) -> bytes:
    """A model file; `kind` is "unigram" or "bpe"."""
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines() * 5),
        model_writer=writer,
        model_type=kind,
        vocab_size=150,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **(BERT | options),
    )
    return writer.getvalue()


def model(kind: str, **options: Any) -> SentencePiece:
    return SentencePiece(data(kind, **options))
