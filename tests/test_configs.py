"""The recipes of `configs/` hold what was published, field by field.

Sources: BERT paper 4.1, A.2, A.3 and its released code; GPT section 4.1, 4.2 and `train.py`; GPT-2
section 2.3, and for what it leaves open the values that its reproductions agree on.
"""

from __future__ import annotations

import pytest

from gptbert.commands.config_flag import load_config
from gptbert.models.presets import preset
from gptbert.training.optimizer import OPTIMIZERS

BERT_GLUE = {
    "batch_size": 32, "num_epochs": 3.0, "learning_rate": 5e-5, "warmup_proportion": 0.1,
    "optimizer": "bert_adam", "schedule": "bert", "weight_decay": 0.01, "clip_norm": 1.0,
    "dropout": 0.1, "attention_dropout": None, "max_length": 128, "pooling": "cls",
}  # fmt: skip
GPT_GLUE = BERT_GLUE | {
    "learning_rate": 6.25e-5, "warmup_proportion": 0.002, "optimizer": "gpt_adam",
    "schedule": "gpt_linear", "max_length": 512,
}  # fmt: skip
BERT = {
    "objective": "mlm_nsp", "phases": ((0.9, 128), (0.1, 512)), "short_share": 0.1,
    "masking.rate": 0.15, "masking.mixture": (0.8, 0.1, 0.1), "masking.whole_words": False,
    "masking.most": 0, "duplicates": 0, "batch_size": 256, "steps": 1_000_000,
    "learning_rate": 1e-4, "warmup_steps": 10_000, "schedule": "bert", "optimizer": "bert_adam",
    "b2": 0.999, "epsilon": None, "weight_decay": 0.01, "clip_norm": 1.0, "dropout": None,
}  # fmt: skip
GPT = {
    "objective": "next_token", "phases": ((1.0, 512),), "batch_size": 64, "steps": 1_000_000,
    "learning_rate": 2.5e-4, "warmup_steps": 2_000, "schedule": "gpt_cosine",
    "optimizer": "gpt_adam", "b2": 0.999, "epsilon": None, "weight_decay": 0.01, "clip_norm": 1.0,
    "dropout": None,
}  # fmt: skip
GPT2 = {
    "objective": "next_token", "phases": ((1.0, 1024),), "batch_size": 512, "steps": 600_000,
    "learning_rate": 6e-4, "warmup_steps": 2_000, "schedule": "cosine", "final_rate": 0.1,
    "optimizer": "adamw", "b2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1, "clip_norm": 1.0,
    "dropout": None,
}  # fmt: skip
PUBLISHED = {
    **{f"glue.py:{task}": BERT_GLUE for task in ("mnli", "mrpc", "stsb", "rte")},
    **{f"gpt_glue.py:{task}": GPT_GLUE for task in ("mnli", "rte", "stsb")},
    "bert.py:base": BERT | {"model": "bert-base"},
    "bert.py:large": BERT | {"model": "bert-large"},
    "gpt.py:gpt": GPT | {"model": "gpt"},
    "gpt2.py:124m": GPT2 | {"model": "gpt2-124m"},
    "gpt2.py:355m": GPT2 | {"model": "gpt2-355m", "learning_rate": 3e-4},
    "gpt2.py:774m": GPT2 | {"model": "gpt2-774m", "learning_rate": 2.5e-4},
    "gpt2.py:1558m": GPT2 | {"model": "gpt2-1558m"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_was_published(name: str) -> None:
    config = load_config(f"configs/{name}", [], example="")
    for field, value in PUBLISHED[name].items():
        found = config
        for part in field.split("."):
            found = found[part]
        assert found == value, f"{name}: {field} is {found}, published is {value}"
    assert config.init_from == "" and config.frozen == () and config.seed == 0


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "glue" not in name])
def test_no_phase_is_longer_than_the_positions(name: str) -> None:
    config = load_config(f"configs/{name}", [], example="")
    longest = max(length for _, length in config.phases)
    assert longest == preset(config.model).positions


# Dropout on features, on attention, on embeddings; positions; LayerNorm's epsilon; its place.
SHAPES = {
    "bert-base": (0.1, 0.1, None, 512, 1e-12, None),
    "bert-large": (0.1, 0.1, None, 512, 1e-12, None),
    "gpt": (0.1, 0.1, 0.1, 512, 1e-5, "post"),
    "gpt2-124m": (0.0, 0.0, 0.0, 1024, 1e-5, "pre"),
    "gpt2-1558m": (0.0, 0.0, 0.0, 1024, 1e-5, "pre"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_presets_say(name: str) -> None:
    shape = preset(name)
    names = ("dropout", "attention_dropout", "embedding_dropout", "positions")
    names += ("norm_epsilon", "norm_place")
    assert tuple(getattr(shape, each, None) for each in names) == SHAPES[name]
    assert shape.initial_stddev == 0.02
    if name != "gpt" and "gpt" in name:
        assert shape.position_stddev == 0.01 and shape.residual_scaling


def test_the_optimizers_constants() -> None:
    assert OPTIMIZERS == {"bert_adam": 1e-6, "gpt_adam": 1e-8, "adamw": 1e-6}
