"""The `transformers` contestants: what a plain training loop does in a step, on random tokens.

| kind | |
| --- | --- |
| `eager` | the model as it is, float32, vocabulary logits for every position |
| `eager gathered` | BERT, float32: only masked positions go through the head, as in gptbert |
| `compiled` | `torch.compile(model)` with its defaults |
| `autocast` | `torch.autocast("cpu", torch.bfloat16)` around the forward pass |

A step: the batch from NumPy, forward, `loss.backward()`, `clip_grad_norm_` at 1.0,
`AdamW(fused=True)` without decay of biases and LayerNorms, gradients set to None, the loss read.
Rows are full, so that no attention mask is passed: the faster case for `transformers`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
import transformers
from pretrain_cases import SEED, Case, case_of, draw
from pretrain_orders import answers, contestant_flags, obey, timed

from gptbert.commands.config_flag import load_config
from gptbert.models.presets import BertConfig

KINDS = ("eager", "eager gathered", "compiled", "autocast")
_DEFAULT_EPSILON = 1e-6  # of `bert_adam`
Loss = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def make_model(case: Case, dropout: float) -> torch.nn.Module:
    """Random weights; the heads of both objectives for BERT."""
    shape = case.shape(dropout)
    if isinstance(shape, BertConfig):
        bert = transformers.BertConfig(
            vocab_size=shape.vocabulary, hidden_size=shape.width, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, intermediate_size=shape.inner,
            max_position_embeddings=shape.positions, hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )  # fmt: skip
        return transformers.BertForPreTraining(bert)
    gpt2 = transformers.GPT2Config(
        vocab_size=shape.vocabulary, n_positions=shape.positions, n_embd=shape.width,
        n_layer=shape.layers, n_head=shape.heads, n_inner=shape.inner, resid_pdrop=dropout,
        embd_pdrop=dropout, attn_pdrop=dropout, use_cache=False,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(gpt2)


def make_optimizer(case: Case, model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW with the settings of the config; biases and LayerNorms are not decayed."""
    config = load_config(case.config, [], example="")
    decayed = [p for p in model.parameters() if p.ndim > 1]
    spared = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups, lr=1e-6, betas=(0.9, config.b2), eps=config.epsilon or _DEFAULT_EPSILON,
        weight_decay=config.weight_decay, fused=True,
    )  # fmt: skip


def make_batch(case: Case, step: int, gathered: bool) -> dict[str, torch.Tensor]:
    """The tensors of one step, from the same numbers as gptbert's."""
    drawn = draw(case, step)
    tokens = torch.from_numpy(drawn.tokens).long()
    if not case.masked:
        return {"input_ids": tokens, "labels": tokens}
    rows, slots = np.nonzero(drawn.chosen)
    places = drawn.positions[rows, slots]
    masked = drawn.labels[rows, places].astype(np.int64)
    types = torch.arange(case.positions).expand(case.rows, -1) >= case.positions // 2
    batch = {
        "input_ids": tokens,
        "token_type_ids": types.long(),
        "next_sentence_label": torch.from_numpy(drawn.next_labels).long(),
    }
    if gathered:
        flat = torch.from_numpy((rows * case.positions + places).astype(np.int64))
        return batch | {"places": flat, "labels": torch.from_numpy(masked)}
    labels = np.full(drawn.labels.shape, -100, np.int64)
    labels[rows, places] = masked
    return batch | {"labels": torch.from_numpy(labels)}


def make_loss(kind: str, model: torch.nn.Module) -> Loss:
    """Batch -> loss."""
    if kind == "eager gathered":
        return lambda batch: _gathered_loss(model, **batch)
    called = torch.compile(model) if kind == "compiled" else model
    return lambda batch: called(**batch).loss


def _gathered_loss(
    model: torch.nn.Module,
    input_ids: torch.Tensor,
    token_type_ids: torch.Tensor,
    places: torch.Tensor,
    labels: torch.Tensor,
    next_sentence_label: torch.Tensor,
) -> torch.Tensor:
    out = model.bert(input_ids, token_type_ids=token_type_ids)
    masked = out.last_hidden_state.flatten(0, 1)[places]
    words, sentences = model.cls(masked, out.pooler_output)
    loss = torch.nn.functional.cross_entropy
    return loss(words, labels) + loss(sentences, next_sentence_label)


def main() -> None:
    """Sets the model up, then takes steps on orders."""
    flags = contestant_flags((__doc__ or "").splitlines()[0], KINDS)
    began = time.perf_counter()
    with answers() as say:
        torch.set_num_threads(os.cpu_count() or 1)
        transformers.set_seed(SEED)
        case = case_of(flags.model)
        model = make_model(case, flags.dropout).train()
        optimizer, loss_of = make_optimizer(case, model), make_loss(flags.kind, model)
        autocast = torch.autocast("cpu", torch.bfloat16)
        about = {
            "setup_seconds": round(time.perf_counter() - began, 2),
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "versions": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "transformers": transformers.__version__,
            },
        }

        def step(number: int) -> float:
            batch = make_batch(case, number, flags.kind == "eager gathered")
            with autocast if flags.kind == "autocast" else contextlib.nullcontext():
                loss = loss_of(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss.item()

        obey(say, timed(step), about)


if __name__ == "__main__":
    main()
