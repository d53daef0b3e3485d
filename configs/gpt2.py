"""Pre-train GPT-2 (Radford et al. 2019): next tokens of contiguous windows, byte-level BPE.

    gptbert prepare-corpus --tokenizer=VOCAB --input='TEXT/**' --output=STORE
    gptbert pretrain --config=configs/gpt2.py:124m --config.corpus=STORE --workdir=runs/gpt2

Sizes: 124m, 355m, 774m, 1558m, mini (4 x 256), tiny (2 x 128). Published: the shapes, windows of
1,024, batches of 512, the vocabulary. Everything else the paper leaves open; here, as its
reproductions (nanoGPT, llm.c, and the GPT-3 paper for the larger sizes):

| choice | value |
| --- | --- |
| rate | 6e-4 (124m), 3e-4 (355m), 2.5e-4 (774m), 6e-4 (1558m, llm.c) |
| schedule | 2,000 steps of warm-up, cosine to a tenth |
| optimizer | AdamW, betas 0.9 and 0.95, epsilon 1e-8, decay 0.1, clipping at 1 |
| dropout | 0 |
| steps | 600,000 (nanoGPT's number; 315B tokens, in its batches of 480 windows 295B) |

Hardware and cost are not published. Expected perplexity on the WikiText-2 test set (Table 3,
zero-shot, trained on WebText): 29.41, 22.76, 19.93 and 18.34. `tiny` is no result of a paper: 400
steps of 16 windows of 128, which learn something visible in a minute on a CPU.
"""

from gptbert.runs.pretraining_recipe import pretraining

RATES = {"355m": 3e-4, "774m": 2.5e-4}


def get_config(size: str = "124m"):
    """The recipe for one size."""
    config = pretraining(f"gpt2-{size}", "next_token")
    config.phases = ((1.0, 1024),)
    config.batch_size = 512
    config.steps = 600_000
    config.learning_rate = RATES.get(size, 6e-4)
    config.warmup_steps = 2_000
    config.schedule = "cosine"
    config.final_rate = 0.1
    config.optimizer = "adamw"
    config.b2 = 0.95
    config.epsilon = 1e-8
    config.weight_decay = 0.1
    if size == "tiny":
        config.phases = ((1.0, 128),)
        config.batch_size = 16
        config.steps = 400
        config.learning_rate = 1e-3
        config.warmup_steps = 40
        config.eval_every = 200
        config.eval_tokens = 50_000
        config.log_every = 20
    return config
