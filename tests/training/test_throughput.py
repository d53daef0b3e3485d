"""Model FLOPs counted by hand, matrix by matrix: once forward, twice backward."""

import dataclasses

import numpy as np
import pytest

from gptbert.models.inputs import Packed
from gptbert.models.presets import BertConfig, GptConfig
from gptbert.pipeline.batch import Batch, ExampleTargets, MaskedTargets, TokenTargets
from gptbert.training.throughput import Throughput

SIZES = {"layers": 2, "width": 6, "heads": 2, "inner": 10, "vocabulary": 11, "positions": 8}
BERT, GPT = BertConfig(**SIZES), GptConfig(**SIZES)
# Examples of 3, 2 and 4 tokens, and 3 places of nothing.
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [3, 3, 3, 3, 0, 0]], np.int32)
PACKED = Packed(SEGMENTS, SEGMENTS, SEGMENTS, SEGMENTS)
LENGTHS = (3, 2, 4)
TOKENS = sum(LENGTHS)


def multiplied(tokens, inputs, outputs):
    """Multiplications and additions of a product [tokens, inputs] x [inputs, outputs]."""
    return 2 * tokens * inputs * outputs


def layers(pairs, read=TOKENS):
    """Of both layers: four projections, two products of the MLP, scores and mixed values.

    Of the last one keys and values of all tokens, and the rest of those that are read.
    """
    width, inner, tokens = 6, 10, TOKENS

    def of_one(read):
        projections = 2 * multiplied(tokens, width, width) + 2 * multiplied(read, width, width)
        mlp = multiplied(read, width, inner) + multiplied(read, inner, width)
        return projections + mlp + 2 * multiplied(pairs * read / tokens, width, 1)

    return of_one(tokens) + of_one(read)


def test_bert_with_its_masked_words():
    slots = np.zeros((2, 3), np.float32)
    weights = np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    examples = np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    targets = MaskedTargets(slots, slots, weights, slots, slots, examples)
    head = multiplied(3, 6, 6) + multiplied(3, 6, 11)  # a dense layer and the words
    pairs = sum(n * n for n in LENGTHS)
    found = Throughput(BERT, None).flops(Batch(PACKED, targets))
    assert found == pytest.approx(3 * (layers(pairs, read=6) + head), rel=1e-12)


def test_bert_with_a_classifier():
    slots = np.zeros((2, 2), np.float32)
    found = Throughput(BERT, None).flops(Batch(PACKED, ExampleTargets(slots, slots, slots)))
    assert found == 3 * layers(sum(n * n for n in LENGTHS))


@pytest.mark.parametrize("config", [GPT, dataclasses.replace(GPT, norm_place="pre")])
def test_gpt_with_its_next_tokens(config):
    """A token sees half of its text; every position but the last of a text has a next token."""
    weights = (SEGMENTS > 0) & (np.roll(SEGMENTS, -1, 1) == SEGMENTS)
    targets = TokenTargets(SEGMENTS, weights.astype(np.float32))
    head = multiplied(2 + 1 + 3, 6, 11)
    pairs = sum(n * n for n in LENGTHS) / 2
    found = Throughput(config, None).flops(Batch(PACKED, targets))
    assert found == 3 * (layers(pairs) + head)


def test_utilisation_is_a_share_of_the_peak():
    assert Throughput(BERT, 200.0).rates(50.0) == {
        "model_flops_per_second": 50.0, "utilisation": 0.25
    }  # fmt: skip
    assert Throughput(BERT, None).rates(50.0) == {"model_flops_per_second": 50.0}
