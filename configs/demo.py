"""The demonstration of `make demo`, stage by stage: `configs/demo.py:STAGE`.

    gptbert demo --workdir=demo

does, with text that every Python installation carries (documentation topics and docstrings),

    gptbert train-vocabulary --kind=wordpiece --size=2048 --input=demo/corpus.jsonl \
        --output=demo/vocabulary-bert
    gptbert prepare-corpus --tokenizer=demo/vocabulary-bert --input=demo/corpus.jsonl \
        --held_out=0.05 --output=demo/store-bert
    gptbert pretrain --config=configs/demo.py:pretrain-bert --config.corpus=demo/store-bert \
        --workdir=demo/pretrain-bert
    gptbert finetune --config=configs/demo.py:finetune-bert --workdir=demo/finetune-bert \
        --config.train_file=demo/train.jsonl --config.eval_file=demo/dev.jsonl \
        --config.init_from=demo/pretrain-bert
    gptbert finetune --config=configs/demo.py:finetune-bert --workdir=demo/finetune-bert-random \
        --config.train_file=demo/train.jsonl --config.eval_file=demo/dev.jsonl \
        --config.model=bert-tiny --config.tokenizer=demo/vocabulary-bert

and the same for a GPT (`pretrain-gpt`, `finetune-gpt`, kind bpe). The labels say which module of
the library a function's description comes from; the functions that are scored are not in the text.

Not a reproduction of anything: models of 2 layers and 128 units, 2 MB of text, 600 labels, five
minutes on two cores.

`pairs` is a harder set for real weights, which stays at chance for models as small as these: does
this description belong to this function?

    gptbert finetune --config=configs/demo.py:pairs --config.init_from=BERT --workdir=runs/pairs
"""

from gptbert.errors import UserError, nearest
from gptbert.runs.pretraining_recipe import pretraining
from gptbert.runs.recipe import finetuning, finetuning_on_own_files

STAGES = ("pretrain-bert", "pretrain-gpt", "finetune-bert", "finetune-gpt", "pairs")


def get_config(stage: str = "finetune-bert"):
    """The recipe of one stage."""
    if stage not in STAGES:
        raise UserError(
            f"stage {stage!r} of the demonstration is unknown{nearest(stage, STAGES)}; expected "
            f"one of {', '.join(STAGES)}"
        )
    if stage == "pairs":
        return _pairs()
    kind, family = stage.split("-")
    return _pretraining(family) if kind == "pretrain" else _finetuning(family)


def _pretraining(family):
    bert = family == "bert"
    config = pretraining(f"{family}-tiny", "mlm_nsp" if bert else "next_token")
    config.phases = ((1.0, 32 if bert else 64),)
    config.batch_size = 32 if bert else 16
    config.steps = 1600
    # Many small steps at a high rate, which wants Adam's bias correction and a long warm-up: with
    # the papers' rates, models of this size stay at the words' frequencies for minutes.
    config.learning_rate = 2e-3
    config.warmup_steps = 150
    config.optimizer = "adamw"
    config.b2 = 0.98
    config.schedule = "bert" if bert else "gpt_cosine"
    config.dropout = 0.0  # a few passes over the text leave nothing to be learnt by heart
    config.eval_every = 300
    config.eval_tokens = 50_000
    config.checkpoint_every = 100
    config.log_every = 20
    return config


def _finetuning(family):
    config = finetuning_on_own_files()
    config.text_columns = ("description",)
    config.label_column = "module"
    config.max_length = 32
    config.num_epochs = 12.0  # random weights need them
    config.learning_rate = 5e-4
    config.log_every = 10
    if family == "gpt":
        config.optimizer = "gpt_adam"
        config.schedule = "gpt_linear"
    return config


def _pairs():
    config = finetuning("docstrings")
    config.num_epochs = 1.0
    config.max_length = 64
    config.eval_every = 23
    config.log_every = 7
    return config
