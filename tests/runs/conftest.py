"""Makes the tiny folders and runs of `tests/fixtures_runs.py` known to the tests here."""

from tests.fixtures_runs import bert_dir, mnli_data, mnli_run, quickly, reviews_run

__all__ = ["bert_dir", "mnli_data", "mnli_run", "quickly", "reviews_run"]
