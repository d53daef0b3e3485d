"""GPT's words beside those of ftfy and spaCy, where these two are installed."""

from __future__ import annotations

import difflib
import random
import re
from pathlib import Path

import pytest

from gptbert.tokenizers import gpt_words

ftfy = pytest.importorskip("ftfy", reason="ftfy is not installed")
spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
pytestmark = [pytest.mark.parity, pytest.mark.torch]  # torch: the ring that has them


def rewritten(text: str) -> str:
    """The released standardisation, from its description."""
    for dash in "—–―":
        text = text.replace(dash, "-")
    text = text.replace("…", "...").replace("´", "'")
    for mark in gpt_words.PADDED:
        text = re.sub(f"{re.escape(mark)}+", r" \g<0> ", text)
    text = re.sub(r"\s*\n\s*", " \n ", text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def test_real_text(data_dir: Path) -> None:
    """At least 99.95% of the words are the same."""
    tokenize = spacy.blank("en").make_doc
    equal = total = differing = lines = 0
    for path in sorted((data_dir / "corpora" / "sample").iterdir()):
        texts = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        random.Random(0).shuffle(texts)
        for text in filter(lambda text: not text.startswith("<"), texts[:1500]):
            ours = gpt_words.words(text)
            theirs = [token.text.lower() for token in tokenize(rewritten(ftfy.fix_text(text)))]
            lines, total = lines + 1, total + len(theirs)
            if ours == theirs:
                equal += len(theirs)
                continue
            differing += 1
            matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
            equal += sum(block.size for block in matcher.get_matching_blocks())
    print(f"{equal} of {total} words are the same, {differing} of {lines} lines differ")
    assert total > 50_000
    assert equal / total > 0.9995
