"""`gptbert evaluate`: metrics and a confusion matrix of a model on labelled examples."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from gptbert.commands.arguments import (
    Parser,
    add_compute_flags,
    add_model_flags,
    local_path,
    model_folder,
    names,
    tell_unfinished,
)
from gptbert.errors import UserError
from gptbert.reports.figures import confusion_chart
from gptbert.reports.tables import text_table

HELP = "score a labelled file, another split or another task with a finished run"
MOST_CLASSES = 20  # a larger confusion matrix would not be readable

_EPILOG = """\
Labels are matched by name, so a model of MNLI scores AX, both of MNLI's dev sets and every file
with the classes entailment, neutral and contradiction (rows of gold_label without agreement, -,
are left out). Of a test split without labels the file for GLUE's leaderboard is written; so it is
of AX where diagnostic-full.tsv, which has its labels, is not there.

examples:
  gptbert evaluate --workdir=runs/mnli --split=dev_mismatched
  gptbert evaluate --workdir=runs/mnli --task=glue/ax --data_dir=GLUE
  gptbert evaluate --workdir=runs/mnli --file=snli_dev.tsv --label_column=gold_label
  gptbert evaluate --workdir=runs/reviews --split=train
  gptbert evaluate --init_from=DIR --classes=negative,positive --file=reviews.csv \\
      --text_columns=review --label_column=verdict --output=scored
"""


def main(arguments: list[str]) -> int:
    """Scores, writes the results and prints them; returns the exit code.

    Raises:
      UserError: Nothing to score, labels that the model does not have, bad files.
    """
    flags = _parse(arguments)
    folder = model_folder(flags)
    from gptbert.runs import evaluate as runs
    from gptbert.runs.using import Classifier, check_compute, read_classifier

    check_compute(flags.max_length, flags.compute_dtype)
    source = read_classifier(folder, step=flags.step, classes=flags.classes)
    tell_unfinished(source)
    if flags.file is not None:
        material = runs.read_labelled_file(
            source, flags.file, flags.text_columns, flags.label_column
        )
    else:
        material = runs.read_task_split(source, flags.task, flags.data_dir, flags.split)
    output = flags.output or runs.default_output(
        source, material, flags.step,
        as_trained=flags.max_length is None and flags.compute_dtype is None,
    )  # fmt: skip
    runs.check(source, material, output)
    classifier = Classifier(source, max_length=flags.max_length, compute_dtype=flags.compute_dtype)
    record = runs.evaluate(classifier, material, output)
    print(_summary(record))
    if "submission" in record:
        print(f"no labels there; for GLUE's leaderboard: {record['submission']}")
        return 0
    if "confusion_matrix" in record and len(record["classes"]) <= MOST_CLASSES:
        _write_picture(output / "confusion.svg", record)
    print(f"\nwritten: {output / runs.RESULT}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("evaluate", HELP, _EPILOG)
    add_model_flags(parser)
    data = parser.add_argument_group("what is scored")
    data.add_argument("--task", default="", help="glue/TASK; default: that of the run")
    data.add_argument(
        "--data_dir", default="", metavar="DIR", help="GLUE's files; default: those of the run"
    )
    data.add_argument("--split", default="", help="train, dev, dev_mismatched, held_out, test, ...")
    data.add_argument("--file", type=local_path, help="your own .tsv, .csv or .jsonl (.gz, .xz)")
    data.add_argument(
        "--text_columns",
        type=names,
        default=(),
        metavar="A[,B]",
        help="of the file, ('A, a',) for one with a comma; default: those of training, or sentence",
    )
    data.add_argument(
        "--label_column", default="", metavar="A", help="default: that of training, or label"
    )
    add_compute_flags(parser)
    parser.add_argument(
        "--output", type=local_path, metavar="DIR", help="default: RUN/evaluations/TASK-SPLIT"
    )
    flags = parser.parse(arguments)
    of_task, of_file = ("task", "data_dir", "split"), ("text_columns", "label_column")
    wrong = [name for name in (of_task if flags.file else of_file) if getattr(flags, name)]
    if wrong:
        other = "with --file" if flags.file else "without --file"
        raise UserError(f"gptbert evaluate: --{wrong[0]} has no meaning {other}")
    return flags


def _summary(record: dict[str, Any]) -> str:
    model, step = record["model"]["folder"], record["model"]["step"]
    origin = model if step is None else f"{model} (step {step})"
    lines = [f"{record['task']} {record['split']}: {record['examples']:,} examples, by {origin}"]
    if record["truncated"]:
        lines.append(
            f"{record['truncated']:,} of them are longer than {record['max_length']} tokens and "
            "were cut"
        )
    lines += [f"note: {note}" for note in record["notes"]]
    if "metrics" not in record:
        return "\n".join(lines)
    baseline = record["majority_baseline"]
    rows = [[name, f"{v:.4f}", f"{baseline[name]:.4f}"] for name, v in record["metrics"].items()]
    lines += ["", text_table(rows, ["metric", "model", "majority class"])]
    if "f1_of" in record:
        lines.append(f"(f1 is that of the class {record['f1_of']})")
    if record["collapsed"]:
        lines.append("(every prediction is the same)")
    if "confusion_matrix" in record:
        lines += ["", _matrix(record)]
    elif record["classes"]:
        lines.append(f"(no confusion matrix of {len(record['classes']):,} classes is written)")
    return "\n".join(lines)


def _matrix(record: dict[str, Any]) -> str:
    """Rows are labels, columns predictions; of very many classes only the mistakes."""
    classes, counts = record["classes"], record["confusion_matrix"]
    if len(classes) <= MOST_CLASSES:
        rows = [[name, *map(str, row)] for name, row in zip(classes, counts, strict=True)]
        return text_table(rows, ["label \\ predicted", *classes])
    mistakes = sorted(
        (
            (-count, classes[label], classes[predicted])
            for label, row in enumerate(counts)
            for predicted, count in enumerate(row)
            if count and label != predicted
        ),
    )[:MOST_CLASSES]
    rows = [[label, predicted, str(-count)] for count, label, predicted in mistakes]
    return text_table(rows, ["label", "predicted", "the most frequent mistakes"])


def _write_picture(path: Path, record: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(confusion_chart(record["confusion_matrix"], record["classes"]), "utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from None
