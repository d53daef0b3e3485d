"""GPT on GLUE (Radford et al. 2018, section 4.2, Tables 2 and 4): one task an argument.

    gptbert finetune --config=configs/gpt_glue.py:rte --config.data_dir=GLUE \
        --config.init_from=GPT --workdir=runs/gpt-rte

The recipe is the paper's: batch 32, 3 epochs, rate 6.25e-5, warm-up over 0.2% of the training and a
linear fall, dropout 0.1, texts of up to 512 tokens; the optimizer is that of the released code,
which reports the best of its scores on the validation set, where here the last checkpoint counts
(--config.select=best has the other). Texts are read between a
start and an extract token, pairs of MRPC, QQP and STS-B in both orders. The paper's auxiliary
language-model loss is not part of it yet.

| task | metric | test (Tables 2 and 4) |
| --- | --- | --- |
| mnli | accuracy m / mm | 82.1 / 81.4 |
| qqp | F1 | 70.3 |
| qnli | accuracy | 88.1 |
| sst2 | accuracy | 91.3 |
| cola | Matthews correlation | 45.4 |
| stsb | Pearson | 82.0 |
| mrpc | F1 | 82.3 |
| rte | accuracy | 56.0 |
"""

from gptbert.runs.recipe import finetuning


def get_config(task: str = "rte"):
    """The recipe for one GLUE task."""
    config = finetuning(f"glue/{task}")
    config.max_length = 512
    config.learning_rate = 6.25e-5
    config.warmup_proportion = 0.002
    config.optimizer = "gpt_adam"
    config.schedule = "gpt_linear"
    return config
