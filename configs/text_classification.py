"""Your own labelled texts: TSV, CSV or JSONL, one text or a pair, classes or a score.

    gptbert finetune --config=configs/text_classification.py --config.train_file=reviews.csv \
        --config.text_columns=review --config.label_column=stars --config.init_from=BERT \
        --workdir=runs/reviews

Classes are those found in the data; a column of fractional numbers is a score, unless
`label_kind` says otherwise: `classes` for half stars, `score` for whole ones. Without
`eval_file`, `eval_share` of the training rows is held out by a hash of their texts.
Hardware, cost and result depend on the data; `--dry_run` estimates the cost first.
"""

from gptbert.runs.recipe import finetuning_on_own_files


def get_config():
    """The recipe for a user's own file."""
    return finetuning_on_own_files()
