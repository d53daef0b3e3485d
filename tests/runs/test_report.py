"""`gptbert report`: the page of a finished run, made again."""

from __future__ import annotations

import pytest

from tests.fixtures_runs import call, refused


def test_report(reviews_run):
    (reviews_run / "report.html").unlink(missing_ok=True)
    called = call("report", f"--workdir={reviews_run}")
    assert called == (0, f"{reviews_run / 'report.html'}\n", "")
    assert "verdict" in (reviews_run / "report.html").read_text()


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
