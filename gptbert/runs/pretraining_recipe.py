"""The fields of a pre-training config, with their sources; `configs/` has the papers' values."""

from __future__ import annotations

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from gptbert.errors import UserError

_MASKING = ("masking.rate", "masking.mixture", "masking.whole_words", "masking.most")
# Fields that an objective does not read.
_UNREAD = {
    "left_to_right": _MASKING,
    "next_token": (*_MASKING, "short_share", "duplicates"),
}
_DOES = {
    "left_to_right": "masks nothing",
    "next_token": "reads windows as they stand in the corpus",
}


def pretraining(model: str, objective: str) -> ConfigDict:
    """Every field with BERT's value (paper A.2, released code) where a paper does not say more."""
    config = ConfigDict()
    config.model = model  # a preset: bert-tiny … bert-large, gpt, gpt-mini, gpt2-124m …
    config.objective = objective  # mlm_nsp, mlm, left_to_right (section 5.1) or next_token
    config.init_from = ""  # weights to go on from (domain adaptation); random ones by default

    # Data: stores of `gptbert prepare-corpus`, which hold their tokenizer.
    config.corpus = ""  # one store, or several separated by commas
    config.corpus_weights = ()  # shares of the examples; by default by tokens
    config.held_out_corpus = ""  # stores to score on; by default the held-out share of the corpus
    config.phases = ((0.9, 128), (0.1, 512))  # (share of the steps, tokens of an example)

    # How BERT's examples are made (A.2, `create_pretraining_data.py`).
    config.short_share = 0.1  # documents cut to a shorter length in a pass
    config.duplicates = 0  # k > 0: the examples and masks of k passes over and over (static masks)
    config.masking = ConfigDict(
        {
            "rate": 0.15,
            "mixture": (0.8, 0.1, 0.1),  # [MASK], the token itself, a random one (C.2)
            "whole_words": False,  # all pieces of a word are masked together
            "most": 0,  # masked tokens an example at most; 0: rate x length
        }
    )

    # Recipe.
    config.batch_size = 256  # examples or windows
    config.steps = 1_000_000
    config.learning_rate = 1e-4
    config.warmup_steps = 10_000
    config.schedule = "bert"
    config.final_rate = 0.0  # what the schedule `cosine` ends at, as a share
    config.optimizer = "bert_adam"
    config.b2 = 0.999
    config.epsilon = placeholder(float)  # by default the optimizer's own
    config.weight_decay = 0.01
    config.clip_norm = 1.0
    config.dropout = placeholder(float)  # by default that of `model`; all three places
    config.frozen = ()  # patterns of parameter paths that are not trained
    config.seed = 0

    # When to look and to save.
    config.eval_every = 10_000  # steps; the end is always one
    config.eval_tokens = 500_000  # most held-out tokens that are scored
    config.checkpoint_every = 0  # steps between further checkpoints
    config.checkpoint_at = ""  # '100,1000': kept for good; or 'log': those of steps 1, 2, 4, 8 …
    config.keep = 2
    config.log_every = 100

    # How it is computed; none of this changes the result beyond rounding.
    config.compute_dtype = "float32"
    config.accumulate = 1
    config.scan_layers = placeholder(bool)
    config.remat = False
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})
    return config


def check_read(config: ConfigDict) -> None:
    """Refuses a field with another value than its default if nothing reads it."""
    usual = pretraining(config.model, config.objective)
    if config.final_rate and config.schedule != "cosine":
        raise UserError(
            f"--config.final_rate={config.final_rate} does nothing with "
            f"--config.schedule={config.schedule}, which ends where it ends; expected it to be "
            "left out (0), or --config.schedule=cosine"
        )
    for name in _UNREAD.get(config.objective, ()):
        found, default = _field(config, name), _field(usual, name)
        if found != default:
            raise UserError(
                f"--config.{name}={found} does nothing with --config.objective={config.objective}, "
                f"which {_DOES[config.objective]}; expected it to be left out ({default})"
            )


def _field(config: ConfigDict, name: str) -> object:
    found = config
    for part in name.split("."):
        found = found[part]
    return tuple(found) if isinstance(found, list) else found
