"""GLUE's files: every task's form, the traps of the real files, and every kind of bad input."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from pathlib import Path

import pytest

from gptbert.datasets import Example
from gptbert.datasets.glue import GLUE_TASKS, find_split, find_task, has_glue, read_glue
from gptbert.errors import UserError
from gptbert.tasks.glue import read_glue_task


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


EXPECTED = {
    ("cola", "train"): [
        Example("0", ("A fine sentence.",), "acceptable"),
        Example("1", ("Sentence a fine.",), "unacceptable"),
    ],
    ("cola", "dev"): [
        Example("0", ("It works.",), "acceptable"),
        Example("1", ("Works it it.",), "unacceptable"),
    ],
    ("cola", "test"): [Example("0", ("Bill left.",)), Example("1", ("Left Bill did.",))],
    ("sst2", "train"): [
        Example("0", ("fine work ",), "positive"),
        Example("1", ("poor work ",), "negative"),
    ],
    ("mrpc", "train"): [
        Example("0", ('he said " the', 'she said " the " too'), "equivalent"),
        Example("1", ('a " b', "c"), "not_equivalent"),
    ],
    ("mrpc", "test"): [Example("0", ("one", "two"))],
    ("stsb", "train"): [Example("0", ("A dog.", "A cat."), 3.8)],
    ("stsb", "test"): [Example("0", ("A dog.", "A cat."))],
    ("qqp", "train"): [
        Example("133273", ('What is "this?', "What is it?"), "duplicate"),
        Example("360472", ("", "Who?"), "not_duplicate"),
    ],
    ("qqp", "test"): [Example("0", ("Who?", "What?")), Example("1", ("Why?", "How?"))],
    ("mnli", "train"): [Example("0", ("p", "h"), "neutral")],
    ("mnli", "dev"): [Example("0", ("m", "h"), "contradiction")],
    ("mnli", "dev_matched"): [Example("0", ("m", "h"), "contradiction")],
    ("mnli", "dev_mismatched"): [Example("0", ("mm", "h"), "neutral")],
    ("mnli", "test"): [Example("0", ("tm", "h"))],
    ("mnli", "test_mismatched"): [Example("0", ("tmm", "h"))],
    ("qnli", "train"): [
        Example("0", ("Who left?", '"Bill left.'), "entailment"),
        Example("1", ("Who came?", "Bill left."), "not_entailment"),
    ],
    ("rte", "train"): [Example("0", ("A b.", "A."), "entailment")],
    ("wnli", "train"): [
        Example("0", ("A b.", "A."), "entailment"),
        Example("1", ("A b.", "B."), "not_entailment"),
    ],
    ("ax", "test"): [Example("0", ("The cat sat.", "The cat stood."))],
    ("ax", "dev"): [Example("0", ("The cat sat.", "The cat stood."), "contradiction")],
}


@pytest.mark.parametrize(("task", "split"), EXPECTED)
def test_official_form(glue_root: Path, task: str, split: str) -> None:
    dataset = read_glue(task, split, glue_root)
    assert dataset.examples == EXPECTED[task, split]
    assert dataset.classes == GLUE_TASKS[task].classes
    assert dataset.is_regression == (task == "stsb")
    assert dataset.name == f"glue/{task} {find_split(find_task(task), split)}"
    assert dataset.fingerprint == hashlib.sha256(Path(dataset.source).read_bytes()).hexdigest()
    official = GLUE_TASKS[task].splits[find_split(find_task(task), split)].rows
    assert f"the official {official}" in dataset.notes[-1]


def test_qqp_rows_with_missing_fields_are_left_out_and_named(glue_root: Path) -> None:
    note = read_glue("qqp", "train", glue_root).notes[0]
    assert note.startswith("2 rows of ")
    assert "left out for missing fields" in note
    assert note.endswith("(lines 3, 4)")


def test_rows_with_missing_fields_are_refused_elsewhere(tmp_path: Path) -> None:
    path = _write(tmp_path / "RTE/train.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\n")
    with pytest.raises(UserError, match=rf"{path}:2: 3 columns instead of 4 \('index', 'sent"):
        read_glue("rte", "train", tmp_path)


@pytest.mark.parametrize("task", ["qqp", "rte", "cola"])
def test_rows_with_too_many_fields_are_refused(glue_root: Path, task: str) -> None:
    path = glue_root / GLUE_TASKS[task].folders[0] / "train.tsv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1] + "\tmore\tfields\n"]))
    columns = len(lines[0].split("\t"))
    with pytest.raises(
        UserError, match=rf"train.tsv:{len(lines) + 1}: {columns + 2} columns instead of {columns}"
    ):
        read_glue(task, "train", glue_root)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed_files_are_the_same_data(glue_root: Path, suffix: str, pack) -> None:
    plain = read_glue("mrpc", "train", glue_root)
    path = glue_root / "MRPC/train.tsv"
    (glue_root / f"MRPC/train.tsv{suffix}").write_bytes(pack(path.read_bytes()))
    path.unlink()
    packed = read_glue("mrpc", "train", glue_root)
    assert (packed.examples, packed.fingerprint) == (plain.examples, plain.fingerprint)


@pytest.mark.parametrize(
    ("task", "old", "new"),
    [("ax", "diagnostic", "AX"), ("mrpc", "MRPC", "mrpc"), ("qnli", "QNLIv2", "QNLI")],
)
def test_other_folder_names(glue_root: Path, task: str, old: str, new: str) -> None:
    (glue_root / old).rename(glue_root / new)
    split = "test" if task == "ax" else "train"
    assert read_glue(task, split, glue_root).examples == EXPECTED[task, split]


def test_the_folder_of_the_task_itself(glue_root: Path) -> None:
    assert read_glue("rte", "train", glue_root / "RTE").examples == EXPECTED["rte", "train"]
    (glue_root / "RTE").rename(glue_root / "mine")
    assert read_glue("rte", "train", glue_root / "mine").examples == EXPECTED["rte", "train"]


def test_the_folder_of_another_task_is_not_taken(glue_root: Path) -> None:
    # RTE and WNLI have the same columns, so that nothing else would tell them apart.
    with pytest.raises(UserError, match="glue/wnli train not found"):
        read_glue("wnli", "train", glue_root / "RTE")


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    _write(tmp_path / "RTE/dev.tsv", "label\tsentence2\textra\tsentence1\nentailment\tB\tx\tA\n")
    examples = read_glue("rte", "dev", tmp_path).examples
    assert examples == [Example("0", ("A", "B"), "entailment")]


def test_renamed_column_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = _write(tmp_path / "RTE/dev.tsv", "index\tsentense1\tsentence2\tlabel\n0\tA\tB\tx\n")
    with pytest.raises(
        UserError, match=rf"{path}:1: no column 'sentence1' \(did you mean 'sentense1'\?\)"
    ):
        read_glue("rte", "dev", tmp_path)


def test_training_files_need_their_label_column(tmp_path: Path) -> None:
    _write(tmp_path / "RTE/dev.tsv", "index\tsentence1\tsentence2\n0\tA\tB\n")
    with pytest.raises(UserError, match="no column 'label'"):
        read_glue("rte", "dev", tmp_path)


def test_archives_under_each_others_name_are_told_apart(glue_root: Path) -> None:
    (glue_root / "STS-B").rename(glue_root / "other")
    (glue_root / "QQP").rename(glue_root / "STS-B")
    with pytest.raises(UserError, match=r"no column 'sentence1'.*the columns of QQP"):
        read_glue("stsb", "train", glue_root)


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("rte", "0\tA\tB\tentailed", r"train.tsv:2: unknown label 'entailed'; known labels: ent"),
        ("wnli", "0\tA\tB\t-1", r"train.tsv:2: unknown label '-1'; known labels: 0, 1"),
        ("wnli", "0\tA\tB\t", r"train.tsv:2: unknown label ''"),
    ],
)
def test_unknown_labels(tmp_path: Path, task: str, content: str, message: str) -> None:
    folder = GLUE_TASKS[task].folders[0]
    _write(tmp_path / folder / "train.tsv", f"index\tsentence1\tsentence2\tlabel\n{content}\n")
    with pytest.raises(UserError, match=message):
        read_glue(task, "train", tmp_path)


@pytest.mark.parametrize("score", ["5.1", "-0.2", "nan", "good", ""])
def test_scores_out_of_range(glue_root: Path, score: str) -> None:
    path = glue_root / "STS-B/train.tsv"
    path.write_text(path.read_text().replace("3.800", score))
    with pytest.raises(UserError, match=rf"train.tsv:2: label '{score}' is not a score from 0 to"):
        read_glue("stsb", "train", glue_root)


@pytest.mark.parametrize("label", ["-1", ""])
def test_placeholders_in_test_files_are_no_labels(tmp_path: Path, label: str) -> None:
    _write(tmp_path / "RTE/test.tsv", f"index\tsentence1\tsentence2\tlabel\n0\tA\tB\t{label}\n")
    assert read_glue("rte", "test", tmp_path).examples == [Example("0", ("A", "B"))]


def test_labels_in_test_files_are_read_where_they_are_real(tmp_path: Path) -> None:
    _write(tmp_path / "RTE/test.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tentailment\n")
    assert read_glue("rte", "test", tmp_path).examples[0].label == "entailment"


@pytest.mark.parametrize(
    ("folder", "task", "content", "message"),
    [
        ("RTE", "rte", "", r"train.tsv: the file is empty; expected the columns 'index'"),
        ("RTE", "rte", "index\tsentence1\tsentence2\tlabel\n", r"train.tsv: a header and no rows"),
        ("CoLA", "cola", "", r"train.tsv: the file is empty"),
        ("CoLA", "cola", "gj04\t1\t\n", r"train.tsv:1: 3 columns instead of 4 \('source', 'lab"),
        ("CoLA", "cola", "s\tlabel\tm\tt\n", r"train.tsv:1: unknown label 'label'"),
        ("RTE", "rte", "index\n\n0\n", r"train.tsv:1: no column 'sentence1'"),
    ],
)
def test_empty_and_headerless_files(
    tmp_path: Path, folder: str, task: str, content: str, message: str
) -> None:
    _write(tmp_path / folder / "train.tsv", content)
    with pytest.raises(UserError, match=message):
        read_glue(task, "train", tmp_path)


@pytest.mark.parametrize(("encoding", "word"), [("utf-16", "UTF-16"), ("latin-1", "not UTF-8")])
def test_wrong_encodings(tmp_path: Path, encoding: str, word: str) -> None:
    content = "index\tsentence1\tsentence2\tlabel\n0\tCaf\u00e9\tB\tentailment\n"
    _write(tmp_path / "RTE/train.tsv", content.encode(encoding))
    with pytest.raises(UserError, match=rf"train.tsv.*{word}.*iconv"):
        read_glue("rte", "train", tmp_path)


def test_unicode_line_separators_stay_inside_sentences(tmp_path: Path) -> None:
    _write(tmp_path / "SST-2/train.tsv", "sentence\tlabel\na\u0085b\u2028c\rd\t1\r\n")
    examples = read_glue("sst2", "train", tmp_path).examples
    assert examples == [Example("0", ("a\u0085b\u2028c\rd",), "positive")]


def test_missing_data_says_where_it_looked_and_what_helps(tmp_path: Path) -> None:
    (tmp_path / "CoLA").mkdir()
    with pytest.raises(UserError) as caught:
        read_glue("mrpc", "train", tmp_path)
    message = str(caught.value)
    for part in (f"{tmp_path}/MRPC/train.tsv", f"{tmp_path}/glue/mrpc/VERSION", "there is: CoLA"):
        assert part in message
    assert f"`gptbert prepare glue/mrpc --data_dir={tmp_path}`" in message


def test_what_is_there_can_be_asked(glue_root: Path) -> None:
    there = [split for split in GLUE_TASKS["mrpc"].splits if has_glue("mrpc", split, glue_root)]
    assert there == ["train", "test"]
    assert has_glue("mnli", "dev", glue_root)
    assert not has_glue("rte", "test", glue_root / "nowhere")
    with pytest.raises(UserError, match="unknown GLUE task"):
        has_glue("mprc", "train", glue_root)


def test_missing_folder_and_a_file_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist.*gptbert prepare glue/mrpc"):
        read_glue("mrpc", "train", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"file.txt is a file"):
        read_glue("mrpc", "train", _write(tmp_path / "file.txt", "x"))


@pytest.mark.parametrize(
    ("name", "near"), [("mprc", "mrpc"), ("SST-2", "sst2"), ("STSB", "stsb"), ("MNLI", "mnli")]
)
def test_unknown_tasks_are_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"unknown GLUE task '{name}' \(did you mean '{near}'\?\)"):
        find_task(name)
    with pytest.raises(UserError, match=rf"'glue/{name}' is unknown \(did you mean '{near}'\?\)"):
        read_glue_task(name, "")


def test_unknown_splits_are_answered_with_the_known() -> None:
    with pytest.raises(UserError, match=r"no split 'dev_mached' \(did you mean 'dev_matched'\?\)"):
        find_split(find_task("mnli"), "dev_mached")
    with pytest.raises(UserError, match=r"glue/ax has no split 'train'; it has: dev, test"):
        find_split(find_task("ax"), "train")


MRPC_HEADER = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"


def test_mrpc_is_cut_from_microsofts_files(tmp_path: Path) -> None:
    rows = [f"{i % 2}\t{i}\t{i + 10}\tfirst {i}\tsecond {i}" for i in range(4)]
    _write(tmp_path / "MRPC/msr_paraphrase_train.txt", MRPC_HEADER + "\r\n".join(rows) + "\r\n")
    _write(tmp_path / "MRPC/msr_paraphrase_test.txt", MRPC_HEADER + rows[1] + "\r\n")
    _write(tmp_path / "MRPC/dev_ids.tsv", "1\t11\n3\t13\n")
    train, dev, test = (read_glue("mrpc", split, tmp_path) for split in ("train", "dev", "test"))
    assert [(example.id, example.label) for example in train.examples] == [
        ("0", "not_equivalent"),
        ("2", "not_equivalent"),
    ]
    assert [example.texts for example in dev.examples] == [
        ("first 1", "second 1"),
        ("first 3", "second 3"),
    ]
    assert test.examples == [Example("0", ("first 1", "second 1"))]
    assert dev.notes[0] == "glue/mrpc dev was cut from msr_paraphrase_train.txt by dev_ids.tsv"


def test_mrpc_originals_need_the_list_of_dev_pairs(tmp_path: Path) -> None:
    _write(tmp_path / "MRPC/msr_paraphrase_train.txt", MRPC_HEADER + "1\t1\t2\ta\tb\r\n")
    with pytest.raises(UserError, match="glue/mrpc train not found"):
        read_glue("mrpc", "train", tmp_path)


def test_official_row_counts_of_the_real_files(data_dir: Path) -> None:
    """Reads every official file at hand and compares its row count with the published one."""
    absent = {"mnli", "qqp"}
    read = 0
    for task in GLUE_TASKS.values():
        for split, facts in task.splits.items():
            if task.name in absent or (task.name, split) == ("qnli", "train"):
                continue
            dataset = read_glue(task.name, split, data_dir / "glue")
            assert (len(dataset.examples), dataset.notes) == (facts.rows, ())
            labelled = [example.label is not None for example in dataset.examples]
            assert not any(labelled) if split == "test" else all(labelled)
            read += 1
    assert read == 22


def test_class_counts_of_the_real_dev_sets(data_dir: Path) -> None:
    """The published majority-class accuracies hold only if the labels are read right."""
    majority = {"cola": 69.13, "sst2": 50.92, "mrpc": 68.38, "qnli": 50.54, "rte": 52.71}
    for task, expected in {**majority, "wnli": 56.34}.items():
        labels = [example.label for example in read_glue(task, "dev", data_dir / "glue").examples]
        share = max(labels.count(name) for name in GLUE_TASKS[task].classes) / len(labels)
        assert round(100 * share, 2) == expected
