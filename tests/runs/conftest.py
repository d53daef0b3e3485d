"""Makes the tiny folders and runs of `tests/fixtures_runs.py` known to the tests here."""

import pytest

from gptbert.models.presets import PRESETS
from tests.fixtures_pretraining import TINY, make_text_store
from tests.fixtures_runs import bert_dir, mnli_data, mnli_run, quickly, reviews_run

__all__ = ["bert_dir", "mnli_data", "mnli_run", "quickly", "reviews_run"]


@pytest.fixture(scope="package", autouse=True)
def tiny_presets():
    """The models of `tests/fixtures_pretraining.py` are known by name."""
    PRESETS.update(TINY)
    yield
    for name in TINY:
        del PRESETS[name]


@pytest.fixture(scope="session")
def text_store(tmp_path_factory):
    """A small corpus with its tokenizer."""
    return make_text_store(tmp_path_factory.mktemp("corpus") / "store")
