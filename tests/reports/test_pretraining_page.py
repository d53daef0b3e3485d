"""The page of a pre-training run: held-out figures with their denominator, curves, speed."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from gptbert.reports.page import write_page
from tests.reports.conftest import SCRIPT, pretraining_log, pretraining_results
from tests.reports.test_page import Page, browse, chromium  # noqa: F401


def page_of(folder: Path, **changes: Any) -> Page:
    (folder / "results.json").write_text(json.dumps(pretraining_results() | changes))
    return Page(write_page(folder).read_text(encoding="utf-8"))


def figures(page: Page) -> dict[str, str]:
    """What screen readers hear of each figure, by its title."""
    labels = [a["aria-label"] or "" for tag, a in page.elements if tag == "svg"]
    return {label.split(".")[0]: label for label in labels}


def test_page_says_everything(pretraining_folder: Path) -> None:
    page = page_of(pretraining_folder)
    assert page.open == []
    for words in (
        "Pre-training report", "pretraining/mlm_nsp", "bert-tiny", "4,433,468 parameters", "seed 3",
        "MLM accuracy", "0.2500", "550.0", "625.0 at step 30",
        "Over 3,738 predictions in 376 examples (23,950 tokens)",
        "3,628.5", "25", "6.42%", "1.00 GiB", "no published peak for cpu", "32 x 64", "117,022",
        "gptbert pretrain --workdir=run", "config.corpus", "0.10.2",
    ):  # fmt: skip
        assert words in page.text, words


def test_page_has_its_curves(pretraining_folder: Path) -> None:
    heard = figures(page_of(pretraining_folder))
    assert list(heard) == ["Loss", "Accuracy", "Learning rate", "Gradient norm"]
    assert "training loss, mean of 5 values goes from 7.96 at 2" in heard["Loss"]
    assert "held-out loss goes from 6.938 at 30 to 6.188 at 60" in heard["Loss"]
    assert "MLM accuracy, held out goes from 0.25 at 30" in heard["Accuracy"]
    assert "rate goes from 0.0009667 at 2 to 0 at 60" in heard["Learning rate"]


def test_loss_is_a_picture_too(pretraining_folder: Path) -> None:
    html = write_page(pretraining_folder).read_text(encoding="utf-8")
    picture = pretraining_folder / "loss.svg"
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert picture.read_text(encoding="utf-8") in html


def test_each_evaluation_has_its_row(pretraining_folder: Path) -> None:
    html = write_page(pretraining_folder).read_text(encoding="utf-8")
    rows = re.findall(r'<tr><th scope="row">(\d+)</th>(.*?)</tr>', html)
    cells = {step: re.findall(r">([^<]+)</td>", row) for step, row in rows}
    assert cells == {
        "30": ["0.75", "6.9375", "6.2500", "625.0", "0.2500", "0.5625", "0.6875"],
        "60": ["1.5", "6.1875", "5.5000", "550.0", "0.2500", "0.5625", "0.6875"],
    }


def test_untrusted_texts_stay_texts(pretraining_folder: Path) -> None:
    page = page_of(pretraining_folder)
    assert SCRIPT in page.text and not [tag for tag, _ in page.elements if tag == "script"]


def test_next_tokens_have_perplexity_and_bits(pretraining_folder: Path) -> None:
    metrics = {"loss": 5.5, "perplexity": 244.7, "accuracy": 0.125, "bits_per_byte": 2.125}
    records = [
        {"step": record["step"], "train/token_accuracy": 0.0625, "eval/accuracy": 0.125}
        for record in pretraining_log()
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (pretraining_folder / "metrics.jsonl").write_text(lines)
    evaluations = [{"step": 60, "epoch": 1.5, "metrics": metrics}]
    page = page_of(
        pretraining_folder, task="pretraining/next_token", metrics=metrics, evaluations=evaluations
    )
    assert "244.7" in page.text and "2.1250" in page.text and "Bits per byte" in page.text
    heard = figures(page)["Accuracy"]
    assert "Accuracy, training" in heard and "Accuracy, held out goes from 0.125" in heard


def test_nothing_held_out_is_told(pretraining_folder: Path) -> None:
    log = pretraining_folder / "metrics.jsonl"
    records = map(json.loads, log.read_text().splitlines())
    kept = [{k: v for k, v in r.items() if not k.startswith("eval/")} for r in records]
    log.write_text("".join(json.dumps(record) + "\n" for record in kept))
    page = page_of(pretraining_folder, held_out=None, evaluations=[], metrics={})
    assert "Nothing was held out" in page.text
    assert "held-out loss" not in figures(page)["Loss"]


def test_utilisation_is_told_where_the_peak_is_known(pretraining_folder: Path) -> None:
    log = pretraining_folder / "metrics.jsonl"
    log.write_text(log.read_text() + json.dumps({"step": 60, "utilisation": 0.525}) + "\n")
    page = page_of(pretraining_folder)
    assert "52.5%" in page.text and "no published peak" not in page.text


def test_only_what_is_there_is_told(pretraining_folder: Path) -> None:
    few = {"task": "pretraining/mlm", "split": "heldout", "metrics": {}}
    (pretraining_folder / "results.json").write_text(json.dumps(few))
    (pretraining_folder / "metrics.jsonl").write_text("")
    page = Page(write_page(pretraining_folder).read_text(encoding="utf-8"))
    assert list(figures(page)) == ["Loss"] and "no values were logged" in page.text


@pytest.mark.e2e
def test_browser_shows_the_page(chromium: str, pretraining_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    page = write_page(pretraining_folder)
    dom, complaints = browse(chromium, page, tmp_path / "profile", "--dump-dom")
    assert complaints == ""
    assert "<title>pretraining/mlm_nsp · heldout</title>" in dom
