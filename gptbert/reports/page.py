"""One finished run as one HTML page that opens anywhere: no script, no network, no other file."""

from __future__ import annotations

from pathlib import Path

from gptbert.reports.curves import loss_chart
from gptbert.reports.finetuning_page import finetuning_page
from gptbert.reports.frame import write_text
from gptbert.reports.pretraining_page import pretraining_page
from gptbert.reports.run_folder import read_run


def write_page(workdir: Path) -> Path:
    """Writes `report.html` and `loss.svg` into a finished run's folder; returns the page's path.

    Read are `results.json`, `config.json`, `metrics.jsonl` and, if there, `run.json`. UserError
    if one is missing, torn or without a required key, or the folder cannot be written.
    """
    run = read_run(Path(workdir))
    if run.is_pretraining:
        loss = loss_chart(run.series, scored="held-out")
        html = pretraining_page(run, loss)
    else:
        loss = loss_chart(run.series)
        html = finetuning_page(run, loss)
    page = run.folder / "report.html"
    write_text(run.folder / "loss.svg", loss)
    write_text(page, html)
    return page
