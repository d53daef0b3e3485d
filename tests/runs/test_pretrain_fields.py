"""Each field of a pre-training config changes what it must by the time training begins, no more."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from gptbert.models.parameters import merge
from gptbert.pipeline.batch import Batch, MaskedTargets
from gptbert.pipeline.held_out import HeldOut
from gptbert.pipeline.masking import Masking
from gptbert.runs import pretrain
from gptbert.runs.assemble_pretraining import PretrainingAssembly, assemble_pretraining
from gptbert.tokenizers import Tokenizer
from tests import fixtures_pretraining
from tests.fixtures_pretraining import make_text_store, tiny_config
from tests.runs.wiring import Wired, expected_updates, stop_at_training, updates_of

pytestmark = pytest.mark.usefixtures("quickly")

STEPS, WARM, RATE = 24, 4, 3e-3  # of `tiny_config`


@pytest.fixture(scope="module")
def start(text_store: Path, tmp_path_factory) -> Any:
    """Begins a run of a tiny model with some fields changed; what fields can change, by name."""

    def begin(model: str = "test-bert", **fields: Any) -> dict[str, Any]:
        config = tiny_config(model, text_store)
        with config.unlocked():
            config.update_from_flattened_dict(fields)
        assembled: list[PretrainingAssembly] = []

        def assemble(config: Any) -> PretrainingAssembly:
            assembled.append(assemble_pretraining(config))
            return assembled[-1]

        workdir = tmp_path_factory.mktemp("runs")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pretrain, "assemble_pretraining", assemble)
            wired = stop_at_training(
                patch, pretrain, lambda: pretrain.pretrain(config, workdir, quiet=True)
            )
        return facts(wired, assembled[0])

    return begin


def facts(wired: Wired, assembly: PretrainingAssembly) -> dict[str, Any]:
    model = merge(wired.training.graph, wired.state.parameters)
    backbone = getattr(model, "bert", None) or model.gpt
    rates = backbone.layers[-1].config
    (phase,) = wired.plan.phases
    held_out: Any = assembly.held_out
    return {
        "on": wired.training.dropout,
        "dropout": [
            rates.dropout,
            rates.attention_dropout,
            getattr(backbone.embeddings, "rate", backbone.config.dropout),
        ],
        "updates": updates_of(wired.training),
        "rates": wired.rates,
        "masking": getattr(phase, "masking", None),
        "masking of the held-out text": getattr(held_out.plan, "masking", None),
        "lengths": lengths(wired),
        "predictions": predictions(wired),
        "repeats": repeats(wired),
        "texts": wired.batch()[".packed.tokens"],
        "noise": wired.more["seed"],
    }


def lengths(wired: Wired) -> list[int]:
    """Of the examples of the whole run."""
    batches = [wired.batch(step)[".packed.segments"] for step in range(STEPS)]
    return [n for each in batches for n in np.unique(each[each > 0], return_counts=True)[1]]


def predictions(wired: Wired) -> list[int]:
    """Tokens to predict of each batch."""
    return [int(wired.batch(step)[".targets.weights"].sum()) for step in range(STEPS)]


def repeats(wired: Wired) -> bool:
    """Whether the second pass has the masks of the first one."""
    (phase,) = wired.plan.phases
    if not hasattr(phase, "examples"):
        return False
    size = phase.examples.epoch_size
    keys = [set(phase.examples.pick(np.arange(size) + size * k).keys.tolist()) for k in (0, 1)]
    return keys[0] == keys[1]


def changed(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {name for name in one if not np.array_equal(one[name], other[name])}


@pytest.fixture(scope="module")
def usual(start: Any) -> dict[str, Any]:
    return start()


def test_the_released_recipe(usual: dict[str, Any]) -> None:
    assert usual["on"] is True and usual["dropout"] == [0.1, 0.1, 0.1]
    np.testing.assert_allclose(usual["updates"], expected_updates(decay=0.01, clip=1.0), rtol=1e-4)
    assert usual["rates"] == pytest.approx([RATE * share for share in bert_shares()])
    assert usual["masking"] == usual["masking of the held-out text"] == Masking()
    assert not usual["repeats"] and usual["noise"] == 0


def bert_shares() -> list[float]:
    return [s / WARM if s < WARM else 1 - s / STEPS for s in range(STEPS)]


MASKS = {"masking", "masking of the held-out text"}
CHANGES: dict[tuple[str, Any], set[str]] = {
    ("masking.rate", 0.4): MASKS | {"predictions", "texts"},
    ("masking.mixture", (0.0, 1.0, 0.0)): MASKS | {"texts"},
    ("masking.whole_words", True): MASKS,  # no word of this corpus has two pieces
    ("masking.most", 2): MASKS | {"predictions", "texts"},
    ("short_share", 1.0): {"lengths", "predictions", "texts"},
    ("duplicates", 1): {"repeats", "predictions", "lengths"},
    ("b2", 0.95): {"updates"},
    ("epsilon", 1e-4): {"updates"},
    ("weight_decay", 0.2): {"updates"},
    ("clip_norm", 0.5): {"updates"},
    ("optimizer", "adamw"): {"updates"},
    ("learning_rate", 1e-3): {"rates"},
    ("warmup_steps", 8): {"rates"},
    ("schedule", "constant"): {"rates"},
    ("dropout", 0.3): {"dropout"},
    ("seed", 1): {"lengths", "predictions", "texts", "noise"},
}
UPDATES = {
    "b2": {"b2": 0.95},
    "epsilon": {"epsilon": 1e-4},
    "weight_decay": {"decay": 0.2},
    "clip_norm": {"clip": 0.5},
    "optimizer": {"corrected": True},
}


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_field_changes_what_it_must(
    name: str, value: Any, start: Any, usual: dict[str, Any]
) -> None:
    found = start(**{name: value})
    assert changed(usual, found) == CHANGES[name, value]
    expected = expected_updates(**{"decay": 0.01, "clip": 1.0} | UPDATES.get(name, {}))
    np.testing.assert_allclose(found["updates"], expected, rtol=1e-4)
    if name.startswith("masking."):
        masking = Masking(**{name.removeprefix("masking."): value})
        assert found["masking"] == found["masking of the held-out text"] == masking
    if name == "masking.most":
        assert max(found["predictions"]) <= 2 * 8 < min(usual["predictions"])
    if name == "short_share":
        assert np.mean(found["lengths"]) < 0.9 * np.mean(usual["lengths"])
    if name == "dropout":
        assert found["dropout"] == [0.3, 0.3, 0.3]
    if name == "duplicates":
        assert found["repeats"]


@pytest.fixture(scope="module")
def words_in_pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of words of which the vocabulary has the pieces only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixtures_pretraining, "WORDS", ("dogs", "cats", "men", "the", "sang"))
        return make_text_store(tmp_path_factory.mktemp("pieces") / "store")


@pytest.mark.parametrize("whole", [False, True])
def test_words_of_several_pieces_are_hidden_whole(whole: bool, words_in_pieces: Path) -> None:
    config = tiny_config("test-bert", words_in_pieces)
    with config.unlocked():
        config.masking.whole_words = whole
    found = assemble_pretraining(config)
    for plan in (found.plan, cast(HeldOut, found.held_out).plan):
        batches = [plan.batch(step) for step in range(plan.steps)]
        shares = np.concatenate([hidden_shares(each, found.tokenizer) for each in batches])
        assert (shares > 0).sum() > 5
        assert ((shares > 0) & (shares < 1)).any() != whole


def hidden_shares(batch: Batch, tokenizer: Tokenizer) -> np.ndarray:
    """Of each word of several pieces the share of pieces that are to be predicted."""
    targets, tokens = batch.targets, np.array(batch.packed.tokens)
    assert isinstance(targets, MaskedTargets)
    rows, slots = np.nonzero(targets.weights)
    columns = targets.positions[rows, slots]
    tokens[rows, columns] = targets.labels[rows, slots]
    hidden = np.zeros(tokens.shape)
    hidden[rows, columns] = 1
    word = np.cumsum(~tokenizer.continues[tokens]) - 1  # row after row: each begins with [CLS]
    pieces = np.bincount(word)
    # What follows [CLS] or [SEP] at once is the rest of a word that was cut.
    begins = tokens.ravel()[np.flatnonzero(~tokenizer.continues[tokens])]
    is_word = (pieces > 1) & ~np.isin(begins, tokenizer.special.require("cls", "sep"))
    return (np.bincount(word, hidden.ravel()) / pieces)[is_word]


def test_the_fields_of_a_gpt(start: Any) -> None:
    usual = start("test-gpt")
    assert usual["on"] is True and usual["dropout"] == [0.1, 0.1, 0.1]
    assert changed(usual, start("test-gpt", dropout=0.3)) == {"dropout"}
    assert start("test-gpt", dropout=0.3)["dropout"] == [0.3, 0.3, 0.3]
    assert changed(usual, start("test-gpt", seed=1)) == {"texts", "noise"}
    expected = expected_updates(decay=0.01, clip=1.0, epsilon=1e-8)
    np.testing.assert_allclose(usual["updates"], expected, rtol=1e-4)


def test_the_last_rate_of_a_cosine(start: Any) -> None:
    fields = {"schedule": "cosine", "optimizer": "adamw", "final_rate": 0.25}
    falling = [0.5 * (1 + math.cos(math.pi * s / (STEPS - WARM))) for s in range(STEPS - WARM)]
    shares = [*((s + 1) / WARM for s in range(WARM)), *(0.25 + 0.75 * each for each in falling)]
    assert start("test-gpt2", **fields)["rates"] == pytest.approx([RATE * s for s in shares])


@pytest.mark.parametrize("b2", [0.999, 0.95])
def test_the_correction_in_the_rate_is_that_of_the_optimizer(b2: float, start: Any) -> None:
    found = start("test-gpt", b2=b2)
    shares = [
        s / WARM if s <= WARM else 0.5 * (1 + math.cos(math.pi * s / STEPS)) for s in range(STEPS)
    ]
    factors = [math.sqrt(1 - b2**t) / (1 - 0.9**t) for t in range(1, STEPS + 1)]
    rates = [RATE * share * factor for share, factor in zip(shares, factors, strict=True)]
    assert found["rates"] == pytest.approx(rates)


def test_the_seed_draws_the_weights(text_store: Path) -> None:
    found = []
    for seed in (0, 1):
        assembly = assemble_pretraining(tiny_config("test-gpt", text_store, seed=seed))
        found.append(pretrain.start_state(assembly).parameters)
    for path, value in found[0].items():
        drawn = path.endswith(("kernel", "table"))
        assert np.array_equal(value, found[1][path]) != drawn, path
