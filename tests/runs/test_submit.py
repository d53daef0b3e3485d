"""`gptbert submit`: eleven files in one zip, or what is missing, by name."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from gptbert.datasets.submission import submission_files
from tests.fabricated import contents
from tests.fixtures_runs import call, refused

TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory) -> Path:
    """Run folders of all nine tasks with prediction files of the official sizes."""
    root = tmp_path_factory.mktemp("runs")
    for task in TASKS:
        (root / task / "predictions").mkdir(parents=True)
        (root / task / "config.json").write_text("{}")
        results = {"task": f"glue/{task}", "split": "dev", "metrics": {"accuracy": 0.5}}
        if task == "mnli":
            matched, mismatched = {"accuracy": 0.5}, {"accuracy": 0.25}
            results["splits"] = {"dev_matched": matched, "dev_mismatched": mismatched}
        (root / task / "results.json").write_text(json.dumps(results))
    for name, file in submission_files().items():
        owner = "mnli" if file.task == "ax" else file.task
        value = file.labels[-1] if file.labels else "2.500"
        rows = "".join(f"{index}\t{value}\n" for index in range(file.rows))
        (root / owner / "predictions" / name).write_text(f"index\tprediction\n{rows}")
    return root


@pytest.fixture
def runs(whole_runs, tmp_path, monkeypatch) -> Path:
    """The same, to be spoilt (the largest files by links); the working folder is empty."""
    copy = shutil.copytree(whole_runs, tmp_path / "runs", copy_function=_link)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return copy


def _link(source: str, target: str) -> None:
    if Path(source).suffix == ".tsv":
        Path(target).symlink_to(source)
    else:
        shutil.copy(source, target)


def folders(runs: Path, *left_out: str) -> list[str]:
    return [str(runs / task) for task in TASKS if task not in left_out]


def test_eleven_files(runs):
    called = call("submit", f"--workdirs={','.join(folders(runs))}", "--output=all.zip")
    assert called.code == 0 and called.err == ""
    with zipfile.ZipFile("all.zip") as archive:
        assert sorted(archive.namelist()) == sorted(submission_files())
        for name, file in submission_files().items():
            owner = "mnli" if file.task == "ax" else file.task
            assert archive.read(name) == (runs / owner / "predictions" / name).read_bytes()
    for name, file in submission_files().items():
        row = next(line for line in called.out.splitlines() if line.startswith(f"{name} "))
        owner = "mnli" if file.task == "ax" else file.task
        measured = {"MNLI-mm.tsv": "accuracy 0.2500", "AX.tsv": " -"}.get(name, "accuracy 0.5000")
        assert f"{file.rows:,}" in row and str(runs / owner) in row
        assert row.rstrip().endswith(measured)
    # The same predictions give the same zip, however the runs are named.
    assert call("submit", *reversed(folders(runs)), "--output=again.zip").code == 0
    assert Path("again.zip").read_bytes() == Path("all.zip").read_bytes()


def test_majority_of_wnli(runs):
    called = call("submit", *folders(runs, "wnli"), "--wnli=majority")
    assert called.code == 0 and "always not_entailment" in called.out
    with zipfile.ZipFile("submission.zip") as archive:
        rows = archive.read("WNLI.tsv").decode().splitlines()
    assert rows == ["index\tprediction", *(f"{index}\t0" for index in range(146))]
    told = refused("submit", *folders(runs), "--wnli=majority", "--output=other.zip")
    assert f"{runs / 'wnli'} and --wnli=majority are both of glue/wnli" in told


def test_everything_missing_is_named_at_once(runs):
    """A run without its file, wrong row counts, tasks without a run: one message, no zip."""
    (runs / "mnli" / "predictions" / "AX.tsv").unlink()
    short = runs / "rte" / "predictions" / "RTE.tsv"
    lines = short.read_text().splitlines(keepends=True)
    short.unlink()
    short.write_text("".join(lines[:-1]))
    told = refused("submit", *folders(runs, "cola", "wnli"))
    for expected in (
        "CoLA.tsv is missing (1063 rows, glue/cola test)",
        "WNLI.tsv is missing (146 rows, glue/wnli test)",
        f"{runs / 'mnli' / 'predictions' / 'AX.tsv'}: cannot be read",
        f"{short} has 2999 rows instead of 3000",
        "4 problems",
    ):
        assert expected in told
    assert contents(Path(".")) == {}


def test_a_value_that_is_none(runs):
    path = runs / "sst2" / "predictions" / "SST-2.tsv"
    lines = path.read_text().splitlines()
    path.unlink()
    path.write_text("\n".join([*lines[:7], "6\tpositive", *lines[8:], ""]))
    told = refused("submit", *folders(runs))
    assert f"{path}:8: prediction 'positive' is none of 0, 1" in told


def test_runs_that_cannot_be_used(runs):
    """Unfinished, of one task twice, of no task of GLUE: all named at once."""
    (runs / "cola" / "results.json").unlink()
    shutil.copytree(runs / "mrpc", runs / "mrpc2")
    results = {"task": "text", "split": "dev", "metrics": {}}
    (runs / "qqp" / "results.json").write_text(json.dumps(results))
    (runs / "sst2" / "results.json").unlink()
    (runs / "sst2" / "results.json").write_text("[]")
    told = refused("submit", *folders(runs), runs / "mrpc2", runs / "nowhere")
    assert f"{runs / 'nowhere'} is not a run folder" in told
    assert f"{runs / 'sst2' / 'results.json'} holds [], expected an object" in told
    assert f"{runs / 'cola'} is not finished (no results.json)" in told
    assert f"{runs / 'mrpc2'} and {runs / 'mrpc'} are both of glue/mrpc" in told
    assert f"{runs / 'qqp'} is a run of text" in told
    assert contents(Path(".")) == {}


def test_a_real_run_has_the_files_of_its_data(mnli_run, runs):
    told = refused("submit", mnli_run)
    assert f"{mnli_run / 'predictions' / 'MNLI-m.tsv'} has 7 rows instead of 9796" in told
    assert f"{mnli_run / 'predictions' / 'AX.tsv'} has 9 rows instead of 1104" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no runs: expected gptbert submit RUN RUN"),
        (["nowhere"], "nowhere is not a run folder: results.json is missing"),
        (["--wnli=random", "a"], "invalid choice: 'random'"),
        (["--workdir=a"], "(did you mean '--workdirs'?)"),
    ],
)
def test_refusals(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    assert told in refused("submit", *arguments)
    assert contents(tmp_path) == {}


def test_an_output_that_cannot_be_written(runs):
    told = refused("submit", *folders(runs), "--output=nowhere/all.zip")
    assert "nowhere/all.zip: cannot be written: No such file" in told
