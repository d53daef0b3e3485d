"""The HTML page: what it says, what it never does, and that a real browser shows it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ElementTree
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gptbert.errors import UserError
from gptbert.reports.curves import loss_chart
from gptbert.reports.page import write_page
from tests.reports.conftest import results

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Collects a page's elements and texts, and checks that its tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def page_of(folder: Path, **changes: Any) -> Page:
    if changes:
        (folder / "results.json").write_text(json.dumps(results() | changes))
    return Page(write_page(folder).read_text(encoding="utf-8"))


def test_page_and_figure_are_written(run_folder: Path) -> None:
    path = write_page(run_folder)
    assert path == run_folder / "report.html"
    assert ElementTree.parse(run_folder / "loss.svg").getroot().tag.endswith("svg")
    names = {file.name for file in run_folder.iterdir()}
    assert not any("tmp" in name for name in names)


def test_page_says_everything(run_folder: Path) -> None:
    page = page_of(run_folder)
    assert page.open == []
    for words in (
        "descriptions", "split dev", "40 examples", "seed 7", "best checkpoint: step 40, epoch 2",
        "0.8000", "0.5000 majority class", "0.4875 before training", "+0.3000", "+0.6125",
        "Matthews correlation", "32 of 40 are right", "8 of 8 mistakes",
        "model.dropout", "0.1", "bert-mini", "0.10.2", "0123abc", "3,456.0", "93.2",
        "gptbert finetune '--workdir=my runs/a'",
    ):  # fmt: skip
        assert words in page.text, words


def test_page_has_the_three_figures(run_folder: Path) -> None:
    labels = [a["aria-label"] or "" for tag, a in page_of(run_folder).elements if tag == "svg"]
    assert [label.split(".")[0] for label in labels] == ["Loss", "Evaluation", "Confusion matrix"]
    assert "evaluation loss" in labels[0]
    assert "Accuracy goes from 0.4875 at 0 to 0.8 at 60" in labels[1]
    assert "32 of 40" in labels[2]


def test_page_needs_nothing_from_outside(run_folder: Path) -> None:
    page = page_of(run_folder)
    assert not [tag for tag, _ in page.elements if tag in ("script", "img", "iframe", "object")]
    references = [a.get(key) for _, a in page.elements for key in ("src", "href") if key in a]
    assert references == ["data:,"]
    assert "url(" not in page.text and "@import" not in page.text
    (policy,) = [a["content"] for _, a in page.elements if "http-equiv" in a]
    assert policy and policy.startswith("default-src 'none'")


def test_untrusted_texts_stay_texts(run_folder: Path) -> None:
    page = page_of(run_folder)
    assert "<script>document.title" in page.text
    assert '"><img src=x onerror=alert(1)>' in page.text
    assert not [a for _, a in page.elements if "onerror" in a]


def test_page_is_accessible(run_folder: Path) -> None:
    page = page_of(run_folder)
    tags = [tag for tag, _ in page.elements]
    assert ("html", {"lang": "en"}) in page.elements
    assert tags.count("h1") == 1 and tags.count("main") == 1
    assert all(a.get("role") == "img" and a["aria-label"] for t, a in page.elements if t == "svg")
    assert all(a.get("scope") in ("row", "col") for t, a in page.elements if t == "th")
    assert "✗ wrong" in page.text and "✓ right" in page.text  # not by colour alone


def test_most_confident_mistakes_come_first(run_folder: Path) -> None:
    shown = re.findall(r"text (\d+) ", page_of(run_folder).text)
    assert shown[:8] == ["35", "30", "25", "20", "15", "10", "5", "0"]


def test_classes_are_in_the_models_order(run_folder: Path) -> None:
    confusion = {"classes": ["zebra", "ape", "lynx"], "matrix": [[1, 0, 0], [1, 0, 0], [1, 0, 0]]}
    html = page_of(run_folder, confusion=confusion).text
    chart = html[html.index("Confusion matrix") :]
    assert chart.index("zebra") < chart.index("ape") < chart.index("lynx")


def test_long_texts_are_folded_not_cut(run_folder: Path) -> None:
    row = {"id": "0", "texts": ["long " * 200], "label": "a", "prediction": "b"}
    page = page_of(run_folder, predictions=[row])
    assert "details" in [tag for tag, _ in page.elements]
    assert "long " * 200 in page.texts


def test_scores_have_errors_instead_of_verdicts(run_folder: Path) -> None:
    rows = [
        {"id": str(n), "texts": [f"pair {n}"], "label": float(n), "prediction": 2.5}
        for n in range(5)
    ]
    changes = {"predictions": rows, "metrics": {"pearson": math.nan}, "confusion": None}
    page = page_of(run_folder, **changes, examples=5)
    assert "5 examples, the largest errors first" in page.text
    assert re.findall(r"pair (\d)", page.text)[0] == "0"
    assert "off by 2.5" in page.text and "Confusion" not in page.text and "nan" in page.text
    assert "Collapsed" in page.text


def test_a_part_of_the_predictions_is_no_verdict(run_folder: Path) -> None:
    """The examples that are kept may all be of one class; the counts are those of the split."""
    rows = [row | {"label": "yes", "prediction": "yes"} for row in results()["predictions"][:24]]
    confusion = {"classes": ["no", "yes"], "matrix": [[480, 20], [100, 400]]}
    changes = {"predictions": rows, "examples": 1000, "confusion": confusion}
    for collapsed in ({"collapsed": False}, {}):
        page = page_of(run_folder, **changes, **collapsed)
        assert "Collapsed" not in page.text and "880 of 1,000 are right" in page.text
        assert "Shown: 0 of 120 mistakes" in page.text
    assert "Collapsed" in page_of(run_folder, **changes, collapsed=True).text
    page = page_of(run_folder, predictions=rows, examples=1000, confusion=None)
    assert "Which classes are confused" not in page.text, "a few examples are no matrix"
    assert "are right" not in page.text and "8 right answers" in page.text


def test_collapsed_run_is_flagged(run_folder: Path) -> None:
    rows = [row | {"prediction": "yes"} for row in results()["predictions"]]
    assert "every prediction is yes" in page_of(run_folder, predictions=rows).text
    assert "Collapsed" not in page_of(run_folder, predictions=results()["predictions"]).text


def test_only_what_is_there_is_told(run_folder: Path) -> None:
    few = {"task": "rte", "split": "dev", "metrics": {"accuracy": 0.5}, "examples": 277}
    (run_folder / "results.json").write_text(json.dumps(few))
    (run_folder / "metrics.jsonl").write_text("")
    page = Page(write_page(run_folder).read_text(encoding="utf-8"))
    assert "No evaluation was logged" in page.text and "no values were logged" in page.text
    assert "Examples" not in page.text and "Before" not in page.text


def test_texts_that_are_not_unicode_are_shown(run_folder: Path) -> None:
    row = {"id": "0", "texts": ["\ud800 \x00 torn"], "label": "a", "prediction": "b"}
    assert "\ufffd \ufffd torn" in page_of(run_folder, predictions=[row]).text


def test_loss_that_became_nan_is_drawn() -> None:
    series = {"train/loss": [(float(n), math.nan if n > 30 else 1.0 / n) for n in range(1, 61)]}
    path = ElementTree.fromstring(loss_chart(series))
    assert "nan" not in "".join(e.attrib.get("d", "") for e in path.iter())


def test_smoothed_loss_is_a_mean_and_says_so() -> None:
    series = {"train/loss": [(float(n), float(n % 2)) for n in range(100)]}
    label = ElementTree.fromstring(loss_chart(series)).attrib["aria-label"]
    assert "training loss, mean of 5 values" in label and "as logged" in label


def test_failed_write_leaves_the_old_page(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_page(run_folder).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_page(run_folder)
    assert (run_folder / "report.html").read_bytes() == old
    assert not [file for file in run_folder.iterdir() if file.name.endswith(".tmp")]


# --- In a real browser ---

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--window-size=1100,2000", "--enable-logging=stderr",
)  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium to see the page in a browser")
    return found


def browse(chromium: str, page: Path, profile: Path, *flags: str) -> tuple[str, str]:
    """Opens a page; returns what the browser makes of it and what it has to complain about."""
    process = subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return process.stdout, "\n".join(re.findall(r".*CONSOLE.*", process.stderr))


@pytest.mark.e2e
def test_browser_shows_the_page(chromium: str, run_folder: Path, tmp_path: Path) -> None:
    dom, complaints = browse(chromium, write_page(run_folder), tmp_path / "profile", "--dump-dom")
    assert complaints == ""
    assert "<title>descriptions · dev</title>" in dom  # no script of the data has run
    assert '<p class="big">0.8000</p>' in dom
    assert re.search(r'<path class="gb-line gb-s0" d="M[\d.]+ [\d.]+L', dom)
    assert not re.search(r'(src|href)="(?!data:)', dom)


@pytest.mark.e2e
def test_browser_complains_of_what_it_refuses(chromium: str, tmp_path: Path) -> None:
    """That silence means something: a page with a forbidden script is complained about."""
    page = tmp_path / "bad.html"
    policy = "default-src 'none'"
    page.write_text(
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><script>1</script>'
    )
    _, complaints = browse(chromium, page, tmp_path / "profile", "--dump-dom")
    assert "Content Security Policy" in complaints


@pytest.mark.e2e
def test_browser_paints_the_page(chromium: str, run_folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "page.png"
    browse(chromium, write_page(run_folder), tmp_path / "profile", f"--screenshot={image}")
    light, dark = (0xF4, 0xF6, 0xF9), (0x0E, 0x13, 0x1B)  # the grounds of the style sheet
    assert first_pixel(image) in (light, dark)


def first_pixel(image: Path) -> tuple[int, ...]:
    """The top left pixel of an 8-bit RGB(A) PNG: its first row needs no earlier one."""
    data, at, packed = image.read_bytes(), 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    return tuple(zlib.decompress(packed)[1:4])
