"""Reading a run folder: what is wrong is named, what is torn at the end is tolerated."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gptbert.errors import UserError
from gptbert.reports.run_folder import read_run, read_series
from tests.reports.conftest import pretraining_results, results


def test_run_is_read(run_folder: Path) -> None:
    run = read_run(run_folder)
    assert run.results["metrics"]["accuracy"] == 0.8
    assert run.config["model"]["name"] == "bert-mini"
    assert run.series["eval/accuracy"] == [(20, 0.6), (40, 0.7), (60, 0.8)]
    assert len(run.series["train/loss"]) == 60
    assert run.command == "gptbert finetune '--workdir=my runs/a'"


def test_command_may_be_unknown(run_folder: Path) -> None:
    (run_folder / "run.json").unlink()
    assert read_run(run_folder).command == ""


def test_missing_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gptbert finetune --workdir="):
        read_run(tmp_path / "nowhere")


def test_unfinished_run_is_told_from_a_broken_one(run_folder: Path) -> None:
    (run_folder / "results.json").unlink()
    with pytest.raises(UserError, match=r"not finished.*same command"):
        read_run(run_folder)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_missing_file_is_named(run_folder: Path, name: str) -> None:
    (run_folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        read_run(run_folder)


def with_prediction(row: object) -> str:
    return json.dumps(results() | {"predictions": [row]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n"task": }', r"results.json:2: not JSON"),
        ("[1]", "found a list, expected a JSON object"),
        ("[" * 100_000, "not JSON|nested too deeply"),
        ("{}", "`task` is missing, expected a name"),
        ('{"task": 3}', "`task` is 3, expected a name"),
        ('{"task": "a", "split": "dev", "metrics": {"f1": "x"}, "examples": 2}', "'x' for f1"),
        (json.dumps(results() | {"splits": [1]}), "`splits` is .1., expected an object of splits"),
        (json.dumps(results() | {"splits": {"dev": {"f1": "x"}}}), "`splits.dev` has 'x' for f1"),
        (json.dumps(results() | {"majority_baselines": {"dev": 3}}), "`majority_baselines.dev` is"),
        (with_prediction("text"), r"`predictions` is \['text'\], expected a list of objects"),
        (
            with_prediction({"text": 1}),
            "`predictions` has {'text': 1}, expected texts with a label",
        ),
        (
            with_prediction(
                {"texts": ["a"], "label": "b", "prediction": "b", "probabilities": {"b": "c"}}
            ),
            "expected texts with a label",
        ),
        (json.dumps(results() | {"notes": "one"}), "`notes` is 'one', expected a list of texts"),
        (json.dumps(results() | {"shapes": [3]}), "`shapes` is .3., expected a list of texts"),
        (json.dumps(results() | {"versions": [3]}), "`versions` is .3., expected an object"),
        (json.dumps(results() | {"confusion": [3]}), "`confusion` is .3., expected classes and a"),
        (
            json.dumps(results() | {"confusion": {"classes": ["a", "b"], "matrix": [[1, 2]]}}),
            "expected classes and a square matrix of counts",
        ),
        (with_prediction({"texts": ["a"], "label": "yes", "prediction": 1}), "both names"),
        (with_prediction({"texts": ["a"], "label": 1, "prediction": float("nan")}), "both names"),
    ],
)
def test_broken_results_are_refused(run_folder: Path, content: str, message: str) -> None:
    (run_folder / "results.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_run(run_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": None}, "`metrics` is None, expected an object of numbers"),
        ({"metrics": {"loss": "low"}}, "`metrics` has 'low' for loss, expected a number"),
        ({"held_out": [1]}, r"`held_out` is \[1\], expected an object of counts"),
        ({"held_out": {"examples": 1}}, r"`held_out.predictions` is missing, expected a count"),
        ({"evaluations": {"a": 1}}, "`evaluations` is {'a': 1}, expected a list"),
        ({"evaluations": [{"step": 3}]}, "`evaluations` has {'step': 3}, expected step and epoch"),
        ({"evaluations": ["late"]}, "`evaluations` has 'late', expected step and epoch"),
        (
            {"evaluations": [{"step": 3, "epoch": 1.0, "metrics": 5}]},
            "`evaluations` is 5, expected an object of numbers",
        ),
        (
            {"evaluations": [{"step": 3, "epoch": 1.0, "metrics": {"loss": None}}]},
            "`evaluations` has None for loss, expected a number",
        ),
    ],
)
def test_broken_results_of_pretraining_are_refused(
    pretraining_folder: Path, changes: dict[str, Any], message: str
) -> None:
    path = pretraining_folder / "results.json"
    path.write_text(json.dumps(pretraining_results() | changes))
    with pytest.raises(UserError, match=message):
        read_run(pretraining_folder)


def test_pretraining_needs_no_examples(pretraining_folder: Path) -> None:
    run = read_run(pretraining_folder)
    assert run.is_pretraining and "examples" not in run.results
    assert run.series["eval/loss"] == [(30, 6.9375), (60, 6.1875)]


def test_results_in_another_encoding_are_refused(run_folder: Path) -> None:
    (run_folder / "results.json").write_bytes('{"task": "é"}'.encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_run(run_folder)


# --- The log ---


def log(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("torn", ['{"step": 2, "train/l', "", '{"step": 2', b'{"note": "\xc3'])
def test_torn_last_line_is_left_out(tmp_path: Path, torn: str | bytes) -> None:
    tail = torn if isinstance(torn, bytes) else torn.encode()
    path = log(tmp_path, b'{"step": 1, "train/loss": 0.5}\n' + tail)
    assert read_series(path) == {"train/loss": [(1.0, 0.5)]}


@pytest.mark.parametrize("line", ['{"step": 2', "[1]", '{"train/loss": 1}', '{"step": NaN}', ""])
def test_other_broken_lines_are_named(tmp_path: Path, line: str) -> None:
    path = log(tmp_path, f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl:2: expected a JSON object"):
        read_series(path)


def test_steps_repeated_after_a_resume_count_once(tmp_path: Path) -> None:
    records = [(1, 0.9), (2, 0.8), (3, 0.7), (2, 0.85), (3, 0.75)]
    lines = [json.dumps({"step": step, "train/loss": loss}) for step, loss in records]
    assert read_series(log(tmp_path, "\n".join(lines) + "\n")) == {
        "train/loss": [(1, 0.9), (2, 0.85), (3, 0.75)]
    }


def test_nan_is_kept_and_words_are_not(tmp_path: Path) -> None:
    path = log(tmp_path, '{"step": 1, "train/loss": NaN, "note": "x", "flag": true}\n')
    series = read_series(path)
    assert list(series) == ["train/loss"] and math.isnan(series["train/loss"][0][1])


def test_empty_log_has_no_series(tmp_path: Path) -> None:
    assert read_series(log(tmp_path, "")) == {}
