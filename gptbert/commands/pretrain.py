"""`gptbert pretrain`: flags in, one call."""

from __future__ import annotations

import argparse
from pathlib import Path

from gptbert.commands.arguments import Parser, local_path
from gptbert.commands.config_flag import explained_fields, load_config, split_config_flags
from gptbert.errors import UserError
from gptbert.runtime import start_distributed, stop_on_sigterm

HELP = "pre-train BERT, GPT or GPT-2 on a prepared corpus"
EXAMPLE = "gptbert pretrain --config=configs/bert.py:tiny --config.corpus=STORE --workdir=runs/bert"


def parser() -> Parser:
    """Flags beside those of the config."""
    flags = Parser(
        "pretrain",
        HELP,
        f"example:\n  {EXAMPLE}\n\n"
        "STORE is made by `gptbert prepare-corpus`. Existing weights go on learning with\n"
        "--config.init_from=DIR. The same command again continues a stopped run. Every field of\n"
        "the config can be set, as --config.FIELD=VALUE; with the values of BERT's paper:\n"
        + _fields(),
    )
    flags.add_argument("--config", metavar="FILE.py[:ARG]", help="what to run, from configs/")
    flags.add_argument("--config.FIELD", metavar="VALUE", help="sets a field of the config")
    flags.add_argument("--workdir", type=local_path, help="the run folder")
    flags.add_argument("--dry_run", action="store_true", help="train nothing; print what would run")
    flags.add_argument("--quiet", action="store_true", help="no progress")
    several = flags.add_argument_group(
        "several processes", "one command a host, all with the same --workdir on a shared disk"
    )
    several.add_argument("--coordinator", help="HOST:PORT of process 0, or auto (TPU pods)")
    several.add_argument("--processes", type=int, help="how many there are")
    several.add_argument("--process", type=int, help="which one this is, from 0")
    return flags


def _fields() -> str:
    from gptbert.runs import pretraining_recipe

    return explained_fields(Path(pretraining_recipe.__file__))


def _alone(flags: argparse.Namespace) -> None:
    """Refuses what describes a job of several: alone, each of them would write the whole run."""
    given = {"processes": flags.processes, "process": flags.process}
    if told := " ".join(f"--{name}={n}" for name, n in given.items() if n is not None):
        raise UserError(
            f"{told} without --coordinator; expected HOST:PORT of process 0 too, or neither for "
            "one process"
        )


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    name, fields, rest = split_config_flags(arguments)
    flags = parser().parse(rest)
    config = load_config(name, fields, example="--config=configs/bert.py:base")
    if flags.coordinator is None:
        _alone(flags)
    else:
        start_distributed(flags.coordinator, flags.processes, flags.process)
    if flags.dry_run:
        from gptbert.runs.dry_run_pretraining import describe_pretraining

        print(describe_pretraining(config))
        return 0
    if flags.workdir is None:
        raise UserError("no run folder: expected --workdir=DIR")
    from gptbert.runs.folder import leads

    with stop_on_sigterm():  # from here on, since the imports take seconds
        from gptbert.runs.pretrain import pretrain

        results = pretrain(config, flags.workdir, quiet=flags.quiet)
    if not leads():
        return 0
    from gptbert.reports.page import write_page

    page = write_page(flags.workdir)
    told = ", ".join(f"{name} {value:.4f}" for name, value in results["metrics"].items())
    print(f"finished: {results['task']}: {told or 'nothing was held out'}")
    print(f"  {results['tokens']:,} tokens in {results['train_seconds']:,.0f} s; {page}")
    return 0
