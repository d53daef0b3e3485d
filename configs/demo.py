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
        --config.init_from=demo/pretrain-bert
    gptbert finetune --config=configs/demo.py:finetune-bert --workdir=demo/finetune-bert-random \
        --config.model=bert-tiny --config.tokenizer=demo/vocabulary-bert

and the same for a GPT (`pretrain-gpt`, `finetune-gpt`, kind bpe). The labelled set asks whether a
description belongs to a function; the functions that it is scored on are left out of the text.

Not a reproduction of anything: models of 2 layers and 128 units, 2 MB of text, five minutes on two
cores.
"""

from gptbert.errors import UserError, nearest
from gptbert.runs.pretraining_recipe import pretraining
from gptbert.runs.recipe import finetuning

STAGES = ("pretrain-bert", "pretrain-gpt", "finetune-bert", "finetune-gpt")


def get_config(stage: str = "finetune-bert"):
    """The recipe of one stage."""
    if stage not in STAGES:
        raise UserError(
            f"stage {stage!r} of the demonstration is unknown{nearest(stage, STAGES)}; expected "
            f"one of {', '.join(STAGES)}"
        )
    kind, family = stage.split("-")
    return _pretraining(family) if kind == "pretrain" else _finetuning(family)


def _pretraining(family):
    bert = family == "bert"
    config = pretraining(f"{family}-tiny", "mlm_nsp" if bert else "next_token")
    config.phases = ((1.0, 48),)
    config.batch_size = 64
    config.steps = 900
    # Small steps at first: with 1e-3 a post-LN model of this size stays at the words' frequencies.
    config.learning_rate = 5e-4
    config.warmup_steps = 100
    config.dropout = 0.0  # a few passes over the text leave nothing to be learnt by heart
    config.eval_every = 300
    config.eval_tokens = 50_000
    config.checkpoint_every = 100
    config.log_every = 20
    if not bert:
        config.optimizer = "gpt_adam"
        config.schedule = "gpt_cosine"
    return config


def _finetuning(family):
    config = finetuning("docstrings")
    config.max_length = 48
    config.num_epochs = 3.0
    config.learning_rate = 3e-4
    config.eval_every = 46
    config.log_every = 23
    if family == "gpt":
        config.optimizer = "gpt_adam"
        config.schedule = "gpt_linear"
    return config
