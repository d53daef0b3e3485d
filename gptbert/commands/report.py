"""`gptbert report`: the HTML page of a finished run, made again from its files."""

from __future__ import annotations

from gptbert.commands.arguments import Parser, local_path
from gptbert.errors import UserError

HELP = "write the HTML page of a finished run"

_EPILOG = """\
The page, RUN/report.html, needs no other file and no network.

example:
  gptbert report --workdir=runs/mrpc
"""


def main(arguments: list[str]) -> int:
    """Writes the page and prints where it is; returns the exit code.

    Raises:
      UserError: The folder holds no finished run, or its files are damaged.
    """
    parser = Parser("report", HELP, _EPILOG)
    parser.add_argument(
        "--workdir", type=local_path, metavar="RUN", help="the folder of a finished run"
    )
    flags = parser.parse(arguments)
    if flags.workdir is None:
        raise UserError("no run: expected --workdir=RUN")
    from gptbert.reports.page import write_page

    print(write_page(flags.workdir))
    return 0
