"""gptbert: BERT, GPT and GPT-2 as published, in JAX and Flax.

The public surface is small: the console script `gptbert`, `gptbert.load`, and the modules'
docstrings. Importing this package imports nothing heavy, so that `gptbert --help` is quick and
`gptbert.runtime` can set the process up before JAX starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptbert.weights.pretrained import Pretrained

__version__ = "0.1.0"


def load(path: str, **options: object) -> Pretrained:
    """Loads a pre-trained or fine-tuned model; see `gptbert.weights.pretrained.load`."""
    from gptbert import runtime

    runtime.prepare()
    from gptbert.weights.pretrained import load as load_pretrained

    return load_pretrained(path, **options)  # type: ignore[arg-type]
