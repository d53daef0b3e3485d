"""Pre-train GPT (Radford et al. 2018, section 4.1): next tokens of contiguous windows.

    gptbert prepare-corpus --tokenizer=VOCAB --input='BOOKS/**' --output=STORE
    gptbert pretrain --config=configs/gpt.py:gpt --config.corpus=STORE --workdir=runs/gpt

As in the paper: 12 layers of 768, windows of 512, batches of 64, rate 2.5e-4 with 2,000 steps of
warm-up and a cosine to 0, decay 0.01, dropout 0.1 everywhere, 100 epochs of BooksCorpus (about
1,000,000 steps). Hardware of the paper: 8 GPUs, one month (the announcement). Expected: perplexity
18.4 on BooksCorpus. Silent in the paper and taken from the released fine-tuning code: Adam's betas
0.9 and 0.999, epsilon 1e-8, clipping at 1.

Sizes: gpt, mini (4 x 256) and tiny (2 x 128). `tiny` is no result of a paper: 600 steps of 32
windows of 64 that learn something visible in about a minute on a CPU, with a higher rate, plain
AdamW and no dropout: with the paper's recipe so small a model stays at the words' frequencies for
minutes.
"""

from gptbert.runs.pretraining_recipe import pretraining


def get_config(size: str = "gpt"):
    """The recipe for one size."""
    config = pretraining("gpt" if size == "gpt" else f"gpt-{size}", "next_token")
    config.phases = ((1.0, 512),)
    config.batch_size = 64
    config.learning_rate = 2.5e-4
    config.warmup_steps = 2_000
    config.schedule = "gpt_cosine"
    config.optimizer = "gpt_adam"
    if size == "tiny":
        config.phases = ((1.0, 64),)
        config.batch_size = 32
        config.steps = 600
        config.learning_rate = 2e-3
        config.warmup_steps = 100
        config.optimizer = "adamw"
        config.b2 = 0.98
        config.dropout = 0.0
        config.eval_every = 200
        config.eval_tokens = 50_000
        config.log_every = 20
    return config
