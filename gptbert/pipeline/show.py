"""Batches as people read them, for `--dry_run`."""

from __future__ import annotations

import numpy as np

from gptbert.pipeline.batch import Batch
from gptbert.tokenizers import Tokenizer


def decode_instances(batch: Batch, row: int, tokenizer: Tokenizer) -> list[str]:
    """The masked instances of one row of a host batch, as text.

    A predicted token is shown as [what the model sees:what was there]:

        [CLS] the man [MASK:went] to [the:the] store [SEP] he [tar:bought] milk [SEP]  next: yes
    """
    targets, packed = batch.targets, batch.packed
    real = targets.weights[row] > 0
    labels = dict(
        zip(targets.positions[row][real].tolist(), targets.labels[row][real].tolist(), strict=True)
    )
    special = {
        number: name
        for name, number in (
            ("[CLS]", tokenizer.special.cls),
            ("[SEP]", tokenizer.special.sep),
            ("[MASK]", tokenizer.special.mask),
        )
    }

    def told(place: int) -> str:
        shown = _entry(int(packed.tokens[row, place]), special, tokenizer)
        if place not in labels:
            return shown
        return f"[{shown.strip('[]')}:{_entry(labels[place], special, tokenizer)}]"

    found = []
    for number in sorted(set(packed.segments[row].tolist()) - {0}):
        places = np.flatnonzero(packed.segments[row] == number)
        slot = np.flatnonzero((targets.starts[row] == places[0]) & (targets.next_weights[row] > 0))
        text = " ".join(told(int(place)) for place in places)
        if len(slot):
            text += f"  next: {('yes', 'no')[int(targets.next_labels[row, slot[0]])]}"
        found.append(text)
    return found


def _entry(number: int, special: dict[int | None, str], tokenizer: Tokenizer) -> str:
    return special.get(number) or tokenizer.decode([number])
