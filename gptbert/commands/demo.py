"""`gptbert demo`: both stages on text that every Python installation carries."""

from __future__ import annotations

from pathlib import Path

from gptbert.commands.arguments import Parser, local_path
from gptbert.commands.config_flag import load_config

HELP = "pre-train and fine-tune a tiny BERT and a tiny GPT on the library's docstrings"
STAGES = ("pretrain-bert", "pretrain-gpt", "finetune-bert", "finetune-gpt")

_EPILOG = """\
The text is that of the running Python's standard library; nothing is downloaded. The same command
again continues a stopped demonstration. configs/demo.py has the recipes, and the commands of
which it consists.

example:
  gptbert demo --workdir=demo
"""


def parser() -> Parser:
    """The flags."""
    flags = Parser("demo", HELP, _EPILOG)
    flags.add_argument("--workdir", type=local_path, default=Path("demo"), help="default: demo")
    return flags


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    flags = parser().parse(arguments)
    configs = {
        stage: load_config(f"configs/demo.py:{stage}", [], example="configs/demo.py")
        for stage in STAGES
    }
    from gptbert.reports.demo_page import QUESTION, demo_table, write_demo_page
    from gptbert.reports.page import write_page
    from gptbert.runs.demo import demo

    summary = demo(configs, flags.workdir)
    for model in summary["models"]:
        for folder in model["folders"]:
            write_page(flags.workdir / folder)
    page, picture = write_demo_page(flags.workdir)
    print(f"{QUESTION}\n\n{demo_table(summary)}")
    print("\nThe GPT writes:\n")
    for sample in summary["samples"]:
        print(f"  {sample}")
    print(f"\npage:    {page}\npicture: {picture}")
    return 0
