"""Heads on a GPT: where the vector is read, what is added up, and that packing changes nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.models import dropout
from gptbert.models.dropout import Noise, step_key
from gptbert.models.heads import GptClassifier, SequenceClassifier, make_classifier
from gptbert.models.inputs import Packed
from gptbert.models.parameters import describe, initialize, merge
from gptbert.models.presets import Compute, GptConfig
from tests import tiny

CONFIG = GptConfig(layers=1, width=20, heads=2, inner=24, vocabulary=31, positions=16)
# Two sequences an example, of equal length as the two orders of a pair are.
EXAMPLES = [
    ([3, 4, 5, 1], [4, 5, 3, 1]),
    ([7, 8, 1], [8, 7, 1]),
    ([9, 2, 6, 6, 1], [6, 6, 9, 2, 1]),
]


def rows_of(rows, size, slots):
    """Packed rows, and where to read [R,N,2]."""
    arrays = np.zeros((4, len(rows), size), np.int32)
    starts = np.zeros((len(rows), slots, 2), np.int32)
    for row, members in enumerate(rows):
        at = 0
        for slot, example in enumerate(members):
            for k, tokens in enumerate(EXAMPLES[example]):
                part = np.s_[row, at : at + len(tokens)]
                arrays[0][part], arrays[1][part] = tokens, range(len(tokens))
                arrays[2][part] = 1 + 2 * example + k
                at += len(tokens)
                starts[row, slot, k] = at - 1
    return Packed(*arrays), starts


def build(rngs):
    return GptClassifier(CONFIG, Compute(), 3, rngs)


@pytest.mark.parametrize("noisy", [False, True])
def test_both_orders_are_added_and_packing_changes_nothing(noisy):
    graph, _ = describe(build)
    parameters = initialize(build, 0)

    @jax.jit
    def logits(packed, starts):
        noise = Noise(jnp.asarray(step_key(0, 0)), packed.segments, packed.positions)
        return merge(graph, parameters)(packed, starts, noise if noisy else None)

    together = np.asarray(logits(*rows_of([[0, 1], [2]], 16, 2)))
    assert together.shape == (2, 2, 3)
    alone = np.asarray(logits(*rows_of([[0], [1], [2]], 10, 1)))[:, 0]
    np.testing.assert_allclose(
        [together[0, 0], together[0, 1], together[1, 0]], alone, rtol=1e-5, atol=1e-7
    )
    if noisy:
        return
    packed, starts = rows_of([[0, 1], [2]], 16, 2)
    hidden = merge(graph, parameters).gpt(packed)
    expected = hidden[0, 3] + hidden[0, 7]
    kernel, bias = parameters["classifier/kernel"], parameters["classifier/bias"]
    np.testing.assert_allclose(together[0, 0], expected @ kernel + bias, rtol=1e-5, atol=1e-7)
    one = np.asarray(logits(packed, starts[..., 0]))
    np.testing.assert_allclose(one[0, 0], hidden[0, 3] @ kernel + bias, rtol=1e-5, atol=1e-7)


def test_the_vector_that_is_read_is_dropped():
    """The rates of the backbone 0: a logit is the sum of what is kept of the vector, doubled."""
    still = dataclasses.replace(CONFIG, dropout=0.0, attention_dropout=0.0, embedding_dropout=0.0)
    plain = merge(
        describe(lambda rngs: GptClassifier(still, Compute(), 3, rngs))[0], initialize(build, 0)
    )
    plain.rate = 0.5
    packed, starts = rows_of([[0]], 16, 1)
    noise = Noise(jnp.asarray(step_key(0, 0)), packed.segments, packed.positions)
    x = plain.gpt(packed, read=starts[..., 0]) + plain.gpt(packed, read=starts[..., 1])
    kept = noise.vectors(x, packed.segments[:, :1], 0.5, dropout.CLASSIFIER)
    assert 0 < np.count_nonzero(kept) < x.size
    found = plain(packed, starts, noise)
    kernel, bias = plain.classifier.kernel[...], plain.classifier.bias[...]
    np.testing.assert_allclose(found, kept @ kernel + bias, rtol=1e-5, atol=1e-7)


def test_the_classifier_of_a_shape():
    for config, pooling, kind in (
        (CONFIG, "cls", GptClassifier),
        (tiny.CONFIG, "mean", SequenceClassifier),
    ):
        graph, shapes = describe(
            lambda rngs, c=config, p=pooling: make_classifier(c, Compute(), 2, rngs, p)
        )
        assert type(merge(graph, shapes)) is kind
    with pytest.raises(UserError, match="pooling 'mean' is one of BERT's"):
        describe(lambda rngs: make_classifier(CONFIG, Compute(), 2, rngs, "mean"))
    with pytest.raises(UserError, match="pooling 'meen' is unknown"):
        describe(lambda rngs: make_classifier(tiny.CONFIG, Compute(), 2, rngs, "meen"))
