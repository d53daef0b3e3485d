"""`gptbert submit`: finished runs in, the zip for GLUE's leaderboard out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gptbert.commands.arguments import Parser, local_path, names
from gptbert.errors import UserError
from gptbert.reports.tables import text_table

if TYPE_CHECKING:
    from gptbert.runs.submit import Part

HELP = "make GLUE's submission archive from finished runs"

_EPILOG = """\
One finished run a task: cola, sst2, mrpc, stsb, qqp, mnli (its model predicts AX too), qnli, rte
and wnli. A test split that was not there when the run was trained is predicted with
`gptbert evaluate --workdir=RUN --task=glue/TASK --split=test --data_dir=GLUE`.

examples:
  gptbert submit runs/cola runs/sst2 runs/mrpc runs/stsb runs/qqp runs/mnli runs/qnli runs/rte \\
      --wnli=majority --output=submission.zip
  gptbert submit --workdirs=runs/cola,runs/sst2,... --output=submission.zip
"""


def main(arguments: list[str]) -> int:
    """Writes the zip and prints what is in it; returns the exit code.

    Raises:
      UserError: Names every run and file that is missing or wrong.
    """
    parser = Parser("submit", HELP, _EPILOG)
    parser.add_argument("runs", nargs="*", type=local_path, metavar="RUN", help="a finished run")
    parser.add_argument(
        "--workdirs", type=names, default=(), metavar="RUN,RUN", help="the same, in one flag"
    )
    parser.add_argument("--output", type=local_path, default=Path("submission.zip"), metavar="FILE")
    parser.add_argument(
        "--wnli",
        choices=["majority"],
        help="predict its majority class, as in the BERT paper's submission, instead of a run",
    )
    flags = parser.parse(arguments)
    workdirs = [*flags.runs, *map(Path, flags.workdirs)]
    if not workdirs:
        raise UserError("no runs: expected gptbert submit RUN RUN ... or --workdirs=RUN,RUN,...")
    from gptbert.runs.submit import submit

    parts = submit(workdirs, flags.output, majority_wnli=flags.wnli == "majority")
    print(text_table([_row(part) for part in parts], ["file", "rows", "from", "dev metrics"]))
    print(f"\nwritten: {flags.output} ({len(parts)} files)")
    return 0


def _row(part: Part) -> list[str]:
    told = ", ".join(f"{name} {value:.4f}" for name, value in part.metrics.items())
    return [part.file.name, f"{part.file.rows:,}", part.source, told or "-"]
