"""README's figures, from the generated reports of the experiments and nothing else.

    python experiments/readme.py           # rewrites the tables in README.md
    python experiments/readme.py --check   # exit code 1 if they are not those of the reports

Run it after the `report` of an experiment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from gptbert.reports.tables import markdown_table

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- figures: python experiments/readme.py -->\n", "<!-- end of figures -->\n"
GLUE, LEARN, FINETUNE, PRETRAIN, PREPARE = (
    HERE / name
    for name in (
        "bert/results/parity_glue.md",
        "pretraining/results/learn.md",
        "speed/results/finetune.md",
        "speed/results/pretrain.md",
        "speed/results/prepare.md",
    )
)
Row = dict[str, str]


def rows_of(report: Path, *columns: str) -> Iterator[Row]:
    """The rows of a report's tables that have these columns, as column -> cell."""
    header: list[str] | None = None
    for line in report.read_text().splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if header is None:
            header = cells
        elif set(columns) <= set(header) and set(cells[0]) - {"-", ":"}:
            yield dict(zip(header, cells, strict=True))


def same_result() -> str:
    """GLUE, fine-tuned with both."""
    columns = ("task", "dev metric", "gptbert", "transformers", "verdict")
    rows = [[row[name] for name in columns] for row in rows_of(GLUE, *columns)]
    return markdown_table(rows, columns)


def pretraining_pays() -> str:
    """Fine-tuned from pre-trained and from random weights."""
    columns = ("model", "task", "dev metric", "pre-trained", "random", "verdict")
    rows = [[row[name] for name in columns] for row in rows_of(LEARN, *columns)]
    return markdown_table(rows, columns)


def speed() -> str:
    """How many times faster than what, with the targets."""
    rows = []
    for told, column in (("step", "s a step (median)"), ("whole run", "seconds")):
        for row in rows_of(FINETUNE, column, "times gptbert", "target"):
            if row["target"]:
                rows.append([f"fine-tuning {told}, {row['task']}", _rival(row["contestant"]),
                             row["times gptbert"], row["target"], row["met"]])  # fmt: skip
            if row["contestant"] == "longest bfloat16":
                rows.append([f"fine-tuning {told} in bfloat16, {row['task']}",
                             _rival(row["contestant"]), row["times gptbert bfloat16"],
                             "", ""])  # fmt: skip
    for row in rows_of(PRETRAIN, "ratio of", "target"):
        slower, faster = row["ratio of"].split(" / ")
        if row["target"] and faster == "gptbert":
            what = f"pre-training step, {row['model']}, dropout {row['dropout']}"
            met = {"yes": "met", "no": "missed"}[row["met"]]
            rows.append([what, slower, row["times"], row["target"], met])
    for row in rows_of(PREPARE, "gptbert is faster by", "target"):
        words_given = row["contestant"] == "library, words given"
        if row["target"] or words_given:
            rival = row["contestant"].replace("library", "tokenizers")
            rows.append([f"text to ids, {row['kind']}", rival, row["gptbert is faster by"],
                         row["target"], row["met"]])  # fmt: skip
    return markdown_table(rows, ("what", "against", "times faster", "target", ""))


def _rival(contestant: str) -> str:
    """A contestant of the fine-tuning report in words."""
    padded, dtype = contestant.split()
    to = {"max": "128", "longest": "the batch's longest"}[padded]
    return f"transformers, padded to {to}, {dtype}"


def figures() -> str:
    """The part of README between the marks."""
    return "\n".join(
        [
            BEGIN,
            "**Same result as `transformers` + PyTorch?** The packaged 6-layer BERT on GLUE:",
            "means ± standard deviations in percent (runs). What else was compared:",
            f"[{GLUE.name}]({_link(GLUE)}).",
            "",
            same_result(),
            "",
            "**How fast on two cores of a CPU?** How it was timed, how much is less work to do,",
            "and what limits what was missed:",
            f"[fine-tuning]({_link(FINETUNE)}),",
            f"[pre-training]({_link(PRETRAIN)}),",
            f"[preparing text]({_link(PREPARE)}).",
            "",
            speed(),
            "",
            "**What does pre-training bring?** Mini models after about 40 minutes on two cores,",
            "on Wikipedia and books, fine-tuned; beside them the same ones from random weights:",
            f"[{LEARN.name}]({_link(LEARN)}).",
            "",
            pretraining_pays(),
            "",
            END,
        ]
    )


def _link(report: Path) -> str:
    return report.relative_to(README.parent).as_posix()


def updated(readme: str) -> str:
    """README's text with the figures of the reports."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + figures() + after


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    flags = parser.parse_args()
    old = README.read_text()
    new = updated(old)
    if flags.check:
        sys.exit(0 if new == old else "README.md: run python experiments/readme.py")
    README.write_text(new)


if __name__ == "__main__":
    main()
