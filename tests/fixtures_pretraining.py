"""A store of fabricated documents with its tokenizer, and the configs that train tiny models on it.

Documents repeat a few sentence forms, so that a tiny model learns something within seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gptbert.models import presets
from gptbert.pipeline.store_writer import StoreWriter
from gptbert.runs.pretraining_recipe import pretraining
from gptbert.tokenizers import load_tokenizer
from tests.fixtures_runs import VOCABULARY, WORDS

TINY_BERT = presets.BertConfig(layers=2, width=16, heads=2, inner=64, positions=40)
TINY_GPT = presets.GptConfig(layers=2, width=16, heads=2, inner=64, positions=40)
TINY_GPT2 = presets.GptConfig(
    layers=2, width=16, heads=2, inner=64, positions=40, norm_place="pre", residual_scaling=True,
    dropout=0.0, attention_dropout=0.0, embedding_dropout=0.0, position_stddev=0.01,
)  # fmt: skip
TINY = {"test-bert": TINY_BERT, "test-gpt": TINY_GPT, "test-gpt2": TINY_GPT2}
OBJECTIVE = {"test-bert": "mlm_nsp", "test-gpt": "next_token", "test-gpt2": "next_token"}


def make_tokenizer_folder(folder: Path) -> Path:
    """WordPiece over the words of `fixtures_runs`."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in VOCABULARY))
    return folder


def make_text_store(folder: Path, documents: int = 60, held_out: int = 12, seed: int = 0) -> Path:
    """A token store whose sentences say the same thing twice, in two orders of three words."""
    tokenizer = load_tokenizer(make_tokenizer_folder(folder.with_name(folder.name + "-vocabulary")))
    writer = StoreWriter(
        folder,
        tokenizer_kind=tokenizer.kind,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocabulary_size=tokenizer.vocabulary_size,
    )
    rng = np.random.default_rng(seed)
    for split, count in (("train", documents), ("heldout", held_out)):
        if not count:
            continue
        texts = [[_sentence(rng) for _ in range(rng.integers(3, 9))] for _ in range(count)]
        ids = [tokenizer.encode(sentence) for document in texts for sentence in document]
        writer.add(
            split,
            np.concatenate(ids),
            np.array([len(each) for each in ids]),
            np.array([len(document) for document in texts]),
            words=sum(len(sentence.split()) for document in texts for sentence in document),
            bytes=sum(len(sentence) + 1 for document in texts for sentence in document),
        )
    saved = folder.with_name(folder.name + "-saved")
    tokenizer.save(saved)
    for path in sorted(saved.iterdir()):
        writer.write_file(f"tokenizer/{path.name}", path.read_bytes())
    writer.commit()
    return folder


def _sentence(rng: np.random.Generator) -> str:
    a, b, c = rng.choice(WORDS, 3)
    return f"{a} {b} {c} , {a} {b} {c} ."


def tiny_config(model: str, store: Path, **changes: object) -> ConfigDict:
    """24 steps of 8 examples of 32 tokens; `changes` are fields."""
    config = pretraining(model, OBJECTIVE[model])
    config.corpus, config.phases = str(store), ((1.0, 32),)
    config.batch_size, config.steps, config.warmup_steps = 8, 24, 4
    config.learning_rate, config.log_every, config.eval_every = 3e-3, 1, 12
    config.eval_tokens = 600
    if model != "test-bert":
        config.optimizer, config.schedule = "gpt_adam", "gpt_cosine"
    config.update(changes)
    return config.lock()
