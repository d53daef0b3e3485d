"""The stores of a pre-training run: what is trained on, what is scored, and whose ids they hold."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from gptbert.errors import UserError
from gptbert.pipeline.instances import has_pairs
from gptbert.pipeline.mixture import Mixture
from gptbert.pipeline.store import TokenStore
from gptbert.pipeline.store_format import SPLITS
from gptbert.tokenizers import Tokenizer, holds_tokenizer, load_tokenizer
from gptbert.tokenizers.compare import difference
from gptbert.weights.folders import tokenizer_beside


def read_mixture(config: ConfigDict) -> Mixture:
    """The stores to train on."""
    stores = [TokenStore.open(path) for path in _paths(config.corpus, "corpus")]
    return Mixture.of(stores, tuple(config.corpus_weights))


def read_held_out(config: ConfigDict, trained: Mixture, notes: list[str]) -> Mixture | None:
    """What is scored: all of the held-out stores, else the corpus's own share; None if empty.

    What can not be scored is left out, and `notes` say so.
    """
    name = "held_out_corpus" if config.held_out_corpus else "corpus"
    splits = SPLITS if config.held_out_corpus else ("heldout",)
    fingerprint = trained.stores[0].tokenizer_fingerprint
    paths = _paths(config[name], name)
    stores = [TokenStore.open(path, split, fingerprint) for path in paths for split in splits]
    if config.held_out_corpus and (known := _known(stores, trained)):
        raise UserError(
            f"{known} of --config.held_out_corpus is trained on too; expected documents that are "
            "not in --config.corpus"
        )
    filled = [store for store in stores if store.tokens]
    if not filled:
        notes.append("the corpus holds nothing out: nothing is scored while it is learnt")
        return None
    if config.objective != "mlm_nsp":
        return Mixture.of(filled)
    paired = [store for store in filled if has_pairs(store)]
    notes += [
        f"the {store.split} split of {store.path} is not scored: each of its documents "
        f"({store.documents:,}) has one sentence, and next sentence prediction needs two"
        for store in filled
        if store not in paired
    ]
    if not paired:
        notes.append("nothing is scored while it is learnt")
    return Mixture.of(paired) if paired else None


def tokenizer_of(store: TokenStore) -> Tokenizer:
    """The tokenizer that a store carries."""
    with tempfile.TemporaryDirectory() as folder:
        store.save_tokenizer(folder)
        return load_tokenizer(Path(folder))


def check_tokenizer(weights: str, store: TokenStore, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Compares a store's tokenizer with the one beside weights; returns notes.

    The number of entries tells little: two vocabularies of one size give the ids of one to the
    words of the other.

    Args:
      weights: A Hugging Face folder or a run folder.
      store: Of the corpus.
      tokenizer: The one that the store carries.

    Raises:
      UserError: They are different ones.
    """
    beside = tokenizer_beside(weights)
    if not holds_tokenizer(beside):
        return (
            f"no tokenizer lies beside the weights in {weights}: whether the corpus has the ids "
            "that they know could not be compared",
        )
    try:
        theirs = load_tokenizer(beside)
    except UserError as error:
        return (
            f"the tokenizer beside the weights in {weights} could not be read and compared with "
            f"that of the corpus: {error}",
        )
    if odd := difference(theirs, tokenizer, ("with the weights", "in the corpus")):
        raise UserError(
            f"{store.path} was made with another tokenizer than the one beside the weights in "
            f"{weights} ({odd}); {prepare_with(weights)}"
        )
    return ()


def prepare_with(weights: str) -> str:
    """What helps where a corpus does not have the ids of weights."""
    beside = tokenizer_beside(weights)
    if not holds_tokenizer(beside):
        return "expected a corpus prepared with the tokenizer that the weights were made with"
    return f"prepare it with that of the weights: gptbert prepare-corpus --tokenizer={beside}"


def _known(held_out: Sequence[TokenStore], trained: Mixture) -> str:
    """The path of a held-out store whose documents are those of a corpus."""
    fingerprints = {store.fingerprint for store in trained.stores}
    return next((store.path for store in held_out if store.fingerprint in fingerprints), "")


def _paths(stores: str, name: str) -> list[str]:
    """The names between commas; each may begin with `~/`."""
    paths = [os.path.expanduser(path.strip()) for path in stores.split(",")]
    if "" in paths:
        raise UserError(
            f"--config.{name}={stores!r} has an empty name (a comma too many?); "
            "expected one STORE, or several separated by commas"
        )
    return paths
