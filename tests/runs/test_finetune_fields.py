"""Each field of a fine-tuning config changes what it must by the time training begins, no more."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptbert.commands.config_flag import load_config
from gptbert.models.parameters import merge
from gptbert.runs import finetune
from gptbert.runs.assemble import assemble
from tests.fabricated import make_glue
from tests.fixtures_pretraining import make_tokenizer_folder
from tests.runs.wiring import Wired, expected_updates, stop_at_training, updates_of

pytestmark = pytest.mark.usefixtures("quickly")

STEPS = 11  # 3 epochs of 60 examples in batches of 16


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> Path:
    return make_glue(tmp_path_factory.mktemp("glue"), "mrpc", words=5)


@pytest.fixture(scope="module")
def start(glue: Path, bert_dir: Path, tmp_path_factory) -> Any:
    """Begins a run of the paper's recipe with some fields changed."""

    def begin(recipe: str = "glue", **fields: object) -> Wired:
        weights: dict[str, object] = {"init_from": bert_dir}
        if recipe == "gpt_glue":
            vocabulary = tmp_path_factory.mktemp("vocabulary") / "words"
            weights = {"model": "test-gpt", "tokenizer": make_tokenizer_folder(vocabulary)}
        given = {"data_dir": glue, "max_length": 40, "batch_size": 16, "lean_vocabulary": False}
        given |= weights | fields
        flags = [(name, str(value)) for name, value in given.items()]
        config = load_config(f"configs/{recipe}.py:mrpc", flags, example="")
        workdir = tmp_path_factory.mktemp("runs")
        with pytest.MonkeyPatch.context() as patch:
            return stop_at_training(
                patch, finetune, lambda: finetune.finetune(config, workdir, quiet=True)
            )

    return begin


@pytest.fixture(scope="module")
def usual(start: Any) -> dict[str, Any]:
    return facts(start())


def facts(wired: Wired) -> dict[str, Any]:
    """What fields can change, by name."""
    model = merge(wired.training.graph, wired.state.parameters)
    backbone = getattr(model, "bert", None) or model.gpt
    layer = backbone.layers[-1]
    embeddings = getattr(backbone.embeddings, "rate", backbone.config.dropout)
    return {
        "dropout": (wired.training.dropout, model.rate, layer.config.dropout),
        "dropout of embeddings": embeddings,
        "dropout of attention": layer.config.attention_dropout,
        "updates": updates_of(wired.training),
        "rates": wired.rates,
        "examples": wired.plan.examples(0),
        "tokens": wired.batch()[".packed.tokens"],
        "noise": wired.more["seed"],
    }


def changed(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {name for name in one if not np.array_equal(one[name], other[name])}


def test_the_released_recipe(usual: dict[str, Any]) -> None:
    assert usual["dropout"] == (True, 0.1, 0.1)
    assert usual["dropout of embeddings"] == usual["dropout of attention"] == 0.1
    np.testing.assert_allclose(usual["updates"], expected_updates(decay=0.01, clip=1.0), rtol=1e-4)
    warm = [0.0, *(5e-5 * (1 - s / STEPS) for s in range(1, STEPS))]  # 10% of 11 steps are 1
    assert usual["rates"] == pytest.approx(warm)
    assert usual["noise"] == 0


CHANGES: dict[tuple[str, object], set[str]] = {
    ("dropout", 0.3): {"dropout", "dropout of embeddings", "dropout of attention"},
    ("attention_dropout", 0.3): {"dropout of attention"},
    ("weight_decay", 0.2): {"updates"},
    ("clip_norm", 0.5): {"updates"},
    ("optimizer", "adamw"): {"updates"},
    ("optimizer", "gpt_adam"): {"updates", "rates"},
    ("learning_rate", 1e-3): {"rates"},
    ("warmup_proportion", 0.5): {"rates"},
    ("schedule", "constant"): {"rates"},
    ("num_epochs", 2): {"rates"},
    ("seed", 1): {"examples", "tokens", "noise"},
}


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_field_changes_what_it_must(
    name: str, value: Any, start: Any, usual: dict[str, Any]
) -> None:
    found = facts(start(**{name: value}))
    assert changed(usual, found) == CHANGES[name, value]
    updates = {
        "weight_decay": {"decay": 0.2},
        "clip_norm": {"clip": 0.5},
        "adamw": {"corrected": True},
        "gpt_adam": {"epsilon": 1e-8},
    }
    options = {"decay": 0.01, "clip": 1.0} | updates.get(name, updates.get(str(value), {}))
    np.testing.assert_allclose(found["updates"], expected_updates(**options), rtol=1e-4)
    if name in ("dropout", "seed"):
        told = {"dropout": ("dropout", (True, 0.3, 0.3)), "seed": ("noise", 1)}[name]
        assert found[told[0]] == told[1]
    if name == "attention_dropout":
        assert found["dropout of attention"] == 0.3
    if name == "warmup_proportion":
        warm = [s / 5 if s < 5 else 1 - s / STEPS for s in range(STEPS)]
        assert found["rates"] == pytest.approx([5e-5 * share for share in warm])


def test_gpt_s_recipe_corrects_in_the_rate(start: Any) -> None:
    fields = {"dropout": 0.3, "attention_dropout": 0.2, "warmup_proportion": 0.2}
    found = facts(start("gpt_glue", **fields))
    assert found["dropout"] == (True, 0.3, 0.3) and found["dropout of embeddings"] == 0.3
    assert found["dropout of attention"] == 0.2
    expected = expected_updates(decay=0.01, clip=1.0, epsilon=1e-8)
    np.testing.assert_allclose(found["updates"], expected, rtol=1e-4)
    warm_up = 0.2 * STEPS  # not cut to whole steps
    shares = [min(1.0, s / warm_up) * (1 - s / STEPS) for s in range(STEPS)]
    factors = [math.sqrt(1 - 0.999**t) / (1 - 0.9**t) for t in range(1, STEPS + 1)]
    rates = [6.25e-5 * share * factor for share, factor in zip(shares, factors, strict=True)]
    assert found["rates"] == pytest.approx(rates)


def test_the_seed_draws_the_new_head(glue: Path, bert_dir: Path) -> None:
    """And nothing else of a pre-trained model."""
    found = []
    for seed in (0, 1):
        flags = {"data_dir": glue, "max_length": 40, "init_from": bert_dir, "seed": seed}
        fields = [(name, str(value)) for name, value in flags.items()]
        config = load_config("configs/glue.py:mrpc", fields, example="")
        found.append(finetune.start_state(assemble(config)).parameters)
    other = {path for path in found[0] if not np.array_equal(found[0][path], found[1][path])}
    assert other == {"classifier/kernel"}
