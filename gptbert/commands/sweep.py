"""`gptbert sweep`: flags in, one call."""

from __future__ import annotations

from gptbert.commands.arguments import Parser, local_path
from gptbert.commands.config_flag import load_config, split_config_flags
from gptbert.errors import UserError

HELP = "fine-tune a grid of batch sizes, learning rates and seeds; pick the best on dev"
EXAMPLE = (
    "gptbert sweep --config=configs/glue.py:mrpc --config.data_dir=GLUE --config.init_from=BERT "
    "--workdir=sweeps/mrpc --seeds=0,1,2"
)


# Fields that are the grid's, and the flags that set them.
_GRID = {
    "batch_size": "--batch_sizes",
    "learning_rate": "--learning_rates",
    "seed": "--seeds",
}


def parser() -> Parser:
    """Flags beside those of the config."""
    flags = Parser(
        "sweep",
        HELP,
        f"example:\n  {EXAMPLE}\n\nA killed sweep continues with the same command.",
    )
    flags.add_argument("--config", metavar="FILE.py[:ARG]", help="what to run, from configs/")
    flags.add_argument("--config.FIELD", metavar="VALUE", help="sets a field of the config")
    flags.add_argument(
        "--workdir", type=local_path, help="folder of the sweep, a run folder each below"
    )
    flags.add_argument("--batch_sizes", default="32", help="default: 32, the paper's")
    flags.add_argument(
        "--learning_rates", default="5e-5,4e-5,3e-5,2e-5", help="default: the paper's four"
    )
    flags.add_argument("--seeds", default="0", help="default: 0")
    flags.add_argument("--quiet", action="store_true", help="no progress")
    return flags


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    name, fields, rest = split_config_flags(arguments)
    flags = parser().parse(rest)
    config = load_config(name, fields, example="--config=configs/glue.py:mrpc")
    if flags.workdir is None:
        raise UserError("no folder for the sweep: expected --workdir=DIR")
    for field, text in fields:
        if field in _GRID:
            raise UserError(
                f"--config.{field}={text}: a sweep takes it from its grid; expected "
                f"{_GRID[field]}={text}"
            )
    batch_sizes = _numbers("batch_sizes", flags.batch_sizes, int)
    rates = _numbers("learning_rates", flags.learning_rates, float)
    seeds = _numbers("seeds", flags.seeds, int)
    from gptbert.reports.tables import text_table
    from gptbert.runs.sweep import sweep

    summary = sweep(
        config,
        flags.workdir,
        batch_sizes=batch_sizes,
        learning_rates=rates,
        seeds=seeds,
        quiet=flags.quiet,
    )
    print(text_table(_rows(summary), _header(summary)))
    best = summary["best"]
    print(
        f"best: batch size {best['batch_size']}, learning rate {best['learning_rate']:g}; "
        f"its best run is {flags.workdir / summary['best_run']}"
    )
    print(f"rule: {summary['rule']}")
    return 0


def _numbers(name: str, text: str, kind: type) -> list:  # type: ignore[type-arg]
    try:
        values = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--{name}={text!r}: expected numbers separated by commas") from None
    least = 0 if name == "seeds" else 1e-300
    if not values or any(not least <= value < float("inf") for value in values):
        raise UserError(f"--{name}={text!r}: expected positive numbers separated by commas")
    if len(set(values)) != len(values):
        raise UserError(f"--{name}={text!r}: the same number twice")
    return values


def _header(summary: dict) -> list[str]:  # type: ignore[type-arg]
    metric = summary["metric"]
    spread = [f"{metric} mean", "std", "median", "min", "max"]
    return ["batch size", "learning rate", "runs", "failed", "collapsed", *spread]


def _rows(summary: dict) -> list[list[str]]:  # type: ignore[type-arg]
    rows = []
    for cell in summary["cells"]:
        found = cell["metrics"].get(summary["metric"], {})
        spread = [found.get(k) for k in ("mean", "std", "median", "minimum", "maximum")]
        rows.append(
            [
                str(cell["batch_size"]),
                f"{cell['learning_rate']:g}",
                str(cell["runs"]),
                str(cell["failed"]),
                str(cell["collapsed"]),
                *("-" if value is None or value != value else f"{value:.4f}" for value in spread),
            ]
        )
    return rows
