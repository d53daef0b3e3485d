"""The leaderboard's files and zip."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from gptbert.datasets import Example
from gptbert.datasets.glue_tasks import GLUE_TASKS
from gptbert.datasets.submission import (
    SubmissionFile,
    make_submission_zip,
    submission_files,
    write_submission,
)
from gptbert.errors import UserError

THREE = [Example(str(number), ("text",)) for number in range(3)]


def test_the_eleven_files_and_their_row_counts() -> None:
    counts = {name: facts.rows for name, facts in submission_files().items()}
    assert counts == {
        "CoLA.tsv": 1063, "SST-2.tsv": 1821, "MRPC.tsv": 1725, "STS-B.tsv": 1379,
        "QQP.tsv": 390965, "MNLI-m.tsv": 9796, "MNLI-mm.tsv": 9847, "QNLI.tsv": 5463,
        "RTE.tsv": 3000, "WNLI.tsv": 146, "AX.tsv": 1104,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "split", "predictions", "name", "values"),
    [
        ("cola", "test", ["acceptable", "unacceptable"], "CoLA.tsv", ["1", "0"]),
        ("sst2", "test", ["positive", "negative"], "SST-2.tsv", ["1", "0"]),
        ("mrpc", "test", ["equivalent", "not_equivalent"], "MRPC.tsv", ["1", "0"]),
        ("qqp", "test", ["duplicate", "not_duplicate"], "QQP.tsv", ["1", "0"]),
        ("wnli", "test", ["entailment", "not_entailment"], "WNLI.tsv", ["1", "0"]),
        ("rte", "test", ["entailment", "not_entailment"], "RTE.tsv", None),
        ("qnli", "test", ["entailment", "not_entailment"], "QNLI.tsv", None),
        ("mnli", "test", ["neutral", "contradiction"], "MNLI-m.tsv", None),
        ("mnli", "test_mismatched", ["neutral", "entailment"], "MNLI-mm.tsv", None),
        ("ax", "test", ["neutral", "contradiction"], "AX.tsv", None),
        ("stsb", "test", [5.7, -0.2], "STS-B.tsv", ["5.000", "0.000"]),
        ("stsb", "test", [2, 3.14159], "STS-B.tsv", ["2.000", "3.142"]),
    ],
)
def test_values_of_every_task(tmp_path: Path, task, split, predictions, name, values) -> None:
    path = write_submission(task, split, predictions, THREE[:2], tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / name
    rows = [f"{index}\t{value}\n" for index, value in enumerate(values or predictions)]
    assert path.read_bytes().decode() == "index\tprediction\n" + "".join(rows)
    assert os.listdir(path.parent) == [name]


@pytest.mark.parametrize(
    ("task", "prediction", "message"),
    [
        ("rte", "neutral", r"RTE.tsv 0: prediction 'neutral' is none of entailment, not_entail"),
        ("mrpc", 1, r"MRPC.tsv 0: prediction 1 is none of not_equivalent, equivalent"),
        ("stsb", float("nan"), r"STS-B.tsv 0: prediction nan is not a finite score"),
        ("stsb", "high", r"STS-B.tsv 0: prediction 'high' is not a finite score"),
    ],
)
def test_wrong_predictions_leave_no_file(tmp_path: Path, task, prediction, message) -> None:
    with pytest.raises(UserError, match=message):
        write_submission(task, "test", [prediction], THREE[:1], tmp_path)
    assert os.listdir(tmp_path) == []


def test_only_test_splits_are_submitted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"GLUE takes no predictions for glue/rte dev"):
        write_submission("rte", "dev", ["entailment"], THREE[:1], tmp_path)
    with pytest.raises(ValueError, match="1 predictions for 3 examples"):
        write_submission("rte", "test", ["entailment"], THREE, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "RTE.tsv").mkdir()
    with pytest.raises(UserError, match=r"RTE.tsv: cannot be written: Is a directory"):
        write_submission("rte", "test", ["entailment"], THREE[:1], tmp_path)
    assert os.listdir(tmp_path) == ["RTE.tsv"]


def _value(facts: SubmissionFile) -> str:
    return facts.labels[0] if facts.labels else "2.500"


def _constant(folder: Path, name: str) -> Path:
    facts = submission_files()[name]
    rows = "".join(f"{index}\t{_value(facts)}\n" for index in range(facts.rows))
    path = folder / f"of_{name}"
    path.write_text("index\tprediction\n" + rows)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A submission of constant predictions, complete but for QQP, the largest file by far."""
    return {name: _constant(tmp_path, name) for name in submission_files() if name != "QQP.tsv"}


def test_a_complete_submission_is_zipped(files: dict[str, Path], tmp_path: Path) -> None:
    files["QQP.tsv"] = _constant(tmp_path, "QQP.tsv")
    output = tmp_path / "submission.zip"
    make_submission_zip(files, output)
    with zipfile.ZipFile(output) as archive:
        assert sorted(archive.namelist()) == sorted(submission_files())
        for name, path in files.items():
            assert archive.read(name) == path.read_bytes()
            # No time of day in it: the same predictions give the same bytes.
            assert archive.getinfo(name).date_time == (1980, 1, 1, 0, 0, 0)


def test_everything_wrong_is_said_at_once(files: dict[str, Path], tmp_path: Path) -> None:
    def change(name: str, old: str, new: str) -> None:
        files[name].write_text(files[name].read_text().replace(old, new, 1))

    files["MNLI.tsv"] = files["AX.tsv"]
    change("CoLA.tsv", "1062\t0\n", "")
    change("RTE.tsv", "index\tprediction", "id,prediction")
    change("WNLI.tsv", "\n7\t0", "\n8\t0")
    change("MRPC.tsv", "\n5\t0", "\n5\tequivalent")
    change("STS-B.tsv", "\n3\t2.500", "\n3\t5.5")
    change("SST-2.tsv", "\n4\t0", "\n4\t0\t1")
    files["QNLI.tsv"] = tmp_path / "absent.tsv"
    output = tmp_path / "submission.zip"
    with pytest.raises(UserError) as caught:
        make_submission_zip(files, output)
    message = str(caught.value)
    for part in (
        "MNLI.tsv is no file of a GLUE submission (did you mean 'MNLI",
        "QQP.tsv is missing (390965 rows, glue/qqp test)",
        "of_CoLA.tsv has 1062 rows instead of 1063",
        r"of_RTE.tsv:1: expected the header 'index\tprediction', found 'id,prediction'",
        "of_WNLI.tsv:9: index '8' instead of 7",
        "of_MRPC.tsv:7: prediction 'equivalent' is none of 0, 1",
        "of_STS-B.tsv:5: prediction '5.5' is not a score from 0 to 5",
        "of_SST-2.tsv:6: 3 columns instead of 2",
        "absent.tsv: cannot be read: No such file",
        "9 problems",
    ):
        assert part in message
    assert not output.exists()


def test_many_problems_of_one_file_are_counted(files: dict[str, Path], tmp_path: Path) -> None:
    files["RTE.tsv"].write_text(files["RTE.tsv"].read_text().replace("entailment", "yes"))
    with pytest.raises(UserError, match=r"2995 more in .*of_RTE.tsv"):
        make_submission_zip(files, tmp_path / "submission.zip")


def test_an_empty_file_is_said_to_be_empty(files: dict[str, Path], tmp_path: Path) -> None:
    files["AX.tsv"].write_text("")
    with pytest.raises(UserError, match=r"found an empty file; .*of_AX.tsv has 0 rows instead"):
        make_submission_zip(files, tmp_path / "submission.zip")


def test_submission_values_are_the_labels_of_the_files() -> None:
    for facts in submission_files().values():
        assert facts.labels == GLUE_TASKS[facts.task].labels
