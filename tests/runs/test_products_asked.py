"""What runs tell of their work when they ask how to multiply, against sums by hand."""

from pathlib import Path
from typing import Any

import pytest

from gptbert.commands.config_flag import load_config
from gptbert.runs import assemble as finetuning
from gptbert.runs import assemble_pretraining as pretraining
from gptbert.training.products import PLAIN
from tests.fabricated import make_glue
from tests.fixtures_pretraining import tiny_config


@pytest.fixture
def asked(monkeypatch) -> list[tuple[Any, ...]]:
    """The arguments of every choice."""
    found: list[tuple[Any, ...]] = []

    def choose(*given: Any) -> Any:
        found.append(given)
        return PLAIN

    for module in (finetuning, pretraining):
        monkeypatch.setattr(module, "choose_products", choose)
    return found


def test_fine_tuning(asked, tmp_path: Path, bert_dir: Path) -> None:
    glue = make_glue(tmp_path, "mrpc", words=5)
    given = {"data_dir": glue, "init_from": bert_dir, "max_length": 40}
    given |= {"batch_size": 12, "accumulate": 3}
    flags = [(name, str(value)) for name, value in given.items()]
    found = finetuning.assemble(load_config("configs/glue.py:mrpc", flags, example=""))
    lengths = found.features["train"].lengths
    width, inner = found.model.width, found.model.inner
    matrices = found.model.layers * (4 * width**2 + 2 * width * inner)
    ((dtype, flops, tokens),) = asked
    assert dtype == "float32"
    assert flops == 6 * matrices * lengths.sum() * 3  # epochs
    assert tokens == pytest.approx(lengths.mean() * 4)


def test_pre_training(asked, text_store: Path) -> None:
    config = tiny_config("test-bert", text_store, accumulate=2)
    found = pretraining.assemble_pretraining(config)
    width, inner = found.model.width, found.model.inner
    matrices = found.model.layers * (4 * width**2 + 2 * width * inner)
    places = sum(
        count * config.batch_size * length
        for length, count in pretraining.phase_steps(list(config.phases), config.steps)
    )
    ((dtype, flops, tokens),) = asked
    assert dtype == "float32"
    assert flops == 6 * matrices * places
    assert tokens == pytest.approx(places / config.steps / 2)
