"""Other people's files -> `Example`: columns, label names, and nothing about models.

The formats live in `glue.py` (GLUE's folders), `text_files.py` (a user's TSV, CSV, JSONL) and
`tfds.py` (data prepared by TensorFlow Datasets). All of them yield `Example`s whose labels are
*names*, spelt as in TFDS (`not_equivalent`, `entailment`), never numbers: every code base numbers
the classes in another order, and a permuted head is wrong without an error message.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One labelled text or pair of texts, as read.

    Attributes:
      id: The example's own name within its split (GLUE's index column, else the row number from 0).
      texts: One text, or two for a pair.
      label: A class name, a score (float) for regression, or None where unknown (test data).
    """

    id: str
    texts: tuple[str, ...]
    label: str | float | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The examples of one split with what is needed to use and to trust them.

    Attributes:
      name: What messages call it, for instance `glue/mrpc dev`.
      examples: In file order.
      classes: The class names in the order of the model's outputs; empty for regression.
      source: Path of the file (or folder) that was read.
      fingerprint: SHA-256 (hex) of the bytes read, so that a resumed run notices changed data.
      notes: What the reader repaired, skipped or counted, one sentence each; never silent.
    """

    name: str
    examples: list[Example]
    classes: tuple[str, ...]
    source: str
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def is_regression(self) -> bool:
        return not self.classes
