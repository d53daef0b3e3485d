"""`gptbert finetune`: flags in, one call."""

from __future__ import annotations

from pathlib import Path

from gptbert.commands.arguments import Parser, local_path
from gptbert.commands.config_flag import explained_fields, load_config, split_config_flags
from gptbert.errors import UserError
from gptbert.runtime import stop_on_sigterm

HELP = "fine-tune a pre-trained encoder on a labelled set"
EXAMPLE = (
    "gptbert finetune --config=configs/glue.py:mrpc --config.data_dir=GLUE "
    "--config.init_from=BERT --workdir=runs/mrpc"
)


def parser() -> Parser:
    """Flags beside those of the config."""
    flags = Parser(
        "finetune",
        HELP,
        f"example:\n  {EXAMPLE}\n\n"
        "Your own data: --config=configs/text_classification.py --config.train_file=FILE.csv\n"
        "The same command again continues a stopped run. Every field of the config can be set, as\n"
        "--config.FIELD=VALUE; with their defaults (those of other configs may differ):\n"
        + _fields(),
    )
    flags.add_argument("--config", metavar="FILE.py[:ARG]", help="what to run, from configs/")
    flags.add_argument("--config.FIELD", metavar="VALUE", help="sets a field of the config")
    flags.add_argument("--workdir", type=local_path, help="the run folder")
    flags.add_argument("--dry_run", action="store_true", help="train nothing; print what would run")
    flags.add_argument("--quiet", action="store_true", help="no progress")
    return flags


def _fields() -> str:
    from gptbert.runs import recipe

    return explained_fields(Path(recipe.__file__))


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    name, fields, rest = split_config_flags(arguments)
    flags = parser().parse(rest)
    config = load_config(name, fields, example="--config=configs/glue.py:mrpc")
    if flags.dry_run:
        from gptbert.runs.dry_run import describe_run

        print(describe_run(config))
        return 0
    if flags.workdir is None:
        raise UserError("no run folder: expected --workdir=DIR")
    with stop_on_sigterm():  # from here on, since the imports take seconds
        from gptbert.runs.finetune import finetune

        results = finetune(config, flags.workdir, quiet=flags.quiet)
    from gptbert.reports.page import write_page

    page = write_page(flags.workdir)
    told = ", ".join(f"{name} {value:.4f}" for name, value in results["metrics"].items())
    which = results["checkpoint"]
    print(f"finished: {results['task']} {results['split']}: {told}")
    print(f"  from the {which['which']} checkpoint (step {which['step']}); {page}")
    return 0
