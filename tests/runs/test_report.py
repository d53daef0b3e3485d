"""`gptbert report`: the page of a finished run, made again."""

from __future__ import annotations

import pytest

from tests.fixtures_runs import call, refused
from tests.reports.conftest import write_pretraining_folder


def test_report(reviews_run):
    (reviews_run / "report.html").unlink(missing_ok=True)
    called = call("report", f"--workdir={reviews_run}")
    assert called == (0, f"{reviews_run / 'report.html'}\n", "")
    assert "verdict" in (reviews_run / "report.html").read_text()


def test_report_of_pretraining(tmp_path):
    run = write_pretraining_folder(tmp_path / "run")
    assert call("report", f"--workdir={run}") == (0, f"{run / 'report.html'}\n", "")
    assert "3,738 predictions" in (run / "report.html").read_text()
    assert (run / "loss.svg").read_text().startswith("<svg")


def test_no_report_of_a_damaged_pretraining(tmp_path):
    run = write_pretraining_folder(tmp_path / "run")
    (run / "results.json").write_text('{"task": "pretraining/mlm", "split": "heldout"}')
    assert "`metrics` is missing" in refused("report", f"--workdir={run}")
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no run: expected --workdir=RUN"),
        (["--workdir=nowhere"], "no run folder at nowhere"),
        (["--workdir=."], "results.json is missing: the run is not finished"),
    ],
)
def test_no_report(arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told in refused("report", *arguments)
    assert list(tmp_path.iterdir()) == []
