"""The fine-tuning recipe of Google's released BERT code, written out for PyTorch.

The optimizer, the schedule, the input transform and the head are those of `optimization.py` and
`run_classifier.py`. The order of the examples is not: every epoch is shuffled in full, where the
released code shuffles file order within a buffer of 100 examples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import torch
import transformers

from gptbert.datasets import Dataset

BATCH_SIZE = 32
MAX_LENGTH = 128
PEAK_RATE = 5e-5
WARMUP_PROPORTION = 0.1
DROPOUT = 0.1
INIT_STD = 0.02


class ReleasedAdam(torch.optim.Optimizer):
    """BERT's optimizer as released in `optimization.py` (`AdamWeightDecayOptimizer`).

    Gradients are clipped to global norm 1.0; moments are not bias-corrected; epsilon stands
    outside the root; weight decay is decoupled and spares LayerNorm parameters and biases.

    Args:
      named_parameters: (name, parameter) pairs; the name decides about weight decay.
    """

    NOT_DECAYED = re.compile("LayerNorm|layer_norm|bias")

    def __init__(self, named_parameters: Iterator[tuple[str, torch.nn.Parameter]]) -> None:
        decayed, spared = [], []
        for name, parameter in named_parameters:
            (spared if self.NOT_DECAYED.search(name) else decayed).append(parameter)
        groups = [{"params": decayed, "decay": 0.01}, {"params": spared, "decay": 0.0}]
        super().__init__(groups, {"lr": 0.0})

    @torch.no_grad()
    def step(self) -> None:
        """Updates every parameter from its gradient at the rate in each group's `lr`."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        scale = 1.0 / max(norm.item(), 1.0)
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, scale, group["lr"], group["decay"])

    def _update(self, p: torch.Tensor, scale: float, rate: float, decay: float) -> None:
        state = self.state[p]
        if not state:
            state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
        g = p.grad.mul_(scale)
        m = state["m"].mul_(0.9).add_(g, alpha=0.1)
        v = state["v"].mul_(0.999).addcmul_(g, g, value=0.001)
        update = m / v.sqrt().add_(1e-6)
        if decay:
            update.add_(p, alpha=decay)
        p.sub_(update, alpha=rate)


def learning_rate(step: int, total_steps: int) -> float:
    """The rate of update number `step` (from 0), as in `optimization.py`.

    The decay counts from step 0, not from the end of the warm-up: the first update has rate 0,
    the rate falls to 0.9 of its peak where the warm-up ends, and the last update has peak / total.
    """
    warmup_steps = int(total_steps * WARMUP_PROPORTION)
    if step < warmup_steps:
        return PEAK_RATE * step / warmup_steps
    return PEAK_RATE * (1.0 - step / total_steps)


def truncate(pieces: list[list[int]], room: int) -> None:
    """Shortens the longer list (the second on a tie) from its end until all fit, in place."""
    while sum(map(len, pieces)) > room:
        longer = pieces[0] if len(pieces[0]) > len(pieces[-1]) else pieces[-1]
        longer.pop()


def encode(dataset: Dataset, tokenizer: transformers.PreTrainedTokenizerBase) -> list[dict]:
    """Returns each example's `input_ids` and `token_type_ids`: [CLS] a [SEP] (b [SEP])."""
    columns = zip(*(example.texts for example in dataset.examples), strict=True)
    ids = [tokenizer(list(texts), add_special_tokens=False)["input_ids"] for texts in columns]
    features = []
    for pieces in map(list, zip(*ids, strict=True)):
        truncate(pieces, MAX_LENGTH - 1 - len(pieces))
        tokens, types = [tokenizer.cls_token_id], [0]
        for segment, piece in enumerate(pieces):
            tokens += [*piece, tokenizer.sep_token_id]
            types += [segment] * (len(piece) + 1)
        features.append({"input_ids": tokens, "token_type_ids": types})
    return features


def targets(dataset: Dataset) -> torch.Tensor:
    """Returns the scores (float32 [examples]) or the class numbers (int64 [examples])."""
    labels = [example.label for example in dataset.examples]
    if dataset.is_regression:
        return torch.tensor(labels, dtype=torch.float32)
    return torch.tensor([dataset.classes.index(label) for label in labels])


def collate(features: list[dict]) -> dict[str, torch.Tensor]:
    """Pads a batch to its longest example (the padding's id is 0 in BERT's vocabularies)."""

    def padded(rows: list[list[int]]) -> torch.Tensor:
        tensors = [torch.tensor(row) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)

    return {
        "input_ids": padded([f["input_ids"] for f in features]),
        "token_type_ids": padded([f["token_type_ids"] for f in features]),
        "attention_mask": padded([[1] * len(f["input_ids"]) for f in features]),
    }


def load_model(
    folder: str, num_labels: int, dropout: float = DROPOUT
) -> transformers.BertForSequenceClassification:
    """Loads the encoder's weights and draws the head: truncated normal 0.02, bias 0.

    The loss is the mean squared error on the raw score if `num_labels` is 1, else cross-entropy.
    """
    model = transformers.BertForSequenceClassification.from_pretrained(
        folder,
        num_labels=num_labels,
        problem_type="regression" if num_labels == 1 else "single_label_classification",
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        dtype=torch.float32,
    )
    bound = 2 * INIT_STD
    weight, bias = model.classifier.weight, model.classifier.bias
    torch.nn.init.trunc_normal_(weight, std=INIT_STD, a=-bound, b=bound)
    torch.nn.init.zeros_(bias)
    return model


def batch_order(examples: int, total_steps: int, seed: int) -> torch.Tensor:
    """Returns example numbers [total_steps, 32]: one permutation per epoch, end to end."""
    generator = torch.Generator().manual_seed(seed)
    epochs = math.ceil(total_steps * BATCH_SIZE / examples)
    order = torch.cat([torch.randperm(examples, generator=generator) for _ in range(epochs)])
    return order[: total_steps * BATCH_SIZE].view(total_steps, BATCH_SIZE)
