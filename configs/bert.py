"""Pre-train BERT (Devlin et al. 2018, section 3.1 and A.2): masked words and next sentences.

    gptbert prepare-corpus --tokenizer=VOCAB --input='TEXT/**' --output=STORE
    gptbert pretrain --config=configs/bert.py:base --config.corpus=STORE --workdir=runs/bert

Sizes: tiny, mini, small, medium, base, large. As in the paper: 1,000,000 steps of 256 examples, 128
tokens for 90% of the steps and 512 for the rest, rate 1e-4 with 10,000 steps of warm-up.

| size | hardware of the paper | cost | GLUE average (Table 1, fine-tuned) |
| --- | --- | --- | --- |
| base | 4 Cloud TPUs (16 chips) | 4 days | 79.6 |
| large | 16 Cloud TPUs (64 chips) | 4 days | 82.1 |

`tiny` is no result of a paper: 600 steps of 32 short examples that learn something visible in
about a minute on a CPU, with a higher rate, Adam's bias correction and no dropout: with the paper's
recipe so small a model stays at the words' frequencies for minutes. Ablations of section 5.1:
--config.objective=mlm (no next sentences) or left_to_right; of C.2: --config.masking.mixture.
Domain adaptation: --config.init_from=WEIGHTS with a rate of about 2e-5.
"""

from gptbert.runs.pretraining_recipe import pretraining


def get_config(size: str = "base"):
    """The recipe for one size."""
    config = pretraining(f"bert-{size}", "mlm_nsp")
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
