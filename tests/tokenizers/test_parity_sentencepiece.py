"""What `transformers` makes of a saved SentencePiece model."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from gptbert.pipeline.encode import encode_texts
from tests.tokenizers import nasty
from tests.tokenizers.tiny_sentencepiece import model

LINES = nasty.lines(2_200)

pytestmark = [pytest.mark.parity, pytest.mark.torch]
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_transformers_loads_what_is_saved(tmp_path: Path, kind: str) -> None:
    ours = model(kind)
    ours.save(tmp_path, max_length=77)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in LINES[::3]:
        # Its special tokens are found in the text, and lines are stripped around them.
        if not any(name in text for name in ("<", "[")):
            assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text), text
    special = ours.special
    assert (len(theirs), theirs.model_max_length) == (ours.vocabulary_size, 77)
    assert (theirs.pad_token_id, theirs.unk_token_id) == (special.pad, special.unk)
    assert (theirs.cls_token_id, theirs.mask_token_id) == (special.cls, special.mask)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("normalization", ["nmt_nfkc", "nmt_nfkc_cf", "identity"])
def test_transformers_makes_berts_input_of_texts_and_pairs(
    tmp_path: Path, kind: str, normalization: str
) -> None:
    """As ours, in every line; special tokens that stand in a text are told to be text."""
    ours = model(kind, normalization_rule_name=normalization)
    ours.save(tmp_path, max_length=77, for_bert=True)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pairs = list(itertools.pairwise(LINES))[::3]
    single = encode_texts([pair[:1] for pair in pairs], np.zeros(len(pairs)), ours, 10**6)
    paired = encode_texts(pairs, np.zeros(len(pairs)), ours, 10**6)
    for features, texts in ((single, [pair[:1] for pair in pairs]), (paired, pairs)):
        for number, text in enumerate(texts):
            found = theirs(*text, split_special_tokens=True)
            start, end = features.starts[number : number + 2]
            assert found["input_ids"] == features.tokens[start:end].tolist(), text
            types = np.arange(end - start) >= features.first_lengths[number]
            assert found["token_type_ids"] == types.astype(int).tolist(), text
    assert len(theirs("the cat " * 99, truncation=True)["input_ids"]) == 77
    assert (len(theirs), theirs.mask_token_id) == (ours.vocabulary_size, ours.special.mask)
    assert theirs.convert_tokens_to_ids(theirs.tokenize("a [MASK]"))[-1] == ours.special.mask


def test_absent_special_tokens_are_not_added(tmp_path: Path) -> None:
    ours = model("bpe", pad_id=-1, unk_id=0, bos_id=-1, eos_id=-1, control_symbols="")
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == ours.vocabulary_size
    assert theirs.mask_token is None
