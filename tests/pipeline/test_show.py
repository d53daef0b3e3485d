"""Masked instances as text."""

import numpy as np

from gptbert.models.inputs import Packed
from gptbert.pipeline.batch import Batch, MaskedTargets
from gptbert.pipeline.pretraining_plan import plan_instances
from gptbert.pipeline.show import decode_instances
from tests.pipeline.corpora import BERT, CLS, COSTS, MASK, SEP, corpus, instances_of


def test_predictions_show_both_tokens():
    tokens = np.array([[CLS, 10, MASK, 12, 80, SEP, 13, SEP, CLS, 20, SEP, 21, SEP, 0]])
    segments = np.array([[1] * 8 + [2] * 5 + [0]])
    positions = np.array([[2, 3, 4, 0]])
    targets = MaskedTargets(
        positions,
        np.array([[11, 12, 14, 0]]),
        np.array([[1.0, 1.0, 1.0, 0.0]]),
        np.array([[0, 8]]),
        np.array([[0, 1]]),
        np.array([[1.0, 1.0]]),
    )
    batch = Batch(Packed(tokens, positions, segments, np.zeros_like(tokens)), targets)
    assert decode_instances(batch, 0, BERT) == [
        "[CLS] w10 [MASK:w11] [w12:w12] [w80:w14] [SEP] w13 [SEP]  next: yes",
        "[CLS] w20 [SEP] w21 [SEP]  next: no",
    ]


def test_rows_of_a_plan_can_be_read(tmp_path):
    plan = plan_instances(
        corpus(tmp_path), BERT, phases=((1.0, 32),), batch_size=8, steps=2, seed=0, costs=COSTS
    )
    batch = plan.batch(1)
    told = [
        text
        for row in range(len(batch.packed.tokens))
        for text in decode_instances(batch, row, BERT)
    ]
    assert len(told) == len(instances_of(batch)) == 8
    assert sum(text.count(":w") for text in told) == batch.targets.weights.sum()
    assert all(text.startswith("[CLS] ") and text[-11:].strip() for text in told)
    assert sum("next: no" in text for text in told) == batch.targets.next_labels.sum()
