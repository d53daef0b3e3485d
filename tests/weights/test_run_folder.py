"""What a run folder says of its model, new and old, whole and damaged."""

import dataclasses
import json

import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.models.presets import GptConfig
from gptbert.weights.checkpoints import Checkpoints
from gptbert.weights.folders import is_run_folder
from gptbert.weights.run_folder import read_description, read_run, write_description
from tests.weights import bert_folders, gpt_folders

LEFT_TO_RIGHT = dataclasses.replace(bert_folders.CONFIG, left_to_right=True)


def described(folder, config, head="classification", classes=()):
    words = (
        gpt_folders.tokenizer(folder, "gpt2")
        if isinstance(config, GptConfig)
        else bert_folders.tokenizer(folder)
    )
    write_description(folder, config, classes, "cls", words, "any", head)
    return words


@pytest.mark.parametrize(
    "config, head, classes",
    [
        (bert_folders.CONFIG, "classification", ("no", "yes")),
        (bert_folders.CONFIG, "masked-lm", ()),
        (LEFT_TO_RIGHT, "next-token", ()),
        (gpt_folders.GPT2, "next-token", ()),
        (gpt_folders.GPT2, "classification", ("a", "b", "c")),
    ],
)
def test_what_is_written_is_read(tmp_path, config, head, classes):
    assert not is_run_folder(tmp_path)
    described(tmp_path, config, head, classes)
    assert is_run_folder(tmp_path)
    found = read_description(tmp_path)
    assert (found.config, found.head, found.classes) == (config, head, classes)
    assert type(found.config) is type(config)


def test_a_description_of_before_there_were_families(tmp_path):
    model = dataclasses.asdict(bert_folders.CONFIG)
    del model["left_to_right"]
    old = {"format": 1, "model": model, "classes": ["a", "b"], "pooling": "mean", "task": "glue/x"}
    (tmp_path / "model.json").write_text(json.dumps(old))
    found = read_description(tmp_path)
    assert found.config == bert_folders.CONFIG
    assert (found.head, found.classes, found.pooling) == ("classification", ("a", "b"), "mean")


@pytest.mark.parametrize(
    "change, word",
    [
        ({"head": "summarise"}, "head 'summarise'"),
        ({"family": "t5"}, "'t5'"),
        ({"model": {"layers": "2"}}, "damaged"),
        ({"model": {"nonsense": 2}}, "nonsense"),
        ({"model": None}, "damaged"),
        ({"format": 99}, "format 99"),
    ],
)
def test_a_damaged_description(tmp_path, change, word):
    described(tmp_path, gpt_folders.GPT2, "next-token")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=word) as error:
        read_description(tmp_path)
    assert "model.json" in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", "3", "{", '"a"'])
def test_no_description_at_all(tmp_path, content):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        read_description(tmp_path)


@pytest.mark.parametrize("head, verb", [("classification", "finetune"), ("masked-lm", "pretrain")])
def test_a_run_without_checkpoint_names_its_command(tmp_path, head, verb):
    described(tmp_path, bert_folders.CONFIG, head)
    with pytest.raises(UserError, match=f"no checkpoint yet; run `gptbert {verb}` there first"):
        read_run(tmp_path)


def test_parameters_of_a_run(tmp_path):
    described(tmp_path, gpt_folders.GPT2, "next-token")
    expected = gpt_folders.parameters("gpt2")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (3, 7):
        values = {path: value * step for path, value in expected.items()}
        checkpoints.save(step, {"parameters": values, "step": step}, {})
    description, found, step = read_run(tmp_path)
    assert (description.head, step) == ("next-token", 7)
    np.testing.assert_array_equal(
        found["gpt/final_norm/scale"], 7 * expected["gpt/final_norm/scale"]
    )
    assert read_run(tmp_path, 3)[2] == 3
