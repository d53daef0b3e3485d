"""The demonstration of `make demo`: does this description belong to this function?

Pairs read from the standard library of the running Python, so that nothing is downloaded. The
weights are the packaged 6-layer BERT. Not a reproduction of anything; a few minutes on two cores.
"""

from gptbert.runs.recipe import finetuning


def get_config():
    """The recipe with a shorter input and one epoch."""
    config = finetuning("docstrings")
    config.num_epochs = 1.0
    config.max_length = 64
    config.eval_every = 23
    config.log_every = 7
    return config
