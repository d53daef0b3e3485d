"""A GPT from its pre-training to its fine-tuning and back: whose rows the three tokens are."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from gptbert import load
from gptbert.commands.config_flag import load_config
from gptbert.errors import UserError
from gptbert.runs.assemble import assemble
from gptbert.runs.assemble_pretraining import assemble_pretraining, checkpoint_steps
from gptbert.runs.backbone import WORD_TABLE
from gptbert.runs.pretrain import pretrain
from gptbert.weights.export import ModelCard, export_huggingface
from gptbert.weights.pretrained import check_vocabulary
from gptbert.weights.run_folder import read_run
from tests.fabricated import flags, make_glue, results
from tests.fixtures_pretraining import make_text_store, tiny_config
from tests.fixtures_runs import VOCABULARY, call, make_bert_folder, refused

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

ENTRIES = len(VOCABULARY)
SHORT = {"max_length": 20, "num_epochs": 1}
# Rows up to the next multiple of 8 and of 128.
PADDING = [-ENTRIES % multiple for multiple in (8, 128)]


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> Path:
    return make_glue(tmp_path_factory.mktemp("glue"), "mrpc", "cola", words=4)


@pytest.fixture(scope="module")
def pretrained(text_store, tmp_path_factory) -> Path:
    """A GPT after four steps."""
    folder = tmp_path_factory.mktemp("runs") / "gpt"
    config = tiny_config("test-gpt", text_store, steps=4, warmup_steps=1, eval_every=0)
    pretrain(config, folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def tuned(pretrained, glue, tmp_path_factory) -> Path:
    """The same, fine-tuned on MRPC, whose pairs it reads in both orders."""
    folder = tmp_path_factory.mktemp("runs") / "mrpc"
    assert call(*tuning(glue, pretrained, folder)).code == 0
    return folder


def tuning(glue: Path, weights: Path, folder: Path, task: str = "mrpc", **fields) -> list[str]:
    command = flags(glue, weights, folder, task, **{**SHORT, **fields})
    return [each.replace("configs/glue.py", "configs/gpt_glue.py") for each in command]


def assembled(glue: Path, weights: Path) -> tuple[int, np.ndarray]:
    """Entries of the model and the word table with which fine-tuning begins."""
    fields = [("data_dir", str(glue)), ("init_from", str(weights)), ("max_length", "20")]
    found = assemble(load_config("configs/gpt_glue.py:mrpc", fields, example=""))
    return found.model.vocabulary, np.asarray(found.initial_parameters(0)[WORD_TABLE])


def padded(pretrained: Path, folder: Path, rows: int) -> Path:
    """The GPT as a Hugging Face folder with `rows` more rows of zeros."""
    source = load(pretrained)
    table = source.parameters[WORD_TABLE]
    parameters = source.parameters | {WORD_TABLE: np.pad(table, ((0, rows), (0, 0)))}
    config = dataclasses.replace(source.config, vocabulary=len(table) + rows)
    export_huggingface(
        folder, config, parameters, source.tokenizer,
        labels=None, regression=False, card=ModelCard("padded"),
    )  # fmt: skip
    return folder


# --- Three tokens ---


def test_a_dry_run_from_weights(pretrained, glue, tmp_path) -> None:
    called = call(*tuning(glue, pretrained, tmp_path / "run"), "--dry_run")
    assert called.code == 0 and not (tmp_path / "run").exists(), called
    # No batch has more real tokens than two sequences of max_length an example.
    share = float(called.out.split("padding to max_length: ")[1].split(")")[0])
    assert 0.2 < share <= 1


def test_positions_that_pre_training_never_saw_are_told(pretrained, glue, tmp_path) -> None:
    weights = shutil.copytree(pretrained, tmp_path / "weights")
    began = json.loads((weights / "config.json").read_text())
    began["config"]["phases"] = [[0.9, 4], [0.1, 8]]
    (weights / "config.json").write_text(json.dumps(began))
    fields = [("data_dir", str(glue)), ("init_from", str(weights))]

    def told(length: int) -> list[str]:
        config = load_config("configs/gpt_glue.py:mrpc", [*fields, ("max_length", str(length))],
                             example="")  # fmt: skip
        return [note for note in assemble(config).notes if "was pre-trained on" in note]

    (note,) = told(20)
    assert note.startswith("texts of up to ") and "--config.max_length=8 cuts texts there" in note
    assert told(8) == []


def test_the_three_tokens_are_added_once(pretrained, tuned, glue) -> None:
    _, trained, _ = read_run(tuned)
    entries, table = assembled(glue, pretrained)
    assert entries == len(table) == len(trained[WORD_TABLE]) == ENTRIES + 3
    again, kept = assembled(glue, tuned)
    assert again == ENTRIES + 3
    np.testing.assert_array_equal(kept, trained[WORD_TABLE])


@pytest.mark.parametrize("rows", PADDING)
def test_rows_of_padding_are_not_the_three_tokens(pretrained, glue, tmp_path, rows) -> None:
    """Three new rows are drawn, and the run can be used and continued."""
    weights = padded(pretrained, tmp_path / "padded", rows)
    entries, table = assembled(glue, weights)
    assert entries == ENTRIES + rows + 3
    assert not table[ENTRIES:-3].any() and (np.abs(table[-3:]).max(-1) > 0.01).all()
    run = tmp_path / "run"
    assert call(*tuning(glue, weights, run)).code == 0
    assert call("predict", f"--workdir={run}", "--pair", "a cat", "a dog").code == 0
    assert assembled(glue, run)[0] == ENTRIES + rows + 3


def test_a_table_of_another_vocabulary_is_still_refused(pretrained) -> None:
    source = load(pretrained)
    config = dataclasses.replace(source.config, vocabulary=ENTRIES + 128 + 3)
    with pytest.raises(UserError, match="expected the tokenizer that the weights were trained"):
        check_vocabulary(config, source.tokenizer, "weights")


def test_pre_training_goes_on_from_a_fine_tuned_gpt(tuned, text_store) -> None:
    found = assemble_pretraining(tiny_config("test-gpt", text_store, init_from=str(tuned)))
    assert found.model.vocabulary == ENTRIES
    assert "left out: the three tokens that fine-tuning has added" in found.notes
    _, trained, _ = read_run(tuned)
    np.testing.assert_array_equal(found.start[WORD_TABLE], trained[WORD_TABLE][:-3])


def test_pre_training_goes_on_with_a_padded_table(pretrained, text_store, tmp_path) -> None:
    weights = padded(pretrained, tmp_path / "padded", PADDING[-1])
    config = tiny_config("test-gpt", text_store, init_from=str(weights), steps=2, warmup_steps=0)
    assert assemble_pretraining(config).model.vocabulary == ENTRIES + PADDING[-1]
    assert np.isfinite(pretrain(config, tmp_path / "run", quiet=True)["metrics"]["loss"])


def test_the_shape_is_that_of_the_weights(pretrained, text_store) -> None:
    config = tiny_config("test-gpt", text_store, init_from=str(pretrained))
    assert not [n for n in assemble_pretraining(config).notes if "the shape is" in n]
    with config.unlocked():
        config.model = "gpt-mini"
    (note,) = (n for n in assemble_pretraining(config).notes if "the shape is" in n)
    assert "not of gpt-mini: layers 2 instead of 4, width 16 instead of 256" in note


# --- What does not go together ---


def test_a_config_of_the_other_stage(glue, text_store, tmp_path) -> None:
    run = f"--workdir={tmp_path / 'run'}"
    for command in ("finetune", "sweep"):
        told = refused(command, "--config=configs/gpt.py:tiny", run)
        assert "none of fine-tuning" in told and "`gptbert pretrain`" in told
    told = refused("pretrain", "--config=configs/gpt_glue.py:rte", run)
    assert "none of pre-training" in told and "`gptbert finetune`" in told
    assert not (tmp_path / "run").exists()


def test_a_folder_of_the_other_stage(pretrained, glue) -> None:
    told = refused(*tuning(glue, pretrained, pretrained))
    assert "holds a run of pre-training, this is one of fine-tuning" in told and len(told) < 300


def test_another_tokenizer_of_the_same_size(pretrained, glue, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "vocab.txt").write_text("".join(f"{entry}\n" for entry in VOCABULARY[::-1]))
    told = refused(*tuning(glue, pretrained, tmp_path / "run", tokenizer=other))
    assert f"--config.tokenizer={other} is not the tokenizer of the weights" in told
    assert "leave it out" in told and not (tmp_path / "run").exists()
    assert call(*tuning(glue, pretrained, tmp_path / "run", tokenizer=pretrained / "tokenizer"),
                "--dry_run").code == 0  # fmt: skip


def test_a_seed_that_no_key_holds(text_store) -> None:
    with pytest.raises(UserError, match="seed is 4294967296, expected at most 4294967295"):
        assemble_pretraining(tiny_config("test-gpt", text_store, seed=2**32))


@pytest.mark.parametrize("steps", ["5,25", "0,3"])
def test_checkpoints_at_steps_that_never_come(text_store, steps) -> None:
    with pytest.raises(UserError, match=r"there is no step (25|0); expected 1 to .*steps=24"):
        checkpoint_steps(ConfigDict({"checkpoint_at": steps, "steps": 24}))


# --- From left to right, and nothing held out ---


def test_a_left_to_right_bert_is_read_at_its_end(text_store, glue, tmp_path) -> None:
    """[CLS] sees nothing there: `encode` pools the last token, and `export` has no class for it."""
    weights = tmp_path / "weights"
    config = tiny_config("test-bert", text_store, objective="left_to_right", steps=2,
                         warmup_steps=0, eval_every=0)  # fmt: skip
    pretrain(config, weights, quiet=True)
    run = tmp_path / "run"
    assert call(*flags(glue, weights, run, "cola", **SHORT)).code == 0
    bert = load(run)
    texts = ["a cat sits", "a dog runs here"]
    found = bert.encode(texts)
    assert np.abs(found.pooled[0] - found.pooled[1]).max() > 1e-4
    alone = bert.encode(texts[1:])
    np.testing.assert_allclose(alone.pooled[0], found.pooled[1], atol=1e-5)
    for tokens, hidden in zip(found.tokens, found.hidden, strict=True):
        assert len(tokens) == len(hidden)
    np.testing.assert_allclose(alone.hidden[0], found.hidden[1], atol=1e-5)
    told = refused("export", f"--workdir={run}", f"--output={tmp_path / 'out'}")
    assert "reads from left to right" in told and not (tmp_path / "out").exists()


def test_nothing_is_logged_where_nothing_is_held_out(tmp_path) -> None:
    store = make_text_store(tmp_path / "store", held_out=0)
    config = tiny_config("test-gpt", store, steps=4, warmup_steps=1, eval_every=2)
    found = pretrain(config, tmp_path / "run", quiet=True)
    assert found["metrics"] == {} and found["evaluations"] == []
    logged = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert not [name for record in logged for name in record if name.startswith("eval/")]
    assert (tmp_path / "run" / "checkpoints" / "00000004").is_dir()


# --- Model cards ---


def test_the_card_of_a_model_from_random_weights(pretrained, tuned, tmp_path) -> None:
    assert call("export", f"--workdir={pretrained}", f"--output={tmp_path / 'out'}").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "from random weights" in card and "license" not in card
    assert "| steps | 4 |" in card and "| warmup_steps | 1 |" in card
    assert f"| perplexity | {results(pretrained)['metrics']['perplexity']:,.1f} |" in card
    bert = make_bert_folder(tmp_path / "bert")
    assert call("export", f"--init_from={bert}", f"--output={tmp_path / 'copy'}").code == 0
    assert 'license_name: "terms-of-the-base-model"' in (tmp_path / "copy/README.md").read_text()
