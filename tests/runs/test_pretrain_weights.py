"""Weights that pre-training goes on from know the ids of one tokenizer: the corpus must have it."""

import json
import shutil

import pytest

from gptbert.corpora.prepare import Request, prepare_corpus
from gptbert.errors import UserError
from gptbert.models.presets import preset
from gptbert.pipeline.store import TokenStore
from gptbert.runs.assemble_pretraining import assemble_pretraining
from gptbert.runs.pretrain import pretrain
from tests.fixtures_pretraining import tiny_config
from tests.fixtures_runs import VOCABULARY, WORDS, keep_one_token_type

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]


@pytest.fixture
def texts(tmp_path):
    """Twelve documents of a few sentences."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(12):
        lines = [f"{' '.join(WORDS[number : number + 5])} ." for _ in range(4 + number)]
        (folder / f"{number}.txt").write_text("\n".join(lines))
    return folder


def store(tmp_path, texts, tokenizer, **changes):
    """A store that `prepare-corpus` makes with a tokenizer."""
    output = tmp_path / "store"
    given = {"format": "paragraphs", "held_out": 0.0, "workers": 1} | changes
    request = Request(str(tokenizer), (str(texts),), str(output), **given)
    prepare_corpus(request, quiet=True)
    return output


def vocabulary(tmp_path, entries=VOCABULARY):
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in entries))
    return folder


def test_a_store_made_with_the_folder_of_the_weights_fits(tmp_path, texts, bert_dir):
    made = store(tmp_path, texts, bert_dir)
    notes = assemble_pretraining(tiny_config("test-bert", made, init_from=str(bert_dir))).notes
    assert not [note for note in notes if "tokenizer" in note]


def test_dropout_is_that_of_the_recipe(tmp_path, texts, bert_dir):
    """Not what the weights were trained with: the table of a config says what it does."""
    weights = shutil.copytree(bert_dir, tmp_path / "weights")
    settings = json.loads((weights / "config.json").read_text())
    rates = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
    (weights / "config.json").write_text(json.dumps(settings | rates))
    made = store(tmp_path, texts, bert_dir)
    config = tiny_config("test-bert", made, init_from=str(weights))
    for given, expected in ((None, preset("test-bert").dropout), (0.25, 0.25)):
        config.dropout = given
        model = assemble_pretraining(config).model
        assert (model.dropout, model.attention_dropout) == (expected, expected)


def test_one_token_type_cannot_learn_next_sentences(tmp_path, texts, bert_dir):
    weights = shutil.copytree(bert_dir, tmp_path / "weights")
    keep_one_token_type(weights)
    made = store(tmp_path, texts, bert_dir)
    config = tiny_config("test-bert", made, init_from=str(weights))
    with pytest.raises(UserError, match="has one token type"):
        assemble_pretraining(config)
    config.objective = "mlm"
    assemble_pretraining(config)


def test_another_vocabulary_of_the_same_size_is_refused(tmp_path, texts, bert_dir):
    swapped = [*VOCABULARY[:9], *reversed(VOCABULARY[9:])]
    made = store(tmp_path, texts, vocabulary(tmp_path, swapped))
    assert TokenStore.open(made).vocabulary_size == len(VOCABULARY)
    with pytest.raises(UserError) as told:
        assemble_pretraining(tiny_config("test-bert", made, init_from=str(bert_dir)))
    message = str(told.value)
    assert "another tokenizer than the one beside the weights" in message
    assert f"entry 9 is {VOCABULARY[9]!r} with the weights and {VOCABULARY[-1]!r} in the" in message
    assert f"prepare-corpus --tokenizer={bert_dir}" in message and "\n" not in message


def test_another_case_alone_is_refused_and_named(tmp_path, texts, bert_dir):
    made = store(tmp_path, texts, bert_dir, lowercase=False)
    with pytest.raises(UserError, match="lowercase is True with the weights and False in the corp"):
        assemble_pretraining(tiny_config("test-bert", made, init_from=str(bert_dir)))


def test_weights_without_a_tokenizer_are_noted(tmp_path, texts, bert_dir):
    bare = shutil.copytree(bert_dir, tmp_path / "bare")
    for name in ("vocab.txt", "tokenizer.json"):
        (bare / name).unlink(missing_ok=True)
    made = store(tmp_path, texts, bert_dir)
    notes = assemble_pretraining(tiny_config("test-bert", made, init_from=str(bare))).notes
    assert [note for note in notes if f"no tokenizer lies beside the weights in {bare}" in note]


def test_a_run_is_named_with_its_tokenizer(tmp_path, texts, bert_dir, text_store):
    run = tmp_path / "run"
    changes = {"steps": 2, "warmup_steps": 1, "eval_every": 0}
    pretrain(tiny_config("test-bert", text_store, **changes), run, quiet=True)
    larger = store(tmp_path, texts, vocabulary(tmp_path, [*VOCABULARY, "more"]))
    with pytest.raises(UserError, match=f"--tokenizer={run}/tokenizer") as told:
        assemble_pretraining(tiny_config("test-bert", larger, init_from=str(run)))
    sizes = f"it has {len(VOCABULARY):,} entries with the weights and {len(VOCABULARY) + 1:,} in"
    assert sizes in str(told.value)
    again = tmp_path / "again"
    again.mkdir()
    made = store(again, texts, run / "tokenizer")
    assert json.loads((made / "manifest.json").read_text())["tokenizer"]["vocabulary_size"]
    assemble_pretraining(tiny_config("test-bert", made, init_from=str(run)))
