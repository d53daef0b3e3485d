"""The objectives of pre-training: masked words with next sentences (BERT), next tokens (GPT).

BERT section 3.1, A.2:  loss = sum of masked words' losses / (their number + 1e-5)
                             + sum of next-sentence losses / number of pairs
GPT section 3.1:        loss = sum of tokens' losses / their number

All sums and numbers are those of the whole batch, over all devices. (On several TPU cores the
released code averages each core's own mean; that differs by rounding of the shares.)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gptbert.models.dropout import Noise
from gptbert.models.layers import Place
from gptbert.pipeline.batch import Batch

OBJECTIVES = ("mlm_nsp", "mlm", "left_to_right", "next_token")


@dataclasses.dataclass(frozen=True)
class MaskedObjective:
    """Restores masked words; with `next_sentence`, also tells following texts from random ones.

    Its model is `models.pretraining.MaskedLanguageModel`, its targets `MaskedTargets`.
    """

    next_sentence: bool = True

    @property
    def terms(self) -> Mapping[str, float]:
        """The paper's loss is the plain sum of both."""
        return {"mlm_loss": 1.0} | ({"nsp_loss": 1.0} if self.next_sentence else {})

    def counts(self, batch: Batch) -> dict[str, jax.Array]:
        """Masked words and pairs."""
        masked = batch.targets.weights.sum()
        found = {"mlm_loss": masked + 1e-5, "mlm_accuracy": jnp.maximum(masked, 1.0)}
        if self.next_sentence:
            pairs = jnp.maximum(batch.targets.next_weights.sum(), 1.0)
            found |= {"nsp_loss": pairs, "nsp_accuracy": pairs}
        return found

    def sums(
        self, model: Any, batch: Batch, noise: Noise | None, place: Place
    ) -> dict[str, jax.Array]:
        """Summed losses and right answers."""
        targets = batch.targets
        vectors, scores = model(batch.packed, targets.positions, targets.starts, noise, place)
        loss, correct = model.losses(vectors, targets.labels, targets.weights, place)
        found = {"mlm_loss": loss, "mlm_accuracy": correct}
        if self.next_sentence:
            labels, weights = targets.next_labels, targets.next_weights
            losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
            right = (scores.argmax(-1) == labels).astype(jnp.float32)
            found |= {
                "nsp_loss": (losses * weights).sum(),
                "nsp_accuracy": jax.lax.stop_gradient((right * weights).sum()),
            }
        return found


@dataclasses.dataclass(frozen=True)
class NextTokenObjective:
    """Predicts each next token.

    Its model is `models.pretraining.NextTokenModel`, its targets `TokenTargets`.
    """

    @property
    def terms(self) -> Mapping[str, float]:
        return {"token_loss": 1.0}

    def counts(self, batch: Batch) -> dict[str, jax.Array]:
        """Tokens to be predicted."""
        tokens = jnp.maximum(batch.targets.weights.sum(), 1.0)
        return {"token_loss": tokens, "token_accuracy": tokens}

    def sums(
        self, model: Any, batch: Batch, noise: Noise | None, place: Place
    ) -> dict[str, jax.Array]:
        """Summed losses and right answers."""
        vectors = model(batch.packed, noise, place)
        targets = batch.targets
        loss, correct = model.losses(vectors, targets.labels, targets.weights, noise, place)
        return {"token_loss": loss, "token_accuracy": correct}


def objective_of(name: str) -> MaskedObjective | NextTokenObjective:
    """The objective of a config's name (one of `OBJECTIVES`)."""
    if name in ("mlm_nsp", "mlm"):
        return MaskedObjective(next_sentence=name == "mlm_nsp")
    return NextTokenObjective()


def further_metrics(means: Mapping[str, float], tokens_per_byte: float | None) -> dict[str, float]:
    """What follows from an objective's means.

    Args:
      means: By name, of steps or of a held-out set.
      tokens_per_byte: Of the text whose tokens are predicted; None leaves out what needs it.

    Returns:
      `perplexity` (of masked words or next tokens) and, of next tokens,
      `bits_per_byte` = loss x tokens a byte / ln 2.
    """
    if "mlm_loss" in means:
        return {"perplexity": _perplexity(means["mlm_loss"])}
    loss = means["token_loss"]
    found = {"perplexity": _perplexity(loss)}
    if tokens_per_byte is not None:
        found["bits_per_byte"] = loss * tokens_per_byte / math.log(2)
    return found


def shown_metrics(objective: str) -> tuple[str, ...]:
    """What the progress line of an objective has beside the loss, as far as it is measured."""
    if objective in ("mlm_nsp", "mlm"):
        return ("mlm_accuracy", "nsp_accuracy")
    return ("perplexity", "bits_per_byte")


def held_out_metrics(
    sums: Mapping[str, float], counts: Mapping[str, float], tokens_per_byte: float | None
) -> dict[str, float]:
    """Metrics of a held-out set from the objective's sums and counts over it.

    Args:
      sums, counts: By name, added up over all batches.
      tokens_per_byte: Of the held-out text, for bits a byte; None leaves them out.

    Returns:
      `loss` (all terms), accuracies, and `further_metrics`.
    """
    means = {name: value / counts[name] for name, value in sums.items()}
    further = further_metrics(means, tokens_per_byte)
    if "mlm_loss" in means:
        found = {
            "loss": means["mlm_loss"] + means.get("nsp_loss", 0.0),
            "mlm_loss": means["mlm_loss"],
            "perplexity": further["perplexity"],
            "mlm_accuracy": means["mlm_accuracy"],
        }
        return found | {k: v for k, v in means.items() if k.startswith("nsp_")}
    found = {"loss": means["token_loss"], "perplexity": further["perplexity"]}
    return found | {"accuracy": means["token_accuracy"]} | further


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))
