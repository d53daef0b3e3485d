"""The fields of a fine-tuning config, with the published defaults and their sources."""

from __future__ import annotations

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def finetuning(task: str) -> ConfigDict:
    """BERT's fine-tuning recipe (paper section 4.1, released code's defaults); all overridable."""
    config = ConfigDict()
    config.task = task

    # What it starts from: a Hugging Face folder or a run folder; or a preset with random weights.
    config.init_from = ""
    config.model = ""  # bert-tiny … bert-large, minilm-l6-h384, gpt, gpt-mini, gpt2-124m …
    config.tokenizer = ""  # folder or vocab.txt; by default that of init_from
    config.pooling = "cls"  # as published; or 'mean'

    # Data. A GLUE folder or TFDS folder; the other fields belong to text_classification.
    config.data_dir = ""
    config.max_length = 128  # released code and README; the paper is silent

    # Recipe: batch 32, 3 epochs (paper 4.1); the paper's rates are 5e-5, 4e-5, 3e-5, 2e-5.
    config.batch_size = 32
    config.num_epochs = 3.0
    config.learning_rate = 5e-5
    config.warmup_proportion = 0.1  # released code
    config.optimizer = "bert_adam"  # as released, no bias correction; or 'gpt_adam', 'adamw'
    config.schedule = "bert"  # as released; or 'gpt_linear', 'gpt_cosine', 'cosine', 'constant'
    config.weight_decay = 0.01
    config.clip_norm = 1.0
    config.dropout = 0.1  # always (BERT A.3, GPT 4.1), whatever the weights were trained with
    config.attention_dropout = placeholder(float)  # of attention's shares; by default as dropout
    config.frozen = ()  # patterns of parameter paths, for instance ('embeddings', 'layers/[0-3]/')
    config.seed = 0

    # When to look and to save; 0 means: only at the end of each epoch / never.
    config.eval_every = 0  # steps
    config.checkpoint_every = 0  # steps
    config.keep = 2  # newest checkpoints kept, beside the best one
    config.log_every = 10  # steps
    config.early_stopping = 0  # evaluations without a better one, then the best counts; 0 is off
    config.select = "last"  # whose figures are the result: the last checkpoint, or 'best' on dev

    # How it is computed; none of this changes the result beyond rounding.
    config.compute_dtype = "float32"  # or 'bfloat16' (parameters and softmax stay float32)
    config.accumulate = 1  # pieces of a batch, one after the other
    config.row_length = 0  # tokens of a packed row; 0: chosen from the lengths
    config.scan_layers = placeholder(bool)  # by default on accelerators
    config.remat = False
    config.lean_vocabulary = True  # rows of words that the data lacks: in closed form (one device)
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})
    return config


def finetuning_on_own_files() -> ConfigDict:
    """The recipe for a user's own labelled texts."""
    config = finetuning("text")

    # Your own files; of configs/text_classification.py alone.
    config.train_file = ""
    config.eval_file = ""
    config.text_columns = ("sentence",)
    config.label_column = "label"
    config.label_kind = "auto"  # or 'classes' (names, also of numbers), 'score'; else by the data
    config.eval_share = 0.1
    return config
