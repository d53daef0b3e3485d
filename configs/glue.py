"""GLUE (BERT paper, Table 1 and section 4.1): `configs/glue.py:TASK`.

TASK is one of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli.

    gptbert finetune --config=configs/glue.py:mrpc --config.data_dir=GLUE --config.init_from=BERT \
        --workdir=runs/mrpc

| task | dev metric | BERT-Base, test (Table 1) | steps |
| --- | --- | --- | --- |
| mnli | accuracy m / mm | 84.6 / 83.4 | 36,815 |
| qqp | F1 | 71.2 | 34,110 |
| qnli | accuracy | 90.5 | 9,819 |
| sst2 | accuracy | 93.5 | 6,313 |
| cola | Matthews correlation | 52.1 | 801 |
| stsb | Spearman | 85.8 | 538 |
| mrpc | F1 | 88.9 | 343 |
| rte | accuracy | 66.4 | 233 |

The paper takes the best of the rates 5e-5, 4e-5, 3e-5, 2e-5 on dev: `gptbert sweep` does that.
Hardware of the paper: one Cloud TPU, at most an hour each.
"""

from gptbert.runs.recipe import finetuning


def get_config(task: str = "mrpc"):
    """The recipe for one GLUE task."""
    return finetuning(f"glue/{task}")
