"""The file facts of GLUE (Wang et al. 2018): folders, columns, labels, sizes, submission values.

Class names and their order are those of TensorFlow Datasets. Row counts are the official ones
(QQP after the rows with missing fields are left out, QNLI in its second version).
"""

from __future__ import annotations

import dataclasses

from gptbert.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class GlueSplit:
    """One file of a task.

    Attributes:
      files: Accepted file names without compression suffix, the official one first.
      columns: The official columns in order; other orders are read by name if there is a header.
      rows: The official number of rows.
      submission: Name of the file that GLUE's leaderboard wants for this split, if it wants one.
      texts: The text columns where they differ from the task's.
      label: The label column where its name differs from the task's.
      has_header: Whether line 1 names the columns.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...]
    rows: int
    submission: str | None = None
    texts: tuple[str, ...] = ()
    label: str = ""
    has_header: bool = True


@dataclasses.dataclass(frozen=True)
class GlueTask:
    """One task of GLUE.

    Attributes:
      name: Our name, which is TFDS's: `cola`, `sst2`, ...
      folders: Folder names in use, the official one first.
      texts: The columns with the text or the two texts.
      label: The label column.
      classes: Class names in the order of TFDS; empty for STS-B, whose label is a score of 0 to 5.
      labels: How files and submissions write those classes, in the same order.
      splits: Split name -> file.
      drops_short_rows: Whether the reference readers leave out rows with missing fields.
    """

    name: str
    folders: tuple[str, ...]
    texts: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    splits: dict[str, GlueSplit]
    drops_short_rows: bool = False


def find_task(name: str) -> GlueTask:
    """The task called `name`; raises `UserError` with the nearest known name."""
    if name in GLUE_TASKS:
        return GLUE_TASKS[name]
    known = ", ".join(GLUE_TASKS)
    raise UserError(f"unknown GLUE task {name!r}{nearest_task(name)}; known tasks: {known}")


def find_split(task: GlueTask, split: str) -> str:
    """The full name of a split (`dev` of MNLI is `dev_matched`); `UserError` if there is none."""
    if split in task.splits:
        return split
    if f"{split}_matched" in task.splits:
        return f"{split}_matched"
    known = ", ".join(task.splits)
    raise UserError(
        f"glue/{task.name} has no split {split!r}{nearest(split, task.splits)}; it has: {known}"
    )


def nearest_task(name: str, prefix: str = "") -> str:
    """As `errors.nearest`, of the tasks by their own names and by those of their folders."""
    lowered = name.lower()
    for task in GLUE_TASKS.values():
        if lowered in [folder.lower() for folder in task.folders]:
            return f" (did you mean {prefix + task.name!r}?)"
    return nearest(lowered, GLUE_TASKS).replace("mean '", f"mean '{prefix}")


def _columns(names: str) -> tuple[str, ...]:
    return tuple(names.split(", "))


def _split(
    files: str, columns: str, rows: int, submission: str | None = None, *, has_header: bool = True
) -> GlueSplit:
    return GlueSplit(_columns(files), _columns(columns), rows, submission, has_header=has_header)


_PAIR = "index, sentence1, sentence2"
_QA = "index, question, sentence"
_MRPC = "#1 ID, #2 ID, #1 String, #2 String"
_QQP = "id, qid1, qid2, question1, question2, is_duplicate"
_STSB = "index, genre, filename, year, old_index, source1, source2, sentence1, sentence2"
_MNLI = (
    "index, promptID, pairID, genre, sentence1_binary_parse, sentence2_binary_parse, "
    "sentence1_parse, sentence2_parse, sentence1, sentence2"
)
_MNLI_DEV = f"{_MNLI}, label1, label2, label3, label4, label5, gold_label"
_NLI_CLASSES = ("entailment", "neutral", "contradiction")
_QA_CLASSES = ("entailment", "not_entailment")
_01 = ("0", "1")

_TASKS = (
    GlueTask(
        name="cola", folders=("CoLA",), texts=("sentence",), label="label",
        classes=("unacceptable", "acceptable"), labels=_01,
        splits={
            "train": _split("train.tsv", "source, label, mark, sentence", 8551, has_header=False),
            "dev": _split("dev.tsv", "source, label, mark, sentence", 1043, has_header=False),
            "test": _split("test.tsv", "index, sentence", 1063, "CoLA.tsv"),
        },
    ),
    GlueTask(
        name="sst2", folders=("SST-2", "SST2"), texts=("sentence",), label="label",
        classes=("negative", "positive"), labels=_01,
        splits={
            "train": _split("train.tsv", "sentence, label", 67349),
            "dev": _split("dev.tsv", "sentence, label", 872),
            "test": _split("test.tsv", "index, sentence", 1821, "SST-2.tsv"),
        },
    ),
    GlueTask(
        name="mrpc", folders=("MRPC",), texts=("#1 String", "#2 String"), label="Quality",
        classes=("not_equivalent", "equivalent"), labels=_01,
        splits={
            "train": _split("train.tsv", f"Quality, {_MRPC}", 3668),
            "dev": _split("dev.tsv", f"Quality, {_MRPC}", 408),
            "test": _split("test.tsv", f"index, {_MRPC}", 1725, "MRPC.tsv"),
        },
    ),
    GlueTask(
        name="stsb", folders=("STS-B", "STSB"), texts=("sentence1", "sentence2"), label="score",
        classes=(), labels=(),
        splits={
            "train": _split("train.tsv", f"{_STSB}, score", 5749),
            "dev": _split("dev.tsv", f"{_STSB}, score", 1500),
            "test": _split("test.tsv", _STSB, 1379, "STS-B.tsv"),
        },
    ),
    GlueTask(
        name="qqp", folders=("QQP",), texts=("question1", "question2"), label="is_duplicate",
        classes=("not_duplicate", "duplicate"), labels=_01, drops_short_rows=True,
        splits={
            "train": _split("train.tsv", _QQP, 363846),
            "dev": _split("dev.tsv", _QQP, 40430),
            "test": _split("test.tsv", "id, question1, question2", 390965, "QQP.tsv"),
        },
    ),
    GlueTask(
        name="mnli", folders=("MNLI",), texts=("sentence1", "sentence2"), label="gold_label",
        classes=_NLI_CLASSES, labels=_NLI_CLASSES,
        splits={
            "train": _split("train.tsv", f"{_MNLI}, label1, gold_label", 392702),
            "dev_matched": _split("dev_matched.tsv", _MNLI_DEV, 9815),
            "dev_mismatched": _split("dev_mismatched.tsv", _MNLI_DEV, 9832),
            "test_matched": _split("test_matched.tsv", _MNLI, 9796, "MNLI-m.tsv"),
            "test_mismatched": _split("test_mismatched.tsv", _MNLI, 9847, "MNLI-mm.tsv"),
        },
    ),
    GlueTask(
        name="qnli", folders=("QNLI", "QNLIv2"), texts=("question", "sentence"), label="label",
        classes=_QA_CLASSES, labels=_QA_CLASSES,
        splits={
            "train": _split("train.tsv", f"{_QA}, label", 104743),
            "dev": _split("dev.tsv", f"{_QA}, label", 5463),
            "test": _split("test.tsv", _QA, 5463, "QNLI.tsv"),
        },
    ),
    GlueTask(
        name="rte", folders=("RTE",), texts=("sentence1", "sentence2"), label="label",
        classes=_QA_CLASSES, labels=_QA_CLASSES,
        splits={
            "train": _split("train.tsv", f"{_PAIR}, label", 2490),
            "dev": _split("dev.tsv", f"{_PAIR}, label", 277),
            "test": _split("test.tsv", _PAIR, 3000, "RTE.tsv"),
        },
    ),
    GlueTask(
        name="wnli", folders=("WNLI",), texts=("sentence1", "sentence2"), label="label",
        classes=("not_entailment", "entailment"), labels=_01,
        splits={
            "train": _split("train.tsv", f"{_PAIR}, label", 635),
            "dev": _split("dev.tsv", f"{_PAIR}, label", 71),
            "test": _split("test.tsv", _PAIR, 146, "WNLI.tsv"),
        },
    ),
    # The diagnostic set, made for MNLI models. Its labelled copy was published apart.
    GlueTask(
        name="ax", folders=("AX", "diagnostic"), texts=("sentence1", "sentence2"), label="label",
        classes=_NLI_CLASSES, labels=_NLI_CLASSES,
        splits={
            "dev": GlueSplit(
                files=("diagnostic-full.tsv",), rows=1104,
                texts=("Premise", "Hypothesis"), label="Label",
                columns=_columns(
                    "Lexical Semantics, Predicate-Argument Structure, Logic, Knowledge, Domain, "
                    "Premise, Hypothesis, Label"
                ),
            ),
            "test": _split("diagnostic.tsv, AX.tsv, test.tsv", _PAIR, 1104, "AX.tsv"),
        },
    ),
)  # fmt: skip

GLUE_TASKS: dict[str, GlueTask] = {task.name: task for task in _TASKS}
