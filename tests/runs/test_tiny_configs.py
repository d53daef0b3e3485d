"""`tiny` of each config of pre-training learns something visible, on real text.

A model that has found nothing but the words' frequencies looks as if it had learnt: its loss has
fallen from log V to the entropy of the unigrams, where small models may stay for as long as the run
lasts. So that entropy is what has to be beaten.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gptbert.pipeline.store import TokenStore
from tests.fabricated import results
from tests.fixtures_runs import call

pytestmark = [pytest.mark.e2e, pytest.mark.long]

KINDS = {"bert": "wordpiece", "gpt": "bpe", "gpt2": "byte-bpe"}
LEAST = 0.25  # nats a token


def unigram_loss(path: Path) -> float:
    """Nats a token of the held-out text under the frequencies of the rest (counts plus a half)."""
    train, held_out = (TokenStore.open(path, split) for split in ("train", "heldout"))
    seen, wanted = (
        np.bincount(store.read(0, store.tokens), minlength=store.vocabulary_size)
        for store in (train, held_out)
    )
    probability = (seen + 0.5) / (seen + 0.5).sum()
    return float(-(wanted * np.log(probability)).sum() / wanted.sum())


@pytest.mark.parametrize("name", KINDS)
def test_it_leaves_the_words_frequencies(name: str, data_dir: Path, tmp_path: Path) -> None:
    text = data_dir / "corpora" / "sample"
    if not text.is_dir():
        pytest.skip(f"no text at {text}")
    vocabulary, store, run = (str(tmp_path / each) for each in ("vocabulary", "store", "run"))
    for command in (
        ("train-vocabulary", f"--kind={KINDS[name]}", "--size=2000", f"--output={vocabulary}"),
        ("prepare-corpus", f"--tokenizer={vocabulary}", "--held_out=0.1", f"--output={store}"),
    ):
        assert call(*command, f"--input={text}", "--quiet").code == 0
    config = (f"--config=configs/{name}.py:tiny", f"--config.corpus={store}")
    assert call("pretrain", *config, f"--workdir={run}", "--quiet").code == 0
    metrics = results(Path(run))["metrics"]
    loss = metrics.get("mlm_loss", metrics["loss"])
    assert loss < unigram_loss(Path(store)) - LEAST
