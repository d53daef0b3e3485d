"""What `transformers` makes of a saved SentencePiece model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tokenizers import nasty
from tests.tokenizers.tiny_sentencepiece import model

pytestmark = [pytest.mark.parity, pytest.mark.torch]
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_transformers_loads_what_is_saved(tmp_path: Path, kind: str) -> None:
    ours = model(kind)
    ours.save(tmp_path, max_length=77)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in nasty.lines(2_200)[::3]:
        # Its special tokens are found in the text, and lines are stripped around them.
        if not any(name in text for name in ("<", "[")):
            assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text), text
    special = ours.special
    assert (len(theirs), theirs.model_max_length) == (ours.vocabulary_size, 77)
    assert (theirs.pad_token_id, theirs.unk_token_id) == (special.pad, special.unk)
    assert (theirs.cls_token_id, theirs.mask_token_id) == (special.cls, special.mask)


def test_absent_special_tokens_are_not_added(tmp_path: Path) -> None:
    ours = model("bpe", pad_id=-1, unk_id=0, bos_id=-1, eos_id=-1, control_symbols="")
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == ours.vocabulary_size
    assert theirs.mask_token is None
